use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, header};
use serde_json::{Value, json};

use crate::providers::{Fake, Provider, Reply, Request, teable::*};

const MINE: &str = "operator@example.com";
const CLIENTS: &str = "/api/oauth/client";
const WINDOW: Duration = Duration::from_mins(1);

/// A request; `credential` is a header field, or nothing.
fn request(line: &str, credential: &str, body: Option<&Value>) -> Request {
    let (method, path) = line.split_once(' ').unwrap();
    let mut headers = HeaderMap::new();
    if let Some((name, value)) = credential.split_once(": ") {
        headers.insert(http::HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
    }
    if body.is_some() {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    }
    let body = body.map_or_else(Bytes::new, |body| body.to_string().into());
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    Request { method, path: path.to_owned(), query: Vec::new(), headers, body }
}

fn told(reply: &Reply) -> (u16, Value) {
    (reply.status.as_u16(), serde_json::from_slice(&reply.body).unwrap_or_default())
}

/// A fake, with a session of its first user.
struct Scene {
    fake: Fake<Teable>,
    session: String,
}

impl Scene {
    fn new() -> Self {
        let fake = Fake::new(Teable::new());
        let session = signed_in(&fake, MINE, PASSWORD);
        Self { fake, session }
    }

    fn ask(&self, line: &str, body: Option<&Value>) -> (u16, Value) {
        self.ask_with(&self.session, line, body)
    }

    fn ask_with(&self, credential: &str, line: &str, body: Option<&Value>) -> (u16, Value) {
        told(&self.fake.exchange(&request(line, credential, body)).unwrap())
    }

    /// Asks what no driver may ask: the contract has to object to the request, and to know the reply.
    fn ask_wrongly(&self, line: &str, body: &Value, reason: &str) -> (u16, Value) {
        let answer = self.ask(line, Some(body));
        let violations = self.fake.take_violations();
        assert_eq!(violations.len(), 1, "{reason}: {violations:?}");
        assert!(!violations[0].contains(": reply "), "{reason}: {violations:?}");
        answer
    }

    fn create(&self, body: &Value) -> (String, Value) {
        let (status, client) = self.ask(&format!("POST {CLIENTS}"), Some(body));
        assert_eq!(status, 201, "{client}");
        (client["clientId"].as_str().unwrap().to_owned(), client)
    }

    fn get(&self, id: &str) -> Value {
        let (status, client) = self.ask(&format!("GET {CLIENTS}/{id}"), None);
        assert_eq!(status, 200, "{client}");
        client
    }

    fn put(&self, id: &str, body: &Value) -> Value {
        let (status, client) = self.ask(&format!("PUT {CLIENTS}/{id}"), Some(body));
        assert_eq!(status, 200, "{client}");
        client
    }

    fn add_secret(&self, id: &str) -> Value {
        let (status, secret) = self.ask(&format!("POST {CLIENTS}/{id}/secret"), None);
        assert_eq!(status, 201, "{secret}");
        secret
    }

    fn token(&self, id: &str, secret: &str) -> u16 {
        let mut request = request("POST /api/oauth/access_token", "", None);
        let media_type = HeaderValue::from_static("application/x-www-form-urlencoded");
        request.headers.insert(header::CONTENT_TYPE, media_type);
        let form = format!("grant_type=authorization_code&code=none&client_id={id}&client_secret={secret}");
        request.body = form.into();
        self.fake.exchange(&request).unwrap().status.as_u16()
    }

    fn listed(&self) -> Vec<Value> {
        let (status, list) = self.ask(&format!("GET {CLIENTS}"), None);
        assert_eq!(status, 200, "{list}");
        list.as_array().unwrap().clone()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.fake.assert_contract_held();
        }
    }
}

fn sign_in(fake: &Fake<Teable>, email: &str, password: &str) -> Reply {
    let body = json!({ "email": email, "password": password });
    fake.exchange(&request("POST /api/auth/signin", "", Some(&body))).unwrap()
}

fn signed_in(fake: &Fake<Teable>, email: &str, password: &str) -> String {
    let reply = sign_in(fake, email, password);
    assert_eq!(reply.status, 200);
    let cookies: Vec<_> = reply.headers.get_all(header::SET_COOKIE).iter().collect();
    let session = cookies
        .iter()
        .filter_map(|cookie| cookie.to_str().ok())
        .find(|cookie| cookie.starts_with("auth_session="));
    format!("cookie: {}", session.unwrap().split(';').next().unwrap())
}

fn full() -> Value {
    json!({
        "name": "App", "homepage": "https://app.example", "description": "ours", "logo": "logo.png",
        "redirectUris": ["https://app.example/b", "myapp://a"], "scopes": ["record|read", "table|read"],
    })
}

/// The full body with some members changed, or left out where the change is `null`.
fn full_but(changes: &Value) -> Value {
    let mut body = full();
    for (name, value) in changes.as_object().unwrap() {
        body[name] = value.clone();
    }
    without_nulls(body)
}

#[tokio::test(start_paused = true)]
async fn a_credential_opens_what_its_kind_may() {
    let scene = Scene::new();
    let (status, token) = scene.ask("GET /api/auth/temp-token", None);
    assert_eq!(status, 200);
    let temporary = format!("authorization: Bearer {}", token["accessToken"].as_str().unwrap());
    let personal = format!("authorization: Bearer {ACCESS_TOKEN}");
    let list = format!("GET {CLIENTS}");
    let rows = [
        (scene.session.as_str(), list.as_str(), 200, "", "a session is a user"),
        (&temporary, &list, 200, "", "so is the token that it gives"),
        (&personal, &list, 403, "restricted_resource", "an access token is none, though it is valid"),
        ("authorization: Bearer teable_none", &list, 401, "unauthorized", "an unknown token"),
        ("authorization: Bearer e.y.j", &list, 401, "unauthorized", "no token that the server signed"),
        ("cookie: auth_session=none", &list, 401, "unauthorized", "an unknown session"),
        ("", &list, 401, "unauthorized", "nobody"),
        (&temporary, "GET /api/auth/temp-token", 401, "unauthorized", "a token is not renewed by itself"),
    ];
    for (credential, line, expected, code, reason) in rows {
        let (status, body) = scene.ask_with(credential, line, None);
        assert_eq!((status, body["code"].as_str().unwrap_or_default()), (expected, code), "{reason}");
    }
    scene.fake.at(|teable| teable.switches.insert(Switch::AccessTokens));
    assert_eq!(scene.ask_with(&personal, &list, None).0, 200, "a server that is open to access tokens");
}

#[tokio::test(start_paused = true)]
async fn what_lets_in_ends_by_time() {
    let scene = Scene::new();
    let list = format!("GET {CLIENTS}");
    let (_, token) = scene.ask("GET /api/auth/temp-token", None);
    assert_eq!(token["expiresTime"], "2026-01-01T00:10:00.000Z", "as the server's own clock has it");
    let temporary = format!("authorization: Bearer {}", token["accessToken"].as_str().unwrap());

    tokio::time::advance(TEMP_TOKEN_LIFE).await;
    assert_eq!(scene.ask_with(&temporary, &list, None).0, 401, "the token lived for ten minutes");
    assert_eq!(scene.ask(&list, None).0, 200, "the session lives on");
    tokio::time::advance(SESSION_LIFE).await;
    assert_eq!(scene.ask(&list, None).0, 401, "the session ended");

    scene.fake.at(|teable| teable.session_life = Duration::from_secs(5));
    let short = signed_in(&scene.fake, MINE, PASSWORD);
    tokio::time::advance(Duration::from_secs(4)).await;
    assert_eq!(scene.ask_with(&short, &list, None).0, 200, "not over yet");
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(scene.ask_with(&short, &list, None).0, 401, "a server with shorter sessions");

    let ended = signed_in(&scene.fake, MINE, PASSWORD);
    scene.fake.at(Teable::end_sessions);
    assert_eq!(scene.ask_with(&ended, &list, None).0, 401, "ended by the server");
}

#[tokio::test(start_paused = true)]
async fn signing_in_fails_in_several_ways() {
    let fake = Fake::new(Teable::new());
    let code = |email: &str, password: &str| {
        let (status, body) = told(&sign_in(&fake, email, password));
        format!("{status} {}", body["code"].as_str().unwrap_or_default())
    };
    assert_eq!(code("OPERATOR@example.com", PASSWORD), "200 ", "case does not matter in an address");
    assert_eq!(code("none@example.com", PASSWORD), "400 invalid_credentials", "an unknown user");
    assert_eq!(code(MINE, "wrong password"), "400 invalid_credentials", "a wrong password");
    fake.at(|teable| teable.change_password(MINE, "CANARY-another"));
    assert_eq!(code(MINE, PASSWORD), "400 invalid_credentials", "the password was changed");
    assert_eq!(code(MINE, "CANARY-another"), "200 ", "to this one");

    fake.at(|teable| teable.lock_out_after(2, Duration::from_mins(3)));
    assert_eq!(code(MINE, "wrong password"), "400 invalid_credentials", "the first failure");
    assert_eq!(code(MINE, "wrong password"), "400 invalid_credentials", "the last one that is allowed");
    assert_eq!(code(MINE, "CANARY-another"), "429 too_many_requests", "locked out, right or wrong");
    tokio::time::advance(Duration::from_mins(3)).await;
    assert_eq!(code(MINE, "CANARY-another"), "200 ", "the lock-out is over");

    fake.at(|teable| teable.switches.insert(Switch::Captcha));
    assert_eq!(code(MINE, "CANARY-another"), "400 invalid_captcha", "nobody solved the captcha");
    let body = json!({ "email": MINE, "password": "CANARY-another", "turnstileToken": "solved" });
    let solved = fake.exchange(&request("POST /api/auth/signin", "", Some(&body))).unwrap();
    assert_eq!(solved.status, 200, "somebody did");
    fake.assert_contract_held();
}

#[tokio::test(start_paused = true)]
async fn a_session_cookie_is_neither_alone_nor_to_be_decoded() {
    let fake = Fake::new(Teable::new());
    let reply = sign_in(&fake, MINE, PASSWORD);
    let cookies = reply.headers.get_all(header::SET_COOKIE);
    assert_eq!(cookies.iter().count(), 2, "a load balancer adds its own");
    assert!(cookies.iter().any(|cookie| cookie.to_str().unwrap().contains("s%3A")), "escapes belong to it");
}

#[tokio::test(start_paused = true)]
async fn a_new_client_has_no_secret() {
    let scene = Scene::new();
    let (id, created) = scene.create(&full());
    let mut expected = full();
    expected["clientId"] = id.as_str().into();
    expected["id"] = created["id"].clone();
    assert!(created["id"].as_str().is_some_and(|internal| internal != id), "a second id of no use");
    assert_eq!((created, scene.get(&id)), (expected.clone(), expected), "no member `secrets`");

    let minimal = full_but(&json!({ "description": null, "logo": null, "scopes": null }));
    let (_, created) = scene.create(&minimal);
    let absent = ["description", "logo", "scopes"].iter().all(|name| created.get(name).is_none());
    assert!(absent, "what has no value is left out: {created}");
    assert_eq!(scene.fake.at(|teable| teable.clients().len()), 2, "two may have one name");

    scene.fake.at(|teable| teable.switches.insert(Switch::SecretOnCreate));
    let (id, created) = scene.create(&minimal);
    let secret = created["secrets"][0]["secret"].as_str().unwrap();
    assert!(scene.fake.at(|teable| teable.authenticates(&id, secret)), "some servers make one at once");
    assert_eq!(scene.get(&id)["secrets"][0]["secret"], mask(secret), "and show it once");
}

#[tokio::test(start_paused = true)]
async fn the_list_has_the_callers_own_clients_and_not_all_of_them() {
    let scene = Scene::new();
    let (id, _) = scene.create(&full());
    scene.fake.at(|teable| {
        teable.add_user("other@example.com", "CANARY-other", "teable_CANARY-other");
        teable.add_foreign(2);
        teable.add_foreign_of("other@example.com", 3);
    });
    let item = json!({
        "clientId": id, "name": "App", "homepage": "https://app.example", "description": "ours", "logo": "logo.png",
    });
    let list = scene.listed();
    assert_eq!((list.len(), &list[0]), (3, &item), "own ones, made by hand too, and five members each");
    assert!(list.iter().all(|item| item["clientId"] != BUILT_IN), "nor the built-in one");
    assert_eq!(scene.get(BUILT_IN)["clientId"], BUILT_IN, "though it is there");
    assert_eq!(scene.fake.at(|teable| teable.clients().len()), 6, "all are clients");

    scene.fake.at(|teable| teable.stale_list_for(Duration::from_secs(2)));
    scene.fake.at(|teable| {
        teable.add_foreign(1);
        teable.remove(&id);
    });
    assert_eq!(scene.listed(), list, "a list that lags behind: with what is gone, without what is new");
    tokio::time::advance(Duration::from_secs(2)).await;
    assert_eq!((scene.listed().len(), scene.listed()[0] == item), (3, false), "and catches up");
}

#[tokio::test(start_paused = true)]
async fn other_users_clients_are_open_by_id_unless_the_server_checks() {
    let scene = Scene::new();
    let foreign = scene.fake.at(|teable| {
        teable.add_user("other@example.com", "CANARY-other", "teable_CANARY-other");
        teable.add_foreign_of("other@example.com", 1).remove(0)
    });
    let path = format!("{CLIENTS}/{foreign}");
    assert_eq!(scene.get(&foreign)["name"], "By hand", "no check on reading");
    assert_eq!(scene.put(&foreign, &full())["name"], "App", "nor on writing");
    scene.fake.at(|teable| teable.switches.insert(Switch::OwnersOnly));
    let secret = scene.fake.at(|teable| teable.client(&foreign).unwrap().secrets.remove(0).id);
    let rows = [
        (format!("GET {path}"), None),
        (format!("PUT {path}"), Some(full())),
        (format!("POST {path}/secret"), None),
        (format!("DELETE {path}/secret/{secret}"), None),
        (format!("DELETE {path}"), None),
    ];
    for (line, body) in &rows {
        let (status, refused) = scene.ask(line, body.as_ref());
        assert_eq!((status, refused["code"].as_str()), (403, Some("restricted_resource")), "{line}");
    }
    scene.fake.at(|teable| teable.switches.remove(&Switch::OwnersOnly));
    assert_eq!(scene.ask(&format!("DELETE {path}"), None), (200, Value::Null), "nor on deleting");
    assert_eq!(scene.fake.at(|teable| teable.clients()), [], "it is gone");
}

#[tokio::test(start_paused = true)]
async fn an_update_clears_some_of_what_it_omits_and_keeps_the_rest() {
    let scene = Scene::new();
    let (id, created) = scene.create(&full());
    scene.add_secret(&id);
    let rows = [
        (json!({ "description": null, "logo": null }), json!({}), "an omitted description and logo stay"),
        (json!({ "scopes": null }), json!({ "scopes": null }), "omitted scopes are cleared"),
        (json!({ "scopes": [] }), json!({ "scopes": [] }), "no scopes are not unset scopes"),
        (
            json!({ "description": "", "logo": "" }),
            json!({ "description": "", "logo": "" }),
            "empty strings clear",
        ),
        (
            json!({ "scopes": ["view|read", "table|read", "view|read"] }),
            json!({ "scopes": ["view|read", "table|read"] }),
            "a scope counts once, the order stays",
        ),
        (
            json!({ "redirectUris": ["myapp://a", "https://app.example/b", "myapp://a"] }),
            json!({ "redirectUris": ["myapp://a", "https://app.example/b", "myapp://a"] }),
            "redirect URIs are kept as they are",
        ),
        (json!({ "allowDeviceFlow": true }), json!({}), "an older server knows no device flow"),
    ];
    for (change, difference, reason) in rows {
        scene.put(&id, &full());
        let mut expected = created.clone();
        for (name, value) in difference.as_object().unwrap() {
            expected[name] = value.clone();
        }
        // `secrets` is not in the answer, though there is one.
        assert_eq!(scene.put(&id, &full_but(&change)), without_nulls(expected), "{reason}");
    }
    assert_eq!(scene.fake.at(|teable| teable.live_secrets(&id)), 1, "an update keeps the secrets");
}

#[tokio::test(start_paused = true)]
async fn a_newer_server_knows_the_device_flow() {
    let scene = Scene::new();
    scene.fake.at(|teable| teable.switches.insert(Switch::DeviceFlow));
    let (id, created) = scene.create(&full());
    assert_eq!(created["allowDeviceFlow"], false, "it is off if nobody asks for it");
    assert_eq!(scene.put(&id, &full_but(&json!({ "allowDeviceFlow": true })))["allowDeviceFlow"], true);
    assert_eq!(scene.put(&id, &full())["allowDeviceFlow"], true, "it stays where it is not mentioned");
    let body = full_but(&json!({ "allowDeviceFlow": "yes" }));
    assert_eq!(scene.ask_wrongly(&format!("POST {CLIENTS}"), &body, "no boolean").0, 400);
}

#[tokio::test(start_paused = true)]
async fn a_body_of_the_wrong_form_is_refused_and_changes_nothing() {
    let scene = Scene::new();
    let (id, created) = scene.create(&full());
    let mut rows: Vec<(Value, String)> = ["name", "homepage", "redirectUris"]
        .map(|name| (full_but(&json!({ name: null })), format!("{name} is missing")))
        .into();
    rows.extend(full().as_object().unwrap().keys().map(|name| {
        let mut body = full();
        body[name] = Value::Null;
        (body, format!("{name} is null"))
    }));
    rows.extend([
        (full_but(&json!({ "homepage": "app" })), "the homepage is no URL".to_owned()),
        (full_but(&json!({ "redirectUris": [] })), "there is no redirect URI".to_owned()),
        (full_but(&json!({ "redirectUris": ["/cb"] })), "a redirect URI is no URL".to_owned()),
        (full_but(&json!({ "name": 1 })), "the name is a number".to_owned()),
    ]);
    for (body, reason) in rows {
        for line in [format!("POST {CLIENTS}"), format!("PUT {CLIENTS}/{id}")] {
            let (status, refused) = scene.ask_wrongly(&line, &body, &reason);
            assert_eq!(
                (status, refused["code"].as_str()),
                (400, Some("validation_error")),
                "{line}: {reason}"
            );
        }
    }
    assert_eq!(scene.get(&id), created);
    assert_eq!(scene.fake.at(|teable| teable.clients().len()), 1);
}

#[tokio::test(start_paused = true)]
async fn a_server_decides_which_scopes_there_are() {
    let scene = Scene::new();
    let create = format!("POST {CLIENTS}");
    scene.create(&full_but(&json!({ "scopes": SCOPES })));
    let (status, refused) = scene.ask(&create, Some(&full_but(&json!({ "scopes": ["table|fly"] }))));
    assert_eq!((status, refused["code"].as_str()), (400, Some("validation_error")), "unknown everywhere");
    assert!(refused["message"].as_str().unwrap().contains("table|fly"), "the message repeats what was sent");
    scene.fake.at(|teable| teable.scopes.retain(|scope| *scope != "user|integrations"));
    let newest = full_but(&json!({ "scopes": ["user|integrations"] }));
    assert_eq!(scene.ask(&create, Some(&newest)).0, 400, "unknown to an older server");
}

#[tokio::test(start_paused = true)]
async fn unknown_members_are_ignored() {
    let scene = Scene::new();
    let body = full_but(&json!({ "owner": "me", "secrets": [] }));
    let (status, client) = scene.ask_wrongly(&format!("POST {CLIENTS}"), &body, "members of no meaning");
    assert_eq!((status, client.get("owner"), client.get("secrets")), (201, None, None));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_not_declared_as_json_is_not_read() {
    let scene = Scene::new();
    let mut request = request(&format!("POST {CLIENTS}"), &scene.session, Some(&full()));
    request.headers.remove(header::CONTENT_TYPE);
    assert_eq!(scene.fake.at(|teable| teable.answer(&request)).status, 400);
    request.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    request.body = Bytes::from_static(b"{");
    assert_eq!(scene.fake.at(|teable| teable.answer(&request)).status, 400, "nor is what is no JSON");
}

#[tokio::test(start_paused = true)]
async fn a_client_has_several_secrets_at_once() {
    let scene = Scene::new();
    let (id, _) = scene.create(&full());
    let (old, new) = (scene.add_secret(&id), scene.add_secret(&id));
    let plain = |secret: &Value| secret["secret"].as_str().unwrap().to_owned();
    let shown = |secret: &Value| json!({ "id": secret["id"], "secret": secret["maskedSecret"] });
    assert_eq!(scene.get(&id)["secrets"], json!([shown(&new), shown(&old)]), "masked, newest first");
    let masked = old["maskedSecret"].as_str().unwrap();
    assert_eq!(masked, format!("{}{}", "*".repeat(30), &plain(&old)[30..]), "the end of it shows");

    assert_eq!(scene.token(&id, &plain(&old)), 400, "the secret is right, the code is not");
    assert_eq!(scene.token(&id, "wrong"), 401, "the secret is wrong");
    assert_eq!(scene.token("clt0", &plain(&old)), 401, "no such client");
    assert_eq!(scene.get(&id)["secrets"][1]["lastUsedTime"], "2026-01-01T00:00:00.000Z", "used");
    assert_eq!(scene.get(&id)["secrets"][0].get("lastUsedTime"), None, "never used");

    let remove = format!("DELETE {CLIENTS}/{id}/secret/{}", old["id"].as_str().unwrap());
    assert_eq!(scene.ask(&remove, None), (200, Value::Null), "without a body");
    assert_eq!(scene.token(&id, &plain(&old)), 401, "the removed one is dead");
    assert_eq!(scene.token(&id, &plain(&new)), 400, "the other is not");
    assert_eq!(scene.fake.at(|teable| teable.live_secrets(&id)), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_there_is_a_failure_except_to_a_get() {
    let scene = Scene::new();
    let (known, _) = scene.create(&full());
    let path = format!("{CLIENTS}/clt0000000000000000");
    let rows = [
        (format!("PUT {path}"), Some(full())),
        (format!("DELETE {path}"), None),
        (format!("POST {path}/secret"), None),
        (format!("DELETE {path}/secret/sec0"), None),
        (format!("DELETE {CLIENTS}/{known}/secret/sec0"), None),
    ];
    let ask_all = |expected: (u16, &str)| {
        for (line, body) in &rows {
            let (status, refused) = scene.ask(line, body.as_ref());
            assert_eq!((status, refused["code"].as_str().unwrap()), expected, "{line}");
            assert_eq!(refused["status"], status, "{line}");
        }
        let (status, refused) = scene.ask(&format!("GET {path}"), None);
        assert_eq!((status, refused["code"].as_str()), (404, Some("not_found")), "a read is reliable");
    };
    ask_all((500, "internal_server_error"));
    scene.fake.at(|teable| teable.switches.insert(Switch::UnknownIsNotFound));
    ask_all((404, "not_found"));
}

#[tokio::test(start_paused = true)]
async fn a_deleted_client_is_gone_with_its_secrets() {
    let scene = Scene::new();
    let (id, _) = scene.create(&full());
    let secret = scene.add_secret(&id)["secret"].as_str().unwrap().to_owned();
    assert!(scene.fake.at(|teable| teable.authenticates(&id, &secret)));
    assert_eq!(scene.ask(&format!("DELETE {CLIENTS}/{id}"), None), (200, Value::Null), "without a body");
    assert_eq!(scene.token(&id, &secret), 401);
    assert!(!scene.fake.at(|teable| teable.authenticates(&id, &secret)));
    assert_eq!(scene.ask(&format!("GET {CLIENTS}/{id}"), None).0, 404);
}

#[tokio::test(start_paused = true)]
async fn a_proxy_may_turn_everybody_away_for_a_while() {
    let scene = Scene::new();
    scene.fake.at(|teable| teable.throttle_for(Duration::from_millis(2500)));
    let list = request(&format!("GET {CLIENTS}"), &scene.session, None);
    let reply = scene.fake.exchange(&list).unwrap();
    assert_eq!((reply.status.as_u16(), &reply.headers["retry-after"]), (429, &HeaderValue::from(3)));
    assert!(serde_json::from_slice::<Value>(&reply.body).is_err(), "not in the server's own words");
    tokio::time::advance(Duration::from_millis(2500)).await;
    assert_eq!(scene.fake.exchange(&list).unwrap().status, 200);

    scene.fake.at(|teable| teable.set_limit(2));
    let statuses = [(); 3].map(|()| scene.fake.exchange(&list).unwrap().status.as_u16());
    assert_eq!(statuses, [429; 3], "more than two went through already in this minute");
    tokio::time::advance(WINDOW).await;
    let statuses = [(); 3].map(|()| scene.fake.exchange(&list).unwrap().status.as_u16());
    assert_eq!(statuses, [200, 200, 429], "two of this minute");
}

#[tokio::test(start_paused = true)]
async fn a_server_may_stand_below_a_path() {
    let scene = Scene::new();
    scene.fake.at(|teable| teable.set_prefix("/tables"));
    assert_eq!(scene.ask(&format!("GET /tables{CLIENTS}"), None).0, 200);
}

#[tokio::test(start_paused = true)]
async fn every_secret_that_left_is_known() {
    let scene = Scene::new();
    let (id, _) = scene.create(&full());
    let secret = scene.add_secret(&id)["secret"].clone();
    let token = scene.ask("GET /api/auth/temp-token", None).1["accessToken"].clone();
    let session = scene.session.strip_prefix("cookie: auth_session=").unwrap();
    let given = scene.fake.at(|teable| teable.secrets_given());
    assert_eq!(json!(given), json!([session, secret, token]), "in the order that they left");
    assert!(given.iter().all(|secret| secret.to_uppercase().contains("CANARY")));
    assert_eq!(given.iter().collect::<BTreeSet<_>>().len(), given.len(), "no two are alike");
}

#[tokio::test(start_paused = true)]
async fn an_owner_changes_things_by_hand() {
    let scene = Scene::new();
    let (id, _) = scene.create(&full());
    let by_hand = scene.fake.at(|teable| {
        teable.edit(&id, |client| client.name = "Renamed".to_owned());
        teable.add_secret(&id)
    });
    let client = scene.get(&id);
    assert_eq!((&client["name"], &client["secrets"][0]["id"]), (&json!("Renamed"), &json!(by_hand.id)));
    let foreign = scene.fake.at(|teable| {
        teable.remove(&id);
        teable.add_foreign(1)
    });
    let foreign = scene.fake.at(|teable| teable.client(&foreign[0])).unwrap();
    assert!(foreign.secrets[0].secret.contains("CANARY-FOREIGN"));
    assert_eq!(foreign.secrets[0].secret.len(), 40, "as long as any");
    assert_eq!(scene.ask(&format!("GET {CLIENTS}/{id}"), None).0, 404, "removed");
}
