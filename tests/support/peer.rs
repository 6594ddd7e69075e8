//! What the tests can do with any registry that stands in for a real one.

use super::http;
use serde::Deserialize;
use serde_json::Value;
use std::path::Path;

/// The token that every peer wants before it registers anybody.
pub const INITIAL_ACCESS_TOKEN: &str = "CANARY-initial-access-token";

/// A registry with RFC 7591 and RFC 7592 whose insides the tests can see and change.
pub trait Peer {
    /// Its issuer's URL, as its clients see it, without a slash at its end.
    fn url(&self) -> &str;

    /// Where it listens, past any proxy.
    fn own_url(&self) -> &str;

    /// The log of what it was asked.
    fn request_log(&self) -> &Path;

    /// The clients it has, with everything it stores about them.
    async fn clients(&self) -> Vec<Value> {
        let text = http::get(&self.inspect("")).await.expect("the peer shows its clients");
        serde_json::from_str(&text).expect("a list of clients")
    }

    /// Somebody else changes a client behind the operator's back.
    async fn patch(&self, client_id: &str, changes: &Value) {
        let request = http::client()
            .patch(self.inspect(client_id))
            .header("content-type", "application/json")
            .body(changes.to_string());
        http::text(request).await.expect("the peer changes the client");
    }

    /// Somebody else removes a client behind the operator's back.
    async fn lose(&self, client_id: &str) {
        http::text(http::client().delete(self.inspect(client_id))).await.expect("the peer loses the client");
    }

    /// Everything it has answered, except for the tests' own inspection, in order.
    fn requests(&self) -> Vec<Request> {
        let log = std::fs::read_to_string(self.request_log()).unwrap_or_default();
        requests_in(&log)
    }

    /// Registers a client as anybody with the initial access token can, without the operator. Returns the answer.
    async fn register(&self, metadata: &Value) -> Value {
        let discovery = http::get(&format!("{}/.well-known/oauth-authorization-server", self.url())).await;
        let discovery: Value =
            serde_json::from_str(&discovery.expect("discovery")).expect("discovery in JSON");
        let endpoint = discovery["registration_endpoint"].as_str().expect("a registration endpoint");
        let request = http::client()
            .post(endpoint)
            .bearer_auth(INITIAL_ACCESS_TOKEN)
            .header("content-type", "application/json")
            .body(metadata.to_string());
        serde_json::from_str(&http::text(request).await.expect("a registration")).expect("a client in JSON")
    }

    /// Where the tests look inside: at a client, or at all of them.
    fn inspect(&self, client_id: &str) -> String {
        let id: String = url::form_urlencoded::byte_serialize(client_id.as_bytes()).collect();
        let slash = if id.is_empty() { "" } else { "/" };
        format!("{}/inspect/clients{slash}{id}", self.own_url())
    }
}

/// A request that a peer has answered.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Request {
    /// The HTTP method.
    pub method: String,
    /// The path, without its query.
    pub path: String,
    /// The HTTP status of the answer.
    pub status: u16,
}

/// One request a line, for assertion messages.
pub fn describe(requests: &[Request]) -> String {
    let line = |request: &Request| format!("{} {}: {}", request.method, request.path, request.status);
    requests.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn requests_in(log: &str) -> Vec<Request> {
    let parse =
        |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("request log: {error}: {line}"));
    let requests = log.split_inclusive('\n').filter(|line| line.ends_with('\n')).map(parse);
    requests.filter(|request: &Request| !request.path.starts_with("/inspect/")).collect()
}
