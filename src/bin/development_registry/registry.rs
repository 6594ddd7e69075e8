//! What the registry keeps and how it answers.
//!
//! The rules of OAuth are the library's ([`oauth_as`]). A fresh server of it judges each request, over copies
//! of the clients in question, so that a request is one step: the library decides, the file is written, the
//! reply is sent. A request that fails, or whose sender hangs up before the file is written, changes nothing.
//!
//! This layer adds what the library leaves out: client metadata it has no use for, any scope, a registration
//! access token in each reply as RFC 7592 section 3 asks, its rotation, and a file to keep it all in.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex as SyncMutex, PoisonError};

use axum::body::Bytes;
use axum::extract::{Path as InPath, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{any, delete, get, post};
use axum::{Json, Router};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use oauth_as::metadata::issuer_path;
use oauth_as::{
    AuthorizationServer, Client, ClientId, ClientInformation, ClientMetadata, GrantType, MemoryStorage,
    RegistrationAttempt, RegistrationConfig, RegistrationDecision, RegistrationFailure, RegistrationPolicy,
    ScopeSet, SecretHash, ServerConfig, ServiceBuilder, Storage as _, SystemClock, well_known_path,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::sync::Mutex;
use url::Url;
use uuid::Uuid;

type Members = Map<String, Value>;
type Clients = BTreeMap<String, Entry>;
type Library = AuthorizationServer<MemoryStorage, SystemClock>;
type Shared = State<Arc<Registry>>;
/// Whether a value is sound.
type Check = fn(&Value) -> bool;
type Log = Option<Arc<SyncMutex<File>>>;

const GRANTS: [GrantType; 3] =
    [GrantType::AuthorizationCode, GrantType::RefreshToken, GrantType::ClientCredentials];

/// Stands in for an owner's registration access token where `/inspect` acts on a copy of the client.
const INSPECTOR: &str = "inspector";

/// A registered client: what the library enforces, and beside it the metadata it does not model.
#[derive(Clone, Serialize, Deserialize)]
struct Entry {
    client: Client,
    also: Members,
}

/// The registered clients and the rules they are registered by.
pub struct Registry {
    issuer: String,
    data: PathBuf,
    initial_access_token: Gate,
    rotate: bool,
    metadata: Value,
    clients: Mutex<Clients>,
}

impl Registry {
    /// Reads the clients from `data`, and writes them back at once so that a file nobody can write shows now.
    pub fn open(issuer: String, data: PathBuf, token: Option<&str>, rotate: bool) -> Result<Self, String> {
        let clients = load(&data)?;
        save(&data, &clients)?;
        let mut registry = Self {
            issuer,
            data,
            initial_access_token: Gate(token.map(SecretHash::sha256)),
            rotate,
            metadata: Value::Null,
            clients: Mutex::new(clients),
        };
        registry.metadata = registry.describe_server()?;
        Ok(registry)
    }

    /// The library's RFC 8414 document, less what is not served here.
    fn describe_server(&self) -> Result<Value, String> {
        let server = Arc::new(self.library(Gate(None), ScopeSet::empty()));
        ServiceBuilder::new(Arc::clone(&server)).build().map_err(|e| format!("unfit issuer: {e}"))?;
        let mut document = json!(server.metadata());
        document["grant_types_supported"] = json!(GRANTS);
        if let Some(members) = document.as_object_mut() {
            members.remove("device_authorization_endpoint");
            members.remove("revocation_endpoint");
        }
        Ok(document)
    }

    /// A server of the library that knows no client. The library holds registrations to a fixed list of
    /// scopes; here any scope may be registered, so the list is what this request asks for.
    fn library(&self, gate: Gate, scopes: ScopeSet) -> Library {
        let mut registration = RegistrationConfig::new();
        registration.allowed_grant_types = GRANTS.to_vec();
        registration.allowed_scopes = scopes;
        let mut config = ServerConfig::new(&self.issuer, format!("{}/device", self.issuer));
        config.registration = Some(Box::new(registration));
        AuthorizationServer::new(config, MemoryStorage::new()).with_registration_policy(Box::new(gate))
    }

    /// A server of the library that knows `client` and would register `metadata`.
    async fn library_of(
        &self,
        client: Option<Client>,
        metadata: &ClientMetadata,
    ) -> Result<Library, Refusal> {
        // A scope that does not parse is left to the library to refuse.
        let scopes = metadata.scope.as_deref().and_then(|s| ScopeSet::parse(s).ok()).unwrap_or_default();
        let gate = if client.is_some() { Gate(None) } else { self.initial_access_token.clone() };
        let library = self.library(gate, scopes);
        if let Some(client) = client {
            library.store().put_client(client).await.map_err(Refusal::broken)?;
        }
        Ok(library)
    }

    /// Makes a change that lasts, or none.
    fn keep(&self, clients: &mut Clients, id: &str, entry: Option<Entry>) -> Result<(), Refusal> {
        let before = set(clients, id, entry);
        save(&self.data, clients).map_err(|why| {
            set(clients, id, before);
            Refusal::Broken(why)
        })
    }
}

/// Sets the entry of `id`, or removes it, and answers what was there.
fn set(clients: &mut Clients, id: &str, entry: Option<Entry>) -> Option<Entry> {
    match entry {
        Some(entry) => clients.insert(id.to_owned(), entry),
        None => clients.remove(id),
    }
}

fn load(data: &Path) -> Result<Clients, String> {
    match std::fs::read(data) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|e| {
            format!(
                "{} does not hold clients of this registry: {e}; move it away to start empty",
                data.display()
            )
        }),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Clients::new()),
        Err(e) => Err(format!("cannot read {}: {e}; name a readable file with --data", data.display())),
    }
}

/// Replaces the file as a whole: who reads it, now or after a crash of this process, finds the old or the new.
fn save(data: &Path, clients: &Clients) -> Result<(), String> {
    let mut scratch = data.as_os_str().to_owned();
    scratch.push(".new");
    serde_json::to_vec(clients)
        .map_err(std::io::Error::from)
        .and_then(|bytes| std::fs::write(&scratch, bytes))
        .and_then(|()| std::fs::rename(&scratch, data))
        .map_err(|e| {
            format!(
                "cannot write {}: {e}; name with --data a file in a directory that can be written",
                data.display()
            )
        })
}

/// The initial access token a registration must bear, if any.
#[derive(Clone)]
struct Gate(Option<SecretHash>);

impl RegistrationPolicy for Gate {
    fn authorize(&self, attempt: &RegistrationAttempt<'_>) -> RegistrationDecision {
        match (&self.0, attempt.initial_access_token) {
            (None, _) => RegistrationDecision::Allow,
            (Some(hash), Some(token)) if hash.verify(token, None) => RegistrationDecision::Allow,
            _ => RegistrationDecision::Deny,
        }
    }
}

/// All that is served, and the log around it. Endpoints live under the issuer's path, `/inspect` never does.
pub fn router(registry: Registry, log: Option<File>) -> Router {
    let under = |path: &str| format!("{}{path}", issuer_path(&registry.issuer));
    Router::new()
        .route(&well_known_path(&registry.issuer), get(metadata))
        .route(&under("/.well-known/openid-configuration"), get(metadata))
        .route(&under("/register"), post(register))
        .route(&under("/register/{client_id}"), get(read).put(replace).delete(remove))
        .route(&under("/token"), any(by_library))
        // Advertised because RFC 8414 requires it; the library answers that nobody can sign in.
        .route(&under("/authorize"), any(by_library))
        .route("/inspect/clients", get(list))
        .route("/inspect/clients/{client_id}", delete(lose).patch(alter))
        .layer(from_fn_with_state(log.map(|file| Arc::new(SyncMutex::new(file))), record))
        .with_state(Arc::new(registry))
}

/// Writes the line of a request before its reply is sent. A reply whose line is lost would deceive who
/// counts lines, so it fails.
async fn record(State(log): State<Log>, request: Request, next: Next) -> Response {
    let (method, path) = (request.method().to_string(), request.uri().path().to_owned());
    let reply = next.run(request).await;
    let Some(log) = log.filter(|_| !path.starts_with("/inspect/")) else { return reply };
    let line = format!("{}\n", json!({ "method": method, "path": path, "status": reply.status().as_u16() }));
    // A file is unbuffered: one write is the append and the flush.
    match log.lock().unwrap_or_else(PoisonError::into_inner).write_all(line.as_bytes()) {
        Ok(()) => reply,
        Err(e) => Refusal::Broken(format!("cannot write the request log: {e}")).into_response(),
    }
}

async fn metadata(State(registry): Shared) -> Json<Value> {
    Json(registry.metadata.clone())
}

/// RFC 7591 section 3.
async fn register(State(registry): Shared, headers: HeaderMap, body: Bytes) -> Result<Response, Refusal> {
    let mut clients = registry.clients.lock().await;
    let asked = Asked::read(&body)?;
    let library = registry.library_of(None, &asked.modelled).await?;
    let told = library.register_dynamic_client(&asked.modelled, bearer(&headers)).await?;
    let also = asked.also()?;
    let client = judged(&library, &told.client_id).await?;
    registry.keep(&mut clients, &told.client_id, Some(Entry { client, also: also.clone() }))?;
    Ok((StatusCode::CREATED, NO_STORE, Json(told_with(&told, also))).into_response())
}

/// RFC 7592 section 2.1. The secret is not shown: only its hash is kept.
async fn read(
    State(registry): Shared,
    InPath(id): InPath<String>,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let entry = registry.clients.lock().await.get(&id).cloned();
    let token = bearer(&headers).unwrap_or_default();
    let (client, also) = entry.map_or_else(Default::default, |e| (Some(e.client), e.also));
    let library = registry.library_of(client, &ClientMetadata::default()).await?;
    let mut told = library.read_registration(&ClientId::new(id), token).await?;
    told.registration_access_token = Some(token.to_owned());
    Ok((NO_STORE, Json(told_with(&told, also))).into_response())
}

/// RFC 7592 section 2.2.
async fn replace(
    State(registry): Shared,
    InPath(id): InPath<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    let mut clients = registry.clients.lock().await;
    let asked = Asked::read(&body)?;
    let token = bearer(&headers).unwrap_or_default();
    let before = clients.get(&id).map(|entry| entry.client.clone());
    let library = registry.library_of(before.clone(), &asked.modelled).await?;
    let mut told = library.update_registration(&ClientId::new(&id), token, &asked.modelled).await?;
    asked.replaces(&id, before.as_ref())?;
    let also = asked.also()?;
    let mut client = judged(&library, &id).await?;
    let current = if registry.rotate { Uuid::new_v4().simple().to_string() } else { token.to_owned() };
    set_registration_token(&mut client, SecretHash::sha256(&current));
    told.registration_access_token = Some(current);
    registry.keep(&mut clients, &id, Some(Entry { client, also: also.clone() }))?;
    Ok((NO_STORE, Json(told_with(&told, also))).into_response())
}

/// RFC 7592 section 2.3.
async fn remove(
    State(registry): Shared,
    InPath(id): InPath<String>,
    headers: HeaderMap,
) -> Result<StatusCode, Refusal> {
    let mut clients = registry.clients.lock().await;
    let client = clients.get(&id).map(|entry| entry.client.clone());
    let library = registry.library_of(client, &ClientMetadata::default()).await?;
    library.delete_registration(&ClientId::new(&id), bearer(&headers).unwrap_or_default()).await?;
    registry.keep(&mut clients, &id, None)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Endpoints that are the library's alone. A token it issues is not kept: nothing here accepts one.
async fn by_library(State(registry): Shared, head: Parts, body: Bytes) -> Result<Response, Refusal> {
    let clients = registry.clients.lock().await.clone();
    let library = Arc::new(registry.library(Gate(None), ScopeSet::empty()));
    for entry in clients.into_values() {
        library.store().put_client(entry.client).await.map_err(Refusal::broken)?;
    }
    let service = ServiceBuilder::new(library).build().map_err(Refusal::broken)?;
    let reply = service.handle(Request::from_parts(head, oauth_as::Body::from(body))).await;
    let (mut head, body) = reply.into_parts();
    let body = body.into_bytes();
    // RFC 6749 section 5.2 lets a server answer 400 if the secret came in the form; most answer 401 always.
    if serde_json::from_slice::<Value>(&body).is_ok_and(|told| told["error"] == "invalid_client") {
        head.status = StatusCode::UNAUTHORIZED;
        head.headers.entry(header::WWW_AUTHENTICATE).or_insert(HeaderValue::from_static("Basic"));
    }
    Ok((head, body).into_response())
}

/// What is registered, for people.
async fn list(State(registry): Shared) -> Result<Json<Vec<Members>>, Refusal> {
    let clients = registry.clients.lock().await.clone();
    let mut shown = Vec::with_capacity(clients.len());
    for (id, entry) in clients {
        shown.push(inspect(&registry, &id, entry).await?);
    }
    Ok(Json(shown))
}

/// Changes a client behind its owner's back. The result must be metadata that could have been registered.
async fn alter(
    State(registry): Shared,
    InPath(id): InPath<String>,
    patch: Bytes,
) -> Result<Json<Members>, Refusal> {
    let mut clients = registry.clients.lock().await;
    let entry = clients.get(&id).cloned().ok_or(Refusal::Unknown)?;
    let mut wanted = inspect(&registry, &id, entry.clone()).await?;
    let patch = Asked::read(&patch)?.members;
    // A merge patch replaces whole members, as client metadata has no use for a deeper merge; null removes.
    wanted.extend(patch);
    wanted.retain(|_, value| !value.is_null());
    let asked = Asked::of(wanted)?;
    let library = registry.library_of(Some(for_inspector(&entry.client)), &asked.modelled).await?;
    library.update_registration(&ClientId::new(&id), INSPECTOR, &asked.modelled).await?;
    let mut client = judged(&library, &id).await?;
    if let Some(owned) = &entry.client.registration {
        set_registration_token(&mut client, owned.registration_access_token_hash.clone());
    }
    let altered = Entry { client, also: asked.also()? };
    registry.keep(&mut clients, &id, Some(altered.clone()))?;
    inspect(&registry, &id, altered).await.map(Json)
}

/// Loses a client behind its owner's back.
async fn lose(State(registry): Shared, InPath(id): InPath<String>) -> Result<StatusCode, Refusal> {
    let mut clients = registry.clients.lock().await;
    if !clients.contains_key(&id) {
        return Err(Refusal::Unknown);
    }
    registry.keep(&mut clients, &id, None)?;
    Ok(StatusCode::NO_CONTENT)
}

/// What the owner of a client would be told, without the credentials.
async fn inspect(registry: &Registry, id: &str, entry: Entry) -> Result<Members, Refusal> {
    let library = registry.library_of(Some(for_inspector(&entry.client)), &ClientMetadata::default()).await?;
    let told = library.read_registration(&ClientId::new(id), INSPECTOR).await?;
    Ok(told_with(&told, entry.also))
}

/// A copy that the inspector owns. The library talks to owners only, and of their tokens we keep hashes.
fn for_inspector(client: &Client) -> Client {
    let mut copy = client.clone();
    set_registration_token(&mut copy, SecretHash::sha256(INSPECTOR));
    copy
}

fn set_registration_token(client: &mut Client, hash: SecretHash) {
    if let Some(registration) = &mut client.registration {
        registration.registration_access_token_hash = hash;
    }
}

/// The client as the library left it.
async fn judged(library: &Library, id: &str) -> Result<Client, Refusal> {
    let found = library.store().get_client(&ClientId::new(id)).await.map_err(Refusal::broken)?;
    found.map(Arc::unwrap_or_clone).ok_or_else(|| Refusal::broken("the library lost the client"))
}

fn told_with(told: &ClientInformation, also: Members) -> Members {
    let mut members = match json!(told) {
        Value::Object(members) => members,
        _ => Members::new(),
    };
    members.extend(also);
    members
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// The client metadata of a request: all of it, and the part that the library models.
struct Asked {
    members: Members,
    modelled: ClientMetadata,
}

impl Asked {
    fn read(body: &[u8]) -> Result<Self, Refusal> {
        let members = serde_json::from_slice(body).map_err(|e| {
            Refusal::Metadata(format!("the body is not a JSON object of client metadata: {e}"))
        })?;
        Self::of(members)
    }

    fn of(members: Members) -> Result<Self, Refusal> {
        let modelled = ClientMetadata::deserialize(&members).map_err(|e| Refusal::Metadata(e.to_string()))?;
        Ok(Self { members, modelled })
    }

    /// The known members that the library does not model, if they are sound. Unknown ones are ignored, as
    /// RFC 7591 section 2 asks.
    fn also(&self) -> Result<Members, Refusal> {
        let mut also = Members::new();
        for (name, fits, must_be) in ALSO {
            match self.members.get(name) {
                None | Some(Value::Null) => {}
                Some(value) if fits(value) => drop(also.insert(name.to_owned(), value.clone())),
                Some(_) => return Err(Refusal::Metadata(format!("{name} must be {must_be}"))),
            }
        }
        if also.contains_key("jwks") && also.contains_key("jwks_uri") {
            return Err(Refusal::Metadata("give jwks or jwks_uri, not both (RFC 7591 section 2)".to_owned()));
        }
        Ok(also)
    }

    /// The rules of RFC 7592 section 2.2 on what a replacement names.
    fn replaces(&self, id: &str, before: Option<&Client>) -> Result<(), Refusal> {
        let refuse = |why: &str| Err(Refusal::Metadata(format!("{why} (RFC 7592 section 2.2)")));
        if self.members.get("client_id").and_then(Value::as_str) != Some(id) {
            return refuse("client_id must be there and be the one this URL manages");
        }
        for name in FORBIDDEN {
            if self.members.contains_key(name) {
                return refuse(&format!("{name} must not be sent"));
            }
        }
        match (self.members.get("client_secret"), before) {
            (Some(secret), Some(client)) if !client.auth.verify(secret.as_str()) => {
                refuse("client_secret, if sent, must be the current one")
            }
            _ => Ok(()),
        }
    }
}

const FORBIDDEN: [&str; 4] = [
    "registration_access_token",
    "registration_client_uri",
    "client_secret_expires_at",
    "client_id_issued_at",
];

/// Client metadata kept beside the library's: its name, whether a value is sound, and what it must be.
const ALSO: [(&str, Check, &str); 10] = [
    ("client_uri", is_page, "an http or https URL"),
    ("logo_uri", is_page, "an http or https URL"),
    ("policy_uri", is_page, "an http or https URL"),
    ("tos_uri", is_page, "an http or https URL"),
    ("jwks_uri", is_page, "an http or https URL"),
    ("jwks", |value| value["keys"].is_array(), "a JSON Web Key Set: an object with an array `keys`"),
    ("contacts", |value| all(value, Value::is_string), "an array of strings"),
    ("post_logout_redirect_uris", |value| all(value, is_uri), "an array of absolute URIs without fragment"),
    ("application_type", |value| *value == "web" || *value == "native", "`web` or `native`"),
    ("software_id", Value::is_string, "a string"),
];

fn all(value: &Value, fits: Check) -> bool {
    value.as_array().is_some_and(|values| values.iter().all(fits))
}

fn is_uri(value: &Value) -> bool {
    value.as_str().and_then(|text| Url::parse(text).ok()).is_some_and(|url| url.fragment().is_none())
}

fn is_page(value: &Value) -> bool {
    value
        .as_str()
        .and_then(|text| Url::parse(text).ok())
        .is_some_and(|url| matches!(url.scheme(), "http" | "https"))
}

const NO_STORE: [(header::HeaderName, &str); 1] = [(header::CACHE_CONTROL, "no-store")];

/// Why a request is not granted.
enum Refusal {
    /// The library refuses.
    Library(RegistrationFailure),
    /// The metadata is unsound by a rule of this layer.
    Metadata(String),
    /// `/inspect` names a client that is not registered.
    Unknown,
    /// This registry is at fault, or its disk.
    Broken(String),
}

impl Refusal {
    fn broken(why: impl Display) -> Self {
        Self::Broken(why.to_string())
    }
}

impl From<RegistrationFailure> for Refusal {
    fn from(failure: RegistrationFailure) -> Self {
        Self::Library(failure)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let problem = |error: &str, why: String| Json(json!({ "error": error, "error_description": why }));
        match self {
            Self::Library(RegistrationFailure::Unauthorized) => {
                (StatusCode::UNAUTHORIZED, NO_STORE, [(header::WWW_AUTHENTICATE, "Bearer")]).into_response()
            }
            Self::Library(RegistrationFailure::Invalid(e)) => {
                (StatusCode::BAD_REQUEST, NO_STORE, Json(e)).into_response()
            }
            Self::Metadata(why) => {
                (StatusCode::BAD_REQUEST, NO_STORE, problem("invalid_client_metadata", why)).into_response()
            }
            Self::Unknown => {
                (StatusCode::NOT_FOUND, problem("not_found", "no such client is registered".to_owned()))
                    .into_response()
            }
            Self::Library(failure) => Self::Broken(failure.to_string()).into_response(),
            Self::Broken(why) => {
                (StatusCode::INTERNAL_SERVER_ERROR, NO_STORE, problem("server_error", why)).into_response()
            }
        }
    }
}
