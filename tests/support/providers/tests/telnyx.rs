use std::{collections::BTreeSet, time::Duration};

use k8s_openapi::ByteString;
use serde_json::{Value, json};
use tokio::time::advance;

use super::{Answer, ask, request};
use crate::providers::Fake;
use crate::providers::telnyx::{Collection, KEY, LaterSecret, ORGANIZATION, Omitted, RetryHint, Telnyx};

const CLIENTS: &str = "/v2/oauth/clients";
const UNKNOWN: &str = "7e1c0a1e-0000-4000-8000-ffffffffffff";
const COLLEAGUE: &str = "KEY_CANARY-colleague";
const OTHER: &str = "KEY_CANARY-other";

/// One that was told to be different from what is documented.
fn provider(change: impl FnOnce(&mut Telnyx)) -> Fake<Telnyx> {
    let mut provider = Telnyx::new();
    provider.key(COLLEAGUE, ORGANIZATION);
    provider.key(OTHER, "organization-2");
    change(&mut provider);
    Fake::new(provider)
}

fn documented() -> Fake<Telnyx> {
    provider(|_| ())
}

fn wanted(name: &str) -> Value {
    json!({
        "name": name,
        "allowed_scopes": ["admin"],
        "client_type": "confidential",
        "allowed_grant_types": ["client_credentials"],
        "redirect_uris": ["https://a.example.com/callback"],
        "logo_uri": "https://a.example.com/logo.png",
    })
}

fn with(mut body: Value, member: &str, value: Value) -> Value {
    body[member] = value;
    body
}

fn create(fake: &Fake<Telnyx>, body: &Value) -> Answer {
    ask(fake, KEY, &format!("POST {CLIENTS}"), body)
}

fn created(fake: &Fake<Telnyx>, name: &str) -> String {
    create(fake, &wanted(name)).body["data"]["client_id"].as_str().unwrap().to_owned()
}

fn on(fake: &Fake<Telnyx>, verb: &str, id: &str, body: &Value) -> Answer {
    ask(fake, KEY, &format!("{verb} {CLIENTS}/{id}"), body)
}

fn list(fake: &Fake<Telnyx>, key: &str, query: &str) -> (Vec<String>, Value) {
    let answer = ask(fake, key, &format!("GET {CLIENTS}?{query}"), &Value::Null);
    assert_eq!(answer.status, 200, "{query}");
    let names =
        answer.body["data"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned());
    (names.collect(), answer.body["meta"].clone())
}

#[test]
fn a_client_lives() {
    let fake = documented();
    let answer = create(&fake, &wanted("one"));
    assert_eq!(answer.status, 201);
    let (id, secret) = (&answer.body["data"]["client_id"], &answer.body["data"]["client_secret"]);
    let (id, secret) = (id.as_str().unwrap(), secret.as_str().unwrap());
    assert!(secret.contains("CANARY") && fake.at(|provider| provider.authenticates(id, secret)));

    let read = on(&fake, "GET", id, &Value::Null);
    assert_eq!((read.status, &read.body["data"]["client_secret"]), (200, &Value::Null), "told once");
    let changed = on(&fake, "PUT", id, &json!({ "name": "two", "require_pkce": true }));
    assert_eq!((changed.status, &changed.body["data"]["name"]), (200, &json!("two")));
    assert_eq!(changed.body["data"]["client_secret"], Value::Null);

    let deleted = on(&fake, "DELETE", id, &Value::Null);
    assert_eq!((deleted.status, deleted.body), (204, Value::Null));
    for (verb, body) in [("GET", Value::Null), ("PUT", json!({})), ("DELETE", Value::Null)] {
        let answer = on(&fake, verb, id, &body);
        assert_eq!((answer.status, &answer.body["error"]), (404, &json!("not_found")), "{verb}: it is gone");
    }
    assert!(!fake.at(|provider| provider.authenticates(id, secret)));
    assert_eq!(fake.at(|provider| provider.secrets_given()), [secret]);
    fake.assert_contract_held();
}

#[test]
fn only_one_of_the_two_paths_is_there() {
    for (collection, path, other) in [
        (Collection::Documented, "/v2/oauth/clients", "/v2/oauth_clients"),
        (Collection::OfSdks, "/v2/oauth_clients", "/v2/oauth/clients"),
    ] {
        let fake = provider(|provider| {
            provider.collection = collection;
            provider.add_foreign(1);
        });
        let id = fake.at(|provider| provider.clients()).remove(0).client_id;
        let lines = |path: &str| ["GET", "POST"].map(|verb| (format!("{verb} {path}"), wanted("n")));
        for (line, body) in lines(other) {
            let body = if line.starts_with("GET") { Value::Null } else { body };
            let answer = ask(&fake, KEY, &line, &body);
            assert_eq!((answer.status, &answer.body["errors"][0]["code"]), (404, &json!("10005")), "{line}");
        }
        for verb in ["GET", "DELETE"] {
            let answer = ask(&fake, KEY, &format!("{verb} {other}/{id}"), &Value::Null);
            assert_eq!(answer.status, 404, "{verb}: which does not mean that the client is gone");
        }
        assert_eq!(ask(&fake, KEY, &format!("GET {path}/{id}"), &Value::Null).status, 200, "{path}");
        fake.assert_contract_held();
    }
}

#[test]
fn what_is_told_of_a_secret_later() {
    for (later, expected, reason) in [
        (LaterSecret::Null, |_: &str| Some(Value::Null), "null"),
        (LaterSecret::Absent, |_: &str| None, "not there"),
        (LaterSecret::Shown, |secret: &str| Some(json!(secret)), "the secret itself"),
    ] as [(LaterSecret, fn(&str) -> Option<Value>, &str); 3]
    {
        let fake = provider(|provider| provider.later_secret = later);
        let id = created(&fake, "one");
        let secret = fake.at(|provider| provider.client(&id)).unwrap().client_secret.unwrap();
        let listed = ask(&fake, KEY, &format!("GET {CLIENTS}"), &Value::Null).body["data"][0].clone();
        let read = on(&fake, "GET", &id, &Value::Null).body["data"].clone();
        let changed = on(&fake, "PUT", &id, &json!({})).body["data"].clone();
        for shown in [listed, read, changed] {
            assert_eq!(shown.get("client_secret").cloned(), expected(&secret), "{reason}");
        }
        fake.assert_contract_held();
    }
}

#[test]
fn a_public_client_has_no_secret() {
    let fake = provider(|provider| provider.later_secret = LaterSecret::Shown);
    let answer = create(&fake, &with(wanted("one"), "client_type", json!("public")));
    assert_eq!((answer.status, &answer.body["data"]["client_secret"]), (201, &Value::Null));
    assert!(fake.at(|provider| provider.secrets_given()).is_empty());
    fake.assert_contract_held();
}

#[test]
fn an_update_keeps_or_resets_what_it_leaves_out() {
    let changes = json!({ "allowed_scopes": ["other"] });
    let rows = [
        (Omitted::Kept, vec!["client_credentials"], json!("https://a.example.com/logo.png"), "kept"),
        (Omitted::Reset, vec![], Value::Null, "reset: the one way to clear a URI"),
    ];
    for (omitted, grants, logo, reason) in rows {
        let fake = provider(|provider| provider.omitted = omitted);
        let id = created(&fake, "one");
        let shown = on(&fake, "PUT", &id, &changes).body["data"].clone();
        assert_eq!(
            (&shown["allowed_scopes"], &shown["name"]),
            (&json!(["other"]), &json!("one")),
            "{reason}"
        );
        assert_eq!((&shown["allowed_grant_types"], &shown["logo_uri"]), (&json!(grants), &logo), "{reason}");
        fake.assert_contract_held();
    }
}

#[test]
fn what_is_not_valid_is_refused() {
    let fake = documented();
    let id = created(&fake, "one");
    let without = |member: &str| {
        let mut body = wanted("n");
        body.as_object_mut().unwrap().remove(member);
        body
    };
    let rows = [
        ("POST", with(wanted("n"), "isTrusted", json!(true)), 422, "an additional member"),
        ("POST", without("name"), 422, "no name"),
        ("POST", without("client_type"), 422, "no type"),
        ("POST", with(wanted("n"), "client_type", json!("native")), 422, "another type"),
        ("POST", with(wanted("n"), "allowed_grant_types", json!(["password"])), 422, "another grant"),
        ("POST", with(wanted("n"), "redirect_uris", json!(["/callback"])), 422, "no absolute URI"),
        ("POST", with(wanted("n"), "require_pkce", json!("yes")), 422, "no boolean"),
        ("POST", json!([]), 400, "no object"),
        (
            "PUT",
            json!({ "client_type": "confidential" }),
            422,
            "a client's type is fixed, even if it is the same",
        ),
        ("PUT", json!({ "logo_uri": null }), 422, "null does not clear a URI"),
        ("PUT", json!({ "logo_uri": "" }), 422, "nor does nothing"),
        ("PUT", json!({ "client_secret": "CANARY" }), 422, "nobody chooses a secret"),
    ];
    let before = fake.at(|provider| provider.clients());
    for (verb, body, status, reason) in rows {
        let answer = match verb {
            "POST" => create(&fake, &body),
            _ => on(&fake, verb, &id, &body),
        };
        assert_eq!((answer.status, &answer.body["error"]), (status, &json!("invalid_request")), "{reason}");
        assert!(!fake.take_violations().is_empty(), "{reason}: we must not send that");
    }
    assert_eq!(fake.at(|provider| provider.clients()), before, "none of them had an effect");
}

#[test]
fn lists_come_in_pages() {
    let fake = provider(|provider| provider.add_foreign(45));
    let rows = [
        ("", 20, (1, 20, 45, 3), "what is not asked for has its default"),
        ("page%5Bnumber%5D=3", 5, (3, 20, 45, 3), "the last page is short"),
        ("page[number]=4", 0, (4, 20, 45, 3), "behind it there is nothing"),
        ("page[size]=100", 45, (1, 100, 45, 1), "as large as can be"),
        ("page[size]=45", 45, (1, 45, 45, 1), "full to the brim"),
        ("filter[name]=none", 0, (1, 20, 0, 0), "nothing at all"),
    ];
    for (query, shown, (number, size, results, pages), reason) in rows {
        let meta = json!({
            "page_number": number, "page_size": size, "total_results": results, "total_pages": pages,
        });
        let (names, told) = list(&fake, KEY, query);
        assert_eq!((names.len(), told), (shown, meta), "{reason}");
    }
    fake.assert_contract_held();
    for query in ["page[size]=101", "page[size]=0", "page[number]=0", "page[number]=x"] {
        let answer = ask(&fake, KEY, &format!("GET {CLIENTS}?{query}"), &Value::Null);
        assert_eq!((answer.status, &answer.body["errors"][0]["code"]), (400, &json!("10015")), "{query}");
        assert!(!fake.take_violations().is_empty(), "{query}: we must not ask that");
    }
}

#[test]
fn a_client_created_between_two_pages_shows_another_one_twice() {
    let fake = provider(|provider| provider.add_foreign(4));
    let page = |number: u32| {
        let query = format!("page[size]=2&page[number]={number}");
        let answer = ask(&fake, KEY, &format!("GET {CLIENTS}?{query}"), &Value::Null);
        [0, 1].map(|index| answer.body["data"][index]["client_id"].clone())
    };
    let first = page(1);
    created(&fake, "one");
    assert_eq!(page(2)[0], first[1]);
    fake.assert_contract_held();
}

#[test]
fn lists_can_be_filtered() {
    let fake = documented();
    for name in ["app", "app", "App", "app two"] {
        created(&fake, name);
    }
    let public = create(&fake, &with(wanted("public"), "client_type", json!("public")));
    let id = public.body["data"]["client_id"].as_str().unwrap();
    let rows = [
        ("filter[name]=app".to_owned(), vec!["app", "app"], "exactly, and names need not differ"),
        ("filter[name][contains]=app".to_owned(), vec!["app two", "app", "app"], "a part"),
        (format!("filter[client_id]={id}"), vec!["public"], "an id"),
        ("filter[client_type]=public&filter[verified]=true".to_owned(), vec!["public"], "a type"),
        ("filter[allowed_grant_types][contains]=refresh_token".to_owned(), vec![], "a grant type"),
    ];
    for (query, expected, reason) in rows {
        assert_eq!(list(&fake, KEY, &query).0, expected, "{reason}");
    }
    fake.at(|provider| provider.filters_loosely = true);
    assert_eq!(list(&fake, KEY, "filter[name]=app").0, ["app two", "app", "app"], "not exactly, if so told");
    fake.assert_contract_held();
}

#[test]
fn a_key_sees_its_organisation_only() {
    let fake = documented();
    let id = created(&fake, "one");
    let line = format!("GET {CLIENTS}/{id}");
    assert_eq!(list(&fake, COLLEAGUE, "").0, ["one"]);
    assert_eq!(list(&fake, OTHER, "").0, [""; 0], "empty, and right");
    assert_eq!(ask(&fake, OTHER, &line, &Value::Null).status, 404);
    fake.at(|provider| provider.replace_key(KEY, "KEY_new"));
    assert_eq!(ask(&fake, "KEY_new", &line, &Value::Null).status, 200, "a new key for the same");
    let answer = ask(&fake, KEY, &line, &Value::Null);
    assert_eq!(
        (answer.status, &answer.body["errors"][0]["code"]),
        (401, &json!("10009")),
        "the old one is void"
    );
    fake.assert_contract_held();
}

#[test]
fn all_errors_can_have_the_gateways_form() {
    let fake = provider(|provider| provider.gateway_errors_only = true);
    let answer = on(&fake, "GET", UNKNOWN, &Value::Null);
    assert_eq!((answer.status, &answer.body["errors"][0]["code"]), (404, &json!("10005")));
    fake.assert_contract_held();
}

#[test]
fn a_second_client_of_a_name_can_be_refused() {
    for status in [409, 422] {
        let fake = provider(|provider| provider.refuses_duplicates = Some(status));
        let id = created(&fake, "one");
        let answer = create(&fake, &wanted("one"));
        assert_eq!((answer.status, &answer.body["errors"][0]["code"]), (status, &json!("10012")));
        assert_eq!(on(&fake, "PUT", &id, &json!({ "name": "one" })).status, 200, "it may keep its own");
        created(&fake, "two");
        assert_eq!(on(&fake, "PUT", &id, &json!({ "name": "two" })).status, status, "but not take another's");
        fake.assert_contract_held();
    }
}

#[tokio::test(start_paused = true)]
async fn too_many_requests_are_refused() {
    let rows = [
        (RetryHint::None, None, None, "the limit's headers tell how long"),
        (RetryHint::Seconds, Some("30"), None, "in seconds"),
        (RetryHint::Milliseconds, None, Some("30000"), "in milliseconds"),
    ];
    for (hint, seconds, milliseconds, reason) in rows {
        let fake = provider(|provider| {
            provider.retry_hint = hint;
            provider.throttle_for(Duration::from_secs(30));
        });
        let answer = create(&fake, &wanted("one"));
        assert_eq!((answer.status, &answer.body["errors"][0]["code"]), (429, &json!("10011")), "{reason}");
        assert_eq!(answer.header("x-ratelimit-reset"), Some("30"), "{reason}");
        let told = (answer.header("retry-after"), answer.header("retry-after-ms"));
        assert_eq!(told, (seconds, milliseconds), "{reason}");
        advance(Duration::from_secs(30)).await;
        assert_eq!(create(&fake, &wanted("one")).status, 201, "{reason}");
        assert_eq!(fake.at(|provider| provider.clients().len()), 1, "what was refused had no effect");
        fake.assert_contract_held();
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_has_its_limit() {
    let fake = provider(|provider| provider.set_limit(2));
    let get = || {
        let answer = ask(&fake, KEY, &format!("GET {CLIENTS}"), &Value::Null);
        let told = |name: &str| answer.header(&format!("x-ratelimit-{name}")).unwrap().to_owned();
        (answer.status, told("remaining"), told("reset"))
    };
    let told = |status: u16, left: u32, reset: u32| (status, left.to_string(), reset.to_string());
    assert_eq!([get(), get()], [told(200, 1, 60), told(200, 0, 60)]);
    advance(Duration::from_millis(10_500)).await;
    assert_eq!([get(), get()], [told(429, 0, 50), told(429, 0, 50)], "until the minute is over");
    assert_eq!(list(&fake, OTHER, "").0, [""; 0], "another key has its own");
    advance(Duration::from_millis(49_500)).await;
    assert_eq!(get(), told(200, 1, 60));
    fake.assert_contract_held();
}

#[tokio::test(start_paused = true)]
async fn a_list_may_lag_behind() {
    let fake = provider(|provider| provider.stale_list_for(Duration::from_secs(5)));
    let id = created(&fake, "one");
    assert_eq!(list(&fake, KEY, "").0, [""; 0]);
    assert_eq!(on(&fake, "GET", &id, &Value::Null).status, 200, "though the client itself is there");
    advance(Duration::from_secs(5)).await;
    assert_eq!(list(&fake, KEY, "").0, ["one"]);
    fake.assert_contract_held();
}

#[tokio::test(start_paused = true)]
async fn a_client_knows_when_it_was_changed() {
    let fake = documented();
    let id = created(&fake, "one");
    advance(Duration::from_millis(1500)).await;
    let shown = on(&fake, "PUT", &id, &json!({})).body["data"].clone();
    assert_eq!(shown["created_at"], "2026-01-01T00:00:00.000000Z");
    assert_eq!(shown["updated_at"], "2026-01-01T00:00:01.500000Z", "even if nothing changed");
    fake.assert_contract_held();
}

fn token(fake: &Fake<Telnyx>, id: &str, secret: &str, grant: &str) -> (u16, Value) {
    let encode = |part: &str| url::form_urlencoded::byte_serialize(part.as_bytes()).collect::<String>();
    let pair = format!("{}:{}", encode(id), encode(secret));
    let encoded = json!(ByteString(pair.into_bytes()));
    let credentials = format!("Basic {}", encoded.as_str().unwrap());
    let fields =
        [("authorization", credentials.as_str()), ("content-type", "application/x-www-form-urlencoded")];
    let body = format!("grant_type={grant}");
    let reply = fake.exchange(&request("POST /v2/oauth/token", &fields, &body)).unwrap();
    (reply.status.as_u16(), serde_json::from_slice(&reply.body).unwrap())
}

#[test]
fn a_secret_can_be_tried_out() {
    let fake = documented();
    let id = created(&fake, "one");
    let code = create(&fake, &with(wanted("two"), "allowed_grant_types", json!(["authorization_code"])));
    let code = code.body["data"]["client_id"].as_str().unwrap().to_owned();
    fake.at(|provider| provider.edit(&id, |client| client.client_secret = Some("CANARY +/:é".to_owned())));
    let secret = |id: &str| fake.at(|provider| provider.client(id)).unwrap().client_secret.unwrap();
    let rows = [
        (&id, secret(&id), 200, "access_token", "CANARY-telnyx-token-00000001", "the right one"),
        (&id, "wrong".to_owned(), 401, "error", "invalid_client", "another one"),
        (&UNKNOWN.to_owned(), secret(&id), 401, "error", "invalid_client", "an unknown client"),
        (
            &code,
            secret(&code),
            400,
            "error",
            "unauthorized_client",
            "right, but not to be found out this way",
        ),
    ];
    for (id, secret, status, member, expected, reason) in rows {
        let (answered, body) = token(&fake, id, &secret, "client_credentials");
        assert_eq!((answered, &body[member]), (status, &json!(expected)), "{reason}");
    }
    fake.assert_contract_held();
    assert_eq!(token(&fake, &id, &secret(&id), "password").1["error"], "unsupported_grant_type");
    assert!(!fake.take_violations().is_empty(), "we must not ask that");
}

#[test]
fn no_two_secrets_are_the_same() {
    let fake = provider(|provider| provider.add_foreign(30));
    let secrets = fake.at(|provider| provider.secrets_given());
    assert_eq!(secrets.iter().collect::<BTreeSet<_>>().len(), 30);
    assert!(secrets.iter().all(|secret| secret.contains("CANARY-FOREIGN")));
}

#[test]
fn its_owner_can_change_it_by_hand() {
    let fake = documented();
    let (one, two) = (created(&fake, "one"), created(&fake, "two"));
    fake.at(|provider| provider.edit(&one, |client| client.client_type = "public".to_owned()));
    assert_eq!(on(&fake, "GET", &one, &Value::Null).body["data"]["client_type"], "public");
    fake.at(|provider| provider.remove(&two));
    assert_eq!(list(&fake, KEY, "").0, ["one"]);
    fake.assert_contract_held();
}
