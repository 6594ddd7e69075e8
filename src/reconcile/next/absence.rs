//! Rules about clients that are not there.

use super::{
    Step,
    announcement::{announce, refused},
};
use crate::{
    api::ReplacementPolicy,
    reconcile::{
        SOON,
        facts::{Facts, Why},
        intent::{Intent, Suspect},
        record::Record,
    },
    registry::Management,
};

/// Absence counts when it is proven, not before.
pub(super) fn client_is_missing(facts: &Facts) -> Option<Step> {
    let why = facts.progress.missing.clone().filter(|_| !facts.progress.gone)?;
    Some(Step::Wait(why, SOON))
}

/// The registry has provably lost the client.
pub(super) fn client_is_gone(facts: &Facts) -> Option<Step> {
    if !facts.progress.gone || facts.progress.announced {
        return None;
    }
    let (record, known) = (facts.record()?, facts.registry.as_ref().ok()?);
    match facts.client.spec.replacement_policy {
        ReplacementPolicy::Never => Some(Step::Refuse(never(&record.client.client_id))),
        ReplacementPolicy::WhenGone | ReplacementPolicy::WhenNeeded => Some(match &facts.intent {
            // Attempts to replace this very client count on.
            Some(intent) if intent.replaces.as_ref() == Some(&record.state.nonce) => {
                refused(facts, known, intent).unwrap_or_else(|| {
                    let replaces = intent.replaces.clone();
                    let next = intent.next(facts.nonce.clone(), replaces, facts.now, false);
                    announce(facts, known, Intent { secret_for: None, retires: None, ..next })
                })
            }
            Some(intent) => announce(facts, known, replacing(facts, record, intent.suspects.clone())),
            None => announce(facts, known, replacing(facts, record, Vec::new())),
        }),
    }
}

/// Why a client that is gone stays so.
pub(super) fn never(client_id: &str) -> Why {
    let message = format!(
        "the registry no longer has client {client_id}; spec.replacementPolicy is Never: set WhenGone to have a new one, with a new id"
    );
    Why::new("ClientGone", message)
}

/// A first attempt to replace a client. Credentials that a lost reply may have changed, or that time has ended, are poor
/// witnesses of its end: then it is a suspect.
fn replacing(facts: &Facts, record: &Record, mut suspects: Vec<Suspect>) -> Intent {
    let nonce = &record.state.nonce;
    let by_token = !matches!(record.client.management, Management::Registry);
    let poor = record.state.in_flight.is_some()
        || record.client.client_secret_expires_at.is_some_and(|end| end <= facts.now);
    if by_token && poor {
        suspects.push(Suspect { nonce: nonce.clone(), at: record.client.registered_at.unwrap_or(facts.now) });
    }
    let first = Intent::first(facts.uid(), facts.nonce.clone(), Some(nonce.clone()), facts.now);
    Intent { suspects, ..first }
}
