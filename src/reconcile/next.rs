//! What to do next: an ordered list of small rules over the facts. Pure; the first rule that has something to say is heard.

use std::time::Duration;

use super::{
    facts::{Asked, Difference, Facts, InHand, Known, Why, refusal, resume_command, software_id, suspects},
    intent::{Intent, Suspect},
    record::{Owner, Record, Released, State},
    secret::{self, Found},
};
use crate::{
    api::{
        DeletionPolicy, ReplacementPolicy, UnknownOutcome, annotations,
        conditions::{self, READY},
    },
    registry::{Client, ClientMetadata, Error, Field, Kind, Management, Support, Wanted, metadata},
};

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

/// What a reply brought is stored before anything else happens.
fn credentials_in_hand(facts: &Facts) -> Option<Step> {
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

/// A look changes credentials only: the document stays what the registry answered to our last write.
fn looked(facts: &Facts, record: &Record, in_hand: &InHand) -> Record {
    let mut next = given(facts, record, in_hand);
    next.client.document.clone_from(&record.client.document);
    next
}

/// Who made a client that is not going to be used removes it while holding its token.
fn stray_in_hand(facts: &Facts) -> Option<Step> {
    let stray = facts.progress.stray.as_ref()?;
    Some(Step::Do(Effect::DeregisterStray(Box::new(stray.clone()))))
}

/// A definite refusal is noted, so that nobody takes it for an unknown outcome later.
fn refusal_in_hand(facts: &Facts) -> Option<Step> {
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

/// Deletion always ends: remote client, then record, then finalizer; or, after a bounded time, without the registry.
fn being_deleted(facts: &Facts) -> Option<Step> {
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
    if record.released.is_some() {
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
    if facts.progress.deregistered {
        return Some(Step::Do(Effect::DeleteRecord));
    }
    if abandoned(facts) {
        return Some(Step::Do(Effect::Release(Released::Abandoned)));
    }
    Some(match &facts.progress.deregister_error {
        None => Step::Do(Effect::Deregister),
        Some(error) if error.kind == Kind::Unsupported || time_left(facts).is_none() => {
            Step::Do(Effect::Release(Released::Abandoned))
        }
        Some(error) => Step::Fail(error.clone()),
    })
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

fn delete_without_record(facts: &Facts) -> Step {
    let in_flight =
        facts.intent.as_ref().filter(|intent| intent.refused.is_none() && !facts.progress.deregistered);
    // Nothing is announced after the deletion began, whatever the clock said that wrote the intent.
    let deleting = facts.client.metadata.deletion_timestamp.as_ref().map(|began| facts.since(began.0));
    match in_flight.map(|intent| facts.since(intent.at).max(deleting.unwrap_or_default())) {
        Some(age) if age < facts.settle && !abandoned(facts) => Step::Wait(
            Why::new(
                "ResolvingOutcome",
                "a registration may still be on its way; the deletion goes on when it must be over",
            ),
            facts.settle.saturating_sub(age),
        ),
        _ => Step::Do(Effect::RemoveFinalizer),
    }
}

fn delete_with_broken_record(facts: &Facts, why: &str) -> Step {
    match time_left(facts) {
        Some(left) if !abandoned(facts) => Step::Wait(unreadable(facts, why), left),
        _ => Step::Do(Effect::RemoveFinalizer),
    }
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

/// Status names a client, so there was a record. Making another client beside it would leak one.
fn record_is_lost(facts: &Facts) -> Option<Step> {
    let id = facts.client.status.as_ref()?.client_id.as_ref()?;
    let token = facts.intent.as_ref().map_or(facts.uid(), |intent| &intent.nonce);
    let released = facts.annotation(annotations::RESUME) == Some(token)
        || facts.intent.as_ref().is_some_and(|intent| intent.gave_up.as_ref() == Some(id));
    (facts.record().is_none() && !facts.progress.announced && !released).then(|| {
        let message = format!(
            "the operator's record {} of client {id} is gone, and with it the token that manages the client; the Secret stays as it is. \
             Restore the record from a backup; or remove the client at the registry, then have a new one: {}",
            super::record::name(facts.uid()),
            resume_command(&facts.client, token)
        );
        Step::Refuse(Why::new("RecordLost", message))
    })
}

/// A person has looked at the registry for what earlier attempts may have left there.
fn suspects_looked_after(facts: &Facts) -> Option<Step> {
    let intent = facts.intent.as_ref().filter(|intent| !intent.suspects.is_empty())?;
    let told = facts.annotation(annotations::RESUME) == Some(intent.nonce.as_str());
    told.then(|| Step::Do(Effect::Acknowledge(intent.looked_after())))
}

/// An announced registration that nobody saw the end of: it may have made a client whose secret nobody holds.
fn outcome_unknown(facts: &Facts) -> Option<Step> {
    let known = facts.registry.as_ref().ok()?;
    let Some(intent) = &facts.intent else { return intent_is_lost(facts) };
    if intent.refused.is_some() || facts.progress.announced {
        return None;
    }
    // An intent that replaces a record is unknown as long as the record bears the replaced nonce.
    match facts.record() {
        Some(record) if intent.replaces.as_deref() != Some(record.state.nonce.as_str()) => return None,
        _ => {}
    }
    let age = facts.since(intent.at);
    let released = facts.annotation(annotations::RESUME) == Some(intent.nonce.as_str());
    let may_retry = known.unknown_outcome == UnknownOutcome::Retry && intent.attempt < ATTEMPTS;
    if age < facts.settle {
        let then = if may_retry {
            "it is tried again when that request must be over"
        } else {
            "when that request must be over, somebody has to look"
        };
        let why = Why::new("OutcomeUnknown", unknown_message(facts, intent, then));
        return Some(Step::Wait(why, facts.settle.saturating_sub(age)));
    }
    if released || may_retry {
        let next = intent.next(facts.nonce.clone(), intent.replaces.clone(), facts.now, released);
        return Some(announce(facts, known, next));
    }
    let earlier = suspects(&facts.client, Some(intent)).map(|text| format!("{text}; ")).unwrap_or_default();
    let command = resume_command(&facts.client, &intent.nonce);
    let how = format!("{earlier}look at the registry, remove what is there, then: {command}");
    Some(Step::Refuse(Why::new("OutcomeUnknown", unknown_message(facts, intent, &how))))
}

fn unknown_message(facts: &Facts, intent: &Intent, then: &str) -> String {
    format!(
        "attempt {} to register {:?} at {} may or may not have made a client (software_id {}); {then}",
        intent.attempt,
        facts.client.client_name(),
        intent.at,
        software_id(&facts.client, &intent.nonce)
    )
}

/// Announce, then register.
fn not_registered(facts: &Facts) -> Option<Step> {
    let known = facts.registry.as_ref().ok()?;
    if facts.record().is_some() && !facts.progress.announced {
        return None;
    }
    match &facts.intent {
        Some(intent) if facts.progress.announced && intent.refused.is_none() => {
            let already = facts.record().is_some_and(|record| record.state.nonce == intent.nonce);
            let software_id = software_id(&facts.client, &intent.nonce);
            let wanted = Wanted { metadata: facts.declared(), software_id };
            (!already).then_some(Step::Do(Effect::Register(wanted)))
        }
        Some(intent) => Some(refused(facts, known, intent).unwrap_or_else(|| {
            announce(facts, known, intent.next(facts.nonce.clone(), None, facts.now, false))
        })),
        None => {
            let first = Intent::first(facts.uid(), facts.nonce.clone(), None, facts.now);
            Some(announce(facts, known, first))
        }
    }
}

/// A final refusal stands until something changes.
fn refused(facts: &Facts, known: &Known, intent: &Intent) -> Option<Step> {
    let refusal = intent.refused.as_ref()?;
    (refusal.final_for.as_deref() == Some(facts.question(known).as_str()))
        .then(|| Step::Refuse(refusal.into()))
}

/// Nothing is announced that could not be sent.
fn announce(facts: &Facts, known: &Known, intent: Intent) -> Step {
    let named = facts.client.status.as_ref().and_then(|status| status.client_id.clone());
    let intent = Intent { gave_up: named.filter(|_| facts.record().is_none()), ..intent };
    match &known.not_ready {
        Some(why) => Step::Wait(why.clone(), super::SOON),
        None if facts.progress.prepared => Step::Do(Effect::Announce(intent)),
        None => Step::Do(Effect::Prepare),
    }
}

/// Whoever removed the intent did not end what it announced; only a record of another client than status tells did.
fn intent_is_lost(facts: &Facts) -> Option<Step> {
    let status = facts.client.status.as_ref()?;
    let ready = conditions::find(&status.conditions, READY)?;
    let id = facts.record().map(|record| &record.client.client_id);
    let ended = id.is_some() && id != status.client_id.as_ref();
    let released = facts.annotation(annotations::RESUME) == Some(facts.uid());
    (ready.reason == "OutcomeUnknown" && !ended && !released).then(|| {
        let how = format!(
            "a registration may or may not have made a client, and the annotation {} that named it was removed; look at the \
             registry for {:?}, remove what is there, then: {}",
            annotations::INTENT,
            software_id(&facts.client, "…"),
            resume_command(&facts.client, facts.uid())
        );
        Step::Refuse(Why::new("OutcomeUnknown", how))
    })
}

fn time_to_look(facts: &Facts) -> Option<Step> {
    let (record, known) = (facts.record()?, facts.registry.as_ref().ok()?);
    let managed = matches!(record.client.management, Management::Token { .. });
    let looked = facts.progress.seen.is_some() || facts.progress.gone;
    (facts.look_due && known.reads && managed && !looked).then_some(Step::Do(Effect::Look))
}

/// The registry has provably lost the client.
fn client_is_gone(facts: &Facts) -> Option<Step> {
    if !facts.progress.gone {
        return None;
    }
    let (record, known) = (facts.record()?, facts.registry.as_ref().ok()?);
    match facts.client.spec.replacement_policy {
        ReplacementPolicy::Never => Some(Step::Refuse(Why::new(
            "ClientGone",
            format!(
                "the registry no longer has client {}; spec.replacementPolicy is Never: set WhenGone to have a new one, with a new id",
                record.client.client_id
            ),
        ))),
        ReplacementPolicy::WhenGone => Some(match &facts.intent {
            // Attempts to replace this very client count on.
            Some(intent) if intent.replaces.as_ref() == Some(&record.state.nonce) => {
                refused(facts, known, intent).unwrap_or_else(|| {
                    let replaces = intent.replaces.clone();
                    announce(facts, known, intent.next(facts.nonce.clone(), replaces, facts.now, false))
                })
            }
            Some(intent) => announce(facts, known, replacing(facts, record, intent.suspects.clone())),
            None => announce(facts, known, replacing(facts, record, Vec::new())),
        }),
    }
}

/// A first attempt to replace a client. Credentials that a lost reply may have changed, or that time has ended, are poor
/// witnesses of its end: then it is a suspect.
fn replacing(facts: &Facts, record: &Record, mut suspects: Vec<Suspect>) -> Intent {
    let nonce = &record.state.nonce;
    let poor = record.state.in_flight.is_some()
        || record.client.client_secret_expires_at.is_some_and(|end| end <= facts.now);
    if poor {
        suspects.push(Suspect { nonce: nonce.clone(), at: record.client.registered_at.unwrap_or(facts.now) });
    }
    let first = Intent::first(facts.uid(), facts.nonce.clone(), Some(nonce.clone()), facts.now);
    Intent { suspects, ..first }
}

/// Writes what differs: announced in the record first, because the reply may bring new credentials.
fn differs(facts: &Facts) -> Option<Step> {
    let (record, known) = (facts.record()?, facts.registry.as_ref().ok()?);
    let Difference { to_write, to_reset, .. } = facts.difference(record, known);
    let renew = expiring(facts, record).is_some_and(|end| record.state.renewed_for != Some(end));
    if to_write.is_empty() && to_reset.is_empty() && record.state.in_flight.is_none() && !renew {
        return None;
    }
    if let Management::None(why) = &record.client.management {
        let fields: Vec<&str> = to_write.iter().chain(&to_reset).map(|field| field.spec_name()).collect();
        let message = format!(
            "{} cannot be changed: {why}. Undo the change, or delete this object and make a new one",
            fields.join(", ")
        );
        return (!fields.is_empty()).then(|| Step::Refuse(Why::new("NotManageable", message)));
    }
    if let Some(refused) = &record.state.refused
        && refused.final_for.as_deref() == Some(facts.question(known).as_str())
    {
        return Some(Step::Refuse(refused.into()));
    }
    let wanted = facts.declared();
    if record.state.in_flight.as_ref() != Some(&wanted) {
        let mut record = record.clone();
        record.state.in_flight = Some(wanted);
        return Some(Step::Do(Effect::Store(Box::new(record))));
    }
    Some(Step::Do(Effect::Update { wanted, reset: to_reset }))
}

/// The registry answered our write with something else; writing again would not help.
fn not_as_declared(facts: &Facts) -> Option<Step> {
    let (record, known) = (facts.record()?, facts.registry.as_ref().ok()?);
    let not_taken = facts.difference(record, known).not_taken;
    let field = not_taken.first()?;
    let message = format!(
        "the registry answered with {} {} instead of what is declared{}: declare that, or change the registry",
        field.spec_name(),
        crate::registry::error::quote(&metadata::shown(*field, &record.client.document).to_string(), &[]),
        if not_taken.len() > 1 { format!(" (and {} more)", not_taken.len() - 1) } else { String::new() }
    );
    Some(Step::Refuse(Why::new("NotAsDeclared", message)))
}

/// A confidential client without a live secret is of no use, and says so.
fn no_secret_or_expired(facts: &Facts) -> Option<Step> {
    let record = facts.record()?;
    let method = metadata::shown(Field::TokenEndpointAuthMethod, &record.client.document);
    let needs_secret = !matches!(method.as_str(), Some("none" | "private_key_jwt"));
    if needs_secret && record.client.client_secret.is_none() {
        let message = format!(
            "the registry registered client {} but issued no client_secret: check its policy, or declare tokenEndpointAuthMethod",
            record.client.client_id
        );
        return Some(Step::Refuse(Why::new("NoSecretIssued", message)));
    }
    let end = record.client.client_secret_expires_at.filter(|end| *end <= facts.now)?;
    let message = format!(
        "the client secret expired at {end} and the registry did not renew it: delete this object and make a new one, or renew it there"
    );
    Some(Step::Refuse(Why::new("ClientSecretExpired", message)))
}

/// The end of a secret that is near: some servers renew it at an update.
fn expiring(facts: &Facts, record: &Record) -> Option<jiff::Timestamp> {
    const MARGIN: i64 = 24 * 3600;
    let end = record.client.client_secret_expires_at?;
    let since = record.state.secret_since.or(record.client.registered_at);
    let life = since.map_or(3 * MARGIN, |start| end.duration_since(start).as_secs());
    let left = end.duration_since(facts.now).as_secs();
    (left < MARGIN.min(life / 3)).then_some(end)
}

#[cfg(test)]
pub(crate) mod tests;
