//! Cal.com's platform OAuth clients, API version 2.
//!
//! It shows secrets to whoever may read, ignores what it does not know, and throttles without saying `Retry-After`.

use std::{collections::BTreeMap, fmt::Write, time::Duration};

use http::Method;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::parts::{Allowance, Clock, Limiter, Replica, Shape, texts};
use super::{Provider, Reply, Request, contract::decoded};

/// The key that it knows from the start, an owner's in [`ORGANIZATION`].
pub const KEY: &str = "cal_live_CANARY-operator";

/// The organisation that it has from the start.
pub const ORGANIZATION: u64 = 1;

/// What a client can be permitted, in the order of the bits that they are stored as.
pub const PERMISSIONS: [&str; 10] = [
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

/// All permissions at once.
const ALL: &str = "*";

const COLLECTION: &str = "/v2/oauth-clients";
const WINDOW: Duration = Duration::from_mins(1);
const KEY_LIMIT: u32 = 120;
const CLIENT_LIMIT: u32 = 500;

/// What the user behind a key is in its organisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// May do everything.
    Owner,
    /// May do everything.
    Admin,
    /// May only read, secrets included.
    Member,
}

/// Whom clients belong to.
#[derive(Clone, Debug)]
pub struct Organization {
    /// Whether it may have clients at all.
    pub platform: bool,
    /// Whether it may have any more.
    pub subscription: bool,
}

/// A client as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "its members are the provider's own, under their own names")]
pub struct Client {
    pub id: String,
    pub name: String,
    pub secret: String,
    /// As bits, see [`mask`] and [`permitted`].
    pub permissions: u16,
    pub logo: Option<String>,
    pub redirect_uris: Vec<String>,
    pub organization_id: u64,
    pub created_at: Timestamp,
    pub booking_redirect_uri: Option<String>,
    pub booking_cancel_redirect_uri: Option<String>,
    pub booking_reschedule_redirect_uri: Option<String>,
    pub are_emails_enabled: bool,
    pub are_default_event_types_enabled: bool,
    pub are_calendar_events_enabled: bool,
}

/// The provider with all its organisations.
pub struct CalCom {
    prefix: String,
    clock: Clock,
    organizations: BTreeMap<u64, Organization>,
    keys: BTreeMap<String, (u64, Role)>,
    clients: Vec<Client>,
    secrets_given: Vec<String>,
    replica: Replica<Vec<Client>>,
    key_limiter: Limiter,
    client_limiter: Limiter,
    created: u64,
    listed: u64,
    failed: u64,
}

impl Default for CalCom {
    fn default() -> Self {
        Self::new()
    }
}

/// What a test does to it by hand.
impl CalCom {
    /// A provider with one organisation that knows [`KEY`].
    pub fn new() -> Self {
        Self::with_key(KEY)
    }

    /// A provider with one organisation that knows this key.
    pub fn with_key(key: &str) -> Self {
        let mut provider = Self {
            prefix: String::new(),
            clock: Clock::default(),
            organizations: BTreeMap::new(),
            keys: BTreeMap::new(),
            clients: Vec::new(),
            secrets_given: Vec::new(),
            replica: Replica::default(),
            key_limiter: Limiter::new(KEY_LIMIT, WINDOW, WINDOW),
            client_limiter: Limiter::new(CLIENT_LIMIT, WINDOW, WINDOW),
            created: 0,
            listed: 0,
            failed: 0,
        };
        provider.organization(ORGANIZATION);
        provider.key(key, ORGANIZATION, Role::Owner);
        provider
    }

    /// An organisation, made if there is none: with a platform plan and a subscription, and without clients.
    pub fn organization(&mut self, id: u64) -> &mut Organization {
        self.organizations.entry(id).or_insert(Organization { platform: true, subscription: true })
    }

    /// Issues a key to a user of an organisation.
    pub fn key(&mut self, key: &str, organization: u64, role: Role) {
        self.organization(organization);
        self.keys.insert(key.to_owned(), (organization, role));
    }

    /// What a key was good for is what another is good for from now on.
    pub fn replace_key(&mut self, old: &str, new: &str) {
        let owner = self.keys.remove(old).expect("the old key is known");
        self.keys.insert(new.to_owned(), owner);
    }

    /// Everything is below this path from now on, for example `/api`.
    pub fn set_prefix(&mut self, prefix: &str) {
        prefix.clone_into(&mut self.prefix);
    }

    /// Its clock shows this now.
    pub fn set_time(&mut self, now: Timestamp) {
        self.clock = Clock::showing(now);
    }

    /// Lists come from a replica that is this far behind.
    pub fn stale_list_for(&mut self, lag: Duration) {
        self.replica.set_lag(lag);
    }

    /// How many requests a key has within a minute.
    pub fn set_limit(&mut self, limit: u32) {
        self.key_limiter.set_limit(limit);
    }

    /// Refuses every key for a while.
    pub fn throttle_for(&mut self, time: Duration) {
        self.key_limiter.refuse_all_for(time);
    }

    /// All clients of all organisations, oldest first.
    pub fn clients(&self) -> Vec<Client> {
        self.clients.clone()
    }

    /// One client, of whatever organisation.
    pub fn client(&self, id: &str) -> Option<Client> {
        self.clients.iter().find(|client| client.id == id).cloned()
    }

    /// Changes a client, also what no request can change.
    pub fn edit(&mut self, id: &str, change: impl FnOnce(&mut Client)) {
        change(self.stored(id).expect("there is such a client"));
    }

    /// Removes a client.
    pub fn remove(&mut self, id: &str) {
        self.replica.keep(&self.clients);
        let before = self.clients.len();
        self.clients.retain(|client| client.id != id);
        assert_ne!(before, self.clients.len(), "there was such a client");
    }

    /// Clients of somebody else in the first organisation; every secret holds `CANARY-FOREIGN`. Some share a name.
    pub fn add_foreign(&mut self, count: usize) {
        for index in 0..count {
            let body = json!({
                "name": format!("foreign {}", index / 2),
                "redirectUris": ["https://foreign.example.com/callback"],
                "permissions": ["*"],
            });
            let client = self.new_client(ORGANIZATION, "CANARY-FOREIGN", &members(&body));
            self.insert(client.expect("a good client"));
        }
    }

    /// Whether a client could get a token now.
    pub fn authenticates(&self, id: &str, secret: &str) -> bool {
        self.clients.iter().any(|client| client.id == id && client.secret == secret)
    }

    /// Every secret that there has ever been.
    pub fn secrets_given(&self) -> Vec<String> {
        self.secrets_given.clone()
    }
}

/// The permissions as they are stored; `*` is all of them.
pub fn mask(permissions: &[&str]) -> u16 {
    let bit = |name: &&str| match PERMISSIONS.iter().position(|known| known == name) {
        Some(position) => 1 << position,
        None if *name == ALL => (1 << PERMISSIONS.len()) - 1,
        None => panic!("{name} is no permission"),
    };
    permissions.iter().map(bit).fold(0, |all, one| all | one)
}

/// The permissions as they are shown.
pub fn permitted(mask: u16) -> Vec<&'static str> {
    let is_set = |(position, name): (usize, &'static str)| (mask & (1 << position) != 0).then_some(name);
    PERMISSIONS.into_iter().enumerate().filter_map(is_set).collect()
}

impl Provider for CalCom {
    fn contract() -> &'static str {
        include_str!("../../contracts/cal-com.yaml")
    }

    fn prefix(&self) -> Option<&str> {
        Some(&self.prefix)
    }

    fn answer(&mut self, request: &Request) -> Reply {
        let (allowance, done) = match self.admit(request) {
            Ok((caller, target, allowance)) if !allowance.refused => {
                (Some(allowance), self.perform(caller, &target, request))
            }
            Ok((_, _, allowance)) => (Some(allowance), Err(Refusal::throttled())),
            Err(refusal) => (None, Err(refusal)),
        };
        let reply = match done {
            Ok((status, data)) => Reply::json(status, &json!({ "status": "success", "data": data })),
            Err(refusal) => self.refuse(request, &refusal),
        };
        allowance.into_iter().fold(reply, |reply, allowance| {
            reply
                .with("x-ratelimit-limit-default", allowance.limit)
                .with("x-ratelimit-remaining-default", allowance.remaining)
                .with("x-ratelimit-reset-default", allowance.reset)
        })
    }
}

/// What a request is about.
enum Target {
    Collection,
    Client(String),
}

/// On whose behalf a request is.
#[derive(Clone, Copy)]
struct Caller {
    organization: u64,
    role: Role,
}

/// Why a request has no effect. The code is the name of the exception that the real one throws.
#[derive(Debug)]
struct Refusal {
    status: u16,
    code: &'static str,
    details: Value,
}

type Done = Result<(u16, Value), Refusal>;

impl Refusal {
    fn new(status: u16, code: &'static str) -> Self {
        Self { status, code, details: json!({}) }
    }

    fn not_found() -> Self {
        Self::new(404, "NotFoundException")
    }

    fn forbidden() -> Self {
        Self::new(403, "ForbiddenException")
    }

    fn unauthorized() -> Self {
        Self::new(401, "UnauthorizedException")
    }

    fn throttled() -> Self {
        Self::new(429, "ThrottlerException")
    }

    /// What the database cannot store has got past the validation.
    fn database() -> Self {
        Self::new(500, "DATABASE_ERROR")
    }

    fn invalid(errors: &[Value]) -> Self {
        Self { details: json!({ "errors": errors }), ..Self::new(400, "BadRequestException") }
    }
}

/// How it comes to an answer, in the order in which the real one asks.
impl CalCom {
    fn admit(&mut self, request: &Request) -> Result<(Caller, Target, Allowance), Refusal> {
        let target = self.target(request)?;
        if let Some(secret) = request.header("x-cal-secret-key") {
            let id = match &target {
                Target::Client(id) => id,
                Target::Collection => request.header("x-cal-client-id").ok_or_else(Refusal::unauthorized)?,
            };
            let allowance = self.client_limiter.hit(id);
            let client = self.client(id).filter(|client| client.secret == secret);
            let organization = client.ok_or_else(Refusal::unauthorized)?.organization_id;
            return Ok((Caller { organization, role: Role::Owner }, target, allowance));
        }
        let key = request.credentials("bearer").unwrap_or_default();
        let (organization, role) = *self.keys.get(key).ok_or_else(Refusal::unauthorized)?;
        Ok((Caller { organization, role }, target, self.key_limiter.hit(key)))
    }

    fn target(&self, request: &Request) -> Result<Target, Refusal> {
        let path = request.path.strip_prefix(&self.prefix).ok_or_else(Refusal::not_found)?;
        let rest = path.strip_prefix(COLLECTION).ok_or_else(Refusal::not_found)?;
        match (rest, rest.strip_prefix('/')) {
            ("" | "/", _) => Ok(Target::Collection),
            (_, Some(id)) if !id.contains('/') => Ok(Target::Client(decoded(id))),
            _ => Err(Refusal::not_found()),
        }
    }

    fn perform(&mut self, caller: Caller, target: &Target, request: &Request) -> Done {
        if !self.organizations[&caller.organization].platform {
            return Err(Refusal::forbidden());
        }
        if request.method != Method::GET && caller.role == Role::Member {
            return Err(Refusal::forbidden());
        }
        match (&request.method, target) {
            (&Method::GET, Target::Collection) => Ok((200, self.list(caller.organization))),
            (&Method::POST, Target::Collection) => self.create(caller.organization, &sent(request)?),
            (&Method::GET, Target::Client(id)) => Ok((200, self.owned(id, caller)?.shown())),
            (&Method::PATCH, Target::Client(id)) => self.update(id, caller, &sent(request)?),
            (&Method::DELETE, Target::Client(id)) => self.delete(id, caller),
            _ => Err(Refusal::not_found()),
        }
    }

    /// In no order that anybody could rely on: another one each time.
    fn list(&mut self, organization: u64) -> Value {
        self.listed += 1;
        let all = self.replica.show(&self.clients).iter();
        let mut own: Vec<_> = all.filter(|client| client.organization_id == organization).collect();
        own.sort_by_key(|client| scatter(&client.id, self.listed));
        own.into_iter().map(Client::shown).collect()
    }

    fn create(&mut self, organization: u64, body: &Map<String, Value>) -> Done {
        validate(body, true)?;
        if !self.organizations[&organization].subscription {
            return Err(Refusal::new(400, "BadRequestException"));
        }
        let client = self.new_client(organization, "CANARY", body)?;
        let created = json!({ "clientId": client.id, "clientSecret": client.secret, "undocumented": true });
        self.insert(client);
        Ok((201, created))
    }

    fn update(&mut self, id: &str, caller: Caller, body: &Map<String, Value>) -> Done {
        self.owned(id, caller)?;
        validate(body, false)?;
        let client = self.stored(id).ok_or_else(Refusal::not_found)?;
        let mut changed = client.clone();
        changed.change(body)?;
        *client = changed;
        Ok((200, client.shown()))
    }

    fn delete(&mut self, id: &str, caller: Caller) -> Done {
        let shown = self.owned(id, caller)?.shown();
        self.remove(id);
        Ok((200, shown))
    }

    fn owned(&self, id: &str, caller: Caller) -> Result<&Client, Refusal> {
        match self.clients.iter().find(|client| client.id == id) {
            None => Err(Refusal::not_found()),
            Some(client) if client.organization_id != caller.organization => Err(Refusal::forbidden()),
            Some(client) => Ok(client),
        }
    }

    /// A client that is about to change.
    fn stored(&mut self, id: &str) -> Option<&mut Client> {
        self.replica.keep(&self.clients);
        self.clients.iter_mut().find(|client| client.id == id)
    }

    fn new_client(
        &mut self,
        organization: u64,
        canary: &str,
        body: &Map<String, Value>,
    ) -> Result<Client, Refusal> {
        self.created += 1;
        let permissions: Vec<_> = body["permissions"].as_array().into_iter().flatten().collect();
        let permissions: Vec<_> = permissions.into_iter().filter_map(Value::as_str).collect();
        let mut client = Client {
            id: format!("cmfake{:019}", self.created),
            name: String::new(),
            secret: String::new(),
            permissions: mask(&permissions),
            logo: None,
            redirect_uris: Vec::new(),
            organization_id: organization,
            created_at: self.clock.now(),
            booking_redirect_uri: None,
            booking_cancel_redirect_uri: None,
            booking_reschedule_redirect_uri: None,
            are_emails_enabled: false,
            are_default_event_types_enabled: false,
            are_calendar_events_enabled: true,
        };
        client.change(body)?;
        client.secret = signed(&client, &format!("{canary}-{:08}", self.created));
        Ok(client)
    }

    fn insert(&mut self, client: Client) {
        self.replica.keep(&self.clients);
        self.secrets_given.push(client.secret.clone());
        self.clients.push(client);
    }

    /// Its own words repeat the path, and the details what was sent.
    fn refuse(&mut self, request: &Request, refusal: &Refusal) -> Reply {
        self.failed += 1;
        let body = json!({
            "status": "error",
            "timestamp": format!("{:.3}", self.clock.now()),
            "path": request.path,
            "error": {
                "code": refusal.code,
                "message": format!("{}: {} {}", refusal.code, request.method, request.path),
                "details": refusal.details,
            },
        });
        Reply::json(refusal.status, &body).with("x-request-id", format!("request-{}", self.failed))
    }
}

impl Client {
    fn shown(&self) -> Value {
        let mut shown = json!({
            "id": self.id,
            "name": self.name,
            "secret": self.secret,
            "permissions": permitted(self.permissions),
            "logo": self.logo,
            "redirectUris": self.redirect_uris,
            "organizationId": self.organization_id,
            "createdAt": format!("{:.3}", self.created_at),
            "areEmailsEnabled": self.are_emails_enabled,
            "areDefaultEventTypesEnabled": self.are_default_event_types_enabled,
            "areCalendarEventsEnabled": self.are_calendar_events_enabled,
            "undocumented": { "since": 2026 },
        });
        let booking = [
            ("bookingRedirectUri", &self.booking_redirect_uri),
            ("bookingCancelRedirectUri", &self.booking_cancel_redirect_uri),
            ("bookingRescheduleRedirectUri", &self.booking_reschedule_redirect_uri),
        ];
        for (name, uri) in booking {
            if let Some(uri) = uri {
                shown[name] = json!(uri);
            }
        }
        shown
    }

    /// Sets what is sent and valid; of that, null is only right where a column can hold it.
    fn change(&mut self, body: &Map<String, Value>) -> Result<(), Refusal> {
        for (name, value) in body {
            match name.as_str() {
                "name" => self.name = text(value).ok_or_else(Refusal::database)?,
                "redirectUris" => self.redirect_uris = texts(value).ok_or_else(Refusal::database)?,
                "logo" => self.logo = text(value),
                "bookingRedirectUri" => self.booking_redirect_uri = text(value),
                "bookingCancelRedirectUri" => self.booking_cancel_redirect_uri = text(value),
                "bookingRescheduleRedirectUri" => self.booking_reschedule_redirect_uri = text(value),
                "areEmailsEnabled" => self.are_emails_enabled = flag(value)?,
                "areDefaultEventTypesEnabled" => self.are_default_event_types_enabled = flag(value)?,
                "areCalendarEventsEnabled" => self.are_calendar_events_enabled = flag(value)?,
                _ => {}
            }
        }
        Ok(())
    }
}

/// What each member has to be, and whether it has to be there.
const RULES: [(&str, bool, Shape); 10] = [
    ("name", true, Shape::Text),
    ("redirectUris", true, Shape::Texts),
    ("permissions", true, Shape::SomeOf(&[&[ALL], &PERMISSIONS])),
    ("logo", false, Shape::Text),
    ("bookingRedirectUri", false, Shape::Text),
    ("bookingCancelRedirectUri", false, Shape::Text),
    ("bookingRescheduleRedirectUri", false, Shape::Text),
    ("areEmailsEnabled", false, Shape::Flag),
    ("areDefaultEventTypesEnabled", false, Shape::Flag),
    ("areCalendarEventsEnabled", false, Shape::Flag),
];

/// Looks at each member on its own, complains about all of them at once, and repeats what was sent.
fn validate(body: &Map<String, Value>, creating: bool) -> Result<(), Refusal> {
    let applicable = RULES.iter().filter(|(name, ..)| creating || *name != "permissions");
    let broken = applicable.filter(|(name, required, shape)| match body.get(*name) {
        None | Some(Value::Null) => creating && *required,
        Some(value) => !shape.fits(value),
    });
    let errors: Vec<_> = broken
        .map(|(name, ..)| {
            let constraints = json!({ "isValid": format!("{name} is not as it should be") });
            json!({ "target": body, "value": body.get(*name), "property": name, "constraints": constraints })
        })
        .collect();
    if errors.is_empty() { Ok(()) } else { Err(Refusal::invalid(&errors)) }
}

/// What is not said to be JSON is not even looked at.
fn sent(request: &Request) -> Result<Map<String, Value>, Refusal> {
    match request.header("content-type") {
        Some(said) if said.starts_with("application/json") => {
            serde_json::from_slice(&request.body).map_err(|_| Refusal::invalid(&[]))
        }
        _ => Ok(Map::new()),
    }
}

fn members(body: &Value) -> Map<String, Value> {
    body.as_object().cloned().unwrap_or_default()
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn flag(value: &Value) -> Result<bool, Refusal> {
    value.as_bool().ok_or_else(Refusal::database)
}

/// A JSON Web Token over what the client was created with, so its length grows with that. The signature is no such thing.
fn signed(client: &Client, signature: &str) -> String {
    let payload = json!({
        "name": client.name,
        "redirectUris": client.redirect_uris,
        "permissions": client.permissions,
        "iat": client.created_at.as_second(),
    });
    let header = json!({ "alg": "HS256", "typ": "JWT" });
    format!("{}.{}.{signature}", base64url(&header.to_string()), base64url(&payload.to_string()))
}

fn base64url(text: &str) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut bits = String::new();
    for byte in text.bytes() {
        write!(bits, "{byte:08b}").expect("memory");
    }
    let digit = |sextet: &[char]| {
        let padded = sextet.iter().chain(['0'; 6].iter()).take(6);
        padded.fold(0, |value, bit| value * 2 + usize::from(*bit == '1'))
    };
    let bits: Vec<char> = bits.chars().collect();
    bits.chunks(6).map(|sextet| char::from(ALPHABET[digit(sextet)])).collect()
}

/// FNV-1a.
fn scatter(id: &str, salt: u64) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    salt.to_le_bytes().into_iter().chain(id.bytes()).fold(0xcbf2_9ce4_8422_2325, step)
}
