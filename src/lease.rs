//! One of several replicas works: whoever holds the Lease. The others wait, and take it over when it is let go or not renewed.
//!
//! Clocks of different machines are never compared: a Lease is old when it has not changed for its duration here. No write rests on
//! it: two that both believe to hold it lose races like any two passes. It keeps them from doing everything twice, and one that stood
//! still from reading where a read changes the secret: see [`Turn`].

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::TryStreamExt;
use k8s_openapi::{
    api::coordination::v1::{Lease as Object, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{
    Api, Client,
    api::{PostParams, WatchEvent, WatchParams},
};
use thiserror::Error;
use tokio::time::{Instant, sleep, timeout};

use crate::clock::Clock;

/// Its name, in the operator's namespace.
pub const NAME: &str = "oauth-operator";

/// Whoever has not renewed it for so long has lost it.
const DURATION: Duration = Duration::from_secs(15);
/// How often its holder renews it.
const RENEW_EVERY: Duration = Duration::from_secs(3);
/// A holder that may not renew it for so long gives up, before anybody else may take it.
const GIVE_UP_AFTER: Duration = Duration::from_secs(10);
/// How long after an error it is tried again, and how long one request may take.
const RETRY: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(3);

/// Why a holder must stop at once.
#[derive(Debug, Error)]
pub enum Lost {
    /// Somebody else has it.
    #[error("the Lease {NAME} is held by {0} now")]
    Taken(String),
    /// The API server does not let us renew it.
    #[error("the Lease {NAME} cannot be renewed: {0}")]
    Refused(kube::Error),
}

/// Whether this process may begin something: nobody else can have the Lease yet. By default it is the only one, and always may.
#[derive(Clone, Debug, Default)]
pub struct Turn(Option<Arc<Mutex<Instant>>>);

impl Turn {
    /// Not ours before the Lease is.
    fn by_lease() -> Self {
        Self(Some(Arc::new(Mutex::new(Instant::now()))))
    }

    /// Whether it is ours at this moment. Whoever stood still learns so before any request tells it.
    pub fn is_ours(&self) -> bool {
        let end = |turn: &Mutex<Instant>| *turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.as_deref().is_none_or(|turn| Instant::now() < end(turn))
    }

    fn ends(&self, at: Instant) {
        if let Some(turn) = &self.0 {
            *turn.lock().unwrap_or_else(PoisonError::into_inner) = at;
        }
    }
}

/// The Lease, for one that would like to hold it.
pub struct Lease {
    leases: Api<Object>,
    clock: Clock,
    identity: String,
    turn: Turn,
}

/// The Lease, for the one that holds it.
pub struct Held {
    lease: Lease,
    object: Object,
}

/// A Lease as it was seen, and when it was first seen like that.
struct Seen {
    version: Option<String>,
    since: Instant,
}

impl Lease {
    /// The Lease in the operator's namespace. An `identity` belongs to one process at a time.
    pub fn new(client: Client, clock: Clock, namespace: &str, identity: String) -> Self {
        Self { leases: Api::namespaced(client, namespace), clock, identity, turn: Turn::by_lease() }
    }

    /// Waits until it is ours. `read` is called whenever the API server has shown the Lease.
    pub async fn acquire(self, read: impl Fn()) -> Held {
        let mut seen: Option<Seen> = None;
        loop {
            match self.try_acquire(&mut seen, &read).await {
                Ok(Some(object)) => return Held { lease: self, object },
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%error, "the Lease {NAME} cannot be had; trying again");
                    sleep(RETRY).await;
                }
            }
        }
    }

    /// One try: takes it if nobody holds it; else waits until it changes or grows old.
    async fn try_acquire(&self, seen: &mut Option<Seen>, read: impl Fn()) -> kube::Result<Option<Object>> {
        let Some(found) = bounded(self.leases.get_opt(NAME)).await? else {
            read();
            return won(self.claim(self.leases.create(&PostParams::default(), &self.ours(None))).await);
        };
        read();
        let version = found.metadata.resource_version.clone();
        if seen.as_ref().is_none_or(|seen| seen.version != version) {
            *seen = Some(Seen { version, since: Instant::now() });
        }
        let age = seen.as_ref().map(|seen| seen.since.elapsed()).unwrap_or_default();
        let left = remaining(&found, &self.identity, age);
        if left.is_zero() {
            return won(self.write(&self.ours(Some(&found))).await);
        }
        self.changed(&found, left).await?;
        Ok(None)
    }

    /// Waits for the next change, so long at most.
    async fn changed(&self, found: &Object, at_most: Duration) -> kube::Result<()> {
        let version = found.metadata.resource_version.clone().unwrap_or_default();
        let one = WatchParams::default().fields(&format!("metadata.name={NAME}"));
        let change = async {
            let mut events = Box::pin(self.leases.watch(&one, &version).await?);
            while let Some(event) = events.try_next().await? {
                match event {
                    WatchEvent::Error(status) => return Err(kube::Error::Api(status)),
                    WatchEvent::Bookmark(_) => {}
                    _ => return Ok(()),
                }
            }
            // Ended by the API server: not so often that it hurts.
            sleep(RETRY).await;
            Ok(())
        };
        timeout(at_most, change).await.unwrap_or(Ok(()))
    }

    /// What the Lease is to say from now on.
    fn ours(&self, found: Option<&Object>) -> Object {
        let before = found.and_then(|found| found.spec.as_ref());
        let transitions = before.map_or(0, |spec| spec.lease_transitions.unwrap_or(0).saturating_add(1));
        let metadata = found.map_or_else(
            || ObjectMeta { name: Some(NAME.into()), ..ObjectMeta::default() },
            |found| found.metadata.clone(),
        );
        let now = MicroTime(self.clock.now());
        let spec = LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(seconds(DURATION)),
            acquire_time: Some(now.clone()),
            renew_time: Some(now),
            lease_transitions: Some(transitions),
            ..LeaseSpec::default()
        };
        Object { metadata, spec: Some(spec) }
    }

    /// Writes it at the version that it bears.
    async fn write(&self, object: &Object) -> kube::Result<Object> {
        self.claim(self.leases.replace(NAME, &PostParams::default(), object)).await
    }

    /// Sends what makes it ours. Others wait for its duration from when they see that, which is later than now.
    async fn claim(&self, request: impl Future<Output = kube::Result<Object>>) -> kube::Result<Object> {
        let sent = Instant::now();
        let written = bounded(request).await?;
        self.turn.ends(sent + DURATION);
        Ok(written)
    }
}

impl Held {
    /// Whether it is surely ours, at any moment.
    pub fn turn(&self) -> Turn {
        self.lease.turn.clone()
    }

    /// Renews it until somebody else has it, or until the API server has said no for long. While it says nothing this one goes on:
    /// nobody else can take it then, and what a pass has in hand is kept nowhere else.
    pub async fn keep(&mut self) -> Lost {
        let mut refused: Option<Instant> = None;
        loop {
            sleep(if refused.is_some() { RETRY } else { RENEW_EVERY }).await;
            match self.renew().await {
                Ok(()) => refused = None,
                Err(Failed::Taken(by)) => {
                    self.lease.turn.ends(Instant::now());
                    return Lost::Taken(by);
                }
                Err(Failed::Error(error)) => {
                    tracing::warn!(%error, "the Lease {NAME} is not renewed yet; trying again");
                    let since = is_refusal(&error).then(|| refused.unwrap_or_else(Instant::now));
                    if since.is_some_and(|since| since.elapsed() >= GIVE_UP_AFTER) {
                        return Lost::Refused(error);
                    }
                    refused = since;
                }
            }
        }
    }

    /// Lets it go, so that another one need not wait until it is old.
    pub async fn release(mut self) {
        let released = timeout(PATIENCE, self.rewrite(|spec| spec.holder_identity = None)).await;
        if !matches!(released, Ok(Ok(()))) {
            tracing::warn!(
                "the Lease {NAME} could not be let go; another one has it in {} s",
                DURATION.as_secs()
            );
        }
    }

    async fn renew(&mut self) -> Result<(), Failed> {
        let now = MicroTime(self.lease.clock.now());
        self.rewrite(|spec| spec.renew_time = Some(now.clone())).await
    }

    /// Changes what we hold. Its version may have moved on without it having been taken: by a renewal whose reply was lost, or by a label.
    async fn rewrite(&mut self, change: impl Fn(&mut LeaseSpec)) -> Result<(), Failed> {
        loop {
            let mut object = self.object.clone();
            change(object.spec.get_or_insert_default());
            match self.lease.write(&object).await {
                Ok(written) => {
                    self.object = written;
                    return Ok(());
                }
                Err(kube::Error::Api(status)) if status.is_conflict() || status.is_not_found() => {}
                Err(error) => return Err(Failed::Error(error)),
            }
            let found = bounded(self.lease.leases.get_opt(NAME)).await.map_err(Failed::Error)?;
            let holder = found.as_ref().and_then(holder).unwrap_or_default().to_owned();
            match found {
                Some(found) if holder == self.lease.identity => self.object = found,
                _ => return Err(Failed::Taken(if holder.is_empty() { "nobody".into() } else { holder })),
            }
        }
    }
}

/// Why a holder could not write the Lease.
#[derive(Debug, Error)]
enum Failed {
    #[error("it is held by {0}")]
    Taken(String),
    #[error("{0}")]
    Error(kube::Error),
}

fn holder(lease: &Object) -> Option<&str> {
    lease.spec.as_ref()?.holder_identity.as_deref().filter(|holder| !holder.is_empty())
}

/// How long it is still somebody else's, if it has not changed for this long.
fn remaining(lease: &Object, identity: &str, unchanged_for: Duration) -> Duration {
    if holder(lease).is_none_or(|holder| holder == identity) {
        return Duration::ZERO;
    }
    let declared = lease.spec.as_ref().and_then(|spec| u64::try_from(spec.lease_duration_seconds?).ok());
    declared.map_or(DURATION, Duration::from_secs).saturating_sub(unchanged_for)
}

/// Whoever was faster has it; that is no error.
fn won(written: kube::Result<Object>) -> kube::Result<Option<Object>> {
    match written {
        Ok(object) => Ok(Some(object)),
        Err(kube::Error::Api(status)) if status.is_conflict() || status.is_already_exists() => Ok(None),
        Err(error) => Err(error),
    }
}

async fn bounded<T>(request: impl Future<Output = kube::Result<T>>) -> kube::Result<T> {
    timeout(PATIENCE, request).await.unwrap_or_else(|_| {
        let late = format!("the API server did not answer within {} s", PATIENCE.as_secs());
        Err(kube::Error::Service(late.into()))
    })
}

/// Whether the API server has said no, and not only that it cannot at the moment.
fn is_refusal(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if (400..500).contains(&status.code) && status.code != 429)
}

fn seconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_secs()).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn lease(spec: &serde_json::Value) -> Object {
        serde_json::from_value(json!({"metadata": {"name": NAME, "resourceVersion": "7"}, "spec": spec}))
            .unwrap()
    }

    #[test]
    fn a_lease_is_anothers_until_it_has_not_changed_for_its_duration() {
        let held = json!({"holderIdentity": "b", "leaseDurationSeconds": 15});
        let cases = [
            (held.clone(), 0, 15, "just seen"),
            (held.clone(), 14, 1, "almost old"),
            (held.clone(), 15, 0, "old"),
            (held, 90, 0, "very old"),
            (
                json!({"holderIdentity": "b", "leaseDurationSeconds": 60}),
                15,
                45,
                "its holder counts otherwise",
            ),
            (json!({"holderIdentity": "b"}), 0, 15, "its holder does not say"),
            (json!({"holderIdentity": "b", "leaseDurationSeconds": -1}), 0, 15, "nonsense"),
            (json!({"holderIdentity": "", "leaseDurationSeconds": 15}), 0, 0, "let go"),
            (json!({"leaseDurationSeconds": 15}), 0, 0, "let go"),
            (json!({"holderIdentity": "a", "leaseDurationSeconds": 15}), 0, 0, "ours, from before a restart"),
        ];
        for (spec, unchanged, left, reason) in cases {
            let left_now = remaining(&lease(&spec), "a", Duration::from_secs(unchanged));
            assert_eq!(left_now.as_secs(), left, "{reason}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_stood_still_for_the_duration_may_begin_nothing() {
        let (alone, turn) = (Turn::default(), Turn::by_lease());
        assert!(alone.is_ours(), "there is no other one");
        assert!(!turn.is_ours(), "nobody has acquired it");
        turn.ends(Instant::now() + DURATION);
        tokio::time::advance(DURATION.saturating_sub(Duration::from_millis(1))).await;
        assert!(turn.is_ours(), "nobody else has found it old");
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(!turn.is_ours() && alone.is_ours(), "somebody may have");
        turn.ends(Instant::now() + DURATION);
        turn.ends(Instant::now());
        assert!(!turn.is_ours(), "it is known to be another's");
    }

    #[test]
    fn a_holder_gives_up_when_it_is_told_no_and_not_when_nobody_answers() {
        let answered = |code| kube::Error::Api(Box::new(kube::core::Status { code, ..Default::default() }));
        let cases = [
            (answered(403), true, "the right was taken away"),
            (answered(422), true, "a policy"),
            (answered(429), false, "too many requests"),
            (answered(500), false, "the API server is not well"),
            (kube::Error::Service("no route".into()), false, "it cannot be reached"),
        ];
        for (error, refusal, reason) in cases {
            assert_eq!(is_refusal(&error), refusal, "{reason}");
        }
    }
}
