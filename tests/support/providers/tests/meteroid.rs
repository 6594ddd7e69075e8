use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method};
use k8s_openapi::ByteString;
use serde_json::{Value, json};

use crate::providers::{Fake, Provider, Reply, Request, meteroid::*};

const OTHER_KEY: &str = "pv_prod_CANARY0000000000000000000002/5qPzXKrUT1cTvqsFwSh1tJ";
const APPS: &str = "/api/v1/oauth-apps";
const JSON: (&str, &str) = ("content-type", "application/json");
const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

fn request(line: &str, fields: &[(&str, &str)], body: &str) -> Request {
    let (method, path) = line.split_once(' ').unwrap();
    let field = |(name, value): &(&str, &str)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
    let headers: HeaderMap = fields.iter().map(field).collect();
    let method = method.parse::<Method>().unwrap();
    Request { method, path: path.to_owned(), query: Vec::new(), headers, body: Bytes::from(body.to_owned()) }
}

fn bearer(key: &str) -> String {
    format!("Bearer {key}")
}

fn told(reply: &Reply) -> (u16, Value) {
    (reply.status.as_u16(), serde_json::from_slice(&reply.body).unwrap_or_default())
}

/// A service that is held to its contract in the end.
struct Scene(Fake<Meteroid>);

impl Scene {
    fn new() -> Self {
        Self(Fake::new(Meteroid::new()))
    }

    fn ask(&self, line: &str, body: Option<&Value>) -> (u16, Value) {
        self.ask_as(KEY, line, body)
    }

    fn ask_as(&self, key: &str, line: &str, body: Option<&Value>) -> (u16, Value) {
        let body = body.map(Value::to_string).unwrap_or_default();
        self.send(line, &[("authorization", &bearer(key)), JSON], &body)
    }

    fn send(&self, line: &str, fields: &[(&str, &str)], body: &str) -> (u16, Value) {
        told(&self.0.exchange(&request(line, fields, body)).unwrap())
    }

    fn create(&self, name: &str) -> (App, String) {
        let (status, created) = self.ask(&format!("POST {APPS}"), Some(&app(name)));
        assert_eq!(status, 201, "{created}");
        let id = created["app"]["id"].as_str().unwrap();
        let app = self.0.at(|meteroid| meteroid.client(id)).unwrap();
        (app, created["client_secret"].as_str().unwrap().to_owned())
    }

    fn introspect(&self, client_id: &str, secret: &str) -> (u16, Value) {
        let pair = ByteString(format!("{client_id}:{secret}").into_bytes());
        let basic = format!("Basic {}", serde_json::to_value(pair).unwrap().as_str().unwrap());
        self.send("POST /api/v1/oauth/introspect", &[("authorization", &basic), FORM], "token=none")
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.0.assert_contract_held();
        }
    }
}

fn app(name: &str) -> Value {
    json!({ "name": name, "redirect_uris": ["https://app.example/b", "https://app.example/a"] })
}

#[tokio::test(start_paused = true)]
async fn an_application_shows_its_secret_once_and_then_a_hint() {
    let scene = Scene::new();
    let mut body = app("One");
    body["scopes"] = json!(["read"]);
    let (status, created) = scene.ask(&format!("POST {APPS}"), Some(&body));
    let secret = created["client_secret"].as_str().unwrap();
    let shown = &created["app"];
    assert_eq!((status, &shown["name"], &shown["scopes"]), (201, &json!("One"), &json!(["read"])));
    assert_eq!(shown["redirect_uris"], body["redirect_uris"]);
    assert_eq!(shown["client_secret_hint"], secret[secret.len() - 4..], "how it ends");
    assert_ne!(shown["id"], shown["client_id"], "two ids");
    assert_eq!((&shown["created_at"], &shown["updated_at"]), (&json!("2026-01-01T00:00:00Z"), &Value::Null));
    assert!(shown.get("tenant_id").is_some(), "a member that no document has");

    let id = shown["id"].as_str().unwrap();
    assert_eq!(&scene.ask(&format!("GET {APPS}/{id}"), None), &(200, shown.clone()), "no secret again");
    assert_eq!(scene.ask(&format!("GET {APPS}"), None), (200, json!({ "data": [shown] })), "nor here");
}

#[tokio::test(start_paused = true)]
async fn scopes_may_be_null_or_absent() {
    let scene = Scene::new();
    let (without, _) = scene.create("Without");
    let mut body = app("Null");
    body["scopes"] = Value::Null;
    let (status, with_null) = scene.ask(&format!("POST {APPS}"), Some(&body));
    assert_eq!((status, &with_null["app"]["scopes"]), (201, &json!([])));
    assert_eq!(without.scopes, Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_name_is_taken_once_in_an_organisation() {
    let scene = Scene::new();
    scene.0.at(|meteroid| meteroid.add_organization(OTHER_KEY));
    let (first, _) = scene.create("One");
    let line = format!("POST {APPS}");
    let rows = [
        (KEY, "One", 409, "the same name"),
        (KEY, "one", 201, "case matters"),
        (OTHER_KEY, "One", 201, "another organisation"),
        (OTHER_KEY, "One", 409, "the same name there"),
    ];
    for (key, name, expected, reason) in rows {
        let (status, answer) = scene.ask_as(key, &line, Some(&app(name)));
        assert_eq!(status, expected, "{reason}");
        assert!(status == 201 || answer["code"] == "CONFLICT", "{reason}: {answer}");
    }
    assert_eq!(scene.ask(&format!("DELETE {APPS}/{}", first.id), None).0, 204);
    assert_eq!(scene.ask(&line, Some(&app("One"))).0, 201, "the name is free again");
}

#[tokio::test(start_paused = true)]
async fn an_organisation_sees_all_of_its_own_and_nothing_else() {
    let scene = Scene::new();
    let second_key = "pv_prod_CANARY0000000000000000000003/7n42DGM5Tflk9n8mt7Fhc7";
    let foreign = scene.0.at(|meteroid| {
        meteroid.add_organization(OTHER_KEY);
        meteroid.add_key(second_key, &meteroid.organization_of(KEY));
        meteroid.add_foreign(150)
    });
    let (own, _) = scene.create("One");
    let list = format!("GET {APPS}");
    let count = |key: &str| scene.ask_as(key, &list, None).1["data"].as_array().unwrap().len();
    assert_eq!(count(KEY), 151, "no pages, and what others made is in it");
    assert_eq!(count(second_key), 151, "whichever key");
    assert_eq!(count(OTHER_KEY), 0, "not another organisation's");
    let one = format!("GET {APPS}/{}", own.id);
    assert_eq!(scene.ask_as(OTHER_KEY, &one, None).0, 404, "nor by id");
    assert_eq!(scene.ask(&format!("GET {APPS}/{}", foreign[0]), None).0, 200);
    let secret = scene.0.at(|meteroid| meteroid.client(&foreign[0])).unwrap().client_secret;
    assert!(secret.contains("CANARY-FOREIGN"));

    scene.0.at(|meteroid| meteroid.stale_list_for(Duration::from_secs(2)));
    scene.create("Two");
    scene.0.at(|meteroid| meteroid.remove(&foreign[0]));
    assert_eq!(scene.ask(&list, None).1["data"][0]["id"], foreign[0], "a list that lags behind");
    assert_eq!(count(KEY), 151, "without what is new");
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!(scene.ask(&list, None).1["data"][0]["id"], foreign[1], "and catches up");
}

#[tokio::test(start_paused = true)]
async fn a_rotated_secret_replaces_the_old_one_at_once() {
    let scene = Scene::new();
    let (app, old) = scene.create("One");
    assert_eq!(scene.introspect(&app.client_id, &old), (200, json!({ "active": false })), "the right pair");
    let rows = [
        (app.client_id.as_str(), "wrong", "a wrong secret"),
        (&app.id, &old, "the other id"),
        ("mcl_none", &old, "no such client"),
    ];
    for (client_id, secret, reason) in rows {
        let refused = (401, json!({ "error": "invalid_client" }));
        assert_eq!(scene.introspect(client_id, secret), refused, "{reason}");
    }

    tokio::time::advance(Duration::from_secs(1)).await;
    let (status, rotated) = scene.ask(&format!("POST {APPS}/{}/rotate", app.id), None);
    let new = rotated["client_secret"].as_str().unwrap();
    assert_eq!((status, &rotated["client_secret_hint"]), (200, &json!(hint(new))));
    assert_eq!(scene.introspect(&app.client_id, &old).0, 401, "no overlap");
    assert_eq!(scene.introspect(&app.client_id, new).0, 200);
    let (_, shown) = scene.ask(&format!("GET {APPS}/{}", app.id), None);
    assert_eq!(shown["client_secret_hint"], hint(new), "so a rotation by others is seen");
    assert_eq!(shown["updated_at"], "2026-01-01T00:00:01Z");
    assert_eq!(scene.0.at(|meteroid| meteroid.live_secrets(&app.id)), 1);
    assert_eq!(scene.0.at(|meteroid| meteroid.secrets_given()), [old, new.to_owned()]);
}

#[tokio::test(start_paused = true)]
async fn an_application_that_was_switched_off_does_not_authenticate() {
    let scene = Scene::new();
    let (app, secret) = scene.create("One");
    scene.0.at(|meteroid| meteroid.edit(&app.id, |app| app.is_active = false));
    assert_eq!(scene.ask(&format!("GET {APPS}/{}", app.id), None).1["is_active"], false);
    assert_eq!(scene.introspect(&app.client_id, &secret).0, 401);
    assert!(!scene.0.at(|meteroid| meteroid.authenticates(&app.client_id, &secret)));
}

#[tokio::test(start_paused = true)]
async fn a_deleted_application_is_gone() {
    let scene = Scene::new();
    let (app, secret) = scene.create("One");
    let path = format!("{APPS}/{}", app.id);
    assert_eq!(scene.ask(&format!("DELETE {path}"), None), (204, Value::Null));
    for line in [format!("GET {path}"), format!("DELETE {path}"), format!("POST {path}/rotate")] {
        let (status, refused) = scene.ask(&line, None);
        assert_eq!((status, refused["code"].as_str()), (404, Some("NOT_FOUND")), "{line}");
    }
    assert_eq!(scene.introspect(&app.client_id, &secret).0, 401);
    assert_eq!(scene.0.at(|meteroid| (meteroid.clients(), meteroid.live_secrets(&app.id))), (Vec::new(), 0));
}

#[tokio::test(start_paused = true)]
async fn nothing_can_be_changed() {
    let scene = Scene::new();
    let (app, _) = scene.create("One");
    for method in ["PUT", "PATCH"] {
        let line = format!("{method} {APPS}/{}", app.id);
        assert_eq!(scene.ask(&line, Some(&json!({ "name": "Two" }))).0, 405, "{method}");
        assert_eq!(scene.0.take_violations().len(), 2, "the contract knows neither request nor reply");
    }
    assert_eq!(scene.0.at(|meteroid| meteroid.clients()), [app]);
}

#[tokio::test(start_paused = true)]
async fn the_framework_refuses_in_plain_text_and_the_service_in_json() {
    let scene = Scene::new();
    let key = bearer(KEY);
    let (create, text) = (format!("POST {APPS}"), ("content-type", "text/plain"));
    let good = app("One").to_string();
    let large = json!({ "name": "x".repeat(BODY_LIMIT), "redirect_uris": ["https://app.example"] });
    let rows = [
        (JSON, "{", 400, false, "no JSON"),
        (text, &good, 415, false, "declared as something else"),
        (JSON, r#"{"name":"One"}"#, 422, false, "no redirect URIs"),
        (JSON, r#"{"name":1,"redirect_uris":["https://app.example"]}"#, 422, false, "the name is a number"),
        (JSON, "[]", 422, false, "no object"),
        (JSON, r#"{"name":"","redirect_uris":["https://app.example"]}"#, 400, true, "no name"),
        (JSON, r#"{"name":"One","redirect_uris":[]}"#, 400, true, "no place to return to"),
        (JSON, r#"{"name":"One","redirect_uris":["/cb"]}"#, 400, true, "no URL"),
    ];
    for (media_type, body, expected, in_json, reason) in rows {
        let reply =
            scene.0.exchange(&request(&create, &[("authorization", &key), media_type], body)).unwrap();
        assert_eq!(reply.status, expected, "{reason}");
        assert_eq!(told(&reply).1["code"] == "BAD_REQUEST", in_json, "{reason}");
        assert!(!reply.body.is_empty(), "{reason}");
        let violations = scene.0.take_violations();
        assert!(violations.len() == 1 && !violations[0].contains(": reply "), "{reason}: {violations:?}");
    }
    assert_eq!(scene.ask(&create, Some(&large)).0, 413, "more than is read");
    assert_eq!(scene.0.at(|meteroid| meteroid.clients()), []);
}

#[tokio::test(start_paused = true)]
async fn an_id_of_the_wrong_form_is_not_an_unknown_one() {
    let scene = Scene::new();
    let (app, _) = scene.create("One");
    let rows = [
        ("app_0", 404, 0, "well formed"),
        (app.client_id.as_str(), 400, 1, "the client id manages nothing"),
        ("app_", 400, 1, "nothing after the prefix"),
        ("app_%2F", 400, 1, "no letter and no digit"),
    ];
    for (id, expected, violations, reason) in rows {
        assert_eq!(scene.ask(&format!("GET {APPS}/{id}"), None).0, expected, "{reason}");
        assert_eq!(scene.0.take_violations().len(), violations, "{reason}");
    }
}

#[tokio::test(start_paused = true)]
async fn unknown_members_are_ignored_but_not_ours_to_send() {
    let scene = Scene::new();
    let mut body = app("One");
    body["description"] = json!("ours");
    let (status, created) = scene.ask(&format!("POST {APPS}"), Some(&body));
    assert_eq!((status, created["app"].get("description")), (201, None));
    assert_eq!(scene.0.take_violations().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_key_opens_until_it_ends() {
    let scene = Scene::new();
    scene.0.at(|meteroid| {
        meteroid.add_organization(OTHER_KEY);
        meteroid.revoke_key(KEY, KEY_CACHE);
        meteroid.expire_key(OTHER_KEY);
    });
    let code = |key: &str| {
        let (status, answer) = scene.ask_as(key, &format!("GET {APPS}"), None);
        format!("{status} {}", answer["code"].as_str().unwrap_or_default())
    };
    assert_eq!(code("pv_prod_none/0"), "401 UNAUTHORIZED", "unknown");
    assert_eq!(code(OTHER_KEY), "401 TOKEN_EXPIRED", "expired");
    assert_eq!(code(KEY), "200 ", "revoked, but nobody noticed");
    tokio::time::advance(KEY_CACHE).await;
    assert_eq!(code(KEY), "401 UNAUTHORIZED", "noticed");
    let (status, answer) = scene.send(&format!("GET {APPS}"), &[], "");
    assert_eq!((status, answer["code"].as_str()), (401, Some("UNAUTHORIZED")), "no key at all");
}

#[tokio::test(start_paused = true)]
async fn nothing_works_before_connect_is_enabled() {
    let scene = Scene::new();
    let (app, _) = scene.create("One");
    let lines =
        [format!("GET {APPS}"), format!("GET {APPS}/{}", app.id), format!("DELETE {APPS}/{}", app.id)];
    for (connect, expected) in
        [(Connect::Forbidden, (403, "FORBIDDEN")), (Connect::NotFound, (404, "NOT_FOUND"))]
    {
        scene.0.at(|meteroid| meteroid.connect = connect);
        for line in &lines {
            let (status, refused) = scene.ask(line, None);
            assert_eq!((status, refused["code"].as_str().unwrap()), expected, "{line}, {connect:?}");
        }
    }
    assert_eq!(scene.0.at(|meteroid| meteroid.clients()), [app], "a 404 is no proof of a deletion");
}

#[tokio::test(start_paused = true)]
async fn acting_on_a_connected_account_breaks_the_contract() {
    let scene = Scene::new();
    let fields = [("authorization", &*bearer(KEY)), (CONNECT_ACCOUNT, "org_1")];
    assert_eq!(scene.send(&format!("GET {APPS}"), &fields, "").0, 403);
    let violations = scene.0.take_violations();
    assert!(violations.len() == 1 && violations[0].contains(CONNECT_ACCOUNT), "{violations:?}");
}

#[tokio::test(start_paused = true)]
async fn too_many_requests_are_refused_with_one_header_or_another() {
    let scene = Scene::new();
    let rows = [
        (RetryHeaders::Seconds, Some("3"), None),
        (RetryHeaders::Milliseconds, None, Some("3000")),
        (RetryHeaders::Both, Some("3"), Some("3000")),
        (RetryHeaders::Neither, None, None),
    ];
    let list = request(&format!("GET {APPS}"), &[("authorization", &bearer(KEY))], "");
    scene.0.at(|meteroid| meteroid.throttle_for(Duration::from_millis(2500)));
    for (retry_headers, seconds, milliseconds) in rows {
        scene.0.at(|meteroid| meteroid.retry_headers = retry_headers);
        let reply = scene.0.exchange(&list).unwrap();
        let header = |name: &str| reply.headers.get(name).map(|value| value.to_str().unwrap());
        assert_eq!((header("retry-after"), header("retry-after-ms")), (seconds, milliseconds));
        let (status, body) = told(&reply);
        assert_eq!((status, body["code"].as_str()), (429, Some("TOO_MANY_REQUESTS")), "{retry_headers:?}");
    }
    tokio::time::advance(Duration::from_millis(2500)).await;
    assert_eq!(scene.0.exchange(&list).unwrap().status, 200);

    scene.0.at(|meteroid| meteroid.set_limit(2));
    let statuses = [(); 2].map(|()| scene.0.exchange(&list).unwrap().status.as_u16());
    assert_eq!(statuses, [200, 429], "the second and the third within the minute");
}

#[tokio::test(start_paused = true)]
async fn every_reply_has_a_request_id_of_its_own() {
    let scene = Scene::new();
    let lines =
        [format!("GET {APPS}"), format!("GET {APPS}/app_0"), "POST /api/v1/oauth/introspect".to_owned()];
    let id = |line: &String| {
        let request = request(line, &[("authorization", &bearer(KEY)), FORM], "");
        let reply = scene.0.at(|meteroid| meteroid.answer(&request));
        reply.headers["x-request-id"].to_str().unwrap().to_owned()
    };
    assert_eq!(lines.iter().map(id).collect::<BTreeSet<_>>().len(), 3, "whatever the status");
}

#[tokio::test(start_paused = true)]
async fn the_service_may_stand_below_a_path() {
    let scene = Scene::new();
    scene.0.at(|meteroid| meteroid.set_prefix("/billing"));
    assert_eq!(scene.ask(&format!("GET /billing{APPS}"), None).0, 200);
}
