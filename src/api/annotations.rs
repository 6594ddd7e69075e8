//! The annotations that people and the operator exchange. All of them carry the prefix of the API group, but Flux's.

/// On a client, by the operator: what it was about to do at the registry (JSON, see [`crate::reconcile::intent`]).
pub const INTENT: &str = "oauth-operator.io/intent";

/// On a client, by people: any new value asks for a pass with a look at the registry; echoed in `status.lastHandledReconcileAt`.
pub const REQUESTED_AT: &str = "oauth-operator.io/requested-at";

/// The same from Flux (`flux reconcile`): <https://fluxcd.io/flux/components/kustomize/kustomizations/#triggering-a-reconcile>.
pub const FLUX_REQUESTED_AT: &str = "reconcile.fluxcd.io/requestedAt";

/// On a client, by people: the nonce of an attempt whose outcome is unknown; releases the next attempt.
pub const RESUME: &str = "oauth-operator.io/resume";

/// On a client, by people: `"true"` lets a deletion finish although the registry was not told.
pub const ABANDON: &str = "oauth-operator.io/abandon";

/// On a client, by people: any new value asks for one rotation of its secret; echoed in `status.rotation.lastHandled`.
pub const ROTATE: &str = "oauth-operator.io/rotate";

/// On a registry, by people: the value that its status names; what has changed there is right.
pub const ACCEPT: &str = "oauth-operator.io/accept";

/// On a user's Secret, by the operator: the record, where the registry shows secrets again and none is kept apart.
pub const RECORD: &str = "oauth-operator.io/record";

/// On a Secret, by the operator: the UID of the client that it belongs to. A Secret without it is never touched.
pub const OWNER_UID: &str = "oauth-operator.io/owner-uid";

/// On a Secret, by the operator: the installation that wrote it (the UID of the operator's namespace).
pub const INSTALLATION: &str = "oauth-operator.io/installation";

/// On a user's Secret, by the operator: the keys, labels and annotations that it wrote and may remove again.
pub const LAYOUT: &str = "oauth-operator.io/layout";

/// On a record, by the operator: namespace and name of the client, for people who look.
pub const CLIENT: &str = "oauth-operator.io/client";

/// On a record, by the operator: why it outlives its client (`Retained` or `Abandoned`).
pub const RELEASED: &str = "oauth-operator.io/released";

/// The value that asks for a pass, whichever of the two annotations carries it; ours wins.
pub fn requested_at(annotations: &std::collections::BTreeMap<String, String>) -> Option<&str> {
    annotations.get(REQUESTED_AT).or_else(|| annotations.get(FLUX_REQUESTED_AT)).map(String::as_str)
}
