//! Rules about a client that is there: looked at, brought to what is declared, and judged.

use super::{Effect, Step, secrets::recreate};
use crate::{
    api::ReplacementPolicy,
    reconcile::{
        facts::{Difference, Facts, Known, Why},
        protocol::Rule,
        record::Record,
    },
    registry::{ClientMetadata, Field, Management, MarkPlace, Support, error::quote, metadata},
};

pub(super) fn time_to_look(facts: &Facts) -> Option<Step> {
    let (record, known) = (facts.record()?, facts.registry.as_ref().ok()?);
    let managed = !matches!(record.client.management, Management::None(_));
    let looked = facts.progress.seen.is_some() || facts.progress.gone || facts.progress.missing.is_some();
    (facts.look_due && known.reads && managed && !looked).then_some(Step::Do(Effect::Look))
}

/// Writes what differs. Where the reply may bring new credentials it is announced in the record first.
pub(super) fn differs(facts: &Facts) -> Option<Step> {
    let (record, known) = (facts.record()?, facts.registry.as_ref().ok()?);
    let Difference { to_write, to_reset, .. } = facts.difference(record, known);
    let renew = expiring(facts, record).is_some_and(|end| record.state.renewed_for != Some(end));
    let mark = bears_pending_mark(facts, known, record) || lacks_mark(facts, known);
    if to_write.is_empty() && to_reset.is_empty() && record.state.in_flight.is_none() && !renew && !mark {
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
    if let Management::Registry = record.client.management {
        return update_by_registry(facts, known, record, wanted, to_reset);
    }
    if record.state.in_flight.as_ref() != Some(&wanted) {
        let mut record = record.clone();
        record.state.in_flight = Some(wanted);
        return Some(Step::Do(Effect::Store(Box::new(record))));
    }
    Some(Step::Do(Effect::Update { wanted, reset: to_reset }))
}

/// Nothing that this reply brings is seen only once, so nothing is announced; but what is set is noted first, so that it can be
/// reset when it leaves the spec.
fn update_by_registry(
    facts: &Facts,
    known: &Known,
    record: &Record,
    wanted: ClientMetadata,
    reset: Vec<Field>,
) -> Option<Step> {
    let marked = bears_pending_mark(facts, known, record);
    if marked && Rule::IdFirst.holds() && !facts.names(record) {
        return None;
    }
    let difference = facts.difference(record, known);
    let fixed = |field: &&Field| *known.capabilities.support(**field) == Support::Immutable;
    let immutable: Vec<&str> =
        difference.to_write.iter().chain(&reset).filter(fixed).map(|field| field.spec_name()).collect();
    if !immutable.is_empty() {
        return Some(needs_replacement(facts, known, record, &immutable.join(", ")));
    }
    let first_set = wanted.0.keys().any(|field| record.state.applied.get(*field).is_none());
    if first_set && record.state.in_flight.as_ref() != Some(&wanted) {
        let mut next = record.clone();
        next.state.in_flight = Some(wanted);
        return Some(Step::Do(Effect::Store(Box::new(next))));
    }
    Some(Step::Do(Effect::Update { wanted, reset }))
}

/// The registry cannot change these fields of a client.
fn needs_replacement(facts: &Facts, known: &Known, record: &Record, fields: &str) -> Step {
    if facts.client.spec.replacement_policy == ReplacementPolicy::WhenNeeded {
        return recreate(facts, known, record);
    }
    let message = format!(
        "this registry cannot change {fields} of a client: undo the change, or set spec.replacementPolicy: WhenNeeded to have a new \
         client, with a new id; the old one then stays for rotation.overlap"
    );
    Step::Refuse(Why::new("ReplacementNeeded", message))
}

/// Whether the client still bears its mark in place of its name.
fn bears_pending_mark(facts: &Facts, known: &Known, record: &Record) -> bool {
    let shown = facts.progress.seen.as_ref().unwrap_or(&record.client);
    known.capabilities.mark == MarkPlace::PendingName && shown.mark.is_some()
}

/// Whether the client has lost the mark that it should bear for good.
fn lacks_mark(facts: &Facts, known: &Known) -> bool {
    let settable = Field::Description;
    known.capabilities.mark == MarkPlace::Beside
        && *known.capabilities.support(settable) == Support::Settable
        && facts.progress.seen.as_ref().is_some_and(|seen| seen.mark.is_none())
}

/// The registry answered our write with something else; writing again would not help.
pub(super) fn not_as_declared(facts: &Facts) -> Option<Step> {
    let (record, known) = (facts.record()?, facts.registry.as_ref().ok()?);
    let not_taken = facts.difference(record, known).not_taken;
    let field = not_taken.first()?;
    let message = format!(
        "the registry answered with {} {} instead of what is declared{}: declare that, or change the registry",
        field.spec_name(),
        quote(&metadata::shown(*field, &record.client.document).to_string(), &[]),
        if not_taken.len() > 1 { format!(" (and {} more)", not_taken.len() - 1) } else { String::new() }
    );
    Some(Step::Refuse(Why::new("NotAsDeclared", message)))
}

/// The registry has the client, but lets nobody use it.
pub(super) fn client_is_disabled(facts: &Facts) -> Option<Step> {
    let (record, seen) = (facts.record()?, facts.progress.seen.as_ref()?);
    (!seen.active).then(|| {
        let id = &record.client.client_id;
        Step::Refuse(Why::new(
            "ClientDisabled",
            format!("the registry has disabled client {id}: enable it there, or delete this object and make a new one"),
        ))
    })
}

/// A confidential client without a live secret is of no use, and says so.
pub(super) fn no_secret_or_expired(facts: &Facts) -> Option<Step> {
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
pub(super) fn expiring(facts: &Facts, record: &Record) -> Option<jiff::Timestamp> {
    const MARGIN: i64 = 24 * 3600;
    let end = record.client.client_secret_expires_at?;
    let since = record.state.secret_since.or(record.client.registered_at);
    let life = since.map_or(3 * MARGIN, |start| end.duration_since(start).as_secs());
    let left = end.duration_since(facts.now).as_secs();
    (left < MARGIN.min(life / 3)).then_some(end)
}
