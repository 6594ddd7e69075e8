//! Rules about client secrets: changed on purpose, replaced when dead, and ended when their time has come.

use jiff::Timestamp;

use super::{
    Effect, Step,
    account::account_in_doubt,
    announcement::{announce, refused},
};
use crate::reconcile::{
    facts::{Facts, Known},
    intent::{Intent, Named},
    protocol::Rule,
    record::Record,
};
use crate::registry::Rotation;

/// What is due is reckoned from what is declared, and kept: a restart changes nothing.
pub(super) fn schedule_is_behind(facts: &Facts) -> Option<Step> {
    let mut record = facts.record()?.clone();
    if !record.state.schedule.is_behind(&facts.client) {
        return None;
    }
    record.state.schedule = record.state.schedule.followed(&facts.client, facts.now);
    Some(Step::Do(Effect::Store(Box::new(record))))
}

/// Somebody else has changed or removed the secret that the record holds.
pub(super) fn secret_is_dead(facts: &Facts) -> Option<Step> {
    let (record, known) = (facts.record()?, facts.registry.as_ref().ok()?);
    let seen = facts.progress.seen.as_ref()?;
    let dead = if let (Some(secrets), Some(id)) = (&seen.secrets, &record.client.secret_id) {
        !secrets.iter().any(|secret| secret.id == *id)
    } else {
        let hints = (&seen.secret_hint, &record.client.secret_hint);
        matches!(hints, (Some(shown), Some(ours)) if shown != ours)
    };
    // A request of ours that is still on its way would be taken for somebody else's.
    let young = record.state.secret_since.is_some_and(|since| facts.since(since) < facts.settle);
    (dead && Rule::Verify.holds() && !young && known.capabilities.rotation != Rotation::Recreate)
        .then(|| issue(facts, known, record))
}

/// A rotation that is due, or that somebody asked for.
pub(super) fn rotation_is_due(facts: &Facts) -> Option<Step> {
    let (record, known) = (facts.record()?, facts.registry.as_ref().ok()?);
    if !record.state.schedule.is_due(&facts.client, facts.now) {
        return None;
    }
    Some(match known.capabilities.rotation {
        Rotation::Recreate => recreate(facts, known, record),
        Rotation::Replace | Rotation::Overlap => issue(facts, known, record),
    })
}

/// Announces a new secret for the record's client.
fn issue(facts: &Facts, known: &Known, record: &Record) -> Step {
    let first = first(facts, record);
    let named = Some(Named::of(&record.client));
    attempt(facts, known, record, Intent { secret_for: named, ..first })
}

/// Announces a new client beside the record's, which then retires.
pub(super) fn recreate(facts: &Facts, known: &Known, record: &Record) -> Step {
    // One at a time: the mark of the last one is still on.
    if !facts.names(record) {
        return Step::Settled;
    }
    let first = first(facts, record);
    attempt(facts, known, record, Intent { retires: Some(record.client.client_id.clone()), ..first })
}

fn first(facts: &Facts, record: &Record) -> Intent {
    Intent::first(facts.uid(), facts.nonce.clone(), Some(record.state.nonce.clone()), facts.now)
}

/// A refusal of the same stands until something changes; otherwise it is counted on.
fn attempt(facts: &Facts, known: &Known, record: &Record, first: Intent) -> Step {
    match &facts.intent {
        Some(intent) if intent.replaces.as_ref() == Some(&record.state.nonce) => {
            refused(facts, known, intent).unwrap_or_else(|| {
                let next = intent.next(facts.nonce.clone(), first.replaces.clone(), facts.now, false);
                announce(
                    facts,
                    known,
                    Intent { secret_for: first.secret_for, retires: first.retires, ..next },
                )
            })
        }
        Some(intent) => announce(facts, known, Intent { suspects: intent.suspects.clone(), ..first }),
        None => announce(facts, known, first),
    }
}

/// What was replaced is ended: noted in the record first, so that nothing that another operator has just stored is ended.
pub(super) fn old_ones_end(facts: &Facts) -> Option<Step> {
    let record = facts.record()?;
    if facts.unresolved().is_some() {
        return None;
    }
    let end = to_revoke(facts, record).or_else(|| revoke(facts, record)).or_else(|| retire(facts, record))?;
    Some(account_in_doubt(facts).unwrap_or(end))
}

fn to_revoke(facts: &Facts, record: &Record) -> Option<Step> {
    let mut next = record.clone();
    if let Some(previous) = next.state.previous.take_if(|previous| previous.until <= facts.now) {
        next.state.revoking.push(previous.id);
    }
    if let Some(at) = superseded(facts, record) {
        (next.state.stray_secrets, next.state.secret_since) = (true, Some(at));
        return Some(Step::Do(Effect::Store(Box::new(next))));
    }
    let settled = record.state.secret_since.is_none_or(|since| facts.since(since) >= facts.settle);
    let shown = facts.progress.seen.as_ref().and_then(|seen| seen.secrets.as_ref());
    if let Some(shown) = shown.filter(|_| record.state.stray_secrets && settled) {
        let ours = |id: &String| {
            Some(id) == record.client.secret_id.as_ref()
                || record.state.previous.as_ref().is_some_and(|previous| previous.id == *id)
                || record.state.revoking.contains(id)
        };
        let strays = shown.iter().map(|secret| &secret.id).filter(|id| !ours(id)).cloned();
        if !Rule::Fence.holds() {
            let strays: Vec<String> = strays.collect();
            let stray = strays.into_iter().find(|id| !facts.progress.revoked.contains(id));
            return stray.map(|id| Step::Do(Effect::RevokeSecret(id)));
        }
        next.state.revoking.extend(strays);
        next.state.stray_secrets = false;
    }
    let changed = (&next.state.revoking, next.state.stray_secrets)
        != (&record.state.revoking, record.state.stray_secrets);
    changed.then(|| Step::Do(Effect::Store(Box::new(next))))
}

/// When a secret was asked for after the one that the record holds: whoever stored that was overtaken while it did, and what was
/// issued to the others is known to nobody.
fn superseded(facts: &Facts, record: &Record) -> Option<Timestamp> {
    let intent = facts.intent.as_ref()?;
    let nonces = [Some(&intent.nonce), intent.replaces.as_ref()];
    let other = !nonces.contains(&Some(&record.state.nonce))
        && intent.secret_for.as_ref().is_some_and(|named| named.client_id == record.client.client_id)
        && facts.registry.as_ref().is_ok_and(|known| known.capabilities.rotation == Rotation::Overlap);
    (other && record.state.secret_since.is_some_and(|since| since < intent.at)).then_some(intent.at)
}

fn revoke(facts: &Facts, record: &Record) -> Option<Step> {
    let revoking = &record.state.revoking;
    if let Some(id) = revoking.iter().find(|id| !facts.progress.revoked.contains(id)) {
        return Some(Step::Do(Effect::RevokeSecret(id.clone())));
    }
    (!revoking.is_empty()).then(|| {
        let mut next = record.clone();
        next.state.revoking.clear();
        Step::Do(Effect::Store(Box::new(next)))
    })
}

fn retire(facts: &Facts, record: &Record) -> Option<Step> {
    let old = record.state.retiring.iter().find(|old| old.until <= facts.now)?;
    if !facts.progress.retired.contains(&old.client.client_id) {
        return Some(Step::Do(Effect::Retire(old.clone())));
    }
    let mut next = record.clone();
    next.state.retiring.retain(|other| other != old);
    Some(Step::Do(Effect::Store(Box::new(next))))
}
