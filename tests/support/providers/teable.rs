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

/// How long a session lives if nobody says.
pub const SESSION_LIFE: Duration = Duration::from_hours(7 * 24);
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

/// A secret as it is shown later.
pub fn mask(secret: &str) -> String {
    let hidden = secret.len() - SHOWN;
    format!("{}{}", "*".repeat(hidden), &secret[hidden..])
}

/// An object without its members that are null.
pub fn without_nulls(mut value: Value) -> Value {
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
