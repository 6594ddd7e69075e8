//! Rules about a client that an attempt may have made where clients can be found again: it is searched for, adopted, and given a
//! secret that somebody knows.

use std::time::Duration;

use super::{
    Effect, Step,
    announcement::{announce, unknown_message},
};
use crate::{
    reconcile::{
        facts::{Facts, Known, Search, Why},
        intent::{Intent, Named},
        protocol::Rule,
    },
    registry::{Adoption, Client, Rotation},
};

/// Lists may lag behind: a read replica, a cache.
const LAG: Duration = Duration::from_secs(3);

/// What becomes of an attempt of that age of which nobody saw the end.
pub(super) fn resolve(facts: &Facts, known: &Known, intent: &Intent, age: Duration) -> Option<Step> {
    // Without a record it was the client before that is gone; the attempt may have made another.
    if facts.record().is_some() && (facts.progress.gone || facts.progress.missing.is_some()) {
        return None;
    }
    // What nothing can fence waits until every older request must be over; so does a second registration.
    let unfenced = intent.secret_for.is_some() || known.capabilities.adoption == Adoption::Replaced;
    let until = |then: Duration| Some(wait(facts, intent, then.saturating_sub(age)));
    match facts.progress.searched {
        _ if unfenced && age < facts.settle => until(facts.settle),
        _ if known.capabilities.adoption == Adoption::Replaced => Some(again(facts, known, intent)),
        None if age < LAG && facts.progress.conflict.is_none() => until(LAG),
        None => Some(Step::Do(Effect::Search)),
        Some(Search::Nothing) if age < facts.settle => until(facts.settle),
        Some(Search::Nothing) => Some(again(facts, known, intent)),
        Some(Search::Found) if known.capabilities.rotation == Rotation::Replace && age < facts.settle => {
            until(facts.settle)
        }
        Some(Search::Found) => None,
    }
}

fn wait(facts: &Facts, intent: &Intent, left: Duration) -> Step {
    let then = "it is searched for at the registry before anything else is done";
    Step::Wait(Why::new("OutcomeUnknown", unknown_message(facts, intent, then)), left)
}

/// The same once more. What the attempts before may still make bears their marks, so it will be found: no suspects.
fn again(facts: &Facts, known: &Known, intent: &Intent) -> Step {
    let next = intent.next(facts.nonce.clone(), intent.replaces.clone(), facts.now, false);
    announce(facts, known, Intent { suspects: Vec::new(), secret_for: None, ..next })
}

/// A client without a secret that anybody knows gets one; announced first, since it may get lost like the others.
pub(super) fn secret_to_issue(facts: &Facts) -> Option<Step> {
    let known = facts.registry.as_ref().ok()?;
    let intent = facts.intent.as_ref()?;
    let client = client_to_serve(facts, intent)?;
    let announced = facts.progress.announced && intent.refused.is_none();
    if !Rule::Own.holds() || announced && intent.secret_for == Some(Named::of(client)) {
        return Some(Step::Do(Effect::IssueSecret(Box::new(client.clone()))));
    }
    let old = facts.settle <= facts.since(intent.at);
    if !facts.progress.announced && known.capabilities.rotation == Rotation::Replace && !old {
        return None;
    }
    let next = if facts.progress.announced {
        // This attempt did what it was for.
        Intent { nonce: facts.nonce.clone(), at: facts.now, ..intent.clone() }
    } else {
        let next = intent.next(facts.nonce.clone(), intent.replaces.clone(), facts.now, false);
        Intent { suspects: Vec::new(), ..next }
    };
    Some(announce(facts, known, Intent { secret_for: Some(Named::of(client)), ..next }))
}

/// The client that is to get a secret: one that was found or made just now, or the record's.
fn client_to_serve<'a>(facts: &'a Facts, intent: &Intent) -> Option<&'a Client> {
    if let Some(client) = &facts.progress.adopting {
        return Some(client);
    }
    let record = facts.record().filter(|record| record.state.nonce != intent.nonce)?;
    let named = intent.secret_for == Some(Named::of(&record.client));
    (named && facts.progress.announced).then_some(&record.client)
}
