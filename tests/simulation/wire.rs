//! The way of one operator to registries: a transport that keeps the limits of the real one and has the network for a wire.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use oauth_operator::registry::transport::{self, Connect, Limits, Route, Transport, TransportError};
use secrecy::ExposeSecret;

use crate::{
    network::{Call, End, Network, Reply},
    providers,
};

/// Where its requests set out.
pub struct Road {
    pub network: Network,
    pub who: usize,
}

struct Vehicle {
    network: Network,
    who: usize,
    limits: Limits,
}

impl Connect for Road {
    fn connect(&self, route: &Route) -> Result<Arc<dyn Transport>, String> {
        let (network, who, limits) = (self.network.clone(), self.who, route.limits.clone());
        Ok(Arc::new(Vehicle { network, who, limits }))
    }
}

#[async_trait::async_trait]
impl Transport for Vehicle {
    async fn send(&self, request: transport::Request) -> Result<transport::Response, TransportError> {
        let exchange = self.network.carry(self.who, Call::Registry(on_the_wire(request)));
        let interrupted = |why: &str| Err(TransportError::Interrupted(why.into()));
        match tokio::time::timeout(self.limits.timeout, exchange).await {
            Ok(End::Reply(Reply::Registry(Some(reply)))) if reply.body.len() <= self.limits.body => {
                Ok(transport::Response { status: reply.status, headers: reply.headers, body: reply.body })
            }
            Ok(End::Refused) => Err(TransportError::NotSent("connection refused".into())),
            Ok(End::Cut(_)) => interrupted("the reply ended early"),
            Ok(End::Huge | End::Reply(_)) => interrupted("the reply is too large"),
            Ok(End::Silence) => {
                tokio::time::sleep(self.limits.timeout).await;
                interrupted("no answer")
            }
            Err(_) => interrupted("no answer"),
        }
    }
}

fn on_the_wire(request: transport::Request) -> providers::Request {
    use transport::{Authorization, Body};
    let mut headers = HeaderMap::new();
    let mut say = |name: &'static str, value: String| headers.insert(name, value.parse().expect("a header"));
    match request.authorization {
        Authorization::None => None,
        Authorization::Bearer(token) => say("authorization", format!("Bearer {}", token.expose_secret())),
        Authorization::Cookie(cookie) => say("cookie", cookie.expose_secret().into()),
        // Not in base64, which nothing here would gain from.
        Authorization::Basic(id, secret) => {
            say("authorization", format!("Basic {id}:{}", secret.expose_secret()))
        }
    };
    let body = match request.body {
        Body::Empty => Bytes::new(),
        Body::Json(bytes) => {
            say("content-type", "application/json".into());
            bytes
        }
        Body::Form(bytes) => {
            say("content-type", "application/x-www-form-urlencoded".into());
            bytes
        }
    };
    let query = request.url.query_pairs().into_owned().collect();
    providers::Request { method: request.method, path: request.url.path().into(), query, headers, body }
}
