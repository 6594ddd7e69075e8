//! Teable: the OAuth apps of a user, in the cloud or self-hosted.
//!
//! Facts are those of the server's source up to November 2025 and of the help pages up to March 2026; where they differ from one
//! another, or newer servers from them, both answers are understood.

mod sign_in;
mod wire;

use std::sync::Arc;

use async_trait::async_trait;
use http::{Method, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use super::{
    Adoption, Capabilities, Client, ClientMetadata, Credentials, Field, IssuedSecret, MarkPlace, Registry,
    Rotation, Session, Support, Wanted,
    admin_api::{AdminApi, undeclared, words},
    error::{Error, Kind},
    json::{self, object, text},
    metadata::Document,
    transport::{Authorization, Body, Response},
};
use crate::api::Teable as Settings;

/// The driver.
pub struct Teable {
    api: AdminApi,
    credentials: Credentials,
}

/// A request below the collection of OAuth apps.
struct Call<'a> {
    operation: &'static str,
    method: Method,
    path: &'a [&'a str],
    body: Option<&'a Document>,
}

impl Teable {
    /// A driver over a session.
    ///
    /// # Errors
    /// If `url` is no URL, which the API server refuses beforehand.
    pub fn new(settings: &Settings, session: Arc<Session>, credentials: Credentials) -> Result<Self, Error> {
        Ok(Self { api: AdminApi::new("Teable", &settings.url, session)?, credentials })
    }

    /// Sends a request, and once more in a new session if the server does not know ours any more: whoever answers 401 has done
    /// nothing, so that holds for requests that make something, too.
    async fn call(&self, call: Call<'_>) -> Result<Response, Error> {
        if let Credentials::Bearer(token) = &self.credentials {
            return self.attempt(&call, self.api.bearer(token)?).await;
        }
        let ticket = self.ticket(None).await?;
        let reply = self.attempt(&call, Authorization::Cookie(ticket.clone())).await?;
        if reply.status != StatusCode::UNAUTHORIZED {
            return Ok(reply);
        }
        let renewed = self.ticket(Some(&ticket)).await?;
        if call.method == Method::POST {
            self.api.session().pace().await?;
        }
        let reply = self.attempt(&call, Authorization::Cookie(renewed.clone())).await?;
        if reply.status == StatusCode::UNAUTHORIZED {
            self.distrust(&renewed).await;
        }
        Ok(reply)
    }

    async fn attempt(&self, call: &Call<'_>, authorization: Authorization) -> Result<Response, Error> {
        let url = self.api.url(&[&["api", "oauth", "client"], call.path].concat());
        let body = call.body.map_or(Body::Empty, json::body);
        match call.method {
            Method::POST => self.api.send_once(call.operation, url, authorization, body).await,
            _ => self.api.send(call.operation, call.method.clone(), url, authorization, body).await,
        }
    }

    /// What a reply means that is no success. Personal access tokens are refused for OAuth apps whatever their rights: the
    /// routes lack the mark that lets tokens through. The guard says so in these words; others have other reasons.
    fn refusal(&self, reply: &Response, what: &str) -> Error {
        let by_token = matches!(self.credentials, Credentials::Bearer(_));
        let guarded =
            says(reply, "code", "restricted_resource") && says(reply, "message", "Forbidden resource");
        if by_token && reply.status == StatusCode::FORBIDDEN && guarded {
            let why = format!(
                "Teable answered 403 (restricted_resource) to {what}: this server does not accept access tokens for OAuth apps; \
                 set authentication: Password in the registry, with the e-mail address and password of a user of its own"
            );
            return Error::new(Kind::Unauthorized, why);
        }
        let secrets = self.secrets();
        let secrets: Vec<&str> = secrets.iter().map(ExposeSecret::expose_secret).collect();
        self.api.refusal(reply, what, &words(reply, &["code", "message"], &secrets))
    }

    /// What must stand in no text.
    fn secrets(&self) -> Vec<SecretString> {
        let ticket = self.api.session().learned().ticket.clone();
        let value = ticket.and_then(|(ticket, _)| Some(ticket.expose_secret().split_once('=')?.1.into()));
        value.into_iter().chain([self.credentials.secret().clone()]).collect()
    }

    /// After an answer that says nothing: the client as a read shows it, `None` if that proves it absent. A row that is missing
    /// surfaces as a 500, since the server does not translate its database's errors; servers of 2026 seem to answer 404.
    async fn doubt(&self, client: &Client, reply: &Response) -> Option<Result<Option<Client>, Error>> {
        match reply.status.as_u16() {
            404 | 500 => Some(self.observe(client).await),
            _ => None,
        }
    }
}

/// The same answer, now that a read has shown the client in its place.
fn still_there(reply: &Response, what: &str) -> Error {
    let status = reply.status.as_u16();
    Error::new(Kind::Unavailable, format!("Teable answered {status} to {what}, but shows the client"))
}

fn gone() -> Error {
    Error::new(Kind::Unavailable, "Teable issued no client secret: the client does not exist there any more")
}

/// Whether a refusal says this in this member.
fn says(reply: &Response, member: &str, word: &str) -> bool {
    object(&reply.body).is_ok_and(|body| text(&body, member) == Some(word))
}

/// Whether a 404 speaks of a client. The web framework gives the same code for a path that it does not know, and a gateway no
/// code at all.
fn proves_absence(reply: &Response) -> bool {
    let of_router = object(&reply.body)
        .is_ok_and(|body| text(&body, "message").is_some_and(|message| message.starts_with("Cannot ")));
    reply.status == StatusCode::NOT_FOUND && says(reply, "code", "not_found") && !of_router
}

#[async_trait]
impl Registry for Teable {
    fn capabilities(&self) -> Capabilities {
        let settable = [
            Field::AllowDeviceFlow,
            Field::ClientName,
            Field::ClientUri,
            Field::DefaultRedirectUri,
            Field::Description,
            Field::LogoUri,
            Field::RedirectUris,
            Field::Scopes,
        ];
        let fixed = wire::fixed().map(|(field, value)| (field, Support::Fixed(vec![value])));
        Capabilities {
            fields: settable.map(|field| (field, Support::Settable)).into_iter().chain(fixed).collect(),
            required: vec![Field::ClientUri, Field::RedirectUris],
            defaults: [(Field::AllowDeviceFlow, vec![Value::Bool(false)])].into(),
            adoption: Adoption::WithNewSecret,
            mark: MarkPlace::Beside,
            rotation: Rotation::Overlap,
            shows_secrets: false,
            list_is_whole: false,
        }
    }

    fn origin(&self) -> String {
        self.api.origin()
    }

    fn issuer(&self) -> Option<String> {
        None
    }

    /// A request that names no redirect URI gets the first one, so the first one is a value of its own.
    fn normalised(&self, mut declared: ClientMetadata) -> ClientMetadata {
        let first = declared.get(Field::RedirectUris).and_then(|uris| uris.get(0)).cloned();
        if let Some(first) = first {
            declared.0.entry(Field::DefaultRedirectUri).or_insert(first);
        }
        declared
    }

    async fn prepare(&self) -> Result<(), Error> {
        match &self.credentials {
            Credentials::Bearer(token) => drop(self.api.bearer(token)?),
            Credentials::Password { .. } => drop(self.ticket(None).await?),
        }
        self.api.session().pace().await
    }

    async fn register(&self, wanted: &Wanted) -> Result<Client, Error> {
        let body = wire::creation(wanted);
        let call = Call { operation: "register", method: Method::POST, path: &[], body: Some(&body) };
        let reply = self.call(call).await?;
        if !reply.status.is_success() {
            return Err(self.refusal(&reply, "the registration"));
        }
        let read =
            object(&reply.body).and_then(|members| wire::with_plain_secret(wire::whole(&members)?, &members));
        read.map_err(|why| self.api.unreadable(Kind::Ambiguous, "the registration", &why))
    }

    async fn observe(&self, client: &Client) -> Result<Option<Client>, Error> {
        let path = [client.client_id.as_str()];
        let reply =
            self.call(Call { operation: "read", method: Method::GET, path: &path, body: None }).await?;
        if proves_absence(&reply) {
            return Ok(None);
        }
        if reply.status != StatusCode::OK {
            return Err(undeclared(self.refusal(&reply, "reading the client")));
        }
        let read = object(&reply.body).and_then(|members| {
            let secrets = Some(wire::secrets(&members)?);
            Ok(Client { secrets, ..wire::again(&members, client)? })
        });
        read.map(Some).map_err(|why| self.api.unreadable(Kind::Protocol, "reading the client", &why))
    }

    async fn update(
        &self,
        client: &Client,
        wanted: &ClientMetadata,
        reset: &[Field],
    ) -> Result<Option<Client>, Error> {
        let (path, body) = ([client.client_id.as_str()], wire::replacement(client, wanted, reset));
        let call = Call { operation: "update", method: Method::PUT, path: &path, body: Some(&body) };
        let reply = self.call(call).await?;
        if let Some(found) = self.doubt(client, &reply).await {
            return if found?.is_none() { Ok(None) } else { Err(still_there(&reply, "the update")) };
        }
        if !reply.status.is_success() {
            return Err(self.refusal(&reply, "the update"));
        }
        let read = object(&reply.body).and_then(|members| wire::again(&members, client));
        read.map(Some).map_err(|why| self.api.unreadable(Kind::Protocol, "the update", &why))
    }

    async fn deregister(&self, client: &Client) -> Result<(), Error> {
        let path = [client.client_id.as_str()];
        let call = Call { operation: "deregister", method: Method::DELETE, path: &path, body: None };
        let reply = self.call(call).await?;
        if let Some(found) = self.doubt(client, &reply).await {
            return if found?.is_none() { Ok(()) } else { Err(still_there(&reply, "the deregistration")) };
        }
        if reply.status.is_success() {
            Ok(())
        } else {
            Err(undeclared(self.refusal(&reply, "the deregistration")))
        }
    }

    /// Only the apps that the user of our credentials has made: nobody else's are shown.
    async fn list(&self) -> Result<Vec<Client>, Error> {
        let reply = self.call(Call { operation: "list", method: Method::GET, path: &[], body: None }).await?;
        if reply.status != StatusCode::OK {
            return Err(undeclared(self.refusal(&reply, "listing the clients")));
        }
        let read = json::value(&reply.body).and_then(|body| match body {
            Value::Array(items) => items.iter().map(wire::listed).collect(),
            _ => Err("its body is JSON but no array".into()),
        });
        read.map_err(|why| self.api.unreadable(Kind::Protocol, "listing the clients", &why))
    }

    async fn issue_secret(&self, client: &Client) -> Result<IssuedSecret, Error> {
        let path = [client.client_id.as_str(), "secret"];
        let call = Call { operation: "issue-secret", method: Method::POST, path: &path, body: None };
        let reply = match self.call(call).await {
            // A client that is gone has no secret that anybody would have to look for.
            Err(error) if error.kind == Kind::Ambiguous => {
                return Err(if matches!(self.observe(client).await, Ok(None)) { gone() } else { error });
            }
            reply => reply?,
        };
        if let Some(found) = self.doubt(client, &reply).await {
            return Err(if found?.is_none() {
                gone()
            } else {
                still_there(&reply, "issuing a client secret")
            });
        }
        if !reply.status.is_success() {
            return Err(undeclared(self.refusal(&reply, "issuing a client secret")));
        }
        let read = object(&reply.body).and_then(|members| wire::issued(&members));
        read.map_err(|why| self.api.unreadable(Kind::Ambiguous, "issuing a client secret", &why))
    }

    async fn revoke_secret(&self, client: &Client, secret_id: &str) -> Result<(), Error> {
        let path = [client.client_id.as_str(), "secret", secret_id];
        let call = Call { operation: "revoke-secret", method: Method::DELETE, path: &path, body: None };
        let reply = self.call(call).await?;
        if let Some(found) = self.doubt(client, &reply).await {
            let secrets = found?.and_then(|client| client.secrets).unwrap_or_default();
            let listed = secrets.iter().any(|secret| secret.id == secret_id);
            return if listed { Err(still_there(&reply, "revoking a client secret")) } else { Ok(()) };
        }
        if reply.status.is_success() {
            Ok(())
        } else {
            Err(undeclared(self.refusal(&reply, "revoking a client secret")))
        }
    }
}

#[cfg(test)]
mod tests;
