//! What the tests of the drivers share: sessions whose registry is in memory, and a search for secrets in whatever comes out.

mod laws;

use std::{
    fmt::Debug,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use http::{
    HeaderMap,
    header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, HeaderName},
};
use secrecy::ExposeSecret;
use serde_json::Value;

use super::{
    Client, ClientMetadata, Error, Field, Mark, Session, Wanted, admin_api,
    transport::{Authorization, Body, Connect, Request, Response, Route, Transport, TransportError},
};
use crate::{
    api::RegistryConnection,
    metrics::Metrics,
    providers::{self, Fake, Provider, Reply},
};

/// Part of every credential here. No error text and no `Debug` may ever show it.
pub(crate) const CANARY: &str = "CANARY";

/// What a registry answers to a request; `None` if nobody ever learns.
type Answer = dyn Fn(&providers::Request) -> Option<Reply> + Send + Sync;

/// A way to a registry in memory.
struct Wire {
    answer: Arc<Answer>,
    limit: usize,
}

struct Wires(Arc<Answer>);

impl Connect for Wires {
    fn connect(&self, route: &Route) -> Result<Arc<dyn Transport>, String> {
        Ok(Arc::new(Wire { answer: self.0.clone(), limit: route.limits.body }))
    }
}

#[async_trait]
impl Transport for Wire {
    async fn send(&self, request: Request) -> Result<Response, TransportError> {
        // As on a real one, others come between request and reply.
        tokio::task::yield_now().await;
        let interrupted = |why: &str| Err(TransportError::Interrupted(why.into()));
        match (self.answer)(&on_the_wire(request)) {
            None => interrupted("the connection broke"),
            Some(reply) if reply.body.len() > self.limit => interrupted("the reply is too large"),
            Some(Reply { status, headers, body }) => Ok(Response { status, headers, body }),
        }
    }
}

pub(crate) fn on_the_wire(request: Request) -> providers::Request {
    assert!(!request.url.query().unwrap_or_default().contains(['[', ']']), "brackets are percent-encoded");
    let mut headers = HeaderMap::new();
    let mut say = |name: HeaderName, value: String| headers.insert(name, value.parse().unwrap());
    match request.authorization {
        Authorization::None => None,
        Authorization::Bearer(token) => say(AUTHORIZATION, format!("Bearer {}", token.expose_secret())),
        Authorization::Cookie(cookie) => say(COOKIE, cookie.expose_secret().into()),
        Authorization::Basic(user, password) => {
            say(AUTHORIZATION, format!("Basic {user}:{}", password.expose_secret()))
        }
    };
    let body = match request.body {
        Body::Empty => bytes::Bytes::new(),
        Body::Json(bytes) => {
            say(CONTENT_TYPE, "application/json".into());
            bytes
        }
        Body::Form(bytes) => {
            say(CONTENT_TYPE, "application/x-www-form-urlencoded".into());
            bytes
        }
    };
    let query = request.url.query_pairs().into_owned().collect();
    providers::Request { method: request.method, path: request.url.path().into(), query, headers, body }
}

/// A session with a registry that a function plays.
pub(crate) fn session_answering(
    connection: &RegistryConnection,
    answer: impl Fn(&providers::Request) -> Option<Reply> + Send + Sync + 'static,
) -> Arc<Session> {
    let session = Session::open(connection, &Wires(Arc::new(answer)), Arc::new(Metrics::new()));
    Arc::new(session.unwrap())
}

/// A session with a fake.
pub(crate) fn session_over<P: Provider>(fake: &Fake<P>, connection: &RegistryConnection) -> Arc<Session> {
    let fake = fake.clone();
    session_answering(connection, move |request| fake.exchange(request))
}

/// The registry that a manifest describes.
pub(crate) fn connection(spec: Value) -> RegistryConnection {
    serde_json::from_value(spec).unwrap()
}

/// The requests that a registry got, each as verb and path, and its body.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<(String, Value)>>>);

impl Log {
    /// To be told of each request.
    pub(crate) fn note(&self, request: &providers::Request) {
        let line = format!("{} {}", request.method, request.path);
        let body = serde_json::from_slice(&request.body).unwrap_or_default();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((line, body));
    }

    /// All since the last time.
    pub(crate) fn take(&self) -> Vec<(String, Value)> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The same without bodies.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.take().into_iter().map(|(line, _)| line).collect()
    }

    /// The body of the last request.
    pub(crate) fn last_body(&self) -> Value {
        self.take().pop().expect("a request").1
    }
}

/// Fails if a credential shows.
pub(crate) fn searched<T: Debug>(outcome: Result<T, Error>) -> Result<T, Error> {
    let text = outcome.as_ref().err().map(ToString::to_string);
    let shown = format!("{outcome:?} {outcome:#?} {text:?}");
    assert!(!shown.contains(CANARY), "a credential shows: {shown}");
    outcome
}

pub(crate) fn declared<const N: usize>(members: [(Field, Value); N]) -> ClientMetadata {
    ClientMetadata(members.into())
}

/// What is wanted of a client of ours; the mark's attempt is this one.
pub(crate) fn wanted(metadata: ClientMetadata, nonce: &str) -> Wanted {
    let mark =
        Mark { installation: "inst-1".into(), uid: "uid-1".into(), nonce: nonce.into(), replaces: None };
    Wanted { metadata, mark, software_id: "software-1".into() }
}

pub(crate) fn secret(client: &Client) -> Option<&str> {
    client.client_secret.as_ref().map(ExposeSecret::expose_secret)
}

/// What a document shows of a field.
pub(crate) fn shown(client: &Client, field: Field) -> &Value {
    client.document.get(field.wire_name()).unwrap_or_else(|| panic!("{field:?} is not in the document"))
}
