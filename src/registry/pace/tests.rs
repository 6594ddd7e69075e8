//! What replies ask for, and that it is obeyed by all who share a session.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

use async_trait::async_trait;
use futures::future::join_all;
use http::{HeaderName, HeaderValue, Method};
use serde_json::json;
use tokio::time::Instant;

use super::*;
use crate::{
    metrics::Metrics,
    registry::{
        Kind, Session,
        transport::{Authorization, Body, Connect, Request, Response, Route, Transport, TransportError},
    },
};

/// 2026-03-01 12:00:00 UTC, a Sunday.
const NOW: i64 = 1_772_366_400;
const DAY: u64 = 24 * 3600;

type Rows = [(u16, &'static [(&'static str, &'static str)], Option<u64>, &'static str)];

/// Status, headers, seconds, reason.
fn asks(rows: &Rows) {
    for (status, headers, seconds, reason) in rows {
        let asked = asked(*status, headers);
        assert_eq!(asked, seconds.map(Duration::from_secs), "{status} {headers:?}: {reason}");
    }
}

fn asked(status: u16, headers: &[(&'static str, &'static str)]) -> Option<Duration> {
    let header = |(name, value): &(&'static str, &'static str)| {
        (name.parse::<HeaderName>().unwrap(), HeaderValue::from_static(value))
    };
    let mut map = HeaderMap::new();
    for (name, value) in headers.iter().map(header) {
        map.append(name, value);
    }
    silence(StatusCode::from_u16(status).unwrap(), &map, Timestamp::from_second(NOW).unwrap())
}

#[test]
fn a_wait_that_is_told_is_kept() {
    asks(&[
        (429, &[("Retry-After", "7")], Some(7), "seconds"),
        (429, &[("Retry-After", " 7 ")], Some(7), "space around it means nothing"),
        (503, &[("Retry-After", "7")], Some(7), "a maintenance says so too"),
        (429, &[("retry-after-ms", "7000")], Some(7), "in milliseconds"),
        (503, &[("retry-after-ms", "7000")], Some(7), "in milliseconds too"),
        (
            429,
            &[("Retry-After", "7"), ("retry-after-ms", "6500")],
            Some(7),
            "two roundings: the longer is safe",
        ),
        (429, &[("Retry-After", "7"), ("Retry-After", "9")], Some(9), "told twice: likewise"),
        (
            429,
            &[("Retry-After", "7"), ("x-ratelimit-reset", "50")],
            Some(7),
            "what is told beats what is shown",
        ),
        (429, &[("Retry-After", "0")], Some(1), "rounded down: it has just refused, so not at once"),
        (503, &[("Retry-After", "0")], None, "at once; the object's own backoff holds"),
        (429, &[("Retry-After", "999999999")], Some(DAY), "bounded"),
        (
            429,
            &[("Retry-After", "99999999999999999999999")],
            Some(DAY),
            "more than a number holds is bounded too",
        ),
        (429, &[("retry-after-ms", "99999999999999999999999")], Some(DAY), "likewise"),
        (200, &[("Retry-After", "7")], None, "not about the next request"),
        (301, &[("Retry-After", "7")], None, "about following a redirect, which we never do"),
    ]);
    assert_eq!(
        asked(429, &[("retry-after-ms", "1500")]),
        Some(Duration::from_millis(1500)),
        "to the millisecond"
    );
}

#[test]
fn a_date_is_a_wait() {
    asks(&[
        (429, &[("Retry-After", "Sun, 01 Mar 2026 12:00:45 GMT")], Some(45), "the form of today"),
        (503, &[("Retry-After", "Sun, 01 Mar 2026 12:00:45 GMT")], Some(45), "for a maintenance too"),
        (429, &[("Retry-After", "Sunday, 01-Mar-26 12:00:45 GMT")], Some(45), "the form of RFC 850"),
        (429, &[("Retry-After", "Sun Mar  1 12:00:45 2026")], Some(45), "the form of asctime"),
        (429, &[("Retry-After", "Tue, 01 Mar 2044 12:00:00 GMT")], Some(DAY), "bounded"),
        (
            429,
            &[("Retry-After", "Sun, 06 Nov 1994 08:49:37 GMT")],
            Some(30),
            "past: the clocks differ, so the default",
        ),
        (503, &[("Retry-After", "Sun, 06 Nov 1994 08:49:37 GMT")], None, "past, and a 503 has no default"),
        (
            429,
            &[("Retry-After", "Sun, 01 Mar 2026 11:00:45 GMT"), ("Date", "Sun, 01 Mar 2026 11:00:00 GMT")],
            Some(45),
            "by the registry's clock, which is an hour behind ours",
        ),
        (
            429,
            &[("Retry-After", "Sun, 01 Mar 2026 12:00:45 GMT"), ("Date", "just now")],
            Some(45),
            "a date that is none leaves our own clock",
        ),
        (
            429,
            &[("Retry-After", "7"), ("Date", "Sun, 01 Mar 2026 11:00:00 GMT")],
            Some(7),
            "seconds need no clock",
        ),
    ]);
}

#[test]
fn a_429_that_tells_nothing_waits_for_the_limits_that_it_shows() {
    asks(&[
        (429, &[], Some(30), "nothing shown: a pause of our own"),
        (429, &[("x-ratelimit-reset", "12")], Some(12), "seconds, as Telnyx has it"),
        (
            429,
            &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "12")],
            Some(12),
            "the same, with what is left",
        ),
        (429, &[("x-ratelimit-remaining", "0")], Some(30), "used up until nobody knows when"),
        (429, &[("x-ratelimit-reset", "0")], Some(1), "rounded down: not at once"),
        (429, &[("x-ratelimit-reset", "1772366412")], Some(12), "since 1970"),
        (429, &[("x-ratelimit-reset", "1772366412000")], Some(12), "since 1970 in milliseconds"),
        (429, &[("x-ratelimit-reset", "1772366000")], Some(30), "since 1970, but past: the default"),
        (429, &[("x-ratelimit-reset", "1000000000")], Some(DAY), "the longest that is no time since 1970"),
        (429, &[("X-RateLimit-Reset-Default", "12")], Some(12), "a limit with a name, as Cal.com has it"),
        (
            429,
            &[
                ("X-RateLimit-Remaining-Minute", "0"),
                ("X-RateLimit-Reset-Minute", "40"),
                ("X-RateLimit-Remaining-Second", "0"),
                ("X-RateLimit-Reset-Second", "2"),
            ],
            Some(2),
            "only all limits together refuse: the first that frees lets us through",
        ),
        (
            429,
            &[
                ("X-RateLimit-Remaining-Day", "0"),
                ("X-RateLimit-Reset-Day", "900"),
                ("X-RateLimit-Remaining-Minute", "0"),
                ("X-RateLimit-Reset-Minute", "40"),
                ("X-RateLimit-Remaining-Second", "5"),
                ("X-RateLimit-Reset-Second", "1"),
            ],
            Some(900),
            "refused with something left, so each limit refuses alone: the last of those that are used up",
        ),
        (
            429,
            &[("X-RateLimit-Remaining-Minute", "5"), ("X-RateLimit-Reset-Minute", "40")],
            Some(30),
            "that limit has not refused us, so its reset says nothing",
        ),
        (503, &[("x-ratelimit-reset", "12")], None, "not refused for the limit"),
        (429, &[("x-ratelimit-resets", "12")], Some(30), "another header"),
    ]);
}

#[test]
fn after_the_last_request_that_is_let_through_there_is_silence() {
    asks(&[
        (200, &[], None, "nothing shown"),
        (200, &[("x-ratelimit-remaining", "1"), ("x-ratelimit-reset", "12")], None, "one is left"),
        (
            200,
            &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "12")],
            Some(12),
            "the next would be refused",
        ),
        (
            201,
            &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "12")],
            Some(12),
            "so after any success",
        ),
        (
            404,
            &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "12")],
            Some(12),
            "and any other answer",
        ),
        (200, &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1772366412")], Some(12), "since 1970"),
        (200, &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "0")], None, "it frees at once"),
        (200, &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "999999")], Some(DAY), "bounded"),
        (200, &[("x-ratelimit-remaining", "0")], None, "used up until nobody knows when: the next will tell"),
        (200, &[("x-ratelimit-reset", "12")], None, "not said to be used up"),
        (
            200,
            &[
                ("X-RateLimit-Remaining-Minute", "0"),
                ("X-RateLimit-Reset-Minute", "40"),
                ("X-RateLimit-Remaining-Day", "0"),
                ("X-RateLimit-Reset-Day", "900"),
            ],
            Some(40),
            "all are used up: until the first frees",
        ),
        (
            200,
            &[
                ("X-RateLimit-Remaining-Minute", "0"),
                ("X-RateLimit-Reset-Minute", "40"),
                ("X-RateLimit-Remaining-Day", "3"),
                ("X-RateLimit-Reset-Day", "900"),
            ],
            None,
            "one has something left, and that is enough",
        ),
        (
            200,
            &[
                ("X-RateLimit-Remaining-Minute", "0"),
                ("X-RateLimit-Reset-Minute", "40"),
                ("X-RateLimit-Remaining-Day", "3"),
                ("Retry-After", "5"),
            ],
            None,
            "a success refuses nothing",
        ),
    ]);
}

#[test]
fn what_cannot_be_read_counts_as_not_said() {
    for nonsense in
        ["", " ", "soon", "-5", "+5", "1.5", "5s", "0x10", "Sun, 32 Mar 2026 12:00:45 GMT", "12:00"]
    {
        for name in ["Retry-After", "retry-after-ms", "x-ratelimit-reset", "x-ratelimit-reset-minute"] {
            assert_eq!(asked(429, &[(name, nonsense)]), Some(DEFAULT_SILENCE), "{name}: {nonsense}");
            let all =
                [(name, nonsense), ("x-ratelimit-remaining", "0"), ("x-ratelimit-remaining-minute", "0")];
            assert_eq!(asked(200, &all), None, "{name}: {nonsense}");
        }
        let left = [("x-ratelimit-remaining", nonsense), ("x-ratelimit-reset", "12")];
        assert_eq!(asked(200, &left), None, "remaining: {nonsense}");
        assert_eq!(asked(429, &left), Some(Duration::from_secs(12)), "remaining: {nonsense}");
    }
    let bytes: HeaderMap = [(RETRY_AFTER, HeaderValue::from_bytes(b"\xff7").unwrap())].into_iter().collect();
    assert_eq!(
        silence(StatusCode::TOO_MANY_REQUESTS, &bytes, Timestamp::UNIX_EPOCH),
        Some(DEFAULT_SILENCE),
        "no text at all"
    );
}

/// A registry that needs 100 ms for an answer and remembers when each request left for it.
struct Slow {
    began: Instant,
    left: Mutex<Vec<Duration>>,
    answered: AtomicUsize,
    /// What this and all later answers are.
    answers: fn(usize) -> (StatusCode, HeaderMap),
}

#[async_trait]
impl Transport for Slow {
    async fn send(&self, _: Request) -> Result<Response, TransportError> {
        self.left.lock().unwrap().push(self.began.elapsed());
        tokio::time::sleep(LATENCY).await;
        let (status, headers) = (self.answers)(self.answered.fetch_add(1, Ordering::SeqCst));
        Ok(Response { status, headers, body: bytes::Bytes::new() })
    }
}

struct Connects(Arc<Slow>);

impl Connect for Connects {
    fn connect(&self, _: &Route) -> Result<Arc<dyn Transport>, String> {
        Ok(self.0.clone())
    }
}

const LATENCY: Duration = Duration::from_millis(100);
const PASSES: usize = 20;
const WINDOW: Duration = Duration::from_secs(30);

fn request() -> Request {
    Request {
        method: Method::GET,
        url: "https://as.example/".parse().unwrap(),
        authorization: Authorization::None,
        body: Body::Empty,
    }
}

/// Twenty passes at once, each with requests until it is told to wait; when requests left, and what the passes were told.
async fn twenty_passes(answers: fn(usize) -> (StatusCode, HeaderMap)) -> (Arc<Slow>, Session, Vec<Duration>) {
    let registry =
        Arc::new(Slow { began: Instant::now(), left: Mutex::default(), answered: 0.into(), answers });
    let connection =
        serde_json::from_value(json!({"rateLimit": {"requestsPerSecond": 20, "burst": 5}})).unwrap();
    let session = Session::open(&connection, &Connects(registry.clone()), Arc::new(Metrics::new())).unwrap();
    let pass = async || loop {
        match session.send("read", request()).await.map_err(|error| error.kind) {
            Ok(_) => {}
            Err(Kind::Throttled(wait)) => break wait,
            Err(kind) => panic!("{kind:?}"),
        }
    };
    let told = join_all((0..PASSES).map(|_| pass())).await;
    (registry, session, told)
}

#[tokio::test(start_paused = true)]
async fn a_429_amid_twenty_passes_lets_none_out_but_those_already_on_the_wire() {
    let (registry, session, told) = twenty_passes(|before| {
        let refused = before >= 30;
        let status = if refused { StatusCode::TOO_MANY_REQUESTS } else { StatusCode::OK };
        (status, refused.then(|| (RETRY_AFTER, HeaderValue::from_static("30"))).into_iter().collect())
    })
    .await;
    let left = registry.left.lock().unwrap().clone();
    let refused = left[30] + LATENCY;
    assert!(left.iter().all(|at| *at <= refused), "one left after the refusal at {refused:?}: {left:?}");
    let underway = left[31..].len();
    assert!((1..=3).contains(&underway), "20 a second and 100 ms: two or so were on the wire: {underway}");
    assert!(told.iter().all(|wait| *wait + LATENCY * 3 > WINDOW && *wait <= WINDOW), "{told:?}");

    let closed_until = left[left.len() - 1] + LATENCY + WINDOW;
    let almost = closed_until.saturating_sub(registry.began.elapsed() + Duration::from_secs(1));
    tokio::time::advance(almost).await;
    assert!(session.pace().await.is_ok(), "a short rest is slept");
    assert!(registry.began.elapsed() >= closed_until, "to its end: {:?}", registry.began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn the_last_request_that_is_let_through_silences_twenty_passes() {
    let (registry, _, told) = twenty_passes(|before| {
        let remaining = HeaderValue::from(30usize.saturating_sub(before));
        let headers = [
            (HeaderName::from_static("x-ratelimit-remaining"), remaining),
            (HeaderName::from_static("x-ratelimit-reset"), HeaderValue::from_static("30")),
        ];
        (StatusCode::OK, headers.into_iter().collect())
    })
    .await;
    let left = registry.left.lock().unwrap().clone();
    let told_so = left[30] + LATENCY;
    assert!(left.iter().all(|at| *at <= told_so), "one left after {told_so:?}: {left:?}");
    assert_eq!(told.len(), PASSES, "each is told when to come back");
}
