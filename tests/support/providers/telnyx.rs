//! Telnyx's OAuth clients, API version 2.
//!
//! Much about it is not documented, so most of what it does can be switched: a driver has to be right either way.

use std::{collections::BTreeMap, time::Duration};

use http::Method;
use jiff::Timestamp;
use k8s_openapi::ByteString;
use serde_json::{Map, Value, json};

use super::parts::{Allowance, Clock, Limiter, Replica, Shape, texts};
use super::{Provider, Reply, Request, contract::decoded};

/// The API key that it knows from the start, of a user of [`ORGANIZATION`].
pub const KEY: &str = "KEY_CANARY-operator";

/// The organisation that it has from the start.
pub const ORGANIZATION: &str = "organization-1";

const TOKEN: &str = "/v2/oauth/token";
const GRANTS: [&str; 3] = ["client_credentials", "authorization_code", "refresh_token"];
const WINDOW: Duration = Duration::from_mins(1);
const LIMIT: u32 = 1000;

/// Where the collection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Collection {
    /// `/v2/oauth/clients`, as documented.
    Documented,
    /// `/v2/oauth_clients`, as in all SDKs.
    OfSdks,
}

/// What becomes of a member that an update leaves out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Omitted {
    /// It keeps its value.
    Kept,
    /// It goes back to its default. The name has none.
    Reset,
}

/// What is told of the secret after the client's creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LaterSecret {
    /// The member is null.
    Null,
    /// The member is not there.
    Absent,
    /// The secret itself.
    Shown,
}

/// What is told beyond the limit's headers when too much is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryHint {
    /// Nothing, as documented.
    None,
    /// `retry-after`, in seconds.
    Seconds,
    /// `retry-after-ms`.
    Milliseconds,
}

/// A client as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(
    missing_docs,
    clippy::struct_field_names,
    reason = "its members are the provider's own, under their own names"
)]
pub struct Client {
    pub client_id: String,
    pub client_secret: Option<String>,
    pub name: String,
    pub org_id: String,
    pub user_id: String,
    pub client_type: String,
    pub allowed_scopes: Vec<String>,
    pub allowed_grant_types: Vec<String>,
    pub require_pkce: bool,
    pub redirect_uris: Vec<String>,
    pub logo_uri: Option<String>,
    pub policy_uri: Option<String>,
    pub tos_uri: Option<String>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// The provider with all its organisations.
pub struct Telnyx {
    /// Where its collection is. The other place is nowhere.
    pub collection: Collection,
    /// What becomes of a member that an update leaves out.
    pub omitted: Omitted,
    /// What is told of the secret after the client's creation.
    pub later_secret: LaterSecret,
    /// What is told beyond the limit's headers when too much is asked.
    pub retry_hint: RetryHint,
    /// Whether all errors have the gateway's form, not just the gateway's own.
    pub gateway_errors_only: bool,
    /// The status with which a second client of the same name is refused.
    pub refuses_duplicates: Option<u16>,
    /// Whether `filter[name]` also finds longer names.
    pub filters_loosely: bool,
    clock: Clock,
    keys: BTreeMap<String, Owner>,
    clients: Vec<Client>,
    secrets_given: Vec<String>,
    replica: Replica<Vec<Client>>,
    limiter: Limiter,
    created: u64,
    tokens: u64,
}

/// Whom a key, and then a client, belongs to.
#[derive(Clone)]
struct Owner {
    organization: String,
    user: String,
}

impl Default for Telnyx {
    fn default() -> Self {
        Self::new()
    }
}

/// What a test does to it by hand.
impl Telnyx {
    /// A provider as documented, with one organisation, that knows [`KEY`].
    pub fn new() -> Self {
        Self::with_key(KEY)
    }

    /// A provider as documented, with one organisation, that knows this key.
    pub fn with_key(key: &str) -> Self {
        let mut provider = Self {
            collection: Collection::Documented,
            omitted: Omitted::Kept,
            later_secret: LaterSecret::Null,
            retry_hint: RetryHint::None,
            gateway_errors_only: false,
            refuses_duplicates: None,
            filters_loosely: false,
            clock: Clock::default(),
            keys: BTreeMap::new(),
            clients: Vec::new(),
            secrets_given: Vec::new(),
            replica: Replica::default(),
            limiter: Limiter::new(LIMIT, WINDOW, Duration::ZERO),
            created: 0,
            tokens: 0,
        };
        provider.key(key, ORGANIZATION);
        provider
    }

    /// Issues a key to a user of an organisation of its own or one that there is.
    pub fn key(&mut self, key: &str, organization: &str) {
        let user = format!("user-{}", self.keys.len() + 1);
        self.keys.insert(key.to_owned(), Owner { organization: organization.to_owned(), user });
    }

    /// What a key was good for is what another is good for from now on.
    pub fn replace_key(&mut self, old: &str, new: &str) {
        let owner = self.keys.remove(old).expect("the old key is known");
        self.keys.insert(new.to_owned(), owner);
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
        self.limiter.set_limit(limit);
    }

    /// Refuses every key for a while.
    pub fn throttle_for(&mut self, time: Duration) {
        self.limiter.refuse_all_for(time);
    }

    /// All clients of all organisations, oldest first.
    pub fn clients(&self) -> Vec<Client> {
        self.clients.clone()
    }

    /// One client, of whatever organisation.
    pub fn client(&self, id: &str) -> Option<Client> {
        self.clients.iter().find(|client| client.client_id == id).cloned()
    }

    /// Changes a client, also what no request can change.
    pub fn edit(&mut self, id: &str, change: impl FnOnce(&mut Client)) {
        change(self.stored(id).expect("there is such a client"));
    }

    /// Removes a client.
    pub fn remove(&mut self, id: &str) {
        self.replica.keep(&self.clients);
        let before = self.clients.len();
        self.clients.retain(|client| client.client_id != id);
        assert_ne!(before, self.clients.len(), "there was such a client");
    }

    /// Clients of somebody else in the first organisation; every secret holds `CANARY-FOREIGN`. Some share a name.
    pub fn add_foreign(&mut self, count: usize) {
        let owner = Owner { organization: ORGANIZATION.to_owned(), user: "user-foreign".to_owned() };
        for index in 0..count {
            let body = json!({
                "name": format!("foreign {}", index / 2),
                "allowed_scopes": ["admin"],
                "client_type": "confidential",
                "allowed_grant_types": ["client_credentials"],
            });
            let client = self.new_client(&owner, "CANARY-FOREIGN", &members(&body));
            self.insert(client);
        }
    }

    /// Whether a client could get a token now.
    pub fn authenticates(&self, id: &str, secret: &str) -> bool {
        self.client(id).is_some_and(|client| client.client_secret.as_deref() == Some(secret))
    }

    /// Every secret and token that there has ever been.
    pub fn secrets_given(&self) -> Vec<String> {
        self.secrets_given.clone()
    }
}

impl Provider for Telnyx {
    fn contract() -> &'static str {
        include_str!("../../contracts/telnyx.yaml")
    }

    fn answer(&mut self, request: &Request) -> Reply {
        if request.path == TOKEN {
            return self.issue_token(request).unwrap_or_else(|refusal| self.refuse(&refusal));
        }
        let key = request.credentials("bearer").unwrap_or_default();
        let Some(owner) = self.keys.get(key).cloned() else {
            return self.refuse(&Refusal::gateway(401, "10009", "Authentication failed"));
        };
        let allowance = self.limiter.hit(key);
        let reply = if allowance.refused {
            self.throttle(&allowance)
        } else {
            self.perform(&owner, request).unwrap_or_else(|refusal| self.refuse(&refusal))
        };
        reply
            .with("x-ratelimit-limit", allowance.limit)
            .with("x-ratelimit-remaining", allowance.remaining)
            .with("x-ratelimit-reset", allowance.reset)
    }
}

/// Why a request has no effect.
struct Refusal {
    status: u16,
    form: Form,
    code: &'static str,
    detail: String,
}

/// The two forms that errors come in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    OAuth,
    Gateway,
}

impl Refusal {
    fn oauth(status: u16, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, form: Form::OAuth, code, detail: detail.into() }
    }

    fn gateway(status: u16, code: &'static str, detail: impl Into<String>) -> Self {
        Self { status, form: Form::Gateway, code, detail: detail.into() }
    }

    fn unknown() -> Self {
        Self::oauth(404, "not_found", "There is no such client")
    }

    /// The gateway's code for what an endpoint says in a word of its own.
    fn number(&self) -> &'static str {
        match (self.form, self.status) {
            (Form::Gateway, _) => self.code,
            (_, 401) => "10009",
            (_, 404) => "10005",
            _ => "10015",
        }
    }
}

/// How it comes to an answer.
impl Telnyx {
    fn perform(&mut self, owner: &Owner, request: &Request) -> Result<Reply, Refusal> {
        let collection = match self.collection {
            Collection::Documented => "/v2/oauth/clients",
            Collection::OfSdks => "/v2/oauth_clients",
        };
        let nowhere = || Refusal::gateway(404, "10005", "The requested resource or URL could not be found");
        let rest = request.path.strip_prefix(collection).ok_or_else(nowhere)?;
        let id = rest.strip_prefix('/').map(decoded);
        match (&request.method, id) {
            (&Method::GET, None) if rest.is_empty() => self.list(owner, request),
            (&Method::POST, None) if rest.is_empty() => self.create(owner, &sent(request)?),
            (&Method::GET, Some(id)) => Ok(self.shown(200, self.owned(owner, &id)?)),
            (&Method::PUT, Some(id)) => self.update(owner, &id, &sent(request)?),
            (&Method::DELETE, Some(id)) => {
                self.owned(owner, &id)?;
                self.remove(&id);
                Ok(Reply::empty(204))
            }
            _ => Err(nowhere()),
        }
    }

    /// Newest first, so that a client created between two pages shows another one twice.
    fn list(&self, owner: &Owner, request: &Request) -> Result<Reply, Refusal> {
        let number = page_parameter(request, "page[number]", 1, usize::MAX)?;
        let size = page_parameter(request, "page[size]", 20, 100)?;
        let all = self.replica.show(&self.clients).iter().rev();
        let found: Vec<_> = all
            .filter(|client| client.org_id == owner.organization && self.is_asked_for(client, request))
            .collect();
        let page = found.iter().skip((number - 1).saturating_mul(size)).take(size);
        let data: Value = page.map(|client| client.shown(self.later_secret)).collect();
        let meta = json!({
            "page_number": number,
            "page_size": size,
            "total_results": found.len(),
            "total_pages": found.len().div_ceil(size),
        });
        Ok(Reply::json(200, &json!({ "data": data, "meta": meta })))
    }

    fn is_asked_for(&self, client: &Client, request: &Request) -> bool {
        let holds = |filter: &str, matches: &dyn Fn(&str) -> bool| {
            request.parameter(&format!("filter[{filter}]")).is_none_or(matches)
        };
        let contains = |part: &str| client.name.contains(part);
        holds("name", &|name| client.name == name || self.filters_loosely && contains(name))
            && holds("name][contains", &contains)
            && holds("client_id", &|id| client.client_id == id)
            && holds("client_type", &|kind| client.client_type == kind)
            && holds("allowed_grant_types][contains", &|grant| {
                client.allowed_grant_types.iter().any(|allowed| allowed == grant)
            })
    }

    fn create(&mut self, owner: &Owner, body: &Map<String, Value>) -> Result<Reply, Refusal> {
        validate(body, &[&REQUIRED, &OPTIONAL, &FIXED])?;
        let required = REQUIRED.iter().chain(&FIXED).map(|(name, _)| *name);
        if let Some(missing) = required.into_iter().find(|name| !body.contains_key(*name)) {
            return Err(invalid(missing));
        }
        self.refuse_duplicate(owner, body, None)?;
        let client = self.new_client(owner, "CANARY", body);
        let reply = Reply::json(201, &json!({ "data": client.shown(LaterSecret::Shown) }));
        self.insert(client);
        Ok(reply)
    }

    fn update(&mut self, owner: &Owner, id: &str, body: &Map<String, Value>) -> Result<Reply, Refusal> {
        self.owned(owner, id)?;
        validate(body, &[&REQUIRED, &OPTIONAL])?;
        self.refuse_duplicate(owner, body, Some(id))?;
        let (now, omitted) = (self.clock.now(), self.omitted);
        let client = self.stored(id).ok_or_else(Refusal::unknown)?;
        if omitted == Omitted::Reset {
            client.reset();
        }
        client.change(body);
        client.updated_at = now;
        Ok(self.shown(200, self.owned(owner, id)?))
    }

    fn refuse_duplicate(
        &self,
        owner: &Owner,
        body: &Map<String, Value>,
        except: Option<&str>,
    ) -> Result<(), Refusal> {
        let Some(status) = self.refuses_duplicates else { return Ok(()) };
        let is_other = |client: &&Client| Some(client.client_id.as_str()) != except;
        let mut others = self.clients.iter().filter(is_other);
        let is_taken = |client: &Client| {
            client.org_id == owner.organization && body.get("name").is_some_and(|name| *name == client.name)
        };
        if others.any(is_taken) {
            return Err(Refusal::gateway(status, "10012", "There is such a resource already"));
        }
        Ok(())
    }

    fn owned(&self, owner: &Owner, id: &str) -> Result<&Client, Refusal> {
        let is_meant = |client: &&Client| client.client_id == id && client.org_id == owner.organization;
        self.clients.iter().find(is_meant).ok_or_else(Refusal::unknown)
    }

    fn shown(&self, status: u16, client: &Client) -> Reply {
        Reply::json(status, &json!({ "data": client.shown(self.later_secret) }))
    }

    /// A client that is about to change.
    fn stored(&mut self, id: &str) -> Option<&mut Client> {
        self.replica.keep(&self.clients);
        self.clients.iter_mut().find(|client| client.client_id == id)
    }

    fn new_client(&mut self, owner: &Owner, canary: &str, body: &Map<String, Value>) -> Client {
        self.created += 1;
        let (number, now) = (self.created, self.clock.now());
        let client_type = body["client_type"].as_str().unwrap_or_default().to_owned();
        let secret = format!("{canary}-telnyx-{number:032}");
        let mut client = Client {
            client_id: format!("7e1c0a1e-0000-4000-8000-{number:012x}"),
            client_secret: (client_type == "confidential").then_some(secret),
            name: String::new(),
            org_id: owner.organization.clone(),
            user_id: owner.user.clone(),
            client_type,
            allowed_scopes: Vec::new(),
            allowed_grant_types: Vec::new(),
            require_pkce: false,
            redirect_uris: Vec::new(),
            logo_uri: None,
            policy_uri: None,
            tos_uri: None,
            created_at: now,
            updated_at: now,
        };
        client.change(body);
        client
    }

    fn insert(&mut self, client: Client) {
        self.replica.keep(&self.clients);
        self.secrets_given.extend(client.client_secret.clone());
        self.clients.push(client);
    }

    /// RFC 6749 section 4.4, for a client that may use it.
    fn issue_token(&mut self, request: &Request) -> Result<Reply, Refusal> {
        let form: BTreeMap<_, _> = url::form_urlencoded::parse(&request.body).into_owned().collect();
        if form.get("grant_type").map(String::as_str) != Some("client_credentials") {
            return Err(Refusal::oauth(400, "unsupported_grant_type", "Only client_credentials"));
        }
        let given = request.credentials("basic").and_then(basic);
        let client = given.filter(|(id, secret)| self.authenticates(id, secret));
        let client = client.and_then(|(id, _)| self.client(&id));
        let client = client.ok_or_else(|| Refusal::oauth(401, "invalid_client", "Unknown"))?;
        if !client.allowed_grant_types.iter().any(|grant| grant == "client_credentials") {
            return Err(Refusal::oauth(400, "unauthorized_client", "Not with this grant type"));
        }
        self.tokens += 1;
        let token = format!("CANARY-telnyx-token-{:08}", self.tokens);
        self.secrets_given.push(token.clone());
        let body = json!({ "access_token": token, "token_type": "bearer", "expires_in": 3600 });
        Ok(Reply::json(200, &body))
    }

    fn refuse(&self, refusal: &Refusal) -> Reply {
        let Refusal { status, form, code, detail } = refusal;
        if *form == Form::OAuth && !self.gateway_errors_only {
            return Reply::json(*status, &json!({ "error": code, "error_description": detail }));
        }
        let code = refusal.number();
        let meta = json!({ "url": format!("https://developers.example.com/errors/{code}") });
        let error = json!({ "code": code, "title": detail, "detail": detail, "meta": meta });
        Reply::json(*status, &json!({ "errors": [error] }))
    }

    fn throttle(&self, allowance: &Allowance) -> Reply {
        let reply = self.refuse(&Refusal::gateway(429, "10011", "Too many requests"));
        match self.retry_hint {
            RetryHint::None => reply,
            RetryHint::Seconds => reply.with("retry-after", allowance.reset),
            RetryHint::Milliseconds => reply.with("retry-after-ms", allowance.reset * 1000),
        }
    }
}

impl Client {
    fn shown(&self, secret: LaterSecret) -> Value {
        let mut shown = json!({
            "record_type": "oauth_client",
            "client_id": self.client_id,
            "name": self.name,
            "org_id": self.org_id,
            "user_id": self.user_id,
            "client_type": self.client_type,
            "allowed_scopes": self.allowed_scopes,
            "allowed_grant_types": self.allowed_grant_types,
            "require_pkce": self.require_pkce,
            "redirect_uris": self.redirect_uris,
            "logo_uri": self.logo_uri,
            "policy_uri": self.policy_uri,
            "tos_uri": self.tos_uri,
            "created_at": format!("{:.6}", self.created_at),
            "updated_at": format!("{:.6}", self.updated_at),
            "undocumented": { "since": 2026 },
        });
        match secret {
            LaterSecret::Null => shown["client_secret"] = Value::Null,
            LaterSecret::Absent => {}
            LaterSecret::Shown => shown["client_secret"] = json!(self.client_secret),
        }
        shown
    }

    fn reset(&mut self) {
        (self.allowed_scopes, self.allowed_grant_types) = (Vec::new(), Vec::new());
        (self.require_pkce, self.redirect_uris) = (false, Vec::new());
        (self.logo_uri, self.policy_uri, self.tos_uri) = (None, None, None);
    }

    /// Sets what is sent; it has been validated.
    fn change(&mut self, body: &Map<String, Value>) {
        for (name, value) in body {
            let (text, all) = (value.as_str().map(str::to_owned), texts(value).unwrap_or_default());
            match name.as_str() {
                "name" => self.name = text.unwrap_or_default(),
                "allowed_scopes" => self.allowed_scopes = all,
                "allowed_grant_types" => self.allowed_grant_types = all,
                "require_pkce" => self.require_pkce = *value == true,
                "redirect_uris" => self.redirect_uris = all,
                "logo_uri" => self.logo_uri = text,
                "policy_uri" => self.policy_uri = text,
                "tos_uri" => self.tos_uri = text,
                _ => {}
            }
        }
    }
}

type Rules = [(&'static str, Shape)];

/// What a new client needs.
const REQUIRED: [(&str, Shape); 3] = [
    ("name", Shape::Text),
    ("allowed_scopes", Shape::Texts),
    ("allowed_grant_types", Shape::SomeOf(&[&GRANTS])),
];

/// What a new client needs and keeps for ever.
const FIXED: [(&str, Shape); 1] = [("client_type", Shape::OneOf(&["public", "confidential"]))];

/// What any client may have. None of it can be null.
const OPTIONAL: [(&str, Shape); 5] = [
    ("require_pkce", Shape::Flag),
    ("redirect_uris", Shape::Uris),
    ("logo_uri", Shape::Uri),
    ("policy_uri", Shape::Uri),
    ("tos_uri", Shape::Uri),
];

fn validate(body: &Map<String, Value>, rules: &[&Rules]) -> Result<(), Refusal> {
    let rule = |name: &str| rules.iter().copied().flatten().find(|(known, _)| *known == name);
    let is_wrong = |(name, value): &(&String, &Value)| rule(name).is_none_or(|(_, shape)| !shape.fits(value));
    body.iter().find(is_wrong).map_or(Ok(()), |(name, _)| Err(invalid(name)))
}

fn invalid(member: &str) -> Refusal {
    Refusal::oauth(422, "invalid_request", format!("{member} is not as it should be"))
}

fn sent(request: &Request) -> Result<Map<String, Value>, Refusal> {
    let body = request.json().as_ref().and_then(Value::as_object).cloned();
    body.ok_or_else(|| Refusal::oauth(400, "invalid_request", "The body is no JSON object"))
}

fn members(body: &Value) -> Map<String, Value> {
    body.as_object().cloned().unwrap_or_default()
}

fn page_parameter(request: &Request, name: &str, default: usize, maximum: usize) -> Result<usize, Refusal> {
    let Some(text) = request.parameter(name) else { return Ok(default) };
    let number = text.parse().ok().filter(|number| (1..=maximum).contains(number));
    number.ok_or_else(|| Refusal::gateway(400, "10015", format!("{name} is out of range")))
}

/// RFC 6749 section 2.3.1: both parts are form-encoded. Kubernetes' own form of bytes in JSON is base64.
fn basic(credentials: &str) -> Option<(String, String)> {
    let ByteString(bytes) = serde_json::from_value(json!(credentials)).ok()?;
    let text = String::from_utf8(bytes).ok()?;
    let (id, secret) = text.split_once(':')?;
    let plain = |part: &str| decoded(&part.replace('+', " "));
    Some((plain(id), plain(secret)))
}
