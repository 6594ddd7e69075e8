//! Meteroid, hosted: the OAuth apps of an organisation.
//!
//! Facts are those of the published `OpenAPI` document and the official SDKs of 2026; what they leave open is read leniently.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use async_trait::async_trait;
use http::{Method, StatusCode, header::CONTENT_TYPE};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use url::Url;

use super::{
    Adoption, Capabilities, Client, ClientMetadata, Credentials, Field, IssuedSecret, Management, MarkPlace,
    Registry, Rotation, Session, ShownMark, Support, Wanted,
    admin_api::{self, AdminApi, SECRET_METHODS, words},
    error::{Error, Kind, quote},
    json::{self, object, text},
    metadata::Document,
    transport::{Authorization, Body, Response},
};
use crate::api::Meteroid as Settings;

/// A list with more pages than this is not read: other lists of this API have up to 100 items a page.
const LONGEST_LIST: u64 = 100;

/// The driver.
pub struct Meteroid {
    api: AdminApi,
    token: SecretString,
}

impl Meteroid {
    /// A driver over a session.
    ///
    /// # Errors
    /// If `url` is no URL, which the API server refuses beforehand.
    pub fn new(settings: &Settings, session: Arc<Session>, credentials: Credentials) -> Result<Self, Error> {
        let (Credentials::Bearer(token) | Credentials::Password { password: token, .. }) = credentials;
        Ok(Self { api: AdminApi::new("Meteroid", &settings.url, session)?, token })
    }

    fn url(&self, rest: &[&str]) -> Url {
        self.api.url(&[&["api", "v1", "oauth-apps"], rest].concat())
    }

    fn authorization(&self) -> Result<Authorization, Error> {
        self.api.bearer(&self.token)
    }

    async fn call(&self, operation: &'static str, method: Method, url: Url) -> Result<Response, Error> {
        self.api.send(operation, method, url, self.authorization()?, Body::Empty).await
    }

    /// What a reply about a client means that is no success.
    fn refusal(&self, reply: &Response, what: &str) -> Error {
        admin_api::undeclared(self.api.refusal(reply, what, &self.detail(reply)))
    }

    /// The same of a reply about the whole collection. What Meteroid answers before Connect was enabled is not documented.
    fn collection_refusal(&self, reply: &Response, what: &str) -> Error {
        let (kind, status) = match reply.status.as_u16() {
            status @ 403 => (Kind::Unauthorized, status),
            status @ 404 => (Kind::Protocol, status),
            _ => return self.api.refusal(reply, what, &self.detail(reply)),
        };
        let detail = self.detail(reply);
        let detail = if detail.is_empty() { detail } else { format!(" ({detail})") };
        let why = format!(
            "Meteroid answered {status} to {what}{detail}: enable Connect in the dashboard (Developers > Connect Platform), \
             and check the registry's url and the rights of its API key; a self-hosted Meteroid has no OAuth apps"
        );
        Error::new(kind, why)
    }

    /// `code` and `message`; or the plain text in which the web framework refuses what never reached Meteroid's own code.
    fn detail(&self, reply: &Response) -> String {
        let secrets = [self.token.expose_secret()];
        let said = words(reply, &["code", "message"], &secrets);
        let kind = reply.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        match std::str::from_utf8(&reply.body) {
            Ok(plain) if said.is_empty() && kind.starts_with("text/plain") => quote(plain, &secrets),
            _ => said,
        }
    }

    /// Whether the client that a 404 speaks of is gone for certain. Where Connect is switched off everything may be a 404, so the
    /// collection must still be there, without the client.
    async fn gone(&self, client: &Client, reply: &Response, what: &str) -> Result<bool, Error> {
        let code = object(&reply.body).ok().and_then(|body| text(&body, "code").map(str::to_owned));
        if reply.status != StatusCode::NOT_FOUND {
            return Ok(false);
        }
        if code.as_deref() != Some("NOT_FOUND") {
            return Err(self.refusal(reply, what));
        }
        let found = self.list().await?.into_iter().any(|other| other.client_id == client.client_id);
        if found {
            return Err(self.api.still_there(what));
        }
        Ok(true)
    }

    /// One page of the list. None is documented; other lists of this API number them from 0, with `per_page` items each.
    async fn page(&self, number: Option<(u64, u64)>) -> Result<Page, Error> {
        let mut url = self.url(&[]);
        if let Some((page, per_page)) = number {
            let pair = [("page", page.to_string()), ("per_page", per_page.to_string())];
            url.query_pairs_mut().extend_pairs(pair);
        }
        let reply = self.call("list", Method::GET, url).await?;
        if reply.status != StatusCode::OK {
            return Err(admin_api::undeclared(self.collection_refusal(&reply, "listing the clients")));
        }
        let read = object(&reply.body).and_then(|members| Page::read(&members, number));
        read.map_err(|why| self.api.unreadable(Kind::Protocol, "listing the clients", &why))
    }
}

/// A page of the list.
struct Page {
    clients: Vec<Client>,
    /// How many items a page has, if there are further ones.
    further: Option<u64>,
    /// How many items there are on all pages.
    total: Option<u64>,
}

impl Page {
    fn read(members: &Document, asked: Option<(u64, u64)>) -> Result<Self, String> {
        let items = members.get("data").and_then(Value::as_array).ok_or("it has no list as data")?;
        let app = |item: &Value| read_app(item.as_object().ok_or("one of its items is no object")?);
        let clients = items.iter().map(app).collect::<Result<Vec<_>, _>>()?;
        let Some(meta) = members.get("pagination_meta").and_then(Value::as_object) else {
            return Ok(Self { clients, further: None, total: None });
        };
        let number = |member: &str| meta.get(member).and_then(Value::as_u64);
        let page = number("page").ok_or("its pagination_meta has no page")?;
        let per_page = number("per_page").filter(|n| *n > 0).ok_or("its pagination_meta has no per_page")?;
        if page != asked.map_or(0, |(page, _)| page) {
            return Err(format!("it is page {page}, which was not asked for"));
        }
        let more = match number("total_pages") {
            Some(total) => page + 1 < total,
            None => clients.len() as u64 >= per_page,
        };
        Ok(Self { clients, further: more.then_some(per_page), total: number("total_items") })
    }
}

/// The items of all pages. Whoever removes an app meanwhile moves others from one page to the one before.
fn whole(clients: Vec<Client>, total: Option<u64>) -> Result<Vec<Client>, Error> {
    let ids: HashSet<&str> = clients.iter().map(Client::managed_id).collect();
    if ids.len() == clients.len() && total.is_none_or(|total| total == clients.len() as u64) {
        return Ok(clients);
    }
    Err(Error::new(Kind::Unavailable, "Meteroid's list of clients changed while it was read page by page"))
}

/// An OAuth app. Its codes need PKCE with S256, and its secret may come as HTTP Basic or in the form.
fn read_app(members: &Document) -> Result<Client, String> {
    let member = |name: &str| text(members, name).ok_or(format!("it has no {name}"));
    let (id, client_id) = (admin_api::client_id(members, "id")?, json::id(members, "client_id")?);
    let (name, mark) = unmarked(member("name")?);
    let uris =
        members.get("redirect_uris").filter(|uris| uris.is_array()).ok_or("it has no redirect_uris")?;
    let document = [
        (Field::ClientName, json!(name)),
        (Field::RedirectUris, uris.clone()),
        (Field::Scopes, members.get("scopes").ok_or("it has no scopes")?.clone()),
        (Field::GrantTypes, grant_types()),
        (Field::RequirePkce, json!(true)),
        (Field::TokenEndpointAuthMethod, json!(SECRET_METHODS[0])),
    ];
    let document = document.map(|(field, value)| (field.wire_name().to_owned(), value));
    Ok(Client {
        registered_at: json::time(members, "created_at"),
        registration_id: Some(id.to_owned()),
        account_id: Some(json::id(members, "organization_id")?.to_owned()),
        secret_hint: Some(hint(members).ok_or("it has no client_secret_hint")?),
        active: members.get("is_active").and_then(Value::as_bool).ok_or("it has no is_active")?,
        mark,
        document: document.into_iter().collect(),
        ..Client::named(client_id, Management::Registry)
    })
}

/// A name with its mark. Names are unique at Meteroid, so the tag also lets only one of several attempts through.
fn marked(name: &str, tag: &str) -> String {
    format!("{name} [{tag}]")
}

/// A name without its mark. Only the end counts: what a user declares stands before ours, whatever it looks like.
fn unmarked(name: &str) -> (&str, Option<ShownMark>) {
    let tagged = name.strip_suffix(']').and_then(|rest| rest.rsplit_once(" ["));
    match tagged.and_then(|(declared, tag)| Some((declared, ShownMark::read_tag(tag)?))) {
        Some((declared, mark)) => (declared, Some(mark)),
        None => (name, None),
    }
}

fn grant_types() -> Value {
    json!(["authorization_code", "refresh_token"])
}

/// As much of a hint as a status can hold.
fn hint(members: &Document) -> Option<String> {
    const LIMIT: usize = 256;
    text(members, "client_secret_hint").map(|hint| hint.chars().take(LIMIT).collect())
}

fn secret(members: &Document) -> Result<SecretString, String> {
    admin_api::client_secret(members, "client_secret")?.ok_or_else(|| "it has no client_secret".into())
}

fn created(members: &Document) -> Result<Client, String> {
    let app = members.get("app").and_then(Value::as_object).ok_or("it has no app")?;
    Ok(Client { client_secret: Some(secret(members)?), ..read_app(app)? })
}

fn rotated(members: &Document) -> Result<IssuedSecret, String> {
    Ok(IssuedSecret { secret: secret(members)?, id: None, hint: hint(members) })
}

#[async_trait]
impl Registry for Meteroid {
    fn capabilities(&self) -> Capabilities {
        let immutable = [Field::ClientName, Field::RedirectUris, Field::Scopes];
        let fixed = [
            (Field::GrantTypes, vec![grant_types()]),
            (Field::RequirePkce, vec![json!(true)]),
            (Field::TokenEndpointAuthMethod, SECRET_METHODS.map(Value::from).to_vec()),
        ];
        let fixed = fixed.map(|(field, values)| (field, Support::Fixed(values)));
        Capabilities {
            fields: immutable.map(|field| (field, Support::Immutable)).into_iter().chain(fixed).collect(),
            required: vec![Field::RedirectUris],
            defaults: BTreeMap::new(),
            adoption: Adoption::WithNewSecret,
            mark: MarkPlace::Beside,
            rotation: Rotation::Replace,
            shows_secrets: false,
            list_is_whole: true,
        }
    }

    fn origin(&self) -> String {
        self.api.origin()
    }

    fn issuer(&self) -> Option<String> {
        None
    }

    /// An app that takes both methods has the one that is declared.
    fn normalised(&self, declared: ClientMetadata) -> ClientMetadata {
        admin_api::one_secret_method(declared)
    }

    async fn prepare(&self) -> Result<(), Error> {
        self.authorization()?;
        self.api.session().pace().await
    }

    async fn register(&self, wanted: &Wanted) -> Result<Client, Error> {
        let declared = &wanted.metadata;
        let name = declared.get(Field::ClientName).and_then(Value::as_str).unwrap_or_default();
        let mut body = Document::new();
        body.insert("name".into(), json!(marked(name, &wanted.mark.tag())));
        body.insert("redirect_uris".into(), declared.get(Field::RedirectUris).cloned().unwrap_or(json!([])));
        // Which values are accepted is not documented, nor have they an effect yet.
        if let Some(scopes) = declared.get(Field::Scopes) {
            body.insert("scopes".into(), scopes.clone());
        }
        let reply =
            self.api.send_once("register", self.url(&[]), self.authorization()?, json::body(&body)).await?;
        if !reply.status.is_success() {
            return Err(self.collection_refusal(&reply, "the registration"));
        }
        let read = object(&reply.body).and_then(|members| created(&members));
        read.map_err(|why| self.api.unreadable(Kind::Ambiguous, "the registration", &why))
    }

    async fn observe(&self, client: &Client) -> Result<Option<Client>, Error> {
        let what = "reading the client";
        let reply = self.call("read", Method::GET, self.url(&[client.managed_id()])).await?;
        if self.gone(client, &reply, what).await? {
            return Ok(None);
        }
        if reply.status != StatusCode::OK {
            return Err(self.refusal(&reply, what));
        }
        let read = object(&reply.body).and_then(|members| read_app(&members)?.following(client));
        read.map(Some).map_err(|why| self.api.unreadable(Kind::Protocol, what, &why))
    }

    async fn update(&self, _: &Client, _: &ClientMetadata, _: &[Field]) -> Result<Option<Client>, Error> {
        let why = "Meteroid cannot change an OAuth app: only another app in its place can have other values";
        Err(Error::new(Kind::Unsupported, why))
    }

    async fn deregister(&self, client: &Client) -> Result<(), Error> {
        let what = "the deregistration";
        let reply = self.call("deregister", Method::DELETE, self.url(&[client.managed_id()])).await?;
        if reply.status.is_success() || self.gone(client, &reply, what).await? {
            return Ok(());
        }
        Err(self.refusal(&reply, what))
    }

    async fn list(&self) -> Result<Vec<Client>, Error> {
        let mut clients = Vec::new();
        let mut number = None;
        for next in 1..=LONGEST_LIST {
            let page = self.page(number).await?;
            clients.extend(page.clients);
            let Some(per_page) = page.further else {
                return whole(clients, page.total);
            };
            number = Some((next, per_page));
        }
        let why = format!("the list of clients has more than {LONGEST_LIST} pages");
        Err(self.api.unreadable(Kind::Protocol, "listing the clients", &why))
    }

    async fn issue_secret(&self, client: &Client) -> Result<IssuedSecret, Error> {
        let what = "issuing a client secret";
        let url = self.url(&[client.managed_id(), "rotate"]);
        let reply = self.api.send_once("issue-secret", url, self.authorization()?, Body::Empty).await?;
        if self.gone(client, &reply, what).await? {
            let why = "Meteroid issued no client secret: the client does not exist there any more";
            return Err(Error::new(Kind::Unavailable, why));
        }
        if !reply.status.is_success() {
            return Err(self.refusal(&reply, what));
        }
        let read = object(&reply.body).and_then(|members| rotated(&members));
        read.map_err(|why| self.api.unreadable(Kind::Ambiguous, what, &why))
    }
}

#[cfg(test)]
mod tests;
