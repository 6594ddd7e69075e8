//! What several providers are made of: a clock, a limiter, a read replica, a validation.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use tokio::time::Instant;
use url::Url;

/// A clock that follows tokio's, so that a test may pause it.
pub struct Clock {
    shown: Timestamp,
    since: Instant,
}

impl Clock {
    /// A clock that shows `now`.
    pub fn showing(now: Timestamp) -> Self {
        Self { shown: now, since: Instant::now() }
    }

    /// The time of day.
    pub fn now(&self) -> Timestamp {
        self.shown + SignedDuration::try_from(self.since.elapsed()).expect("a short test")
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::showing("2026-01-01T00:00:00Z".parse().expect("a time"))
    }
}

/// So many requests of one caller in a window that begins with the first of them.
pub struct Limiter {
    limit: u32,
    window: Duration,
    block: Duration,
    callers: HashMap<String, Caller>,
    refuses_all_until: Option<Instant>,
}

struct Caller {
    hits: u32,
    ends: Instant,
}

/// What a limiter says to one request.
pub struct Allowance {
    /// How many requests fit into a window.
    pub limit: u32,
    /// How many still do.
    pub remaining: u32,
    /// How long until they are as many as at first, in seconds, rounded up.
    pub reset: u64,
    /// Whether this request is one too many.
    pub refused: bool,
}

impl Limiter {
    /// Who goes beyond `limit` within `window` is refused for `block` from then on, or until the window ends if that is zero.
    pub fn new(limit: u32, window: Duration, block: Duration) -> Self {
        Self { limit, window, block, callers: HashMap::new(), refuses_all_until: None }
    }

    /// From now on so many.
    pub fn set_limit(&mut self, limit: u32) {
        self.limit = limit;
    }

    /// Refuses everybody for a while.
    pub fn refuse_all_for(&mut self, time: Duration) {
        self.refuses_all_until = Some(Instant::now() + time);
    }

    /// Counts one request.
    pub fn hit(&mut self, caller: &str) -> Allowance {
        let (now, limit) = (Instant::now(), self.limit);
        if let Some(until) = self.refuses_all_until.filter(|until| *until > now) {
            return Allowance { limit, remaining: 0, reset: seconds(until - now), refused: true };
        }
        let fresh = || Caller { hits: 0, ends: now + self.window };
        let caller = self.callers.entry(caller.to_owned()).or_insert_with(fresh);
        if caller.ends <= now {
            *caller = fresh();
        }
        caller.hits = caller.hits.saturating_add(1);
        // Only the first one too many starts the block; more of them do not prolong it.
        if caller.hits == limit.saturating_add(1) && !self.block.is_zero() {
            caller.ends = now + self.block;
        }
        let remaining = limit.saturating_sub(caller.hits);
        Allowance { limit, remaining, reset: seconds(caller.ends - now), refused: caller.hits > limit }
    }
}

fn seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

/// What others see who are shown everything as it was a while ago.
pub struct Replica<T> {
    lag: Duration,
    past: VecDeque<(Instant, T)>,
}

impl<T: Clone> Replica<T> {
    /// Falls behind this far from now on.
    pub fn set_lag(&mut self, lag: Duration) {
        self.lag = lag;
        self.past.clear();
    }

    /// To be told before each change.
    pub fn keep(&mut self, current: &T) {
        let now = Instant::now();
        while self.past.front().is_some_and(|(until, _)| *until + self.lag <= now) {
            self.past.pop_front();
        }
        if !self.lag.is_zero() {
            self.past.push_back((now, current.clone()));
        }
    }

    /// What is shown while this is true.
    pub fn show<'a>(&'a self, current: &'a T) -> &'a T {
        let now = Instant::now();
        let shown = self.past.iter().find(|(until, _)| *until + self.lag > now);
        shown.map_or(current, |(_, past)| past)
    }
}

impl<T> Default for Replica<T> {
    fn default() -> Self {
        Self { lag: Duration::ZERO, past: VecDeque::new() }
    }
}

/// What a member of a body has to be.
#[derive(Clone, Copy)]
pub enum Shape {
    /// A string.
    Text,
    /// An array of strings.
    Texts,
    /// A boolean.
    Flag,
    /// An absolute URI.
    Uri,
    /// An array of absolute URIs.
    Uris,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// An array of words from these lists.
    SomeOf(&'static [&'static [&'static str]]),
}

impl Shape {
    /// Whether this is such a value.
    pub fn fits(self, value: &Value) -> bool {
        let is_uri = |text: &str| Url::parse(text).is_ok();
        let all =
            |holds: &dyn Fn(&str) -> bool| texts(value).is_some_and(|all| all.iter().all(|text| holds(text)));
        match self {
            Self::Text => value.is_string(),
            Self::Texts => texts(value).is_some(),
            Self::Flag => value.is_boolean(),
            Self::Uri => value.as_str().is_some_and(is_uri),
            Self::Uris => all(&is_uri),
            Self::OneOf(words) => value.as_str().is_some_and(|text| words.contains(&text)),
            Self::SomeOf(lists) => all(&|text| lists.iter().any(|words| words.contains(&text))),
        }
    }
}

/// An array of strings.
pub fn texts(value: &Value) -> Option<Vec<String>> {
    value.as_array()?.iter().map(|one| one.as_str().map(str::to_owned)).collect()
}
