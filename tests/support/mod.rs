//! What the promises share: a real control plane, the real binaries, registries that misbehave, and one way to wait.
//!
//! Nothing in here knows the product's library: it is driven and watched from outside, as its users do it.

#![allow(clippy::expect_used, clippy::unwrap_used, clippy::print_stderr, reason = "a test may fail loudly")]
#![allow(clippy::missing_panics_doc, reason = "all of it panics when the machine is not as it should be")]

pub mod audit;
pub mod canary;
pub mod cluster;
pub mod development_registry;
pub mod fault;
pub mod helm;
pub mod hostile;
pub mod http;
pub mod judges;
pub mod oidc_provider;
pub mod operator;
pub mod peer;
pub mod ports;
pub mod process;
pub mod providers;
pub mod proxy;
pub mod release;
pub mod rights;
pub mod site;
pub mod token;
pub mod world;

pub use canary::assert_no_secret;
pub use cluster::Cluster;
pub use development_registry::DevelopmentRegistry;
pub use fault::{Action, FaultPlan, When};
pub use hostile::{Endpoint, HostileRegistry, Misbehaviour};
pub use oidc_provider::OidcProvider;
pub use operator::{Operator, OperatorOptions};
pub use peer::Peer;
pub use proxy::FaultProxy;
pub use world::{Kind, World, condition};

use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

/// Long enough for anything that is going to happen at all, on a slow and busy machine.
pub const PATIENCE: Duration = Duration::from_mins(1);

const PAUSE: Duration = Duration::from_millis(100);

/// Asks again and again until `condition` holds and returns what it found; its `Err` says why it does not hold yet.
/// The only place where a test waits.
///
/// # Panics
///
/// With the last reason, when `deadline` has passed.
pub async fn eventually<T>(
    what: &str,
    deadline: Duration,
    mut condition: impl AsyncFnMut() -> Result<T, String>,
) -> T {
    let end = Instant::now() + deadline;
    let mut last = "it never answered".to_owned();
    while Instant::now() < end {
        match timeout_at(end, condition()).await {
            Ok(Ok(found)) => return found,
            Ok(Err(reason)) => last = reason,
            Err(_) => break,
        }
        sleep(PAUSE).await;
    }
    panic!("not within {deadline:?}: {what}\n{last}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn eventually_asks_until_it_holds() {
        let mut asked = 0;
        let found = eventually("third time lucky", PATIENCE, async || {
            asked += 1;
            if asked == 3 { Ok("luck") } else { Err(format!("only {asked}")) }
        })
        .await;
        assert_eq!((found, asked), ("luck", 3));
    }

    #[tokio::test]
    #[should_panic(expected = "not within 250ms: pigs to fly\nstill on the ground")]
    async fn eventually_gives_up_with_the_last_reason() {
        eventually::<()>("pigs to fly", Duration::from_millis(250), async || {
            Err("still on the ground".to_owned())
        })
        .await;
    }

    #[tokio::test]
    #[should_panic(expected = "it never answered")]
    async fn eventually_outlives_a_condition_that_hangs() {
        eventually::<()>("an answer", Duration::from_millis(50), std::future::pending).await;
    }
}
