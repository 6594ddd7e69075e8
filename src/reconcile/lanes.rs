//! Passes at once, for each registry: one that hangs holds its own lane only.

use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::registry::SessionKey;

/// The lanes of all registries.
pub struct Lanes {
    width: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    closed: bool,
    lanes: HashMap<SessionKey, Arc<Semaphore>>,
}

impl Lanes {
    /// No lane yet; so many passes will fit into each.
    pub fn new(width: usize) -> Self {
        Self { width, state: Mutex::default() }
    }

    /// Waits for room in a registry's lane, first come first served. `None` once the lanes are closed.
    pub fn enter(&self, key: SessionKey) -> impl Future<Output = Option<OwnedSemaphorePermit>> + use<> {
        // Looked up now, so that ten thousand who wait hold a pointer each and no key.
        let lane = self.lane(key);
        async { lane?.acquire_owned().await.ok() }
    }

    /// Sends away whoever waits, and whoever comes still. Who is in goes on.
    pub fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        for (_, lane) in state.lanes.drain() {
            lane.close();
        }
    }

    fn lane(&self, key: SessionKey) -> Option<Arc<Semaphore>> {
        let mut state = self.state();
        if state.closed {
            return None;
        }
        if let Some(lane) = state.lanes.get(&key) {
            return Some(lane.clone());
        }
        // Whoever is in a lane or waits for it holds it: the others are not missed. Registries come and go.
        state.lanes.retain(|_, lane| Arc::strong_count(lane) > 1);
        let lane = Arc::new(Semaphore::new(self.width));
        state.lanes.insert(key, lane.clone());
        Some(lane)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::{future::pending, time::Duration};

    use futures::{FutureExt, future::join_all};
    use tokio::{task::JoinSet, time::Instant};

    use super::*;
    use crate::{
        api::{OAuthClient, RegistryKind},
        reconcile::{Context, reconcile},
    };

    const WIDTH: usize = 8;

    fn of(name: &str) -> SessionKey {
        SessionKey { kind: RegistryKind::OAuthRegistry, namespace: "shop".into(), name: name.into() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_registry_that_hangs_delays_no_client_of_another_one() {
        let (lanes, began) = (Arc::new(Lanes::new(WIDTH)), Instant::now());
        let mut hung = JoinSet::new();
        for _ in 0..200 {
            let lanes = lanes.clone();
            hung.spawn(async move {
                let _permit = lanes.enter(of("hung")).await;
                pending::<()>().await;
            });
        }
        // The clock moves only when all who can go have gone.
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(lanes.enter(of("hung")).now_or_never().is_none(), "its lane is full");
        let pass = async || {
            let permit = lanes.enter(of("good")).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
            permit
        };
        let passes = join_all((0..WIDTH).map(|_| pass())).await;
        assert!(passes.iter().all(Option::is_some), "they had their turns");
        assert_eq!(began.elapsed(), Duration::from_millis(1100), "as if there were no other registry");
        assert!(lanes.enter(of("good")).now_or_never().is_none(), "a lane is as wide as told, and no wider");
    }

    #[tokio::test]
    async fn the_same_name_elsewhere_or_of_another_kind_is_another_registry() {
        let lanes = Lanes::new(1);
        let elsewhere = SessionKey { namespace: "till".into(), ..of("one") };
        let cluster =
            SessionKey { kind: RegistryKind::ClusterOAuthRegistry, namespace: String::new(), ..of("one") };
        let held = join_all([of("one"), elsewhere, cluster].map(|key| lanes.enter(key))).now_or_never();
        assert!(held.is_some_and(|held| held.iter().all(Option::is_some)));
    }

    #[tokio::test]
    async fn who_waits_is_sent_away_at_the_end_and_who_is_in_goes_on() {
        let lanes = Lanes::new(1);
        let inside = lanes.enter(of("one")).await;
        let mut waiting = lanes.enter(of("one")).boxed();
        assert!((&mut waiting).now_or_never().is_none(), "it waits");
        lanes.close();
        assert!(matches!((&mut waiting).now_or_never(), Some(None)), "sent away at once");
        assert!(matches!(lanes.enter(of("one")).now_or_never(), Some(None)), "and who comes still");
        assert!(matches!(lanes.enter(of("new")).now_or_never(), Some(None)), "whatever its registry");
        drop(inside);
        assert!(matches!(lanes.enter(of("one")).now_or_never(), Some(None)), "room or not");
    }

    #[tokio::test]
    async fn lanes_that_nobody_uses_go_when_a_new_one_comes() {
        let lanes = Lanes::new(1);
        for number in 0..100 {
            drop(lanes.enter(of(&number.to_string())).await);
        }
        assert_eq!(lanes.state().lanes.len(), 1, "but for the last one");
        let inside = lanes.enter(of("held")).await;
        let mut waiting = lanes.enter(of("held")).boxed();
        assert!((&mut waiting).now_or_never().is_none());
        drop(lanes.enter(of("new")).await);
        drop(inside);
        assert!(waiting.await.is_some(), "who waited in a lane that stayed has its turn");
        drop(lanes.enter(of("newer")).await);
        assert_eq!(lanes.state().lanes.len(), 1, "and then it goes too");
    }

    #[test]
    fn a_client_that_waits_costs_little_memory() {
        fn size<F: Future>(_: impl Fn(Arc<OAuthClient>, Arc<Context>) -> F) -> usize {
            size_of::<F>()
        }
        let size = size(reconcile);
        println!("{size} bytes");
        assert!(size < 1024, "{size} bytes for each of ten thousand");
    }
}
