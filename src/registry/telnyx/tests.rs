//! The driver against a fake of Telnyx and against replies that the fake never gives. Each quirk is a row with its reason.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use super::*;
use crate::{
    api::RegistryConnection,
    providers::{
        self, Fake, Fault, Reply,
        telnyx::{self as fake, Collection, LaterSecret, Omitted, RetryHint},
    },
    registry::tests::{
        CANARY, Log, connection, declared, searched, secret, session_answering, session_over, shown, wanted,
    },
};

const URL: &str = "https://api.telnyx.example/v2";
const COLLECTION: &str = "/v2/oauth/clients";
const ID: &str = "7e1c0a1e-0000-4000-8000-00000000000a";

/// A driver over its session. Each outcome is searched for credentials on its way.
struct World {
    fake: Fake<fake::Telnyx>,
    driver: Telnyx,
    log: Log,
}

fn described() -> RegistryConnection {
    connection(json!({"telnyx": {"url": URL, "credentialsSecretRef": {"name": "telnyx"}}}))
}

fn over(session: Arc<Session>, key: &str) -> Telnyx {
    let settings = session.connection.telnyx.clone().unwrap();
    Telnyx::new(&settings, session, Credentials::Bearer(key.into())).unwrap()
}

fn driver(
    key: &str,
    answer: impl Fn(&providers::Request) -> Option<Reply> + Send + Sync + 'static,
) -> Telnyx {
    over(session_answering(&described(), answer), key)
}

impl World {
    /// A world in which something is otherwise.
    fn but(change: impl FnOnce(&mut fake::Telnyx)) -> Self {
        let mut telnyx = fake::Telnyx::new();
        change(&mut telnyx);
        let (fake, log) = (Fake::new(telnyx), Log::default());
        let (asked, noted) = (fake.clone(), log.clone());
        let driver = driver(fake::KEY, move |request| {
            noted.note(request);
            asked.exchange(request)
        });
        Self { fake, driver, log }
    }

    fn new() -> Self {
        Self::but(|_| ())
    }

    /// A client of which the create is over, and nothing else.
    async fn pending(&self, metadata: ClientMetadata) -> Client {
        searched(self.driver.prepare().await).unwrap();
        let made = searched(self.driver.register(&wanted(metadata, "n1")).await).unwrap();
        self.log.take();
        made
    }

    /// A client that also has its name.
    async fn client(&self) -> Client {
        let client = self.pending(robot()).await;
        let client = searched(self.driver.update(&client, &robot(), &[]).await).unwrap().unwrap();
        self.log.take();
        client
    }
}

/// A driver at a registry whose collection answers a look, and that has one answer for everything else.
fn always(status: u16, body: impl Into<bytes::Bytes>) -> Telnyx {
    let reply = Reply { body: body.into(), ..Reply::empty(status) };
    driver(fake::KEY, move |request| {
        let look = request.parameter("page[size]") == Some("1");
        Some(if look { page(&json!([]), 0) } else { reply.clone() })
    })
}

fn page(data: &Value, total_pages: u64) -> Reply {
    Reply::json(200, &json!({"data": data, "meta": {"total_pages": total_pages, "page_number": 1}}))
}

fn robot() -> ClientMetadata {
    declared([
        (Field::ClientName, json!("Robot")),
        (Field::Scopes, json!(["admin"])),
        (Field::GrantTypes, json!(["client_credentials"])),
    ])
}

fn with<const N: usize>(members: [(Field, Value); N]) -> ClientMetadata {
    let mut metadata = robot();
    metadata.0.extend(members);
    metadata
}

fn known() -> Client {
    Client { client_secret: Some("CANARY-known".into()), ..Client::named(ID, Management::Registry) }
}

/// A client as Telnyx shows it, with these members changed; `"-"` removes one.
fn information(changes: &Value) -> Value {
    let mut client = json!({
        "record_type": "oauth_client", "client_id": ID, "name": "Robot", "org_id": "org-1", "user_id": "user-1",
        "client_type": "confidential", "require_pkce": false, "created_at": "2026-01-01T00:00:00Z",
        "updated_at": "2026-01-01T00:00:00Z", "allowed_scopes": ["admin"],
        "allowed_grant_types": ["client_credentials"], "redirect_uris": [], "logo_uri": null,
        "client_secret": "CANARY-shown",
    });
    for (member, value) in changes.as_object().unwrap() {
        if value == "-" {
            client.as_object_mut().unwrap().remove(member);
        } else {
            client[member] = value.clone();
        }
    }
    client
}

fn one(changes: &Value) -> String {
    json!({"data": information(changes)}).to_string()
}

/// What both say, and should not: the key that they were shown.
const SAID: &str = "not with KEY_CANARY-operator";

/// An error of an OAuth endpoint.
fn oauth(error: &str) -> String {
    json!({"error": error, "error_description": SAID}).to_string()
}

/// An error of the platform.
fn platform(code: &str) -> String {
    json!({"errors": [{"code": code, "title": "Title", "detail": SAID, "source": {"pointer": "/name"}}]})
        .to_string()
}

#[tokio::test]
async fn a_client_is_made_under_its_mark_named_read_and_removed() {
    let world = World::new();
    let mark = wanted(robot(), "n1").mark;
    let made = world.pending(robot()).await;
    let stored = world.fake.at(|telnyx| telnyx.client(&made.client_id)).unwrap();
    assert_eq!(stored.name, mark.text(), "nobody else's name, until it can be renamed");
    assert!(mark.is(made.mark.as_ref().unwrap()));
    assert_eq!(shown(&made, Field::ClientName), "Robot", "as it will be");
    assert_eq!(secret(&made), stored.client_secret.as_deref());
    assert_eq!(made.account_id.as_deref(), Some(fake::ORGANIZATION));
    assert!(made.registered_at.is_some());

    let listed = searched(world.driver.list().await).unwrap().remove(0);
    assert!(mark.is(listed.mark.as_ref().unwrap()), "who died before the next line finds it again");
    assert_eq!(shown(&listed, Field::ClientName), &Value::Null, "a mark is no name");
    assert_eq!(secret(&listed), None, "without its secret: another one takes its place");

    let named = searched(world.driver.update(&made, &robot(), &[]).await).unwrap().unwrap();
    assert_eq!(named.mark, None);
    let seen = searched(world.driver.observe(&named).await).unwrap().unwrap();
    assert_eq!(robot().differing(&seen.document), []);
    assert_eq!(secret(&seen), stored.client_secret.as_deref(), "not shown, and still so");

    for _ in 0..2 {
        searched(world.driver.deregister(&seen).await).expect("already gone is success");
    }
    assert!(searched(world.driver.observe(&seen).await).unwrap().is_none());
    assert!(searched(world.driver.update(&seen, &robot(), &[]).await).unwrap().is_none());
    world.fake.assert_contract_held();
}

#[tokio::test]
async fn a_create_says_what_is_declared_and_the_type_of_the_client() {
    let base = json!({
        "name": wanted(robot(), "n1").mark.text(), "allowed_scopes": ["admin"],
        "allowed_grant_types": ["client_credentials"], "client_type": "confidential",
    });
    let rows = [
        (robot(), json!({}), true, "nothing is assumed"),
        (
            with([
                (Field::GrantTypes, json!(["authorization_code", "refresh_token"])),
                (Field::RedirectUris, json!(["https://app.example/cb"])),
                (Field::RequirePkce, json!(true)),
                (Field::LogoUri, json!("https://app.example/logo.png")),
                (Field::PolicyUri, json!("https://app.example/policy")),
                (Field::TosUri, json!("https://app.example/tos")),
                (Field::TokenEndpointAuthMethod, json!("none")),
            ]),
            json!({
                "allowed_grant_types": ["authorization_code", "refresh_token"], "client_type": "public",
                "redirect_uris": ["https://app.example/cb"], "require_pkce": true,
                "logo_uri": "https://app.example/logo.png", "policy_uri": "https://app.example/policy",
                "tos_uri": "https://app.example/tos",
            }),
            false,
            "everything that there is, of a public client",
        ),
        (
            with([(Field::LogoUri, json!("")), (Field::RedirectUris, json!([]))]),
            json!({"redirect_uris": []}),
            true,
            "managed and empty: no URI is an empty one, and null is not in the schema",
        ),
        (
            with([(Field::TokenEndpointAuthMethod, json!("client_secret_post"))]),
            json!({}),
            true,
            "how a secret is sent is not asked",
        ),
        (
            with([(Field::TokenEndpointAuthMethod, json!("client_secret_basic"))]),
            json!({}),
            true,
            "how a secret is sent is not asked",
        ),
    ];
    for (declared, further, confidential, reason) in rows {
        let world = World::new();
        world.driver.prepare().await.unwrap();
        world.log.take();
        let made = searched(world.driver.register(&wanted(declared.clone(), "n1")).await).expect(reason);
        let mut expected = base.clone();
        expected.as_object_mut().unwrap().extend(further.as_object().unwrap().clone());
        assert_eq!(world.log.take(), [(format!("POST {COLLECTION}"), expected)], "{reason}");
        assert_eq!(secret(&made).is_some(), confidential, "a public client has no secret: {reason}");
        assert_eq!(world.driver.normalised(declared.clone()).differing(&made.document), [], "{reason}");
        let fields = world.driver.capabilities().fields.into_keys();
        fields.for_each(|field| drop(shown(&made, field).clone()));
        world.fake.assert_contract_held();
    }
}

#[test]
fn what_a_create_does_not_show_is_as_sent() {
    let members = ["allowed_scopes", "allowed_grant_types", "redirect_uris", "logo_uri", "require_pkce"];
    let changes: Document = members.into_iter().map(|member| (member.to_owned(), json!("-"))).collect();
    let declared = with([(Field::LogoUri, json!("https://app.example/logo.png"))]);
    let made =
        created_client(&information(&Value::Object(changes)), &wanted(declared.clone(), "n1")).unwrap();
    assert_eq!(declared.differing(&made.document), [], "all but name and ids is optional in the schema");
    assert_eq!(shown(&made, Field::RequirePkce), false, "the documented default");
    assert_eq!(shown(&made, Field::RedirectUris), &json!([]), "the documented default");
    assert_eq!(shown(&made, Field::TosUri), &Value::Null);
}

#[tokio::test]
async fn an_update_says_everything_that_it_may_so_that_both_readings_of_put_agree() {
    let uri = |name: &str| json!(format!("https://app.example/{name}"));
    let full = with([
        (Field::GrantTypes, json!(["authorization_code"])),
        (Field::RedirectUris, json!(["https://app.example/cb"])),
        (Field::RequirePkce, json!(true)),
        (Field::LogoUri, uri("logo")),
        (Field::TosUri, uri("tos")),
    ]);
    let base = json!({
        "name": "Robot", "allowed_scopes": ["admin"], "allowed_grant_types": ["authorization_code"],
        "redirect_uris": ["https://app.example/cb"], "require_pkce": true, "logo_uri": uri("logo"), "tos_uri": uri("tos"),
    });
    let mut fewer = robot();
    fewer.0.insert(Field::GrantTypes, json!(["authorization_code"]));
    let but = |field, value| {
        let mut metadata = full.clone();
        metadata.0.insert(field, value);
        metadata
    };
    let rows = [
        (full.clone(), vec![], json!({}), "the method is not among the members of an update"),
        (but(Field::TokenEndpointAuthMethod, json!("none")), vec![], json!({}), "nor the type of the client"),
        (fewer.clone(), vec![], json!({}), "what is not declared is as it was seen"),
        (
            fewer,
            vec![Field::RedirectUris, Field::RequirePkce, Field::LogoUri, Field::TosUri],
            json!({"redirect_uris": [], "require_pkce": false, "logo_uri": "-", "tos_uri": "-"}),
            "what left the spec is as a new client has it; a URI can only be left out",
        ),
        (but(Field::LogoUri, json!("")), vec![], json!({"logo_uri": "-"}), "managed and empty: left out"),
        (but(Field::Scopes, json!(["a", "b"])), vec![], json!({"allowed_scopes": ["a", "b"]}), "declared"),
    ];
    for omitted in [Omitted::Kept, Omitted::Reset] {
        for (declared, reset, changes, reason) in rows.clone() {
            let world = World::but(|telnyx| telnyx.omitted = omitted);
            let client = world.pending(full.clone()).await;
            let updated = world.driver.update(&client, &declared, &reset).await;
            let updated = searched(updated).unwrap().expect(reason);
            let mut expected = base.clone();
            for (member, value) in changes.as_object().unwrap() {
                expected[member] = value.clone();
            }
            expected.as_object_mut().unwrap().retain(|_, value| value != "-");
            let line = format!("PUT {COLLECTION}/{}", client.client_id);
            assert_eq!(world.log.take(), [(line, expected)], "{omitted:?}: {reason}");
            let (logo, left_out) = (shown(&updated, Field::LogoUri), changes.get("logo_uri").is_some());
            let cleared = left_out && omitted == Omitted::Reset;
            assert_eq!(
                logo.is_null(),
                cleared,
                "the reply tells whether it is cleared: {omitted:?}: {reason}"
            );
            assert_eq!(secret(&updated), secret(&client), "{omitted:?}: {reason}");
            world.fake.assert_contract_held();
        }
    }
    let unseen = replacement(&known(), &declared([(Field::ClientName, json!(""))]), &[]);
    assert_eq!(Value::Object(unseen), json!({"name": ""}), "what was never seen is not made up");
}

#[tokio::test]
async fn a_later_secret_is_taken_where_it_is_shown() {
    for (later, shows) in
        [(LaterSecret::Null, false), (LaterSecret::Absent, false), (LaterSecret::Shown, true)]
    {
        let world = World::but(|telnyx| telnyx.later_secret = later);
        let client = world.client().await;
        let stored = world.fake.at(|telnyx| telnyx.client(&client.client_id)).unwrap().client_secret;
        let lost = Client { client_secret: None, ..client.clone() };
        let healed = searched(world.driver.observe(&lost).await).unwrap().unwrap();
        assert_eq!(secret(&healed), stored.as_deref().filter(|_| shows), "{later:?}");
        let seen = searched(world.driver.observe(&client).await).unwrap().unwrap();
        assert_eq!(secret(&seen), stored.as_deref(), "{later:?}: what is known stays");
    }
}

#[tokio::test]
async fn the_collection_is_looked_for_once_by_a_harmless_read() {
    let rows = [
        (Collection::Documented, vec!["GET /v2/oauth/clients"], "as in the reference"),
        (Collection::OfSdks, vec!["GET /v2/oauth/clients", "GET /v2/oauth_clients"], "as in the SDKs"),
    ];
    for (collection, looks, reason) in rows {
        let world = World::but(|telnyx| telnyx.collection = collection);
        searched(world.driver.prepare().await).unwrap();
        assert_eq!(world.log.lines(), looks, "before anything is announced: {reason}");
        searched(world.driver.prepare().await).unwrap();
        let made = searched(world.driver.register(&wanted(robot(), "n1")).await).unwrap();
        searched(world.driver.update(&made, &robot(), &[]).await).unwrap().unwrap();
        searched(world.driver.list().await).unwrap();
        searched(world.driver.deregister(&made).await).unwrap();
        let place = looks[looks.len() - 1].trim_start_matches("GET ");
        let lines = world.log.lines();
        assert_eq!(lines.len(), 4, "{reason}: {lines:?}");
        assert!(lines.iter().all(|line| line.contains(place)), "remembered: {reason}: {lines:?}");
        world.fake.assert_contract_held();
    }
}

#[tokio::test]
async fn a_url_that_has_no_clients_is_a_mistake_and_proves_nothing() {
    for body in [platform("10005"), oauth("not_found"), "<html>".into(), String::new()] {
        let driver =
            driver(fake::KEY, move |_| Some(Reply { body: body.clone().into(), ..Reply::empty(404) }));
        let client = known();
        for error in [
            searched(driver.prepare().await).unwrap_err(),
            searched(driver.observe(&client).await).map(drop).unwrap_err(),
            searched(driver.update(&client, &robot(), &[]).await).map(drop).unwrap_err(),
            searched(driver.deregister(&client).await).unwrap_err(),
            searched(driver.list().await).map(drop).unwrap_err(),
        ] {
            assert_eq!(error.kind, Kind::Protocol, "{error}");
            assert!(
                error.summary.contains("/oauth/clients") && error.summary.contains("/oauth_clients"),
                "{error}"
            );
        }
    }
}

#[tokio::test]
async fn a_collection_that_moves_takes_no_client_with_it() {
    let world = World::new();
    let client = world.client().await;
    let move_to = |place| world.fake.at(|telnyx| telnyx.collection = place);
    for place in [Collection::OfSdks, Collection::Documented] {
        move_to(place);
        let error = searched(world.driver.observe(&client).await).unwrap_err();
        assert_eq!(error.kind, Kind::Protocol, "the path is gone, not the client: {error}");
        assert!(
            searched(world.driver.observe(&client).await).unwrap().is_some(),
            "found again by the next call"
        );
    }
    move_to(Collection::OfSdks);
    assert_eq!(searched(world.driver.deregister(&client).await).unwrap_err().kind, Kind::Protocol);
    move_to(Collection::Documented);
    let error = searched(world.driver.list().await).map(drop).err();
    assert_eq!(error, None, "what was forgotten is looked for");
    move_to(Collection::OfSdks);
    let error = searched(world.driver.register(&wanted(robot(), "n2")).await).unwrap_err();
    assert_eq!(error.kind, Kind::Protocol, "nothing was made: {error}");
    assert_eq!(world.fake.at(|telnyx| telnyx.clients().len()), 1);
}

#[tokio::test]
async fn a_404_proves_absence_only_in_the_registry_s_own_words_and_while_the_collection_answers() {
    let empty = || page(&json!([]), 0);
    let rows = [
        (oauth("not_found"), empty(), None, "gone, by an OAuth endpoint"),
        (platform("10005"), empty(), None, "gone, by the platform"),
        ("<html>".into(), empty(), Some(Kind::Protocol), "a gateway's 404 is about its own paths"),
        ("{}".into(), empty(), Some(Kind::Protocol), "nobody's shape"),
        (json!({"errors": []}).to_string(), empty(), Some(Kind::Protocol), "nobody's shape"),
        (
            json!({"message": "no Route matched"}).to_string(),
            empty(),
            Some(Kind::Protocol),
            "a gateway's shape",
        ),
        (
            oauth("not_found"),
            Reply::empty(404),
            Some(Kind::Protocol),
            "the collection has gone, not the client",
        ),
        (oauth("not_found"), Reply::empty(401), Some(Kind::Unauthorized), "nobody can tell"),
        (oauth("not_found"), Reply::empty(503), Some(Kind::Unavailable), "nobody can tell"),
        (oauth("not_found"), Reply::json(200, &json!({})), Some(Kind::Protocol), "no list"),
    ];
    for (body, collection, expected, reason) in rows {
        let fresh = move || {
            let (body, collection) = (body.clone(), collection.clone());
            let looks = AtomicUsize::new(0);
            driver(fake::KEY, move |request| {
                Some(match request.path.as_str() {
                    COLLECTION if looks.fetch_add(1, Ordering::Relaxed) == 0 => page(&json!([]), 0),
                    COLLECTION => collection.clone(),
                    _ => Reply { body: body.clone().into(), ..Reply::empty(404) },
                })
            })
        };
        let client = known();
        let seen = searched(fresh().observe(&client).await);
        assert_eq!(seen.as_ref().err().map(|error| error.kind), expected, "observe: {reason}");
        assert!(seen.map_or(true, |seen| seen.is_none()), "observe: {reason}");
        let updated = searched(fresh().update(&client, &robot(), &[]).await);
        assert_eq!(updated.err().map(|error| error.kind), expected, "update: {reason}");
        let removed = searched(fresh().deregister(&client).await);
        assert_eq!(removed.err().map(|error| error.kind), expected, "deregister: {reason}");
    }
}

#[tokio::test]
async fn an_update_that_was_not_found_does_not_lose_a_client_that_is_there() {
    let driver = driver(fake::KEY, |request| {
        Some(match request.method {
            Method::GET if request.path == COLLECTION => page(&json!([]), 0),
            Method::GET => Reply { body: one(&json!({})).into(), ..Reply::empty(200) },
            _ => Reply { body: oauth("not_found").into(), ..Reply::empty(404) },
        })
    });
    let error = searched(driver.update(&known(), &robot(), &[]).await).unwrap_err();
    assert_eq!(error.kind, Kind::Unavailable);
}

const OPERATIONS: [&str; 5] = ["register", "observe", "update", "deregister", "list"];

/// Each with a session of its own: one would be left alone after some failures.
async fn outcomes(driver: impl Fn() -> Telnyx) -> Vec<Result<(), Error>> {
    let client = known();
    vec![
        searched(driver().register(&wanted(robot(), "n1")).await).map(drop),
        searched(driver().observe(&client).await).map(drop),
        searched(driver().update(&client, &robot(), &[]).await).map(drop),
        searched(driver().deregister(&client).await),
        searched(driver().list().await).map(drop),
    ]
}

#[tokio::test]
async fn every_status_means_what_happens_next_in_both_shapes() {
    use Kind::{Ambiguous, Conflict, Protocol, Rejected, Unauthorized, Unavailable};
    let wait = Kind::Throttled(Duration::from_secs(30));
    let rows = [
        (400, "10015", Rejected, Rejected, "refused until the spec changes"),
        (400, "10012", Conflict, Conflict, "a duplicate, whatever the status"),
        (401, "10009", Unauthorized, Unauthorized, "the key is unknown"),
        (403, "10010", Unauthorized, Unauthorized, "the key lacks a right"),
        (405, "10005", Protocol, Protocol, "nothing manages clients there"),
        (409, "10012", Conflict, Conflict, "a duplicate"),
        (409, "10099", Conflict, Conflict, "a conflict of another kind"),
        (422, "10015", Rejected, Rejected, "refused until the spec changes"),
        (422, "10012", Conflict, Conflict, "a duplicate, whatever the status"),
        (429, "10011", wait, wait, "without a header that says how long"),
        (302, "10005", Protocol, Protocol, "a redirect is never followed"),
        (303, "10005", Ambiguous, Protocol, "a POST that was answered elsewhere may be done"),
        (408, "10007", Ambiguous, Unavailable, "who knows how far it came"),
        (500, "10007", Ambiguous, Unavailable, "who knows how far it came"),
        (503, "10012", Ambiguous, Unavailable, "a server in trouble proves no duplicate"),
    ];
    for (status, code, create, rest, reason) in rows {
        for (shape, body) in [("platform", platform(code)), ("OAuth", oauth(code))] {
            // Where nothing declared was sent, no change of a spec can help: it is asked again now and then.
            let look = if rest == Rejected { Protocol } else { rest };
            let kinds = [create, look, rest, look, look];
            let found = outcomes(|| always(status, body.clone())).await;
            for ((operation, outcome), kind) in OPERATIONS.into_iter().zip(found).zip(kinds) {
                let error = outcome.expect_err(reason);
                assert_eq!(error.kind, kind, "{operation} {status} {shape}: {reason}: {error}");
            }
        }
    }
}

#[tokio::test]
async fn a_refusal_is_repeated_without_what_is_secret() {
    let rows = [
        (oauth("invalid_request"), "invalid_request: not with [redacted]", "an OAuth endpoint"),
        (platform("10015"), "10015: Title: not with [redacted]", "the platform"),
        (oauth("x").replace(SAID, "CANARY-known"), "x: [redacted]", "the client's own secret"),
        (json!({"error": "invalid_request"}).to_string(), "invalid_request", "a description is optional"),
        (json!({"errors": [{"code": "10015", "title": "T"}]}).to_string(), "10015: T", "detail is optional"),
    ];
    for (body, said, reason) in rows {
        let error = searched(always(422, body).update(&known(), &robot(), &[]).await).unwrap_err();
        assert!(error.summary.contains(&format!("({said})")), "{reason}: {error}");
    }
    for body in ["", "CANARY", "[\"CANARY\"]", r#"{"error": {"CANARY": 1}}"#, r#"{"errors": "CANARY"}"#] {
        let error = searched(always(422, body).update(&known(), &robot(), &[]).await).unwrap_err();
        assert_eq!(error.kind, Kind::Rejected, "{body}: {error}");
    }
}

#[tokio::test]
async fn a_name_that_is_taken_is_a_conflict() {
    for status in [409, 422] {
        let world = World::but(|telnyx| telnyx.refuses_duplicates = Some(status));
        world.pending(robot()).await;
        let error = searched(world.driver.register(&wanted(robot(), "n1")).await).unwrap_err();
        assert_eq!(error.kind, Kind::Conflict, "the same mark again: {error}");
    }
}

#[tokio::test]
async fn a_create_of_which_nobody_saw_the_end_is_found_without_its_secret() {
    for (fault, made) in [(Fault::Lost, 0), (Fault::ReplyLost, 1), (Fault::Answered(504), 0)] {
        let world = World::new();
        world.driver.prepare().await.unwrap();
        world.log.take();
        world.fake.disturb("POST /v2/oauth/clients", fault);
        let error = searched(world.driver.register(&wanted(robot(), "n1")).await).unwrap_err();
        assert_eq!(error.kind, Kind::Ambiguous, "{fault:?}");
        assert_eq!(world.log.take().len(), 1, "never sent twice, as the SDK would ({fault:?})");
        let found = searched(world.driver.list().await).unwrap();
        assert_eq!(found.len(), made, "{fault:?}");
        assert!(found.iter().all(|client| secret(client).is_none() && client.mark.is_some()));
    }
}

#[tokio::test]
async fn a_reply_to_a_create_that_cannot_be_read_leaves_the_outcome_open() {
    let rows = [
        (String::new(), "empty"),
        ("[]".into(), "no object"),
        ("{}".into(), "no data"),
        (one(&json!({"client_id": "-"})), "no id"),
        (one(&json!({"client_id": "."})), "a step in the path: a deletion would go to the collection"),
        (one(&json!({"client_secret": "-"})), "a confidential client without a secret"),
        (one(&json!({"client_secret": null})), "a confidential client without a secret"),
        (one(&json!({"client_secret": ""})), "a confidential client without a secret"),
        (one(&json!({"client_secret": "CANARY".repeat(100_000)})), "no record holds this"),
        (one(&json!({"client_type": "-"})), "of no type"),
        (one(&json!({"name": "-"})), "no name"),
    ];
    for (body, reason) in rows {
        let error = searched(always(201, body).register(&wanted(robot(), "n1")).await).expect_err(reason);
        assert_eq!(error.kind, Kind::Ambiguous, "{reason}: {error}");
    }
    let public = one(&json!({"client_type": "public", "client_secret": null}));
    let made = searched(always(201, public).register(&wanted(robot(), "n1")).await).unwrap();
    assert_eq!(secret(&made), None, "a public client needs none");
}

#[tokio::test]
async fn a_client_that_cannot_be_read_is_an_error_and_never_absent() {
    let rows = [
        (json!({}), true, "as it is"),
        (json!({"new": {"member": 1}}), true, "what nobody knows is no harm"),
        (
            json!({"allowed_scopes": "-", "redirect_uris": "-", "logo_uri": "-", "org_id": "-"}),
            true,
            "optional",
        ),
        (json!({"client_secret": "x".repeat(1 << 20)}), true, "no record holds this: as if not shown"),
        (json!({"client_id": "-"}), false, "nobody's"),
        (json!({"client_id": "another"}), false, "another one's"),
        (json!({"name": "-"}), false, "a mark may be hidden"),
        (json!({"client_type": "hybrid"}), false, "nobody knows whether it has a secret"),
    ];
    for (changes, readable, reason) in rows {
        let driver = always(200, one(&changes));
        for outcome in
            [searched(driver.observe(&known()).await), searched(driver.update(&known(), &robot(), &[]).await)]
        {
            match outcome {
                Ok(client) => {
                    let shown = changes.get("client_secret").is_none();
                    let expected = if shown { "CANARY-shown" } else { "CANARY-known" };
                    assert_eq!((readable, secret(&client.unwrap())), (true, Some(expected)), "{reason}");
                }
                Err(error) => {
                    assert_eq!((error.kind, readable), (Kind::Protocol, false), "{reason}: {error}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_404_of_a_place_that_was_left_proves_nothing() {
    let world = World::but(|telnyx| telnyx.collection = Collection::OfSdks);
    let client = world.client().await;
    let reply = Response {
        status: http::StatusCode::NOT_FOUND,
        headers: http::HeaderMap::new(),
        body: platform("10005").into(),
    };
    let [left, _] = COLLECTIONS;
    let error = world.driver.absent((left, &client), &reply, "the read").await.unwrap_err();
    assert_eq!(error.kind, Kind::Protocol, "another pass has found the collection elsewhere meanwhile");
}

#[tokio::test]
async fn a_deletion_is_not_believed_to_whoever_says_200() {
    let rows = [
        (204, "", None, "as documented"),
        (200, r#"{"data": {}}"#, None, "as grants are removed"),
        (200, "<html>log in</html>", Some(Kind::Unavailable), "a proxy that says 200 to everything"),
    ];
    for (status, body, expected, reason) in rows {
        let removed = searched(always(status, body).deregister(&known()).await);
        assert_eq!(removed.err().map(|error| error.kind), expected, "{reason}");
    }
}

#[tokio::test]
async fn a_list_has_as_many_pages_as_it_needs() {
    let rows = [(0, 1), (1, 1), (99, 1), (100, 1), (101, 2), (200, 2), (1050, 11)];
    for (clients, pages) in rows {
        let world = World::but(|telnyx| telnyx.add_foreign(clients));
        world.driver.prepare().await.unwrap();
        world.log.take();
        let list = searched(world.driver.list().await).unwrap();
        assert_eq!(list.len(), clients, "{clients}: those that share a name too");
        assert!(list.iter().all(|client| client.mark.is_none()), "names of others are no marks");
        assert_eq!(world.log.take().len(), pages, "{clients}");
        world.fake.assert_contract_held();
    }
}

#[tokio::test]
async fn a_list_that_loses_or_repeats_clients_is_no_list() {
    /// What somebody does between two pages.
    type Change = fn(&mut fake::Telnyx);
    let rows: [(Change, Option<Kind>, &str); 3] = [
        (|_| (), None, "nobody is there"),
        (
            |telnyx| telnyx.add_foreign(1),
            Some(Kind::Unavailable),
            "one comes first, so another one comes twice",
        ),
        (
            |telnyx| {
                let newest = telnyx.clients().pop().unwrap().client_id;
                telnyx.remove(&newest);
            },
            Some(Kind::Unavailable),
            "the first one goes, so another one moves to a page that was read already",
        ),
    ];
    for (change, expected, reason) in rows {
        let fake = Fake::new(fake::Telnyx::new());
        fake.at(|telnyx| telnyx.add_foreign(250));
        let asked = fake.clone();
        let driver = driver(fake::KEY, move |request| {
            let reply = asked.exchange(request);
            if request.parameter("page[size]") == Some("100")
                && request.parameter("page[number]") == Some("1")
            {
                asked.at(change);
            }
            reply
        });
        let listed = searched(driver.list().await);
        assert_eq!(listed.err().map(|error| error.kind), expected, "{reason}");
    }
}

#[tokio::test]
async fn a_list_ends_and_is_whole_or_an_error() {
    /// What the page of a number is.
    type Script = Box<dyn Fn(&str) -> Reply + Send + Sync>;
    let client = |id: &str| information(&json!({"client_id": id}));
    let answer = |body: Value| move |_: &str| Reply::json(200, &body);
    let counted = |meta: Value| {
        move |number: &str| {
            let data = json!([information(&json!({"client_id": format!("id-{number}")}))]);
            Reply::json(200, &json!({"data": data, "meta": meta}))
        }
    };
    let two = json!([client("a"), client("b")]);
    let rows: Vec<(Script, Result<usize, Kind>, &str)> = vec![
        (
            Box::new(answer(json!({"data": two, "meta": {"total_pages": 1}}))),
            Ok(2),
            "no total, no comparison",
        ),
        (
            Box::new(answer(json!({"data": two, "meta": {"total_pages": 1, "total_results": 3}}))),
            Err(Kind::Unavailable),
            "one of three is missing",
        ),
        (
            Box::new(answer(json!({"data": two, "meta": {"total_pages": 2, "total_results": 4}}))),
            Err(Kind::Unavailable),
            "the same page twice: the server knows no pages",
        ),
        (
            Box::new(answer(json!({"data": [client("a"), client("a")], "meta": {"total_pages": 1}}))),
            Err(Kind::Unavailable),
            "one client twice on a page",
        ),
        (
            Box::new(move |number| {
                let data = if number == "1" { json!([information(&json!({}))]) } else { json!([]) };
                page(&data, 1_000_000)
            }),
            Ok(1),
            "an empty page ends it, whatever the number of pages is said to be",
        ),
        (Box::new(answer(json!({"data": [], "meta": {"total_pages": 0}}))), Ok(0), "no client, no page"),
        (
            Box::new(counted(json!({"total_pages": 1_000_000}))),
            Err(Kind::Protocol),
            "it has an end somewhere",
        ),
        (Box::new(answer(json!({"data": two}))), Err(Kind::Protocol), "who knows how many pages there are"),
        (Box::new(answer(json!({"data": {}, "meta": {"total_pages": 1}}))), Err(Kind::Protocol), "no list"),
        (
            Box::new(answer(json!({"data": [{"client_id": "a"}], "meta": {"total_pages": 1}}))),
            Err(Kind::Protocol),
            "half a client",
        ),
        (
            Box::new(|_| Reply { body: "<html>".into(), ..Reply::empty(200) }),
            Err(Kind::Protocol),
            "a gateway that says 200",
        ),
        (Box::new(|_| Reply::empty(404)), Err(Kind::Protocol), "the collection has gone"),
        (
            Box::new(|number| {
                if number == "1" { page(&json!([information(&json!({}))]), 2) } else { Reply::empty(500) }
            }),
            Err(Kind::Unavailable),
            "half a list",
        ),
    ];
    for (script, expected, reason) in rows {
        let driver = driver(fake::KEY, move |request| {
            let look = request.parameter("page[size]") == Some("1");
            let number = request.parameter("page[number]").unwrap_or_default();
            Some(if look { page(&json!([]), 0) } else { script(number) })
        });
        let listed = searched(driver.list().await);
        assert_eq!(listed.map(|all| all.len()).map_err(|error| error.kind), expected, "{reason}");
    }
}

#[tokio::test]
async fn another_account_shows_another_list() {
    let world = World::new();
    let client = world.client().await;
    world.fake.at(|telnyx| telnyx.key("KEY_CANARY-other", "organization-2"));
    let other = over(session_over(&world.fake, &described()), "KEY_CANARY-other");
    assert!(searched(other.list().await).unwrap().is_empty());
    let seen = searched(other.observe(&client).await).unwrap();
    assert!(seen.is_none(), "a 404 like any other: whose account it is, is judged further up");
}

#[tokio::test]
async fn the_key_goes_nowhere_but_into_the_header() {
    let log = Log::default();
    let noted = log.clone();
    let driver = driver("CANARY\nkey", move |request| {
        noted.note(request);
        None
    });
    for error in [
        searched(driver.prepare().await).unwrap_err(),
        searched(driver.observe(&known()).await).unwrap_err(),
        searched(driver.list().await).map(drop).unwrap_err(),
    ] {
        assert_eq!(error.kind, Kind::Unauthorized, "{error}");
    }
    assert_eq!(log.lines(), [""; 0], "a key that no header may have is not sent");

    let noted = log.clone();
    let answer = move |request: &providers::Request| {
        noted.note(request);
        assert_eq!(request.credentials("bearer"), Some(fake::KEY));
        let query: String = request.query.iter().flat_map(|(name, value)| [name.as_str(), value]).collect();
        assert!(!request.path.contains(CANARY) && !query.contains(CANARY));
        Some(if request.path == COLLECTION { page(&json!([]), 0) } else { Reply::empty(400) })
    };
    outcomes(|| self::driver(fake::KEY, answer.clone())).await;
    let bodies = log.take().into_iter().map(|(_, body)| body.to_string()).collect::<String>();
    assert!(!bodies.contains(CANARY), "nor is the client's own secret ever sent");
}

#[tokio::test(start_paused = true)]
async fn a_key_that_asked_too_much_waits_as_long_as_it_is_told() {
    for hint in [RetryHint::None, RetryHint::Seconds, RetryHint::Milliseconds] {
        let world = World::but(|telnyx| telnyx.retry_hint = hint);
        world.driver.prepare().await.unwrap();
        world.fake.at(|telnyx| telnyx.throttle_for(Duration::from_secs(90)));
        let error = searched(world.driver.list().await).unwrap_err();
        assert_eq!(
            error.kind,
            Kind::Throttled(Duration::from_secs(90)),
            "{hint:?}: x-ratelimit-reset says it"
        );
        tokio::time::advance(Duration::from_secs(90)).await;
        world.driver.list().await.unwrap();
    }
}
