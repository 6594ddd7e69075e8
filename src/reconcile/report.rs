//! Reports the end of a pass: status where it differs, events on change, a log line.

use kube::{
    Api, Resource, ResourceExt,
    api::PostParams,
    runtime::events::{Event, EventType, Recorder},
};

use super::{
    Context, PassError, call,
    facts::{Facts, Note, Why},
    next::Step,
    protocol::Rule,
    status,
};
use crate::api::{Condition, ConditionStatus, OAuthClient, conditions};

/// Kubernetes takes no longer notes.
const NOTE: usize = 1000;

/// Writes the status if it differs, and says what changed.
pub async fn report(context: &Context, facts: &mut Facts, end: &Step) -> Result<(), PassError> {
    log(facts, end);
    if facts.deleting() && matches!(end, Step::Settled) {
        publish_notes(context, facts).await;
        return Ok(());
    }
    let new = status::status(facts, end);
    let old = facts.client.status.clone();
    let old = old.as_ref();
    if old != Some(&new) {
        let mut client = facts.client.clone();
        client.status = Some(new.clone());
        if !Rule::Guard.holds() {
            client.metadata.resource_version = None;
        }
        let clients: Api<OAuthClient> =
            Api::namespaced(context.kube.clone(), &client.namespace().unwrap_or_default());
        // The object's resourceVersion goes with it: a stale pass reports nothing.
        let name = client.name_any();
        facts.client =
            call("write the status", clients.replace_status(&name, &PostParams::default(), &client)).await?;
    }
    publish_notes(context, facts).await;
    if facts.progress.notes.is_empty()
        && let Some(note) = transition(old.map_or(&[], |status| &status.conditions), &new.conditions)
    {
        publish(context, &facts.client, &note).await;
    }
    Ok(())
}

/// One event for a change of `Ready`.
fn transition(old: &[Condition], new: &[Condition]) -> Option<Note> {
    let now = conditions::find(new, conditions::READY)?;
    let before = conditions::find(old, conditions::READY);
    let changed = before.is_none_or(|before| (before.status, &before.reason) != (now.status, &now.reason));
    let warning = now.status != ConditionStatus::True;
    changed.then(|| Note { warning, why: Why::new(&now.reason, &now.message) })
}

/// Publishes what happened in a pass.
pub async fn publish_notes(context: &Context, facts: &Facts) {
    for note in &facts.progress.notes {
        publish(context, &facts.client, note).await;
    }
}

async fn publish(context: &Context, client: &OAuthClient, note: &Note) {
    let event = Event {
        type_: if note.warning { EventType::Warning } else { EventType::Normal },
        reason: note.why.reason.clone(),
        note: Some(note.why.message.chars().take(NOTE).collect()),
        action: "Reconcile".into(),
        secondary: None,
    };
    // A recorder counts events of one reason and keeps the first one's words; ours differ in what they name.
    let recorder = Recorder::new(context.kube.clone(), context.reporter.clone());
    // An event that cannot be published is no reason to fail the pass.
    match tokio::time::timeout(super::API_TIMEOUT, recorder.publish(&event, &client.object_ref(&()))).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "an event was not published"),
        Err(_) => tracing::debug!("an event was not published in time"),
    }
}

fn log(facts: &Facts, end: &Step) {
    let (namespace, name) = (facts.client.namespace().unwrap_or_default(), facts.client.name_any());
    match end {
        Step::Settled => tracing::debug!(namespace, name, "settled"),
        Step::Wait(why, after) => {
            tracing::info!(namespace, name, reason = why.reason, ?after, "{}", why.message);
        }
        Step::Refuse(why) => {
            tracing::info!(namespace, name, reason = why.reason, "{}", why.message);
        }
        Step::Fail(error) => {
            tracing::warn!(namespace, name, reason = error.kind.reason(), "{}", error.summary);
        }
        Step::Do(effect) => tracing::error!(namespace, name, ?effect, "the pass did not come to an end"),
    }
    for note in &facts.progress.notes {
        tracing::info!(namespace, name, reason = note.why.reason, "{}", note.why.message);
    }
}
