//! How fast a registry may be called: our own rate, and whatever the registry asks for.

use std::{num::NonZeroU32, sync::Mutex, time::Duration};

use governor::{
    Quota, RateLimiter,
    clock::Clock,
    middleware::NoOpMiddleware,
    state::{InMemoryState, NotKeyed},
};
use tokio::time::Instant;

use crate::api::RateLimit;

/// tokio's clock, so that a test with paused time governs the limiter.
#[derive(Clone, Debug)]
struct TokioClock(Instant);

impl Clock for TokioClock {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

type Bucket = RateLimiter<NotKeyed, InMemoryState, TokioClock, NoOpMiddleware<Duration>>;

/// Paces the requests to one registry.
pub struct Limiter {
    clock: TokioClock,
    bucket: Option<Bucket>,
    closed_until: Mutex<Option<Instant>>,
}

impl Limiter {
    /// A limiter with this rate, or with none of our own.
    pub fn new(rate: Option<RateLimit>) -> Self {
        let at_least_one = |number| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
        Self::with(rate.map(|rate| {
            Quota::per_second(at_least_one(rate.requests_per_second)).allow_burst(at_least_one(rate.burst))
        }))
    }

    /// A limiter that keeps "at most `requests` in any `window`", as a registry publishes it: a quarter at once, the rest spread
    /// over the window.
    pub fn published(requests: u32, window: Duration) -> Self {
        let burst = NonZeroU32::new(requests / 4).unwrap_or(NonZeroU32::MIN);
        let refills = requests.saturating_sub(burst.get()).max(1);
        // Rounded up, so that a window, both its ends included, sees less than all the refills: what leaves evenly does not
        // arrive evenly.
        let period = window / refills + Duration::from_nanos(1);
        Self::with(Quota::with_period(period).map(|quota| quota.allow_burst(burst)))
    }

    fn with(quota: Option<Quota>) -> Self {
        let clock = TokioClock(Instant::now());
        let bucket = quota.map(|quota| Bucket::direct_with_clock(quota, clock.clone()));
        Self { clock, bucket, closed_until: Mutex::new(None) }
    }

    /// Takes one request's worth, or says how long to wait first.
    pub fn take(&self) -> Result<(), Duration> {
        self.open()?;
        match self.bucket.as_ref().map(RateLimiter::check) {
            None | Some(Ok(())) => Ok(()),
            Some(Err(not_until)) => Err(not_until.wait_time_from(self.clock.now())),
        }
    }

    /// The registry asked for silence.
    pub fn close(&self, wait: Duration) {
        let until = Instant::now() + wait;
        let mut closed = self.closed_until.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *closed = Some(closed.map_or(until, |old| old.max(until)));
    }

    /// Takes nothing: whether the registry wants silence, and for how long still.
    pub fn open(&self) -> Result<(), Duration> {
        let closed = self.closed_until.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let wait = closed.map(|until| until.saturating_duration_since(Instant::now()));
        wait.filter(|wait| !wait.is_zero()).map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_passes_and_then_the_rate_holds() {
        let limiter = Limiter::new(Some(RateLimit { requests_per_second: 2, burst: 3 }));
        assert!((0..3).all(|_| limiter.take().is_ok()), "the burst");
        let wait = limiter.take().unwrap_err();
        assert!(wait <= Duration::from_millis(500), "two a second: {wait:?}");
        tokio::time::advance(wait).await;
        assert_eq!(limiter.take(), Ok(()), "after the wait");
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_leaves_while_the_registry_asked_for_silence() {
        let limiter = Limiter::new(None);
        limiter.close(Duration::from_secs(30));
        limiter.close(Duration::from_secs(10));
        assert_eq!(limiter.take(), Err(Duration::from_secs(30)), "the longer window counts");
        tokio::time::advance(Duration::from_secs(30)).await;
        assert_eq!(limiter.take(), Ok(()));
    }
    /// When requests pass within ten windows if they are asked for at once, and after each pause of these in turn.
    async fn passed(limiter: &Limiter, window: Duration, pauses: &[Duration]) -> Vec<Duration> {
        let (began, mut passed, mut pauses) = (Instant::now(), Vec::new(), pauses.iter().cycle());
        while began.elapsed() < window * 10 {
            match limiter.take() {
                Ok(()) => passed.push(began.elapsed()),
                Err(wait) => tokio::time::advance(wait + *pauses.next().unwrap()).await,
            }
        }
        passed
    }

    #[tokio::test(start_paused = true)]
    async fn no_window_sees_more_than_is_published_however_greedily_it_is_asked() {
        let (second, minute) = (Duration::from_secs(1), Duration::from_mins(1));
        let limits = [
            (120, minute, "Cal.com's"),
            (1, minute, "a burst of one is all there is"),
            (2, second, "one of them is the burst"),
            (3, second, "a quarter of it is none, so one"),
            (7, second, "nothing divides evenly"),
            (5000, Duration::from_hours(1), "many"),
        ];
        let pauses: [(&[Duration], _); 4] = [
            (&[Duration::ZERO], "asked without a rest"),
            (&[Duration::from_millis(1)], "a little late each time"),
            (&[Duration::ZERO, minute / 3], "rests in which a burst comes together"),
            (&[Duration::ZERO, second, minute * 2], "rests longer than a window"),
        ];
        for (requests, window, reason) in limits {
            for (pauses, asked) in pauses {
                let limiter = Limiter::published(requests, window);
                let passed = passed(&limiter, window, pauses).await;
                // Those that are so many apart must be more than a window apart.
                let apart = passed
                    .iter()
                    .zip(passed.iter().skip(requests as usize))
                    .map(|(a, b)| b.saturating_sub(*a))
                    .min();
                assert!(
                    apart.is_none_or(|apart| apart > window),
                    "{reason}, {asked}: {requests} in {apart:?}"
                );
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_published_limit_is_used_well() {
        let limiter = Limiter::published(120, Duration::from_mins(1));
        assert!((0..30).all(|_| limiter.take().is_ok()), "a quarter at once");
        assert!(limiter.take().is_err(), "and no more");
        let limiter = Limiter::published(120, Duration::from_mins(1));
        let passed = passed(&limiter, Duration::from_mins(1), &[Duration::ZERO]).await.len();
        assert!((900..=930).contains(&passed), "90 a minute, and the first burst: {passed} in ten minutes");
    }
}
