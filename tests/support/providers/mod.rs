//! The providers that cannot run here, as state machines: a request goes in, a reply comes out, nothing else happens. So they
//! stand behind a socket for the real binary, and behind the transport trait for the rules, with the same quirks.
//!
//! Every exchange is held, both directions, against the provider's own document in `tests/contracts/`.

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a test may fail loudly"
)]
#![allow(dead_code, reason = "each of its users needs a part of it")]

pub mod cal_com;
pub mod contract;
pub mod meteroid;
pub mod parts;
pub mod place;
pub mod server;
pub mod teable;
pub mod telnyx;

use std::{
    collections::VecDeque,
    fmt::Display,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use serde_json::Value;
use tokio::time::Instant;

use contract::Contract;

/// What a provider is asked.
#[derive(Clone)]
pub struct Request {
    /// The verb.
    pub method: Method,
    /// The path as it was sent, still percent-encoded, without the query.
    pub path: String,
    /// The query, decoded.
    pub query: Vec<(String, String)>,
    /// All header fields.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// What a provider answers.
#[derive(Clone)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// All header fields, `Content-Type` too.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Request {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The credentials of this scheme in the field `Authorization`.
    pub fn credentials(&self, scheme: &str) -> Option<&str> {
        let (given, credentials) = self.header("authorization")?.split_once(' ')?;
        given.eq_ignore_ascii_case(scheme).then_some(credentials.trim())
    }

    /// The first value of a query parameter.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The body, if it is said to be JSON and is.
    pub fn json(&self) -> Option<Value> {
        let said = self.header("content-type")?.starts_with("application/json");
        said.then(|| serde_json::from_slice(&self.body).ok()).flatten()
    }

    /// This request as it would be without a prefix of its path.
    fn below(&self, prefix: &str) -> Self {
        let path = self.path.strip_prefix(prefix).unwrap_or(&self.path).to_owned();
        Self { path, ..self.clone() }
    }
}

impl Reply {
    /// A reply without a body.
    pub fn empty(status: u16) -> Self {
        let status = StatusCode::from_u16(status).expect("a status");
        Self { status, headers: HeaderMap::new(), body: Bytes::new() }
    }

    /// A reply in JSON.
    pub fn json(status: u16, body: &Value) -> Self {
        let reply = Self { body: body.to_string().into(), ..Self::empty(status) };
        reply.with("content-type", "application/json; charset=utf-8")
    }

    /// The same with one more header.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Display) -> Self {
        self.headers.append(name, value.to_string().parse().expect("a header's value"));
        self
    }
}

/// A provider's own state and behaviour. Time is tokio's, so that a test may pause it.
pub trait Provider: Send + 'static {
    /// Its OpenAPI 3.1 document, in YAML.
    fn contract() -> &'static str
    where
        Self: Sized;

    /// Does what it is asked and answers.
    fn answer(&mut self, request: &Request) -> Reply;

    /// What its owner put in front of every path of its document.
    fn prefix(&self) -> Option<&str> {
        None
    }
}

/// What becomes of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It never arrives, and no reply comes.
    Lost,
    /// It has its effect, but no reply comes.
    ReplyLost,
    /// It has no effect and an empty reply of this status, without the provider's own headers.
    Answered(u16),
}

/// One exchange that took place.
#[derive(Clone, Debug)]
pub struct Call {
    /// When the request arrived.
    pub at: Instant,
    /// Verb and path, for example `GET /v2/oauth-clients/abc`.
    pub line: String,
    /// Verb and path as the contract names them, for example `GET /v2/oauth-clients/{clientId}`.
    pub operation: String,
    /// The status of the reply, whether it arrived or not.
    pub status: u16,
}

/// A provider that is watched and disturbed. Clones share it.
pub struct Fake<P>(Arc<Mutex<State<P>>>);

struct State<P> {
    provider: P,
    contract: Arc<Contract>,
    calls: Vec<Call>,
    faults: VecDeque<(String, Fault)>,
    violations: Vec<String>,
}

impl<P> Clone for Fake<P> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<P: Provider> Fake<P> {
    /// Puts a provider under its contract.
    pub fn new(provider: P) -> Self {
        let contract = Contract::shared(P::contract());
        let (calls, faults, violations) = (Vec::new(), VecDeque::new(), Vec::new());
        Self(Arc::new(Mutex::new(State { provider, contract, calls, faults, violations })))
    }

    /// One exchange; `None` if no reply comes.
    pub fn exchange(&self, request: &Request) -> Option<Reply> {
        let mut state = self.lock();
        let described = request.below(state.provider.prefix().unwrap_or_default());
        let operation = state.contract.operation(&described);
        let line = format!("{} {}", request.method, request.path);
        let fault = state.take_fault(&line, &operation);
        if let Err(why) = state.contract.holds_request(&described) {
            state.violations.push(format!("{line}: {why}"));
        }
        let at = Instant::now();
        let reply = match fault {
            Some(Fault::Lost) => None,
            Some(Fault::Answered(status)) => Some(Reply::empty(status)),
            Some(Fault::ReplyLost) | None => Some(state.provider.answer(request)),
        };
        let status = reply.as_ref().map_or(0, |reply| reply.status.as_u16());
        state.calls.push(Call { at, line: line.clone(), operation, status });
        if fault.is_none()
            && let Some(reply) = &reply
            && let Err(why) = state.contract.holds_reply(&described, reply)
        {
            state.violations.push(format!("{line}: {why}"));
        }
        reply.filter(|_| fault != Some(Fault::ReplyLost))
    }

    /// The next request whose line or operation this is goes wrong.
    pub fn disturb(&self, call: &str, fault: Fault) {
        self.lock().faults.push_back((call.to_owned(), fault));
    }

    /// Everything that took place so far.
    pub fn calls(&self) -> Vec<Call> {
        self.lock().calls.clone()
    }

    /// What the contract calls a request.
    pub fn operation(&self, request: &Request) -> String {
        let state = self.lock();
        state.contract.operation(&request.below(state.provider.prefix().unwrap_or_default()))
    }

    /// How often an operation took place, as the contract names it.
    pub fn count(&self, operation: &str) -> usize {
        self.lock().calls.iter().filter(|call| call.operation == operation).count()
    }

    /// Forgets the calls so far.
    pub fn forget_calls(&self) {
        self.lock().calls.clear();
    }

    /// Looks into the provider, or changes it as its owner would by hand.
    pub fn at<T>(&self, change: impl FnOnce(&mut P) -> T) -> T {
        change(&mut self.lock().provider)
    }

    /// Fails if an exchange was not as the contract says.
    pub fn assert_contract_held(&self) {
        let state = self.lock();
        assert!(state.violations.is_empty(), "{}", state.violations.join("\n"));
    }

    /// In what ways exchanges were not as the contract says, and forgets them: for those that are wrong on purpose.
    pub fn take_violations(&self) -> Vec<String> {
        std::mem::take(&mut self.lock().violations)
    }

    fn lock(&self) -> MutexGuard<'_, State<P>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<P> State<P> {
    fn take_fault(&mut self, line: &str, operation: &str) -> Option<Fault> {
        let found = self.faults.iter().position(|(call, _)| call == line || call == operation)?;
        self.faults.remove(found).map(|(_, fault)| fault)
    }
}
