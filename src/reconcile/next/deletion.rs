//! The rule by which a deletion ends: with the registry told, or after a bounded time without.

use std::time::Duration;

use super::{Effect, Step, account::account_in_doubt, unreadable};
use crate::{
    api::{DeletionPolicy, annotations},
    reconcile::{
        facts::{Facts, Why},
        protocol::Rule,
        record::{Place, Released},
        secret::{self, Found},
    },
    registry::Kind,
};

/// Deletion always ends: remote client, then record, then finalizer; or, after a bounded time, without the registry.
pub(super) fn being_deleted(facts: &Facts) -> Option<Step> {
    if !facts.deleting() {
        return None;
    }
    if !facts.finalized() {
        return Some(Step::Settled);
    }
    let record = match &facts.record {
        Ok(Some(record)) => record,
        Ok(None) => return Some(delete_without_record(facts)),
        Err(why) => return Some(delete_with_broken_record(facts, why)),
    };
    if record.released.is_some() || !Rule::DeletionOrder.holds() {
        return Some(Step::Do(Effect::RemoveFinalizer));
    }
    if facts.client.spec.deletion_policy == DeletionPolicy::Retain {
        return Some(Step::Do(match &facts.secret {
            // It must lose its owner before that is gone.
            Found::Ours(secret)
                if !given_up(facts)
                    && !secret::wanted(&facts.client, record, &facts.installation).is(secret) =>
            {
                Effect::Publish
            }
            _ => Effect::Release(Released::Retained),
        }));
    }
    if facts.progress.deregistered && facts.progress.deregister_error.is_none() {
        return Some(match (open(facts), record.place) {
            (true, _) => clear(facts).unwrap_or(Step::Do(Effect::DeleteRecord)),
            (false, Place::Apart) => Step::Do(Effect::DeleteRecord),
            // It goes with its owner.
            (false, Place::WithSecret) => Step::Do(Effect::RemoveFinalizer),
        });
    }
    if abandoned(facts) {
        return Some(Step::Do(Effect::Release(Released::Abandoned)));
    }
    Some(tell(facts, Effect::Deregister).unwrap_or(Step::Do(Effect::Release(Released::Abandoned))))
}

/// Tells the registry: once at least, and again as long as there is time. `None` if that is in vain.
fn tell(facts: &Facts, effect: Effect) -> Option<Step> {
    let late = time_left(facts).is_none();
    match &facts.progress.deregister_error {
        Some(error) => (!late && error.kind != Kind::Unsupported).then(|| Step::Fail(error.clone())),
        None => match account_in_doubt(facts) {
            Some(Step::Wait(..)) if late => None,
            doubt => doubt.or(Some(Step::Do(effect))),
        },
    }
}

/// Somebody does not want to wait.
fn abandoned(facts: &Facts) -> bool {
    facts.annotation(annotations::ABANDON) == Some("true")
}

/// A deletion has taken long enough.
fn given_up(facts: &Facts) -> bool {
    abandoned(facts) || time_left(facts).is_none()
}

/// How long the registry may still be tried, `None` if no longer.
pub fn time_left(facts: &Facts) -> Option<Duration> {
    let began = facts.client.metadata.deletion_timestamp.as_ref()?.0;
    facts.deletion_timeout.checked_sub(facts.since(began)).filter(|left| !left.is_zero())
}

/// Whether an attempt is open whose client could be found.
fn open(facts: &Facts) -> bool {
    facts.unresolved().is_some() && facts.registry.as_ref().is_ok_and(|known| known.capabilities.lists())
}

/// What an open attempt may have made is searched for and removed, once every request must be over.
fn clear(facts: &Facts) -> Option<Step> {
    let intent = facts.unresolved().filter(|_| !facts.progress.cleared && !abandoned(facts))?;
    let age = facts.since(intent.at);
    if age < facts.settle && time_left(facts).is_some() {
        return Some(Step::Wait(resolving(), facts.settle.saturating_sub(age)));
    }
    tell(facts, Effect::DeregisterMarked)
}

fn resolving() -> Why {
    let message = "a registration may still be on its way; the deletion goes on when it must be over";
    Why::new("ResolvingOutcome", message)
}

/// The client that status names, where the registry can do without a record.
pub fn named_only(facts: &Facts) -> bool {
    let named = facts.client.status.as_ref().is_some_and(|status| status.client_id.is_some());
    let told = facts.registry.as_ref().is_ok_and(|known| known.capabilities.shows_secrets);
    named && told && facts.client.spec.deletion_policy == DeletionPolicy::Delete
}

fn delete_without_record(facts: &Facts) -> Step {
    if named_only(facts)
        && !facts.progress.deregistered
        && !abandoned(facts)
        && let Some(step) = tell(facts, Effect::Deregister)
    {
        return step;
    }
    if !named_only(facts)
        && open(facts)
        && let Some(step) = clear(facts)
    {
        return step;
    }
    let in_flight =
        facts.intent.as_ref().filter(|intent| intent.refused.is_none() && !facts.progress.deregistered);
    // Nothing is announced after the deletion began, whatever the clock said that wrote the intent.
    let deleting = facts.client.metadata.deletion_timestamp.as_ref().map(|began| facts.since(began.0));
    match in_flight.map(|intent| facts.since(intent.at).max(deleting.unwrap_or_default())) {
        Some(age) if age < facts.settle && !abandoned(facts) => {
            Step::Wait(resolving(), facts.settle.saturating_sub(age))
        }
        _ => Step::Do(Effect::RemoveFinalizer),
    }
}

fn delete_with_broken_record(facts: &Facts, why: &str) -> Step {
    match time_left(facts) {
        Some(left) if !abandoned(facts) => Step::Wait(unreadable(facts, why), left),
        _ => Step::Do(Effect::RemoveFinalizer),
    }
}
