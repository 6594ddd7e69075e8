//! The one place that sends HTTP to registries, with its caps.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, COOKIE, HeaderValue};
use reqwest::{Certificate, Client, Proxy, redirect, retry};
use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use secrecy::ExposeSecret;
use url::Url;

use super::{
    address::{AddressPolicy, NotAllowed},
    transport::{Authorization, Body, Connect, Limits, Request, Response, Route, Transport, TransportError},
};

const USER_AGENT: &str = concat!("oauth-operator/", env!("CARGO_PKG_VERSION"));
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Makes transports that speak HTTP over the network.
pub struct HttpConnect {
    /// The addresses that are sent to.
    pub addresses: AddressPolicy,
}

impl Connect for HttpConnect {
    fn connect(&self, route: &Route) -> Result<Arc<dyn Transport>, String> {
        let mut builder = Client::builder()
            .user_agent(USER_AGENT)
            // Before the whole request's: who has no connection has sent nothing, and may say so.
            .connect_timeout(CONNECT_TIMEOUT.min(route.limits.timeout / 2))
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            // A kept connection that the server has just closed would turn a registration into an unknown outcome.
            .pool_max_idle_per_host(0)
            .referer(false)
            .dns_resolver(Arc::new(self.addresses.clone()))
            .no_proxy();
        if let Some(pem) = &route.ca_bundle {
            let certificates =
                authorities(pem).ok_or("tls.caBundle is not a bundle of PEM certificates of authorities")?;
            builder = builder.tls_certs_merge(certificates);
        }
        let proxy = route.proxy_url.as_deref().map(proxy_url).transpose()?;
        if let Some(url) = &proxy {
            builder = builder.proxy(Proxy::all(url.clone()).map_err(|_| NO_PROXY)?);
        }
        let client = builder.build().map_err(|e| format!("no HTTP client can be made: {}", cause(&e)))?;
        let (limits, addresses) = (route.limits.clone(), self.addresses.clone());
        Ok(Arc::new(HttpTransport { client, limits, addresses, proxy }))
    }
}

const NO_PROXY: &str = "proxyUrl is not the URL of a proxy";

/// The URL of a proxy, as it is checked and as it is connected to.
fn proxy_url(text: &str) -> Result<Url, String> {
    Url::parse(text).ok().filter(Url::has_host).ok_or_else(|| NO_PROXY.to_owned())
}

/// The certificates of a PEM bundle, `None` if one cannot be trusted or there is none: that would only show as a broken handshake.
fn authorities(pem: &str) -> Option<Vec<Certificate>> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().ok()?;
    let (_, refused) = RootCertStore::empty().add_parsable_certificates(found.iter().cloned());
    let certificates = found.iter().map(|der| Certificate::from_der(der)).collect::<Result<_, _>>().ok()?;
    (refused == 0 && !found.is_empty()).then_some(certificates)
}

struct HttpTransport {
    client: Client,
    limits: Limits,
    addresses: AddressPolicy,
    proxy: Option<Url>,
}

#[async_trait]
impl Transport for HttpTransport {
    async fn send(&self, request: Request) -> Result<Response, TransportError> {
        let timeout = self.limits.timeout;
        tokio::time::timeout(timeout, self.exchange(request)).await.unwrap_or_else(|_| {
            Err(TransportError::Interrupted(format!("no complete answer within {timeout:?}")))
        })
    }
}

impl HttpTransport {
    async fn exchange(&self, request: Request) -> Result<Response, TransportError> {
        for url in self.proxy.iter().chain([&request.url]) {
            self.addresses.check(url).map_err(|refused| TransportError::NotAllowed(refused.to_string()))?;
        }
        let reply = self.client.execute(build(&self.client, request)?).await.map_err(|e| {
            if let Some(refused) = not_allowed(&e) {
                TransportError::NotAllowed(refused.to_string())
            } else if e.is_connect() || e.is_builder() {
                TransportError::NotSent(format!("no connection: {}", cause(&e)))
            } else {
                TransportError::Interrupted(format!("the connection broke: {}", cause(&e)))
            }
        })?;
        let (status, headers) = (reply.status(), reply.headers().clone());
        let body = read(reply, self.limits.body).await?;
        Ok(Response { status, headers, body })
    }
}

fn build(client: &Client, request: Request) -> Result<reqwest::Request, TransportError> {
    let mut builder = client.request(request.method, request.url).header(ACCEPT, "application/json");
    builder = match request.authorization {
        Authorization::None => builder,
        Authorization::Bearer(token) => {
            let value = HeaderValue::from_str(&format!("Bearer {}", token.expose_secret()));
            builder.header(AUTHORIZATION, sensitive(value)?)
        }
        Authorization::Cookie(cookie) => {
            builder.header(COOKIE, sensitive(HeaderValue::from_str(cookie.expose_secret()))?)
        }
        Authorization::Basic(user, password) => builder.basic_auth(user, Some(password.expose_secret())),
    };
    builder = match request.body {
        Body::Empty => builder,
        Body::Json(bytes) => builder.header(CONTENT_TYPE, "application/json").body(bytes),
        Body::Form(bytes) => builder.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(bytes),
    };
    builder.build().map_err(|e| TransportError::NotSent(format!("no request can be made: {}", cause(&e))))
}

fn sensitive(
    value: Result<HeaderValue, http::header::InvalidHeaderValue>,
) -> Result<HeaderValue, TransportError> {
    let mut value = value
        .map_err(|_| TransportError::NotSent("the token has characters that no header may have".into()))?;
    value.set_sensitive(true);
    Ok(value)
}

async fn read(mut reply: reqwest::Response, cap: usize) -> Result<Bytes, TransportError> {
    let mut body = BytesMut::new();
    loop {
        match reply.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() > cap => {
                return Err(TransportError::Interrupted(format!("the reply is larger than {cap} bytes")));
            }
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => return Ok(body.freeze()),
            Err(e) => return Err(TransportError::Interrupted(format!("the reply broke off: {}", cause(&e)))),
        }
    }
}

/// What the resolver refused, below whatever was made of it.
fn not_allowed(error: &reqwest::Error) -> Option<&NotAllowed> {
    let first: &dyn std::error::Error = error;
    std::iter::successors(Some(first), |error| error.source()).find_map(|error| error.downcast_ref())
}

/// The innermost cause. The outer ones repeat the URL, whose query may hold what is not for logs.
fn cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    if std::ptr::addr_eq(cause, error) { "refused by the HTTP client".into() } else { cause.to_string() }
}

#[cfg(test)]
mod tests;
