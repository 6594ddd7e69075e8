//! Servers of RFC 7591 (registration) and RFC 7592 (management), with what real ones do beside the letter.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use http::{HeaderValue, Method, StatusCode};
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use tokio::time::Instant;
use url::Url;

use super::{
    Client, Credentials, Management, Registry, Support, Wanted,
    admin_api::client_secret,
    error::{Error, Kind, quote},
    json::{self, object, text},
    metadata::{Capabilities, ClientMetadata, Document, Field},
    session::{Endpoints, Session},
    transport::{Authorization, Body, Request, Response},
};
use crate::api::{DynamicRegistration as Settings, WebUri};

/// Metadata is read again after this time.
const ENDPOINTS_LIVE: Duration = Duration::from_hours(1);

/// Members of a reply that a request must not repeat (RFC 7592 section 2.2), and the credentials.
const SERVER_ONLY: [&str; 5] = [
    "client_secret",
    "registration_access_token",
    "registration_client_uri",
    "client_secret_expires_at",
    "client_id_issued_at",
];

/// Documents larger than this do not stay whole: a record must fit into a Secret (1 MiB) beside everything else.
const DOCUMENT_LIMIT: usize = 256 * 1024;

/// Longer URLs fit into no request line.
const URL_LIMIT: usize = 8 * 1024;

/// The metadata of RFC 7591 section 2 and of OpenID Connect Dynamic Client Registration section 2.
const FIELDS: [Field; 14] = [
    Field::ApplicationType,
    Field::ClientName,
    Field::ClientUri,
    Field::Contacts,
    Field::GrantTypes,
    Field::Jwks,
    Field::JwksUri,
    Field::LogoUri,
    Field::PolicyUri,
    Field::PostLogoutRedirectUris,
    Field::RedirectUris,
    Field::Scopes,
    Field::TokenEndpointAuthMethod,
    Field::TosUri,
];

/// What the token endpoint says of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Witness {
    /// It knows no such client.
    Gone,
    /// It knows the client.
    Alive,
    /// Nothing, or nothing that counts.
    Mute,
}

/// The driver.
pub struct DynamicRegistration {
    settings: Settings,
    base: Url,
    session: Arc<Session>,
    initial_access_token: Option<SecretString>,
}

impl DynamicRegistration {
    /// A driver over a session.
    ///
    /// # Errors
    /// If neither `issuer` nor `registrationEndpoint` is a URL, which the API server refuses beforehand.
    pub fn new(
        settings: Settings,
        session: Arc<Session>,
        initial_access_token: Option<Credentials>,
    ) -> Result<Self, Error> {
        let given = settings.issuer.as_ref().or(settings.registration_endpoint.as_ref());
        let base = given.and_then(|WebUri(url)| Url::parse(url).ok()).ok_or_else(|| {
            Error::new(
                Kind::Unsupported,
                "the registry object gives neither a valid issuer nor a valid registrationEndpoint",
            )
        })?;
        let initial_access_token = initial_access_token.map(|credentials| credentials.secret().clone());
        Ok(Self { settings, base, session, initial_access_token })
    }

    async fn endpoints(&self) -> Result<Endpoints, Error> {
        if let Some(WebUri(endpoint)) = &self.settings.registration_endpoint {
            let registration = Url::parse(endpoint)
                .map_err(|_| Error::new(Kind::Unsupported, "registrationEndpoint is not a URL"))?;
            return Ok(Endpoints { registration, token: None });
        }
        if let Some((read, endpoints)) = &self.session.learned().endpoints
            && read.elapsed() < ENDPOINTS_LIVE
        {
            return Ok(endpoints.clone());
        }
        self.read_metadata().await
    }

    async fn read_metadata(&self) -> Result<Endpoints, Error> {
        let endpoints = self.discover().await?;
        self.session.learned().endpoints = Some((Instant::now(), endpoints.clone()));
        Ok(endpoints)
    }

    /// RFC 8414 section 3 first, then OpenID Connect Discovery section 4, whose path stands after the issuer's. Servers put all
    /// kinds of things where they publish nothing: web pages, redirects to a login.
    async fn discover(&self) -> Result<Endpoints, Error> {
        let issuer_path = self.base.path().trim_end_matches('/');
        let paths = [
            format!("/.well-known/oauth-authorization-server{issuer_path}"),
            format!("{issuer_path}/.well-known/openid-configuration"),
        ];
        let mut whys = Vec::new();
        for path in paths {
            let mut url = self.base.clone();
            url.set_path(&path);
            let reply =
                self.call("discover", Method::GET, url.clone(), Authorization::None, Body::Empty).await?;
            let why = match reply.status.as_u16() {
                200 => match self.read_endpoints(&reply) {
                    Ok(endpoints) => return Ok(endpoints),
                    Err(why) => why,
                },
                500.. => return Err(unavailable(&reply, "reading the issuer's metadata")),
                status @ 300..=399 => {
                    format!("it answered with a redirect ({status}), which is never followed")
                }
                status => format!("it answered {status}"),
            };
            whys.push(format!("{}: {why}", quote(url.path(), &[])));
        }
        let why = format!(
            "the issuer publishes no metadata that can be used ({}): give the right issuer, or registrationEndpoint",
            whys.join("; ")
        );
        Err(Error::new(Kind::Protocol, why))
    }

    fn read_endpoints(&self, reply: &Response) -> Result<Endpoints, String> {
        let metadata = object(&reply.body)?;
        let configured = self.settings.issuer.as_ref().map_or("", |WebUri(issuer)| issuer.as_str());
        let issuer = text(&metadata, "issuer").unwrap_or_default();
        // Exactly: the issuer goes to apps, and they compare it with `iss`.
        if issuer != configured {
            let (issuer, configured) = (quote(issuer, &[]), quote(configured, &[]));
            return Err(format!(
                "it speaks for issuer {issuer:?}, not {configured:?} (RFC 8414 section 3.3)"
            ));
        }
        let endpoint = text(&metadata, "registration_endpoint")
            .ok_or("it names no registration_endpoint: dynamic registration is off at this server")?;
        let registration = self.ours(endpoint).map_err(|why| format!("registration_endpoint {why}"))?;
        let token = text(&metadata, "token_endpoint").and_then(|url| self.ours(url).ok());
        Ok(Endpoints { registration, token })
    }

    /// A URL that the server gave, if our credentials may be sent there.
    fn ours(&self, url: &str) -> Result<Url, String> {
        let url = Url::parse(url).map_err(|_| "is not a URL")?;
        if url.as_str().len() > URL_LIMIT {
            return Err(format!("has more than {URL_LIMIT} bytes"));
        }
        if url.origin() != self.base.origin() {
            return Err(format!(
                "is on another origin ({})",
                quote(&url.origin().ascii_serialization(), &[])
            ));
        }
        // It would become a second `Authorization` beside ours.
        if !url.username().is_empty() || url.password().is_some() {
            return Err("holds user information".into());
        }
        Ok(url)
    }

    async fn call(
        &self,
        operation: &'static str,
        method: Method,
        url: Url,
        authorization: Authorization,
        body: Body,
    ) -> Result<Response, Error> {
        self.session.send(operation, Request { method, url, authorization, body }).await
    }

    async fn manage(
        &self,
        operation: &'static str,
        method: Method,
        client: &Client,
        body: Body,
    ) -> Result<Response, Error> {
        match &client.management {
            // A token that is sent to another origin is lost; one that is sent to another client's URI is revoked.
            Management::Token { uri, token } if uri.origin() == self.base.origin() => {
                let bearer = Authorization::Bearer(token.clone());
                self.call(operation, method, uri.clone(), bearer, body).await
            }
            Management::Registry => {
                Err(Error::new(Kind::Unsupported, "the client has no registration token of its own"))
            }
            Management::Token { uri, .. } => Err(Error::new(
                Kind::Unsupported,
                format!(
                    "the client is managed at {}, not at this registry",
                    uri.origin().ascii_serialization()
                ),
            )),
            Management::None(why) => Err(Error::new(Kind::Unsupported, why)),
        }
    }

    /// A 401 or 404 may mean a lost token or a lost client (RFC 7592 section 2); only a second witness tells.
    async fn gone_or_lost(&self, client: &Client, reply: &Response) -> Result<Option<Client>, Error> {
        if self.witness(client).await? == Witness::Gone {
            return Ok(None);
        }
        let why = format!(
            "the registry answered {} to the client's registration token; the client itself may well work. \
             Restore it at the registry, or delete this OAuthClient and make a new one",
            reply.status.as_u16()
        );
        Err(Error::new(Kind::ManagementLost, why))
    }

    /// Asks the token endpoint with the stored credentials: `invalid_client` (RFC 6749 section 5.2) is the witness.
    async fn witness(&self, client: &Client) -> Result<Witness, Error> {
        let Some((endpoint, authorization, form)) = self.token_request(client).await? else {
            return Ok(Witness::Mute);
        };
        let reply =
            self.call("probe", Method::POST, endpoint, authorization, Body::Form(form.into())).await?;
        if reply.status.is_server_error() {
            return Err(unavailable(&reply, "asking the token endpoint whether the client still exists"));
        }
        let error = object(&reply.body).ok().and_then(|body| text(&body, "error").map(str::to_owned));
        Ok(match (reply.status, error.as_deref()) {
            (StatusCode::UNAUTHORIZED | StatusCode::BAD_REQUEST, Some("invalid_client")) => Witness::Gone,
            (StatusCode::OK, None)
            | (StatusCode::BAD_REQUEST, Some("unauthorized_client" | "invalid_scope")) => Witness::Alive,
            _ => Witness::Mute,
        })
    }

    /// Nothing is there to remove, says the path; a proxy without its server says so too. Who still authenticates is still there.
    async fn not_found(&self, client: &Client, reply: &Response) -> Result<(), Error> {
        match self.witness(client).await {
            Ok(Witness::Alive) => {
                Err(unavailable(reply, "the deregistration, but the client still authenticates"))
            }
            // Without metadata there is nobody to ask.
            Ok(Witness::Gone | Witness::Mute) | Err(Error { kind: Kind::Protocol, .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn token_request(&self, client: &Client) -> Result<Option<(Url, Authorization, String)>, Error> {
        let (Some(secret), Some(endpoint)) = (&client.client_secret, self.endpoints().await?.token) else {
            return Ok(None);
        };
        let encode = |text: &str| url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        let (id, password) = (encode(&client.client_id), encode(secret.expose_secret()));
        let method = super::metadata::shown(Field::TokenEndpointAuthMethod, &client.document);
        Ok(match method.as_str().unwrap_or("client_secret_basic") {
            "client_secret_basic" => Some((
                endpoint,
                Authorization::Basic(id, password.into()),
                "grant_type=client_credentials".into(),
            )),
            "client_secret_post" => Some((
                endpoint,
                Authorization::None,
                format!("grant_type=client_credentials&client_id={id}&client_secret={password}"),
            )),
            _ => None,
        })
    }

    fn read_client(&self, reply: &Response, known: Option<&Client>) -> Result<Client, String> {
        let mut document = object(&reply.body)?;
        let client_id = json::id(&document, "client_id")?.to_owned();
        if let Some(known) = known.filter(|known| known.client_id != client_id) {
            return Err(format!("it speaks of another client than {}", known.client_id));
        }
        let client = Client {
            client_secret: client_secret(&document, "client_secret")?,
            client_secret_expires_at: moment(&document, "client_secret_expires_at"),
            registered_at: moment(&document, "client_id_issued_at"),
            ..Client::named(client_id, self.read_management(&document, known))
        };
        let expiry_told = document.get("client_secret_expires_at").is_some_and(|value| !value.is_null());
        document.retain(|member, value| !SERVER_ONLY.contains(&member.as_str()) && !value.is_null());
        Ok(Client { document: bounded(document), ..client }.keeping(known, expiry_told))
    }

    fn read_management(&self, document: &Document, known: Option<&Client>) -> Management {
        let token = text(document, "registration_access_token").filter(|t| !t.is_empty() && fits_a_header(t));
        let uri = text(document, "registration_client_uri");
        match (known.map(|known| &known.management), token, uri) {
            // Servers may leave both out of later replies; what we have stays good.
            (Some(Management::Token { uri, .. }), Some(token), _) => {
                Management::Token { uri: uri.clone(), token: token.into() }
            }
            (Some(management), None, _) => management.clone(),
            (_, Some(token), Some(uri)) => match self.ours(uri) {
                Ok(uri) => Management::Token { uri, token: token.into() },
                Err(why) => Management::None(format!(
                    "the registry's registration_client_uri {why}, so the client's token is not sent there"
                )),
            },
            (_, token, _) => Management::None(format!(
                "the registry gave no usable {}: it can create clients but not change or remove them",
                if token.is_none() { "registration_access_token" } else { "registration_client_uri" }
            )),
        }
    }
}

impl Client {
    /// What a later reply left out is still so.
    fn keeping(mut self, known: Option<&Self>, expiry_told: bool) -> Self {
        let secret = |client: &Self| client.client_secret.as_ref().map(|s| s.expose_secret().to_owned());
        if let Some(known) = known {
            let repeated = self.client_secret.is_some() && secret(&self) == secret(known);
            if self.client_secret.is_none() || (repeated && !expiry_told) {
                self.client_secret.clone_from(&known.client_secret);
                self.client_secret_expires_at =
                    self.client_secret_expires_at.or(known.client_secret_expires_at);
            }
            self.registered_at = self.registered_at.or(known.registered_at);
        }
        self
    }

    /// What a server may repeat of a request that it refuses.
    fn secrets(&self) -> Vec<&str> {
        let token = match &self.management {
            Management::Token { token, .. } => Some(token),
            Management::Registry | Management::None(_) => None,
        };
        self.client_secret.iter().chain(token).map(ExposeSecret::expose_secret).collect()
    }
}

#[async_trait]
impl Registry for DynamicRegistration {
    fn capabilities(&self) -> Capabilities {
        let fields = FIELDS.into_iter().map(|field| (field, Support::Settable)).collect();
        Capabilities { fields, defaults: assumed().into(), ..Capabilities::default() }
    }

    fn origin(&self) -> String {
        self.base.origin().ascii_serialization()
    }

    fn issuer(&self) -> Option<String> {
        self.settings.issuer.as_ref().map(|WebUri(issuer)| issuer.clone())
    }

    async fn answers(&self) -> Result<bool, Error> {
        if self.settings.issuer.is_none() {
            return Ok(false);
        }
        self.read_metadata().await.map(|_| true)
    }

    async fn prepare(&self) -> Result<(), Error> {
        if self.initial_access_token.as_ref().is_some_and(|token| !fits_a_header(token.expose_secret())) {
            return Err(Error::new(
                Kind::Unauthorized,
                "the initial access token has characters that no header may have: check initialAccessTokenSecretRef of the registry",
            ));
        }
        self.endpoints().await?;
        self.session.pace().await
    }

    async fn register(&self, wanted: &Wanted) -> Result<Client, Error> {
        let endpoint = self.endpoints().await?.registration;
        let mut body = wanted.metadata.to_document();
        body.extend(defaults(&wanted.metadata));
        body.extend(derived(&wanted.metadata));
        body.retain(|_, value| says_something(value));
        body.insert("software_id".into(), json!(wanted.software_id));
        let authorization =
            self.initial_access_token.clone().map_or(Authorization::None, Authorization::Bearer);
        let request = Request { method: Method::POST, url: endpoint, authorization, body: json::body(&body) };
        let reply = self.session.send_prepared("register", request).await?;
        let secrets: Vec<&str> = self.initial_access_token.iter().map(ExposeSecret::expose_secret).collect();
        match reply.status.as_u16() {
            200..=299 => self.read_client(&reply, None).map_err(|why| {
                Error::new(
                    Kind::Ambiguous,
                    format!("the registry answered {} but {why}", reply.status.as_u16()),
                )
            }),
            303 | 408 | 500.. => Err(Error::new(
                Kind::Ambiguous,
                format!("the registry answered {} to the registration", reply.status.as_u16()),
            )),
            300..=399 => Err(redirected(&reply, "the registration")),
            status if status == 403 || token_refused(&reply) => Err(Error::new(
                Kind::Unauthorized,
                format!(
                    "the registry answered {status} to the registration{}: check initialAccessTokenSecretRef of the registry",
                    detail(&reply, &secrets)
                ),
            )),
            404 | 405 | 410 => Err(Error::new(
                Kind::Protocol,
                format!(
                    "nothing registers clients at this endpoint (it answered {}): check issuer or registrationEndpoint of the registry",
                    reply.status.as_u16()
                ),
            )),
            409 => Err(Error::new(
                Kind::Conflict,
                format!("the registry sees a conflict{}", detail(&reply, &secrets)),
            )),
            status => Err(Error::new(
                Kind::Rejected,
                format!("the registry refused the client with {status}{}", detail(&reply, &secrets)),
            )),
        }
    }

    async fn observe(&self, client: &Client) -> Result<Option<Client>, Error> {
        let reply = self.manage("read", Method::GET, client, Body::Empty).await?;
        match reply.status.as_u16() {
            200 => {
                let read = self
                    .read_client(&reply, Some(client))
                    .map_err(|why| Error::new(Kind::Protocol, format!("reading the client: {why}")))?;
                self.learn(client, &read);
                Ok(Some(read))
            }
            404 | 410 => self.gone_or_lost(client, &reply).await,
            _ if token_refused(&reply) => self.gone_or_lost(client, &reply).await,
            300..=399 => Err(redirected(&reply, "reading the client")),
            status @ (403 | 405 | 501) => Err(Error::new(
                Kind::Unsupported,
                format!("the registry does not let the client be read (it answered {status})"),
            )),
            // Whatever that means, it says nothing of the client, nor of reads in general.
            _ => Err(unavailable(&reply, "reading the client")),
        }
    }

    async fn update(
        &self,
        client: &Client,
        wanted: &ClientMetadata,
        reset: &[Field],
    ) -> Result<Option<Client>, Error> {
        let body = replacement(client, wanted, reset);
        let reply = self.manage("update", Method::PUT, client, json::body(&body)).await?;
        match reply.status.as_u16() {
            200..=299 => self.read_client(&reply, Some(client)).map(Some).map_err(|why| {
                Error::new(
                    Kind::Protocol,
                    format!("the registry answered {} to the update but {why}", reply.status.as_u16()),
                )
            }),
            404 | 410 => self.gone_or_lost(client, &reply).await,
            _ if token_refused(&reply) => self.gone_or_lost(client, &reply).await,
            300..=399 => Err(redirected(&reply, "the update")),
            // RFC 7592 section 2.2 lets a server forbid updates; so does a firewall, for a while.
            status @ (403 | 405 | 501) => Err(Error::new(
                if status == 403 { Kind::Unauthorized } else { Kind::Unsupported },
                format!("the registry does not let the client be changed (it answered {status})"),
            )),
            408 | 500.. => Err(unavailable(&reply, "the update")),
            status => Err(Error::new(
                Kind::Rejected,
                format!("the registry refused the update with {status}{}", detail(&reply, &client.secrets())),
            )),
        }
    }

    async fn deregister(&self, client: &Client) -> Result<(), Error> {
        let reply = self.manage("deregister", Method::DELETE, client, Body::Empty).await?;
        match reply.status.as_u16() {
            200..=299 => Ok(()),
            404 | 410 => self.not_found(client, &reply).await,
            _ if token_refused(&reply) => self.gone_or_lost(client, &reply).await.map(drop),
            300..=399 => Err(redirected(&reply, "the deregistration")),
            // A 403 may be a firewall's mood: it is tried again as long as a deletion may take.
            405 | 501 => Err(Error::new(
                Kind::Unsupported,
                format!(
                    "the registry does not let the client be removed (it answered {})",
                    reply.status.as_u16()
                ),
            )),
            _ => Err(unavailable(&reply, "the deregistration")),
        }
    }
}

impl DynamicRegistration {
    fn learn(&self, before: &Client, read: &Client) {
        let mut learned = self.session.learned();
        learned.shown.extend(Field::ALL.into_iter().filter(|f| read.document.contains_key(f.wire_name())));
        if let (Management::Token { token: old, .. }, Management::Token { token: new, .. }) =
            (&before.management, &read.management)
        {
            learned.reads_rotate |= old.expose_secret() != new.expose_secret();
        }
    }
}

/// What RFC 7591 section 2 and OpenID Connect Dynamic Client Registration section 2 assume of what is left out, or [`defaults`].
fn assumed() -> [(Field, Vec<Value>); 3] {
    [
        (Field::ApplicationType, vec![json!("web")]),
        (Field::GrantTypes, vec![json!(["authorization_code"])]),
        (Field::TokenEndpointAuthMethod, vec![json!("client_secret_basic"), json!("private_key_jwt")]),
    ]
}

/// What a server needs at the first registration and the user did not say.
fn defaults(declared: &ClientMetadata) -> Document {
    let mut defaults = Document::new();
    if declared.get(Field::TokenEndpointAuthMethod).is_none() {
        // Some servers issue no secret when the method is left out.
        let keys = declared.get(Field::Jwks).or(declared.get(Field::JwksUri));
        let method = if keys.is_some() { "private_key_jwt" } else { "client_secret_basic" };
        defaults.insert(Field::TokenEndpointAuthMethod.wire_name().into(), json!(method));
    }
    if declared.get(Field::RedirectUris).is_none() && !may_redirect(declared) {
        defaults.insert(Field::RedirectUris.wire_name().into(), json!([]));
    }
    defaults
}

/// `response_types` follow from the grants (RFC 7591 section 2.1). Left out, `code` would be assumed and redirect URIs demanded.
fn derived(declared: &ClientMetadata) -> Document {
    let mut derived = Document::new();
    if declared.get(Field::GrantTypes).is_some() {
        let types = if may_redirect(declared) { json!(["code"]) } else { json!([]) };
        derived.insert("response_types".into(), types);
    }
    derived
}

fn may_redirect(declared: &ClientMetadata) -> bool {
    declared
        .get(Field::GrantTypes)
        .and_then(Value::as_array)
        .is_none_or(|grants| grants.iter().any(|grant| grant == "authorization_code"))
}

/// The body that makes a client what is declared: all of it (RFC 7592 section 2.2), so with what the server said and nobody
/// here owns. What left the spec, and what the server did not say, is as at a registration.
fn replacement(client: &Client, wanted: &ClientMetadata, reset: &[Field]) -> Document {
    let said = client.document.clone().into_iter();
    let mut body: Document = said.filter_map(|(member, value)| as_taken(member, value)).collect();
    for field in reset {
        body.remove(field.wire_name());
        match field {
            Field::GrantTypes => drop(body.remove("response_types")),
            Field::Jwks | Field::JwksUri => {
                drop(body.remove(Field::TokenEndpointAuthMethod.wire_name()));
            }
            _ => {}
        }
    }
    for (member, value) in defaults(wanted) {
        body.entry(member).or_insert(value);
    }
    body.extend(wanted.to_document());
    body.extend(derived(wanted));
    body.retain(|_, value| says_something(value));
    body.insert("client_id".into(), json!(client.client_id));
    body
}

/// Some servers show a member in another type than they take it: a method as a list of one, a list of one as its member. It is
/// put right, or left out.
fn as_taken(member: String, value: Value) -> Option<(String, Value)> {
    let Some(field) = Field::ALL.into_iter().find(|field| field.wire_name() == member) else {
        return Some((member, value));
    };
    let value = match (field, value) {
        (Field::Jwks, value) => value.is_object().then_some(value),
        (
            Field::Contacts | Field::GrantTypes | Field::PostLogoutRedirectUris | Field::RedirectUris,
            value,
        ) => match value {
            Value::String(_) => Some(json!([value])),
            value => value.is_array().then_some(value),
        },
        (Field::Scopes, Value::Array(scopes)) => {
            Some(json!(scopes.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" ")))
        }
        (_, Value::Array(mut items)) if items.len() == 1 => items.pop().filter(Value::is_string),
        (_, value) => value.is_string().then_some(value),
    };
    value.map(|value| (member, value))
}

/// An empty string or object says no more than an absent member, and strict servers refuse it. An empty list does say more:
/// left out, a default may take its place.
fn says_something(value: &Value) -> bool {
    !value.is_null() && value != "" && value.as_object().is_none_or(|members| !members.is_empty())
}

/// A document that leaves room for the credentials: without what nobody can declare, or else without anything.
fn bounded(mut document: Document) -> Document {
    let large =
        |document: &Document| serde_json::to_vec(document).is_ok_and(|text| text.len() > DOCUMENT_LIMIT);
    if large(&document) {
        document.retain(|member, _| Field::ALL.iter().any(|field| field.wire_name() == member));
    }
    if large(&document) {
        document.clear();
    }
    document
}

/// A token with a line break could never be sent, nor one that no server's headers have room for.
fn fits_a_header(token: &str) -> bool {
    const LIMIT: usize = 64 * 1024;
    token.len() <= LIMIT && HeaderValue::from_str(token).is_ok()
}

/// Seconds since 1970; 0 means never (RFC 7591 section 3.2.1).
fn moment(document: &Document, member: &str) -> Option<Timestamp> {
    let seconds = document.get(member)?;
    let seconds = seconds.as_i64().or_else(|| seconds.as_str()?.parse().ok())?;
    (seconds > 0).then(|| Timestamp::from_second(seconds).ok())?
}

/// Whether a reply refuses the token: 401, or the same said with 400 (seen at Canaille).
fn token_refused(reply: &Response) -> bool {
    let error = || object(&reply.body).ok().and_then(|body| text(&body, "error").map(str::to_owned));
    reply.status == StatusCode::UNAUTHORIZED
        || (reply.status == StatusCode::BAD_REQUEST
            && matches!(error().as_deref(), Some("access_denied" | "insufficient_scope" | "invalid_token")))
}

/// `error` and `error_description` of a refusal (RFC 7591 section 3.2.2), as far as they may be repeated.
fn detail(reply: &Response, secrets: &[&str]) -> String {
    let Ok(body) = object(&reply.body) else { return String::new() };
    let parts: Vec<String> = ["error", "error_description"]
        .iter()
        .filter_map(|member| text(&body, member))
        .map(|words| quote(words, secrets))
        .collect();
    if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(": ")) }
}

fn unavailable(reply: &Response, what: &str) -> Error {
    Error::new(Kind::Unavailable, format!("the registry answered {} to {what}", reply.status.as_u16()))
}

fn redirected(reply: &Response, what: &str) -> Error {
    let why = format!(
        "the registry answered {what} with a redirect ({}), which is never followed: give the final address in the registry",
        reply.status.as_u16()
    );
    Error::new(Kind::Protocol, why)
}

#[cfg(test)]
mod tests;
