//! A registry that does what a registry should never do, on demand.
//!
//! It reads and writes HTTP itself (`wire`), since no library would let it do that so badly.

mod wire;

use super::ports::{listener, url_of};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::io::{AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use wire::{Answer, Request};

/// Every secret and token it hands out begins so: none may ever be seen in a log, an event, a status or a metric.
pub const CANARY: &str = "CANARY";

const HUGE: usize = 10 << 20;

/// Where its clients are managed.
const CLIENTS: &str = "/clients/";

/// What it can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// GET of the metadata below `/.well-known/`.
    Discovery,
    /// POST of a new client.
    Register,
    /// GET of a client.
    Read,
    /// PUT of a client.
    Update,
    /// DELETE of a client.
    Delete,
    /// POST for a token.
    Token,
}

/// What it does instead of what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Misbehaviour {
    /// 401 `invalid_token`.
    Unauthorized,
    /// 403.
    Forbidden,
    /// 429 with `Retry-After` in seconds.
    TooManyRequests(u32),
    /// 500.
    InternalError,
    /// 503.
    Unavailable,
    /// 400 `invalid_redirect_uri` with this description.
    InvalidRedirectUri(String),
    /// 400 whose description repeats the bearer token of the request.
    EchoesCredentials,
    /// A success whose body ends in the middle.
    TruncatedBody,
    /// A success with 10 MiB behind what matters.
    HugeBody,
    /// A redirect with this status (302, 307) to the other origin, where it would work.
    RedirectElsewhere(u16),
    /// A success without a client id, though with a secret.
    NoClientId,
    /// A success with a web page that holds a secret.
    Html,
    /// A success that says that the client is to be managed at the other origin.
    ManagedElsewhere,
    /// It has taken effect, but there is no answer, and the connection stays.
    Hangs,
    /// It has taken effect, but the connection ends in the middle of the answer's headers.
    ClosesMidHeaders,
}

/// A registry on two loopback origins: one that its users know, and another that none should ever talk to.
pub struct HostileRegistry {
    state: Arc<Shared>,
    tasks: Vec<JoinHandle<()>>,
}

struct Shared {
    url: String,
    elsewhere_url: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    misbehaviours: HashMap<Endpoint, Misbehaviour>,
    clients: BTreeMap<String, Value>,
    handed_out: usize,
    secrets: Vec<String>,
    requests: Vec<String>,
    requests_elsewhere: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    Known,
    Elsewhere,
}

impl HostileRegistry {
    /// Starts it, as well-behaved as any until it is told otherwise.
    pub async fn start() -> Self {
        let (known, elsewhere) = (listener().await, listener().await);
        let (url, elsewhere_url) = (url_of(&known), url_of(&elsewhere));
        let state = Arc::new(Shared { url, elsewhere_url, state: Mutex::default() });
        let tasks = vec![
            tokio::spawn(accept(known, Origin::Known, Arc::clone(&state))),
            tokio::spawn(accept(elsewhere, Origin::Elsewhere, Arc::clone(&state))),
        ];
        Self { state, tasks }
    }

    /// Its issuer's URL, without a slash at its end.
    pub fn url(&self) -> &str {
        &self.state.url
    }

    /// The other origin's URL.
    pub fn elsewhere_url(&self) -> &str {
        &self.state.elsewhere_url
    }

    /// From now on it misbehaves so at this endpoint.
    pub fn misbehave(&self, endpoint: Endpoint, misbehaviour: Misbehaviour) {
        self.lock().misbehaviours.insert(endpoint, misbehaviour);
    }

    /// From now on it behaves at this endpoint.
    pub fn behave(&self, endpoint: Endpoint) {
        self.lock().misbehaviours.remove(&endpoint);
    }

    /// How many requests of this method and path it has received, answered or not.
    pub fn count(&self, method: &str, path: &str) -> usize {
        let wanted = format!("{method} {path}");
        self.lock().requests.iter().filter(|request| **request == wanted).count()
    }

    /// Everything it has received, as `METHOD /path`, in order.
    pub fn requests(&self) -> Vec<String> {
        self.lock().requests.clone()
    }

    /// What was sent to the other origin, as `METHOD /path`, with ` + credentials` if it came with some.
    pub fn requests_elsewhere(&self) -> Vec<String> {
        self.lock().requests_elsewhere.clone()
    }

    /// The clients it has, as it gave them out.
    pub fn clients(&self) -> Vec<Value> {
        self.lock().clients.values().cloned().collect()
    }

    /// Every secret and token it has handed out.
    pub fn secrets(&self) -> Vec<String> {
        self.lock().secrets.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

impl Drop for HostileRegistry {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn accept(listener: TcpListener, origin: Origin, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        // What goes wrong with a connection here is its caller's business.
        tokio::spawn(async move { shared.serve(stream, origin).await });
    }
}

impl Shared {
    /// One request a connection.
    async fn serve(&self, stream: TcpStream, origin: Origin) -> std::io::Result<()> {
        let mut stream = BufReader::new(stream);
        let request = Request::read(&mut stream).await?;
        let mut stream = stream.into_inner();
        let misbehaviour = self.record(&request, origin);
        let answer = self.answer(&request, misbehaviour.as_ref());
        let bytes = match misbehaviour {
            Some(Misbehaviour::Hangs) => std::future::pending().await,
            Some(Misbehaviour::ClosesMidHeaders) => answer.up_to_the_headers_middle(),
            Some(Misbehaviour::TruncatedBody) => answer.up_to_the_bodys_middle(),
            _ => answer.whole(),
        };
        stream.write_all(&bytes).await?;
        stream.shutdown().await
    }

    /// Remembers the request; what is to go wrong with it.
    fn record(&self, request: &Request, origin: Origin) -> Option<Misbehaviour> {
        let mut state = self.lock();
        let line = format!("{} {}", request.method, request.path);
        if origin == Origin::Elsewhere {
            let credentials = if request.authorization().is_some() { " + credentials" } else { "" };
            state.requests_elsewhere.push(line + credentials);
            return None;
        }
        state.requests.push(line);
        let endpoint = Endpoint::of(request)?;
        state.misbehaviours.get(&endpoint).cloned()
    }

    fn answer(&self, request: &Request, misbehaviour: Option<&Misbehaviour>) -> Answer {
        let Some(misbehaviour) = misbehaviour else { return self.success(request) };
        refusal(request, misbehaviour).unwrap_or_else(|| self.false_success(request, misbehaviour))
    }

    /// An answer that looks like a success, or is one that never arrives.
    fn false_success(&self, request: &Request, misbehaviour: &Misbehaviour) -> Answer {
        let elsewhere = |path: &str| format!("{}{path}", self.elsewhere_url);
        match misbehaviour {
            Misbehaviour::RedirectElsewhere(status) => {
                Answer::json(*status, &json!({})).with("Location", &elsewhere(&request.path))
            }
            Misbehaviour::Html => {
                let page = format!("<html>Welcome! {}</html>", self.lock().secret("html"));
                Answer { body: page, ..self.success(request) }.with("Content-Type", "text/html")
            }
            Misbehaviour::HugeBody => self.success(request).followed_by(&" ".repeat(HUGE)),
            Misbehaviour::NoClientId => self.success(request).without("client_id"),
            Misbehaviour::ManagedElsewhere => {
                self.success(request).replacing("registration_client_uri", elsewhere("/clients/1").into())
            }
            _ => self.success(request),
        }
    }

    /// What a registry should do.
    fn success(&self, request: &Request) -> Answer {
        let mut state = self.lock();
        let id = request.path.strip_prefix(CLIENTS).unwrap_or_default().to_owned();
        let not_found = || Answer::json(401, &json!({ "error": "invalid_token" }));
        match Endpoint::of(request) {
            Some(Endpoint::Discovery) => Answer::json(200, &self.discovery()),
            Some(Endpoint::Register) => Answer::json(201, &state.register(&self.url, &request.json())),
            Some(Endpoint::Read) => {
                state.clients.get(&id).map_or_else(not_found, |client| Answer::json(200, client))
            }
            Some(Endpoint::Update) => {
                state.update(&id, &request.json()).map_or_else(not_found, |client| Answer::json(200, &client))
            }
            Some(Endpoint::Delete) => state.clients.remove(&id).map_or_else(not_found, |_| Answer {
                status: 204,
                headers: vec![],
                body: String::new(),
            }),
            Some(Endpoint::Token) => {
                let token = state.secret("access");
                Answer::json(200, &json!({ "access_token": token, "token_type": "Bearer", "expires_in": 60 }))
            }
            None => Answer::json(404, &json!({ "error": "not_found" })),
        }
    }

    fn discovery(&self) -> Value {
        let url = &self.url;
        json!({
            "issuer": url,
            "authorization_endpoint": format!("{url}/authorize"),
            "token_endpoint": format!("{url}/token"),
            "registration_endpoint": format!("{url}/register"),
            "response_types_supported": ["code"],
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

/// An honest error; nothing has taken effect.
fn refusal(request: &Request, misbehaviour: &Misbehaviour) -> Option<Answer> {
    let error = |status, code: &str, description: &str| {
        Answer::json(status, &json!({ "error": code, "error_description": description }))
    };
    Some(match misbehaviour {
        Misbehaviour::Unauthorized => error(401, "invalid_token", "the token is unknown")
            .with("WWW-Authenticate", "Bearer error=\"invalid_token\""),
        Misbehaviour::Forbidden => error(403, "access_denied", "not you"),
        Misbehaviour::TooManyRequests(seconds) => {
            error(429, "too_many_requests", "slow down").with("Retry-After", &seconds.to_string())
        }
        Misbehaviour::InternalError => error(500, "server_error", "something broke"),
        Misbehaviour::Unavailable => error(503, "temporarily_unavailable", "come back later"),
        Misbehaviour::InvalidRedirectUri(description) => error(400, "invalid_redirect_uri", description),
        Misbehaviour::EchoesCredentials => {
            let description = format!("what is {}?", request.authorization().unwrap_or("this"));
            error(400, "invalid_client_metadata", &description)
        }
        _ => return None,
    })
}

impl State {
    fn register(&mut self, url: &str, metadata: &Value) -> Value {
        let id = format!("client-{}", self.handed_out + 1);
        let mut client = metadata.clone();
        client["client_secret"] = self.secret("client").into();
        client["registration_access_token"] = self.secret("registration").into();
        client["registration_client_uri"] = format!("{url}/clients/{id}").into();
        client["client_secret_expires_at"] = 0.into();
        client["client_id"] = id.clone().into();
        self.clients.insert(id, client.clone());
        client
    }

    /// Replaces what the client said of itself, and keeps what it was given.
    fn update(&mut self, id: &str, metadata: &Value) -> Option<Value> {
        const GIVEN: [&str; 5] = [
            "client_id",
            "client_secret",
            "client_secret_expires_at",
            "registration_access_token",
            "registration_client_uri",
        ];
        let client = self.clients.get_mut(id)?;
        let mut updated = metadata.clone();
        for member in GIVEN {
            updated[member] = client[member].clone();
        }
        client.clone_from(&updated);
        Some(updated)
    }

    fn secret(&mut self, kind: &str) -> String {
        self.handed_out += 1;
        let secret = format!("{CANARY}-{kind}-{}", uuid::Uuid::new_v4().simple());
        self.secrets.push(secret.clone());
        secret
    }
}

impl Endpoint {
    fn of(request: &Request) -> Option<Self> {
        let is_client = request.path.starts_with(CLIENTS);
        match (request.method.as_str(), request.path.as_str()) {
            ("GET", path) if path.starts_with("/.well-known/") => Some(Self::Discovery),
            ("POST", "/register") => Some(Self::Register),
            ("POST", "/token") => Some(Self::Token),
            ("GET", _) if is_client => Some(Self::Read),
            ("PUT", _) if is_client => Some(Self::Update),
            ("DELETE", _) if is_client => Some(Self::Delete),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::http::client;
    use super::*;
    use std::time::Duration;

    async fn register(registry: &HostileRegistry) -> reqwest::Result<reqwest::Response> {
        client()
            .post(format!("{}/register", registry.url()))
            .bearer_auth("CANARY-initial")
            .timeout(Duration::from_secs(2))
            .body(r#"{"client_name":"One"}"#)
            .send()
            .await
    }

    async fn registered(registry: &HostileRegistry) -> (u16, String) {
        let response = register(registry).await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn behaves_until_told_otherwise() {
        let registry = HostileRegistry::start().await;
        let discovery = format!("{}/.well-known/openid-configuration", registry.url());
        let discovery = super::super::http::get(&discovery).await.unwrap();
        assert!(discovery.contains(&format!("{}/register", registry.url())));

        let (status, body) = registered(&registry).await;
        let created: Value = serde_json::from_str(&body).unwrap();
        assert_eq!((status, &created["client_name"]), (201, &json!("One")));
        assert_eq!(registry.secrets().len(), 2);
        assert!(registry.secrets().iter().all(|secret| secret.starts_with(CANARY) && body.contains(secret)));

        let uri = created["registration_client_uri"].as_str().unwrap();
        let updated = client().put(uri).body(r#"{"client_name":"Two"}"#).send().await.unwrap();
        let updated: Value = serde_json::from_str(&updated.text().await.unwrap()).unwrap();
        assert_eq!((&updated["client_name"], &updated["client_id"]), (&json!("Two"), &created["client_id"]));
        assert_eq!(registry.clients(), [updated]);
        assert_eq!(client().delete(uri).send().await.unwrap().status(), 204);
        assert_eq!(client().get(uri).send().await.unwrap().status(), 401);
        assert_eq!(registry.count("POST", "/register"), 1);
        assert_eq!(registry.requests().len(), 5);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn refuses_as_told() {
        let registry = HostileRegistry::start().await;
        let cases = [
            (Misbehaviour::Unauthorized, 401, "invalid_token"),
            (Misbehaviour::Forbidden, 403, "access_denied"),
            (Misbehaviour::TooManyRequests(7), 429, "slow down"),
            (Misbehaviour::InternalError, 500, "server_error"),
            (Misbehaviour::Unavailable, 503, "temporarily_unavailable"),
            (Misbehaviour::InvalidRedirectUri("no http here".to_owned()), 400, "no http here"),
            (Misbehaviour::EchoesCredentials, 400, "Bearer CANARY-initial"),
            (Misbehaviour::NoClientId, 201, "client_secret"),
            (Misbehaviour::Html, 201, "<html>Welcome! CANARY"),
            (Misbehaviour::ManagedElsewhere, 201, registry.elsewhere_url()),
            (Misbehaviour::RedirectElsewhere(307), 307, ""),
        ];
        for (misbehaviour, status, text) in cases {
            registry.misbehave(Endpoint::Register, misbehaviour.clone());
            let (seen, body) = registered(&registry).await;
            assert!(seen == status && body.contains(text), "{misbehaviour:?}: {seen} {body}");
            assert!(misbehaviour != Misbehaviour::NoClientId || !body.contains("client_id\""), "{body}");
        }
        registry.misbehave(Endpoint::Register, Misbehaviour::TooManyRequests(7));
        assert_eq!(register(&registry).await.unwrap().headers()["retry-after"], "7");
        registry.behave(Endpoint::Register);
        assert_eq!(registered(&registry).await.0, 201);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn breaks_connections_as_told() {
        let registry = HostileRegistry::start().await;
        registry.misbehave(Endpoint::Register, Misbehaviour::HugeBody);
        assert!(registered(&registry).await.1.len() > HUGE);
        registry.misbehave(Endpoint::Register, Misbehaviour::TruncatedBody);
        assert!(register(&registry).await.unwrap().text().await.unwrap_err().is_decode());
        registry.misbehave(Endpoint::Register, Misbehaviour::ClosesMidHeaders);
        assert!(register(&registry).await.unwrap_err().is_request());
        registry.misbehave(Endpoint::Register, Misbehaviour::Hangs);
        assert!(register(&registry).await.unwrap_err().is_timeout());
        assert_eq!((registry.count("POST", "/register"), registry.clients().len()), (4, 4));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn sees_who_follows_it_elsewhere() {
        let registry = HostileRegistry::start().await;
        registry.misbehave(Endpoint::Register, Misbehaviour::RedirectElsewhere(302));
        let location = register(&registry).await.unwrap().headers()["location"].to_str().unwrap().to_owned();
        let followed = client().post(location).bearer_auth("CANARY-initial").body("{}").send().await.unwrap();
        assert_eq!(followed.status(), 201);
        assert_eq!(registry.requests_elsewhere(), ["POST /register + credentials"]);
    }
}
