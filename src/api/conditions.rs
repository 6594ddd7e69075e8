//! Conditions: their types, the one way to set them, and what kstatus reads from them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The summary: the client is at the registry as declared and its credentials are in the Secret.
pub const READY: &str = "Ready";
/// The registry has the client, as declared.
pub const REGISTERED: &str = "Registered";
/// The Secret holds the credentials.
pub const CREDENTIALS_STORED: &str = "CredentialsStored";
/// `spec.suspend` is set and the operator keeps its hands off. Absent otherwise.
pub const SUSPENDED: &str = "Suspended";
/// kstatus: not there yet, and the operator goes on trying. Absent otherwise.
pub const RECONCILING: &str = "Reconciling";
/// kstatus: a dead end until somebody changes something. Absent otherwise.
pub const STALLED: &str = "Stalled";

/// One observation about an object, as the Kubernetes API conventions describe conditions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// What is observed, for example `Ready`.
    #[serde(rename = "type")]
    #[schemars(length(min = 1, max = 316))]
    pub type_: String,
    /// Whether it is so.
    pub status: ConditionStatus,
    /// The `metadata.generation` that this was observed of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,
    /// When `status` last changed.
    pub last_transition_time: Time,
    /// Why, in one word that programs may rely on.
    #[schemars(length(min = 1, max = 1024))]
    pub reason: String,
    /// Why, for people, with what to do next.
    #[schemars(length(max = 32_768))]
    pub message: String,
}

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ConditionStatus {
    /// It is so.
    True,
    /// It is not so.
    False,
    /// Nobody can tell at the moment.
    Unknown,
}

/// Sets the one of `Reconciling` and `Stalled` that is true, if any, and removes the other.
pub fn set_kstatus(conditions: &mut Vec<Condition>, so: Option<Condition>) {
    for type_ in [RECONCILING, STALLED] {
        if so.as_ref().is_none_or(|new| new.type_ != type_) {
            remove(conditions, type_);
        }
    }
    if let Some(new) = so {
        set(conditions, new);
    }
}

/// Removes a condition that is only there while it is true.
pub fn remove(conditions: &mut Vec<Condition>, type_: &str) {
    conditions.retain(|condition| condition.type_ != type_);
}

/// Puts `new` among `conditions`, keeping the transition time unless the status really changed.
pub fn set(conditions: &mut Vec<Condition>, mut new: Condition) {
    match conditions.iter_mut().find(|c| c.type_ == new.type_) {
        Some(old) => {
            if old.status == new.status {
                new.last_transition_time = old.last_transition_time.clone();
            }
            *old = new;
        }
        None => conditions.push(new),
    }
}

/// The condition of this type, if there is one.
pub fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|c| c.type_ == type_)
}
