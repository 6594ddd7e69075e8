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
        let clock = TokioClock(Instant::now());
        let bucket = rate.map(|rate| {
            let per_second = NonZeroU32::new(rate.requests_per_second).unwrap_or(NonZeroU32::MIN);
            let burst = NonZeroU32::new(rate.burst).unwrap_or(NonZeroU32::MIN);
            Bucket::direct_with_clock(Quota::per_second(per_second).allow_burst(burst), clock.clone())
        });
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
}
