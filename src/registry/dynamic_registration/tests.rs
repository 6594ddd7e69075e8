//! The driver against a scripted registry in memory: what real servers do beside the letter, and what a hostile one might do.

use std::{fmt::Debug, sync::Mutex};

use http::header::RETRY_AFTER;

use super::*;
use crate::{
    api::{DriftReads, RateLimit, RegistryConnection, UnknownOutcome},
    metrics::Metrics,
    registry::{
        Retry,
        transport::{Connect, Route, Transport, TransportError},
    },
};

/// Part of every credential here. No error text and no `Debug` may ever show it.
const CANARY: &str = "c4n4ry";
/// With characters that must not stand as they are in a header of RFC 7617 or in a form.
const SECRET: &str = "c4n4ry secret:/%+é";
const TOKEN: &str = "c4n4ry-token";
const INITIAL: &str = "c4n4ry-initial";

const ISSUER: &str = "https://as.example";
const REGISTER: &str = "https://as.example/register";
const MANAGED: &str = "https://as.example/register/id-1";
const TOKENS: &str = "https://as.example/token";
const METADATA: &str = "https://as.example/.well-known/oauth-authorization-server";

/// What the registry answers.
#[derive(Clone)]
enum Reply {
    Empty(u16),
    Json(u16, Value),
    Raw(u16, Vec<u8>),
    /// With `Retry-After`.
    Later(u16, &'static str),
    Interrupted,
    NotSent,
}

use Reply::{Empty, Interrupted, Json, Later, NotSent, Raw};

impl From<Reply> for Result<Response, TransportError> {
    fn from(reply: Reply) -> Self {
        let (status, after, body) = match reply {
            Empty(status) => (status, None, Vec::new()),
            Json(status, body) => (status, None, body.to_string().into_bytes()),
            Raw(status, body) => (status, None, body),
            Later(status, after) => (status, Some(after), Vec::new()),
            Interrupted => return Err(TransportError::Interrupted("the connection broke".into())),
            NotSent => return Err(TransportError::NotSent("no connection".into())),
        };
        let after = after.map(|after| (RETRY_AFTER, HeaderValue::from_static(after)));
        let headers = after.into_iter().collect();
        Ok(Response { status: StatusCode::from_u16(status).unwrap(), headers, body: body.into() })
    }
}

/// A request, as the registry saw it.
#[derive(Clone, Debug, PartialEq)]
struct Sent {
    method: Method,
    url: String,
    authorization: Given,
    body: Value,
}

#[derive(Clone, Debug, PartialEq)]
enum Given {
    Nothing,
    Bearer(String),
    Basic(String, String),
}

/// A registry that answers from a script and remembers what it was asked.
struct Scripted<F> {
    script: F,
    sent: Arc<Mutex<Vec<Sent>>>,
}

#[async_trait]
impl<F: Fn(&Sent) -> Reply + Send + Sync> Transport for Scripted<F> {
    async fn send(&self, request: Request) -> Result<Response, TransportError> {
        let sent = Sent {
            method: request.method,
            url: request.url.into(),
            authorization: match request.authorization {
                Authorization::None => Given::Nothing,
                Authorization::Bearer(token) => Given::Bearer(token.expose_secret().into()),
                Authorization::Cookie(_) => panic!("a cookie"),
                Authorization::Basic(user, password) => Given::Basic(user, password.expose_secret().into()),
            },
            body: match request.body {
                Body::Empty => Value::Null,
                Body::Json(bytes) => serde_json::from_slice(&bytes).unwrap(),
                Body::Form(bytes) => String::from_utf8(bytes.to_vec()).unwrap().into(),
            },
        };
        self.sent.lock().unwrap().push(sent.clone());
        (self.script)(&sent).into()
    }
}

struct Connects(Arc<dyn Transport>);

impl Connect for Connects {
    fn connect(&self, _: &Route) -> Result<Arc<dyn Transport>, String> {
        Ok(self.0.clone())
    }
}

/// A driver, the session below it, and what the registry was asked. Each outcome is searched for credentials on its way.
struct World {
    driver: DynamicRegistration,
    session: Arc<Session>,
    sent: Arc<Mutex<Vec<Sent>>>,
}

impl World {
    fn open(
        settings: Settings,
        rate_limit: Option<RateLimit>,
        script: impl Fn(&Sent) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let sent = Arc::default();
        let transport = Scripted { script, sent: Arc::clone(&sent) };
        let connection = RegistryConnection {
            dynamic_registration: Some(settings.clone()),
            rate_limit,
            ..RegistryConnection::default()
        };
        let connects = Connects(Arc::new(transport));
        let session = Arc::new(Session::open(&connection, &connects, Arc::new(Metrics::new())).unwrap());
        let driver = DynamicRegistration::new(
            settings,
            Arc::clone(&session),
            Some(Credentials::Bearer(INITIAL.into())),
        )
        .unwrap();
        Self { driver, session, sent }
    }

    /// A registry that publishes its metadata and otherwise follows the script.
    fn new(script: impl Fn(&Sent) -> Reply + Send + Sync + 'static) -> Self {
        Self::open(issuer(ISSUER), None, move |sent| match sent.url.as_str() {
            METADATA => Json(200, metadata()),
            _ => script(sent),
        })
    }

    /// A registry that publishes its metadata and has the same answer for everything else.
    fn always(reply: Reply) -> Self {
        Self::new(move |_| reply.clone())
    }

    /// The same with a JSON body.
    fn answering(status: u16, body: Value) -> Self {
        Self::always(Json(status, body))
    }

    /// All requests since the last time.
    fn sent(&self) -> Vec<Sent> {
        std::mem::take(&mut self.sent.lock().unwrap())
    }

    fn urls(&self) -> Vec<String> {
        self.sent().into_iter().map(|sent| format!("{} {}", sent.method, sent.url)).collect()
    }

    /// The last request.
    fn last(&self) -> Sent {
        self.sent().pop().expect("a request")
    }

    async fn prepare(&self) -> Result<(), Error> {
        searched(self.driver.prepare().await)
    }

    async fn register(&self, declared: &ClientMetadata) -> Result<Client, Error> {
        let wanted = Wanted { metadata: declared.clone(), mark: mark(), software_id: "software-1".into() };
        searched(self.driver.register(&wanted).await)
    }

    async fn observe(&self, client: &Client) -> Result<Option<Client>, Error> {
        searched(self.driver.observe(client).await)
    }

    async fn update(
        &self,
        client: &Client,
        declared: &ClientMetadata,
        reset: &[Field],
    ) -> Result<Option<Client>, Error> {
        searched(self.driver.update(client, declared, reset).await)
    }

    async fn deregister(&self, client: &Client) -> Result<(), Error> {
        searched(self.driver.deregister(client).await)
    }

    /// One of the three operations on a client: whether it is still there afterwards.
    async fn manage(&self, operation: &Method, client: &Client) -> Result<bool, Kind> {
        let outcome = match *operation {
            Method::GET => self.observe(client).await.map(|found| found.is_some()),
            Method::PUT => self.update(client, &named("new"), &[]).await.map(|found| found.is_some()),
            _ => self.deregister(client).await.map(|()| false),
        };
        outcome.map_err(|error| error.kind)
    }
}

/// Fails if a credential shows.
fn searched<T: Debug>(outcome: Result<T, Error>) -> Result<T, Error> {
    let text = outcome.as_ref().err().map(ToString::to_string);
    let shown = format!("{outcome:?} {outcome:#?} {text:?}");
    assert!(!shown.contains(CANARY), "a credential shows: {shown}");
    outcome
}

fn issuer(url: &str) -> Settings {
    Settings {
        issuer: Some(WebUri(url.into())),
        registration_endpoint: None,
        initial_access_token_secret_ref: None,
        unknown_outcome: UnknownOutcome::default(),
        drift_reads: DriftReads::default(),
    }
}

fn endpoint(url: &str) -> Settings {
    Settings { issuer: None, registration_endpoint: Some(WebUri(url.into())), ..issuer(url) }
}

fn metadata() -> Value {
    json!({"issuer": ISSUER, "registration_endpoint": REGISTER, "token_endpoint": TOKENS})
}

fn declared<const N: usize>(members: [(Field, Value); N]) -> ClientMetadata {
    ClientMetadata(members.into())
}

fn named(name: &str) -> ClientMetadata {
    declared([(Field::ClientName, json!(name))])
}

/// A server's information about client `id-1`, with every credential, and these members.
fn information(members: &Value) -> Value {
    let mut body = json!({
        "client_id": "id-1", "client_secret": SECRET, "client_secret_expires_at": 0,
        "registration_access_token": TOKEN, "registration_client_uri": MANAGED,
    });
    body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    body
}

fn mark() -> crate::registry::Mark {
    crate::registry::Mark {
        installation: "installation".into(),
        uid: "uid-1".into(),
        nonce: "n1".into(),
        replaces: None,
    }
}

/// Client `id-1`, as it came from its registration.
fn client() -> Client {
    let management = Management::Token { uri: Url::parse(MANAGED).unwrap(), token: TOKEN.into() };
    Client { client_secret: Some(SECRET.into()), ..Client::named("id-1", management) }
}

fn secret(client: &Client) -> Option<&str> {
    client.client_secret.as_ref().map(ExposeSecret::expose_secret)
}

fn managed(client: &Client) -> Result<(&str, &str), &str> {
    match &client.management {
        Management::Token { uri, token } => Ok((uri.as_str(), token.expose_secret())),
        Management::Registry => Err("by the registry"),
        Management::None(why) => Err(why),
    }
}

fn without(value: &Value, members: &[&str]) -> Value {
    let mut value = value.clone();
    value.as_object_mut().unwrap().retain(|member, _| !members.contains(&member.as_str()));
    value
}

mod discovery;

mod registration;

mod management;

mod pace;
