//! Rules about the account that the credentials open.

use super::{Effect, Step};
use crate::{
    api::annotations,
    reconcile::{
        SOON,
        facts::{Facts, Why},
    },
};

/// Nothing is registered with credentials that may be another organisation's, while the registry should have some of our clients.
pub(super) fn account_not_proven(facts: &Facts) -> Option<Step> {
    let asked_already = facts.record().is_some() || facts.progress.announced;
    if asked_already { None } else { account_in_doubt(facts) }
}

/// Credentials that have never shown one of our clients may be another organisation's: whatever is made there is lost, and
/// whatever is removed only seems to be gone.
pub(super) fn account_in_doubt(facts: &Facts) -> Option<Step> {
    let known = facts.registry.as_ref().ok()?;
    if known.proven || known.is_accepted() || !known.capabilities.lists() {
        return None;
    }
    if !facts.progress.surveyed {
        return Some(Step::Do(Effect::Survey));
    }
    Some(Step::Wait(account_unknown(&known.identity()), SOON))
}

/// Why nothing is believed of an account.
pub fn account_unknown(identity: &str) -> Why {
    let message = format!(
        "the registry's credentials show none of the clients that were registered there; they may belong to another account: \
         put the right ones back, or if they are right, annotate the registry with {}={identity}",
        annotations::ACCEPT
    );
    Why::new("RegistryChanged", message)
}
