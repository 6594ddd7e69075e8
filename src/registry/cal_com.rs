//! Cal.com: the OAuth clients of a platform organisation, by API v2 (`/v2/oauth-clients`).
//!
//! What is confirmed here was read in the published reference of API v2 and in the server's source, as far as that was open.
//! Cal.com has declared this API deprecated and sells the platform plan no more; a removal has no date. Its successor has no API.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use http::Method;
use serde_json::{Value, json};
use tokio::time::Instant;
use url::Url;

use super::{
    Adoption, Capabilities, Client, ClientMetadata, Credentials, Document, Field, Management, MarkPlace,
    Registry, Rotation, Session, ShownMark, Support, Wanted,
    admin_api::{self, AdminApi, SECRET_METHODS, SOMEBODY_ELSE, data, undeclared},
    error::{Error, Kind},
    json::{self, text},
    transport::{Body, Response},
};
use crate::api::CalCom as Settings;

/// How many requests one API key may send in what time; who sends more is shut out for as long (the server's default).
pub const PUBLISHED_LIMIT: (u32, Duration) = (120, Duration::from_mins(1));

/// The names of Cal.com for what can be declared (the bodies of create and update, and the client as it is shown).
const MEMBERS: [(Field, &str); 10] = [
    (Field::ClientName, "name"),
    (Field::RedirectUris, "redirectUris"),
    (Field::Scopes, "permissions"),
    (Field::LogoUri, "logo"),
    (Field::BookingRedirectUri, "bookingRedirectUri"),
    (Field::BookingCancelRedirectUri, "bookingCancelRedirectUri"),
    (Field::BookingRescheduleRedirectUri, "bookingRescheduleRedirectUri"),
    (Field::AreEmailsEnabled, "areEmailsEnabled"),
    (Field::AreDefaultEventTypesEnabled, "areDefaultEventTypesEnabled"),
    (Field::AreCalendarEventsEnabled, "areCalendarEventsEnabled"),
];

/// Without these no client is made, so there is nothing that they could be reset to.
const REQUIRED: [Field; 2] = [Field::RedirectUris, Field::Scopes];

/// What `*` stands for. The server stores permissions as bits and never shows the star again.
const PERMISSIONS: [&str; 10] = [
    "EVENT_TYPE_READ",
    "EVENT_TYPE_WRITE",
    "BOOKING_READ",
    "BOOKING_WRITE",
    "SCHEDULE_READ",
    "SCHEDULE_WRITE",
    "APPS_READ",
    "APPS_WRITE",
    "PROFILE_READ",
    "PROFILE_WRITE",
];

/// What every platform client may do. Cal.com has no field for it; it exchanges codes and refreshes tokens, and nothing else.
const GRANT_TYPES: [&str; 2] = ["authorization_code", "refresh_token"];

/// The driver.
pub struct CalCom {
    api: AdminApi,
    credentials: Credentials,
}

impl CalCom {
    /// A driver over a session.
    ///
    /// # Errors
    /// If `url` is no URL, which the API server refuses beforehand.
    pub fn new(settings: &Settings, session: Arc<Session>, credentials: Credentials) -> Result<Self, Error> {
        Ok(Self { api: AdminApi::new("Cal.com", &settings.url, session)?, credentials })
    }

    fn collection(&self) -> Url {
        self.api.url(&["v2", "oauth-clients"])
    }

    async fn send(
        &self,
        operation: &'static str,
        method: Method,
        client: &Client,
        body: Body,
    ) -> Result<Response, Error> {
        let url = self.api.url(&["v2", "oauth-clients", client.managed_id()]);
        self.api.send(operation, method, url, self.api.bearer(self.credentials.secret())?, body).await
    }

    /// What a refusal means. Of its text only the code is repeated: message and details repeat what was sent.
    fn refusal(&self, reply: &Response, what: &str) -> Error {
        self.api.refusal(reply, what, &code(reply).unwrap_or_default())
    }

    fn unreadable(&self, what: &str, why: &str) -> Error {
        self.api.unreadable(Kind::Protocol, what, why)
    }

    /// Whether a 404 proves that there is no such client. The server has the same words for a path that it does not know, as when
    /// this API will have been removed: the list of all clients, asked for after `since`, is the second witness.
    async fn absent(
        &self,
        client: &Client,
        reply: &Response,
        what: &str,
        since: Instant,
    ) -> Result<(), Error> {
        if code(reply).is_none() {
            return Err(self.refusal(reply, what));
        }
        let inventory = self.api.session().inventory(self, Some(since)).await?;
        if inventory.get(&client.client_id).is_some() {
            return Err(self.api.still_there(what));
        }
        Ok(())
    }

    fn read(&self, reply: &Response, what: &str, known: &Client) -> Result<Client, Error> {
        let read = data(reply).and_then(|data| shown_client(&data));
        read.and_then(|read| read.following(known)).map_err(|why| self.unreadable(what, &why))
    }
}

#[async_trait]
impl Registry for CalCom {
    /// Confirmed: the fields, that permissions never change, that every read shows the secret and none can be made. Not shown but
    /// so: a platform client always has a secret, for codes and refresh tokens.
    fn capabilities(&self) -> Capabilities {
        let support = |field| match field {
            Field::Scopes => Support::Immutable,
            _ => Support::Settable,
        };
        let methods = SECRET_METHODS.map(Value::from).to_vec();
        let fixed = [
            (Field::GrantTypes, Support::Fixed(vec![json!(GRANT_TYPES)])),
            (Field::TokenEndpointAuthMethod, Support::Fixed(methods)),
        ];
        Capabilities {
            fields: MEMBERS.into_iter().map(|(field, _)| (field, support(field))).chain(fixed).collect(),
            required: REQUIRED.to_vec(),
            defaults: MEMBERS.into_iter().map(|(field, _)| (field, vec![default(field)])).collect(),
            adoption: Adoption::AsShown,
            mark: MarkPlace::PendingName,
            rotation: Rotation::Recreate,
            shows_secrets: true,
            list_is_whole: true,
        }
    }

    fn origin(&self) -> String {
        self.api.origin()
    }

    /// None: Cal.com publishes no metadata for platform clients.
    fn issuer(&self) -> Option<String> {
        None
    }

    fn normalised(&self, declared: ClientMetadata) -> ClientMetadata {
        let mut declared = admin_api::one_secret_method(declared);
        if let Some(permissions) = declared.0.get_mut(&Field::Scopes) {
            *permissions = expanded(permissions);
        }
        declared
    }

    async fn prepare(&self) -> Result<(), Error> {
        self.api.bearer(self.credentials.secret())?;
        self.api.session().pace().await
    }

    async fn register(&self, wanted: &Wanted) -> Result<Client, Error> {
        let what = "the registration";
        let authorization = self.api.bearer(self.credentials.secret())?;
        let body = json::body(&creation(wanted));
        let reply = self.api.send_once("register", self.collection(), authorization, body).await?;
        match reply.status.as_u16() {
            200..=299 => data(&reply)
                .and_then(|data| created_client(&data, &self.normalised(wanted.metadata.clone()), wanted))
                .map_err(|why| self.api.unreadable(Kind::Ambiguous, what, &why)),
            400 => {
                let code = code(&reply).unwrap_or_else(|| "no code".into());
                let detail = format!("{code}; an organisation without a platform subscription gets the same");
                Err(self.api.refusal(&reply, what, &detail))
            }
            _ => Err(self.refusal(&reply, what)),
        }
    }

    async fn observe(&self, client: &Client) -> Result<Option<Client>, Error> {
        let (what, began) = ("the read of the client", Instant::now());
        let reply = self.send("read", Method::GET, client, Body::Empty).await?;
        match reply.status.as_u16() {
            200 => self.read(&reply, what, client).map(Some),
            404 => self.absent(client, &reply, what, began).await.map(|()| None),
            _ => Err(undeclared(self.refusal(&reply, what))),
        }
    }

    async fn update(
        &self,
        client: &Client,
        wanted: &ClientMetadata,
        reset: &[Field],
    ) -> Result<Option<Client>, Error> {
        let what = "the update";
        let body = json::body(&changes(wanted, reset));
        let reply = self.send("update", Method::PATCH, client, body).await?;
        match reply.status.as_u16() {
            200..=299 => self.read(&reply, what, client).map(Some),
            404 if self.observe(client).await?.is_none() => Ok(None),
            404 => Err(self.api.still_there(what)),
            _ => Err(self.refusal(&reply, what)),
        }
    }

    async fn deregister(&self, client: &Client) -> Result<(), Error> {
        let (what, began) = ("the deregistration", Instant::now());
        let reply = self.send("deregister", Method::DELETE, client, Body::Empty).await?;
        match reply.status.as_u16() {
            200..=299 if data(&reply).is_ok() => Ok(()),
            200..=299 => Err(self.api.unreadable(Kind::Unavailable, what, SOMEBODY_ELSE)),
            404 => self.absent(client, &reply, what, began).await,
            _ => Err(undeclared(self.refusal(&reply, what))),
        }
    }

    /// The clients of the whole organisation, in one reply: there are no pages.
    async fn list(&self) -> Result<Vec<Client>, Error> {
        let what = "the list of clients";
        let authorization = self.api.bearer(self.credentials.secret())?;
        let reply = self.api.send("list", Method::GET, self.collection(), authorization, Body::Empty).await?;
        if reply.status != 200 {
            return Err(undeclared(self.refusal(&reply, what)));
        }
        listed(&reply).map_err(|why| self.unreadable(what, &why))
    }
}

/// The body of a create: the mark for a name, and what is declared and not empty.
fn creation(wanted: &Wanted) -> Document {
    let declared = |(field, member)| {
        let value = match field {
            Field::ClientName => json!(wanted.mark.text()),
            _ => sent(field, wanted.metadata.get(field)?),
        };
        (!value.is_null()).then(|| (String::from(member), value))
    };
    MEMBERS.into_iter().filter_map(declared).collect()
}

/// The body of a `PATCH`: what is declared and what is reset. Permissions would be dropped in silence.
fn changes(wanted: &ClientMetadata, reset: &[Field]) -> Document {
    let change = |(field, member)| {
        let resettable = reset.contains(&field) && !REQUIRED.contains(&field) && field != Field::ClientName;
        let value = wanted.get(field).map(|value| sent(field, value));
        let value = value.or_else(|| resettable.then(|| default(field)))?;
        (field != Field::Scopes).then(|| (String::from(member), value))
    };
    MEMBERS.into_iter().filter_map(change).collect()
}

/// A declared value as it is sent: an optional text is cleared by `null`, which would be an error for the name.
fn sent(field: Field, declared: &Value) -> Value {
    if declared == "" && field != Field::ClientName { Value::Null } else { declared.clone() }
}

/// What a client has that was made without a word about it.
fn default(field: Field) -> Value {
    match field {
        Field::AreEmailsEnabled | Field::AreDefaultEventTypesEnabled => json!(false),
        Field::AreCalendarEventsEnabled => json!(true),
        _ => Value::Null,
    }
}

/// Permissions without the star.
fn expanded(permissions: &Value) -> Value {
    match permissions.as_array() {
        Some(named) if named.iter().any(|name| name == "*") => json!(PERMISSIONS),
        _ => permissions.clone(),
    }
}

/// All fields of a client in the words of RFC 7591, and what Cal.com has no field for.
fn document(value: impl Fn(Field, &str) -> Value) -> Document {
    let shown = MEMBERS.into_iter().map(|(field, member)| (field, value(field, member)));
    let fixed =
        [(Field::GrantTypes, json!(GRANT_TYPES)), (Field::TokenEndpointAuthMethod, json!(SECRET_METHODS[0]))];
    admin_api::document(shown.chain(fixed))
}

/// The client that a create answered: it shows id and secret only, the rest is as it was sent, and the name as it will be.
fn created_client(data: &Value, declared: &ClientMetadata, wanted: &Wanted) -> Result<Client, String> {
    let data = data.as_object().ok_or("its data is no object")?;
    let id = admin_api::client_id(data, "clientId")?;
    let secret = admin_api::client_secret(data, "clientSecret")?.ok_or("it has no clientSecret")?;
    Ok(Client {
        client_secret: Some(secret),
        mark: ShownMark::read(&wanted.mark.text()),
        document: document(|field, _| {
            declared.get(field).map_or_else(|| default(field), |value| sent(field, value))
        }),
        ..Client::named(id, Management::Registry)
    })
}

/// A client as reads, lists and updates show it.
fn shown_client(data: &Value) -> Result<Client, String> {
    let data = data.as_object().ok_or("its data is no object")?;
    let id = admin_api::client_id(data, "id")?;
    let (name, mark) = admin_api::name_or_mark(text(data, "name").ok_or("it has no name")?);
    for list in ["permissions", "redirectUris"] {
        let texts = data.get(list).and_then(Value::as_array);
        texts.filter(|texts| texts.iter().all(Value::is_string)).ok_or_else(|| {
            format!("its {list} are no list of texts, as they were before API v2 had its present form")
        })?;
    }
    let shown = |field, member: &str| match field {
        Field::ClientName => name.clone(),
        Field::Scopes => data.get(member).map(expanded).unwrap_or_default(),
        _ => data.get(member).cloned().unwrap_or_default(),
    };
    Ok(Client {
        // One that is too long may be somebody else's, whose client must not make the list unreadable.
        client_secret: admin_api::client_secret(data, "secret").ok().flatten(),
        registered_at: json::time(data, "createdAt"),
        account_id: account(data),
        mark,
        document: document(shown),
        ..Client::named(id, Management::Registry)
    })
}

fn listed(reply: &Response) -> Result<Vec<Client>, String> {
    let data = data(reply)?;
    data.as_array().ok_or("its data is no list")?.iter().map(shown_client).collect()
}

fn account(data: &Document) -> Option<String> {
    const MEMBER: &str = "organizationId";
    let number = data.get(MEMBER)?.as_u64().map(|id| id.to_string());
    number.or_else(|| json::id(data, MEMBER).ok().map(str::to_owned))
}

/// The code of an error: the name of a class, or a constant. `None` if the reply is not Cal.com's own.
fn code(reply: &Response) -> Option<String> {
    const LONGEST: usize = 64;
    let envelope = json::object(&reply.body).ok().filter(|body| text(body, "status") == Some("error"))?;
    let code = text(envelope.get("error")?.as_object()?, "code")?;
    let is_name = |code: &&str| code.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    Some(code).filter(|code| code.len() <= LONGEST).filter(is_name).map(str::to_owned)
}

#[cfg(test)]
mod tests;
