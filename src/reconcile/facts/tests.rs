//! The laws of the difference: it names what differs, all of it and nothing else, and who has to mend it.

use proptest::{prelude::*, sample::subsequence};
use serde_json::{Value, json};

use super::*;
use crate::reconcile::next::tests::given;

/// Fields that are declared, and what others made of them.
fn members() -> impl Strategy<Value = (Vec<Field>, Vec<Field>, Vec<Field>)> {
    let some = |fields: Vec<Field>| subsequence(fields.clone(), 0..=fields.len());
    some(Field::ALL.to_vec())
        .prop_flat_map(move |declared| (Just(declared.clone()), some(declared), some(Field::ALL.to_vec())))
}

fn metadata_of(fields: &[Field], value: &str) -> ClientMetadata {
    ClientMetadata(fields.iter().map(|field| (*field, json!(value))).collect())
}

fn with(document: &Document, fields: &[Field], value: &str) -> Document {
    let others = fields.iter().map(|field| (field.wire_name().to_owned(), Value::from(value)));
    document.clone().into_iter().chain(others).collect()
}

/// Ready, with these fields as they are declared.
fn ready(declared: &ClientMetadata) -> Facts {
    let mut facts = given::ready();
    facts.declared = declared.clone();
    let record = facts.stored();
    (record.state.applied, record.state.in_flight) = (declared.clone(), None);
    record.client.document = declared.to_document();
    facts
}

fn difference(facts: &Facts) -> Difference {
    facts.difference(facts.record().unwrap(), facts.registry.as_ref().unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_others_changed_is_to_be_written((declared, changed, _) in members()) {
        let mut facts = ready(&metadata_of(&declared, "ours"));
        prop_assert_eq!(difference(&facts), Difference::default(), "what was answered as declared");
        let seen = with(&facts.record().unwrap().client.document, &changed, "theirs");
        facts.progress.seen = Some(Client { document: seen, ..given::another("id-1") });
        prop_assert_eq!(difference(&facts), Difference { to_write: changed, ..Difference::default() });
    }

    #[test]
    fn what_the_registry_answered_otherwise_is_not_written_again((declared, changed, _) in members()) {
        let mut facts = ready(&metadata_of(&declared, "ours"));
        let answered = with(&facts.record().unwrap().client.document, &changed, "theirs");
        facts.stored().client.document.clone_from(&answered);
        let expected = Difference { not_taken: changed, ..Difference::default() };
        prop_assert_eq!(difference(&facts), expected.clone());
        facts.progress.seen = Some(Client { document: answered, ..given::another("id-1") });
        prop_assert_eq!(difference(&facts), expected, "nor when a look shows the same");
    }

    #[test]
    fn what_left_the_spec_is_reset_and_what_came_is_written((declared, _, next) in members()) {
        let mut facts = ready(&metadata_of(&declared, "ours"));
        facts.declared = metadata_of(&next, "ours");
        let only = |these: &[Field], those: &[Field]| -> Vec<Field> {
            these.iter().filter(|field| !those.contains(field)).copied().collect()
        };
        let expected = Difference {
            to_write: only(&next, &declared),
            to_reset: only(&declared, &next),
            not_taken: Vec::new(),
        };
        prop_assert_eq!(difference(&facts), expected);
    }

    #[test]
    fn a_fixed_value_that_left_the_spec_stays((declared, fixed, _) in members()) {
        let mut facts = ready(&metadata_of(&declared, "ours"));
        if let Ok(known) = &mut facts.registry {
            let always = fixed.iter().map(|field| (*field, Support::Fixed(vec![json!("ours")])));
            known.capabilities.fields.extend(always);
        }
        facts.declared = ClientMetadata::default();
        let to_reset: Vec<Field> = declared.into_iter().filter(|field| !fixed.contains(field)).collect();
        prop_assert_eq!(difference(&facts), Difference { to_reset, ..Difference::default() });
    }
}
