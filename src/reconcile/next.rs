//! What to do next: an ordered list of small rules over the facts. Pure; the first rule that has something to say is heard.

mod absence;
mod account;
mod adoption;
mod announcement;
mod deletion;
mod guardrails;
mod registration;
mod reply;
mod secrets;
mod upkeep;

use std::time::Duration;

use super::{
    facts::{Facts, Why},
    intent::Intent,
    protocol,
    record::{Record, Released, Retiring},
    rotation,
    secret::{self, Found},
};
use crate::{
    api::{ReplacementPolicy, annotations},
    registry::{
        Capabilities, Client, ClientMetadata, Error, Field, Management, MarkPlace, Rotation, ShownMark,
        Support, Wanted, metadata,
    },
};
use absence::{client_is_gone, client_is_missing};
use account::account_not_proven;
pub use account::account_unknown;
use adoption::secret_to_issue;
use deletion::being_deleted;
pub use deletion::{named_only, time_left};
use guardrails::not_allowed;
use registration::{not_registered, outcome_unknown, record_is_lost, suspects_looked_after};
use reply::{credentials_in_hand, refusal_in_hand, stray_in_hand};
use secrets::{old_ones_end, rotation_is_due, schedule_is_behind, secret_is_dead};
use upkeep::{client_is_disabled, differs, no_secret_or_expired, not_as_declared, time_to_look};

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
    Announce(Box<Intent>),
    /// Register the client.
    Register(Box<Wanted>),
    /// Search the registry for the client of an attempt of which nobody saw the end.
    Search,
    /// Issue a secret for a client.
    IssueSecret(Box<Client>),
    /// Find out whether the registry's credentials open the right account.
    Survey,
    /// Read the client that status names, since no record does.
    Recover(Box<Client>),
    /// Write onto the object that the registry refused.
    NoteRefusal(Box<Intent>),
    /// Write onto the object that a person has looked after suspected orphans.
    Acknowledge(Box<Intent>),
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
    /// Revoke a secret of the client.
    RevokeSecret(String),
    /// Remove an earlier client of the object.
    Retire(Retiring),
    /// Remove the client from the registry.
    Deregister,
    /// Remove what else bears the object's mark.
    DeregisterMarked,
    /// Remove a client that only this pass knows.
    DeregisterStray(Box<Client>),
    /// Keep the record beyond its object.
    Release(Released),
    /// Delete the record.
    DeleteRecord,
    /// Let the object go.
    RemoveFinalizer,
}

impl Effect {
    /// Whether it changes nothing, here or there.
    pub fn only_reads(&self) -> bool {
        matches!(self, Self::Prepare | Self::Look | Self::Search | Self::Survey | Self::Recover(_))
    }
}

type Rule = fn(&Facts) -> Option<Step>;

/// Names the rules once, in order.
macro_rules! rules {
    ($($rule:ident,)*) => {
        /// The rules, in order.
        const RULES: &[Rule] = &[$($rule),*];
        /// Their names.
        pub const NAMES: &[&str] = &[$(stringify!($rule)),*];
    };
}

rules! {
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
    not_allowed,
    name_is_a_mark,
    registry_changed,
    schedule_is_behind,
    account_not_proven,
    record_is_lost,
    secret_to_issue,
    outcome_unknown,
    suspects_looked_after,
    not_registered,
    time_to_look,
    client_is_missing,
    client_is_gone,
    secret_is_dead,
    old_ones_end,
    differs,
    not_as_declared,
    rotation_is_due,
    client_is_disabled,
    no_secret_or_expired,
}

/// The first rule that has something to say; if none has, everything is as declared.
pub fn next(facts: &Facts) -> Step {
    let mut rules = RULES.iter().enumerate().filter(|(n, _)| protocol::is_heard(*n));
    rules.find_map(|(_, rule)| rule(facts)).unwrap_or(Step::Settled)
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
    // Registries are watched; the labels of namespaces are not, and neither are Secrets.
    let unwatched = ["NamespaceNotAllowed", "CredentialsNotFound"].contains(&why.reason.as_str());
    let after = if unwatched { super::SOON } else { super::SLOWLY };
    Some(Step::Wait(why.clone(), after))
}

/// Nothing is dropped in silence: what the registry cannot do is said before any call.
fn not_supported(facts: &Facts) -> Option<Step> {
    let known = facts.registry.as_ref().ok()?;
    let declared = facts.declared();
    for (field, value) in &declared.0 {
        let name = field.spec_name();
        let refused = match known.capabilities.support(*field) {
            Support::Settable | Support::Immutable => continue,
            Support::Fixed(fixed)
                if fixed
                    .iter()
                    .any(|fixed| metadata::normal(*field, fixed) == metadata::normal(*field, value)) =>
            {
                continue;
            }
            Support::Fixed(fixed) => {
                let fixed = fixed.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ");
                format!("this registry always has {name} {fixed}: declare that or leave it out")
            }
            Support::Unsupported => format!("this registry knows no {name}: leave it out"),
        };
        return Some(Step::Refuse(Why::new("Unsupported", refused)));
    }
    let lacking =
        |field: &&Field| declared.get(**field).is_none_or(|value| metadata::normal(**field, value).is_null());
    if let Some(missing) = known.capabilities.required.iter().find(lacking) {
        let message =
            format!("this registry registers no client without {}: declare it", missing.spec_name());
        return Some(Step::Refuse(Why::new("MissingField", message)));
    }
    let message = rotation_not_supported(facts, &known.capabilities)?;
    Some(Step::Refuse(Why::new("Unsupported", message)))
}

/// Where marks stand in the place of names, such a name would be taken for one for ever.
fn name_is_a_mark(facts: &Facts) -> Option<Step> {
    let known = facts.registry.as_ref().ok()?;
    let is_mark = ShownMark::read(&facts.client.client_name()).is_some();
    (is_mark && known.capabilities.mark == MarkPlace::PendingName).then(|| {
        let message = "spec.clientName has the form of an owner mark of the operator: take another name";
        Step::Refuse(Why::new("Unsupported", message))
    })
}

/// Honesty where a registry cannot rotate as declared.
fn rotation_not_supported(facts: &Facts, capabilities: &Capabilities) -> Option<String> {
    let spec = &facts.client.spec;
    let is_wanted = rotation::is_wanted(&facts.client);
    let overlaps = spec.rotation.as_ref().is_some_and(|rotation| rotation.overlap.is_some());
    match capabilities.rotation {
        Rotation::Replace if overlaps && spec.replacement_policy != ReplacementPolicy::WhenNeeded => Some(
            "this registry keeps one secret for a client, so that a new one ends the old one at once: leave rotation.overlap out".into(),
        ),
        Rotation::Recreate if is_wanted && !capabilities.lists() => Some(
            "each client of this registry is managed by a token of its own, so that nobody could remove the old one later: leave rotation \
             and the annotation oauth-operator.io/rotate out"
                .into(),
        ),
        Rotation::Recreate if is_wanted && spec.replacement_policy != ReplacementPolicy::WhenNeeded => Some(
            "this registry cannot change a client's secret: leave rotation and the annotation oauth-operator.io/rotate out, or set \
             replacementPolicy: WhenNeeded to have a new client, with a new id, each time"
                .into(),
        ),
        _ => None,
    }
}

/// A record knows its origin: its token goes nowhere else, and another registry's silence about the client proves nothing. Where
/// the registry's own credentials manage all clients, a person can say that it is the same registry at a new place.
fn registry_changed(facts: &Facts) -> Option<Step> {
    let (record, known) = (facts.record()?, facts.registry.as_ref().ok()?);
    let other = |then: &Option<String>, now: &Option<String>| then.is_some() && now.is_some() && then != now;
    let moved = record.state.origin != known.origin || other(&record.state.issuer, &known.issuer);
    if !moved && !other(&record.client.account_id, &known.account_id) {
        return None;
    }
    let by_registry = matches!(record.client.management, Management::Registry);
    if by_registry && known.is_accepted() {
        let mut record = record.clone();
        record.state.origin.clone_from(&known.origin);
        record.state.issuer.clone_from(&known.issuer);
        record.state.credentials.clone_from(&known.credentials);
        record.client.account_id.clone_from(&known.account_id);
        return Some(Step::Do(Effect::Store(Box::new(record))));
    }
    let at = |place: &str, account: &Option<String>| match account {
        Some(account) if !moved => format!("account {account}"),
        _ => place.to_owned(),
    };
    let then = at(record.state.issuer.as_ref().unwrap_or(&record.state.origin), &record.client.account_id);
    let now = at(known.issuer.as_ref().unwrap_or(&known.origin), &known.account_id);
    let mut message = format!(
        "the client was registered at {then}, but the registry now points to {now}: point it back, or delete this object and make a new one"
    );
    if by_registry {
        message = format!(
            "{message}; if the clients are there too, annotate the registry with {}={}",
            annotations::ACCEPT,
            known.identity()
        );
    }
    Some(Step::Refuse(Why::new("RegistryChanged", message)))
}

#[cfg(test)]
pub(crate) mod tests;
