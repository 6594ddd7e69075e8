//! A circuit breaker: a registry that does not answer is left alone for a while, and then tried by one request.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Failures in a row that open the breaker.
const THRESHOLD: u32 = 5;
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// The breaker of one registry.
#[derive(Default)]
pub struct Breaker(Mutex<State>);

#[derive(Default)]
struct State {
    failures: u32,
    /// What was last said of a failure: the registry's state has one text, asked or not.
    last: String,
    open_until: Option<Instant>,
}

impl Breaker {
    /// Lets a request through, or says why the registry is still left alone.
    pub fn admit(&self) -> Result<(), String> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        match state.open_until {
            Some(until) if until > now => Err(state.last.clone()),
            // Half open: this one goes, the others wait for what it finds.
            Some(_) => {
                state.open_until = Some(now + pause(state.failures));
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Notes that the registry answered; any answer counts, but a 5xx.
    pub fn answered(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = State::default();
    }

    /// Notes that it did not, and why.
    pub fn failed(&self, why: &str) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        why.clone_into(&mut state.last);
        state.failures += 1;
        if state.failures >= THRESHOLD {
            state.open_until = Some(Instant::now() + pause(state.failures));
        }
    }
}

fn pause(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(THRESHOLD).min(8);
    (FIRST_PAUSE * 2u32.pow(doublings)).min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_silent_registry_is_left_alone_and_tried_by_one_request() {
        let breaker = Breaker::default();
        for _ in 0..THRESHOLD {
            assert_eq!(breaker.admit(), Ok(()), "closed until the threshold");
            breaker.failed("refused");
        }
        assert_eq!(breaker.admit(), Err("refused".to_owned()), "open, for the reason that was last seen");
        tokio::time::advance(FIRST_PAUSE).await;
        assert_eq!(breaker.admit(), Ok(()), "one may try");
        assert!(breaker.admit().is_err(), "the others wait for what it finds");
        breaker.failed("refused");
        tokio::time::advance(FIRST_PAUSE).await;
        assert!(breaker.admit().is_err(), "a longer pause");
        tokio::time::advance(FIRST_PAUSE).await;
        assert_eq!(breaker.admit(), Ok(()));
        breaker.answered();
        assert!((0..10).all(|_| breaker.admit().is_ok()), "closed again");
    }
}
