//! The life of a client, over HTTP, through a restart.

use std::future::IntoFuture as _;
use std::path::Path;

use clap::Parser as _;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::AbortHandle;

use crate::registry::{Registry, router};
use crate::{File, Options};

/// A registry that runs until it is dropped.
struct Running {
    url: String,
    task: AbortHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Running {
    /// Starts one on the files in `directory`; two of the same directory are one registry, restarted.
    async fn start(directory: &Path, token: Option<&str>, rotate: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let log = File::options().create(true).append(true).open(directory.join("log")).unwrap();
        let registry = Registry::open(url.clone(), directory.join("clients"), token, rotate).unwrap();
        let task = tokio::spawn(axum::serve(listener, router(registry, Some(log))).into_future());
        Self { url, task: task.abort_handle() }
    }

    /// Sends a request and answers the status and the body, which is null if it is not JSON.
    async fn send(&self, method: &str, path: &str, bearer: &str, body: Option<Value>) -> (u16, Value) {
        let request = client().request(method.parse().unwrap(), format!("{}{path}", self.url));
        let request = request.bearer_auth(bearer).header("content-type", "application/json");
        read(request.body(body.map(|b| b.to_string()).unwrap_or_default())).await
    }

    /// Asks for an access token with HTTP Basic authentication.
    async fn token(&self, id: &str, secret: &str) -> (u16, Value) {
        let request = client().post(format!("{}/token", self.url)).basic_auth(id, Some(secret));
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        read(request.body("grant_type=client_credentials&scope=bookings.read")).await
    }
}

fn client() -> reqwest::Client {
    // No request here uses TLS, but the client is built for it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().build().unwrap()
}

async fn read(request: reqwest::RequestBuilder) -> (u16, Value) {
    let reply = request.send().await.unwrap();
    (reply.status().as_u16(), serde_json::from_slice(&reply.bytes().await.unwrap()).unwrap_or_default())
}

fn text<'a>(reply: &'a Value, name: &str) -> &'a str {
    reply[name].as_str().unwrap_or_else(|| panic!("no {name} in {reply}"))
}

/// The path of the URL at which a registration is managed.
fn managed(running: &Running, reply: &Value) -> String {
    text(reply, "registration_client_uri").strip_prefix(&running.url).unwrap().to_owned()
}

/// What the quickstart registers, and a member of each kind that the library does not keep.
fn bookings() -> Value {
    json!({
        "client_name": "Bookings", "grant_types": ["client_credentials"], "scope": "bookings.read",
        "client_uri": "https://bookings.example", "contacts": ["team@bookings.example"],
        "jwks": { "keys": [] }, "application_type": "web", "unheard_of": true,
    })
}

#[tokio::test]
async fn a_client_lives_through_a_restart_until_it_is_deleted() {
    let directory = TempDir::new().unwrap();
    let running = Running::start(directory.path(), None, false).await;
    let (status, made) = running.send("POST", "/register", "", Some(bookings())).await;
    assert_eq!(status, 201, "{made}");
    assert_eq!(made["client_secret_expires_at"], 0);
    assert_eq!(made["token_endpoint_auth_method"], "client_secret_basic");
    assert_eq!(made["unheard_of"], Value::Null);
    let (id, secret) = (text(&made, "client_id"), text(&made, "client_secret"));
    let (path, token) = (managed(&running, &made), text(&made, "registration_access_token"));

    let (status, granted) = running.token(id, secret).await;
    assert_eq!((status, &granted["token_type"]), (200, &json!("Bearer")), "{granted}");
    assert!(granted["expires_in"].is_u64() && granted["access_token"].is_string());

    drop(running);
    let running = Running::start(directory.path(), None, false).await;
    assert_eq!(running.token(id, secret).await.0, 200, "the secret outlives a restart");
    let (status, shown) = running.send("GET", &path, token, None).await;
    assert_eq!(status, 200);
    for name in ["client_uri", "contacts", "jwks", "application_type", "client_name", "scope", "grant_types"]
    {
        assert_eq!(shown[name], bookings()[name], "{name}");
    }
    assert_eq!(shown["client_secret"], Value::Null);
    assert_eq!(shown["registration_access_token"], token);

    assert_eq!(running.send("DELETE", &path, token, None).await.0, 204);
    assert_eq!(running.send("GET", &path, token, None).await.0, 401);
    assert_eq!(running.send("DELETE", &path, token, None).await.0, 401);
    let (status, refused) = running.token(id, secret).await;
    assert_eq!((status, &refused["error"]), (401, &json!("invalid_client")));
}

#[tokio::test]
async fn a_secret_counts_in_the_header_and_in_the_form() {
    let directory = TempDir::new().unwrap();
    let running = Running::start(directory.path(), None, false).await;
    let made = running.send("POST", "/register", "", Some(bookings())).await.1;
    let (id, secret) = (text(&made, "client_id"), text(&made, "client_secret"));
    for (id, secret, expected) in [(id, secret, 200), (id, "wrong", 401), ("unknown", secret, 401)] {
        assert_eq!(running.token(id, secret).await.0, expected);
        let form = format!("grant_type=client_credentials&client_id={id}&client_secret={secret}");
        let request = client().post(format!("{}/token", running.url));
        let request = request.header("content-type", "application/x-www-form-urlencoded");
        let (status, told) = read(request.body(form)).await;
        assert_eq!(status, expected, "{told}");
        assert_eq!(told["error"] == "invalid_client", expected == 401, "{told}");
    }
}

#[tokio::test]
async fn a_replacement_is_full_and_rotates_the_token() {
    let directory = TempDir::new().unwrap();
    let running = Running::start(directory.path(), None, true).await;
    let made = running.send("POST", "/register", "", Some(bookings())).await.1;
    let (path, first) = (managed(&running, &made), text(&made, "registration_access_token"));
    let wanted = json!({
        "client_id": made["client_id"], "client_secret": made["client_secret"],
        "grant_types": ["client_credentials"], "scope": "bookings.read bookings.write",
        "tos_uri": "https://bookings.example/terms",
    });

    let (status, told) = running.send("PUT", &path, first, Some(wanted.clone())).await;
    assert_eq!(status, 200, "{told}");
    let second = text(&told, "registration_access_token");
    assert_ne!(second, first);
    assert_eq!(running.send("GET", &path, first, None).await.0, 401, "the old token is dead");
    let (status, shown) = running.send("GET", &path, second, None).await;
    assert_eq!((status, text(&shown, "registration_access_token")), (200, second));
    assert_eq!((&shown["tos_uri"], &shown["scope"]), (&wanted["tos_uri"], &wanted["scope"]));
    assert_eq!((&shown["client_name"], &shown["contacts"]), (&Value::Null, &Value::Null));
    let granted = running.token(text(&made, "client_id"), text(&made, "client_secret")).await;
    assert_eq!(granted.0, 200, "a replacement keeps the secret");

    for unfit in [
        json!({ "client_id": "another" }),
        json!({ "registration_access_token": second }),
        json!({ "client_secret": "wrong" }),
        json!({ "logo_uri": "not a url" }),
    ] {
        let mut body = wanted.clone();
        body.as_object_mut().unwrap().extend(unfit.as_object().unwrap().clone());
        let (status, refused) = running.send("PUT", &path, second, Some(body)).await;
        assert_eq!((status, &refused["error"]), (400, &json!("invalid_client_metadata")), "{unfit}");
    }
    assert_eq!(running.send("GET", &path, second, None).await.1, shown, "a refusal changes nothing");
}

#[tokio::test]
async fn a_client_can_be_seen_broken_and_lost() {
    let directory = TempDir::new().unwrap();
    let running = Running::start(directory.path(), None, false).await;
    let made = running.send("POST", "/register", "", Some(bookings())).await.1;
    let (path, token) = (managed(&running, &made), text(&made, "registration_access_token"));
    let inspected = format!("/inspect/clients/{}", text(&made, "client_id"));

    let all = running.send("GET", "/inspect/clients", "", None).await.1;
    assert_eq!((&all[0]["client_id"], &all[0]["contacts"]), (&made["client_id"], &bookings()["contacts"]));
    let kept = std::fs::read_to_string(directory.path().join("clients")).unwrap();
    for secret in [text(&made, "client_secret"), token] {
        assert!(!all.to_string().contains(secret) && !kept.contains(secret));
    }

    let broken = json!({ "scope": "other", "contacts": null, "logo_uri": "https://broken.example/logo" });
    assert_eq!(running.send("PATCH", &inspected, "", Some(broken)).await.0, 200);
    let shown = running.send("GET", &path, token, None).await.1;
    assert_eq!((&shown["scope"], &shown["contacts"]), (&json!("other"), &Value::Null));
    assert_eq!(shown["logo_uri"], "https://broken.example/logo");
    let (_, refused) = running.token(text(&made, "client_id"), text(&made, "client_secret")).await;
    assert_eq!(refused["error"], "invalid_scope");

    assert_eq!(running.send("DELETE", &inspected, "", None).await.0, 204);
    assert_eq!(running.send("DELETE", &inspected, "", None).await.0, 404);
    assert_eq!(running.send("GET", &path, token, None).await.0, 401);

    let log = std::fs::read_to_string(directory.path().join("log")).unwrap();
    let statuses: Vec<_> =
        log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["status"].clone()).collect();
    assert_eq!(statuses, [201, 200, 400, 401], "requests to /inspect are not logged:\n{log}");
    assert!(log.starts_with("{\"method\":\"POST\",\"path\":\"/register\",\"status\":201}\n"));
}

#[tokio::test]
async fn a_registration_bears_the_initial_access_token_and_sound_metadata() {
    let directory = TempDir::new().unwrap();
    let running = Running::start(directory.path(), Some("initial"), false).await;
    assert_eq!(running.send("POST", "/register", "wrong", Some(bookings())).await.0, 401);
    let made = running.send("POST", "/register", "initial", Some(bookings())).await.1;
    let replaced = json!({ "client_id": made["client_id"], "grant_types": ["client_credentials"] });
    let token = text(&made, "registration_access_token");
    assert_eq!(running.send("PUT", &managed(&running, &made), token, Some(replaced)).await.0, 200);

    for (unfit, error) in [
        (json!({}), "invalid_redirect_uri"),
        (json!({ "redirect_uris": ["https://a.example/#fragment"] }), "invalid_redirect_uri"),
        (json!({ "grant_types": ["password"] }), "invalid_client_metadata"),
        (json!({ "grant_types": [], "scope": "quo\"ted" }), "invalid_client_metadata"),
        (json!({ "grant_types": [], "contacts": "text" }), "invalid_client_metadata"),
        (json!([]), "invalid_client_metadata"),
    ] {
        let (status, refused) = running.send("POST", "/register", "initial", Some(unfit.clone())).await;
        assert_eq!((status, &refused["error"]), (400, &json!(error)), "{unfit}");
    }
}

#[tokio::test]
async fn a_change_that_cannot_be_written_does_not_happen() {
    let directory = TempDir::new().unwrap();
    let running = Running::start(directory.path(), None, false).await;
    let made = running.send("POST", "/register", "", Some(bookings())).await.1;
    let (path, token) = (managed(&running, &made), text(&made, "registration_access_token"));
    std::fs::remove_dir_all(directory.path()).unwrap();
    assert_eq!(running.send("POST", "/register", "", Some(bookings())).await.0, 500);
    assert_eq!(running.send("DELETE", &path, token, None).await.0, 500);
    let all = running.send("GET", "/inspect/clients", "", None).await.1;
    assert_eq!((all.as_array().unwrap().len(), &all[0]["client_id"]), (1, &made["client_id"]));
}

#[tokio::test]
async fn the_metadata_names_what_is_served() {
    let directory = TempDir::new().unwrap();
    let running = Running::start(directory.path(), None, false).await;
    let (status, document) = running.send("GET", "/.well-known/oauth-authorization-server", "", None).await;
    assert_eq!((status, &document["issuer"]), (200, &json!(running.url)));
    assert_eq!(
        document["grant_types_supported"],
        json!(["authorization_code", "refresh_token", "client_credentials"])
    );
    let others = running.send("GET", "/.well-known/openid-configuration", "", None).await;
    assert_eq!(others, (200, document.clone()));
    for (name, url) in document.as_object().unwrap().iter().filter(|(name, _)| name.ends_with("_endpoint")) {
        let path = url.as_str().unwrap().strip_prefix(&running.url).unwrap();
        assert_ne!(running.send("GET", path, "", None).await.0, 404, "{name}");
    }
}

#[test]
fn only_loopback_is_listened_on() {
    let parse = |listen: &str| Options::try_parse_from(["", "--data", "file", "--listen", listen]);
    assert!(parse("127.0.0.1:0").is_ok() && parse("[::1]:8765").is_ok());
    assert!(
        parse("0.0.0.0:8765").is_err() && parse("192.0.2.1:8765").is_err() && parse("localhost").is_err()
    );
}
