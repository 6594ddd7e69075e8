use serde_json::{Value, json};

use super::*;

const AT: &str = "2030-01-01T00:00:00Z";

fn at() -> Timestamp {
    AT.parse().unwrap()
}

/// An object with this annotation.
fn object(uid: &str, intent: Option<&str>) -> OAuthClient {
    let annotations: Value = intent.map(|text| json!({annotations::INTENT: text})).unwrap_or_default();
    let metadata = json!({"name": "app", "namespace": "ns", "uid": uid, "annotations": annotations});
    let object = json!({"metadata": metadata, "spec": {"registryRef": {"name": "dev"}}});
    serde_json::from_value(object).unwrap()
}

fn first() -> Intent {
    Intent::first("uid-1", "n1".into(), None, at())
}

fn refusal() -> Refusal {
    Refusal { reason: "Rejected".into(), message: "the registry refused".into(), final_for: None }
}

fn suspects(intent: &Intent) -> Vec<&str> {
    intent.suspects.iter().map(|suspect| suspect.nonce.as_str()).collect()
}

#[test]
fn only_an_intent_that_was_written_for_this_object_counts() {
    let text = first().to_text().unwrap();
    let minimal = format!(r#"{{"uid":"uid-1","nonce":"n1","attempt":1,"at":"{AT}"}}"#);
    let newer = format!(r#"{{"uid":"uid-1","nonce":"n1","attempt":1,"at":"{AT}","invented":["later"]}}"#);
    let cases: [(&str, &str, Option<&str>, bool); 10] = [
        ("its own", "uid-1", Some(&text), true),
        ("it came with copied YAML", "uid-2", Some(&text), false),
        ("there is none", "uid-1", None, false),
        ("members that are left out have their defaults", "uid-1", Some(&minimal), true),
        ("members of a later version are ignored", "uid-1", Some(&newer), true),
        ("no JSON", "uid-1", Some("{"), false),
        ("nothing", "uid-1", Some(""), false),
        ("no object", "uid-1", Some("[1]"), false),
        ("no nonce", "uid-1", Some(r#"{"uid":"uid-1","attempt":1}"#), false),
        ("no time", "uid-1", Some(r#"{"uid":"uid-1","nonce":"n","attempt":1,"at":"yesterday"}"#), false),
    ];
    for (reason, uid, text, counts) in cases {
        assert_eq!(Intent::of(&object(uid, text)).is_some(), counts, "{reason}");
    }
}

#[test]
fn an_intent_reads_back_as_it_was_written() {
    let written = first().next("n2".into(), Some("n0".into()), at(), false).refused(refusal());
    let read = Intent::of(&object("uid-1", Some(&written.to_text().unwrap())));
    assert_eq!(read, Some(written));
}

#[test]
fn an_outcome_that_nobody_saw_is_a_suspect_and_is_counted() {
    let second = first().next("n2".into(), None, at(), false);
    let third = second.next("n3".into(), None, at(), false);
    assert_eq!((second.attempt, suspects(&second)), (2, vec!["n1"]));
    assert_eq!((third.attempt, suspects(&third)), (3, vec!["n1", "n2"]));
    assert_eq!(third.suspects[0].at, at(), "with the time at which people may look for it");
}

#[test]
fn a_refused_attempt_made_no_client_and_is_not_counted() {
    let second = first().refused(refusal()).next("n2".into(), None, at(), false);
    assert_eq!((second.attempt, suspects(&second)), (1, vec![]));
    assert_eq!(second.refused, None, "the new attempt was not refused");
    let after_a_suspect = first().next("n2".into(), None, at(), false).refused(refusal());
    let next = after_a_suspect.next("n3".into(), None, at(), false);
    assert_eq!((next.attempt, suspects(&next)), (2, vec!["n1"]), "what was counted before stays counted");
}

#[test]
fn a_person_who_has_looked_starts_the_count_again() {
    let halted = Intent { attempt: 3, ..first().next("n3".into(), None, at(), false) };
    let resumed = halted.next("n4".into(), Some("n0".into()), at(), true);
    assert_eq!((resumed.attempt, suspects(&resumed)), (1, vec![]), "and has looked after what was there");
    assert_eq!(resumed.replaces.as_deref(), Some("n0"));
    assert_eq!(resumed.uid, "uid-1");
    let ended = first().next("n2".into(), None, at(), false);
    assert_eq!(ended.looked_after(), Intent { suspects: Vec::new(), ..ended }, "nothing else changes");
}
