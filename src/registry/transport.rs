//! The narrow way out: one request, one bounded reply. Drivers know nothing else about HTTP clients, so a test can stand in here.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use secrecy::SecretString;
use thiserror::Error;
use url::Url;

/// One request. Not `Debug`: it holds credentials.
pub struct Request {
    /// The verb.
    pub method: Method,
    /// Where to.
    pub url: Url,
    /// How we authenticate.
    pub authorization: Authorization,
    /// What we send.
    pub body: Body,
}

/// How a request authenticates.
pub enum Authorization {
    /// Not at all.
    None,
    /// RFC 6750 section 2.1.
    Bearer(SecretString),
    /// A cookie, `name=value`.
    Cookie(SecretString),
    /// RFC 6749 section 2.3.1, both parts already form-encoded.
    Basic(String, SecretString),
}

/// The content of a request.
pub enum Body {
    /// Nothing.
    Empty,
    /// JSON.
    Json(Bytes),
    /// A form.
    Form(Bytes),
}

/// One reply, its body read whole and bounded. Not `Debug`: it may hold credentials.
pub struct Response {
    /// The status.
    pub status: StatusCode,
    /// The header fields.
    pub headers: HeaderMap,
    /// The body, at most [`Limits::body`] bytes.
    pub body: Bytes,
}

/// Why there is no reply.
#[derive(Clone, Debug, Error)]
pub enum TransportError {
    /// It leads to an address that is not sent to: nothing has left, not even a packet.
    #[error("{0}")]
    NotAllowed(String),
    /// No byte of the request left: it had no effect.
    #[error("{0}")]
    NotSent(String),
    /// The request left, the reply did not arrive whole: it may have had its effect.
    #[error("{0}")]
    Interrupted(String),
}

/// Sends requests to one registry.
#[async_trait]
pub trait Transport: Send + Sync {
    /// Sends one request, once: no redirect is followed and nothing is repeated.
    async fn send(&self, request: Request) -> Result<Response, TransportError>;
}

/// What bounds a transport.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long a request may take in all.
    pub timeout: Duration,
    /// How large a reply may be, in bytes.
    pub body: usize,
}

/// How to reach a registry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// What bounds the transport.
    pub limits: Limits,
    /// PEM certificates of further authorities.
    pub ca_bundle: Option<String>,
    /// The proxy on the way.
    pub proxy_url: Option<String>,
}

/// Makes transports; a test brings its own.
pub trait Connect: Send + Sync {
    /// A transport along `route`, or what is wrong with the route.
    fn connect(&self, route: &Route) -> Result<Arc<dyn Transport>, String>;
}
