//! When a client secret is changed, and what that means at its registry. Pure.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{
    api::{OAuthClient, annotations},
    registry::Rotation,
};

/// How long what is replaced goes on working if nobody says.
const OVERLAP: Duration = Duration::from_hours(1);
/// Clients come up to this part of the interval earlier, so that not all come at once.
const SPREAD: u32 = 10;

/// When a secret was changed, and when it is changed next. Kept in the record: what is due does not depend on a restart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Schedule {
    /// The interval that `next` was reckoned from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<Duration>,
    /// When the secret was last changed on purpose.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Timestamp>,
    /// When it is changed next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Timestamp>,
    /// The value of the annotation `rotate` that was acted upon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handled: Option<String>,
}

impl Schedule {
    /// The schedule from now on. What was asked for by annotation counts as done.
    #[must_use]
    pub fn begun(client: &OAuthClient, last: Option<Timestamp>, now: Timestamp) -> Self {
        let every = every(client);
        let next = every.and_then(|every| {
            let early = every.mul_f64(fraction(client) / f64::from(SPREAD));
            now.checked_add(SignedDuration::try_from(every.saturating_sub(early)).ok()?).ok()
        });
        Self { every, last, next, handled: asked(client).map(str::to_owned) }
    }

    /// The same schedule with the interval that is declared now, reckoned from now: a thousand clients whose interval is long over
    /// do not all come at once.
    #[must_use]
    pub fn followed(&self, client: &OAuthClient, now: Timestamp) -> Self {
        let begun = Self::begun(client, self.last, now);
        Self { handled: self.handled.clone(), ..begun }
    }

    /// Whether the interval that is declared is another one.
    pub fn is_behind(&self, client: &OAuthClient) -> bool {
        self.every != every(client)
    }

    /// Whether it is time, or somebody asked for it.
    pub fn is_due(&self, client: &OAuthClient, now: Timestamp) -> bool {
        let told = asked(client).is_some_and(|asked| self.handled.as_deref() != Some(asked));
        told || self.next.is_some_and(|next| next <= now)
    }
}

/// What people asked for by annotation, as far as a status can repeat it.
fn asked(client: &OAuthClient) -> Option<&str> {
    const REPEATED: usize = 1024;
    let asked = client.metadata.annotations.as_ref()?.get(annotations::ROTATE)?;
    (!asked.is_empty() && asked.len() <= REPEATED).then_some(asked)
}

fn every(client: &OAuthClient) -> Option<Duration> {
    client.spec.rotation.as_ref()?.every.as_ref()?.get()
}

/// Whether rotation is declared or asked for.
pub fn is_wanted(client: &OAuthClient) -> bool {
    every(client).is_some() || asked(client).is_some()
}

/// How long the old secret or client goes on working.
pub fn overlap(client: &OAuthClient) -> Duration {
    let declared = client.spec.rotation.as_ref().and_then(|rotation| rotation.overlap.as_ref()?.get());
    declared.unwrap_or_else(|| every(client).map_or(OVERLAP, |every| OVERLAP.min(every / 2)))
}

/// The name of what a rotation does, for status.
pub fn strategy(rotation: Rotation) -> &'static str {
    match rotation {
        Rotation::Recreate => "Recreate",
        Rotation::Replace => "Replace",
        Rotation::Overlap => "Overlap",
    }
}

/// From 0 to 1, the same for a client at all times.
fn fraction(client: &OAuthClient) -> f64 {
    const STEPS: u32 = 1 << 16;
    let mut hasher = DefaultHasher::new();
    client.metadata.uid.hash(&mut hasher);
    let step = u32::try_from(hasher.finish() % u64::from(STEPS)).unwrap_or_default();
    f64::from(step) / f64::from(STEPS)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn client(uid: &str, rotation: &serde_json::Value, rotate: Option<&str>) -> OAuthClient {
        let annotations = rotate.map(|token| json!({annotations::ROTATE: token}));
        serde_json::from_value(json!({
            "apiVersion": "oauth-operator.io/v1alpha1", "kind": "OAuthClient",
            "metadata": {"name": "app", "namespace": "ns", "uid": uid, "annotations": annotations},
            "spec": {"registryRef": {"name": "dev"}, "rotation": rotation},
        }))
        .unwrap()
    }

    fn now() -> Timestamp {
        "2030-01-01T00:00:00Z".parse().unwrap()
    }

    #[test]
    fn a_thousand_clients_spread_over_a_tenth_of_the_interval_and_none_is_late() {
        let of = |n: usize| client(&format!("uid-{n}"), &json!({"every": "100h"}), None);
        let next = |n| Schedule::begun(&of(n), None, now()).next.unwrap().duration_since(now()).as_secs();
        let mut all: Vec<i64> = (0..1000).map(next).collect();
        all.sort_unstable();
        assert!(all[0] >= 90 * 3600 && all[999] <= 100 * 3600, "{} to {}", all[0], all[999]);
        let busiest = all.windows(50).map(|window| window[49] - window[0]).min().unwrap();
        assert!(busiest > 15 * 60, "fifty within {busiest} s of a spread of ten hours");
    }

    #[test]
    fn a_rotation_is_due_by_time_or_by_word() {
        let hourly = json!({"every": "1h"});
        let begun = Schedule::begun(&client("u", &hourly, Some("a")), None, now());
        let later = now() + SignedDuration::from_hours(1);
        let cases = [
            (client("u", &hourly, Some("a")), now(), false, "the word was there from the beginning"),
            (client("u", &hourly, Some("b")), now(), true, "another word"),
            (client("u", &hourly, None), now(), false, "the word was taken away"),
            (client("u", &hourly, Some("")), now(), false, "no word"),
            (
                client("u", &hourly, Some(&"x".repeat(1025))),
                now(),
                false,
                "a word that no status could repeat",
            ),
            (client("u", &hourly, Some("a")), later, true, "an hour later"),
        ];
        for (client, at, due, reason) in cases {
            assert_eq!(begun.is_due(&client, at), due, "{reason}");
        }
    }

    #[test]
    fn another_interval_counts_from_now_and_keeps_what_was_handled() {
        let begun = Schedule::begun(&client("u", &json!(null), Some("a")), None, now());
        assert_eq!((begun.next, begun.handled.as_deref()), (None, Some("a")), "no interval, no next time");
        let declared = client("u", &json!({"every": "10h"}), Some("b"));
        assert!(begun.is_behind(&declared));
        let later = now() + SignedDuration::from_hours(1000);
        let followed = begun.followed(&declared, later);
        assert!(
            followed.next.unwrap() >= later + SignedDuration::from_hours(9),
            "from now, not from long ago"
        );
        assert!(followed.is_due(&declared, later), "the word was not handled yet");
    }

    #[test]
    fn the_overlap_is_as_declared_or_shorter_than_the_interval() {
        let cases = [
            (json!(null), 3600, "an hour"),
            (json!({"every": "30m"}), 900, "half of a short interval"),
            (json!({"every": "720h"}), 3600, "an hour"),
            (json!({"every": "720h", "overlap": "24h"}), 24 * 3600, "as declared"),
            (json!({"overlap": "0s"}), 0, "none at all"),
        ];
        for (rotation, seconds, reason) in cases {
            assert_eq!(overlap(&client("u", &rotation, None)).as_secs(), seconds, "{reason}");
        }
    }
}
