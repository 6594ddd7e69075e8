//! Each rule, row by row.

use k8s_openapi::api::core::v1::Secret;
use proptest::prelude::*;
use serde_json::json;

use super::{given::*, listing};
use crate::{
    api::{Condition, ConditionStatus, DeletionPolicy, OAuthClientStatus, UnknownOutcome, annotations},
    reconcile::{
        facts::{Asked, Facts, Search},
        intent::{Intent, Named, Suspect},
        next::{Effect, Step, next},
        record::{Place, Previous, Released, Retiring},
        secret::{self, Found},
    },
    registry::{Error, Field, Kind, Support},
};
use std::time::Duration;

/// A step in a few words.
pub(super) fn brief(step: &Step) -> String {
    let announced = |intent: &Intent| {
        let replaces = intent.replaces.iter().map(|nonce| format!(", replaces {nonce}"));
        let suspects = intent.suspects.iter().map(|suspect| format!(", suspects {}", suspect.nonce));
        let secret_for = intent.secret_for.iter().map(|named| format!(", a secret for {}", named.client_id));
        let retires = intent.retires.iter().map(|id| format!(", retires {id}"));
        let more: String = replaces.chain(suspects).chain(secret_for).chain(retires).collect();
        format!("announce {} as attempt {}{more}", intent.nonce, intent.attempt)
    };
    let spec_names =
        |fields: &[Field]| fields.iter().map(|field| field.spec_name()).collect::<Vec<_>>().join(" ");
    match step {
        Step::Settled => "settled".into(),
        Step::Wait(why, after) => format!("wait {}s, {}", after.as_secs(), why.reason),
        Step::Refuse(why) => format!("refuse, {}", why.reason),
        Step::Fail(error) => format!("fail, {}", error.kind.reason()),
        Step::Do(effect) => match effect {
            Effect::Announce(intent) => announced(intent),
            Effect::Acknowledge(_) => "acknowledge".into(),
            Effect::NoteRefusal(intent) => {
                format!("note refusal {}", intent.refused.as_ref().unwrap().reason)
            }
            Effect::Register(wanted) => format!("register {}", wanted.software_id),
            Effect::Store(record) => {
                let version = record.version.as_deref().unwrap_or("none");
                let in_flight = if record.state.in_flight.is_some() { ", in flight" } else { "" };
                let refused = if record.state.refused.is_some() { ", refused" } else { "" };
                format!("store {} over {version}{in_flight}{refused}", record.client.client_id)
            }
            Effect::Update { reset, .. } if reset.is_empty() => "update".into(),
            Effect::Update { reset, .. } => format!("update, reset {}", spec_names(reset)),
            Effect::IssueSecret(client) => format!("issue a secret for {}", client.client_id),
            Effect::Recover(client) => format!("recover {}", client.client_id),
            Effect::Retire(old) => format!("retire {}", old.client.client_id),
            Effect::DeregisterStray(client) => format!("deregister stray {}", client.client_id),
            other => format!("{other:?}"),
        },
    }
}

pub(super) type Row = (&'static str, Facts, &'static str);

pub(super) fn hold(rows: Vec<Row>) {
    for (reason, facts, expected) in rows {
        assert_eq!(brief(&next(&facts)), expected, "{reason}");
    }
}

/// The same with the status that an earlier pass has left.
pub(super) fn told(facts: Facts, reason: &str, client_id: Option<&str>) -> Facts {
    let ready = Condition {
        type_: "Ready".into(),
        status: ConditionStatus::Unknown,
        observed_generation: Some(1),
        last_transition_time: k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now()),
        reason: reason.into(),
        message: "it said so".into(),
    };
    let client_id = client_id.map(str::to_owned);
    facts.but(|facts| {
        facts.client.status =
            Some(OAuthClientStatus { conditions: vec![ready], client_id, ..OAuthClientStatus::default() });
    })
}

pub(super) fn announced(facts: Facts) -> Facts {
    facts.attempted(1, 0).but(|facts| {
        facts.progress.prepared = true;
        facts.progress.announced = true;
    })
}

pub(super) fn prepared(facts: Facts) -> Facts {
    facts.but(|facts| facts.progress.prepared = true)
}

fn edited(facts: Facts) -> Facts {
    facts.but(|facts| {
        let Found::Ours(secret) = &mut facts.secret else { panic!() };
        secret.data.as_mut().unwrap().remove("client_id");
    })
}

#[test]
fn a_ready_client_is_settled() {
    hold(vec![("nothing to do", ready(), "settled")]);
}

#[test]
fn a_registration_is_prepared_announced_and_sent() {
    hold(vec![
        ("first it must be possible to send it", new_client(), "Prepare"),
        ("then it is written onto the object", prepared(new_client()), "announce fresh as attempt 1"),
        ("then it is sent", announced(new_client()), "register oauth-operator/ns/app/uid-1/nonce-1"),
        (
            "credentials without which nothing can be asked are looked for soon: no Secret is watched",
            new_client().but(|facts| facts.registry = Err(why("CredentialsNotFound"))),
            "wait 30s, CredentialsNotFound",
        ),
        (
            "a token that is missing is waited for",
            prepared(new_client()).but(|facts| facts.known().not_ready = Some(why("CredentialsNotFound"))),
            "wait 30s, CredentialsNotFound",
        ),
        (
            "a nonce that the record bears was sent",
            ready().but(|facts| facts.progress.announced = true),
            "settled",
        ),
    ]);
}

#[test]
fn what_a_reply_brought_is_stored_before_all_else() {
    hold(vec![
        (
            "a registration creates",
            announced(new_client()).in_hand("id-1", Asked::Register),
            "store id-1 over none",
        ),
        (
            "a replacement goes over the record that it read",
            ready().replacing(0).in_hand("id-2", Asked::Register),
            "store id-2 over 7",
        ),
        ("an update", ready().in_hand("id-1", Asked::Update), "store id-1 over 7"),
        ("a look", ready().in_hand("id-1", Asked::Look), "store id-1 over 7"),
        ("even under deletion", ready().deleted(9).in_hand("id-1", Asked::Look), "store id-1 over 7"),
        (
            "even before a refusal",
            ready()
                .in_hand("id-1", Asked::Look)
                .but(|facts| facts.progress.refused = Some(error(Kind::Rejected))),
            "store id-1 over 7",
        ),
    ]);
}

#[test]
fn a_look_changes_credentials_only() {
    let facts = ready().in_hand("id-1", Asked::Look).but(|facts| {
        let client = &mut facts.progress.in_hand.as_mut().unwrap().client;
        client.document.insert("client_name".into(), json!("Somebody else's"));
    });
    let Step::Do(Effect::Store(record)) = next(&facts) else { panic!() };
    assert_eq!(record.client.document["client_name"], "App", "what we wrote last is what drift is told from");
}

#[test]
fn a_client_that_nobody_will_use_is_removed_by_who_made_it() {
    hold(vec![
        (
            "its token is in hand only now",
            ready().but(|facts| facts.progress.stray = Some(another("id-2"))),
            "deregister stray id-2",
        ),
        (
            "before the refusal is noted, so that the note is true",
            announced(new_client()).but(|facts| {
                facts.progress.stray = Some(another("id-2"));
                facts.progress.refused = Some(error(Kind::Unavailable));
            }),
            "deregister stray id-2",
        ),
    ]);
}

#[test]
fn a_refusal_is_noted_and_stands() {
    let refused_now = |facts: Facts, kind| facts.but(|facts| facts.progress.refused = Some(error(kind)));
    hold(vec![
        ("noted once", refused_now(announced(new_client()), Kind::Rejected), "note refusal Rejected"),
        (
            "then it is told",
            refused_now(announced(new_client()).refused(true), Kind::Rejected),
            "fail, Rejected",
        ),
        (
            "a refused update is noted in the record",
            refused_now(
                ready().but(|facts| facts.stored().state.in_flight = Some(facts.declared())),
                Kind::Rejected,
            ),
            "store id-1 over 7, refused",
        ),
        ("then it is told", refused_now(ready(), Kind::Rejected), "fail, Rejected"),
        ("for good", new_client().attempted(1, 9).refused(true), "refuse, Rejected"),
        (
            "unless the spec changed",
            prepared(new_client().attempted(1, 9).refused(true).spec(json!({"clientName": "B"}))),
            "announce fresh as attempt 1",
        ),
        (
            "or the registry",
            prepared(new_client().attempted(1, 9).refused(true))
                .but(|facts| facts.known().fingerprint = "other".into()),
            "announce fresh as attempt 1",
        ),
        (
            "or people ask",
            prepared(new_client().attempted(1, 9).refused(true)).note(annotations::REQUESTED_AT, "now"),
            "announce fresh as attempt 1",
        ),
        (
            "what time may change is tried again, and not counted",
            prepared(new_client().attempted(2, 9).refused(false)),
            "announce fresh as attempt 2",
        ),
    ]);
}

#[test]
fn deletion_goes_from_the_registry_to_the_record_to_the_object() {
    let failed = |facts: Facts, kind| facts.but(|facts| facts.progress.deregister_error = Some(error(kind)));
    hold(vec![
        ("first the registry", ready().deleted(9), "Deregister"),
        (
            "then the record",
            ready().deleted(9).but(|facts| facts.progress.deregistered = true),
            "DeleteRecord",
        ),
        (
            "then the object",
            ready().deleted(9).but(|facts| {
                facts.progress.deregistered = true;
                facts.record = Ok(None);
            }),
            "RemoveFinalizer",
        ),
        (
            "then it is over",
            ready().deleted(9).but(|facts| facts.client.metadata.finalizers = None),
            "settled",
        ),
        ("suspended or not", ready().spec(json!({"suspend": true})).deleted(9), "Deregister"),
        (
            "wherever the registry is now",
            ready().deleted(9).but(|facts| facts.registry = Err(why("RegistryNotFound"))),
            "Deregister",
        ),
        (
            "a failure is tried again",
            failed(ready().deleted(9), Kind::Unavailable),
            "fail, RegistryUnavailable",
        ),
        ("within a bounded time", failed(ready().deleted(600), Kind::Unavailable), "Release(Abandoned)"),
        ("once at least, however long the operator was away", ready().deleted(9_999), "Deregister"),
        (
            "what can never be is not tried for long",
            failed(ready().deleted(9), Kind::Unsupported),
            "Release(Abandoned)",
        ),
        ("or somebody does not want to wait", ready().deleted(9).abandon(), "Release(Abandoned)"),
        (
            "what was told is not abandoned",
            ready().deleted(9).abandon().but(|facts| facts.progress.deregistered = true),
            "DeleteRecord",
        ),
        (
            "a released record stays",
            ready().deleted(9).but(|facts| facts.stored().released = Some(Released::Abandoned)),
            "RemoveFinalizer",
        ),
    ]);
}

#[test]
fn deletion_of_what_has_no_record_waits_for_requests_in_flight() {
    hold(vec![
        ("nothing was ever announced", new_client().deleted(9).but(Facts::finalize), "RemoveFinalizer"),
        ("it may be on its way", new_client().attempted(1, 10).deleted(5), "wait 20s, ResolvingOutcome"),
        ("it must be over", new_client().attempted(1, 30).deleted(5), "RemoveFinalizer"),
        ("it was refused", new_client().attempted(1, 10).refused(false).deleted(5), "RemoveFinalizer"),
        (
            "somebody does not want to wait",
            new_client().attempted(1, 10).deleted(5).abandon(),
            "RemoveFinalizer",
        ),
        ("a clock was wrong", new_client().attempted(1, -9_999).deleted(5), "wait 25s, ResolvingOutcome"),
        (
            "a clock was wrong, but not for ever",
            new_client().attempted(1, -9_999).deleted(30),
            "RemoveFinalizer",
        ),
    ]);
}

#[test]
fn deletion_with_a_broken_record_waits_for_somebody_to_mend_it() {
    let broken = || ready().but(|facts| facts.record = Err("it has no state".into()));
    hold(vec![
        ("it may be restored", broken().deleted(60), "wait 540s, RecordUnreadable"),
        ("but not for ever", broken().deleted(600), "RemoveFinalizer"),
        ("or somebody does not want to wait", broken().deleted(60).abandon(), "RemoveFinalizer"),
    ]);
}

#[test]
fn retain_frees_the_secret_and_keeps_the_record() {
    let retained = || ready().spec(json!({"deletionPolicy": "Retain"}));
    hold(vec![
        ("it must lose its owner first", retained().deleted(9), "Publish"),
        ("then the record is kept", retained().but(Facts::publish).deleted(9), "Release(Retained)"),
        (
            "whatever the Secret is",
            retained().but(|facts| facts.secret = Found::Absent).deleted(9),
            "Release(Retained)",
        ),
        (
            "somebody else's is not touched",
            retained().but(|facts| facts.secret = Found::Foreign).deleted(9),
            "Release(Retained)",
        ),
        (
            "a Secret that cannot be written does not hold it up for ever",
            retained().deleted(600),
            "Release(Retained)",
        ),
        (
            "then the object goes",
            retained().deleted(9).but(|facts| facts.stored().released = Some(Released::Retained)),
            "RemoveFinalizer",
        ),
    ]);
}

#[test]
fn a_living_object_is_left_alone_for_a_reason() {
    hold(vec![
        ("suspended", ready().spec(json!({"suspend": true, "clientName": "B"})), "refuse, Suspended"),
        ("suspended and new", new_client().spec(json!({"suspend": true})), "refuse, Suspended"),
        (
            "nobody knows what the registry has",
            ready().but(|facts| facts.record = Err("broken".into())),
            "refuse, RecordUnreadable",
        ),
        (
            "somebody else's Secret",
            new_client().but(|facts| facts.secret = Found::Foreign),
            "refuse, SecretNotOurs",
        ),
        (
            "somebody else's Secret, later",
            ready().but(|facts| facts.secret = Found::Foreign),
            "refuse, SecretNotOurs",
        ),
        (
            "no registry",
            new_client().but(|facts| facts.registry = Err(why("RegistryNotFound"))),
            "wait 600s, RegistryNotFound",
        ),
        (
            "a registry without credentials: nobody watches Secrets",
            new_client().but(|facts| facts.registry = Err(why("CredentialsNotFound"))),
            "wait 30s, CredentialsNotFound",
        ),
        (
            "another registry",
            ready().but(|facts| facts.known().origin = "https://b.example".into()),
            "refuse, RegistryChanged",
        ),
    ]);
}

#[test]
fn a_finalizer_that_was_taken_away_comes_back() {
    let without = || ready().but(|facts| facts.client.metadata.finalizers = Some(vec!["others".into()]));
    hold(vec![
        ("the client would stay behind", without(), "AddFinalizer"),
        ("hands off", without().spec(json!({"suspend": true})), "refuse, Suspended"),
        ("nothing to hold on to", new_client(), "Prepare"),
    ]);
}

#[test]
fn the_secret_is_derived_whatever_the_registry_does() {
    let absent = || ready().but(|facts| facts.secret = Found::Absent);
    hold(vec![
        ("deleted", absent(), "Publish"),
        ("edited", edited(ready()), "Publish"),
        ("another layout", ready().spec(json!({"secret": {"keys": {"clientId": "ID"}}})), "Publish"),
        ("no registry", absent().but(|facts| facts.registry = Err(why("RegistryNotFound"))), "Publish"),
        (
            "another registry",
            absent().but(|facts| facts.known().origin = "https://b.example".into()),
            "Publish",
        ),
        ("unknown outcome of a replacement", absent().replacing(0), "Publish"),
    ]);
}

#[test]
fn nothing_is_dropped_in_silence() {
    let with = |field, support| {
        new_client().but(|facts| drop(facts.known().capabilities.fields.insert(field, support)))
    };
    hold(vec![
        (
            "a field that it does not know",
            with(Field::RedirectUris, Support::Unsupported),
            "refuse, Unsupported",
        ),
        ("that nobody declared", with(Field::LogoUri, Support::Unsupported), "Prepare"),
        (
            "another value than it always has",
            with(Field::ClientName, Support::Fixed(vec![json!("B")])),
            "refuse, Unsupported",
        ),
        (
            "the value that it always has",
            with(Field::ClientName, Support::Fixed(vec![json!("App")])),
            "Prepare",
        ),
        (
            "a field that it needs",
            new_client().but(|facts| facts.known().capabilities.required = vec![Field::Contacts]),
            "refuse, MissingField",
        ),
        (
            "that is declared",
            new_client().but(|facts| facts.known().capabilities.required = vec![Field::ClientName]),
            "Prepare",
        ),
        (
            "a rotation where each client has a token of its own",
            new_client().spec(json!({"replacementPolicy": "WhenNeeded", "rotation": {"every": "1h"}})),
            "refuse, Unsupported",
        ),
        ("an overlap alone", new_client().spec(json!({"rotation": {"overlap": "1h"}})), "Prepare"),
    ]);
}

/// At a registry whose owner has said what clients may ask for.
fn guarded(facts: Facts, guardrails: serde_json::Value) -> Facts {
    facts.but(|facts| facts.known().guardrails = serde_json::from_value(guardrails).unwrap())
}

#[test]
fn a_redirect_host_that_the_registrys_owner_does_not_list_is_refused_before_any_call() {
    let new = |spec, hosts: &[&str]| guarded(new_client().spec(spec), json!({"allowedRedirectHosts": hosts}));
    let public = |uri: &str| json!({"clientType": "public", "redirectUris": [uri]});
    let (plain, not_allowed) = (json!({}), "refuse, NotAllowed");
    hold(vec![
        ("no limit", guarded(new_client(), json!({})), "Prepare"),
        ("the host of its redirect URI", new(plain.clone(), &["app.example"]), "Prepare"),
        ("below a wildcard", new(plain.clone(), &["*.example"]), "Prepare"),
        ("another host", new(plain.clone(), &["other.example"]), not_allowed),
        ("none at all", new(plain, &[]), not_allowed),
        ("no redirect URI, as it says", new(json!({"redirectUris": []}), &[]), "Prepare"),
        ("no redirect URI, but it does not say so", new(json!({"redirectUris": null}), &[]), not_allowed),
        (
            "one of several",
            new(
                json!({"redirectUris": ["https://app.example/cb", "https://x.example/cb"]}),
                &["app.example"],
            ),
            not_allowed,
        ),
        (
            "after a logout",
            new(json!({"postLogoutRedirectUris": ["https://x.example/"]}), &["app.example"]),
            not_allowed,
        ),
        (
            "after a booking at Cal.com",
            new(json!({"calCom": {"bookingRedirectUri": "https://x.example/"}}), &["app.example"]),
            not_allowed,
        ),
        ("a person's own machine", new(public("http://127.0.0.1/cb"), &["app.example"]), not_allowed),
        ("that is listed", new(public("http://127.0.0.1/cb"), &["127.0.0.1"]), "Prepare"),
        ("no host", new(public("com.example.app:/cb"), &["app.example"]), not_allowed),
    ]);
}

#[test]
fn a_grant_or_scope_that_the_registrys_owner_does_not_list_is_refused_before_any_call() {
    let grants =
        |spec, grants: &[&str]| guarded(new_client().spec(spec), json!({"allowedGrantTypes": grants}));
    let scopes = |spec, scopes: &[&str]| guarded(new_client().spec(spec), json!({"allowedScopes": scopes}));
    let (machine, not_allowed) = (json!({"grantTypes": ["client_credentials"]}), "refuse, NotAllowed");
    hold(vec![
        ("a grant that is listed", grants(machine.clone(), &["client_credentials"]), "Prepare"),
        ("another grant", grants(machine, &["authorization_code"]), not_allowed),
        ("a grant that the registry chooses", grants(json!({}), &["authorization_code"]), not_allowed),
        (
            "where the registry knows none",
            grants(json!({}), &["authorization_code"])
                .but(|facts| drop(facts.known().capabilities.fields.remove(&Field::GrantTypes))),
            "Prepare",
        ),
        ("a scope that is listed", scopes(json!({"scopes": ["read"]}), &["read", "write"]), "Prepare"),
        ("another scope", scopes(json!({"scopes": ["read", "admin"]}), &["read", "write"]), not_allowed),
        ("scopes that the registry chooses", scopes(json!({}), &["read"]), not_allowed),
        ("all scopes", scopes(json!({"scopes": ["*"]}), &["read"]), not_allowed),
        ("all scopes, where that is listed", scopes(json!({"scopes": ["*"]}), &["*"]), "Prepare"),
    ]);
}

#[test]
fn a_client_outside_the_guardrails_stays_as_it_is_and_can_be_deleted() {
    let other = || json!({"allowedRedirectHosts": ["other.example"]});
    hold(vec![
        (
            "it was changed",
            guarded(ready().spec(json!({"clientName": "Renamed"})), other()),
            "refuse, NotAllowed",
        ),
        ("the guardrails were", guarded(ready(), other()), "refuse, NotAllowed"),
        ("it goes", guarded(ready().deleted(1), other()), "Deregister"),
    ]);
}

#[test]
fn an_outcome_that_nobody_saw_stays_unknown() {
    let tried = |attempt, age| prepared(new_client().attempted(attempt, age));
    let halting = |facts: Facts| facts.but(|facts| facts.known().unknown_outcome = UnknownOutcome::Halt);
    let resumed = |facts: Facts| facts.note(annotations::RESUME, "nonce-1");
    let missing =
        |facts: Facts| facts.but(|facts| facts.known().not_ready = Some(why("CredentialsNotFound")));
    hold(vec![
        ("the request may still be on its way", tried(1, 10), "wait 20s, OutcomeUnknown"),
        ("now it must be over", tried(1, 30), "announce fresh as attempt 2, suspects nonce-1"),
        ("prepared first", new_client().attempted(1, 30), "Prepare"),
        ("again", tried(2, 30), "announce fresh as attempt 3, suspects nonce-1"),
        ("not for ever", tried(3, 30), "refuse, OutcomeUnknown"),
        ("a person looks when it must be over", tried(3, 10), "wait 20s, OutcomeUnknown"),
        ("never, if people said so", halting(tried(1, 30)), "refuse, OutcomeUnknown"),
        ("nor do they look too early", halting(tried(1, 10)), "wait 20s, OutcomeUnknown"),
        ("a person has looked", resumed(halting(tried(1, 30))), "announce fresh as attempt 1"),
        ("but too early", resumed(halting(tried(1, 10))), "wait 20s, OutcomeUnknown"),
        ("the count starts again", resumed(tried(3, 30)), "announce fresh as attempt 1"),
        (
            "a person spoke of another",
            tried(3, 30).note(annotations::RESUME, "nonce-0"),
            "refuse, OutcomeUnknown",
        ),
        (
            "an attempt that cannot be sent is not used up",
            missing(tried(1, 30)),
            "wait 30s, CredentialsNotFound",
        ),
        ("a clock was ahead", tried(1, -60), "wait 30s, OutcomeUnknown"),
        ("the record bears its nonce: it was a success", ready(), "settled"),
        (
            "the record bears another: somebody else was faster",
            ready().attempted(1, 0).but(|f| f.intent.as_mut().unwrap().nonce = "nonce-9".into()),
            "settled",
        ),
        ("the record bears the replaced one", ready().replacing(10), "wait 20s, OutcomeUnknown"),
        (
            "and is replaced again",
            prepared(ready().replacing(30)),
            "announce fresh as attempt 2, replaces nonce-1, suspects nonce-2",
        ),
        ("a refused replacement is over", ready().replacing(10).refused(false), "settled"),
    ]);
}

#[test]
fn a_lost_intent_is_not_forgotten() {
    let lost =
        |facts: Facts, id| told(prepared(facts), "OutcomeUnknown", id).but(|facts| facts.intent = None);
    hold(vec![
        ("the status still says so", lost(new_client(), None), "refuse, OutcomeUnknown"),
        (
            "another intent is not lost",
            told(new_client().attempted(1, 9), "OutcomeUnknown", None),
            "wait 21s, OutcomeUnknown",
        ),
        (
            "a person has looked",
            lost(new_client(), None).note(annotations::RESUME, "uid-1"),
            "announce fresh as attempt 1",
        ),
        (
            "another object's YAML",
            lost(new_client(), None).note(annotations::RESUME, "uid-0"),
            "refuse, OutcomeUnknown",
        ),
        (
            "the status says nothing of it",
            told(prepared(new_client()), "RegistryUnavailable", None),
            "announce fresh as attempt 1",
        ),
        ("a replacement", lost(ready(), Some("id-1")), "refuse, OutcomeUnknown"),
        ("that has ended since", lost(ready(), Some("id-0")), "settled"),
    ]);
}

#[test]
fn a_lost_record_is_no_reason_for_another_client() {
    let lost = || told(prepared(ready()), "Ready", Some("id-1")).but(|facts| facts.record = Ok(None));
    let gave_up = |id: &str| {
        lost().but(|facts| facts.intent.as_mut().unwrap().gave_up = Some(id.into())).refused(false)
    };
    hold(vec![
        ("status names a client", lost(), "refuse, RecordLost"),
        ("whatever the intent says", lost().refused(false), "refuse, RecordLost"),
        ("or if there is none", lost().but(|facts| facts.intent = None), "refuse, RecordLost"),
        ("a person has looked", lost().note(annotations::RESUME, "nonce-1"), "announce fresh as attempt 1"),
        (
            "a person has looked, without an intent",
            lost().but(|facts| facts.intent = None).note(annotations::RESUME, "uid-1"),
            "announce fresh as attempt 1",
        ),
        ("once is enough", gave_up("id-1"), "announce fresh as attempt 1"),
        ("for this client", gave_up("id-0"), "refuse, RecordLost"),
        (
            "and then it is sent",
            lost().but(|facts| facts.progress.announced = true),
            "register oauth-operator/ns/app/uid-1/nonce-1",
        ),
        ("a deletion goes on", lost().deleted(60), "RemoveFinalizer"),
    ]);
    let step = next(&lost().note(annotations::RESUME, "nonce-1"));
    let Step::Do(Effect::Announce(intent)) = step else { panic!("{step:?}") };
    assert_eq!(intent.gave_up.as_deref(), Some("id-1"), "so that a failure does not ask that person again");
}

#[test]
fn suspects_are_named_until_a_person_has_looked_after_them() {
    let suspected = |facts: Facts| {
        facts.but(|facts| {
            let intent = facts.intent.as_mut().unwrap();
            intent.suspects = vec![Suspect { nonce: "nonce-0".into(), at: ago(99) }];
        })
    };
    hold(vec![
        ("nobody has looked", suspected(ready()), "settled"),
        ("a person has", suspected(ready()).note(annotations::RESUME, "nonce-1"), "acknowledge"),
        ("of another attempt", suspected(ready()).note(annotations::RESUME, "nonce-0"), "settled"),
        ("nothing to look after", ready().note(annotations::RESUME, "nonce-1"), "settled"),
    ]);
}

#[test]
fn the_record_knows_what_becomes_of_its_client() {
    let retained = || ready().spec(json!({"deletionPolicy": "Retain"}));
    hold(vec![
        ("before anything else", retained(), "store id-1 over 7"),
        (
            "once",
            retained().but(|facts| facts.stored().state.deletion_policy = DeletionPolicy::Retain),
            "Publish",
        ),
        ("hands off", retained().spec(json!({"suspend": true})), "refuse, Suspended"),
    ]);
}

#[test]
fn a_look_is_due_now_and_then() {
    let due = || ready().but(|facts| facts.look_due = true);
    hold(vec![
        ("once an interval", due(), "Look"),
        ("once a pass", due().but(|facts| facts.progress.seen = Some(another("id-1"))), "settled"),
        ("a registry that is not read", due().but(|facts| facts.known().reads = false), "settled"),
        ("a client that cannot be read", due().unmanaged(), "settled"),
        ("nothing to look at", new_client().but(|facts| facts.look_due = true), "Prepare"),
    ]);
}

#[test]
fn a_client_that_is_gone_is_replaced_if_people_agree() {
    let gone = || prepared(ready().but(|facts| facts.progress.gone = true));
    let refused_before = |for_good| gone().replacing(60).refused(for_good);
    let suspects = |facts: Facts| {
        facts.but(|facts| {
            facts.intent.as_mut().unwrap().suspects = vec![Suspect { nonce: "nonce-0".into(), at: ago(99) }];
        })
    };
    let replaced = "announce fresh as attempt 1, replaces nonce-1";
    hold(vec![
        ("the record stays until then", gone(), replaced),
        ("prepared first", ready().but(|facts| facts.progress.gone = true), "Prepare"),
        ("not against the policy", gone().spec(json!({"replacementPolicy": "Never"})), "refuse, ClientGone"),
        (
            "not without a token",
            gone().but(|facts| facts.known().not_ready = Some(why("CredentialsNotFound"))),
            "wait 30s, CredentialsNotFound",
        ),
        (
            "suspects are not forgotten",
            suspects(gone()),
            "announce fresh as attempt 1, replaces nonce-1, suspects nonce-0",
        ),
        ("nor without an intent", gone().but(|facts| facts.intent = None), replaced),
        ("refused for good", refused_before(true), "refuse, Rejected"),
        ("refused for now", refused_before(false), replaced),
        (
            "the count goes on",
            refused_before(false).but(|facts| facts.intent.as_mut().unwrap().attempt = 3),
            "announce fresh as attempt 3, replaces nonce-1",
        ),
        (
            "credentials that a lost reply may have changed prove little",
            gone().but(|facts| facts.stored().state.in_flight = Some(facts.declared())),
            "announce fresh as attempt 1, replaces nonce-1, suspects nonce-1",
        ),
        (
            "nor do expired ones",
            gone().but(|facts| facts.stored().client.client_secret_expires_at = Some(ago(1))),
            "announce fresh as attempt 1, replaces nonce-1, suspects nonce-1",
        ),
    ]);
}

#[test]
fn what_differs_is_written_once() {
    let renamed = || ready().spec(json!({"clientName": "B"}));
    let in_flight = |facts: Facts| facts.but(|facts| facts.stored().state.in_flight = Some(facts.declared()));
    let refused_update = |facts: Facts| {
        facts.but(|facts| {
            let question = facts.question(facts.registry.as_ref().unwrap());
            facts.stored().state.refused = Some(refused(Some(question)));
        })
    };
    let seen = |facts: Facts, member: &str, value| {
        facts.but(|facts| {
            let mut client = another("id-1");
            client.document.insert(member.into(), value);
            facts.progress.seen = Some(client);
        })
    };
    let applied = |facts: Facts, field| {
        facts.but(|facts| drop(facts.stored().state.applied.0.insert(field, json!("https://x"))))
    };
    hold(vec![
        ("announced in the record first", renamed(), "store id-1 over 7, in flight"),
        ("then sent", in_flight(renamed()), "update"),
        ("again, if nobody saw the end of it", in_flight(ready()), "update"),
        (
            "another one is announced first",
            in_flight(ready()).spec(json!({"clientName": "B"})),
            "store id-1 over 7, in flight",
        ),
        ("others changed it", seen(ready(), "client_name", json!("B")), "store id-1 over 7, in flight"),
        ("others changed what nobody declared", seen(ready(), "logo_uri", json!("https://x")), "settled"),
        ("a field left the spec", applied(ready(), Field::LogoUri), "store id-1 over 7, in flight"),
        ("and is reset", in_flight(applied(ready(), Field::LogoUri)), "update, reset logoUri"),
        ("nobody can change it", renamed().unmanaged(), "refuse, NotManageable"),
        ("nobody need change it", ready().unmanaged(), "settled"),
        ("the registry refused it", refused_update(renamed()), "refuse, Rejected"),
        (
            "the registry refused another",
            refused_update(renamed()).spec(json!({"clientName": "C"})),
            "store id-1 over 7, in flight, refused",
        ),
    ]);
}

#[test]
fn a_lossy_read_is_no_drift_unless_the_field_was_shown_before() {
    let lossy = || {
        ready().but(|facts| {
            let mut client = another("id-1");
            client.document.remove("redirect_uris");
            facts.progress.seen = Some(client);
        })
    };
    hold(vec![
        ("it may not show it at all", lossy(), "settled"),
        (
            "it did before, so it is gone",
            lossy().but(|facts| facts.known().shown = [Field::RedirectUris].into()),
            "store id-1 over 7, in flight",
        ),
    ]);
}

#[test]
fn what_the_registry_made_of_it_is_not_written_again() {
    let other =
        || ready().but(|facts| drop(facts.stored().client.document.insert("client_name".into(), json!("B"))));
    hold(vec![
        ("it answered our write with this", other(), "refuse, NotAsDeclared"),
        (
            "and still shows it",
            other().but(|facts| facts.progress.seen = Some(facts.stored().client.clone())),
            "refuse, NotAsDeclared",
        ),
        (
            "now it shows something third",
            other().but(|facts| {
                let mut client = another("id-1");
                client.document.insert("client_name".into(), json!("C"));
                facts.progress.seen = Some(client);
            }),
            "store id-1 over 7, in flight",
        ),
        (
            "now it is as declared",
            other().but(|facts| facts.progress.seen = Some(another("id-1"))),
            "settled",
        ),
        (
            "the write has not ended",
            other().but(|facts| facts.stored().state.in_flight = Some(facts.declared())),
            "update",
        ),
    ]);
}

#[test]
fn a_secret_that_ends_is_renewed_once() {
    let ends = |seconds: i64| {
        ready().but(|facts| {
            let record = facts.stored();
            record.client.client_secret_expires_at = Some(ago(-seconds));
            record.state.secret_since = Some(ago(90 * 24 * 3600));
        })
    };
    let young = |seconds: i64| ends(seconds).but(|facts| facts.stored().state.secret_since = Some(ago(60)));
    let tried = |facts: Facts| {
        facts.but(|facts| {
            facts.stored().state.renewed_for = facts.stored().client.client_secret_expires_at;
        })
    };
    hold(vec![
        ("its end is far", ends(25 * 3600), "settled"),
        ("its end is near", ends(23 * 3600), "store id-1 over 7, in flight"),
        ("a short life has just begun", young(3600), "settled"),
        ("a short life is in its last third", young(20), "store id-1 over 7, in flight"),
        ("it was tried for this end", tried(ends(23 * 3600)), "settled"),
        ("nobody can renew it", ends(23 * 3600).unmanaged(), "settled"),
        ("it is over", tried(ends(0)), "refuse, ClientSecretExpired"),
        ("it is over and nobody can renew it", ends(-1).unmanaged(), "refuse, ClientSecretExpired"),
    ]);
}

#[test]
fn a_client_that_needs_a_secret_has_one() {
    let without = |method: &'static str| {
        ready().but(|facts| {
            facts.stored().client.client_secret = None;
            facts.stored().client.document.insert("token_endpoint_auth_method".into(), json!(method));
            facts.publish();
        })
    };
    hold(vec![
        ("it proves itself by it", without("client_secret_basic"), "refuse, NoSecretIssued"),
        ("it has keys", without("private_key_jwt"), "settled"),
        ("it is public", without("none"), "settled"),
    ]);
}

#[test]
fn who_loses_a_race_learns_from_the_record_that_stands() {
    let made = || announced(new_client()).in_hand("id-2", Asked::Register);
    let mut theirs = ready();
    let theirs = theirs.stored().clone();
    let mut facts = made();
    let ours = next(&facts);
    assert_eq!(brief(&ours), "store id-2 over none");
    assert!(facts.lose_the_race(Ok(theirs.clone())));
    assert_eq!(brief(&next(&facts)), "deregister stray id-2", "another client");
    facts.progress.stray = None;
    facts.intent.as_mut().unwrap().nonce = "nonce-2".into();
    assert_eq!(brief(&next(&facts)), "Publish");
    facts.publish();
    facts.finalize();
    assert_eq!(brief(&next(&facts)), "settled", "and no second registration");

    let mut facts = announced(new_client()).in_hand("id-1", Asked::Register);
    assert!(facts.lose_the_race(Ok(theirs.clone())));
    assert_eq!(brief(&next(&facts)), "Publish", "the same client is success");

    let mut facts = made();
    assert!(facts.lose_the_race(Err("broken".into())));
    assert_eq!(brief(&next(&facts)), "deregister stray id-2", "whatever stands there, it is not ours");

    let mut facts =
        ready().replacing(0).in_hand("id-2", Asked::Register).but(|facts| facts.progress.announced = true);
    assert!(facts.lose_the_race(Ok(theirs.clone())));
    facts.progress.stray = None;
    assert_eq!(brief(&next(&facts)), "note refusal RegistryUnavailable", "the old record still stands");

    let mut facts = ready().replacing(0).in_hand("id-2", Asked::Register);
    facts.progress.gone = true;
    let mut adopted = theirs.clone();
    (adopted.client.client_id, adopted.state.nonce) = ("id-2".into(), "nonce-2".into());
    assert!(facts.lose_the_race(Ok(adopted)));
    assert!(!facts.progress.gone, "the client that was gone is not the one that stands there now");

    let mut facts = ready().in_hand("id-1", Asked::Look);
    let mut newer = theirs.clone();
    newer.version = Some("8".into());
    assert!(facts.lose_the_race(Ok(newer.clone())));
    assert_eq!(brief(&next(&facts)), "store id-1 over 8", "only the version moved on");

    let mut facts = ready().in_hand("id-1", Asked::Look);
    newer.client.client_secret = Some("s3cr3t-9".into());
    assert!(!facts.lose_the_race(Ok(newer)), "somebody else got other credentials: start over");

    let mut facts = ready().in_hand("id-1", Asked::Look);
    let mut other = theirs.clone();
    (other.client.client_id, other.state.nonce) = ("id-2".into(), "nonce-2".into());
    assert!(facts.lose_the_race(Ok(other.clone())));
    assert_eq!(brief(&next(&facts)), "deregister stray id-1", "it was replaced, and we alone can remove it");

    let mut facts = ready().in_hand("id-1", Asked::Look);
    other.state.retiring.push(Retiring { client: Named::of(&another("id-1")), until: now() });
    assert!(!facts.lose_the_race(Ok(other)), "it works for a while: start over");
    assert!(!ready().lose_the_race(Ok(theirs)), "nothing in hand: start over");
}

/// Dice that any facts at all come from.
fn dice() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(0..24_u8, 48)
}

/// All zeros is a new client.
fn thrown(dice: &[u8]) -> Facts {
    let mut dice = dice.iter().copied();
    let mut throw = |sides: u8| dice.next().unwrap() % sides;
    let mut facts = if throw(2) == 1 { ready() } else { new_client() };
    match throw(4) {
        1 => facts = facts.attempted(1, 10),
        2 => facts = facts.attempted(2, 100),
        3 => facts = facts.attempted(3, 100),
        _ => {}
    }
    if throw(3) == 1 {
        facts = facts.replacing(if throw(2) == 1 { 100 } else { 10 });
    }
    match throw(4) {
        1 => facts = facts.refused(true),
        2 => facts = facts.refused(false),
        _ => {}
    }
    if let Some(record) = facts.record.as_mut().unwrap() {
        match throw(8) {
            1 => record.state.in_flight = Some(record.state.applied.clone()),
            2 => record.released = Some(Released::Abandoned),
            3 => record.state.nonce = "nonce-9".into(),
            4 => record.client.client_secret_expires_at = Some(ago(-60)),
            5 => record.client.client_secret_expires_at = Some(ago(60)),
            6 => record.client.management = crate::registry::Management::None("it gave no token".into()),
            7 => drop(record.client.document.insert("client_name".into(), json!("B"))),
            _ => {}
        }
    }
    if throw(8) == 1 {
        facts.record = Err("it has no state".into());
    }
    match throw(4) {
        1 => facts.secret = Found::Absent,
        2 => facts.secret = Found::Foreign,
        3 => facts.secret = Found::Ours(Box::default()),
        _ => {}
    }
    match throw(6) {
        1 => facts = facts.spec(json!({"suspend": true})),
        2 => facts = facts.spec(json!({"clientName": "C"})),
        3 => facts = facts.spec(json!({"deletionPolicy": "Retain"})),
        4 => facts = facts.spec(json!({"replacementPolicy": "Never"})),
        5 => facts.client.metadata.finalizers = None,
        _ => {}
    }
    match throw(4) {
        1 => facts = facts.deleted(5),
        2 => facts = facts.deleted(5000),
        _ => {}
    }
    match throw(6) {
        1 => facts = facts.abandon(),
        2 => facts = facts.note(annotations::RESUME, "nonce-1"),
        3 => facts = told(facts, "OutcomeUnknown", Some("id-1")),
        4 => facts.intent = None,
        _ => {}
    }
    match throw(8) {
        1 => facts.registry = Err(why("RegistryNotFound")),
        2 => facts.known().not_ready = Some(why("CredentialsNotFound")),
        3 => facts.known().unknown_outcome = UnknownOutcome::Halt,
        4 => facts.known().origin = "https://b.example".into(),
        5 => facts.known().reads = false,
        _ => {}
    }
    if facts.registry.is_ok() {
        facts = at_a_registry_that_lists(facts, &mut throw);
    }
    facts.look_due = throw(2) == 1;
    // What was announced in this pass and refused is remembered until its end.
    let open = facts.intent.as_ref().is_some_and(|intent| intent.refused.is_none());
    let progress = &mut facts.progress;
    progress.prepared = throw(2) == 1;
    progress.announced = throw(2) == 1 && open;
    progress.gone = throw(4) == 1;
    progress.deregistered = throw(4) == 1;
    progress.refused = (throw(6) == 1).then(|| error(Kind::Rejected));
    progress.stray = (throw(6) == 1).then(|| another("id-2"));
    progress.seen = (throw(3) == 1).then(renewed);
    progress.deregister_error = (throw(3) == 1).then(|| error(Kind::Unavailable));
    match throw(8) {
        1 => facts.in_hand("id-2", Asked::Register),
        2 if facts.record().is_some() => facts.in_hand("id-1", Asked::Update),
        3 if facts.record().is_some() => facts.in_hand("id-1", Asked::Look),
        4 if facts.record().is_some() => facts.in_hand("id-1", Asked::IssueSecret),
        _ => facts,
    }
}

/// The same where clients can be listed, or not.
fn at_a_registry_that_lists(facts: Facts, throw: &mut impl FnMut(u8) -> u8) -> Facts {
    let broken = facts.record.is_err();
    let mut facts = match throw(8) {
        1 if !broken => listing::showing(facts),
        2 if !broken => listing::overlapping(facts),
        3 if !broken => listing::replacing(facts),
        4 if !broken => listing::recreating(facts),
        _ => return facts,
    };
    match throw(6) {
        1 => facts.known().proven = false,
        2 => facts = listing::accepted(facts).but(|facts| facts.known().proven = false),
        3 => facts = facts.note(annotations::ROTATE, "now"),
        4 => facts = facts.spec(json!({"replacementPolicy": "WhenNeeded"})).note(annotations::ROTATE, "now"),
        _ => {}
    }
    if let Ok(Some(record)) = &mut facts.record {
        match throw(8) {
            1 => record.state.previous = Some(Previous { id: "s-0".into(), until: ago(60) }),
            2 => record.state.revoking = vec!["s-0".into()],
            3 => record.state.retiring = vec![listing::old("id-0", -60)],
            4 => record.state.retiring = vec![listing::old("id-0", 60)],
            5 => record.place = Place::WithSecret,
            6 => record.state.stray_secrets = true,
            _ => {}
        }
    }
    let open = facts.unresolved().is_some();
    facts.progress.surveyed = throw(2) == 1;
    match throw(6) {
        1 if open => facts.progress.searched = Some(Search::Nothing),
        2 if open => {
            facts.progress.searched = Some(Search::Found);
            facts.progress.adopting = Some(another("id-1"));
        }
        3 if open && facts.record().is_some() => {
            let named = facts.record().map(|record| Named::of(&record.client));
            facts.intent.as_mut().unwrap().secret_for = named;
        }
        4 => facts.progress.missing = Some(why("ClientMissing")),
        _ => {}
    }
    facts
}

/// Whether a request now would reach the account that our clients are in, as far as anybody knows.
fn opens_our_account(facts: &Facts) -> bool {
    let Ok(known) = &facts.registry else { return true };
    known.proven || known.is_accepted() || !known.capabilities.lists()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_facts_the_promises_hold(dice in dice()) {
        let facts = thrown(&dice);
        let step = next(&facts);
        let shown = format!("{step:?}");
        prop_assert!(!shown.contains("s3cr3t") && !shown.contains("t0ken"), "no secret in {}", shown);
        let intent = facts.intent.as_ref();
        let hands_off = facts.client.spec.suspend || facts.deleting();
        match &step {
            Step::Do(Effect::Register(wanted)) => {
                let intent = intent.unwrap();
                prop_assert!(facts.progress.announced && intent.refused.is_none(), "announced in this pass");
                prop_assert!(wanted.software_id.ends_with(&intent.nonce), "under the nonce of the object");
                prop_assert!(facts.record().is_none_or(|record| record.state.nonce != intent.nonce), "spent once");
                prop_assert!(!hands_off, "not {}", shown);
            }
            Step::Do(Effect::Announce(new)) => {
                prop_assert!(facts.progress.prepared && !hands_off);
                prop_assert_eq!(&new.nonce, "fresh");
                let lists = facts.registry.as_ref().is_ok_and(|known| known.capabilities.lists());
                prop_assert!(new.refused.is_none() && (lists || new.attempt <= 3));
                prop_assert!(opens_our_account(&facts), "nothing is made in another account");
                let looked_after = |old: &Intent| facts.annotation(annotations::RESUME) == Some(&old.nonce);
                let open = intent.filter(|old| old.refused.is_none() && !looked_after(old));
                if let Some(old) = open.filter(|_| facts.record().is_none() && !lists) {
                    prop_assert!(new.suspects.iter().any(|suspect| suspect.nonce == old.nonce), "nobody is forgotten");
                }
                if let Some(record) = facts.record() {
                    prop_assert_eq!(new.replaces.as_ref(), Some(&record.state.nonce), "the record stays good");
                }
            }
            Step::Do(Effect::Store(record)) => {
                let in_place = facts.record().is_none_or(|old| old.place == record.place);
                let shows = facts.registry.as_ref().is_ok_and(|known| known.capabilities.shows_secrets);
                if in_place && (facts.record().is_some() || !shows) {
                    prop_assert_eq!(record.version.as_ref(), facts.record().and_then(|old| old.version.as_ref()));
                }
                prop_assert!(record.state.retiring.is_empty() || record.place == Place::Apart || in_place);
                prop_assert_eq!(&record.owner.uid, "uid-1");
            }
            Step::Do(Effect::Prepare | Effect::Look | Effect::Update { .. } | Effect::AddFinalizer) => {
                prop_assert!(!hands_off, "not {}", shown);
            }
            Step::Do(Effect::Search) => prop_assert!(!hands_off && facts.unresolved().is_some()),
            Step::Do(Effect::Survey) => prop_assert!(!opens_our_account(&facts) && !facts.progress.surveyed),
            Step::Do(Effect::Recover(_)) => prop_assert!(!hands_off && facts.record().is_none()),
            Step::Do(Effect::IssueSecret(client)) => {
                let intent = intent.unwrap();
                prop_assert!(!hands_off && facts.progress.announced && intent.refused.is_none());
                prop_assert_eq!(&intent.secret_for, &Some(Named::of(client)), "announced for this very client");
            }
            Step::Do(Effect::RevokeSecret(id)) => {
                let record = facts.record().unwrap();
                prop_assert!(!hands_off && opens_our_account(&facts) && facts.unresolved().is_none());
                prop_assert!(record.state.revoking.contains(id) && record.client.secret_id.as_ref() != Some(id));
            }
            Step::Do(Effect::Retire(old)) => {
                let record = facts.record().unwrap();
                prop_assert!(!hands_off && opens_our_account(&facts) && facts.unresolved().is_none());
                prop_assert!(record.state.retiring.contains(old) && old.until <= facts.now);
                prop_assert_ne!(&old.client.client_id, &record.client.client_id);
            }
            Step::Do(Effect::DeregisterMarked | Effect::Deregister) => {
                prop_assert!(facts.deleting() && opens_our_account(&facts), "not {}", shown);
            }
            Step::Do(Effect::Release(_) | Effect::DeleteRecord | Effect::RemoveFinalizer) => {
                prop_assert!(facts.deleting(), "not {}", shown);
            }
            Step::Do(Effect::Publish) => prop_assert!(facts.record().is_some() && !matches!(facts.secret, Found::Foreign)),
            Step::Do(Effect::Acknowledge(new)) => {
                prop_assert!(!hands_off && new.suspects.is_empty());
                prop_assert_eq!(Some(&new.nonce), intent.map(|old| &old.nonce));
            }
            Step::Do(Effect::DeregisterStray(_) | Effect::NoteRefusal(_)) => {}
            Step::Wait(why, after) => {
                prop_assert!(*after > Duration::ZERO && !why.message.ends_with('.'), "{}", shown);
            }
            Step::Refuse(why) => prop_assert!(!why.message.ends_with('.') && !why.message.is_empty(), "{}", shown),
            Step::Fail(Error { summary, .. }) => prop_assert!(!summary.is_empty()),
            Step::Settled => prop_assert!(facts.deleting() || facts.record().is_some(), "nothing is not enough"),
        }
        if facts.progress.in_hand.is_some() && facts.registry.is_ok() && intent.is_some() {
            prop_assert!(matches!(step, Step::Do(Effect::Store(_))), "credentials first, not {}", shown);
        }
    }

    #[test]
    fn the_same_facts_give_the_same_step_and_a_published_secret_is_not_published_again(dice in dice()) {
        let facts = thrown(&dice);
        prop_assert_eq!(format!("{:?}", next(&facts)), format!("{:?}", next(&facts)));
        if let (Some(record), Step::Do(Effect::Publish)) = (facts.record(), next(&facts)) {
            let wanted = secret::wanted(&facts.client, record, &facts.installation);
            let found = if let Found::Ours(found) = &facts.secret { (**found).clone() } else { Secret::default() };
            let facts = facts.but(|facts| facts.secret = Found::Ours(Box::new(wanted.over(&found))));
            prop_assert!(!matches!(next(&facts), Step::Do(Effect::Publish)));
        }
    }
}
