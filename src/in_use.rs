//! Keeps a registry object that is deleted together with its clients until they are deregistered: for a bounded time, since a
//! client that nobody deletes must not hold it for ever.

use std::{collections::HashMap, time::Duration};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::runtime::reflector::Store;
use serde_json::json;
use tokio::time::Instant;

use crate::{
    api::IN_USE,
    reconcile::{Context, PassError, gather},
    registry::SessionKey,
    registry_objects::{self, Part, RegistryObject},
};

/// After the API server has refused to hold or release a registry.
const PAUSE: Duration = Duration::from_mins(1);

/// How many clients each registry has: those that have begun there. One that was never let in holds nothing.
pub fn users(context: &Context) -> HashMap<SessionKey, u32> {
    let mut users = HashMap::new();
    for client in context.clients.iter().flat_map(Store::state) {
        if client.is_held() {
            *users.entry(gather::key_of(&client)).or_default() += 1;
        }
    }
    users
}

/// Holds and releases registries.
#[derive(Default)]
pub struct Holds {
    refused: HashMap<SessionKey, Instant>,
}

impl Holds {
    /// Writes or takes away the finalizer of a registry that has so many clients, if that is due.
    pub async fn settle(&mut self, context: &Context, object: &RegistryObject, clients: u32) {
        let (now, timeout) = (context.clock.now(), context.settings.deletion_timeout);
        let Some(finalizers) = due(&object.metadata, clients, now, timeout) else { return };
        let paused = self.refused.get(&object.key).is_some_and(|at| at.elapsed() < PAUSE);
        if paused {
            return;
        }
        // Somebody else may have written a finalizer meanwhile.
        let version = &object.metadata.resource_version;
        let patch = json!({"metadata": {"resourceVersion": version, "finalizers": finalizers}});
        match registry_objects::patch(
            context,
            &object.key,
            "write the registry's finalizer",
            Part::Object,
            &patch,
        )
        .await
        {
            Ok(()) | Err(PassError::Stale) => self.refused.remove(&object.key),
            Err(error) => {
                tracing::warn!(%error, registry = object.key.name, "the registry may be gone before its clients");
                self.refused.insert(object.key.clone(), Instant::now())
            }
        };
    }
}

/// The finalizers that a registry should have, if it has others.
fn due(metadata: &ObjectMeta, clients: u32, now: Timestamp, timeout: Duration) -> Option<Vec<String>> {
    let mut finalizers = metadata.finalizers.clone().unwrap_or_default();
    let held = finalizers.iter().any(|finalizer| finalizer == IN_USE);
    let in_time = metadata.deletion_timestamp.as_ref().is_none_or(|began| {
        let elapsed = Duration::try_from(now.duration_since(began.0)).unwrap_or_default();
        // Nothing can be held that is already going.
        held && elapsed < timeout
    });
    let wanted = clients > 0 && in_time;
    if wanted == held {
        return None;
    }
    finalizers.retain(|finalizer| finalizer != IN_USE);
    finalizers.extend(wanted.then(|| IN_USE.to_owned()));
    Some(finalizers)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;
    use crate::reconcile::next::tests::given::{DELETION, ago, now};

    /// Finalizers, clients, how long it is being deleted; the finalizers that are due, and why.
    type Row<'a> = (&'a [&'a str], u32, Option<i64>, Option<&'a [&'a str]>, &'a str);

    #[test]
    fn a_registry_is_held_as_long_as_it_has_clients_but_its_deletion_ends() {
        let (ours, theirs) = (IN_USE, "example.com/theirs");
        let timeout = i64::try_from(DELETION.as_secs()).unwrap();
        let rows: [Row; 12] = [
            (&[], 0, None, None, "nobody is there"),
            (&[], 1, None, Some(&[ours]), "the first one comes"),
            (&[ours], 9, None, None, "it is held"),
            (&[ours], 0, None, Some(&[]), "the last one went"),
            (&[theirs], 1, None, Some(&[theirs, ours]), "somebody else holds it, too"),
            (&[theirs, ours], 0, None, Some(&[theirs]), "theirs is theirs"),
            (&[ours], 1, Some(0), None, "it waits for its clients"),
            (&[ours], 1, Some(timeout - 1), None, "as long as they may take"),
            (&[ours], 1, Some(timeout), Some(&[]), "but not for ever"),
            (&[ours], 0, Some(1), Some(&[]), "they are gone"),
            (&[theirs], 1, Some(1), None, "what is going cannot be held any more"),
            (&[theirs], 0, Some(1), None, "nor does it have to be"),
        ];
        for (finalizers, clients, deleted, expected, reason) in rows {
            let owned = |finalizers: &[&str]| finalizers.iter().map(ToString::to_string).collect::<Vec<_>>();
            let metadata = ObjectMeta {
                finalizers: Some(owned(finalizers)),
                deletion_timestamp: deleted.map(|seconds| Time(ago(seconds))),
                ..ObjectMeta::default()
            };
            assert_eq!(due(&metadata, clients, now(), DELETION), expected.map(owned), "{reason}");
        }
    }
}
