//! Rules about what a reply brought: it is stored, removed or noted before anything else happens.

use jiff::SignedDuration;
use serde_json::Value;

use super::{Effect, Step, upkeep::expiring};
use crate::{
    reconcile::{
        facts::{Asked, Facts, InHand, refusal},
        intent::{Intent, Named},
        protocol::Rule,
        record::{Owner, Place, Previous, Record, Retiring, State},
        rotation::{Schedule, overlap},
        secret::Found,
    },
    registry::{Client, ClientMetadata, Field, Rotation, metadata},
};

/// What a reply brought is stored before anything else happens.
pub(super) fn credentials_in_hand(facts: &Facts) -> Option<Step> {
    let in_hand = facts.progress.in_hand.as_ref()?;
    let record = match (facts.record(), in_hand.to) {
        (Some(record), Asked::Look) => looked(facts, record, in_hand),
        (Some(record), Asked::Update) => updated(facts, record, in_hand),
        (Some(record), Asked::IssueSecret) => issued(facts, record, in_hand)?,
        (_, Asked::Recover) => recovered(facts, in_hand)?,
        (record, _) => registered(facts, record, in_hand)?,
    };
    Some(Step::Do(Effect::Store(Box::new(record))))
}

fn registered(facts: &Facts, replaced: Option<&Record>, in_hand: &InHand) -> Option<Record> {
    let intent = facts.intent.as_ref()?;
    let mut record = new_record(facts, &in_hand.client, intent.nonce.clone())?;
    record.state.applied = facts.declared();
    if facts.progress.searched.is_some() {
        // What was found may have been made of an earlier declaration, or be a line of a list that does not show everything.
        let document = &record.client.document;
        let so = |field, value: &Value| metadata::shown(field, document) == metadata::normal(field, value);
        record.state.applied.0.retain(|field, value| so(*field, value));
    }
    // Somebody may have got a secret for it before us.
    record.state.stray_secrets = intent.attempt > 1 && intent.secret_for.is_some();
    if let Some(old) = replaced {
        record.state.retiring = retiring(facts, old, intent.retires.is_some());
        record.state.schedule.last = intent.retires.as_ref().map(|_| facts.now).or(old.state.schedule.last);
        (record.version, record.place) = (old.version.clone(), old.place);
        if !record.state.retiring.is_empty() && old.place == Place::WithSecret {
            // What is to be removed later is nothing for a place that others can write.
            (record.version, record.place) = (None, Place::Apart);
        }
    }
    Some(record)
}

/// A record of which nothing is known but the client.
fn new_record(facts: &Facts, client: &Client, nonce: String) -> Option<Record> {
    let known = facts.registry.as_ref().ok()?;
    let state = State {
        nonce,
        origin: known.origin.clone(),
        registry: facts.client.spec.registry_ref.clone(),
        deletion_policy: facts.client.spec.deletion_policy,
        issuer: known.issuer.clone(),
        applied: ClientMetadata::default(),
        in_flight: None,
        refused: None,
        not_cleared: Vec::new(),
        secret_since: Some(facts.now),
        renewed_for: None,
        credentials: known.credentials.clone(),
        schedule: Schedule::begun(&facts.client, None, facts.now),
        previous: None,
        revoking: Vec::new(),
        stray_secrets: false,
        retiring: Vec::new(),
    };
    let (version, place) = match &facts.secret {
        Found::Ours(secret) if known.capabilities.shows_secrets => {
            (secret.metadata.resource_version.clone(), Place::WithSecret)
        }
        _ if known.capabilities.shows_secrets => (None, Place::WithSecret),
        _ => (None, Place::Apart),
    };
    let owner = Owner::of(&facts.client);
    Some(Record { owner, client: client.clone(), state, released: None, version, place })
}

/// The earlier clients of the object, and now the one that is replaced, if it is still there.
fn retiring(facts: &Facts, old: &Record, retires: bool) -> Vec<Retiring> {
    let overlap = SignedDuration::try_from(overlap(&facts.client)).unwrap_or_default();
    let until = facts.now.checked_add(overlap).unwrap_or(facts.now);
    let now = retires.then(|| Retiring { client: Named::of(&old.client), until });
    old.state.retiring.iter().cloned().chain(now).collect()
}

/// A secret that was issued for the record's client. The one before it goes on working where the registry lets both.
fn issued(facts: &Facts, record: &Record, in_hand: &InHand) -> Option<Record> {
    let (known, intent) = (facts.registry.as_ref().ok()?, facts.intent.as_ref()?);
    let mut next = record.clone();
    let overlap = SignedDuration::try_from(overlap(&facts.client)).unwrap_or_default();
    let until = facts.now.checked_add(overlap).unwrap_or(facts.now);
    next.client.client_secret.clone_from(&in_hand.client.client_secret);
    next.client.secret_id.clone_from(&in_hand.client.secret_id);
    next.client.secret_hint.clone_from(&in_hand.client.secret_hint);
    if known.capabilities.rotation == Rotation::Overlap {
        next.state.revoking.extend(next.state.previous.take().map(|previous| previous.id));
        next.state.previous = record.client.secret_id.clone().map(|id| Previous { id, until });
        next.state.stray_secrets |= intent.attempt > 1;
    }
    if record.state.schedule.is_due(&facts.client, facts.now) {
        next.state.schedule = Schedule::begun(&facts.client, Some(facts.now), facts.now);
    }
    next.state.nonce.clone_from(&intent.nonce);
    next.state.secret_since = Some(facts.now);
    Some(next)
}

/// The record of a client that was read again, since the user's Secret was lost with it. What was applied is forgotten: what is
/// declared is compared with what the registry shows. A replacement that status does not tell of is still open.
fn recovered(facts: &Facts, in_hand: &InHand) -> Option<Record> {
    let id = &in_hand.client.client_id;
    let open = |intent: &&Intent| intent.retires.as_ref() == Some(id);
    let nonce = match facts.intent.as_ref() {
        Some(intent) if open(&intent) => intent.replaces.clone()?,
        Some(intent) => intent.nonce.clone(),
        None => facts.nonce.clone(),
    };
    let mut record = new_record(facts, &in_hand.client, nonce)?;
    let rotation = facts.client.status.as_ref().and_then(|status| status.rotation.clone());
    record.state.schedule.last = rotation.and_then(|rotation| rotation.last).map(|last| last.0);
    Some(record)
}

fn updated(facts: &Facts, record: &Record, in_hand: &InHand) -> Record {
    let mut next = given(facts, record, in_hand);
    next.state.applied = facts.declared();
    next.state.not_cleared = not_cleared(facts, record, &next);
    // A secret that is near its end at once would be renewed for ever.
    next.state.renewed_for = expiring(facts, &next).or(expiring(facts, record)).or(record.state.renewed_for);
    next.state.in_flight = None;
    next.state.refused = None;
    next
}

/// Fields that left the spec, now or before, and that still have a value of ours, which is not what a new client has anyway.
fn not_cleared(facts: &Facts, before: &Record, after: &Record) -> Vec<Field> {
    let shown = |field: Field| metadata::shown(field, &after.client.document);
    let cleared = |field: Field| {
        facts.registry.as_ref().is_ok_and(|known| known.capabilities.is_default(field, &shown(field)))
    };
    let sent = before.state.applied.0.iter().chain(before.state.in_flight.iter().flat_map(|sent| &sent.0));
    let now = sent
        .filter(|(field, value)| shown(**field) == metadata::normal(**field, value))
        .map(|(field, _)| field);
    let left =
        now.chain(&before.state.not_cleared).filter(|field| after.state.applied.get(**field).is_none());
    let mut kept: Vec<Field> = left.filter(|field| !cleared(**field)).copied().collect();
    kept.sort();
    kept.dedup();
    kept
}

/// The record with the client as a reply shows it.
fn given(facts: &Facts, record: &Record, in_hand: &InHand) -> Record {
    let mut next = record.clone();
    next.client = in_hand.client.clone();
    // Of the secret that we have, not of one that somebody else may have made since.
    next.client.secret_id.clone_from(&record.client.secret_id);
    next.client.secret_hint.clone_from(&record.client.secret_hint);
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
    let stray = facts.progress.stray.as_ref().filter(|_| Rule::Loser.holds())?;
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
        Some(intent) => Step::Do(Effect::NoteRefusal(Box::new(intent.refused(noted)))),
        None => Step::Fail(error.clone()),
    })
}
