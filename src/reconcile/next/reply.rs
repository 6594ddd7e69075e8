//! Rules about what a reply brought: it is stored, removed or noted before anything else happens.

use super::{Effect, Step, upkeep::expiring};
use crate::{
    reconcile::{
        facts::{Asked, Facts, InHand, refusal},
        record::{Owner, Record, State},
    },
    registry::{Field, metadata},
};

/// What a reply brought is stored before anything else happens.
pub(super) fn credentials_in_hand(facts: &Facts) -> Option<Step> {
    let in_hand = facts.progress.in_hand.as_ref()?;
    let record = match (facts.record(), in_hand.to) {
        (Some(record), Asked::Look) => looked(facts, record, in_hand),
        (Some(record), Asked::Update) => updated(facts, record, in_hand),
        (record, _) => registered(facts, record, in_hand)?,
    };
    Some(Step::Do(Effect::Store(Box::new(record))))
}

fn registered(facts: &Facts, replaced: Option<&Record>, in_hand: &InHand) -> Option<Record> {
    let known = facts.registry.as_ref().ok()?;
    let part = |text: &Option<String>| text.clone().unwrap_or_default();
    let owner = Owner {
        uid: facts.uid().into(),
        namespace: part(&facts.client.metadata.namespace),
        name: part(&facts.client.metadata.name),
    };
    let state = State {
        nonce: facts.intent.as_ref()?.nonce.clone(),
        origin: known.origin.clone(),
        registry: facts.client.spec.registry_ref.clone(),
        deletion_policy: facts.client.spec.deletion_policy,
        issuer: known.issuer.clone(),
        applied: facts.declared(),
        in_flight: None,
        refused: None,
        not_cleared: Vec::new(),
        secret_since: Some(facts.now),
        renewed_for: None,
    };
    let version = replaced.and_then(|record| record.version.clone());
    Some(Record { owner, client: in_hand.client.clone(), state, released: None, version })
}

fn updated(facts: &Facts, record: &Record, in_hand: &InHand) -> Record {
    let mut next = given(facts, record, in_hand);
    next.state.applied = facts.declared();
    next.state.not_cleared = not_cleared(record, &next);
    // A secret that is near its end at once would be renewed for ever.
    next.state.renewed_for = expiring(facts, &next).or(expiring(facts, record)).or(record.state.renewed_for);
    next.state.in_flight = None;
    next.state.refused = None;
    next
}

/// Fields that left the spec, now or before, and that still have a value of ours.
fn not_cleared(before: &Record, after: &Record) -> Vec<Field> {
    let shown = |field: Field| metadata::shown(field, &after.client.document);
    let sent = before.state.applied.0.iter().chain(before.state.in_flight.iter().flat_map(|sent| &sent.0));
    let now = sent
        .filter(|(field, value)| shown(**field) == metadata::normal(**field, value))
        .map(|(field, _)| field);
    let then = before.state.not_cleared.iter().filter(|field| !shown(**field).is_null());
    let mut kept: Vec<Field> =
        now.chain(then).filter(|field| after.state.applied.get(**field).is_none()).copied().collect();
    kept.sort();
    kept.dedup();
    kept
}

/// The record with the client as a reply shows it.
fn given(facts: &Facts, record: &Record, in_hand: &InHand) -> Record {
    let mut next = record.clone();
    next.client = in_hand.client.clone();
    if next.client.client_secret_expires_at != record.client.client_secret_expires_at {
        next.state.secret_since = Some(facts.now);
    }
    next
}

/// A look changes credentials only: the document stays what the registry answered to our last write, but for what others have
/// put right since.
fn looked(facts: &Facts, record: &Record, in_hand: &InHand) -> Record {
    let mut next = given(facts, record, in_hand);
    let seen = &in_hand.client.document;
    next.client.document.clone_from(&record.client.document);
    for field in facts.put_right(record, seen) {
        let member = field.wire_name();
        next.client.document.insert(member.into(), seen.get(member).cloned().unwrap_or_default());
    }
    next
}

/// Who made a client that is not going to be used removes it while holding its token.
pub(super) fn stray_in_hand(facts: &Facts) -> Option<Step> {
    let stray = facts.progress.stray.as_ref()?;
    Some(Step::Do(Effect::DeregisterStray(Box::new(stray.clone()))))
}

/// A definite refusal is noted, so that nobody takes it for an unknown outcome later.
pub(super) fn refusal_in_hand(facts: &Facts) -> Option<Step> {
    let error = facts.progress.refused.as_ref()?;
    let known = facts.registry.as_ref().ok()?;
    let noted = refusal(error, facts.question(known));
    if facts.record().is_some_and(|record| record.state.in_flight.is_some()) {
        let mut record = facts.record()?.clone();
        record.state.renewed_for = expiring(facts, &record).or(record.state.renewed_for);
        record.state.in_flight = None;
        record.state.refused = Some(noted);
        return Some(Step::Do(Effect::Store(Box::new(record))));
    }
    let intent = facts.intent.as_ref().filter(|intent| facts.progress.announced && intent.refused.is_none());
    Some(match intent {
        Some(intent) => Step::Do(Effect::NoteRefusal(intent.refused(noted))),
        None => Step::Fail(error.clone()),
    })
}
