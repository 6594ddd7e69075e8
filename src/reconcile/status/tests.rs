use jiff::SignedDuration;
use proptest::prelude::*;
use serde_json::json;
use std::time::Duration;

use super::*;
use crate::api::annotations;
use crate::{
    reconcile::next::tests::given::{self, error, why},
    registry::Field,
};

/// The conditions in a few words: `Ready=True Ready`, one each.
fn words(status: &OAuthClientStatus) -> Vec<String> {
    status.conditions.iter().map(|c| format!("{}={:?} {}", c.type_, c.status, c.reason)).collect()
}

/// The facts of the next pass: this status was written, and a minute has passed.
fn told(facts: Facts, status: OAuthClientStatus) -> Facts {
    facts.but(|facts| {
        facts.client.status = Some(status);
        facts.now += SignedDuration::from_mins(1);
    })
}

fn after(facts: Facts, end: &Step) -> Facts {
    let new = status(&facts, end);
    told(facts, new)
}

fn ready() -> Facts {
    after(given::ready(), &Step::Settled)
}

fn wait(reason: &str) -> Step {
    Step::Wait(why(reason), Duration::from_secs(30))
}

fn refuse(reason: &str) -> Step {
    Step::Refuse(why(reason))
}

fn fail(kind: Kind) -> Step {
    Step::Fail(error(kind))
}

fn ready_of(facts: &Facts, end: &Step) -> Condition {
    conditions::find(&status(facts, end).conditions, READY).unwrap().clone()
}

#[test]
#[expect(clippy::too_many_lines, reason = "one table")]
fn each_end_is_told_as_kstatus_reads_it() {
    const STORED: &str = "CredentialsStored=True Stored";
    const NOT_STORED: &str = "CredentialsStored=False NotRegistered";
    const REGISTERED: &str = "Registered=True Registered";
    let cases: Vec<(&str, Facts, Step, &[&str])> = vec![
        ("all is well", given::ready(), Step::Settled, &["Ready=True Ready", REGISTERED, STORED]),
        (
            "it comes without a change of the object",
            given::new_client(),
            wait("RegistryNotFound"),
            &[
                "Ready=False RegistryNotFound",
                "Registered=False RegistryNotFound",
                NOT_STORED,
                "Reconciling=True RegistryNotFound",
            ],
        ),
        (
            "a dead end",
            given::new_client(),
            refuse("Unsupported"),
            &[
                "Ready=False Unsupported",
                "Registered=False Unsupported",
                NOT_STORED,
                "Stalled=True Unsupported",
            ],
        ),
        (
            "nobody knows, and it goes on by itself",
            given::new_client(),
            wait("OutcomeUnknown"),
            &[
                "Ready=Unknown OutcomeUnknown",
                "Registered=Unknown OutcomeUnknown",
                NOT_STORED,
                "Reconciling=True OutcomeUnknown",
            ],
        ),
        (
            "nobody knows, and a person has to look",
            given::new_client(),
            refuse("OutcomeUnknown"),
            &[
                "Ready=Unknown OutcomeUnknown",
                "Registered=Unknown OutcomeUnknown",
                NOT_STORED,
                "Stalled=True OutcomeUnknown",
            ],
        ),
        (
            "a replacement of which nobody knows",
            given::ready(),
            wait("OutcomeUnknown"),
            &[
                "Ready=Unknown OutcomeUnknown",
                "Registered=Unknown OutcomeUnknown",
                STORED,
                "Reconciling=True OutcomeUnknown",
            ],
        ),
        (
            "the registry does not answer",
            given::new_client(),
            fail(Kind::Unavailable),
            &[
                "Ready=False RegistryUnavailable",
                "Registered=False RegistryUnavailable",
                NOT_STORED,
                "Reconciling=True RegistryUnavailable",
            ],
        ),
        (
            "it does not answer, but has the client",
            given::ready(),
            fail(Kind::Unavailable),
            &["Ready=False RegistryUnavailable", REGISTERED, STORED, "Reconciling=True RegistryUnavailable"],
        ),
        (
            "somebody has to mend the credentials of the registry",
            given::new_client(),
            fail(Kind::Unauthorized),
            &[
                "Ready=False Unauthorized",
                "Registered=False Unauthorized",
                NOT_STORED,
                "Reconciling=True Unauthorized",
            ],
        ),
        (
            "the registry refuses what is declared",
            given::new_client(),
            fail(Kind::Rejected),
            &["Ready=False Rejected", "Registered=False Rejected", NOT_STORED, "Stalled=True Rejected"],
        ),
        (
            "the client is gone",
            given::ready(),
            refuse("ClientGone"),
            &["Ready=False ClientGone", "Registered=False ClientGone", STORED, "Stalled=True ClientGone"],
        ),
        (
            "it is there, but nobody can manage it",
            given::ready(),
            fail(Kind::ManagementLost),
            &[
                "Ready=False ManagementLost",
                "Registered=False ManagementLost",
                STORED,
                "Reconciling=True ManagementLost",
            ],
        ),
        (
            "somebody else's Secret",
            given::ready().but(|facts| facts.secret = Found::Foreign),
            refuse("SecretNotOurs"),
            &[
                "Ready=False SecretNotOurs",
                REGISTERED,
                "CredentialsStored=False SecretNotOurs",
                "Stalled=True SecretNotOurs",
            ],
        ),
        (
            "the Secret cannot be written",
            given::ready().but(|facts| facts.secret = Found::Absent),
            wait("KubernetesRefused"),
            &[
                "Ready=False KubernetesRefused",
                REGISTERED,
                "CredentialsStored=False KubernetesRefused",
                "Reconciling=True KubernetesRefused",
            ],
        ),
        (
            "a deletion goes on",
            given::ready().deleted(9),
            fail(Kind::Unavailable),
            &["Ready=False RegistryUnavailable", REGISTERED, STORED, "Reconciling=True RegistryUnavailable"],
        ),
    ];
    for (reason, facts, end, expected) in cases {
        let new = status(&facts, &end);
        assert_eq!(words(&new), expected, "{reason}");
        assert_eq!(new.observed_generation, 1, "{reason}: it was looked at");
        assert!(new.conditions.iter().all(|c| c.observed_generation == Some(1)), "{reason}");
    }
}

#[test]
fn a_pass_that_does_not_end_says_so() {
    let ready = ready_of(&given::new_client(), &Step::Do(crate::reconcile::next::Effect::Prepare));
    assert_eq!((ready.status, ready.reason.as_str()), (ConditionStatus::Unknown, "InternalError"));
}

#[test]
fn the_client_is_described_by_its_record() {
    let facts = given::ready().but(|facts| {
        facts.stored().client.registered_at = Some(given::ago(60));
        facts.stored().client.client_secret_expires_at = Some(given::ago(-60));
    });
    let new = status(&facts, &Step::Settled);
    assert_eq!(new.client_id.as_deref(), Some("id-1"));
    assert_eq!(new.registered_at, Some(Time(given::ago(60))));
    assert_eq!(new.client_secret_expires_at, Some(Time(given::ago(-60))));
    assert_eq!(new.secret_ref, Some(SecretRef { name: "app".into() }));
    let shown = serde_json::to_string(&new).unwrap();
    assert!(!shown.contains("s3cr3t") && !shown.contains("t0ken"), "{shown}");
}

#[test]
fn what_people_asked_for_is_echoed_and_kept() {
    let asked = given::ready().note(annotations::FLUX_REQUESTED_AT, "then");
    assert_eq!(status(&asked, &Step::Settled).last_handled_reconcile_at.as_deref(), Some("then"));
    let both = after(asked.note(annotations::REQUESTED_AT, "now"), &Step::Settled);
    assert_eq!(
        both.client.status.as_ref().unwrap().last_handled_reconcile_at.as_deref(),
        Some("now"),
        "ours wins"
    );
    let removed = both.but(|facts| facts.client.metadata.annotations = None);
    assert_eq!(status(&removed, &Step::Settled).last_handled_reconcile_at.as_deref(), Some("now"));
    let long = given::ready().note(annotations::REQUESTED_AT, &"x".repeat(5000));
    assert_eq!(
        status(&long, &Step::Settled).last_handled_reconcile_at.unwrap().len(),
        1024,
        "the API server takes no more"
    );
}

#[test]
fn a_time_of_transition_is_that_of_the_status_not_of_the_reason() {
    let time =
        |facts: &Facts| facts.client.status.as_ref().unwrap().conditions[0].last_transition_time.clone();
    let first = after(given::new_client(), &wait("RegistryNotFound"));
    let second = after(
        given::new_client().but(|facts| facts.client.status.clone_from(&first.client.status)),
        &refuse("Unsupported"),
    );
    assert_eq!(time(&first), time(&second), "still False, for another reason");
    let third = status(
        &given::ready().but(|facts| {
            facts.client.status.clone_from(&second.client.status);
            facts.now += SignedDuration::from_hours(1);
        }),
        &Step::Settled,
    );
    assert_eq!(third.conditions[0].last_transition_time.0, given::now() + SignedDuration::from_hours(1));
    let stalled = |status: &OAuthClientStatus| conditions::find(&status.conditions, STALLED).cloned();
    let again = status(&second, &refuse("MissingField"));
    let before = stalled(second.client.status.as_ref().unwrap()).unwrap();
    assert_eq!(
        stalled(&again).unwrap().last_transition_time,
        before.last_transition_time,
        "stalled all the time"
    );
    assert!(stalled(&third).is_none(), "only while true");
}

#[test]
fn a_ready_client_stays_ready_while_the_registry_is_merely_slow() {
    let slow = [Kind::Unavailable, Kind::Throttled(Duration::from_secs(9))];
    for kind in slow {
        let old = ready().client.status;
        assert_eq!(Some(status(&ready(), &fail(kind))), old, "{kind:?}: its credentials work");
        let changed = ready().but(|facts| facts.client.metadata.generation = Some(2));
        assert_eq!(
            ready_of(&changed, &fail(kind)).status,
            ConditionStatus::False,
            "{kind:?}: but not for another spec"
        );
        assert_eq!(
            ready_of(&given::ready(), &fail(kind)).status,
            ConditionStatus::False,
            "{kind:?}: nor if it never was"
        );
    }
    for kind in [Kind::Rejected, Kind::ManagementLost, Kind::Unauthorized, Kind::Protocol, Kind::Unsupported]
    {
        assert_eq!(ready_of(&ready(), &fail(kind)).status, ConditionStatus::False, "{kind:?} says something");
    }
}

#[test]
fn what_was_last_heard_of_the_client_stays_so_while_nobody_can_look() {
    let of = |facts: &Facts, end: &Step| {
        conditions::find(&status(facts, end).conditions, REGISTERED).unwrap().clone()
    };
    let gone = after(ready(), &refuse("ClientGone"));
    let then = of(&gone, &wait("RegistryNotFound"));
    assert_eq!((then.status, then.reason.as_str()), (ConditionStatus::False, "ClientGone"));
    assert_eq!(of(&gone, &Step::Settled).status, ConditionStatus::True, "it is back");
    let unknown = after(given::new_client(), &wait("OutcomeUnknown")).client.status;
    let stored = given::ready().but(|facts| facts.client.status = unknown);
    let then = of(&stored, &wait("RegistryNotFound"));
    assert_eq!(
        (then.status, then.reason.as_str()),
        (ConditionStatus::True, "Registered"),
        "the record knows better"
    );
}

#[test]
fn a_suspended_client_keeps_what_was_said_of_it() {
    let suspended = ready().spec(json!({"suspend": true}));
    let new = status(&suspended, &refuse("Suspended"));
    assert_eq!(
        words(&new)[..3],
        words(ready().client.status.as_ref().unwrap())[..3],
        "what stood there is still so"
    );
    assert_eq!(words(&new)[3..], ["Suspended=True Suspended"]);
    assert_eq!(new.observed_generation, 2);
    let never = status(&given::new_client().spec(json!({"suspend": true})), &refuse("Suspended"));
    assert_eq!(
        words(&never),
        ["Suspended=True Suspended", "Ready=Unknown Suspended"],
        "Ready is always there"
    );
    let stalled = after(given::new_client(), &refuse("Unsupported")).spec(json!({"suspend": true}));
    let new = words(&status(&stalled, &refuse("Suspended")));
    assert!(!new.iter().any(|c| c.starts_with("Stalled")), "suspended is not stuck: {new:?}");
    let resumed = after(suspended, &refuse("Suspended")).spec(json!({"suspend": false}));
    assert_eq!(words(&status(&resumed, &Step::Settled)).len(), 3, "and then it is gone");
    let slow = words(&status(&resumed, &fail(Kind::Unavailable)));
    assert!(!slow.iter().any(|c| c.starts_with("Suspended")), "{slow:?}");
}

#[test]
fn ready_says_what_is_left_behind() {
    let facts = given::ready().but(|facts| {
        facts.stored().state.not_cleared = vec![Field::LogoUri, Field::TosUri];
        let intent = facts.intent.as_mut().unwrap();
        *intent = intent.next("nonce-2".into(), None, given::now(), false).next(
            "nonce-3".into(),
            None,
            given::now(),
            false,
        );
    });
    let message = ready_of(&facts, &Step::Settled).message;
    assert!(message.contains("the registry would not clear logoUri, tosUri"), "{message}");
    assert!(message.contains("2 earlier attempts may have left a client"), "{message}");
    assert!(
        message.contains("oauth-operator/ns/app/uid-1/nonce-1, oauth-operator/ns/app/uid-1/nonce-2"),
        "{message}"
    );
}

#[test]
fn messages_are_bounded() {
    let end = Step::Refuse(Why::new("Rejected", "ü".repeat(10_000)));
    let new = status(&given::ready(), &end);
    assert!(new.conditions.iter().all(|c| c.message.chars().count() <= MESSAGE));
    assert_eq!(conditions::find(&new.conditions, READY).unwrap().message.chars().count(), MESSAGE);
}

fn ends() -> impl Strategy<Value = usize> {
    0..12_usize
}

fn end(n: usize) -> Step {
    match n {
        0 => Step::Settled,
        1 => wait("RegistryNotFound"),
        2 => wait("OutcomeUnknown"),
        3 => refuse("OutcomeUnknown"),
        4 => refuse("ClientGone"),
        5 => refuse("SecretNotOurs"),
        6 => fail(Kind::Unavailable),
        7 => fail(Kind::Rejected),
        8 => fail(Kind::Unauthorized),
        9 => fail(Kind::ManagementLost),
        10 => fail(Kind::Throttled(Duration::from_secs(1))),
        _ => wait("KubernetesRefused"),
    }
}

fn world(n: usize) -> Facts {
    match n {
        0 => given::new_client(),
        1 => given::ready(),
        2 => given::ready().but(|facts| facts.secret = Found::Absent),
        3 => given::ready().but(|facts| facts.record = Err("it has no state".into())),
        4 => given::ready().spec(json!({"suspend": true})),
        5 => given::ready().note(annotations::REQUESTED_AT, "now"),
        _ => given::ready().deleted(9),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_changes_when_nothing_happened(history in prop::collection::vec((0..7_usize, ends()), 1..6)) {
        let mut old = None;
        for (n, last) in history {
            let facts = world(n).but(|facts| facts.client.status = old.clone());
            let first = status(&facts, &end(last));
            let again = status(&told(facts, first.clone()), &end(last));
            prop_assert_eq!(&first, &again, "a minute later");
            let types: Vec<&str> = first.conditions.iter().map(|c| c.type_.as_str()).collect();
            let mut once = types.clone();
            once.sort_unstable();
            once.dedup();
            prop_assert_eq!(once.len(), types.len(), "each condition once: {:?}", types);
            prop_assert!(types.contains(&READY), "Ready is always there");
            prop_assert!(!(types.contains(&RECONCILING) && types.contains(&STALLED)), "not both: {:?}", types);
            let ready = conditions::find(&first.conditions, READY).unwrap().status;
            let more = types.contains(&RECONCILING) || types.contains(&STALLED);
            prop_assert!(!(ready == ConditionStatus::True && more), "ready is the end: {:?}", types);
            old = Some(first);
        }
    }
}
