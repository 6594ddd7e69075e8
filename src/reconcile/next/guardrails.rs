//! The rule by which a registry's owner limits what its clients may ask for.

use serde_json::Value;

use super::Step;
use crate::{
    api::{Guardrails, hosts::is_listed},
    reconcile::facts::{Facts, Known, Why},
    registry::{Field, Support},
};

/// Wherever people are sent back to.
const REDIRECTS: [Field; 6] = [
    Field::RedirectUris,
    Field::PostLogoutRedirectUris,
    Field::DefaultRedirectUri,
    Field::BookingRedirectUri,
    Field::BookingCancelRedirectUri,
    Field::BookingRescheduleRedirectUri,
];

type Allows = fn(&str, &[String]) -> bool;

/// Before any call: a new client is not registered, one that exists stays as it is.
pub(super) fn not_allowed(facts: &Facts) -> Option<Step> {
    let known = facts.registry.as_ref().ok()?;
    let Guardrails { allowed_redirect_hosts, allowed_grant_types, allowed_scopes } =
        known.guardrails.as_ref()?;
    let one_of: Allows = |value, list| list.iter().any(|one| one == value);
    let limits: [(_, &[Field], Allows); 3] = [
        (allowed_redirect_hosts, &REDIRECTS, is_listed),
        (allowed_grant_types, &[Field::GrantTypes], one_of),
        (allowed_scopes, &[Field::Scopes], one_of),
    ];
    let message = limits.into_iter().find_map(|(list, fields, allows)| {
        let list = list.as_deref()?;
        let beyond = || fields.iter().find_map(|field| beyond(facts, *field, list, allows));
        left_open(facts, known, fields[0]).or_else(beyond)
    });
    message.map(|message| Step::Refuse(Why::new("NotAllowed", message)))
}

/// What nobody declares is the registry's to choose, or somebody else's: that is no limit.
fn left_open(facts: &Facts, known: &Known, field: Field) -> Option<String> {
    let unknown = *known.capabilities.support(field) == Support::Unsupported;
    let name = field.spec_name();
    (!unknown && facts.declared.get(field).is_none())
        .then(|| format!("the registry's guardrails limit {name}: declare it, `[]` for none"))
}

fn beyond(facts: &Facts, field: Field, list: &[String], allows: Allows) -> Option<String> {
    let declared = facts.declared.get(field)?;
    let values = declared.as_array().map_or(std::slice::from_ref(declared), Vec::as_slice);
    let not_allowed = values.iter().filter_map(Value::as_str).find(|value| !allows(value, list))?;
    let allowed = if list.is_empty() { "nothing".to_owned() } else { list.join(", ") };
    Some(format!(
        "the registry's guardrails do not allow {} {not_allowed:?}, but {allowed}: change it, or ask the registry's owner",
        field.spec_name()
    ))
}
