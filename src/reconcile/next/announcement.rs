//! What is written down before a request that makes something, and how it is read again.

use super::{Effect, Step, account::account_in_doubt};
use crate::reconcile::{
    SOON,
    facts::{Facts, Known, software_id},
    intent::Intent,
};

/// A final refusal stands until something changes.
pub(super) fn refused(facts: &Facts, known: &Known, intent: &Intent) -> Option<Step> {
    let refusal = intent.refused.as_ref()?;
    (refusal.final_for.as_deref() == Some(facts.question(known).as_str()))
        .then(|| Step::Refuse(refusal.into()))
}

/// Nothing is announced that could not be sent.
pub(super) fn announce(facts: &Facts, known: &Known, intent: Intent) -> Step {
    let named = facts.client.status.as_ref().and_then(|status| status.client_id.clone());
    let intent = Intent { gave_up: named.filter(|_| facts.record().is_none()), ..intent };
    match &known.not_ready {
        Some(why) => Step::Wait(why.clone(), SOON),
        None if let Some(doubt) = account_in_doubt(facts) => doubt,
        None if facts.progress.prepared => Step::Do(Effect::Announce(Box::new(intent))),
        None => Step::Do(Effect::Prepare),
    }
}

/// What is known of an attempt of which nobody saw the end, and what comes then.
pub(super) fn unknown_message(facts: &Facts, intent: &Intent, then: &str) -> String {
    format!(
        "attempt {} to register {:?} at {} may or may not have made a client (software_id {}); {then}",
        intent.attempt,
        facts.client.client_name(),
        intent.at,
        software_id(&facts.client, &intent.nonce)
    )
}
