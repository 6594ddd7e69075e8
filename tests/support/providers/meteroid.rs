//! Meteroid: names are unique, nothing can be changed but the secret, and its framework speaks plain text.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use k8s_openapi::ByteString;
use serde_json::{Map, Value, json};
use tokio::time::Instant;
use url::Url;

use super::{
    Provider, Reply, Request,
    contract::decoded,
    parts::{Clock, Limiter, Replica, texts},
};

/// The key that it knows from the start, of its first organisation.
pub const KEY: &str = "pv_prod_CANARY0000000000000000000001/7n42DGM5Tflk9n8mt7Fhc7";
/// How long a key that was revoked may still be taken for valid.
pub const KEY_CACHE: Duration = Duration::from_mins(2);
/// The largest body that is read.
pub const BODY_LIMIT: usize = 1024 * 1024;

/// As much of a secret's end as its hint shows.
const HINT: usize = 4;
/// The window of the limit, if there is one.
const WINDOW: Duration = Duration::from_mins(1);
/// With this, a request acts on somebody else's account.
pub const CONNECT_ACCOUNT: &str = "x-meteroid-connect-account";

/// Whether Connect, which applications are a part of, is enabled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connect {
    /// It is.
    On,
    /// It is not, and that is a matter of permission.
    Forbidden,
    /// It is not, and there is nothing to be found.
    NotFound,
}

/// How a refusal for too many requests says when to come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryHeaders {
    /// By `Retry-After`, in seconds.
    Seconds,
    /// By `retry-after-ms`.
    Milliseconds,
    /// By both.
    Both,
    /// Not at all.
    Neither,
}

/// The service with its organisations and their applications.
pub struct Meteroid {
    /// Whether there can be applications at all.
    pub connect: Connect,
    /// How it says when to come back.
    pub retry_headers: RetryHeaders,
    prefix: String,
    clock: Clock,
    limiter: Limiter,
    replica: Replica<Vec<App>>,
    made: u64,
    answered: u64,
    keys: BTreeMap<String, Key>,
    apps: Vec<App>,
    given: Vec<String>,
}

struct Key {
    organization_id: String,
    /// When it is no longer accepted, and what is said from then on.
    ends: Option<(Instant, &'static str)>,
}

/// An application as the service keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct App {
    /// What it is managed by.
    pub id: String,
    /// What it is called in OAuth.
    pub client_id: String,
    /// Whom it belongs to.
    pub organization_id: String,
    /// The name, which no other application of the organisation has.
    pub name: String,
    /// Where users may return to.
    pub redirect_uris: Vec<String>,
    /// What tokens may do.
    pub scopes: Vec<String>,
    /// Whether it works; only the service's own people can change that.
    pub is_active: bool,
    /// Its only secret.
    pub client_secret: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its secret was last changed.
    pub updated_at: Option<Timestamp>,
}

/// Why a request has no effect.
enum Refusal {
    /// In the service's own words.
    Told(u16, &'static str, String),
    /// In the framework's words, which are no JSON.
    Plain(u16, &'static str),
    /// In OAuth's words.
    OAuth(u16, &'static str),
}

type Answer = Result<Reply, Refusal>;

impl Provider for Meteroid {
    fn contract() -> &'static str {
        include_str!("../../contracts/meteroid.yaml")
    }

    fn prefix(&self) -> Option<&str> {
        Some(&self.prefix)
    }

    fn answer(&mut self, request: &Request) -> Reply {
        self.answered += 1;
        let allowance = self.limiter.hit(request.header("authorization").unwrap_or_default());
        let reply = if allowance.refused {
            self.throttled(allowance.reset)
        } else {
            self.route(&request.below(&self.prefix)).unwrap_or_else(Reply::from)
        };
        reply.with("x-request-id", format!("req-{}", self.answered))
    }
}

impl Default for Meteroid {
    fn default() -> Self {
        Self::new()
    }
}

/// What a test does with it, past its API.
impl Meteroid {
    /// A service with one organisation that knows [`KEY`].
    pub fn new() -> Self {
        let mut meteroid = Self {
            connect: Connect::On,
            retry_headers: RetryHeaders::Seconds,
            prefix: String::new(),
            clock: Clock::default(),
            limiter: Limiter::new(u32::MAX, WINDOW, WINDOW),
            replica: Replica::default(),
            made: 0,
            answered: 0,
            keys: BTreeMap::new(),
            apps: Vec::new(),
            given: Vec::new(),
        };
        meteroid.add_organization(KEY);
        meteroid
    }

    /// A further organisation with this key. Returns its id.
    pub fn add_organization(&mut self, key: &str) -> String {
        let organization_id = self.id("org_");
        self.add_key(key, &organization_id);
        organization_id
    }

    /// A further key of an organisation.
    pub fn add_key(&mut self, key: &str, organization_id: &str) {
        let organization_id = organization_id.to_owned();
        self.keys.insert(key.to_owned(), Key { organization_id, ends: None });
    }

    /// Revokes a key; for so long, up to [`KEY_CACHE`], nobody notices.
    pub fn revoke_key(&mut self, key: &str, unnoticed: Duration) {
        self.key(key).ends = Some((Instant::now() + unnoticed, "UNAUTHORIZED"));
    }

    /// Lets a key expire now.
    pub fn expire_key(&mut self, key: &str) {
        self.key(key).ends = Some((Instant::now(), "TOKEN_EXPIRED"));
    }

    /// The id of the organisation that a key is of.
    pub fn organization_of(&self, key: &str) -> String {
        self.keys[key].organization_id.clone()
    }

    /// Refuses every key for a while.
    pub fn throttle_for(&mut self, time: Duration) {
        self.limiter.refuse_all_for(time);
    }

    /// How many requests a key has within a minute.
    pub fn set_limit(&mut self, limit: u32) {
        self.limiter.set_limit(limit);
    }

    /// Lists come from a replica that is this far behind.
    pub fn stale_list_for(&mut self, lag: Duration) {
        self.replica.set_lag(lag);
    }

    /// Everything is below this path from now on, for example `/billing`.
    pub fn set_prefix(&mut self, prefix: &str) {
        prefix.clone_into(&mut self.prefix);
    }

    /// Its clock shows this now.
    pub fn set_time(&mut self, now: Timestamp) {
        self.clock = Clock::showing(now);
    }

    /// All applications of all organisations, oldest first.
    pub fn clients(&self) -> Vec<App> {
        self.apps.clone()
    }

    /// One application, by the id that it is managed by or by its client id.
    pub fn client(&self, id: &str) -> Option<App> {
        self.apps.iter().find(|app| app.id == id || app.client_id == id).cloned()
    }

    /// Changes an application by hand, also what no request can change. Takes either id.
    pub fn edit(&mut self, id: &str, change: impl FnOnce(&mut App)) {
        self.replica.keep(&self.apps);
        let app = self.apps.iter_mut().find(|app| app.id == id || app.client_id == id);
        change(app.expect("an application to edit"));
    }

    /// Removes an application by hand. Takes either id.
    pub fn remove(&mut self, id: &str) {
        self.replica.keep(&self.apps);
        self.apps.retain(|app| app.id != id && app.client_id != id);
    }

    /// Applications that somebody else made in the first organisation. Returns the ids that they are managed by.
    pub fn add_foreign(&mut self, count: usize) -> Vec<String> {
        let organization_id = self.organization_of(KEY);
        (0..count).map(|_| self.add_one_foreign(&organization_id)).collect()
    }

    /// Whether an application could authenticate by this pair now.
    pub fn authenticates(&self, client_id: &str, secret: &str) -> bool {
        let right = |app: &&App| app.client_id == client_id && app.client_secret == secret;
        self.apps.iter().find(right).is_some_and(|app| app.is_active)
    }

    /// How many secrets an application has now: one, or none if there is no such one. Takes either id.
    pub fn live_secrets(&self, id: &str) -> usize {
        usize::from(self.client(id).is_some())
    }

    /// Every secret that ever left the service.
    pub fn secrets_given(&self) -> Vec<String> {
        self.given.clone()
    }

    fn key(&mut self, key: &str) -> &mut Key {
        self.keys.get_mut(key).expect("a key")
    }

    fn add_one_foreign(&mut self, organization_id: &str) -> String {
        let secret = format!("CANARY-FOREIGN-{:0>25}", self.next());
        let name = format!("By hand {}", self.made);
        let wanted =
            Wanted { name, redirect_uris: vec!["https://hand.example/cb".to_owned()], scopes: Vec::new() };
        let app = self.new_app(organization_id, wanted, secret);
        let id = app.id.clone();
        self.insert(app);
        id
    }
}

/// How it comes to an answer.
impl Meteroid {
    fn route(&mut self, request: &Request) -> Answer {
        let path: Vec<_> = request.path.split('/').skip(1).map(decoded).collect();
        let path: Vec<_> = path.iter().map(String::as_str).collect();
        match path.as_slice() {
            ["api", "v1", "oauth", "introspect"] => self.introspect(request),
            ["api", "v1", "oauth-apps", below @ ..] => {
                let organization_id = self.caller(request)?;
                self.manage(&organization_id, below, request)
            }
            _ => Err(Refusal::Plain(404, "")),
        }
    }

    fn caller(&self, request: &Request) -> Result<String, Refusal> {
        let given = request.credentials("Bearer").and_then(|key| self.keys.get(key));
        let key = given.ok_or_else(|| Refusal::told(401, "UNAUTHORIZED", "No valid API key"))?;
        match key.ends {
            Some((ends, code)) if ends <= Instant::now() => {
                Err(Refusal::told(401, code, "The API key is no longer valid"))
            }
            // Whatever the service would do, it would do it to an account that is not meant.
            _ if request.headers.contains_key(CONNECT_ACCOUNT) => {
                Err(Refusal::told(403, "FORBIDDEN", "The account is not connected"))
            }
            _ => Ok(key.organization_id.clone()),
        }
    }

    fn manage(&mut self, organization_id: &str, below: &[&str], request: &Request) -> Answer {
        match self.connect {
            Connect::On => {}
            Connect::Forbidden => return Err(Refusal::told(403, "FORBIDDEN", "Connect is not enabled")),
            Connect::NotFound => return Err(Refusal::told(404, "NOT_FOUND", "Connect is not enabled")),
        }
        match (request.method.as_str(), below) {
            ("POST", []) => self.create(organization_id, request),
            ("GET", []) => Ok(self.list(organization_id)),
            ("GET", [id]) => Ok(Reply::json(200, &self.own(organization_id, id)?.shown())),
            ("DELETE", [id]) => self.delete(organization_id, id),
            ("POST", [id, "rotate"]) => self.rotate(organization_id, id),
            (_, [] | [_] | [_, "rotate"]) => Err(Refusal::Plain(405, "")),
            _ => Err(Refusal::Plain(404, "")),
        }
    }

    fn create(&mut self, organization_id: &str, request: &Request) -> Answer {
        let wanted = Wanted::read(request)?;
        let taken = |app: &App| app.organization_id == organization_id && app.name == wanted.name;
        if self.apps.iter().any(taken) {
            let why = format!("There is an application {:?} already", wanted.name);
            return Err(Refusal::Told(409, "CONFLICT", why));
        }
        let secret = self.new_secret();
        let app = self.new_app(organization_id, wanted, secret);
        let created = json!({ "app": app.shown(), "client_secret": app.client_secret });
        self.given.push(app.client_secret.clone());
        self.insert(app);
        Ok(Reply::json(201, &created))
    }

    fn list(&self, organization_id: &str) -> Reply {
        let all = self.replica.show(&self.apps).iter();
        let data: Value = all.filter(|app| app.organization_id == organization_id).map(App::shown).collect();
        Reply::json(200, &json!({ "data": data }))
    }

    /// The old secret dies at once.
    fn rotate(&mut self, organization_id: &str, id: &str) -> Answer {
        self.own(organization_id, id)?;
        let (secret, now) = (self.new_secret(), self.clock.now());
        self.given.push(secret.clone());
        let rotated = json!({ "client_secret": secret, "client_secret_hint": hint(&secret) });
        self.edit(id, |app| (app.client_secret, app.updated_at) = (secret, Some(now)));
        Ok(Reply::json(200, &rotated))
    }

    fn delete(&mut self, organization_id: &str, id: &str) -> Answer {
        self.own(organization_id, id)?;
        self.remove(id);
        Ok(Reply::empty(204))
    }

    /// An organisation cannot tell another's application from none. A client id is none that anything is managed by.
    fn own(&self, organization_id: &str, id: &str) -> Result<&App, Refusal> {
        let suffix = id.strip_prefix("app_").unwrap_or_default();
        if suffix.is_empty() || !suffix.chars().all(|one| one.is_ascii_alphanumeric()) {
            return Err(Refusal::Plain(400, "The path has no valid id"));
        }
        let own = self.apps.iter().find(|app| app.id == id && app.organization_id == organization_id);
        own.ok_or_else(|| Refusal::told(404, "NOT_FOUND", "There is no such application"))
    }

    /// No token is ever known here: what counts is who may ask.
    fn introspect(&self, request: &Request) -> Answer {
        if request.method != "POST" {
            return Err(Refusal::Plain(405, ""));
        }
        let (client_id, secret) =
            request.credentials("Basic").and_then(pair).ok_or(Refusal::OAuth(401, "invalid_client"))?;
        if !self.authenticates(&client_id, &secret) {
            return Err(Refusal::OAuth(401, "invalid_client"));
        }
        let mut form = url::form_urlencoded::parse(&request.body);
        if !form.any(|(name, _)| name == "token") {
            return Err(Refusal::OAuth(400, "invalid_request"));
        }
        Ok(Reply::json(200, &json!({ "active": false })))
    }

    fn throttled(&self, seconds: u64) -> Reply {
        let reply = Reply::from(Refusal::told(429, "TOO_MANY_REQUESTS", "Too many requests"));
        let milliseconds = seconds * 1000;
        match self.retry_headers {
            RetryHeaders::Seconds => reply.with("retry-after", seconds),
            RetryHeaders::Milliseconds => reply.with("retry-after-ms", milliseconds),
            RetryHeaders::Both => reply.with("retry-after", seconds).with("retry-after-ms", milliseconds),
            RetryHeaders::Neither => reply,
        }
    }

    fn new_app(&mut self, organization_id: &str, wanted: Wanted, client_secret: String) -> App {
        App {
            id: self.id("app_"),
            client_id: self.id("mcl_"),
            organization_id: organization_id.to_owned(),
            name: wanted.name,
            redirect_uris: wanted.redirect_uris,
            scopes: wanted.scopes,
            is_active: true,
            client_secret,
            created_at: self.clock.now(),
            updated_at: None,
        }
    }

    fn insert(&mut self, app: App) {
        self.replica.keep(&self.apps);
        self.apps.push(app);
    }

    fn new_secret(&mut self) -> String {
        format!("CANARY-meteroid-{:0>24}", self.next())
    }

    fn id(&mut self, prefix: &str) -> String {
        format!("{prefix}{:0>22}", self.next())
    }

    /// No two ids or secrets are alike, and two runs have the same.
    fn next(&mut self) -> u64 {
        self.made += 1;
        self.made
    }
}

impl App {
    /// The tenant is not in the document: members may come at any time.
    fn shown(&self) -> Value {
        json!({
            "id": self.id,
            "organization_id": self.organization_id,
            "tenant_id": "ten_0000000000000000000001",
            "name": self.name,
            "client_id": self.client_id,
            "client_secret_hint": hint(&self.client_secret),
            "redirect_uris": self.redirect_uris,
            "scopes": self.scopes,
            "is_active": self.is_active,
            "created_at": self.created_at.to_string(),
            "updated_at": self.updated_at.map(|at| at.to_string()),
        })
    }
}

/// What a request wants an application to be.
struct Wanted {
    name: String,
    redirect_uris: Vec<String>,
    scopes: Vec<String>,
}

impl Wanted {
    /// The framework refuses first, in its own way.
    fn read(request: &Request) -> Result<Self, Refusal> {
        if request.body.len() > BODY_LIMIT {
            return Err(Refusal::Plain(413, "The body is too large"));
        }
        if !request.header("content-type").is_some_and(|given| given.starts_with("application/json")) {
            return Err(Refusal::Plain(415, "The body should be declared as JSON"));
        }
        let body = request.json().ok_or(Refusal::Plain(400, "The body is no JSON"))?;
        let shaped = body.as_object().and_then(Self::shaped);
        shaped.ok_or(Refusal::Plain(422, "The body has not the right shape"))?.checked()
    }

    fn shaped(body: &Map<String, Value>) -> Option<Self> {
        let scopes = match body.get("scopes") {
            None | Some(Value::Null) => Vec::new(),
            Some(given) => texts(given)?,
        };
        let name = body.get("name")?.as_str()?.to_owned();
        Some(Self { name, redirect_uris: texts(body.get("redirect_uris")?)?, scopes })
    }

    fn checked(self) -> Result<Self, Refusal> {
        if self.name.trim().is_empty() {
            return Err(Refusal::told(400, "BAD_REQUEST", "The name is empty"));
        }
        if self.redirect_uris.is_empty() || self.redirect_uris.iter().any(|uri| Url::parse(uri).is_err()) {
            return Err(Refusal::told(400, "BAD_REQUEST", "A redirect URI is missing or is none"));
        }
        Ok(self)
    }
}

impl Refusal {
    fn told(status: u16, code: &'static str, message: &str) -> Self {
        Self::Told(status, code, message.to_owned())
    }
}

impl From<Refusal> for Reply {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Told(status, code, message) => {
                Self::json(status, &json!({ "code": code, "message": message }))
            }
            Refusal::Plain(status, "") => Self::empty(status),
            Refusal::Plain(status, text) => {
                let reply = Self { body: text.into(), ..Self::empty(status) };
                reply.with("content-type", "text/plain; charset=utf-8")
            }
            Refusal::OAuth(401, error) => {
                Self::json(401, &json!({ "error": error })).with("www-authenticate", "Basic")
            }
            Refusal::OAuth(status, error) => Self::json(status, &json!({ "error": error })),
        }
    }
}

/// User and password of RFC 7617.
fn pair(credentials: &str) -> Option<(String, String)> {
    let ByteString(bytes) = serde_json::from_value(credentials.into()).ok()?;
    let (user, password) = std::str::from_utf8(&bytes).ok()?.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

/// What is shown of a secret later.
pub fn hint(secret: &str) -> &str {
    &secret[secret.len() - HINT..]
}
