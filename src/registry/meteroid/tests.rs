//! The driver against a service in memory that keeps to Meteroid's contract, and against answers that no good service gives.

use std::time::Duration;

use serde_json::json;

use super::*;
use crate::{
    providers::{
        Fake, Fault, Reply, Request,
        meteroid::{Connect, KEY, Meteroid as Service, RetryHeaders},
    },
    registry::tests::{
        CANARY, Log, connection, declared, searched, secret, session_answering, shown, wanted,
    },
};

const REDIRECT: &str = "https://app.example/cb";
const COLLECTION: &str = "/api/v1/oauth-apps";
/// All that can be asked, by name.
const OPERATIONS: [&str; 5] = ["register", "observe", "deregister", "list", "issue"];

fn driver(session: Arc<Session>, key: &str) -> Meteroid {
    let settings = session.connection.meteroid.clone().unwrap();
    Meteroid::new(&settings, session, Credentials::Bearer(key.into())).unwrap()
}

/// A driver, and a service that always answers this.
fn answering(reply: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Meteroid {
    driver(session_answering(&spec(), move |request| Some(reply(request))), KEY)
}

fn spec() -> crate::api::RegistryConnection {
    connection(json!({"meteroid": {
        "url": "https://api.meteroid.example",
        "credentialsSecretRef": {"name": "meteroid"},
    }}))
}

/// The least that Meteroid wants of an app.
fn least() -> ClientMetadata {
    declared([(Field::ClientName, json!("App")), (Field::RedirectUris, json!([REDIRECT]))])
}

/// A service, and a driver that has never spoken to it.
struct World {
    fake: Fake<Service>,
    log: Log,
    driver: Meteroid,
}

impl World {
    fn with(key: &str) -> Self {
        let (fake, log) = (Fake::new(Service::new()), Log::default());
        let (answering, noting) = (fake.clone(), log.clone());
        let session = session_answering(&spec(), move |request| {
            noting.note(request);
            answering.exchange(request)
        });
        Self { fake, log, driver: driver(session, key) }
    }

    fn new() -> Self {
        Self::with(KEY)
    }

    async fn register(&self, metadata: ClientMetadata) -> Result<Client, Error> {
        self.driver.prepare().await.unwrap();
        searched(self.driver.register(&wanted(metadata, "n1")).await)
    }

    fn works(&self, client: &Client, secret: &str) -> bool {
        self.fake.at(|service| service.authenticates(&client.client_id, secret))
    }
}

async fn ask(driver: &Meteroid, operation: &str) -> Result<(), Error> {
    let client = client();
    let outcome = match operation {
        "register" => driver.register(&wanted(least(), "n1")).await.map(drop),
        "observe" => driver.observe(&client).await.map(drop),
        "deregister" => driver.deregister(&client).await,
        "list" => driver.list().await.map(drop),
        _ => driver.issue_secret(&client).await.map(drop),
    };
    searched(outcome)
}

/// An app of which the ids are known.
fn client() -> Client {
    let registration_id = Some("app_1".to_owned());
    Client { registration_id, ..Client::named("mcl_1", Management::Registry) }
}

/// What the service says of that app, with these members.
fn told(members: &Value) -> Value {
    let mut body = json!({
        "id": "app_1", "client_id": "mcl_1", "organization_id": "org_1", "name": "App", "redirect_uris": [REDIRECT],
        "scopes": [], "client_secret_hint": "wxyz", "is_active": true, "created_at": "2026-11-21T12:00:00Z",
    });
    body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    body
}

fn refused(status: u16, code: &str) -> Reply {
    Reply::json(status, &json!({"code": code, "message": "No"}))
}

fn plain(status: u16, text: &'static str) -> Reply {
    Reply { body: text.into(), ..Reply::empty(status) }.with("content-type", "text/plain; charset=utf-8")
}

#[tokio::test(start_paused = true)]
async fn a_client_lives_through_everything_that_can_be_asked() {
    let world = World::new();
    let client = world.register(least()).await.unwrap();
    let first = secret(&client).expect("a secret").to_owned();
    assert!(world.works(&client, &first));
    assert!(client.managed_id().starts_with("app_") && client.client_id != client.managed_id(), "two ids");
    assert_eq!(client.account_id, Some(world.fake.at(|service| service.organization_of(KEY))));
    assert!(client.registered_at.is_some() && client.active);

    let read = searched(world.driver.observe(&client).await).unwrap().unwrap();
    assert_eq!(
        (&read.document, &read.mark, &read.secret_hint),
        (&client.document, &client.mark, &client.secret_hint)
    );
    assert_eq!(secret(&read), Some(first.as_str()), "what a read leaves out is still so");

    world.driver.prepare().await.unwrap();
    let issued = searched(world.driver.issue_secret(&client).await).unwrap();
    let second = issued.secret.expose_secret();
    assert_eq!((world.works(&client, &first), world.works(&client, second)), (false, true), "at once");
    let read = world.driver.observe(&client).await.unwrap().unwrap();
    assert_eq!((&read.secret_hint, issued.id), (&issued.hint, None), "the hint is what is shown later");
    assert_ne!(read.secret_hint, client.secret_hint, "a secret that somebody else issues shows");

    searched(world.driver.deregister(&client).await).unwrap();
    assert!(searched(world.driver.observe(&client).await).unwrap().is_none(), "absent");
    searched(world.driver.deregister(&client).await).expect("gone already is as good");
    world.fake.assert_contract_held();
}

#[tokio::test(start_paused = true)]
async fn a_registration_says_what_is_declared_and_whose_it_is() {
    let tag = wanted(least(), "n1").mark.tag();
    let name = format!("App [{tag}]");
    let scoped = |scopes: Value| {
        let mut metadata = least();
        metadata.0.insert(Field::Scopes, scopes);
        metadata
    };
    let rows = [
        (least(), json!({"name": name, "redirect_uris": [REDIRECT]}), "no scopes, which are not documented"),
        (
            scoped(json!(["read"])),
            json!({"name": name, "redirect_uris": [REDIRECT], "scopes": ["read"]}),
            "unless they are declared",
        ),
        (
            scoped(json!([])),
            json!({"name": name, "redirect_uris": [REDIRECT], "scopes": []}),
            "even to be none",
        ),
    ];
    for (metadata, body, reason) in rows {
        let world = World::new();
        let client = world.register(metadata.clone()).await.unwrap();
        assert_eq!(world.log.last_body(), body, "{reason}");
        assert_eq!(metadata.differing(&client.document), [], "{reason}");
        assert_eq!(client.mark, Some(ShownMark::Tag(tag.clone())));
        world.fake.assert_contract_held();
    }
}

#[tokio::test(start_paused = true)]
async fn the_mark_ends_the_name_and_is_no_part_of_what_is_declared() {
    let tag = wanted(least(), "n1").mark.tag();
    let rows = [
        (format!("App [{tag}]"), "App".to_owned(), true, "as it is put there"),
        (format!(" [{tag}]"), String::new(), true, "of a client without a name"),
        (format!("App [{tag}] [{tag}]"), format!("App [{tag}]"), true, "what stands before is anybody's"),
        (format!("App [{tag}] "), format!("App [{tag}] "), false, "not at the end"),
        (format!("App[{tag}]"), format!("App[{tag}]"), false, "not apart"),
        ("App [beta]".into(), "App [beta]".into(), false, "no tag"),
        ("App".into(), "App".into(), false, "nothing"),
    ];
    for (name, declared, marked, reason) in rows {
        let body = told(&json!({"name": name}));
        let read = answering(move |_| Reply::json(200, &body)).observe(&client()).await.unwrap().unwrap();
        assert_eq!(*shown(&read, Field::ClientName), json!(declared), "{reason}");
        assert_eq!(read.mark, marked.then(|| ShownMark::Tag(tag.clone())), "{reason}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_name_that_is_taken_is_found_by_its_mark() {
    let world = World::new();
    world.fake.at(|service| service.add_foreign(1200));
    let ours = world.register(least()).await.unwrap();
    let error = world.register(least()).await.unwrap_err();
    assert_eq!(error.kind, Kind::Conflict, "another attempt to do the same has the same name");
    let list = searched(world.driver.list().await).unwrap();
    let marked: Vec<_> = list.iter().filter(|client| client.mark.is_some()).collect();
    assert_eq!((list.len(), marked.len()), (1201, 1));
    assert!(wanted(least(), "n2").mark.is(marked[0].mark.as_ref().unwrap()), "whichever attempt made it");
    assert_eq!((&marked[0].document, marked[0].managed_id()), (&ours.document, ours.managed_id()), "whole");
    assert_eq!(secret(marked[0]), None);
    world.fake.assert_contract_held();
}

#[tokio::test(start_paused = true)]
async fn nothing_can_be_changed_and_what_is_fixed_may_be_declared() {
    let world = World::new();
    let client = world.register(least()).await.unwrap();
    world.log.take();
    let error = searched(world.driver.update(&client, &least(), &[]).await).unwrap_err();
    assert_eq!((error.kind, world.log.lines().len()), (Kind::Unsupported, 0), "nothing is sent");

    let capabilities = world.driver.capabilities();
    for field in [Field::ClientName, Field::RedirectUris, Field::Scopes] {
        assert_eq!(*capabilities.support(field), Support::Immutable, "{field:?}");
    }
    assert_eq!(*capabilities.support(Field::ClientUri), Support::Unsupported);
    let fixed = [
        (Field::GrantTypes, json!(["refresh_token", "authorization_code"])),
        (Field::RequirePkce, json!(true)),
        (Field::TokenEndpointAuthMethod, json!("client_secret_basic")),
        (Field::TokenEndpointAuthMethod, json!("client_secret_post")),
    ];
    for (field, value) in fixed {
        let normal = world.driver.normalised(declared([(field, value.clone())]));
        assert_eq!(normal.differing(&client.document), [], "{field:?}: {value}");
    }
    let other = declared([(Field::TokenEndpointAuthMethod, json!("none"))]);
    assert_eq!(world.driver.normalised(other.clone()), other, "what it has not stays what it is");
    assert_eq!(world.driver.issuer(), None);
    assert_eq!(world.driver.origin(), "https://api.meteroid.example");
}

#[tokio::test(start_paused = true)]
async fn changes_by_hand_show() {
    let world = World::new();
    let client = world.register(least()).await.unwrap();
    world.fake.at(|service| {
        service.edit(client.managed_id(), |app| {
            app.is_active = false;
            app.redirect_uris = vec!["https://other.example".into()];
        });
    });
    for read in
        [world.driver.observe(&client).await.unwrap().unwrap(), world.driver.list().await.unwrap().remove(0)]
    {
        assert!(!read.active, "switched off");
        assert_eq!(least().differing(&read.document), [Field::RedirectUris]);
    }
}

#[tokio::test(start_paused = true)]
async fn every_status_is_told_by_what_happens_next() {
    let wait = Duration::from_secs(30);
    let rows = [
        (400, "BAD_REQUEST", [Kind::Rejected, Kind::Protocol, Kind::Protocol]),
        (401, "UNAUTHORIZED", [Kind::Unauthorized; 3]),
        (401, "TOKEN_EXPIRED", [Kind::Unauthorized; 3]),
        (403, "FORBIDDEN", [Kind::Unauthorized; 3]),
        (408, "", [Kind::Ambiguous, Kind::Ambiguous, Kind::Unavailable]),
        (409, "CONFLICT", [Kind::Conflict; 3]),
        (415, "", [Kind::Rejected, Kind::Protocol, Kind::Protocol]),
        (422, "", [Kind::Rejected, Kind::Protocol, Kind::Protocol]),
        (429, "TOO_MANY_REQUESTS", [Kind::Throttled(wait); 3]),
        (302, "", [Kind::Protocol; 3]),
        (405, "", [Kind::Protocol; 3]),
        (500, "INTERNAL_SERVER_ERROR", [Kind::Ambiguous, Kind::Ambiguous, Kind::Unavailable]),
        (502, "", [Kind::Ambiguous, Kind::Ambiguous, Kind::Unavailable]),
        (503, "", [Kind::Ambiguous, Kind::Ambiguous, Kind::Unavailable]),
    ];
    for (status, code, [registering, issuing, other]) in rows {
        for operation in OPERATIONS {
            let expected = match operation {
                "register" => registering,
                "issue" => issuing,
                _ => other,
            };
            let kind = ask(&answering(move |_| refused(status, code)), operation).await.unwrap_err().kind;
            assert_eq!(kind, expected, "{status} to {operation}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn without_connect_no_client_counts_as_gone() {
    for (connect, kind) in [(Connect::Forbidden, Kind::Unauthorized), (Connect::NotFound, Kind::Protocol)] {
        let world = World::new();
        let client = world.register(least()).await.unwrap();
        world.fake.at(|service| service.connect = connect);
        for operation in ["register", "list"] {
            let error = ask(&world.driver, operation).await.unwrap_err();
            assert_eq!(error.kind, kind, "{operation}: {connect:?}");
            assert!(error.summary.contains("enable Connect in the dashboard"), "{error}");
        }
        for outcome in [
            searched(world.driver.observe(&client).await).map(drop),
            searched(world.driver.deregister(&client).await),
            searched(world.driver.issue_secret(&client).await).map(drop),
        ] {
            assert_eq!(outcome.unwrap_err().kind, kind, "{connect:?}");
        }
        world.fake.at(|service| service.connect = Connect::On);
        assert!(world.driver.observe(&client).await.unwrap().is_some(), "as before");
    }
}

#[tokio::test(start_paused = true)]
async fn only_meteroids_own_words_prove_a_client_absent() {
    let html =
        Reply { body: "<html>Not here</html>".into(), ..Reply::empty(404) }.with("content-type", "text/html");
    let listed = json!({"data": [told(&json!({}))]});
    let nobody = json!({"data": []});
    let rows = [
        (refused(404, "NOT_FOUND"), &nobody, Ok(()), "Meteroid's own, and the list is without it"),
        (refused(404, "NOT_FOUND"), &listed, Err(Kind::Unavailable), "the list still has it"),
        (html, &nobody, Err(Kind::Protocol), "a gateway, or the wrong url"),
        (plain(404, ""), &nobody, Err(Kind::Protocol), "a service without OAuth apps"),
        (plain(400, "Invalid URL: app_1"), &nobody, Err(Kind::Protocol), "an id that is none"),
    ];
    for (reply, list, expected, reason) in rows {
        for operation in ["observe", "deregister", "issue"] {
            let (reply, list) = (reply.clone(), list.clone());
            let answer = move |request: &Request| match request.path.as_str() {
                COLLECTION => Reply::json(200, &list),
                _ => reply.clone(),
            };
            let outcome = ask(&answering(answer), operation).await;
            if operation == "issue" && expected.is_ok() {
                let error = outcome.unwrap_err();
                assert_eq!(error.kind, Kind::Unavailable, "nothing happened, for certain");
                assert!(error.summary.contains("does not exist there any more"), "{error}");
            } else {
                assert_eq!(outcome.map_err(|error| error.kind), expected, "{operation}: {reason}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_of_which_nobody_saw_the_end_is_unknown_and_sent_once() {
    let world = World::new();
    let create = "POST /api/v1/oauth-apps";
    world.fake.disturb(create, Fault::ReplyLost);
    assert_eq!(world.register(least()).await.unwrap_err().kind, Kind::Ambiguous);
    assert_eq!(world.fake.count(create), 1);
    let found = world.driver.list().await.unwrap().remove(0);
    assert!(wanted(least(), "n1").mark.is(found.mark.as_ref().unwrap()), "it is found");

    let rotate = "POST /api/v1/oauth-apps/{id}/rotate";
    world.fake.disturb(rotate, Fault::ReplyLost);
    world.driver.prepare().await.unwrap();
    assert_eq!(searched(world.driver.issue_secret(&found).await).unwrap_err().kind, Kind::Ambiguous);
    assert_eq!(world.fake.count(rotate), 1);
    let issued = world.driver.issue_secret(&found).await.expect("again is safe");
    assert!(world.works(&found, issued.secret.expose_secret()));
}

#[tokio::test(start_paused = true)]
async fn a_list_that_lags_behind_proves_nothing() {
    let world = World::new();
    let client = world.register(least()).await.unwrap();
    world.fake.at(|service| {
        service.stale_list_for(Duration::from_secs(5));
        service.remove(client.managed_id());
    });
    assert_eq!(world.driver.observe(&client).await.unwrap_err().kind, Kind::Unavailable);
    tokio::time::advance(Duration::from_secs(6)).await;
    assert!(world.driver.observe(&client).await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_breaks_the_contract_is_no_answer() {
    let members = [
        "id",
        "client_id",
        "organization_id",
        "name",
        "redirect_uris",
        "scopes",
        "client_secret_hint",
        "is_active",
    ];
    let mut rows: Vec<(Value, String)> = members
        .map(|member| {
            let mut app = told(&json!({}));
            app.as_object_mut().unwrap().remove(member);
            (app, format!("no {member}"))
        })
        .into();
    rows.push((told(&json!({"id": ".."})), "an id that is a step in a path".into()));
    rows.push((told(&json!({"redirect_uris": REDIRECT})), "redirect_uris that are no list".into()));
    rows.push((json!([]), "no object".into()));
    for (app, reason) in rows {
        let answer = move |request: &Request| match (request.method.as_str(), request.path.as_str()) {
            ("POST", _) => Reply::json(201, &json!({"app": app, "client_secret": "CANARY"})),
            (_, COLLECTION) => Reply::json(200, &json!({"data": [app]})),
            _ => Reply::json(200, &app),
        };
        let driver = answering(answer);
        assert_eq!(ask(&driver, "register").await.unwrap_err().kind, Kind::Ambiguous, "{reason}");
        for operation in ["observe", "list"] {
            assert_eq!(
                ask(&driver, operation).await.unwrap_err().kind,
                Kind::Protocol,
                "{operation}: {reason}"
            );
        }
    }
    let rows = [
        ("register", json!({"app": told(&json!({}))}), Kind::Ambiguous, "no secret"),
        ("register", json!({"client_secret": "CANARY"}), Kind::Ambiguous, "no app"),
        ("issue", json!({"client_secret": ""}), Kind::Ambiguous, "an empty secret"),
        (
            "issue",
            json!({"client_secret": "CANARY".repeat(50_000)}),
            Kind::Ambiguous,
            "more than a Secret holds",
        ),
        ("observe", told(&json!({"client_id": "mcl_2"})), Kind::Protocol, "another client"),
        ("list", json!([]), Kind::Protocol, "a list without data"),
        ("list", json!({"data": [7]}), Kind::Protocol, "an item that is none"),
    ];
    for (operation, body, kind, reason) in rows {
        let driver = answering(move |_| Reply::json(200, &body));
        assert_eq!(ask(&driver, operation).await.unwrap_err().kind, kind, "{operation}: {reason}");
    }
    let lenient = told(&json!({"created_at": "yesterday", "scopes": null, "updated_at": null, "tenant": {}}));
    let read = answering(move |_| Reply::json(200, &lenient)).observe(&client()).await.unwrap().unwrap();
    assert_eq!(
        (read.registered_at, shown(&read, Field::Scopes)),
        (None, &Value::Null),
        "nothing hangs on these"
    );
}

/// A service that shows its apps page by page.
fn pages(count: u64, per_page: u64, meta: impl Fn(u64) -> Value + Send + Sync + 'static) -> (Meteroid, Log) {
    let log = Log::default();
    let noting = log.clone();
    let session = session_answering(&spec(), move |request| {
        noting.note(request);
        let page = request.parameter("page").map_or(0, |page| page.parse::<u64>().unwrap());
        assert!(page == 0 || request.parameter("per_page") == Some(&per_page.to_string()), "the same pages");
        let app = |n| told(&json!({"id": format!("app_{n}"), "client_id": format!("mcl_{n}")}));
        let data: Vec<Value> = (page * per_page..count.min((page + 1) * per_page)).map(app).collect();
        Some(Reply::json(200, &json!({"data": data, "pagination_meta": meta(page)})))
    });
    (driver(session, KEY), log)
}

#[tokio::test(start_paused = true)]
async fn a_list_that_will_have_pages_is_read_whole_or_not_at_all() {
    let total = |page: u64| json!({"page": page, "per_page": 20, "total_items": 45, "total_pages": 3});
    let (driver, log) = pages(45, 20, total);
    assert_eq!((driver.list().await.unwrap().len(), log.lines().len()), (45, 3));
    let (driver, log) = pages(40, 20, |page| json!({"page": page, "per_page": 20}));
    assert_eq!(
        (driver.list().await.unwrap().len(), log.lines().len()),
        (40, 3),
        "a full page may not be the last"
    );
    let (driver, log) =
        pages(0, 20, |page| json!({"page": page, "per_page": 20, "total_items": 0, "total_pages": 0}));
    assert_eq!((driver.list().await.unwrap().len(), log.lines().len()), (0, 1));

    let rows: [(Value, Kind, &str); 4] = [
        (json!({"page": 0, "per_page": 20, "total_pages": 3}), Kind::Protocol, "always the first page"),
        (json!({"per_page": 20}), Kind::Protocol, "no page"),
        (json!({"page": 0, "per_page": 0}), Kind::Protocol, "no items a page"),
        (
            json!({"page": 0, "per_page": 45, "total_items": 46, "total_pages": 1}),
            Kind::Unavailable,
            "one was removed meanwhile, and another moved to a page that was read before",
        ),
    ];
    for (meta, kind, reason) in rows {
        let (driver, _) = pages(45, 20, move |_| meta.clone());
        assert_eq!(searched(driver.list().await).unwrap_err().kind, kind, "{reason}");
    }
    let (driver, log) = pages(u64::MAX / 2, 2, |page| json!({"page": page, "per_page": 2}));
    assert_eq!(driver.list().await.unwrap_err().kind, Kind::Protocol, "without an end");
    assert_eq!(log.lines().len() as u64, LONGEST_LIST);
}

#[tokio::test(start_paused = true)]
async fn plain_words_are_repeated_but_for_our_key() {
    let rows = [
        (plain(422, "The body has not the right shape"), "(The body has not the right shape)"),
        (refused(400, "BAD_REQUEST"), "(BAD_REQUEST: No)"),
        (Reply::json(400, &json!({"code": "BAD_REQUEST", "message": KEY})), "(BAD_REQUEST: [redacted])"),
        (plain(400, KEY), "([redacted])"),
        (Reply { body: "<html>".into(), ..Reply::empty(400) }.with("content-type", "text/html"), "with 400"),
    ];
    for (reply, says) in rows {
        let error = ask(&answering(move |_| reply.clone()), "register").await.unwrap_err();
        assert!(error.summary.ends_with(says), "{says}: {error}");
    }
}

#[tokio::test(start_paused = true)]
async fn keys_are_refused_without_being_shown() {
    let world = World::new();
    world.register(least()).await.unwrap();
    world.fake.at(|service| service.expire_key(KEY));
    let error = ask(&world.driver, "list").await.unwrap_err();
    assert_eq!(error.kind, Kind::Unauthorized);
    assert!(error.summary.contains("TOKEN_EXPIRED"), "{error}");

    let world = World::with(&format!("{CANARY}\n"));
    assert_eq!(searched(world.driver.prepare().await).unwrap_err().kind, Kind::Unauthorized, "a line break");
    for operation in OPERATIONS {
        assert_eq!(ask(&world.driver, operation).await.unwrap_err().kind, Kind::Unauthorized, "{operation}");
    }
    assert_eq!(world.log.lines().len(), 0, "nothing was sent");
}

#[tokio::test(start_paused = true)]
async fn another_organisations_key_shows_another_account() {
    let world = World::with("pv_prod_CANARY-other/1");
    let other = world.fake.at(|service| service.add_organization("pv_prod_CANARY-other/1"));
    let client = world.register(least()).await.unwrap();
    assert_eq!(client.account_id.as_ref(), Some(&other));
    assert_ne!(other, world.fake.at(|service| service.organization_of(KEY)));
}

#[tokio::test(start_paused = true)]
async fn too_many_requests_wait_as_long_as_asked() {
    let rows = [(RetryHeaders::Seconds, 7), (RetryHeaders::Both, 7), (RetryHeaders::Neither, 30)];
    for (headers, seconds) in rows {
        let world = World::new();
        world.fake.at(|service| {
            service.retry_headers = headers;
            service.throttle_for(Duration::from_secs(7));
        });
        let kind = ask(&world.driver, "list").await.unwrap_err().kind;
        assert_eq!(kind, Kind::Throttled(Duration::from_secs(seconds)), "{headers:?}");
    }
}
