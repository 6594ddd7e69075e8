//! What to do next: an ordered list of small rules over the facts. Pure; the first rule that has something to say is heard.

mod deletion;
mod registration;
mod reply;
mod upkeep;

use std::time::Duration;

use super::{
    facts::{Facts, Why},
    intent::Intent,
    record::{Record, Released},
    secret::{self, Found},
};
use crate::registry::{Client, ClientMetadata, Error, Field, Support, Wanted, metadata};
use deletion::being_deleted;
pub use deletion::time_left;
use registration::{client_is_gone, not_registered, outcome_unknown, record_is_lost, suspects_looked_after};
use reply::{credentials_in_hand, refusal_in_hand, stray_in_hand};
use upkeep::{differs, no_secret_or_expired, not_as_declared, time_to_look};

/// Attempts of which no one knows the outcome, before a person has to look: the first and two more.
pub const ATTEMPTS: u32 = 3;

/// What to do next.
#[derive(Debug)]
pub enum Step {
    /// One effect; then ask again.
    Do(Effect),
    /// Everything is as declared.
    Settled,
    /// Something is missing that will come without a change of this object: look again after this time.
    Wait(Why, Duration),
    /// A dead end until somebody changes something.
    Refuse(Why),
    /// The registry failed us; the error says when to try again.
    Fail(Error),
}

/// One effect, as data. `Debug` shows no secret.
#[derive(Debug)]
pub enum Effect {
    /// Make sure that a registration can be sent.
    Prepare,
    /// Write finalizer and intent onto the object.
    Announce(Intent),
    /// Register the client.
    Register(Wanted),
    /// Write onto the object that the registry refused.
    NoteRefusal(Intent),
    /// Write onto the object that a person has looked after suspected orphans.
    Acknowledge(Intent),
    /// Store the record.
    Store(Box<Record>),
    /// Write our finalizer onto the object again.
    AddFinalizer,
    /// Write the user's Secret.
    Publish,
    /// Look at the client.
    Look,
    /// Make the client what is declared.
    Update {
        /// What is declared.
        wanted: ClientMetadata,
        /// The fields that left the spec.
        reset: Vec<Field>,
    },
    /// Remove the client from the registry.
    Deregister,
    /// Remove a client that only this pass knows.
    DeregisterStray(Box<Client>),
    /// Keep the record beyond its object.
    Release(Released),
    /// Delete the record.
    DeleteRecord,
    /// Let the object go.
    RemoveFinalizer,
}

type Rule = fn(&Facts) -> Option<Step>;

/// The rules, in order.
const RULES: [Rule; 22] = [
    credentials_in_hand,
    stray_in_hand,
    refusal_in_hand,
    being_deleted,
    suspended,
    finalizer_is_missing,
    record_unreadable,
    secret_is_foreign,
    record_is_behind,
    secret_is_not_as_derived,
    registry_not_usable,
    not_supported,
    registry_changed,
    record_is_lost,
    outcome_unknown,
    suspects_looked_after,
    not_registered,
    time_to_look,
    client_is_gone,
    differs,
    not_as_declared,
    no_secret_or_expired,
];

/// The first rule that has something to say; if none has, everything is as declared.
pub fn next(facts: &Facts) -> Step {
    RULES.iter().find_map(|rule| rule(facts)).unwrap_or(Step::Settled)
}

/// Hands off; what stood in status before stays true.
fn suspended(facts: &Facts) -> Option<Step> {
    facts.client.spec.suspend.then(|| {
        Step::Refuse(Why::new("Suspended", "spec.suspend is set; nothing is done until it is taken away"))
    })
}

/// Whoever took the finalizer away would let the object go without its client.
fn finalizer_is_missing(facts: &Facts) -> Option<Step> {
    (facts.record().is_some() && !facts.finalized()).then_some(Step::Do(Effect::AddFinalizer))
}

/// Without the record nobody knows what the registry has: making another client would leak one.
fn record_unreadable(facts: &Facts) -> Option<Step> {
    facts.record.as_ref().err().map(|why| Step::Refuse(unreadable(facts, why)))
}

fn unreadable(facts: &Facts, why: &str) -> Why {
    Why::new(
        "RecordUnreadable",
        format!(
            "the operator's record Secret {} cannot be read: {why}. Restore it from a backup; or delete this object, and that Secret after it",
            super::record::name(facts.uid())
        ),
    )
}

/// A Secret that is not ours is never touched, and without a Secret a registration is in vain.
fn secret_is_foreign(facts: &Facts) -> Option<Step> {
    matches!(facts.secret, Found::Foreign).then(|| {
        Step::Refuse(Why::new(
            "SecretNotOurs",
            format!(
                "Secret {} exists and was not made for this object: delete or rename it, or set spec.secret.name in a new OAuthClient",
                facts.client.secret_name()
            ),
        ))
    })
}

/// The record knows the deletion policy, for an object that goes without a last word.
fn record_is_behind(facts: &Facts) -> Option<Step> {
    let mut record = facts.record()?.clone();
    let policy = facts.client.spec.deletion_policy;
    (record.state.deletion_policy != policy).then(|| {
        record.state.deletion_policy = policy;
        Step::Do(Effect::Store(Box::new(record)))
    })
}

/// The user's Secret is derived from the record, whatever the registry does at the moment.
fn secret_is_not_as_derived(facts: &Facts) -> Option<Step> {
    let record = facts.record()?;
    let as_derived = match &facts.secret {
        Found::Ours(secret) => secret::wanted(&facts.client, record, &facts.installation).is(secret),
        Found::Absent | Found::Foreign => false,
    };
    (!as_derived).then_some(Step::Do(Effect::Publish))
}

fn registry_not_usable(facts: &Facts) -> Option<Step> {
    let why = facts.registry.as_ref().err()?;
    // Registries are watched; the labels of namespaces are not.
    let after = if why.reason == "NamespaceNotAllowed" { super::SOON } else { super::SLOWLY };
    Some(Step::Wait(why.clone(), after))
}

/// Nothing is dropped in silence: what the registry cannot do is said before any call.
fn not_supported(facts: &Facts) -> Option<Step> {
    let known = facts.registry.as_ref().ok()?;
    let declared = facts.declared();
    for (field, value) in &declared.0 {
        let name = field.spec_name();
        let refused = match known.capabilities.support(*field) {
            Support::Settable => continue,
            Support::Fixed(fixed) if metadata::normal(*field, fixed) == metadata::normal(*field, value) => {
                continue;
            }
            Support::Fixed(fixed) => {
                format!("this registry always has {name} {fixed}: declare that or leave it out")
            }
            Support::Unsupported => format!("this registry knows no {name}: leave it out"),
        };
        return Some(Step::Refuse(Why::new("Unsupported", refused)));
    }
    let missing = known.capabilities.required.iter().find(|field| declared.get(**field).is_none())?;
    let message = format!("this registry registers no client without {}: declare it", missing.spec_name());
    Some(Step::Refuse(Why::new("MissingField", message)))
}

/// A record knows its origin: its token goes nowhere else, and another registry's silence about the client proves nothing.
fn registry_changed(facts: &Facts) -> Option<Step> {
    let (record, known) = (facts.record()?, facts.registry.as_ref().ok()?);
    let other_issuer =
        matches!((&record.state.issuer, &known.issuer), (Some(then), Some(now)) if then != now);
    (record.state.origin != known.origin || other_issuer).then(|| {
        let then = record.state.issuer.as_ref().unwrap_or(&record.state.origin);
        let now = known.issuer.as_ref().unwrap_or(&known.origin);
        let message = format!(
            "the client was registered at {then}, but the registry now points to {now}: point it back, or delete this object and make a new one"
        );
        Step::Refuse(Why::new("RegistryChanged", message))
    })
}

#[cfg(test)]
pub(crate) mod tests;
