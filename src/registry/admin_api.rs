//! An HTTP API that manages all clients with one set of credentials: what the drivers of such registries share.

use std::sync::Arc;

use http::{HeaderValue, Method};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use url::Url;

use super::{
    Client, ClientMetadata, Document, Field, ShownMark,
    error::{Error, Kind, quote},
    json,
    session::Session,
    transport::{Authorization, Body, Request, Response},
};
use crate::api::WebUri;

/// The way to such an API.
pub struct AdminApi {
    /// What people call the registry.
    name: &'static str,
    base: Url,
    session: Arc<Session>,
}

impl AdminApi {
    /// An API below a base URL.
    ///
    /// # Errors
    /// If that is no URL, which the API server refuses beforehand.
    pub fn new(name: &'static str, WebUri(url): &WebUri, session: Arc<Session>) -> Result<Self, Error> {
        let base = Url::parse(url).ok().filter(|url| !url.cannot_be_a_base());
        let base = base.ok_or_else(|| {
            Error::new(Kind::Unsupported, format!("the url of the {name} registry object is not a URL"))
        })?;
        Ok(Self { name, base, session })
    }

    /// Scheme, host and port that credentials may be sent to.
    pub fn origin(&self) -> String {
        self.base.origin().ascii_serialization()
    }

    /// The session.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The URL of a path below the base; each segment is percent-encoded.
    pub fn url(&self, segments: &[&str]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url
    }

    /// A token as RFC 6750 section 2.1 sends it.
    ///
    /// # Errors
    /// If no header may have its characters: it could never be sent.
    pub fn bearer(&self, token: &SecretString) -> Result<Authorization, Error> {
        if HeaderValue::from_str(token.expose_secret()).is_err() {
            let why = format!(
                "the credentials for {} have characters that no header may have, a line break perhaps: check the registry's credentialsSecretRef",
                self.name
            );
            return Err(Error::new(Kind::Unauthorized, why));
        }
        Ok(Authorization::Bearer(token.clone()))
    }

    /// Sends a request that may be repeated when nobody knows its outcome.
    pub async fn send(
        &self,
        operation: &'static str,
        method: Method,
        url: Url,
        authorization: Authorization,
        body: Body,
    ) -> Result<Response, Error> {
        self.session.send(operation, Request { method, url, authorization, body }).await
    }

    /// Sends a request that makes something, once, after [`Session::pace`]. A reply that leaves open whether it did is
    /// [`Kind::Ambiguous`].
    pub async fn send_once(
        &self,
        operation: &'static str,
        url: Url,
        authorization: Authorization,
        body: Body,
    ) -> Result<Response, Error> {
        let request = Request { method: Method::POST, url, authorization, body };
        let reply = self.session.send_prepared(operation, request).await?;
        match reply.status.as_u16() {
            status @ (303 | 408 | 500..) => {
                let why = format!("{} answered {status}, which leaves open whether it did it", self.name);
                Err(Error::new(Kind::Ambiguous, why))
            }
            _ => Ok(reply),
        }
    }

    /// What a reply means that is no success, where the registry has no meaning of its own for it. `detail` is what it says of
    /// it, as far as that may be repeated. A 404 here is one of a collection or path: it says nothing about any client.
    pub fn refusal(&self, reply: &Response, what: &str, detail: &str) -> Error {
        let (name, status) = (self.name, reply.status.as_u16());
        let detail = if detail.is_empty() { String::new() } else { format!(" ({detail})") };
        let (kind, summary) = match status {
            401 => (
                Kind::Unauthorized,
                format!(
                    "{name} answered 401 to {what}{detail}: it does not accept the credentials; check the registry's credentialsSecretRef"
                ),
            ),
            403 => (
                Kind::Unauthorized,
                format!(
                    "{name} answered 403 to {what}{detail}: the credentials lack a right, or the organisation this feature"
                ),
            ),
            404 | 405 | 410 => (
                Kind::Protocol,
                format!(
                    "nothing at {} manages clients (it answered {status} to {what}){detail}: check the url of the registry",
                    self.origin()
                ),
            ),
            409 => (Kind::Conflict, format!("{name} sees a conflict in {what}{detail}: {HOLDS_THE_PLACE}")),
            400 | 402 | 413 | 415 | 422 => {
                (Kind::Rejected, format!("{name} refused {what} with {status}{detail}"))
            }
            300..=399 => (
                Kind::Protocol,
                format!(
                    "{name} answered {what} with a redirect ({status}), which is never followed: give the final url in the registry"
                ),
            ),
            408 | 500.. => (Kind::Unavailable, format!("{name} answered {status} to {what}")),
            _ => (Kind::Protocol, format!("{name} answered {status} to {what}{detail}")),
        };
        Error::new(kind, summary)
    }

    /// A reply that cannot be read. Of one that answers a request which made something, nobody knows what it made.
    pub fn unreadable(&self, kind: Kind, what: &str, why: &str) -> Error {
        Error::new(kind, format!("{} answered {what}, but {why}", self.name))
    }

    /// A 404 to something about a client that is there.
    pub fn still_there(&self, what: &str) -> Error {
        let why = format!("{} answered 404 to {what}, but still shows the client", self.name);
        Error::new(Kind::Unavailable, why)
    }
}

/// What to do about a conflict.
pub const HOLDS_THE_PLACE: &str = "find out what holds the place there; remove that, or change the spec";

/// Members of a JSON refusal in the registry's own words, as far as they may be repeated.
pub fn words(reply: &Response, members: &[&str], secrets: &[&str]) -> String {
    let Ok(body) = json::object(&reply.body) else { return String::new() };
    let said: Vec<&str> = members.iter().filter_map(|member| json::text(&body, member)).collect();
    quote(&said.join(": "), secrets)
}

/// What a refusal means if nothing that is declared was sent: nobody can mend it in a spec.
pub fn undeclared(error: Error) -> Error {
    if error.kind == Kind::Rejected { Error { kind: Kind::Protocol, ..error } } else { error }
}

/// What the envelope of a success holds, where an API has one.
pub fn data(reply: &Response) -> Result<Value, String> {
    json::object(&reply.body)?.remove("data").ok_or_else(|| "it has no data".into())
}

/// What is wrong with a success in other words than the registry's: a proxy on the way may answer so to anything.
pub const SOMEBODY_ELSE: &str = "not in its own words, so something on the way may have answered";

/// A document of these fields; an empty one if it would leave no room for credentials in a record (a Secret, 1 MiB).
pub fn document(fields: impl Iterator<Item = (Field, Value)>) -> Document {
    const LIMIT: usize = 256 * 1024;
    let mut document: Document = fields.map(|(field, value)| (field.wire_name().to_owned(), value)).collect();
    if serde_json::to_vec(&document).is_ok_and(|text| text.len() > LIMIT) {
        document.clear();
    }
    document
}

/// Secrets longer than this are not taken: two must fit into a Kubernetes Secret (1 MiB) beside everything else.
const SECRET_LIMIT: usize = 128 * 1024;

/// How a client sends its secret. A registry that knows clients with and without a secret only has no word for it: the first one
/// stands for both.
pub const SECRET_METHODS: [&str; 2] = ["client_secret_basic", "client_secret_post"];

/// What is declared, for a registry that does not ask how a client sends its secret.
pub fn one_secret_method(mut declared: ClientMetadata) -> ClientMetadata {
    if let Some(method) = declared.0.get_mut(&Field::TokenEndpointAuthMethod)
        && SECRET_METHODS.iter().any(|known| method == known)
    {
        *method = json!(SECRET_METHODS[0]);
    }
    declared
}

/// What stands in the place of the name: a name, or the mark of a client whose name still waits.
pub fn name_or_mark(shown: &str) -> (Value, Option<ShownMark>) {
    match ShownMark::read(shown) {
        Some(mark) => (Value::Null, Some(mark)),
        None => (json!(shown), None),
    }
}

/// A client id that is a segment of a URL too. Dots would be steps in the path: a deletion would go to the collection.
pub fn client_id<'a>(document: &'a Document, member: &str) -> Result<&'a str, String> {
    match json::id(document, member)? {
        "." | ".." => Err(format!("its {member} is no segment of a URL")),
        id => Ok(id),
    }
}

/// A client secret; `None` if it is not shown.
pub fn client_secret(document: &Document, member: &str) -> Result<Option<SecretString>, String> {
    match json::text(document, member).filter(|secret| !secret.is_empty()) {
        Some(secret) if secret.len() > SECRET_LIMIT => {
            Err(format!("its {member} has more than {SECRET_LIMIT} bytes"))
        }
        secret => Ok(secret.map(SecretString::from)),
    }
}

impl Client {
    /// What a reply about a known client left out is still so.
    ///
    /// # Errors
    /// If it is about another one.
    pub(super) fn following(mut self, known: &Self) -> Result<Self, String> {
        if self.client_id != known.client_id {
            return Err(format!("it speaks of another client than {}", known.client_id));
        }
        self.client_secret = self.client_secret.or_else(|| known.client_secret.clone());
        self.registered_at = self.registered_at.or(known.registered_at);
        self.account_id = self.account_id.or_else(|| known.account_id.clone());
        Ok(self)
    }
}
