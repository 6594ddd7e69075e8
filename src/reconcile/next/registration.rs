//! Rules about registrations: announced first, never repeated blindly, and replaced only where the client is provably gone.

use super::{
    ATTEMPTS, Effect, Step, absence, adoption,
    announcement::{announce, refused, unknown_message},
};
use crate::{
    api::{
        ReplacementPolicy, UnknownOutcome, annotations,
        conditions::{self, READY},
    },
    reconcile::{
        SOON,
        facts::{Facts, Why, resume_command, software_id, suspects},
        intent::Intent,
        record,
    },
    registry::{Client, Management, Wanted},
};

/// Status names a client, so there was a record. Making another client beside it would leak one.
pub(super) fn record_is_lost(facts: &Facts) -> Option<Step> {
    let id = facts.client.status.as_ref()?.client_id.as_ref()?;
    let token = facts.intent.as_ref().map_or(facts.uid(), |intent| &intent.nonce);
    let released = facts.annotation(annotations::RESUME) == Some(token)
        || facts.intent.as_ref().is_some_and(|intent| intent.gave_up.as_ref() == Some(id));
    if facts.record().is_some() || facts.progress.announced || released {
        return None;
    }
    if facts.registry.as_ref().is_ok_and(|known| known.capabilities.shows_secrets) {
        return recover(facts, id);
    }
    Some({
        let message = format!(
            "the operator's record {} of client {id} is gone, and with it what manages the client; the Secret stays as it is. \
             Restore the record from a backup; or remove the client at the registry, then have a new one: {}",
            record::name(facts.uid()),
            resume_command(&facts.client, token)
        );
        Step::Refuse(Why::new("RecordLost", message))
    })
}

/// Where every read shows the secret, the client that status names is read again.
fn recover(facts: &Facts, id: &str) -> Option<Step> {
    let never = facts.client.spec.replacement_policy == ReplacementPolicy::Never;
    match (facts.progress.gone, &facts.progress.missing) {
        (true, _) if never => Some(Step::Refuse(absence::never(id))),
        (true, _) => None,
        (false, Some(why)) => Some(Step::Wait(why.clone(), SOON)),
        (false, None) => Some(Step::Do(Effect::Recover(Box::new(Client::named(id, Management::Registry))))),
    }
}

/// A person has looked at the registry for what earlier attempts may have left there.
pub(super) fn suspects_looked_after(facts: &Facts) -> Option<Step> {
    let intent = facts.intent.as_ref().filter(|intent| !intent.suspects.is_empty())?;
    let told = facts.annotation(annotations::RESUME) == Some(intent.nonce.as_str());
    told.then(|| Step::Do(Effect::Acknowledge(Box::new(intent.looked_after()))))
}

/// An announced registration that nobody saw the end of: it may have made a client whose secret nobody holds.
pub(super) fn outcome_unknown(facts: &Facts) -> Option<Step> {
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
    if known.capabilities.lists() {
        return adoption::resolve(facts, known, intent, age);
    }
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

/// Announce, then register.
pub(super) fn not_registered(facts: &Facts) -> Option<Step> {
    let known = facts.registry.as_ref().ok()?;
    if facts.record().is_some() && !facts.progress.announced {
        return None;
    }
    match &facts.intent {
        Some(intent) if facts.progress.announced && intent.secret_for.is_some() => None,
        Some(intent) if facts.progress.announced && intent.refused.is_none() => {
            let already = facts.record().is_some_and(|record| record.state.nonce == intent.nonce);
            let software_id = software_id(&facts.client, &intent.nonce);
            let wanted = Wanted { metadata: facts.declared(), mark: facts.mark(intent), software_id };
            (!already).then_some(Step::Do(Effect::Register(Box::new(wanted))))
        }
        Some(intent) => Some(refused(facts, known, intent).unwrap_or_else(|| {
            let next = intent.next(facts.nonce.clone(), None, facts.now, false);
            announce(facts, known, Intent { secret_for: None, retires: None, ..next })
        })),
        None => {
            let first = Intent::first(facts.uid(), facts.nonce.clone(), None, facts.now);
            Some(announce(facts, known, first))
        }
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
