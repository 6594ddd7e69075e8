//! What a reply says of the pace: for how long the registry wants no further request.

use std::{collections::BTreeMap, time::Duration};

use http::{
    HeaderMap, StatusCode,
    header::{DATE, RETRY_AFTER},
};
use jiff::{Timestamp, fmt::strtime, tz::TimeZone};

/// The pause after a 429 that names none.
const DEFAULT_SILENCE: Duration = Duration::from_secs(30);
/// Who has just refused a request wants no other at once, though it rounds its wait down to zero.
const SHORTEST_SILENCE: Duration = Duration::from_secs(1);
/// Registries have asked for hours; an object's own wait is bounded by its requeue, so this is only a sanity bound.
const LONGEST_SILENCE: Duration = Duration::from_hours(24);

/// A larger reset is no wait, which would take thirty years, but a time in seconds since 1970.
const LARGEST_WAIT: u64 = 1_000_000_000;
/// A still larger one is such a time in milliseconds.
const LARGEST_EPOCH: u64 = 1_000_000_000_000;

/// The three forms of a date that RFC 9110 section 5.6.7 wants understood; all of them are in UTC.
const DATES: [&str; 3] = ["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"];

/// How long a reply asks for silence; `None` if the next request may follow at once. `now` is asked for dates only, and only if
/// the reply has none of its own.
pub fn silence(status: StatusCode, headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    // The dates of a reply are by the registry's clock, and ours may differ.
    let now = texts(headers, DATE.as_str()).find_map(date).unwrap_or(now);
    let refused = status == StatusCode::TOO_MANY_REQUESTS;
    let told = (refused || status == StatusCode::SERVICE_UNAVAILABLE).then(|| told(headers, now)).flatten();
    let wait = told.or_else(|| until_free(&limits(headers, now), refused));
    let wait = if refused { Some(wait.unwrap_or(DEFAULT_SILENCE).max(SHORTEST_SILENCE)) } else { wait };
    wait.map(|wait| wait.min(LONGEST_SILENCE)).filter(|wait| !wait.is_zero())
}

/// `Retry-After` (RFC 9110 section 10.2.3), and its twin in milliseconds.
fn told(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let seconds = |text: &str| number(text).map(Duration::from_secs);
    let after = texts(headers, RETRY_AFTER.as_str())
        .filter_map(|text| seconds(text).or_else(|| date(text).and_then(|at| until(at, now))));
    let milliseconds = texts(headers, "retry-after-ms").filter_map(number).map(Duration::from_millis);
    // Both are roundings of one wait: the longer is safe.
    after.chain(milliseconds).max()
}

/// One of the limits that a registry shows.
#[derive(Default)]
struct Limit {
    remaining: Option<u64>,
    reset: Option<Duration>,
}

/// `X-RateLimit-Remaining` and `X-RateLimit-Reset` (Telnyx), and with the names of limits behind them (Cal.com).
fn limits(headers: &HeaderMap, now: Timestamp) -> BTreeMap<&str, Limit> {
    let mut limits = BTreeMap::<&str, Limit>::new();
    for (header, value) in headers {
        let Some(number) = value.to_str().ok().and_then(number) else { continue };
        let of = |prefix| {
            let name = header.as_str().strip_prefix(prefix)?;
            (name.is_empty() || name.starts_with('-')).then_some(name)
        };
        if let Some(name) = of("x-ratelimit-remaining") {
            limits.entry(name).or_default().remaining = Some(number);
        } else if let Some(name) = of("x-ratelimit-reset") {
            limits.entry(name).or_default().reset = reset(number, now);
        }
    }
    limits
}

/// When a request is let through again, as far as the limits tell.
fn until_free(limits: &BTreeMap<&str, Limit>, refused: bool) -> Option<Duration> {
    let some_left = limits.values().any(|limit| limit.remaining > Some(0));
    let spent = |limit: &&Limit| limit.remaining.map_or(refused, |remaining| remaining == 0);
    let resets = limits.values().filter(spent).filter_map(|limit| limit.reset);
    match (refused, some_left) {
        // Cal.com refuses only when all limits are used up, so the first that frees lets us through. If another registry
        // refuses us then, what it shows is the next case.
        (_, false) => resets.min(),
        (false, true) => None,
        // Refused although a limit has something left: here each refuses alone, and the last of the spent ones counts.
        (true, true) => resets.max(),
    }
}

fn reset(number: u64, now: Timestamp) -> Option<Duration> {
    let at = |number: u64, epoch: fn(i64) -> Result<Timestamp, jiff::Error>| {
        until(epoch(i64::try_from(number).ok()?).ok()?, now)
    };
    if number <= LARGEST_WAIT {
        Some(Duration::from_secs(number))
    } else if number <= LARGEST_EPOCH {
        at(number, Timestamp::from_second)
    } else {
        at(number, Timestamp::from_millisecond)
    }
}

/// `None` for what is past: then the clocks differ, and it tells nothing.
fn until(at: Timestamp, now: Timestamp) -> Option<Duration> {
    Duration::try_from(at.duration_since(now)).ok()
}

fn texts<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a str> + use<'a> {
    headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok())
}

/// Digits only; more of them than a number can hold are very many.
fn number(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

fn date(text: &str) -> Option<Timestamp> {
    let read = |format| {
        let civil = strtime::parse(format, text.trim()).ok()?.to_datetime().ok()?;
        Some(civil.to_zoned(TimeZone::UTC).ok()?.timestamp())
    };
    DATES.into_iter().find_map(read)
}

#[cfg(test)]
mod tests;
