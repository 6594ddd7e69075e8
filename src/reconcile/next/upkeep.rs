//! Rules about a client that is there: looked at, brought to what is declared, and judged.

use super::{Effect, Step};
use crate::{
    reconcile::{
        facts::{Difference, Facts, Why},
        record::Record,
    },
    registry::{Field, Management, error::quote, metadata},
};

pub(super) fn time_to_look(facts: &Facts) -> Option<Step> {
    let (record, known) = (facts.record()?, facts.registry.as_ref().ok()?);
    let managed = matches!(record.client.management, Management::Token { .. });
    let looked = facts.progress.seen.is_some() || facts.progress.gone;
    (facts.look_due && known.reads && managed && !looked).then_some(Step::Do(Effect::Look))
}

/// Writes what differs: announced in the record first, because the reply may bring new credentials.
pub(super) fn differs(facts: &Facts) -> Option<Step> {
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
