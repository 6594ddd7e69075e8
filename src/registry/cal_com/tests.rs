//! The driver against a fake of Cal.com and against replies that the fake never gives. Each quirk is a row with its reason.

use super::*;
use crate::{
    providers::{
        self, Fake, Fault, Reply,
        cal_com::{self as fake, Role},
    },
    registry::{
        Inventory,
        tests::{CANARY, Log, connection, declared, searched, secret, session_answering, shown, wanted},
    },
};

const URL: &str = "https://api.cal.example";
const ONE: &str = "/v2/oauth-clients/id-1";

/// A driver over its session. Each outcome is searched for credentials on its way.
struct World {
    fake: Fake<fake::CalCom>,
    driver: CalCom,
    log: Log,
}

fn driver(
    url: &str,
    key: &str,
    answer: impl Fn(&providers::Request) -> Option<Reply> + Send + Sync + 'static,
) -> CalCom {
    let spec = json!({"calCom": {"url": url, "credentialsSecretRef": {"name": "cal-com"}}});
    let connection = connection(spec);
    let settings = connection.cal_com.clone().unwrap();
    let session = session_answering(&connection, answer);
    CalCom::new(&settings, session, Credentials::Bearer(key.into())).unwrap()
}

impl World {
    fn at(url: &str, key: &str) -> Self {
        let (fake, log) = (Fake::new(fake::CalCom::new()), Log::default());
        let (asked, noted) = (fake.clone(), log.clone());
        let driver = driver(url, key, move |request| {
            noted.note(request);
            asked.exchange(request)
        });
        Self { fake, driver, log }
    }

    fn new() -> Self {
        Self::at(URL, fake::KEY)
    }

    /// A client of which the create is over, and nothing else.
    async fn pending(&self) -> Client {
        searched(self.driver.register(&wanted(portal(), "n1")).await).unwrap()
    }

    /// A client that also has its name.
    async fn client(&self) -> Client {
        let client = self.pending().await;
        let client = searched(self.driver.update(&client, &portal(), &[]).await).unwrap().unwrap();
        self.log.take();
        client
    }
}

/// A driver at a registry that has one answer for everything.
fn always(status: u16, body: impl Into<bytes::Bytes>) -> CalCom {
    let reply = Reply { body: body.into(), ..Reply::empty(status) };
    driver(URL, fake::KEY, move |_| Some(reply.clone()))
}

fn portal() -> ClientMetadata {
    declared([
        (Field::ClientName, json!("Portal")),
        (Field::RedirectUris, json!(["https://app.example/cb"])),
        (Field::Scopes, json!(["BOOKING_READ", "PROFILE_READ"])),
    ])
}

fn with<const N: usize>(members: [(Field, Value); N]) -> ClientMetadata {
    let mut metadata = portal();
    metadata.0.extend(members);
    metadata
}

fn known() -> Client {
    Client { client_secret: Some("CANARY-known".into()), ..Client::named("id-1", Management::Registry) }
}

/// A client as Cal.com shows it, with these members changed; `null` removes one.
fn information(changes: &Value) -> Value {
    let mut client = json!({
        "id": "id-1", "name": "Portal", "secret": "CANARY-shown", "permissions": ["BOOKING_READ"], "logo": null,
        "redirectUris": [], "organizationId": 7, "createdAt": "2026-01-01T00:00:00.000Z", "areEmailsEnabled": false,
        "areDefaultEventTypesEnabled": false, "areCalendarEventsEnabled": true,
    });
    for (member, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => drop(client.as_object_mut().unwrap().remove(member)),
            value => client[member] = value.clone(),
        }
    }
    client
}

fn success(data: &Value) -> String {
    json!({"status": "success", "data": data}).to_string()
}

/// An error in Cal.com's own shape. Message and details repeat what was sent.
fn failure(code: &str) -> String {
    let error = json!({"code": code, "message": "CANARY", "details": {"errors": [{"value": "CANARY"}]}});
    json!({"status": "error", "timestamp": "2026-01-01T00:00:00Z", "path": ONE, "error": error}).to_string()
}

#[tokio::test]
async fn a_client_is_made_under_its_mark_named_read_and_removed() {
    let world = World::new();
    let mark = wanted(portal(), "n1").mark;
    let made = world.pending().await;
    let stored = world.fake.at(|cal| cal.client(&made.client_id)).unwrap();
    assert_eq!(stored.name, mark.text(), "nobody else's name, until it can be renamed");
    assert!(mark.is(made.mark.as_ref().unwrap()));
    assert_eq!(shown(&made, Field::ClientName), "Portal", "as it will be");
    assert_eq!(secret(&made), Some(stored.secret.as_str()));

    let listed = searched(world.driver.list().await).unwrap().remove(0);
    assert!(mark.is(listed.mark.as_ref().unwrap()), "who died before the next line finds it again");
    assert_eq!(shown(&listed, Field::ClientName), &Value::Null, "a mark is no name");
    assert_eq!(secret(&listed), Some(stored.secret.as_str()), "with its secret: nothing is lost");

    let named = searched(world.driver.update(&made, &portal(), &[]).await).unwrap().unwrap();
    assert_eq!(named.mark, None);
    assert_eq!(named.account_id.as_deref(), Some("1"), "a number there, text here");
    assert!(named.registered_at.is_some());
    let seen = searched(world.driver.observe(&named).await).unwrap().unwrap();
    assert_eq!(portal().differing(&seen.document), []);
    assert_eq!(secret(&seen), Some(stored.secret.as_str()));

    for _ in 0..2 {
        searched(world.driver.deregister(&seen).await).expect("already gone is success");
    }
    assert!(searched(world.driver.observe(&seen).await).unwrap().is_none());
    assert!(searched(world.driver.update(&seen, &portal(), &[]).await).unwrap().is_none());
    world.fake.assert_contract_held();
}

#[tokio::test]
async fn a_create_says_what_is_declared_and_what_it_does_not_show_is_as_sent() {
    let base = json!({
        "name": wanted(portal(), "n1").mark.text(), "redirectUris": ["https://app.example/cb"],
        "permissions": ["BOOKING_READ", "PROFILE_READ"],
    });
    let rows = [
        (portal(), json!({}), "nothing is assumed"),
        (
            with([
                (Field::LogoUri, json!("https://app.example/logo.png")),
                (Field::BookingRedirectUri, json!("https://app.example/1")),
                (Field::BookingCancelRedirectUri, json!("https://app.example/2")),
                (Field::BookingRescheduleRedirectUri, json!("https://app.example/3")),
                (Field::AreEmailsEnabled, json!(true)),
                (Field::AreDefaultEventTypesEnabled, json!(true)),
                (Field::AreCalendarEventsEnabled, json!(false)),
            ]),
            json!({
                "logo": "https://app.example/logo.png", "bookingRedirectUri": "https://app.example/1",
                "bookingCancelRedirectUri": "https://app.example/2",
                "bookingRescheduleRedirectUri": "https://app.example/3", "areEmailsEnabled": true,
                "areDefaultEventTypesEnabled": true, "areCalendarEventsEnabled": false,
            }),
            "everything that there is",
        ),
        (
            with([(Field::LogoUri, json!("")), (Field::BookingRedirectUri, json!(""))]),
            json!({}),
            "managed and empty: a new client has none",
        ),
        (
            with([
                (Field::GrantTypes, json!(["refresh_token", "authorization_code"])),
                (Field::TokenEndpointAuthMethod, json!("client_secret_post")),
            ]),
            json!({}),
            "there is no member for what every client has",
        ),
        (
            with([(Field::Scopes, json!(["*"]))]),
            json!({"permissions": ["*"]}),
            "the star is Cal.com's own word",
        ),
    ];
    for (declared, further, reason) in rows {
        let world = World::new();
        let made = searched(world.driver.register(&wanted(declared.clone(), "n1")).await).expect(reason);
        let mut expected = base.clone();
        expected.as_object_mut().unwrap().extend(further.as_object().unwrap().clone());
        assert_eq!(world.log.take(), [("POST /v2/oauth-clients".into(), expected)], "{reason}");

        let mut read = searched(world.driver.observe(&made).await).unwrap().unwrap().document;
        read.insert(Field::ClientName.wire_name().into(), json!("Portal"));
        let differing = Field::ALL.map(|field| {
            let of = |document| super::super::metadata::shown(field, document);
            (of(&made.document) != of(&read)).then_some(field)
        });
        assert_eq!(differing.into_iter().flatten().collect::<Vec<_>>(), [], "as sent is as stored: {reason}");
        assert_eq!(world.driver.normalised(declared).differing(&made.document), [], "{reason}");
        world.fake.assert_contract_held();
    }
}

#[tokio::test]
async fn an_update_says_what_can_be_changed_and_resets_what_left_the_spec() {
    let base = json!({"name": "Portal", "redirectUris": ["https://app.example/cb"]});
    let rows = [
        (portal(), vec![], json!({}), "permissions would be dropped in silence"),
        (with([(Field::Scopes, json!(["*"]))]), vec![], json!({}), "whatever they are"),
        (with([(Field::LogoUri, json!(""))]), vec![], json!({"logo": null}), "managed and empty: cleared"),
        (
            portal(),
            vec![
                Field::LogoUri,
                Field::BookingRedirectUri,
                Field::BookingCancelRedirectUri,
                Field::BookingRescheduleRedirectUri,
                Field::AreEmailsEnabled,
                Field::AreDefaultEventTypesEnabled,
                Field::AreCalendarEventsEnabled,
            ],
            json!({
                "logo": null, "bookingRedirectUri": null, "bookingCancelRedirectUri": null,
                "bookingRescheduleRedirectUri": null, "areEmailsEnabled": false,
                "areDefaultEventTypesEnabled": false, "areCalendarEventsEnabled": true,
            }),
            "as a new client has it; null for a boolean would be a 500",
        ),
        (portal(), vec![Field::Scopes, Field::GrantTypes], json!({}), "nothing to go back to"),
        (
            with([(Field::LogoUri, json!("https://a"))]),
            vec![Field::LogoUri],
            json!({"logo": "https://a"}),
            "declared again",
        ),
    ];
    for (declared, reset, further, reason) in rows {
        let world = World::new();
        let client = world.client().await;
        let updated = searched(world.driver.update(&client, &declared, &reset).await).unwrap().expect(reason);
        let mut expected = base.clone();
        expected.as_object_mut().unwrap().extend(further.as_object().unwrap().clone());
        let line = format!("PATCH /v2/oauth-clients/{}", client.client_id);
        assert_eq!(world.log.take(), [(line, expected)], "{reason}");
        assert_eq!(secret(&updated), secret(&client), "an update keeps the secret: {reason}");
        world.fake.assert_contract_held();
    }
    let redirects = declared([(Field::ClientName, json!(""))]);
    let body = changes(&redirects, &[Field::RedirectUris]);
    assert_eq!(
        Value::Object(body),
        json!({"name": ""}),
        "a required list has no default, and no name is null"
    );
}

#[tokio::test]
async fn permissions_are_a_set_and_the_star_is_all_of_them() {
    let world = World::new();
    let all = with([(Field::Scopes, json!(["*", "BOOKING_READ"]))]);
    let made = searched(world.driver.register(&wanted(all.clone(), "n1")).await).unwrap();
    let seen = searched(world.driver.observe(&made).await).unwrap().unwrap();
    assert_eq!(shown(&seen, Field::Scopes), &json!(fake::PERMISSIONS), "never shown as a star");
    let normalised = world.driver.normalised(all.clone());
    assert!(!normalised.differing(&seen.document).contains(&Field::Scopes));
    assert_eq!(world.driver.normalised(normalised.clone()), normalised, "once is enough");
    assert_eq!(world.driver.normalised(portal()), portal(), "nothing else is expanded");

    world
        .fake
        .at(|cal| cal.edit(&made.client_id, |client| client.permissions = fake::mask(&["BOOKING_READ"])));
    let updated = searched(world.driver.update(&made, &all, &[]).await).unwrap().unwrap();
    let left = world.driver.normalised(all).differing(&updated.document);
    assert_eq!(left, [Field::Scopes], "no update brings them back, and the reply says so");
}

#[test]
fn the_document_holds_every_field_that_the_registry_knows() {
    let driver = always(200, "");
    let client = shown_client(&information(&json!({}))).unwrap();
    let fields: Vec<Field> = driver.capabilities().fields.into_keys().collect();
    for field in &fields {
        shown(&client, *field);
    }
    assert_eq!(client.document.len(), fields.len(), "and nothing else");
    assert_eq!(shown(&client, Field::BookingRedirectUri), &Value::Null, "not shown where it is not set");
}

/// What becomes of each operation after a status, in the order of `OPERATIONS`.
type Kinds = [Kind; 5];

/// Each with a session of its own: one would be left alone after some failures.
async fn outcomes(driver: impl Fn() -> CalCom) -> Vec<Result<(), Error>> {
    let client = known();
    vec![
        searched(driver().register(&wanted(portal(), "n1")).await).map(drop),
        searched(driver().observe(&client).await).map(drop),
        searched(driver().update(&client, &portal(), &[]).await).map(drop),
        searched(driver().deregister(&client).await),
        searched(driver().list().await).map(drop),
    ]
}

const OPERATIONS: [&str; 5] = ["register", "observe", "update", "deregister", "list"];

#[tokio::test]
async fn every_status_means_what_happens_next() {
    use Kind::{Ambiguous, Conflict, Protocol, Rejected, Unauthorized, Unavailable};
    let then = |create: Kind, rest: Kind| -> Kinds { [create, rest, rest, rest, rest] };
    // Where nothing declared was sent, no change of a spec can help: it is asked again now and then.
    let refused = [Rejected, Protocol, Rejected, Protocol, Protocol];
    let wait = Kind::Throttled(Duration::from_secs(30));
    let rows = [
        (400, "BadRequestException", refused, "refused until the spec changes"),
        (401, "UnauthorizedException", then(Unauthorized, Unauthorized), "the key is unknown"),
        (
            403,
            "ForbiddenException",
            then(Unauthorized, Unauthorized),
            "role, plan or another organisation: never absent",
        ),
        (
            404,
            "NotFoundException",
            then(Protocol, Protocol),
            "the path is wrong, since the collection says so too",
        ),
        (409, "UNIQUE", then(Conflict, Conflict), "not expected"),
        (413, "PayloadTooLargeException", refused, "refused"),
        (422, "UnprocessableEntityException", refused, "refused"),
        (429, "ThrottlerException", then(wait, wait), "no Retry-After and no header"),
        (301, "", then(Protocol, Protocol), "a redirect is never followed"),
        (303, "", then(Ambiguous, Protocol), "a POST that was answered elsewhere may be done"),
        (408, "", then(Ambiguous, Unavailable), "who knows how far it came"),
        (500, "INTERNAL", then(Ambiguous, Unavailable), "who knows how far it came"),
        (503, "", then(Ambiguous, Unavailable), "who knows how far it came"),
    ];
    for (status, code, expected, reason) in rows {
        for ((operation, outcome), kind) in
            OPERATIONS.into_iter().zip(outcomes(|| always(status, failure(code))).await).zip(expected)
        {
            let error = outcome.expect_err(reason);
            assert_eq!(error.kind, kind, "{operation} {status}: {reason}: {error}");
        }
    }
}

#[tokio::test]
async fn of_a_refusal_only_its_code_is_repeated() {
    let rows = [
        (failure("BadRequestException"), Some("BadRequestException"), "the name of a class"),
        (failure("CANARY with spaces"), None, "no name"),
        (failure(&"C".repeat(65)), None, "too long for a name"),
        (json!({"error": {"code": "CANARY"}}).to_string(), None, "not the envelope"),
        ("CANARY".into(), None, "a gateway's words"),
    ];
    for (body, code, reason) in rows {
        for (operation, outcome) in OPERATIONS.into_iter().zip(outcomes(|| always(400, body.clone())).await) {
            let text = outcome.expect_err(reason).to_string();
            assert_eq!(
                code.is_some_and(|code| text.contains(code)),
                code.is_some(),
                "{operation}: {reason}: {text}"
            );
            assert!(!text.contains("CCC"), "{operation}: {reason}");
        }
    }
}

#[tokio::test]
async fn a_404_proves_absence_only_where_the_list_agrees() {
    let empty = success(&json!([]));
    let listed = success(&json!([information(&json!({}))]));
    let gone = failure("NotFoundException");
    let rows = [
        (&gone, 200, &empty, None, "gone"),
        (
            &gone,
            404,
            &gone,
            Some(Kind::Protocol),
            "the API has been removed, or the url is wrong: nothing is gone",
        ),
        (&gone, 200, &listed, Some(Kind::Unavailable), "the list still has it: a replica, perhaps"),
        (&gone, 401, &gone, Some(Kind::Unauthorized), "nobody can tell"),
        (&gone, 500, &gone, Some(Kind::Unavailable), "nobody can tell"),
        (&"<html>".into(), 200, &empty, Some(Kind::Protocol), "a gateway's 404 is about its own paths"),
        (&"{}".into(), 200, &empty, Some(Kind::Protocol), "not Cal.com's shape"),
        (&json!({"statusCode": 404}).to_string(), 200, &empty, Some(Kind::Protocol), "not Cal.com's shape"),
    ];
    for (body, status, list, expected, reason) in rows {
        let (body, list) = (body.clone(), list.clone());
        let driver = driver(URL, fake::KEY, move |request| {
            let (status, body) = if request.path == ONE { (404, &body) } else { (status, &list) };
            Some(Reply { body: body.clone().into(), ..Reply::empty(status) })
        });
        let client = known();
        let seen = searched(driver.observe(&client).await);
        assert_eq!(seen.as_ref().err().map(|error| error.kind), expected, "observe: {reason}");
        assert!(seen.map_or(true, |seen| seen.is_none()), "observe: {reason}");
        let updated = searched(driver.update(&client, &portal(), &[]).await);
        assert_eq!(updated.err().map(|error| error.kind), expected, "update: {reason}");
        let removed = searched(driver.deregister(&client).await);
        assert_eq!(removed.err().map(|error| error.kind), expected, "deregister: {reason}");
    }
}

#[tokio::test]
async fn an_update_that_was_not_found_does_not_lose_a_client_that_is_there() {
    let driver = driver(URL, fake::KEY, |request| {
        Some(match request.method {
            Method::GET => Reply { body: success(&information(&json!({}))).into(), ..Reply::empty(200) },
            _ => Reply { body: failure("NotFoundException").into(), ..Reply::empty(404) },
        })
    });
    let error = searched(driver.update(&known(), &portal(), &[]).await).unwrap_err();
    assert_eq!(error.kind, Kind::Unavailable);
}

#[tokio::test]
async fn many_clients_that_are_gone_cost_one_list() {
    let world = World::new();
    let clients = [world.pending().await, world.pending().await, world.pending().await];
    for client in &clients {
        world.fake.at(|cal| cal.remove(&client.client_id));
    }
    world.log.take();
    let looks = clients.iter().map(|client| world.driver.observe(client));
    for seen in futures::future::join_all(looks).await {
        assert!(seen.unwrap().is_none());
    }
    let lists = world.log.lines().iter().filter(|line| *line == "GET /v2/oauth-clients").count();
    assert_eq!(lists, 1, "whoever waits for a list shares it");
}

#[tokio::test]
async fn rights_and_plans_are_told_apart_from_a_client_that_is_gone() {
    let world = World::new();
    let client = world.client().await;
    world.fake.at(|cal| {
        cal.key("CANARY-other", 2, Role::Owner);
        cal.key("CANARY-member", fake::ORGANIZATION, Role::Member);
    });
    let of = |key: &'static str| {
        let fake = world.fake.clone();
        driver(URL, key, move |request| fake.exchange(request))
    };
    for (key, readable, reason) in
        [("CANARY-other", false, "another organisation's"), ("CANARY-member", true, "a member may read")]
    {
        let driver = of(key);
        assert_eq!(searched(driver.observe(&client).await).is_ok(), readable, "{reason}");
        for error in [
            searched(driver.update(&client, &portal(), &[]).await).unwrap_err(),
            searched(driver.deregister(&client).await).unwrap_err(),
        ] {
            assert_eq!(error.kind, Kind::Unauthorized, "{reason}: {error}");
        }
    }
    world.fake.at(|cal| cal.organization(fake::ORGANIZATION).subscription = false);
    let error = searched(world.driver.register(&wanted(portal(), "n2")).await).unwrap_err();
    assert_eq!(error.kind, Kind::Rejected);
    assert!(error.summary.contains("platform subscription"), "the body is not to blame: {error}");
    world.fake.at(|cal| cal.organization(fake::ORGANIZATION).platform = false);
    let error = searched(world.driver.register(&wanted(portal(), "n2")).await).unwrap_err();
    assert_eq!(error.kind, Kind::Unauthorized, "{error}");
    world.fake.assert_contract_held();
}

#[tokio::test]
async fn a_create_of_which_nobody_saw_the_end_is_found_with_its_secret() {
    for (fault, made) in [(Fault::Lost, 0), (Fault::ReplyLost, 1), (Fault::Answered(502), 0)] {
        let world = World::new();
        world.fake.disturb("POST /v2/oauth-clients", fault);
        let error = searched(world.driver.register(&wanted(portal(), "n1")).await).unwrap_err();
        assert_eq!(error.kind, Kind::Ambiguous, "{fault:?}");
        assert_eq!(world.log.take().len(), 1, "never sent twice: names are not unique ({fault:?})");
        let found = searched(world.driver.list().await).unwrap();
        assert_eq!(found.len(), made, "{fault:?}");
        for client in found {
            assert!(wanted(portal(), "n1").mark.is(client.mark.as_ref().unwrap()));
            assert!(secret(&client).is_some(), "to be adopted as it is");
        }
    }
}

#[tokio::test]
async fn a_reply_to_a_create_that_cannot_be_read_leaves_the_outcome_open() {
    let rows = [
        ("", "empty"),
        ("[]", "no object"),
        ("{}", "no data"),
        (r#"{"data": {"clientSecret": "CANARY"}}"#, "no id"),
        (r#"{"data": {"clientId": "", "clientSecret": "CANARY"}}"#, "no id"),
        (r#"{"data": {"clientId": "id-1"}}"#, "no secret"),
        (r#"{"data": {"clientId": "id-1", "clientSecret": null}}"#, "no secret"),
        (
            r#"{"data": {"clientId": "..", "clientSecret": "CANARY"}}"#,
            "a step in the path: a deletion would go astray",
        ),
    ];
    let long = json!({"data": {"clientId": "id-1", "clientSecret": "CANARY".repeat(100_000)}}).to_string();
    for (body, reason) in rows.into_iter().chain([(long.as_str(), "no record holds this")]) {
        let driver = always(201, body.to_owned());
        let error = searched(driver.register(&wanted(portal(), "n1")).await).expect_err(reason);
        assert_eq!(error.kind, Kind::Ambiguous, "{reason}: {error}");
    }
}

#[tokio::test]
async fn a_client_that_cannot_be_read_is_an_error_and_never_absent() {
    let rows = [
        (json!({}), true, "as it is"),
        (json!({"new": {"member": 1}}), true, "what nobody knows is no harm"),
        (json!({"organizationId": null, "createdAt": null, "logo": null}), true, "what nothing hangs on"),
        (json!({"permissions": ["A_NEW_ONE"]}), true, "Cal.com may invent permissions"),
        (json!({"secret": null}), true, "what it does not show is still so"),
        (json!({"secret": "x".repeat(1 << 20)}), true, "no record holds this: as if not shown"),
        (json!({"id": null}), false, "nobody's"),
        (json!({"id": "id-2"}), false, "another one's"),
        (json!({"name": null}), false, "a mark may be hidden"),
        (json!({"permissions": 1023}), false, "old servers had bits"),
        (json!({"redirectUris": null}), false, "not the documented form"),
        (json!({"redirectUris": "https://a"}), false, "not the documented form"),
    ];
    for (changes, readable, reason) in rows {
        let driver = always(200, success(&information(&changes)));
        for outcome in [
            searched(driver.observe(&known()).await),
            searched(driver.update(&known(), &portal(), &[]).await),
        ] {
            match outcome {
                Ok(client) => {
                    assert!(readable, "{reason}");
                    let shown = changes.get("secret").is_none();
                    let expected = if shown { "CANARY-shown" } else { "CANARY-known" };
                    assert_eq!(secret(&client.unwrap()), Some(expected), "{reason}");
                }
                Err(error) => {
                    assert_eq!((error.kind, readable), (Kind::Protocol, false), "{reason}: {error}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_deletion_is_believed_in_cal_com_s_own_words_only() {
    let rows = [
        (success(&information(&json!({}))), None, "as documented, and the secret in it is not looked at"),
        ("<html>log in</html>".into(), Some(Kind::Unavailable), "a proxy that says 200 to everything"),
        (String::new(), Some(Kind::Unavailable), "not its form; the next try finds a 404"),
    ];
    for (body, expected, reason) in rows {
        let removed = searched(always(200, body).deregister(&known()).await);
        assert_eq!(removed.err().map(|error| error.kind), expected, "{reason}");
    }
}

#[tokio::test]
async fn a_document_leaves_room_for_the_credentials() {
    let huge = json!({"logo": "x".repeat(300 * 1024)});
    let seen = always(200, success(&information(&huge))).observe(&known()).await.unwrap().unwrap();
    assert!(seen.document.is_empty(), "a record must fit into a Secret");
}

#[tokio::test]
async fn a_list_is_whole_or_an_error() {
    let one = information(&json!({}));
    let rows = [
        (success(&json!([])), Ok(0), "nobody has a client"),
        (success(&json!([one, information(&json!({"id": "id-2", "secret": null}))])), Ok(2), "in any order"),
        (success(&json!([one, {"id": "id-2"}])), Err(Kind::Protocol), "half of it is no list"),
        (success(&json!({"clients": []})), Err(Kind::Protocol), "no list"),
        ("{}".into(), Err(Kind::Protocol), "no list"),
        ("<html>log in</html>".into(), Err(Kind::Protocol), "a gateway that says 200"),
    ];
    for (body, expected, reason) in rows {
        let listed = searched(always(200, body).list().await);
        assert_eq!(listed.map(|all| all.len()).map_err(|error| error.kind), expected, "{reason}");
    }
}

/// The transport's limit for other registries, 1 MiB, would not do.
#[tokio::test]
async fn two_thousand_clients_of_others_are_one_reply() {
    let world = World::new();
    world.fake.at(|cal| cal.add_foreign(2000));
    let ours = world.pending().await;
    let list = searched(world.driver.list().await).unwrap();
    assert_eq!(list.len(), 2001);
    let marked: Vec<&Client> = list.iter().filter(|client| client.mark.is_some()).collect();
    assert_eq!(marked.len(), 1, "names of others are no marks");
    assert_eq!(marked[0].client_id, ours.client_id);
    assert_eq!(world.log.lines().len(), 2, "one request for all of them");
}

#[tokio::test]
async fn the_key_goes_nowhere_but_into_the_header() {
    let world = World::at(URL, "CANARY\nkey");
    for error in [
        searched(world.driver.prepare().await).unwrap_err(),
        searched(world.driver.observe(&known()).await).unwrap_err(),
    ] {
        assert_eq!(error.kind, Kind::Unauthorized, "{error}");
    }
    assert_eq!(world.log.lines(), [""; 0], "a key that no header may have is not sent");

    let log = Log::default();
    let noted = log.clone();
    let answer = move |request: &providers::Request| {
        noted.note(request);
        assert_eq!(request.credentials("bearer"), Some(fake::KEY));
        assert!(request.header("x-cal-secret-key").is_none(), "the client's own key would come before ours");
        assert!(!request.path.contains(CANARY) && request.query.is_empty());
        Some(Reply::empty(400))
    };
    outcomes(|| driver(URL, fake::KEY, answer.clone())).await;
    assert_eq!(log.take().len(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_key_that_asked_too_much_waits_as_long_as_it_is_shut_out() {
    let world = World::new();
    let (_, window) = PUBLISHED_LIMIT;
    world.fake.at(|cal| cal.throttle_for(window));
    let error = searched(world.driver.list().await).unwrap_err();
    assert_eq!(error.kind, Kind::Throttled(window), "by X-RateLimit-Reset-Default: there is no Retry-After");
    let error = searched(world.driver.prepare().await).unwrap_err();
    assert!(matches!(error.kind, Kind::Throttled(_)), "all clients of the registry wait");
    tokio::time::advance(window).await;
    world.driver.list().await.unwrap();
}

#[tokio::test]
async fn a_server_below_a_path_is_found_there() {
    let world = World::at("https://cal.example/api/", fake::KEY);
    world.fake.at(|cal| cal.set_prefix("/api"));
    let client = world.client().await;
    searched(world.driver.deregister(&client).await).unwrap();
    assert_eq!(world.log.lines(), [format!("DELETE /api/v2/oauth-clients/{}", client.client_id)]);
    assert_eq!(world.driver.origin(), "https://cal.example");
    assert_eq!(world.driver.issuer(), None);
}

#[tokio::test]
async fn a_list_that_lags_never_makes_a_client_absent() {
    let world = World::new();
    let client = world.client().await;
    world.fake.at(|cal| {
        cal.stale_list_for(Duration::from_mins(1));
        cal.remove(&client.client_id);
    });
    let error = searched(world.driver.observe(&client).await).unwrap_err();
    assert_eq!(error.kind, Kind::Unavailable, "the list still has it: look again");
}

#[tokio::test]
async fn an_inventory_knows_the_organisation() {
    let world = World::new();
    world.client().await;
    let session = world.driver.api.session();
    let inventory: Arc<Inventory> = session.inventory(&world.driver, None).await.unwrap();
    assert_eq!(inventory.account_id.as_deref(), Some("1"));
}
