//! The rules of the protocol by name. They always hold; a build for the simulator can switch one off and see what it is for.

/// A rule that the plain protocol (announce, register, store, publish) lacks, or one step of its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Finalizer and intent are written before the first effect.
    WriteAhead,
    /// A fresh nonce before every registration and every change of a secret.
    Nonce,
    /// Every write to the object carries the `resourceVersion` of the pass.
    Guard,
    /// The object is read again before the first effect: what was gathered hangs together.
    Collect,
    /// What a registration brought is stored before anything else.
    Commit,
    /// The record is created, never written over.
    CreateOnce,
    /// Who loses the race for the record removes the client it made.
    Loser,
    /// A client that was found again gets its secret under an attempt of its own.
    Own,
    /// The mark comes off only after the object names the client.
    IdFirst,
    /// A secret that nobody knows is removed only after a write that a rival's would fail against.
    Fence,
    /// No change of a secret, and no second registration, until every older request must be over.
    Settle,
    /// The secret is compared with what the registry shows of it.
    Verify,
    /// What a tenant could have written leads to no other client.
    Trust,
    /// Only what is neither recorded nor named nor under way is swept.
    Sweep,
    /// A record outlives its object until its client is deregistered.
    Outlive,
    /// Client, then record, then finalizer.
    DeletionOrder,
    /// A client is gone when that is seen twice.
    ProvenAbsence,
    /// Many clients that vanish at once are not believed to be gone.
    MassAbsence,
    /// Who may have lost the Lease begins nothing.
    Turn,
}

impl Rule {
    /// All of them.
    pub const ALL: [Self; 19] = [
        Self::WriteAhead,
        Self::Nonce,
        Self::Guard,
        Self::Collect,
        Self::Commit,
        Self::CreateOnce,
        Self::Loser,
        Self::Own,
        Self::IdFirst,
        Self::Fence,
        Self::Settle,
        Self::Verify,
        Self::Trust,
        Self::Sweep,
        Self::Outlive,
        Self::DeletionOrder,
        Self::ProvenAbsence,
        Self::MassAbsence,
        Self::Turn,
    ];

    /// Whether the rule is kept.
    #[cfg(not(feature = "simulation"))]
    pub const fn holds(self) -> bool {
        true
    }

    /// Whether the rule is kept on this thread.
    #[cfg(feature = "simulation")]
    pub fn holds(self) -> bool {
        off::RULE.get() != Some(self)
    }
}

/// Whether the n-th rule of [`mod@super::next`] is heard.
#[cfg(not(feature = "simulation"))]
pub const fn is_heard(_: usize) -> bool {
    true
}

/// Whether the n-th rule of [`mod@super::next`] is heard on this thread.
#[cfg(feature = "simulation")]
pub fn is_heard(n: usize) -> bool {
    off::NUMBER.get() != Some(n)
}

/// Switches rules off, on this thread.
#[cfg(feature = "simulation")]
pub mod off {
    use std::cell::Cell;

    use super::Rule;

    thread_local! {
        pub(super) static RULE: Cell<Option<Rule>> = const { Cell::new(None) };
        pub(super) static NUMBER: Cell<Option<usize>> = const { Cell::new(None) };
    }

    /// This rule of the protocol is not kept from now on; all are after `None`.
    pub fn rule(rule: Option<Rule>) {
        RULE.set(rule);
    }

    /// The n-th rule over the facts is not heard from now on; all are after `None`.
    pub fn number(n: Option<usize>) {
        NUMBER.set(n);
    }
}
