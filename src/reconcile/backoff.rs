//! Growing delays per object. kube's controller has none; the queue only takes the delay that a pass returns.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Mutex, PoisonError},
    time::Duration,
};

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_mins(5);

/// The failures in a row of each object.
#[derive(Default)]
pub struct Backoff(Mutex<HashMap<String, Failures>>);

struct Failures {
    generation: Option<i64>,
    count: u32,
}

impl Backoff {
    /// Notes a failure and says how long to wait. Another generation starts again.
    pub fn failed(&self, uid: &str, generation: Option<i64>) -> Duration {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let failures = all.entry(uid.to_owned()).or_insert(Failures { generation, count: 0 });
        if failures.generation != generation {
            *failures = Failures { generation, count: 0 };
        }
        failures.count += 1;
        jittered((FIRST * 2u32.pow((failures.count - 1).min(16))).min(LONGEST), &(uid, failures.count))
    }

    /// Forgets an object's failures.
    pub fn forget(&self, uid: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(uid);
    }
}

/// 90 to 110 % of a delay, always the same for the same seed: a thousand objects do not come back at once.
pub fn jittered(delay: Duration, seed: &impl Hash) -> Duration {
    let mut hasher = DefaultHasher::new();
    seed.hash(&mut hasher);
    let percent = 90 + u32::try_from(hasher.finish() % 21).unwrap_or(10);
    delay * percent / 100
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_a_bound_and_start_again() {
        let backoff = Backoff::default();
        let delays: Vec<Duration> = (0..12).map(|_| backoff.failed("a", Some(1))).collect();
        assert!(delays[0] < FIRST * 2 && delays[3] > FIRST * 7, "{delays:?}");
        assert!(delays.iter().all(|delay| *delay <= LONGEST * 11 / 10), "{delays:?}");
        assert!(backoff.failed("b", Some(1)) < FIRST * 2, "each object has its own");
        assert!(backoff.failed("a", Some(2)) < FIRST * 2, "another generation starts again");
        backoff.forget("a");
        assert!(backoff.failed("a", Some(2)) < FIRST * 2, "a success starts again");
    }
}
