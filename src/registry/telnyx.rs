//! Telnyx: the OAuth clients of an account, by API v2.
//!
//! The server's source is closed: the rules here are those of its reference and its SDKs.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use http::Method;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use url::Url;

use super::{
    Adoption, Capabilities, Client, ClientMetadata, Credentials, Document, Field, Management, MarkPlace,
    Registry, Rotation, Session, ShownMark, Support, Wanted,
    admin_api::{self, AdminApi, HOLDS_THE_PLACE, SECRET_METHODS, SOMEBODY_ELSE, data, undeclared},
    error::{Error, Kind, quote},
    json::{self, text},
    metadata::shown,
    transport::{Body, Response},
};
use crate::api::Telnyx as Settings;

/// Where the clients are: by the reference of today, and by every SDK and the reference of before.
const COLLECTIONS: [&str; 2] = ["oauth/clients", "oauth_clients"];

/// As many clients as a page may have.
const PAGE: u64 = 100;
/// Longer lists have no end, nor have larger ones.
const PAGES: u64 = 200;
const LIST_LIMIT: usize = 64 * 1024 * 1024;

/// The names of Telnyx for what can be declared (the bodies of create and update, and the client as it is shown).
const MEMBERS: [(Field, &str); 8] = [
    (Field::ClientName, "name"),
    (Field::Scopes, "allowed_scopes"),
    (Field::GrantTypes, "allowed_grant_types"),
    (Field::RedirectUris, "redirect_uris"),
    (Field::RequirePkce, "require_pkce"),
    (Field::LogoUri, "logo_uri"),
    (Field::PolicyUri, "policy_uri"),
    (Field::TosUri, "tos_uri"),
];

/// How a client proves itself that has no secret (`client_type` is `public`).
const NO_SECRET: &str = "none";

/// The driver.
pub struct Telnyx {
    api: AdminApi,
    credentials: Credentials,
}

/// One page of the list.
struct Page {
    clients: Vec<Client>,
    pages: u64,
    total: Option<u64>,
    bytes: usize,
}

impl Telnyx {
    /// A driver over a session.
    ///
    /// # Errors
    /// If `url` is no URL, which the API server refuses beforehand.
    pub fn new(settings: &Settings, session: Arc<Session>, credentials: Credentials) -> Result<Self, Error> {
        Ok(Self { api: AdminApi::new("Telnyx", &settings.url, session)?, credentials })
    }

    /// Where the clients are at this server, which a harmless read finds out once.
    async fn collection(&self) -> Result<&'static str, Error> {
        let known = self.api.session().learned().collection;
        if let Some(known) = known {
            return Ok(known);
        }
        for collection in COLLECTIONS {
            if self.page(collection, 1, 1).await?.is_some() {
                self.api.session().learned().collection = Some(collection);
                return Ok(collection);
            }
        }
        Err(self.nowhere())
    }

    /// The collection is not, or no more, where it was seen: the next call looks for it again.
    fn moved(&self, collection: &str) -> Error {
        self.api.session().learned().collection.take_if(|learned| learned == &collection);
        let why = format!(
            "Telnyx answered 404 for /{collection}, where it had clients before: they are looked for again; if this stays, check the url of the registry"
        );
        Error::new(Kind::Protocol, why)
    }

    fn nowhere(&self) -> Error {
        let [documented, other] = COLLECTIONS;
        let why = format!(
            "nothing at {} manages clients (Telnyx answered 404 for /{documented} and for /{other}): check the url of the registry",
            self.api.origin()
        );
        Error::new(Kind::Protocol, why)
    }

    fn url(&self, collection: &str, id: Option<&str>) -> Url {
        self.api.url(&collection.split('/').chain(id).collect::<Vec<_>>())
    }

    /// A page of the list; `None` if there is no such collection.
    async fn page(&self, collection: &str, number: u64, size: u64) -> Result<Option<Page>, Error> {
        let what = "the list of clients";
        let mut url = self.url(collection, None);
        url.query_pairs_mut()
            .append_pair("page[number]", &number.to_string())
            .append_pair("page[size]", &size.to_string());
        let authorization = self.api.bearer(self.credentials.secret())?;
        let reply = self.api.send("list", Method::GET, url, authorization, Body::Empty).await?;
        match reply.status.as_u16() {
            200 => read_page(&reply).map(Some).map_err(|why| self.unreadable(what, &why)),
            404 => Ok(None),
            _ => Err(undeclared(self.refusal(&reply, what, None))),
        }
    }

    async fn send(
        &self,
        operation: &'static str,
        method: Method,
        (collection, client): (&str, &Client),
        body: Body,
    ) -> Result<Response, Error> {
        let url = self.url(collection, Some(client.managed_id()));
        self.api.send(operation, method, url, self.api.bearer(self.credentials.secret())?, body).await
    }

    /// Whether a 404 proves that there is no such client. The gateway says the same of a path that it does not know, so the
    /// collection that was asked has to answer.
    async fn absent(
        &self,
        (collection, client): (&str, &Client),
        reply: &Response,
        what: &str,
    ) -> Result<(), Error> {
        if words(reply).is_none() {
            return Err(self.refusal(reply, what, Some(client)));
        }
        self.page(collection, 1, 1).await?.map(drop).ok_or_else(|| self.moved(collection))
    }

    /// What a refusal means, with the registry's own words in either of its two shapes.
    fn refusal(&self, reply: &Response, what: &str, client: Option<&Client>) -> Error {
        /// A duplicate resource, whatever the status.
        const DUPLICATE: &str = "10012";
        let (code, said) = words(reply).unwrap_or_default();
        let known = client.and_then(|client| client.client_secret.as_ref());
        let secrets: Vec<&str> =
            known.into_iter().chain([self.credentials.secret()]).map(ExposeSecret::expose_secret).collect();
        let said = quote(&said, &secrets);
        if code == DUPLICATE && reply.status.is_client_error() {
            return Error::new(
                Kind::Conflict,
                format!("Telnyx sees a conflict in {what} ({said}): {HOLDS_THE_PLACE}"),
            );
        }
        self.api.refusal(reply, what, &said)
    }

    fn unreadable(&self, what: &str, why: &str) -> Error {
        self.api.unreadable(Kind::Protocol, what, why)
    }

    fn read(&self, reply: &Response, what: &str, known: &Client) -> Result<Client, Error> {
        let read = data(reply).and_then(|data| shown_client(&data)).and_then(|read| read.following(known));
        read.map_err(|why| self.unreadable(what, &why))
    }
}

#[async_trait]
impl Registry for Telnyx {
    /// Confirmed by the reference: the fields, what a create requires, that no secret can be made later, and that
    /// `client_type` is not among the members of an update. A spec cannot change it either, so the method is fixed. Whether a read
    /// shows the secret is not documented.
    fn capabilities(&self) -> Capabilities {
        let methods = [NO_SECRET].into_iter().chain(SECRET_METHODS).map(Value::from).collect();
        let fixed = (Field::TokenEndpointAuthMethod, Support::Fixed(methods));
        Capabilities {
            fields: MEMBERS.into_iter().map(|(field, _)| (field, Support::Settable)).chain([fixed]).collect(),
            required: vec![Field::Scopes, Field::GrantTypes],
            defaults: MEMBERS
                .into_iter()
                .filter_map(|(field, _)| Some((field, vec![default(field)?])))
                .collect(),
            adoption: Adoption::Replaced,
            mark: MarkPlace::PendingName,
            rotation: Rotation::Recreate,
            shows_secrets: false,
            list_is_whole: true,
        }
    }

    fn origin(&self) -> String {
        self.api.origin()
    }

    /// None: no page says what the issuer of an account's clients is.
    fn issuer(&self) -> Option<String> {
        None
    }

    fn normalised(&self, declared: ClientMetadata) -> ClientMetadata {
        admin_api::one_secret_method(declared)
    }

    async fn prepare(&self) -> Result<(), Error> {
        self.api.bearer(self.credentials.secret())?;
        self.collection().await?;
        self.api.session().pace().await
    }

    async fn register(&self, wanted: &Wanted) -> Result<Client, Error> {
        let what = "the registration";
        let collection = self.collection().await?;
        let url = self.url(collection, None);
        let authorization = self.api.bearer(self.credentials.secret())?;
        let body = json::body(&creation(wanted));
        let reply = self.api.send_once("register", url, authorization, body).await?;
        match reply.status.as_u16() {
            200..=299 => data(&reply)
                .and_then(|data| created_client(&data, wanted))
                .map_err(|why| self.api.unreadable(Kind::Ambiguous, what, &why)),
            404 => Err(self.moved(collection)),
            _ => Err(self.refusal(&reply, what, None)),
        }
    }

    async fn observe(&self, client: &Client) -> Result<Option<Client>, Error> {
        let (what, place) = ("the read of the client", (self.collection().await?, client));
        let reply = self.send("read", Method::GET, place, Body::Empty).await?;
        match reply.status.as_u16() {
            200 => self.read(&reply, what, client).map(Some),
            404 => self.absent(place, &reply, what).await.map(|()| None),
            _ => Err(undeclared(self.refusal(&reply, what, Some(client)))),
        }
    }

    async fn update(
        &self,
        client: &Client,
        wanted: &ClientMetadata,
        reset: &[Field],
    ) -> Result<Option<Client>, Error> {
        let what = "the update";
        let body = json::body(&replacement(client, wanted, reset));
        let place = (self.collection().await?, client);
        let reply = self.send("update", Method::PUT, place, body).await?;
        match reply.status.as_u16() {
            200..=299 => self.read(&reply, what, client).map(Some),
            404 if self.observe(client).await?.is_none() => Ok(None),
            404 => Err(self.api.still_there(what)),
            _ => Err(self.refusal(&reply, what, Some(client))),
        }
    }

    async fn deregister(&self, client: &Client) -> Result<(), Error> {
        let (what, place) = ("the deregistration", (self.collection().await?, client));
        let reply = self.send("deregister", Method::DELETE, place, Body::Empty).await?;
        match reply.status.as_u16() {
            200..=299 if reply.body.is_empty() || json::object(&reply.body).is_ok() => Ok(()),
            200..=299 => Err(self.api.unreadable(Kind::Unavailable, what, SOMEBODY_ELSE)),
            404 => self.absent(place, &reply, what).await,
            _ => Err(undeclared(self.refusal(&reply, what, Some(client)))),
        }
    }

    /// All pages. Who adds or removes a client meanwhile moves others across the border of two pages.
    async fn list(&self) -> Result<Vec<Client>, Error> {
        let collection = self.collection().await?;
        let mut found: HashMap<String, Client> = HashMap::new();
        let (mut before, mut read) = (None, 0);
        for number in 1..=PAGES {
            let Page { clients, pages, total, bytes } =
                self.page(collection, number, PAGE).await?.ok_or_else(|| self.moved(collection))?;
            let last = clients.is_empty() || number >= pages;
            let seen = found.len() + clients.len();
            found.extend(clients.into_iter().map(|client| (client.client_id.clone(), client)));
            let removed = before.zip(total).is_some_and(|(before, total)| total < before);
            if found.len() < seen || removed || (last && total.is_some_and(|total| (seen as u64) < total)) {
                let why = "the list of clients at Telnyx is not whole: it changed while being listed";
                return Err(Error::new(Kind::Unavailable, why));
            }
            if last {
                return Ok(found.into_values().collect());
            }
            before = total;
            read += bytes;
            if read > LIST_LIMIT {
                break;
            }
        }
        let why = format!("it has more than {PAGES} pages of {PAGE}, or {LIST_LIMIT} bytes");
        Err(self.unreadable("the list of clients", &why))
    }
}

/// The body of a create: the mark for a name, and what is declared and not empty. The schema takes no `null`.
fn creation(wanted: &Wanted) -> Document {
    let declared = |(field, member)| {
        let value = match field {
            Field::ClientName => json!(wanted.mark.text()),
            _ => wanted.metadata.get(field).filter(|value| *value != "")?.clone(),
        };
        Some((String::from(member), value))
    };
    let public =
        wanted.metadata.get(Field::TokenEndpointAuthMethod).is_some_and(|method| method == NO_SECRET);
    let client_type = json!(if public { "public" } else { "confidential" });
    MEMBERS.into_iter().filter_map(declared).chain([("client_type".into(), client_type)]).collect()
}

/// The body of a `PUT`: everything that it may change, since nobody says whether what is left out is kept or reset. A URI can only
/// be left out: the schema takes no `null`.
fn replacement(client: &Client, wanted: &ClientMetadata, reset: &[Field]) -> Document {
    let value = |field: Field| match wanted.get(field) {
        Some(declared) => Some(declared.clone()),
        None if reset.contains(&field) => default(field),
        // What the client was never seen to have is not made up.
        None => match client.document.get(field.wire_name())? {
            Value::Null => default(field),
            shown => Some(shown.clone()),
        },
    };
    let is_uri = |field| matches!(field, Field::LogoUri | Field::PolicyUri | Field::TosUri);
    let member = |(field, member)| {
        let value = value(field).filter(|value| !(is_uri(field) && value == ""))?;
        Some((String::from(member), value))
    };
    MEMBERS.into_iter().filter_map(member).collect()
}

/// What a client has that was made without a word about it.
fn default(field: Field) -> Option<Value> {
    match field {
        Field::RedirectUris => Some(json!([])),
        Field::RequirePkce => Some(json!(false)),
        _ => None,
    }
}

/// The client that a create answered: what it does not show is as it was sent, and the name as it will be.
fn created_client(data: &Value, wanted: &Wanted) -> Result<Client, String> {
    let mut client = shown_client(data)?;
    let public = shown(Field::TokenEndpointAuthMethod, &client.document) == NO_SECRET;
    if client.client_secret.is_none() && !public {
        return Err("it has no client_secret that can be kept".into());
    }
    for (field, member) in MEMBERS {
        if field == Field::ClientName || data.get(member).is_none() {
            let sent = wanted.metadata.get(field).filter(|value| *value != "").cloned();
            let value = sent.or_else(|| default(field)).unwrap_or_default();
            client.document.insert(field.wire_name().into(), value);
        }
    }
    Ok(Client { mark: ShownMark::read(&wanted.mark.text()), ..client })
}

/// A client as every reply shows it.
fn shown_client(data: &Value) -> Result<Client, String> {
    let data = data.as_object().ok_or("its data is no object")?;
    let id = admin_api::client_id(data, "client_id")?;
    let (name, mark) = admin_api::name_or_mark(text(data, "name").ok_or("it has no name")?);
    let public = match text(data, "client_type") {
        Some("public") => true,
        Some("confidential") => false,
        _ => return Err("its client_type is neither public nor confidential".into()),
    };
    let value = |(field, member)| match field {
        Field::ClientName => (field, name.clone()),
        _ => (field, data.get(member).cloned().unwrap_or_default()),
    };
    let method = json!(if public { NO_SECRET } else { SECRET_METHODS[0] });
    let fields = MEMBERS.into_iter().map(value).chain([(Field::TokenEndpointAuthMethod, method)]);
    Ok(Client {
        // One that is too long may be somebody else's, whose client must not make the list unreadable.
        client_secret: admin_api::client_secret(data, "client_secret").ok().flatten().filter(|_| !public),
        registered_at: json::time(data, "created_at"),
        account_id: text(data, "org_id").filter(|id| !id.is_empty()).map(str::to_owned),
        mark,
        document: admin_api::document(fields),
        ..Client::named(id, Management::Registry)
    })
}

fn read_page(reply: &Response) -> Result<Page, String> {
    let body = json::object(&reply.body)?;
    let data = body.get("data").and_then(Value::as_array).ok_or("its data is no list")?;
    let meta = |member| body.get("meta").and_then(|meta| meta.get(member)).and_then(Value::as_u64);
    Ok(Page {
        clients: data.iter().map(shown_client).collect::<Result<_, _>>()?,
        pages: meta("total_pages").ok_or("its meta has no total_pages")?,
        total: meta("total_results"),
        bytes: reply.body.len(),
    })
}

/// Code and text of a refusal: of an OAuth endpoint (`error`, `error_description`), or of the platform (`errors`). `None` if the
/// reply is neither, and so somebody else's.
fn words(reply: &Response) -> Option<(String, String)> {
    let body = json::object(&reply.body).ok()?;
    let (error, members, code) = match body.get("errors").and_then(Value::as_array) {
        Some(errors) => (errors.first()?.as_object()?, ["code", "title", "detail"].as_slice(), "code"),
        None => (&body, ["error", "error_description"].as_slice(), "error"),
    };
    let said: Vec<&str> = members.iter().filter_map(|member| text(error, member)).collect();
    Some((text(error, code)?.to_owned(), said.join(": ")))
}

#[cfg(test)]
mod tests;
