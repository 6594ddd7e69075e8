//! A server of RFC 7591 and RFC 7592, plain, or one that gives a new token and a new secret at every read and update.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Registry;
use crate::providers::{Reply, Request};

/// The spec of its registry object.
pub fn registry() -> Value {
    json!({"dynamicRegistration": {"issuer": "https://as.example"}})
}

#[derive(Clone)]
struct Client {
    secret: String,
    token: String,
    metadata: Value,
}

/// The server.
#[derive(Default)]
pub struct Dynamic {
    rotates: bool,
    made: u32,
    clients: BTreeMap<String, Client>,
    given: Vec<String>,
}

impl Dynamic {
    /// A server without clients; `rotates` if each reply brings new credentials.
    pub fn new(rotates: bool) -> Self {
        Self { rotates, ..Self::default() }
    }

    fn fresh(&mut self, what: &str) -> String {
        self.made += 1;
        // Long, so that no other text holds it by chance.
        let value = format!("{what}-{:08}-of-the-simulation", self.made);
        self.given.push(value.clone());
        value
    }

    fn show(&self, id: &str, status: u16) -> Reply {
        let client = &self.clients[id];
        let mut body = client.metadata.clone();
        body["client_id"] = json!(id);
        body["client_secret"] = json!(client.secret);
        body["client_secret_expires_at"] = json!(0);
        body["registration_access_token"] = json!(client.token);
        body["registration_client_uri"] = json!(format!("https://as.example/register/{id}"));
        Reply::json(status, &body)
    }

    fn register(&mut self, metadata: Value) -> Reply {
        let (secret, token) = (self.fresh("secret"), self.fresh("token"));
        let id = format!("id-{}", self.made);
        self.clients.insert(id.clone(), Client { secret, token, metadata });
        self.show(&id, 201)
    }

    fn manage(&mut self, request: &Request, id: &str) -> Reply {
        let bearer = request.credentials("Bearer").unwrap_or_default();
        if self.clients.get(id).is_none_or(|client| client.token != bearer) {
            return error(401, "invalid_token");
        }
        match request.method.as_str() {
            "DELETE" => {
                self.clients.remove(id);
                return Reply::empty(204);
            }
            "PUT" => {
                let metadata = request.json().unwrap_or_default();
                self.clients.entry(id.into()).and_modify(|client| client.metadata = metadata);
            }
            _ => {}
        }
        if self.rotates {
            let (secret, token) = (self.fresh("secret"), self.fresh("token"));
            self.clients
                .entry(id.into())
                .and_modify(|client| (client.secret, client.token) = (secret, token));
        }
        self.show(id, 200)
    }
}

fn error(status: u16, code: &str) -> Reply {
    Reply::json(status, &json!({"error": code}))
}

fn metadata() -> Reply {
    let endpoint = |name: &str| format!("https://as.example/{name}");
    let document = json!({
        "issuer": "https://as.example",
        "registration_endpoint": endpoint("register"),
        "token_endpoint": endpoint("token"),
    });
    Reply::json(200, &document)
}

impl Registry for Dynamic {
    fn exchange(&mut self, request: &Request) -> Option<Reply> {
        let path = request.path.clone();
        Some(match path.as_str() {
            "/register" => self.register(request.json().unwrap_or_default()),
            "/token" => {
                let basic = request.credentials("Basic").unwrap_or_default();
                let known =
                    self.clients.iter().any(|(id, client)| basic == format!("{id}:{}", client.secret));
                if known { error(400, "unauthorized_client") } else { error(401, "invalid_client") }
            }
            path if path.contains(".well-known") => metadata(),
            path => self.manage(request, path.trim_start_matches("/register/")),
        })
    }

    fn operation(&self, request: &Request) -> String {
        let path = match request.path.as_str() {
            path if path.starts_with("/register/") => "/register/{client_id}",
            path if path.contains(".well-known") => "/.well-known",
            path => path,
        };
        format!("{} {path}", request.method)
    }

    fn names(&self) -> BTreeMap<String, String> {
        let name = |client: &Client| client.metadata["client_name"].as_str().unwrap_or_default().to_owned();
        self.clients.iter().map(|(id, client)| (id.clone(), name(client))).collect()
    }

    fn software_id(&self, id: &str) -> Option<String> {
        self.clients.get(id)?.metadata["software_id"].as_str().map(str::to_owned)
    }

    fn authenticates(&self, id: &str, secret: &str) -> bool {
        self.clients.get(id).is_some_and(|client| client.secret == secret)
    }

    fn secrets(&self, id: &str) -> usize {
        usize::from(self.clients.contains_key(id))
    }

    fn rename(&mut self, id: &str, name: &str) {
        self.clients.entry(id.into()).and_modify(|client| client.metadata["client_name"] = json!(name));
    }

    fn take(&mut self, id: &str) {
        self.clients.remove(id);
    }

    fn spoil(&mut self, _: &str) {}

    fn other_account(&mut self) -> Value {
        Value::Null
    }

    fn strangers(&self) -> Vec<String> {
        Vec::new()
    }

    fn secrets_given(&self) -> Vec<String> {
        self.given.clone()
    }

    fn complaints(&self) -> Vec<String> {
        Vec::new()
    }
}
