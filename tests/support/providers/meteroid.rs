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
const CONNECT_ACCOUNT: &str = "x-meteroid-connect-account";

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

fn hint(secret: &str) -> &str {
    &secret[secret.len() - HINT..]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use bytes::Bytes;
    use http::{HeaderMap, HeaderName, Method};

    use super::{super::Fake, *};

    const OTHER_KEY: &str = "pv_prod_CANARY0000000000000000000002/5qPzXKrUT1cTvqsFwSh1tJ";
    const APPS: &str = "/api/v1/oauth-apps";
    const JSON: (&str, &str) = ("content-type", "application/json");
    const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

    fn request(line: &str, fields: &[(&str, &str)], body: &str) -> Request {
        let (method, path) = line.split_once(' ').unwrap();
        let field =
            |(name, value): &(&str, &str)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        let headers: HeaderMap = fields.iter().map(field).collect();
        let method = method.parse::<Method>().unwrap();
        Request {
            method,
            path: path.to_owned(),
            query: Vec::new(),
            headers,
            body: Bytes::from(body.to_owned()),
        }
    }

    fn bearer(key: &str) -> String {
        format!("Bearer {key}")
    }

    fn told(reply: &Reply) -> (u16, Value) {
        (reply.status.as_u16(), serde_json::from_slice(&reply.body).unwrap_or_default())
    }

    /// A service that is held to its contract in the end.
    struct Scene(Fake<Meteroid>);

    impl Scene {
        fn new() -> Self {
            Self(Fake::new(Meteroid::new()))
        }

        fn ask(&self, line: &str, body: Option<&Value>) -> (u16, Value) {
            self.ask_as(KEY, line, body)
        }

        fn ask_as(&self, key: &str, line: &str, body: Option<&Value>) -> (u16, Value) {
            let body = body.map(Value::to_string).unwrap_or_default();
            self.send(line, &[("authorization", &bearer(key)), JSON], &body)
        }

        fn send(&self, line: &str, fields: &[(&str, &str)], body: &str) -> (u16, Value) {
            told(&self.0.exchange(&request(line, fields, body)).unwrap())
        }

        fn create(&self, name: &str) -> (App, String) {
            let (status, created) = self.ask(&format!("POST {APPS}"), Some(&app(name)));
            assert_eq!(status, 201, "{created}");
            let id = created["app"]["id"].as_str().unwrap();
            let app = self.0.at(|meteroid| meteroid.client(id)).unwrap();
            (app, created["client_secret"].as_str().unwrap().to_owned())
        }

        fn introspect(&self, client_id: &str, secret: &str) -> (u16, Value) {
            let pair = ByteString(format!("{client_id}:{secret}").into_bytes());
            let basic = format!("Basic {}", serde_json::to_value(pair).unwrap().as_str().unwrap());
            self.send("POST /api/v1/oauth/introspect", &[("authorization", &basic), FORM], "token=none")
        }
    }

    impl Drop for Scene {
        fn drop(&mut self) {
            if !std::thread::panicking() {
                self.0.assert_contract_held();
            }
        }
    }

    fn app(name: &str) -> Value {
        json!({ "name": name, "redirect_uris": ["https://app.example/b", "https://app.example/a"] })
    }

    #[tokio::test(start_paused = true)]
    async fn an_application_shows_its_secret_once_and_then_a_hint() {
        let scene = Scene::new();
        let mut body = app("One");
        body["scopes"] = json!(["read"]);
        let (status, created) = scene.ask(&format!("POST {APPS}"), Some(&body));
        let secret = created["client_secret"].as_str().unwrap();
        let shown = &created["app"];
        assert_eq!((status, &shown["name"], &shown["scopes"]), (201, &json!("One"), &json!(["read"])));
        assert_eq!(shown["redirect_uris"], body["redirect_uris"]);
        assert_eq!(shown["client_secret_hint"], secret[secret.len() - 4..], "how it ends");
        assert_ne!(shown["id"], shown["client_id"], "two ids");
        assert_eq!(
            (&shown["created_at"], &shown["updated_at"]),
            (&json!("2026-01-01T00:00:00Z"), &Value::Null)
        );
        assert!(shown.get("tenant_id").is_some(), "a member that no document has");

        let id = shown["id"].as_str().unwrap();
        assert_eq!(&scene.ask(&format!("GET {APPS}/{id}"), None), &(200, shown.clone()), "no secret again");
        assert_eq!(scene.ask(&format!("GET {APPS}"), None), (200, json!({ "data": [shown] })), "nor here");
    }

    #[tokio::test(start_paused = true)]
    async fn scopes_may_be_null_or_absent() {
        let scene = Scene::new();
        let (without, _) = scene.create("Without");
        let mut body = app("Null");
        body["scopes"] = Value::Null;
        let (status, with_null) = scene.ask(&format!("POST {APPS}"), Some(&body));
        assert_eq!((status, &with_null["app"]["scopes"]), (201, &json!([])));
        assert_eq!(without.scopes, Vec::<String>::new());
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_is_taken_once_in_an_organisation() {
        let scene = Scene::new();
        scene.0.at(|meteroid| meteroid.add_organization(OTHER_KEY));
        let (first, _) = scene.create("One");
        let line = format!("POST {APPS}");
        let rows = [
            (KEY, "One", 409, "the same name"),
            (KEY, "one", 201, "case matters"),
            (OTHER_KEY, "One", 201, "another organisation"),
            (OTHER_KEY, "One", 409, "the same name there"),
        ];
        for (key, name, expected, reason) in rows {
            let (status, answer) = scene.ask_as(key, &line, Some(&app(name)));
            assert_eq!(status, expected, "{reason}");
            assert!(status == 201 || answer["code"] == "CONFLICT", "{reason}: {answer}");
        }
        assert_eq!(scene.ask(&format!("DELETE {APPS}/{}", first.id), None).0, 204);
        assert_eq!(scene.ask(&line, Some(&app("One"))).0, 201, "the name is free again");
    }

    #[tokio::test(start_paused = true)]
    async fn an_organisation_sees_all_of_its_own_and_nothing_else() {
        let scene = Scene::new();
        let second_key = "pv_prod_CANARY0000000000000000000003/7n42DGM5Tflk9n8mt7Fhc7";
        let foreign = scene.0.at(|meteroid| {
            meteroid.add_organization(OTHER_KEY);
            meteroid.add_key(second_key, &meteroid.organization_of(KEY));
            meteroid.add_foreign(150)
        });
        let (own, _) = scene.create("One");
        let list = format!("GET {APPS}");
        let count = |key: &str| scene.ask_as(key, &list, None).1["data"].as_array().unwrap().len();
        assert_eq!(count(KEY), 151, "no pages, and what others made is in it");
        assert_eq!(count(second_key), 151, "whichever key");
        assert_eq!(count(OTHER_KEY), 0, "not another organisation's");
        let one = format!("GET {APPS}/{}", own.id);
        assert_eq!(scene.ask_as(OTHER_KEY, &one, None).0, 404, "nor by id");
        assert_eq!(scene.ask(&format!("GET {APPS}/{}", foreign[0]), None).0, 200);
        let secret = scene.0.at(|meteroid| meteroid.client(&foreign[0])).unwrap().client_secret;
        assert!(secret.contains("CANARY-FOREIGN"));

        scene.0.at(|meteroid| meteroid.stale_list_for(Duration::from_secs(2)));
        scene.create("Two");
        scene.0.at(|meteroid| meteroid.remove(&foreign[0]));
        assert_eq!(scene.ask(&list, None).1["data"][0]["id"], foreign[0], "a list that lags behind");
        assert_eq!(count(KEY), 151, "without what is new");
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!(scene.ask(&list, None).1["data"][0]["id"], foreign[1], "and catches up");
    }

    #[tokio::test(start_paused = true)]
    async fn a_rotated_secret_replaces_the_old_one_at_once() {
        let scene = Scene::new();
        let (app, old) = scene.create("One");
        assert_eq!(
            scene.introspect(&app.client_id, &old),
            (200, json!({ "active": false })),
            "the right pair"
        );
        let rows = [
            (app.client_id.as_str(), "wrong", "a wrong secret"),
            (&app.id, &old, "the other id"),
            ("mcl_none", &old, "no such client"),
        ];
        for (client_id, secret, reason) in rows {
            let refused = (401, json!({ "error": "invalid_client" }));
            assert_eq!(scene.introspect(client_id, secret), refused, "{reason}");
        }

        tokio::time::advance(Duration::from_secs(1)).await;
        let (status, rotated) = scene.ask(&format!("POST {APPS}/{}/rotate", app.id), None);
        let new = rotated["client_secret"].as_str().unwrap();
        assert_eq!((status, &rotated["client_secret_hint"]), (200, &json!(hint(new))));
        assert_eq!(scene.introspect(&app.client_id, &old).0, 401, "no overlap");
        assert_eq!(scene.introspect(&app.client_id, new).0, 200);
        let (_, shown) = scene.ask(&format!("GET {APPS}/{}", app.id), None);
        assert_eq!(shown["client_secret_hint"], hint(new), "so a rotation by others is seen");
        assert_eq!(shown["updated_at"], "2026-01-01T00:00:01Z");
        assert_eq!(scene.0.at(|meteroid| meteroid.live_secrets(&app.id)), 1);
        assert_eq!(scene.0.at(|meteroid| meteroid.secrets_given()), [old, new.to_owned()]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_application_that_was_switched_off_does_not_authenticate() {
        let scene = Scene::new();
        let (app, secret) = scene.create("One");
        scene.0.at(|meteroid| meteroid.edit(&app.id, |app| app.is_active = false));
        assert_eq!(scene.ask(&format!("GET {APPS}/{}", app.id), None).1["is_active"], false);
        assert_eq!(scene.introspect(&app.client_id, &secret).0, 401);
        assert!(!scene.0.at(|meteroid| meteroid.authenticates(&app.client_id, &secret)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_deleted_application_is_gone() {
        let scene = Scene::new();
        let (app, secret) = scene.create("One");
        let path = format!("{APPS}/{}", app.id);
        assert_eq!(scene.ask(&format!("DELETE {path}"), None), (204, Value::Null));
        for line in [format!("GET {path}"), format!("DELETE {path}"), format!("POST {path}/rotate")] {
            let (status, refused) = scene.ask(&line, None);
            assert_eq!((status, refused["code"].as_str()), (404, Some("NOT_FOUND")), "{line}");
        }
        assert_eq!(scene.introspect(&app.client_id, &secret).0, 401);
        assert_eq!(
            scene.0.at(|meteroid| (meteroid.clients(), meteroid.live_secrets(&app.id))),
            (Vec::new(), 0)
        );
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_can_be_changed() {
        let scene = Scene::new();
        let (app, _) = scene.create("One");
        for method in ["PUT", "PATCH"] {
            let line = format!("{method} {APPS}/{}", app.id);
            assert_eq!(scene.ask(&line, Some(&json!({ "name": "Two" }))).0, 405, "{method}");
            assert_eq!(scene.0.take_violations().len(), 2, "the contract knows neither request nor reply");
        }
        assert_eq!(scene.0.at(|meteroid| meteroid.clients()), [app]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_framework_refuses_in_plain_text_and_the_service_in_json() {
        let scene = Scene::new();
        let key = bearer(KEY);
        let (create, text) = (format!("POST {APPS}"), ("content-type", "text/plain"));
        let good = app("One").to_string();
        let large = json!({ "name": "x".repeat(BODY_LIMIT), "redirect_uris": ["https://app.example"] });
        let rows = [
            (JSON, "{", 400, false, "no JSON"),
            (text, &good, 415, false, "declared as something else"),
            (JSON, r#"{"name":"One"}"#, 422, false, "no redirect URIs"),
            (
                JSON,
                r#"{"name":1,"redirect_uris":["https://app.example"]}"#,
                422,
                false,
                "the name is a number",
            ),
            (JSON, "[]", 422, false, "no object"),
            (JSON, r#"{"name":"","redirect_uris":["https://app.example"]}"#, 400, true, "no name"),
            (JSON, r#"{"name":"One","redirect_uris":[]}"#, 400, true, "no place to return to"),
            (JSON, r#"{"name":"One","redirect_uris":["/cb"]}"#, 400, true, "no URL"),
        ];
        for (media_type, body, expected, in_json, reason) in rows {
            let reply =
                scene.0.exchange(&request(&create, &[("authorization", &key), media_type], body)).unwrap();
            assert_eq!(reply.status, expected, "{reason}");
            assert_eq!(told(&reply).1["code"] == "BAD_REQUEST", in_json, "{reason}");
            assert!(!reply.body.is_empty(), "{reason}");
            let violations = scene.0.take_violations();
            assert!(violations.len() == 1 && !violations[0].contains(": reply "), "{reason}: {violations:?}");
        }
        assert_eq!(scene.ask(&create, Some(&large)).0, 413, "more than is read");
        assert_eq!(scene.0.at(|meteroid| meteroid.clients()), []);
    }

    #[tokio::test(start_paused = true)]
    async fn an_id_of_the_wrong_form_is_not_an_unknown_one() {
        let scene = Scene::new();
        let (app, _) = scene.create("One");
        let rows = [
            ("app_0", 404, 0, "well formed"),
            (app.client_id.as_str(), 400, 1, "the client id manages nothing"),
            ("app_", 400, 1, "nothing after the prefix"),
            ("app_%2F", 400, 1, "no letter and no digit"),
        ];
        for (id, expected, violations, reason) in rows {
            assert_eq!(scene.ask(&format!("GET {APPS}/{id}"), None).0, expected, "{reason}");
            assert_eq!(scene.0.take_violations().len(), violations, "{reason}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn unknown_members_are_ignored_but_not_ours_to_send() {
        let scene = Scene::new();
        let mut body = app("One");
        body["description"] = json!("ours");
        let (status, created) = scene.ask(&format!("POST {APPS}"), Some(&body));
        assert_eq!((status, created["app"].get("description")), (201, None));
        assert_eq!(scene.0.take_violations().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_opens_until_it_ends() {
        let scene = Scene::new();
        scene.0.at(|meteroid| {
            meteroid.add_organization(OTHER_KEY);
            meteroid.revoke_key(KEY, KEY_CACHE);
            meteroid.expire_key(OTHER_KEY);
        });
        let code = |key: &str| {
            let (status, answer) = scene.ask_as(key, &format!("GET {APPS}"), None);
            format!("{status} {}", answer["code"].as_str().unwrap_or_default())
        };
        assert_eq!(code("pv_prod_none/0"), "401 UNAUTHORIZED", "unknown");
        assert_eq!(code(OTHER_KEY), "401 TOKEN_EXPIRED", "expired");
        assert_eq!(code(KEY), "200 ", "revoked, but nobody noticed");
        tokio::time::advance(KEY_CACHE).await;
        assert_eq!(code(KEY), "401 UNAUTHORIZED", "noticed");
        let (status, answer) = scene.send(&format!("GET {APPS}"), &[], "");
        assert_eq!((status, answer["code"].as_str()), (401, Some("UNAUTHORIZED")), "no key at all");
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_works_before_connect_is_enabled() {
        let scene = Scene::new();
        let (app, _) = scene.create("One");
        let lines =
            [format!("GET {APPS}"), format!("GET {APPS}/{}", app.id), format!("DELETE {APPS}/{}", app.id)];
        for (connect, expected) in
            [(Connect::Forbidden, (403, "FORBIDDEN")), (Connect::NotFound, (404, "NOT_FOUND"))]
        {
            scene.0.at(|meteroid| meteroid.connect = connect);
            for line in &lines {
                let (status, refused) = scene.ask(line, None);
                assert_eq!((status, refused["code"].as_str().unwrap()), expected, "{line}, {connect:?}");
            }
        }
        assert_eq!(scene.0.at(|meteroid| meteroid.clients()), [app], "a 404 is no proof of a deletion");
    }

    #[tokio::test(start_paused = true)]
    async fn acting_on_a_connected_account_breaks_the_contract() {
        let scene = Scene::new();
        let fields = [("authorization", &*bearer(KEY)), (CONNECT_ACCOUNT, "org_1")];
        assert_eq!(scene.send(&format!("GET {APPS}"), &fields, "").0, 403);
        let violations = scene.0.take_violations();
        assert!(violations.len() == 1 && violations[0].contains(CONNECT_ACCOUNT), "{violations:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn too_many_requests_are_refused_with_one_header_or_another() {
        let scene = Scene::new();
        let rows = [
            (RetryHeaders::Seconds, Some("3"), None),
            (RetryHeaders::Milliseconds, None, Some("3000")),
            (RetryHeaders::Both, Some("3"), Some("3000")),
            (RetryHeaders::Neither, None, None),
        ];
        let list = request(&format!("GET {APPS}"), &[("authorization", &bearer(KEY))], "");
        scene.0.at(|meteroid| meteroid.throttle_for(Duration::from_millis(2500)));
        for (retry_headers, seconds, milliseconds) in rows {
            scene.0.at(|meteroid| meteroid.retry_headers = retry_headers);
            let reply = scene.0.exchange(&list).unwrap();
            let header = |name: &str| reply.headers.get(name).map(|value| value.to_str().unwrap());
            assert_eq!((header("retry-after"), header("retry-after-ms")), (seconds, milliseconds));
            let (status, body) = told(&reply);
            assert_eq!(
                (status, body["code"].as_str()),
                (429, Some("TOO_MANY_REQUESTS")),
                "{retry_headers:?}"
            );
        }
        tokio::time::advance(Duration::from_millis(2500)).await;
        assert_eq!(scene.0.exchange(&list).unwrap().status, 200);

        scene.0.at(|meteroid| meteroid.set_limit(2));
        let statuses = [(); 2].map(|()| scene.0.exchange(&list).unwrap().status.as_u16());
        assert_eq!(statuses, [200, 429], "the second and the third within the minute");
    }

    #[tokio::test(start_paused = true)]
    async fn every_reply_has_a_request_id_of_its_own() {
        let scene = Scene::new();
        let lines =
            [format!("GET {APPS}"), format!("GET {APPS}/app_0"), "POST /api/v1/oauth/introspect".to_owned()];
        let id = |line: &String| {
            let request = request(line, &[("authorization", &bearer(KEY)), FORM], "");
            let reply = scene.0.at(|meteroid| meteroid.answer(&request));
            reply.headers["x-request-id"].to_str().unwrap().to_owned()
        };
        assert_eq!(lines.iter().map(id).collect::<BTreeSet<_>>().len(), 3, "whatever the status");
    }

    #[tokio::test(start_paused = true)]
    async fn the_service_may_stand_below_a_path() {
        let scene = Scene::new();
        scene.0.at(|meteroid| meteroid.set_prefix("/billing"));
        assert_eq!(scene.ask(&format!("GET /billing{APPS}"), None).0, 200);
    }
}
