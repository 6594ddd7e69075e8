//! Teable: sign-in instead of a key, secrets apart from the client, several at once, and a 500 for what is not there.

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tokio::time::Instant;
use url::Url;

use super::{
    Provider, Reply, Request,
    contract::{cookie, decoded},
    parts::{Clock, Limiter, Replica, texts},
};

/// The first user's address.
pub const EMAIL: &str = "operator@example.com";
/// The first user's password.
pub const PASSWORD: &str = "CANARY-teable-password";
/// The first user's personal access token.
pub const ACCESS_TOKEN: &str = "teable_CANARY-access-token";
/// The id of the client that comes with the server and is no user's.
pub const BUILT_IN: &str = "cltbuiltin000000000";
/// How long a temporary token lives.
pub const TEMP_TOKEN_LIFE: Duration = Duration::from_mins(10);
/// Every scope that the newest server knows.
pub const SCOPES: [&str; 28] = [
    "table|create",
    "table|delete",
    "table|export",
    "table|import",
    "table|read",
    "table|update",
    "table|trash_read",
    "table|trash_update",
    "table|trash_reset",
    "view|create",
    "view|delete",
    "view|read",
    "view|update",
    "field|create",
    "field|delete",
    "field|read",
    "field|update",
    "record|comment",
    "record|create",
    "record|delete",
    "record|read",
    "record|update",
    "automation|create",
    "automation|delete",
    "automation|read",
    "automation|update",
    "user|email_read",
    "user|integrations",
];

const SESSION_LIFE: Duration = Duration::from_hours(7 * 24);
/// The window of the proxy's limit, if there is one.
const WINDOW: Duration = Duration::from_mins(1);
const SHORTEST_PASSWORD: usize = 8;
/// As much of a secret's end as its mask shows.
const SHOWN: usize = 10;

/// What differs between servers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Switch {
    /// Personal access tokens may manage clients.
    AccessTokens,
    /// Sign-in wants a solved captcha.
    Captcha,
    /// Registering a client makes its first secret and shows it.
    SecretOnCreate,
    /// To change or delete what is not there is answered with 404.
    UnknownIsNotFound,
    /// Only who created a client may see, change and delete it.
    OwnersOnly,
    /// Clients have `allowDeviceFlow`.
    DeviceFlow,
}

/// A server with its users and their clients.
pub struct Teable {
    /// In what it differs from a server as of late 2025.
    pub switches: BTreeSet<Switch>,
    /// How long a session lives that begins from now on.
    pub session_life: Duration,
    /// The scopes that this server knows; older ones know fewer.
    pub scopes: Vec<&'static str>,
    prefix: String,
    clock: Clock,
    proxy: Limiter,
    replica: Replica<Vec<Client>>,
    made: u64,
    lock_out: Option<(u32, Duration)>,
    users: Vec<User>,
    passes: Vec<Pass>,
    clients: Vec<Client>,
    given: Vec<String>,
}

struct User {
    email: String,
    password: String,
    access_token: String,
    failures: u32,
    locked_until: Option<Instant>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum PassKind {
    Session,
    TempToken,
}

/// What a user is let in with for a while.
struct Pass {
    kind: PassKind,
    value: String,
    email: String,
    ends: Instant,
}

/// A client as the server keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::struct_field_names, reason = "as Teable calls it, beside another id")]
pub struct Client {
    /// The key in the server's database, which nothing can be done with.
    pub id: String,
    /// What it is called everywhere.
    pub client_id: String,
    /// The e-mail address of who created it.
    pub created_by: String,
    /// The name that people see.
    pub name: String,
    /// The page that people are sent to.
    pub homepage: String,
    /// Where users may return to; the first is the default.
    pub redirect_uris: Vec<String>,
    /// Free text.
    pub description: Option<String>,
    /// Where the picture is.
    pub logo: Option<String>,
    /// What tokens may do; unset is not the same as none.
    pub scopes: Option<Vec<String>>,
    /// Whether devices without a browser may ask for tokens.
    pub allow_device_flow: bool,
    /// Its secrets, oldest first.
    pub secrets: Vec<ClientSecret>,
}

/// One of a client's secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientSecret {
    /// What it is removed by.
    pub id: String,
    /// The secret itself.
    pub secret: String,
    /// When the token endpoint last accepted it, in RFC 3339.
    pub last_used: Option<String>,
}

/// Why a request is refused, as the server says it.
struct Refusal {
    status: u16,
    code: &'static str,
    message: String,
    data: Option<Value>,
}

type Answer = Result<Reply, Refusal>;

impl Provider for Teable {
    fn contract() -> &'static str {
        include_str!("../../contracts/teable.yaml")
    }

    fn prefix(&self) -> Option<&str> {
        Some(&self.prefix)
    }

    fn answer(&mut self, request: &Request) -> Reply {
        let allowance = self.proxy.hit("everybody");
        if allowance.refused {
            return throttled(allowance.reset);
        }
        self.route(&request.below(&self.prefix)).unwrap_or_else(Reply::from)
    }
}

impl Default for Teable {
    fn default() -> Self {
        Self::new()
    }
}

/// What a test does with it, past its API.
impl Teable {
    /// A server with one user and the client that is built in.
    pub fn new() -> Self {
        let mut teable = Self {
            switches: BTreeSet::new(),
            session_life: SESSION_LIFE,
            scopes: SCOPES.to_vec(),
            prefix: String::new(),
            clock: Clock::default(),
            proxy: Limiter::new(u32::MAX, WINDOW, WINDOW),
            replica: Replica::default(),
            made: 0,
            lock_out: None,
            users: Vec::new(),
            passes: Vec::new(),
            clients: Vec::new(),
            given: Vec::new(),
        };
        teable.add_user(EMAIL, PASSWORD, ACCESS_TOKEN);
        let built_in = teable.made_by_hand("system", "Command line");
        teable.clients.push(Client { client_id: BUILT_IN.to_owned(), ..built_in });
        teable
    }

    /// From now on, so many wrong passwords in a row lock a user out for so long.
    pub fn lock_out_after(&mut self, failures: u32, pause: Duration) {
        self.lock_out = Some((failures, pause));
    }

    /// A proxy in front of the server turns every request away for a while.
    pub fn throttle_for(&mut self, time: Duration) {
        self.proxy.refuse_all_for(time);
    }

    /// A proxy in front of the server lets so many requests through within a minute.
    pub fn set_limit(&mut self, limit: u32) {
        self.proxy.set_limit(limit);
    }

    /// Lists come from a replica that is this far behind.
    pub fn stale_list_for(&mut self, lag: Duration) {
        self.replica.set_lag(lag);
    }

    /// Everything is below this path from now on, for example `/tables`.
    pub fn set_prefix(&mut self, prefix: &str) {
        prefix.clone_into(&mut self.prefix);
    }

    /// Its clock shows this now.
    pub fn set_time(&mut self, now: Timestamp) {
        self.clock = Clock::showing(now);
    }

    /// A further user.
    pub fn add_user(&mut self, email: &str, password: &str, access_token: &str) {
        let (email, password, access_token) =
            (email.to_owned(), password.to_owned(), access_token.to_owned());
        self.users.push(User { email, password, access_token, failures: 0, locked_until: None });
    }

    /// Gives a user another password; what they were let in with stays.
    pub fn change_password(&mut self, email: &str, password: &str) {
        let user = self.users.iter_mut().find(|user| user.email == email).expect("a user");
        password.clone_into(&mut user.password);
    }

    /// Ends all sessions, as a restart does on a server that keeps them in memory. Temporary tokens stay.
    pub fn end_sessions(&mut self) {
        self.passes.retain(|pass| pass.kind != PassKind::Session);
    }

    /// Every user's clients, oldest first, without the built-in one.
    pub fn clients(&self) -> Vec<Client> {
        self.clients.iter().filter(|client| client.client_id != BUILT_IN).cloned().collect()
    }

    /// One client, if there is such a one.
    pub fn client(&self, client_id: &str) -> Option<Client> {
        self.clients.iter().find(|client| client.client_id == client_id).cloned()
    }

    /// Changes a client as its owner would in the settings page.
    pub fn edit(&mut self, client_id: &str, change: impl FnOnce(&mut Client)) {
        change(self.find(client_id).expect("a client to edit"));
    }

    /// Deletes a client as its owner would in the settings page.
    pub fn remove(&mut self, client_id: &str) {
        self.replica.keep(&self.clients);
        self.clients.retain(|client| client.client_id != client_id);
    }

    /// Gives a client one more secret as its owner would in the settings page.
    pub fn add_secret(&mut self, client_id: &str) -> ClientSecret {
        let secret = self.new_secret();
        self.find(client_id).expect("a client to add a secret to").secrets.push(secret.clone());
        secret
    }

    /// Clients that the first user made by hand, each with a secret. Returns their ids.
    pub fn add_foreign(&mut self, count: usize) -> Vec<String> {
        self.add_foreign_of(EMAIL, count)
    }

    /// Clients that a user made by hand, each with a secret. Returns their ids.
    pub fn add_foreign_of(&mut self, email: &str, count: usize) -> Vec<String> {
        (0..count).map(|_| self.add_one_foreign(email)).collect()
    }

    /// Whether the token endpoint would accept this pair. Unlike there, this counts as no use of the secret.
    pub fn authenticates(&self, client_id: &str, secret: &str) -> bool {
        self.client(client_id).is_some_and(|client| client.secrets.iter().any(|own| own.secret == secret))
    }

    /// How many secrets a client has now.
    pub fn live_secrets(&self, client_id: &str) -> usize {
        self.client(client_id).map_or(0, |client| client.secrets.len())
    }

    /// Every secret that ever left the server: of clients, sessions and temporary tokens.
    pub fn secrets_given(&self) -> Vec<String> {
        self.given.clone()
    }

    fn add_one_foreign(&mut self, email: &str) -> String {
        let mut client = self.made_by_hand(email, "By hand");
        let secret = format!("CANARY-FOREIGN-{:0>25}", self.next());
        let id = format!("sec{:0>16}", self.next());
        client.secrets.push(ClientSecret { id, secret, last_used: None });
        let client_id = client.client_id.clone();
        self.insert(client);
        client_id
    }

    fn made_by_hand(&mut self, email: &str, name: &str) -> Client {
        let (name, homepage) = (name.to_owned(), "https://hand.example".to_owned());
        let redirect_uris = vec!["https://hand.example/cb".to_owned()];
        self.new_client(email, Change { name, homepage, redirect_uris, ..Change::default() })
    }
}

/// Who asks.
impl Teable {
    fn route(&mut self, request: &Request) -> Answer {
        let path: Vec<_> = request.path.split('/').skip(1).map(decoded).collect();
        let path: Vec<_> = path.iter().map(String::as_str).collect();
        match (request.method.as_str(), path.as_slice()) {
            ("POST", ["api", "auth", "signin"]) => self.sign_in(request),
            ("GET", ["api", "auth", "temp-token"]) => self.temp_token(request),
            ("POST", ["api", "oauth", "access_token"]) => self.access_token(request),
            (method, ["api", "oauth", "client", below @ ..]) => {
                let caller = self.caller(request)?;
                self.manage(&caller, method, below, request)
            }
            _ => Err(no_route()),
        }
    }

    fn sign_in(&mut self, request: &Request) -> Answer {
        let body = body_of(request);
        let given = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default();
        let (email, password) = (given("email"), given("password"));
        if !email.contains('@') || password.len() < SHORTEST_PASSWORD {
            return Err(Refusal::validation(&["email or password is not of the right form".to_owned()]));
        }
        if self.has(Switch::Captcha) && given("turnstileToken").is_empty() {
            return Err(Refusal::new(400, "invalid_captcha", "Solve the captcha"));
        }
        let email = self.let_in(email, password)?;
        Ok(self.with_session(&email))
    }

    /// The address of the user with this password.
    fn let_in(&mut self, email: &str, password: &str) -> Result<String, Refusal> {
        let wrong = || Refusal::new(400, "invalid_credentials", "Email or password is incorrect");
        let (now, lock_out) = (Instant::now(), self.lock_out);
        let user =
            self.users.iter_mut().find(|user| user.email.eq_ignore_ascii_case(email)).ok_or_else(wrong)?;
        if user.locked_until.is_some_and(|until| until > now) {
            return Err(Refusal::new(429, "too_many_requests", "Too many failures, try again later"));
        }
        if user.password == password {
            user.failures = 0;
            return Ok(user.email.clone());
        }
        user.failures += 1;
        if let Some((_, pause)) = lock_out.filter(|(allowed, _)| user.failures >= *allowed) {
            (user.failures, user.locked_until) = (0, Some(now + pause));
        }
        Err(wrong())
    }

    /// The cookie's value has characters that no client may decode, and it does not come alone.
    fn with_session(&mut self, email: &str) -> Reply {
        let value = format!("s%3ACANARY-session-{:0>8}.Zm%2Fr%3D", self.next());
        let cookie = format!(
            "auth_session={value}; Path=/; Max-Age={}; HttpOnly; SameSite=Lax",
            self.session_life.as_secs()
        );
        self.hand_out(PassKind::Session, &value, email, self.session_life);
        let user = json!({ "id": format!("usr{email}"), "email": email, "name": email, "hasPassword": true });
        Reply::json(200, &user).with("set-cookie", "balancer=node-2; Path=/").with("set-cookie", cookie)
    }

    fn temp_token(&mut self, request: &Request) -> Answer {
        let email = self.session(request).ok_or_else(Refusal::unauthorized)?;
        let value = format!("eyJhbGciOiJIUzI1NiJ9.CANARY-temp-token-{:0>8}.c2ln", self.next());
        self.hand_out(PassKind::TempToken, &value, &email, TEMP_TOKEN_LIFE);
        let ends = rfc3339(self.clock.now() + TEMP_TOKEN_LIFE);
        Ok(Reply::json(200, &json!({ "accessToken": value, "expiresTime": ends })))
    }

    fn hand_out(&mut self, kind: PassKind, value: &str, email: &str, life: Duration) {
        let (value, email, ends) = (value.to_owned(), email.to_owned(), Instant::now() + life);
        self.given.push(value.clone());
        self.passes.push(Pass { kind, value, email, ends });
    }

    /// Access tokens are valid, but this part of the server is closed to them.
    fn caller(&self, request: &Request) -> Result<String, Refusal> {
        let Some(bearer) = request.credentials("Bearer") else {
            return self.session(request).ok_or_else(Refusal::unauthorized);
        };
        match self.users.iter().find(|user| user.access_token == bearer) {
            Some(user) if self.has(Switch::AccessTokens) => Ok(user.email.clone()),
            Some(_) => Err(Refusal::new(403, "restricted_resource", "Forbidden resource")),
            None => self.pass(PassKind::TempToken, bearer).ok_or_else(Refusal::unauthorized),
        }
    }

    fn session(&self, request: &Request) -> Option<String> {
        self.pass(PassKind::Session, &cookie(&request.headers, "auth_session")?)
    }

    fn pass(&self, kind: PassKind, value: &str) -> Option<String> {
        let now = Instant::now();
        let valid = |pass: &&Pass| pass.kind == kind && pass.value == value && pass.ends > now;
        self.passes.iter().find(valid).map(|pass| pass.email.clone())
    }

    /// Whoever has the right secret used it, even if the rest of the request is wrong.
    fn access_token(&mut self, request: &Request) -> Answer {
        let form: Vec<(String, String)> = url::form_urlencoded::parse(&request.body).into_owned().collect();
        let given = |name: &str| form.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value);
        let now = rfc3339(self.clock.now());
        let secrets = self.find(given("client_id")).map(|client| client.secrets.iter_mut());
        let used = secrets.into_iter().flatten().find(|own| own.secret == given("client_secret"));
        used.ok_or_else(Refusal::unauthorized)?.last_used = Some(now);
        Err(Refusal::new(400, "validation_error", "The code is not valid"))
    }
}

/// What is asked of clients.
impl Teable {
    fn manage(&mut self, caller: &str, method: &str, below: &[&str], request: &Request) -> Answer {
        match (method, below) {
            ("POST", []) => self.create(caller, request),
            ("GET", []) => Ok(self.list(caller)),
            ("GET", [id]) => self.get(caller, id),
            ("PUT", [id]) => self.update(caller, id, request),
            ("DELETE", [id]) => self.delete(caller, id),
            ("POST", [id, "secret"]) => self.create_secret(caller, id),
            ("DELETE", [id, "secret", secret]) => self.delete_secret(caller, id, secret),
            _ => Err(no_route()),
        }
    }

    fn create(&mut self, caller: &str, request: &Request) -> Answer {
        let wanted = self.read(request)?;
        let client = self.new_client(caller, wanted);
        let client_id = client.client_id.clone();
        let mut shown = self.shown(&client);
        self.insert(client);
        if self.has(Switch::SecretOnCreate) {
            shown["secrets"] = json!([self.give_secret(&client_id)]);
        }
        Ok(Reply::json(201, &shown))
    }

    /// Redirect URIs, scopes and secrets are not in the list.
    fn list(&self, caller: &str) -> Reply {
        let item = |client: &Client| {
            without_nulls(json!({
                "clientId": client.client_id, "name": client.name, "homepage": client.homepage,
                "description": client.description, "logo": client.logo,
            }))
        };
        let all = self.replica.show(&self.clients);
        let own = all.iter().filter(|client| client.created_by == caller);
        Reply::json(200, &own.map(item).collect())
    }

    fn get(&self, caller: &str, client_id: &str) -> Answer {
        let client = self.client(client_id).ok_or_else(|| Refusal::not_found("OAuth client"))?;
        self.permit(caller, &client)?;
        let mut shown = self.shown(&client);
        // Newest first, and no member at all if there are none.
        let secrets: Vec<_> = client.secrets.iter().rev().map(ClientSecret::shown).collect();
        if !secrets.is_empty() {
            shown["secrets"] = secrets.into();
        }
        Ok(Reply::json(200, &shown))
    }

    fn update(&mut self, caller: &str, client_id: &str, request: &Request) -> Answer {
        let change = self.read(request)?;
        let client = self.permitted(caller, client_id)?;
        client.apply(change);
        let client = client.clone();
        Ok(Reply::json(200, &self.shown(&client)))
    }

    fn delete(&mut self, caller: &str, client_id: &str) -> Answer {
        self.permitted(caller, client_id)?;
        self.remove(client_id);
        Ok(Reply::empty(200))
    }

    fn create_secret(&mut self, caller: &str, client_id: &str) -> Answer {
        self.permitted(caller, client_id)?;
        Ok(Reply::json(201, &self.give_secret(client_id)))
    }

    fn delete_secret(&mut self, caller: &str, client_id: &str, secret_id: &str) -> Answer {
        let missing = self.missing("Secret");
        let secrets = &mut self.permitted(caller, client_id)?.secrets;
        let place = secrets.iter().position(|secret| secret.id == secret_id).ok_or(missing)?;
        secrets.remove(place);
        Ok(Reply::empty(200))
    }

    /// The only time that a secret is shown.
    fn give_secret(&mut self, client_id: &str) -> Value {
        let ClientSecret { id, secret, .. } = self.add_secret(client_id);
        self.given.push(secret.clone());
        json!({ "id": id, "maskedSecret": mask(&secret), "secret": secret })
    }

    fn permitted(&mut self, caller: &str, client_id: &str) -> Result<&mut Client, Refusal> {
        let client = self.client(client_id).ok_or_else(|| self.missing("OAuth client"))?;
        self.permit(caller, &client)?;
        self.find(client_id).ok_or_else(no_route)
    }

    fn permit(&self, caller: &str, client: &Client) -> Result<(), Refusal> {
        if self.has(Switch::OwnersOnly) && client.created_by != caller {
            return Err(Refusal::new(403, "restricted_resource", "No permission"));
        }
        Ok(())
    }

    /// A database that misses a row is a failure that nobody translates.
    fn missing(&self, what: &str) -> Refusal {
        if self.has(Switch::UnknownIsNotFound) {
            return Refusal::not_found(what);
        }
        Refusal::new(500, "internal_server_error", "Internal Server Error")
    }

    fn read(&self, request: &Request) -> Result<Change, Refusal> {
        let body = body_of(request);
        let mut reader = Reader { body: &body, issues: Vec::new() };
        let change = Change {
            name: reader.text("name", true).unwrap_or_default(),
            homepage: reader.url("homepage"),
            redirect_uris: reader.urls("redirectUris"),
            description: reader.text("description", false),
            logo: reader.text("logo", false),
            scopes: reader.scopes("scopes", &self.scopes),
            allow_device_flow: self.has(Switch::DeviceFlow).then(|| reader.flag("allowDeviceFlow")).flatten(),
        };
        if reader.issues.is_empty() { Ok(change) } else { Err(Refusal::validation(&reader.issues)) }
    }

    fn shown(&self, client: &Client) -> Value {
        let device_flow = self.has(Switch::DeviceFlow).then_some(client.allow_device_flow);
        without_nulls(json!({
            "id": client.id, "clientId": client.client_id, "name": client.name, "homepage": client.homepage,
            "redirectUris": client.redirect_uris, "description": client.description, "logo": client.logo,
            "scopes": client.scopes, "allowDeviceFlow": device_flow,
        }))
    }

    fn new_client(&mut self, created_by: &str, wanted: Change) -> Client {
        Client {
            id: format!("oapp{:0>16}", self.next()),
            client_id: format!("clt{:0>16}", self.next()),
            created_by: created_by.to_owned(),
            name: wanted.name,
            homepage: wanted.homepage,
            redirect_uris: wanted.redirect_uris,
            description: wanted.description,
            logo: wanted.logo,
            scopes: wanted.scopes,
            allow_device_flow: wanted.allow_device_flow.unwrap_or_default(),
            secrets: Vec::new(),
        }
    }

    fn new_secret(&mut self) -> ClientSecret {
        let (id, secret) = (format!("sec{:0>16}", self.next()), format!("canary{:0>34}", self.next()));
        ClientSecret { id, secret, last_used: None }
    }

    fn insert(&mut self, client: Client) {
        self.replica.keep(&self.clients);
        self.clients.push(client);
    }

    /// A client that is about to change.
    fn find(&mut self, client_id: &str) -> Option<&mut Client> {
        self.replica.keep(&self.clients);
        self.clients.iter_mut().find(|client| client.client_id == client_id)
    }

    fn has(&self, switch: Switch) -> bool {
        self.switches.contains(&switch)
    }

    /// No two ids or secrets are alike, and two runs have the same.
    fn next(&mut self) -> u64 {
        self.made += 1;
        self.made
    }
}

impl Client {
    /// An omitted description or logo stays; omitted scopes do not.
    fn apply(&mut self, change: Change) {
        self.name = change.name;
        self.homepage = change.homepage;
        self.redirect_uris = change.redirect_uris;
        self.scopes = change.scopes;
        self.description = change.description.or(self.description.take());
        self.logo = change.logo.or(self.logo.take());
        self.allow_device_flow = change.allow_device_flow.unwrap_or(self.allow_device_flow);
    }
}

impl ClientSecret {
    fn shown(&self) -> Value {
        without_nulls(json!({ "id": self.id, "secret": mask(&self.secret), "lastUsedTime": self.last_used }))
    }
}

/// What a request wants a client to be.
#[derive(Default)]
struct Change {
    name: String,
    homepage: String,
    redirect_uris: Vec<String>,
    description: Option<String>,
    logo: Option<String>,
    scopes: Option<Vec<String>>,
    allow_device_flow: Option<bool>,
}

/// Reads a body and collects everything that is wrong with it. Members that nobody reads do not matter, `null` always does.
struct Reader<'a> {
    body: &'a Map<String, Value>,
    issues: Vec<String>,
}

impl Reader<'_> {
    fn text(&mut self, name: &str, required: bool) -> Option<String> {
        match self.body.get(name) {
            Some(Value::String(text)) => Some(text.clone()),
            None if !required => None,
            _ => self.refuse(name, "should be a string"),
        }
    }

    fn flag(&mut self, name: &str) -> Option<bool> {
        match self.body.get(name) {
            Some(Value::Bool(flag)) => Some(*flag),
            None => None,
            Some(_) => self.refuse(name, "should be a boolean"),
        }
    }

    fn url(&mut self, name: &str) -> String {
        let text = self.text(name, true).unwrap_or_default();
        if Url::parse(&text).is_err() {
            self.refuse::<()>(name, "should be a URL");
        }
        text
    }

    fn texts(&mut self, name: &str) -> Option<Vec<String>> {
        let given = self.body.get(name)?;
        texts(given).or_else(|| self.refuse(name, "should be strings"))
    }

    fn urls(&mut self, name: &str) -> Vec<String> {
        let urls = self.texts(name).unwrap_or_default();
        if urls.is_empty() || urls.iter().any(|url| Url::parse(url).is_err()) {
            self.refuse::<()>(name, "should be at least one URL");
        }
        urls
    }

    /// Without repetitions, in the order given.
    fn scopes(&mut self, name: &str, known: &[&str]) -> Option<Vec<String>> {
        let mut seen = BTreeSet::new();
        let scopes: Vec<_> =
            self.texts(name)?.into_iter().filter(|scope| seen.insert(scope.clone())).collect();
        // What was sent comes back in the message.
        if let Some(unknown) = scopes.iter().find(|scope| !known.contains(&scope.as_str())) {
            self.refuse::<()>(name, &format!("has the unknown value '{unknown}'"));
        }
        Some(scopes)
    }

    fn refuse<T>(&mut self, name: &str, why: &str) -> Option<T> {
        self.issues.push(format!("{name} {why}"));
        None
    }
}

impl Refusal {
    fn new(status: u16, code: &'static str, message: &str) -> Self {
        Self { status, code, message: message.to_owned(), data: None }
    }

    fn unauthorized() -> Self {
        Self::new(401, "unauthorized", "Unauthorized")
    }

    fn not_found(what: &str) -> Self {
        Self::new(404, "not_found", &format!("{what} not found"))
    }

    fn validation(issues: &[String]) -> Self {
        let message = format!("Validation error: {}", issues.join("; "));
        let data = Some(json!({ "issues": issues.len() }));
        Self { status: 400, code: "validation_error", message, data }
    }
}

impl From<Refusal> for Reply {
    fn from(Refusal { status, code, message, data }: Refusal) -> Self {
        Reply::json(
            status,
            &without_nulls(json!({ "message": message, "status": status, "code": code, "data": data })),
        )
    }
}

fn no_route() -> Refusal {
    Refusal::not_found("Route")
}

/// A body of another type is not read at all, so everything is missing.
fn body_of(request: &Request) -> Map<String, Value> {
    match request.json() {
        Some(Value::Object(members)) => members,
        _ => Map::new(),
    }
}

fn mask(secret: &str) -> String {
    let hidden = secret.len() - SHOWN;
    format!("{}{}", "*".repeat(hidden), &secret[hidden..])
}

fn without_nulls(mut value: Value) -> Value {
    if let Some(object) = value.as_object_mut() {
        object.retain(|_, member| !member.is_null());
    }
    value
}

fn rfc3339(at: Timestamp) -> String {
    format!("{at:.3}")
}

/// The proxy knows nothing of the server's own errors.
fn throttled(seconds: u64) -> Reply {
    let body = Bytes::from_static(b"<h1>Too many requests</h1>");
    let reply = Reply { body, ..Reply::empty(429) };
    reply.with("content-type", "text/html").with("retry-after", seconds)
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue, Method, header};

    use super::{super::Fake, *};

    const MINE: &str = "operator@example.com";
    const CLIENTS: &str = "/api/oauth/client";

    /// A request; `credential` is a header field, or nothing.
    fn request(line: &str, credential: &str, body: Option<&Value>) -> Request {
        let (method, path) = line.split_once(' ').unwrap();
        let mut headers = HeaderMap::new();
        if let Some((name, value)) = credential.split_once(": ") {
            headers.insert(http::HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        if body.is_some() {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let body = body.map_or_else(Bytes::new, |body| body.to_string().into());
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        Request { method, path: path.to_owned(), query: Vec::new(), headers, body }
    }

    fn told(reply: &Reply) -> (u16, Value) {
        (reply.status.as_u16(), serde_json::from_slice(&reply.body).unwrap_or_default())
    }

    /// A fake, with a session of its first user.
    struct Scene {
        fake: Fake<Teable>,
        session: String,
    }

    impl Scene {
        fn new() -> Self {
            let fake = Fake::new(Teable::new());
            let session = signed_in(&fake, MINE, PASSWORD);
            Self { fake, session }
        }

        fn ask(&self, line: &str, body: Option<&Value>) -> (u16, Value) {
            self.ask_with(&self.session, line, body)
        }

        fn ask_with(&self, credential: &str, line: &str, body: Option<&Value>) -> (u16, Value) {
            told(&self.fake.exchange(&request(line, credential, body)).unwrap())
        }

        /// Asks what no driver may ask: the contract has to object to the request, and to know the reply.
        fn ask_wrongly(&self, line: &str, body: &Value, reason: &str) -> (u16, Value) {
            let answer = self.ask(line, Some(body));
            let violations = self.fake.take_violations();
            assert_eq!(violations.len(), 1, "{reason}: {violations:?}");
            assert!(!violations[0].contains(": reply "), "{reason}: {violations:?}");
            answer
        }

        fn create(&self, body: &Value) -> (String, Value) {
            let (status, client) = self.ask(&format!("POST {CLIENTS}"), Some(body));
            assert_eq!(status, 201, "{client}");
            (client["clientId"].as_str().unwrap().to_owned(), client)
        }

        fn get(&self, id: &str) -> Value {
            let (status, client) = self.ask(&format!("GET {CLIENTS}/{id}"), None);
            assert_eq!(status, 200, "{client}");
            client
        }

        fn put(&self, id: &str, body: &Value) -> Value {
            let (status, client) = self.ask(&format!("PUT {CLIENTS}/{id}"), Some(body));
            assert_eq!(status, 200, "{client}");
            client
        }

        fn add_secret(&self, id: &str) -> Value {
            let (status, secret) = self.ask(&format!("POST {CLIENTS}/{id}/secret"), None);
            assert_eq!(status, 201, "{secret}");
            secret
        }

        fn token(&self, id: &str, secret: &str) -> u16 {
            let mut request = request("POST /api/oauth/access_token", "", None);
            let media_type = HeaderValue::from_static("application/x-www-form-urlencoded");
            request.headers.insert(header::CONTENT_TYPE, media_type);
            let form =
                format!("grant_type=authorization_code&code=none&client_id={id}&client_secret={secret}");
            request.body = form.into();
            self.fake.exchange(&request).unwrap().status.as_u16()
        }

        fn listed(&self) -> Vec<Value> {
            let (status, list) = self.ask(&format!("GET {CLIENTS}"), None);
            assert_eq!(status, 200, "{list}");
            list.as_array().unwrap().clone()
        }
    }

    impl Drop for Scene {
        fn drop(&mut self) {
            if !std::thread::panicking() {
                self.fake.assert_contract_held();
            }
        }
    }

    fn sign_in(fake: &Fake<Teable>, email: &str, password: &str) -> Reply {
        let body = json!({ "email": email, "password": password });
        fake.exchange(&request("POST /api/auth/signin", "", Some(&body))).unwrap()
    }

    fn signed_in(fake: &Fake<Teable>, email: &str, password: &str) -> String {
        let reply = sign_in(fake, email, password);
        assert_eq!(reply.status, 200);
        let cookies: Vec<_> = reply.headers.get_all(header::SET_COOKIE).iter().collect();
        let session = cookies
            .iter()
            .filter_map(|cookie| cookie.to_str().ok())
            .find(|cookie| cookie.starts_with("auth_session="));
        format!("cookie: {}", session.unwrap().split(';').next().unwrap())
    }

    fn full() -> Value {
        json!({
            "name": "App", "homepage": "https://app.example", "description": "ours", "logo": "logo.png",
            "redirectUris": ["https://app.example/b", "myapp://a"], "scopes": ["record|read", "table|read"],
        })
    }

    /// The full body with some members changed, or left out where the change is `null`.
    fn full_but(changes: &Value) -> Value {
        let mut body = full();
        for (name, value) in changes.as_object().unwrap() {
            body[name] = value.clone();
        }
        without_nulls(body)
    }

    #[tokio::test(start_paused = true)]
    async fn a_credential_opens_what_its_kind_may() {
        let scene = Scene::new();
        let (status, token) = scene.ask("GET /api/auth/temp-token", None);
        assert_eq!(status, 200);
        let temporary = format!("authorization: Bearer {}", token["accessToken"].as_str().unwrap());
        let personal = format!("authorization: Bearer {ACCESS_TOKEN}");
        let list = format!("GET {CLIENTS}");
        let rows = [
            (scene.session.as_str(), list.as_str(), 200, "", "a session is a user"),
            (&temporary, &list, 200, "", "so is the token that it gives"),
            (&personal, &list, 403, "restricted_resource", "an access token is none, though it is valid"),
            ("authorization: Bearer teable_none", &list, 401, "unauthorized", "an unknown token"),
            ("authorization: Bearer e.y.j", &list, 401, "unauthorized", "no token that the server signed"),
            ("cookie: auth_session=none", &list, 401, "unauthorized", "an unknown session"),
            ("", &list, 401, "unauthorized", "nobody"),
            (&temporary, "GET /api/auth/temp-token", 401, "unauthorized", "a token is not renewed by itself"),
        ];
        for (credential, line, expected, code, reason) in rows {
            let (status, body) = scene.ask_with(credential, line, None);
            assert_eq!((status, body["code"].as_str().unwrap_or_default()), (expected, code), "{reason}");
        }
        scene.fake.at(|teable| teable.switches.insert(Switch::AccessTokens));
        assert_eq!(scene.ask_with(&personal, &list, None).0, 200, "a server that is open to access tokens");
    }

    #[tokio::test(start_paused = true)]
    async fn what_lets_in_ends_by_time() {
        let scene = Scene::new();
        let list = format!("GET {CLIENTS}");
        let (_, token) = scene.ask("GET /api/auth/temp-token", None);
        assert_eq!(token["expiresTime"], "2026-01-01T00:10:00.000Z", "as the server's own clock has it");
        let temporary = format!("authorization: Bearer {}", token["accessToken"].as_str().unwrap());

        tokio::time::advance(TEMP_TOKEN_LIFE).await;
        assert_eq!(scene.ask_with(&temporary, &list, None).0, 401, "the token lived for ten minutes");
        assert_eq!(scene.ask(&list, None).0, 200, "the session lives on");
        tokio::time::advance(SESSION_LIFE).await;
        assert_eq!(scene.ask(&list, None).0, 401, "the session ended");

        scene.fake.at(|teable| teable.session_life = Duration::from_secs(5));
        let short = signed_in(&scene.fake, MINE, PASSWORD);
        tokio::time::advance(Duration::from_secs(4)).await;
        assert_eq!(scene.ask_with(&short, &list, None).0, 200, "not over yet");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(scene.ask_with(&short, &list, None).0, 401, "a server with shorter sessions");

        let ended = signed_in(&scene.fake, MINE, PASSWORD);
        scene.fake.at(Teable::end_sessions);
        assert_eq!(scene.ask_with(&ended, &list, None).0, 401, "ended by the server");
    }

    #[tokio::test(start_paused = true)]
    async fn signing_in_fails_in_several_ways() {
        let fake = Fake::new(Teable::new());
        let code = |email: &str, password: &str| {
            let (status, body) = told(&sign_in(&fake, email, password));
            format!("{status} {}", body["code"].as_str().unwrap_or_default())
        };
        assert_eq!(code("OPERATOR@example.com", PASSWORD), "200 ", "case does not matter in an address");
        assert_eq!(code("none@example.com", PASSWORD), "400 invalid_credentials", "an unknown user");
        assert_eq!(code(MINE, "wrong password"), "400 invalid_credentials", "a wrong password");
        fake.at(|teable| teable.change_password(MINE, "CANARY-another"));
        assert_eq!(code(MINE, PASSWORD), "400 invalid_credentials", "the password was changed");
        assert_eq!(code(MINE, "CANARY-another"), "200 ", "to this one");

        fake.at(|teable| teable.lock_out_after(2, Duration::from_mins(3)));
        assert_eq!(code(MINE, "wrong password"), "400 invalid_credentials", "the first failure");
        assert_eq!(code(MINE, "wrong password"), "400 invalid_credentials", "the last one that is allowed");
        assert_eq!(code(MINE, "CANARY-another"), "429 too_many_requests", "locked out, right or wrong");
        tokio::time::advance(Duration::from_mins(3)).await;
        assert_eq!(code(MINE, "CANARY-another"), "200 ", "the lock-out is over");

        fake.at(|teable| teable.switches.insert(Switch::Captcha));
        assert_eq!(code(MINE, "CANARY-another"), "400 invalid_captcha", "nobody solved the captcha");
        let body = json!({ "email": MINE, "password": "CANARY-another", "turnstileToken": "solved" });
        let solved = fake.exchange(&request("POST /api/auth/signin", "", Some(&body))).unwrap();
        assert_eq!(solved.status, 200, "somebody did");
        fake.assert_contract_held();
    }

    #[tokio::test(start_paused = true)]
    async fn a_session_cookie_is_neither_alone_nor_to_be_decoded() {
        let fake = Fake::new(Teable::new());
        let reply = sign_in(&fake, MINE, PASSWORD);
        let cookies = reply.headers.get_all(header::SET_COOKIE);
        assert_eq!(cookies.iter().count(), 2, "a load balancer adds its own");
        assert!(
            cookies.iter().any(|cookie| cookie.to_str().unwrap().contains("s%3A")),
            "escapes belong to it"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_client_has_no_secret() {
        let scene = Scene::new();
        let (id, created) = scene.create(&full());
        let mut expected = full();
        expected["clientId"] = id.as_str().into();
        expected["id"] = created["id"].clone();
        assert!(created["id"].as_str().is_some_and(|internal| internal != id), "a second id of no use");
        assert_eq!((created, scene.get(&id)), (expected.clone(), expected), "no member `secrets`");

        let minimal = full_but(&json!({ "description": null, "logo": null, "scopes": null }));
        let (_, created) = scene.create(&minimal);
        let absent = ["description", "logo", "scopes"].iter().all(|name| created.get(name).is_none());
        assert!(absent, "what has no value is left out: {created}");
        assert_eq!(scene.fake.at(|teable| teable.clients().len()), 2, "two may have one name");

        scene.fake.at(|teable| teable.switches.insert(Switch::SecretOnCreate));
        let (id, created) = scene.create(&minimal);
        let secret = created["secrets"][0]["secret"].as_str().unwrap();
        assert!(scene.fake.at(|teable| teable.authenticates(&id, secret)), "some servers make one at once");
        assert_eq!(scene.get(&id)["secrets"][0]["secret"], mask(secret), "and show it once");
    }

    #[tokio::test(start_paused = true)]
    async fn the_list_has_the_callers_own_clients_and_not_all_of_them() {
        let scene = Scene::new();
        let (id, _) = scene.create(&full());
        scene.fake.at(|teable| {
            teable.add_user("other@example.com", "CANARY-other", "teable_CANARY-other");
            teable.add_foreign(2);
            teable.add_foreign_of("other@example.com", 3);
        });
        let item = json!({
            "clientId": id, "name": "App", "homepage": "https://app.example", "description": "ours", "logo": "logo.png",
        });
        let list = scene.listed();
        assert_eq!((list.len(), &list[0]), (3, &item), "own ones, made by hand too, and five members each");
        assert!(list.iter().all(|item| item["clientId"] != BUILT_IN), "nor the built-in one");
        assert_eq!(scene.get(BUILT_IN)["clientId"], BUILT_IN, "though it is there");
        assert_eq!(scene.fake.at(|teable| teable.clients().len()), 6, "all are clients");

        scene.fake.at(|teable| teable.stale_list_for(Duration::from_secs(2)));
        scene.fake.at(|teable| {
            teable.add_foreign(1);
            teable.remove(&id);
        });
        assert_eq!(scene.listed(), list, "a list that lags behind: with what is gone, without what is new");
        tokio::time::advance(Duration::from_secs(2)).await;
        assert_eq!((scene.listed().len(), scene.listed()[0] == item), (3, false), "and catches up");
    }

    #[tokio::test(start_paused = true)]
    async fn other_users_clients_are_open_by_id_unless_the_server_checks() {
        let scene = Scene::new();
        let foreign = scene.fake.at(|teable| {
            teable.add_user("other@example.com", "CANARY-other", "teable_CANARY-other");
            teable.add_foreign_of("other@example.com", 1).remove(0)
        });
        let path = format!("{CLIENTS}/{foreign}");
        assert_eq!(scene.get(&foreign)["name"], "By hand", "no check on reading");
        assert_eq!(scene.put(&foreign, &full())["name"], "App", "nor on writing");
        scene.fake.at(|teable| teable.switches.insert(Switch::OwnersOnly));
        let secret = scene.fake.at(|teable| teable.client(&foreign).unwrap().secrets.remove(0).id);
        let rows = [
            (format!("GET {path}"), None),
            (format!("PUT {path}"), Some(full())),
            (format!("POST {path}/secret"), None),
            (format!("DELETE {path}/secret/{secret}"), None),
            (format!("DELETE {path}"), None),
        ];
        for (line, body) in &rows {
            let (status, refused) = scene.ask(line, body.as_ref());
            assert_eq!((status, refused["code"].as_str()), (403, Some("restricted_resource")), "{line}");
        }
        scene.fake.at(|teable| teable.switches.remove(&Switch::OwnersOnly));
        assert_eq!(scene.ask(&format!("DELETE {path}"), None), (200, Value::Null), "nor on deleting");
        assert_eq!(scene.fake.at(|teable| teable.clients()), [], "it is gone");
    }

    #[tokio::test(start_paused = true)]
    async fn an_update_clears_some_of_what_it_omits_and_keeps_the_rest() {
        let scene = Scene::new();
        let (id, created) = scene.create(&full());
        scene.add_secret(&id);
        let rows = [
            (json!({ "description": null, "logo": null }), json!({}), "an omitted description and logo stay"),
            (json!({ "scopes": null }), json!({ "scopes": null }), "omitted scopes are cleared"),
            (json!({ "scopes": [] }), json!({ "scopes": [] }), "no scopes are not unset scopes"),
            (
                json!({ "description": "", "logo": "" }),
                json!({ "description": "", "logo": "" }),
                "empty strings clear",
            ),
            (
                json!({ "scopes": ["view|read", "table|read", "view|read"] }),
                json!({ "scopes": ["view|read", "table|read"] }),
                "a scope counts once, the order stays",
            ),
            (
                json!({ "redirectUris": ["myapp://a", "https://app.example/b", "myapp://a"] }),
                json!({ "redirectUris": ["myapp://a", "https://app.example/b", "myapp://a"] }),
                "redirect URIs are kept as they are",
            ),
            (json!({ "allowDeviceFlow": true }), json!({}), "an older server knows no device flow"),
        ];
        for (change, difference, reason) in rows {
            scene.put(&id, &full());
            let mut expected = created.clone();
            for (name, value) in difference.as_object().unwrap() {
                expected[name] = value.clone();
            }
            // `secrets` is not in the answer, though there is one.
            assert_eq!(scene.put(&id, &full_but(&change)), without_nulls(expected), "{reason}");
        }
        assert_eq!(scene.fake.at(|teable| teable.live_secrets(&id)), 1, "an update keeps the secrets");
    }

    #[tokio::test(start_paused = true)]
    async fn a_newer_server_knows_the_device_flow() {
        let scene = Scene::new();
        scene.fake.at(|teable| teable.switches.insert(Switch::DeviceFlow));
        let (id, created) = scene.create(&full());
        assert_eq!(created["allowDeviceFlow"], false, "it is off if nobody asks for it");
        assert_eq!(scene.put(&id, &full_but(&json!({ "allowDeviceFlow": true })))["allowDeviceFlow"], true);
        assert_eq!(scene.put(&id, &full())["allowDeviceFlow"], true, "it stays where it is not mentioned");
        let body = full_but(&json!({ "allowDeviceFlow": "yes" }));
        assert_eq!(scene.ask_wrongly(&format!("POST {CLIENTS}"), &body, "no boolean").0, 400);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_of_the_wrong_form_is_refused_and_changes_nothing() {
        let scene = Scene::new();
        let (id, created) = scene.create(&full());
        let mut rows: Vec<(Value, String)> = ["name", "homepage", "redirectUris"]
            .map(|name| (full_but(&json!({ name: null })), format!("{name} is missing")))
            .into();
        rows.extend(full().as_object().unwrap().keys().map(|name| {
            let mut body = full();
            body[name] = Value::Null;
            (body, format!("{name} is null"))
        }));
        rows.extend([
            (full_but(&json!({ "homepage": "app" })), "the homepage is no URL".to_owned()),
            (full_but(&json!({ "redirectUris": [] })), "there is no redirect URI".to_owned()),
            (full_but(&json!({ "redirectUris": ["/cb"] })), "a redirect URI is no URL".to_owned()),
            (full_but(&json!({ "name": 1 })), "the name is a number".to_owned()),
        ]);
        for (body, reason) in rows {
            for line in [format!("POST {CLIENTS}"), format!("PUT {CLIENTS}/{id}")] {
                let (status, refused) = scene.ask_wrongly(&line, &body, &reason);
                assert_eq!(
                    (status, refused["code"].as_str()),
                    (400, Some("validation_error")),
                    "{line}: {reason}"
                );
            }
        }
        assert_eq!(scene.get(&id), created);
        assert_eq!(scene.fake.at(|teable| teable.clients().len()), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_decides_which_scopes_there_are() {
        let scene = Scene::new();
        let create = format!("POST {CLIENTS}");
        scene.create(&full_but(&json!({ "scopes": SCOPES })));
        let (status, refused) = scene.ask(&create, Some(&full_but(&json!({ "scopes": ["table|fly"] }))));
        assert_eq!((status, refused["code"].as_str()), (400, Some("validation_error")), "unknown everywhere");
        assert!(
            refused["message"].as_str().unwrap().contains("table|fly"),
            "the message repeats what was sent"
        );
        scene.fake.at(|teable| teable.scopes.retain(|scope| *scope != "user|integrations"));
        let newest = full_but(&json!({ "scopes": ["user|integrations"] }));
        assert_eq!(scene.ask(&create, Some(&newest)).0, 400, "unknown to an older server");
    }

    #[tokio::test(start_paused = true)]
    async fn unknown_members_are_ignored() {
        let scene = Scene::new();
        let body = full_but(&json!({ "owner": "me", "secrets": [] }));
        let (status, client) = scene.ask_wrongly(&format!("POST {CLIENTS}"), &body, "members of no meaning");
        assert_eq!((status, client.get("owner"), client.get("secrets")), (201, None, None));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_is_not_declared_as_json_is_not_read() {
        let scene = Scene::new();
        let mut request = request(&format!("POST {CLIENTS}"), &scene.session, Some(&full()));
        request.headers.remove(header::CONTENT_TYPE);
        assert_eq!(scene.fake.at(|teable| teable.answer(&request)).status, 400);
        request.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        request.body = Bytes::from_static(b"{");
        assert_eq!(scene.fake.at(|teable| teable.answer(&request)).status, 400, "nor is what is no JSON");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_has_several_secrets_at_once() {
        let scene = Scene::new();
        let (id, _) = scene.create(&full());
        let (old, new) = (scene.add_secret(&id), scene.add_secret(&id));
        let plain = |secret: &Value| secret["secret"].as_str().unwrap().to_owned();
        let shown = |secret: &Value| json!({ "id": secret["id"], "secret": secret["maskedSecret"] });
        assert_eq!(scene.get(&id)["secrets"], json!([shown(&new), shown(&old)]), "masked, newest first");
        let masked = old["maskedSecret"].as_str().unwrap();
        assert_eq!(masked, format!("{}{}", "*".repeat(30), &plain(&old)[30..]), "the end of it shows");

        assert_eq!(scene.token(&id, &plain(&old)), 400, "the secret is right, the code is not");
        assert_eq!(scene.token(&id, "wrong"), 401, "the secret is wrong");
        assert_eq!(scene.token("clt0", &plain(&old)), 401, "no such client");
        assert_eq!(scene.get(&id)["secrets"][1]["lastUsedTime"], "2026-01-01T00:00:00.000Z", "used");
        assert_eq!(scene.get(&id)["secrets"][0].get("lastUsedTime"), None, "never used");

        let remove = format!("DELETE {CLIENTS}/{id}/secret/{}", old["id"].as_str().unwrap());
        assert_eq!(scene.ask(&remove, None), (200, Value::Null), "without a body");
        assert_eq!(scene.token(&id, &plain(&old)), 401, "the removed one is dead");
        assert_eq!(scene.token(&id, &plain(&new)), 400, "the other is not");
        assert_eq!(scene.fake.at(|teable| teable.live_secrets(&id)), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_there_is_a_failure_except_to_a_get() {
        let scene = Scene::new();
        let (known, _) = scene.create(&full());
        let path = format!("{CLIENTS}/clt0000000000000000");
        let rows = [
            (format!("PUT {path}"), Some(full())),
            (format!("DELETE {path}"), None),
            (format!("POST {path}/secret"), None),
            (format!("DELETE {path}/secret/sec0"), None),
            (format!("DELETE {CLIENTS}/{known}/secret/sec0"), None),
        ];
        let ask_all = |expected: (u16, &str)| {
            for (line, body) in &rows {
                let (status, refused) = scene.ask(line, body.as_ref());
                assert_eq!((status, refused["code"].as_str().unwrap()), expected, "{line}");
                assert_eq!(refused["status"], status, "{line}");
            }
            let (status, refused) = scene.ask(&format!("GET {path}"), None);
            assert_eq!((status, refused["code"].as_str()), (404, Some("not_found")), "a read is reliable");
        };
        ask_all((500, "internal_server_error"));
        scene.fake.at(|teable| teable.switches.insert(Switch::UnknownIsNotFound));
        ask_all((404, "not_found"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_deleted_client_is_gone_with_its_secrets() {
        let scene = Scene::new();
        let (id, _) = scene.create(&full());
        let secret = scene.add_secret(&id)["secret"].as_str().unwrap().to_owned();
        assert!(scene.fake.at(|teable| teable.authenticates(&id, &secret)));
        assert_eq!(scene.ask(&format!("DELETE {CLIENTS}/{id}"), None), (200, Value::Null), "without a body");
        assert_eq!(scene.token(&id, &secret), 401);
        assert!(!scene.fake.at(|teable| teable.authenticates(&id, &secret)));
        assert_eq!(scene.ask(&format!("GET {CLIENTS}/{id}"), None).0, 404);
    }

    #[tokio::test(start_paused = true)]
    async fn a_proxy_may_turn_everybody_away_for_a_while() {
        let scene = Scene::new();
        scene.fake.at(|teable| teable.throttle_for(Duration::from_millis(2500)));
        let list = request(&format!("GET {CLIENTS}"), &scene.session, None);
        let reply = scene.fake.exchange(&list).unwrap();
        assert_eq!((reply.status.as_u16(), &reply.headers["retry-after"]), (429, &HeaderValue::from(3)));
        assert!(serde_json::from_slice::<Value>(&reply.body).is_err(), "not in the server's own words");
        tokio::time::advance(Duration::from_millis(2500)).await;
        assert_eq!(scene.fake.exchange(&list).unwrap().status, 200);

        scene.fake.at(|teable| teable.set_limit(2));
        let statuses = [(); 3].map(|()| scene.fake.exchange(&list).unwrap().status.as_u16());
        assert_eq!(statuses, [429; 3], "more than two went through already in this minute");
        tokio::time::advance(WINDOW).await;
        let statuses = [(); 3].map(|()| scene.fake.exchange(&list).unwrap().status.as_u16());
        assert_eq!(statuses, [200, 200, 429], "two of this minute");
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_may_stand_below_a_path() {
        let scene = Scene::new();
        scene.fake.at(|teable| teable.set_prefix("/tables"));
        assert_eq!(scene.ask(&format!("GET /tables{CLIENTS}"), None).0, 200);
    }

    #[tokio::test(start_paused = true)]
    async fn every_secret_that_left_is_known() {
        let scene = Scene::new();
        let (id, _) = scene.create(&full());
        let secret = scene.add_secret(&id)["secret"].clone();
        let token = scene.ask("GET /api/auth/temp-token", None).1["accessToken"].clone();
        let session = scene.session.strip_prefix("cookie: auth_session=").unwrap();
        let given = scene.fake.at(|teable| teable.secrets_given());
        assert_eq!(json!(given), json!([session, secret, token]), "in the order that they left");
        assert!(given.iter().all(|secret| secret.to_uppercase().contains("CANARY")));
        assert_eq!(given.iter().collect::<BTreeSet<_>>().len(), given.len(), "no two are alike");
    }

    #[tokio::test(start_paused = true)]
    async fn an_owner_changes_things_by_hand() {
        let scene = Scene::new();
        let (id, _) = scene.create(&full());
        let by_hand = scene.fake.at(|teable| {
            teable.edit(&id, |client| client.name = "Renamed".to_owned());
            teable.add_secret(&id)
        });
        let client = scene.get(&id);
        assert_eq!((&client["name"], &client["secrets"][0]["id"]), (&json!("Renamed"), &json!(by_hand.id)));
        let foreign = scene.fake.at(|teable| {
            teable.remove(&id);
            teable.add_foreign(1)
        });
        let foreign = scene.fake.at(|teable| teable.client(&foreign[0])).unwrap();
        assert!(foreign.secrets[0].secret.contains("CANARY-FOREIGN"));
        assert_eq!(foreign.secrets[0].secret.len(), 40, "as long as any");
        assert_eq!(scene.ask(&format!("GET {CLIENTS}/{id}"), None).0, 404, "removed");
    }
}
