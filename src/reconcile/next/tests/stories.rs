//! Whole passes, told as lists of what had an effect.

use std::time::Duration;

use futures::FutureExt;
use secrecy::ExposeSecret as _;
use serde_json::json;

use super::world::*;
use crate::{api::annotations, reconcile::record::Released, registry::Management};

/// What must hold once faults have stopped and passes have nothing more to do.
fn at_rest(world: &World, what: &str) {
    let (clients, events, registrations) = world.seen();
    let mut once = registrations.clone();
    once.sort();
    once.dedup();
    assert_eq!(once.len(), registrations.len(), "{what}: a nonce was spent twice: {registrations:?}");
    let record = world.record();
    let ours = record.as_ref().map(|record| record.client.client_id.clone());
    for (id, entry) in clients.iter().filter(|(id, _)| Some(*id) != ours.as_ref()) {
        let software_id = entry.document["software_id"].as_str().unwrap();
        // Events of a deletion are told once; a crash may swallow them.
        let deleted = world.object().is_none();
        let named = world.suspects().iter().any(|nonce| software_id.ends_with(&format!("/{nonce}")));
        let told = events.iter().any(|event| event.contains(software_id));
        assert!(
            named || told || deleted,
            "{what}: nobody speaks of the orphan {id} ({software_id}): {events:?}"
        );
    }
    let Some(object) = world.object() else {
        let released = record.as_ref().is_none_or(|record| record.released.is_some());
        assert!(released, "{what}: a record is left without its object");
        return;
    };
    assert!(object.metadata.deletion_timestamp.is_none(), "{what}: the deletion does not end");
    let record = record.unwrap_or_else(|| panic!("{what}: no record; {}", world.ready()));
    let id = &record.client.client_id;
    let entry =
        clients.get(id).unwrap_or_else(|| panic!("{what}: the record's client is gone; {}", world.ready()));
    let secret = record.client.client_secret.as_ref().unwrap().expose_secret();
    assert_eq!(secret, entry.secret, "{what}: the recorded secret is dead");
    let Management::Token { token, .. } = &record.client.management else { panic!("{what}") };
    assert_eq!(token.expose_secret(), entry.token, "{what}: the recorded token is dead");
    let published = world.secret().unwrap_or_else(|| panic!("{what}: no Secret"));
    assert_eq!((&published["client_id"], &published["client_secret"]), (id, &entry.secret), "{what}");
    assert_eq!(world.ready(), "True Ready", "{what}");
    assert_eq!(
        object.status.unwrap().client_id.as_ref(),
        Some(id),
        "{what}: status speaks of another client"
    );
    let name = object.spec.client_name.unwrap();
    assert_eq!(entry.document["client_name"], name, "{what}: the registry has something else");
}

/// Lets it come to rest, with the help of a person if it has come to a dead end.
async fn comes_to_rest(world: &World, what: &str) -> Result<(), String> {
    let run = std::panic::AssertUnwindSafe(async {
        world.settle().await;
        if world.ready().ends_with("Stalled") {
            ask(world);
            world.look_after();
            world.settle().await;
        }
        world.sweep().await;
        at_rest(world, what);
    });
    run.catch_unwind().await.map_err(|why| why.downcast_ref::<String>().cloned().unwrap_or_default())
}

fn rename(world: &World, name: &str) {
    world.edit(json!({"spec": {"clientName": name}}));
}

fn lose(world: &World) {
    world.state().clients.clear();
    ask(world);
}

fn ask(world: &World) {
    world.annotate(annotations::REQUESTED_AT, json!(world.now().to_string()));
}

fn retain_and_delete(world: &World) {
    world.edit(json!({"spec": {"deletionPolicy": "Retain"}}));
    world.delete();
}

type Change = fn(&World);

/// What people or the registry do to a client that is ready, or new.
const CHANGES: [(&str, Change); 6] = [
    ("create", |_| {}),
    ("rename", |world| rename(world, "Renamed")),
    ("lose", lose),
    ("delete the Secret", |world| world.edit_at("Secret", None)),
    ("delete", World::delete),
    ("retain", retain_and_delete),
];

async fn after(name: &str, change: Change) -> World {
    let world = if name == "create" { World::new() } else { ready().await };
    change(&world);
    world
}

async fn ready() -> World {
    ready_with(Manners::default(), json!({})).await
}

async fn ready_with(manners: Manners, spec: serde_json::Value) -> World {
    let world = World::with(manners, spec);
    world.settle().await;
    at_rest(&world, "before");
    world
}

const REGISTERS: [&str; 5] = [
    "announce attempt 1",
    "register id-1",
    "create record of id-1",
    "create Secret of id-1",
    "status True Ready",
];

const NOTHING: [&str; 0] = [];

fn said(world: &World, reason: &str) -> Vec<String> {
    let events = world.seen().1;
    events.into_iter().filter(|event| event.starts_with(&format!("{reason}: "))).collect()
}

fn message(world: &World) -> String {
    world.condition("Ready").unwrap().message
}

#[tokio::test(start_paused = true)]
async fn a_new_client_is_announced_registered_stored_and_published_in_one_pass() {
    let world = World::new();
    assert_eq!(world.pass().await, REGISTERS);
    assert_eq!(world.ready(), "True Ready");
    for _ in 0..3 {
        assert_eq!(world.pass().await, NOTHING, "nothing happens when nothing happened");
        tokio::time::advance(INTERVAL).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_stale_view_of_the_object_does_nothing() {
    let changes: [(&str, Change); 3] = [
        ("it is registered since", |_| {}),
        ("the spec changed since", |world| rename(world, "Renamed")),
        ("the layout changed since", |world| {
            world.edit(json!({"spec": {"secret": {"keys": {"clientId": "ID"}}}}));
        }),
    ];
    for (reason, change) in changes {
        let world = if reason == "it is registered since" { World::new() } else { ready().await };
        let stale = world.object().unwrap();
        change(&world);
        world.settle().await;
        world.state().log.clear();
        world.pass_with(0, stale).await;
        assert_eq!(world.state().log, NOTHING, "{reason}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_late_to_announce_calls_nobody() {
    let world = World::new();
    world.restart(1);
    world.fault_on("update object", Fault::Held);
    let asleep = world.hold(1, world.object().unwrap()).await.unwrap();
    assert_eq!(world.pass().await, REGISTERS);
    world.state().log.clear();
    world.release();
    asleep.await;
    assert_eq!(world.state().log, NOTHING, "a conflict means that our view was stale");
}

#[tokio::test(start_paused = true)]
async fn no_write_lands_on_an_object_that_was_made_again_under_the_same_name() {
    for (call, change) in
        [("write status", (|world| rename(world, "B")) as Change), ("update object", World::delete)]
    {
        let world = ready().await;
        change(&world);
        world.restart(1);
        world.fault_on(call, Fault::Held);
        let asleep = world.hold(1, world.object().unwrap()).await.unwrap();
        world.make_again();
        world.release();
        asleep.await;
        let object = world.object().unwrap();
        assert_eq!(object.metadata.finalizers.unwrap().len(), 1, "{call}: it holds on to its own client");
        assert!(object.status.is_none(), "{call}: nothing is known of it yet");
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_that_changed_since_it_was_read_is_not_deleted() {
    let world = ready().await;
    world.delete();
    world.fault_on("delete record", Fault::RecordTouched);
    let done = world.pass().await;
    assert_eq!(
        done,
        ["deregister id-1", "deregister: 401", "delete record", "remove finalizer"],
        "it is read again first"
    );
}

#[tokio::test(start_paused = true)]
async fn a_changed_spec_is_written_once() {
    let world = ready().await;
    rename(&world, "Renamed");
    let update = [
        "update record of id-1, update in flight",
        "update id-1",
        "update record of id-1",
        "status True Ready",
    ];
    assert_eq!(world.pass().await, update);
    assert_eq!(said(&world, "Updated").len(), 1);
    assert_eq!(world.pass().await, NOTHING);
}

#[tokio::test(start_paused = true)]
async fn what_others_changed_at_the_registry_is_changed_back_at_the_next_look() {
    let world = ready().await;
    world.state().clients.get_mut("id-1").unwrap().document["client_name"] = json!("Somebody else's");
    assert_eq!(world.pass().await, NOTHING, "it is not looked at all the time");
    tokio::time::advance(INTERVAL).await;
    let repair = ["update record of id-1, update in flight", "update id-1", "update record of id-1"];
    assert_eq!(world.pass().await, repair, "and the status did not change");
    assert_eq!(said(&world, "DriftRepaired").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_field_that_left_the_spec_is_reset_once() {
    let world = ready_with(Manners::default(), json!({"logoUri": "https://app.example/logo"})).await;
    world.edit(json!({"spec": {"logoUri": null}}));
    world.settle().await;
    assert_eq!(world.state().clients["id-1"].document["logo_uri"], json!(null));
    assert_eq!(message(&world), "The client is registered and its credentials are stored");
}

#[tokio::test(start_paused = true)]
async fn a_field_that_the_registry_does_not_clear_is_told_as_long_as_it_is_there() {
    let logo = "https://app.example/logo";
    let manners = Manners { insists_on: Some(("logo_uri", logo)), ..Manners::default() };
    let world = ready_with(manners, json!({"logoUri": logo})).await;
    world.edit(json!({"spec": {"logoUri": null}}));
    world.settle().await;
    assert!(message(&world).ends_with("would not clear logoUri"), "{}", message(&world));
    rename(&world, "Renamed");
    world.settle().await;
    assert!(
        message(&world).ends_with("would not clear logoUri"),
        "after another update: {}",
        message(&world)
    );
    world.state().manners.insists_on = None;
    rename(&world, "Renamed again");
    world.state().clients.get_mut("id-1").unwrap().document["logo_uri"] = json!(null);
    world.settle().await;
    assert_eq!(message(&world), "The client is registered and its credentials are stored");
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_answers_with_something_else_is_asked_once() {
    let manners = Manners { insists_on: Some(("client_name", "Its own")), ..Manners::default() };
    let world = World::with(manners, json!({}));
    let done = world.work(12).await;
    assert_eq!(done[..4], REGISTERS[..4]);
    assert_eq!(done[4..], ["status False NotAsDeclared"], "registered once and never written again");
    assert_eq!(world.ready(), "False NotAsDeclared Stalled");
}

#[tokio::test(start_paused = true)]
async fn a_read_that_shows_less_than_was_written_is_no_drift() {
    let manners = Manners { hides: Some("redirect_uris"), ..Manners::default() };
    let world = ready_with(manners, json!({})).await;
    tokio::time::advance(INTERVAL).await;
    assert_eq!(world.work(5).await, NOTHING);
}

#[tokio::test(start_paused = true)]
async fn a_commit_whose_answer_is_lost_is_found_to_have_arrived() {
    let world = World::new();
    world.fault_on("create record", Fault::ReplyLost);
    assert_eq!(world.pass().await, REGISTERS, "created once, and nothing is deregistered");
    assert_eq!(world.suspects(), NOTHING);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_after_an_unanswered_commit_does_not_remove_the_client() {
    let world = World::new();
    world.fault_on("create record", Fault::ReplyLost);
    world.fault_on("create record", Fault::Answered(403));
    assert_eq!(world.pass().await, REGISTERS, "a quota that our own record has used up");
}

#[tokio::test(start_paused = true)]
async fn a_conflict_that_leaves_no_record_is_no_lost_race() {
    let world = World::new();
    world.fault_on("create record", Fault::Conflict);
    assert_eq!(world.pass().await, REGISTERS, "the API server says 409 when writes race for a quota");
}

#[tokio::test(start_paused = true)]
async fn who_loses_the_race_for_the_record_removes_its_own_client_and_goes_on_with_the_other() {
    let world = World::new();
    world.restart(1);
    world.fault_on("create record", Fault::Held);
    let asleep = world.hold(1, world.object().unwrap()).await.unwrap();
    tokio::time::advance(SETTLE).await;
    let others = [
        "announce attempt 2",
        "register id-2",
        "create record of id-2",
        "create Secret of id-2",
        "status True Ready",
    ];
    assert_eq!(world.pass().await, others);
    world.state().log.clear();
    world.release();
    asleep.await;
    assert_eq!(world.state().log, ["deregister id-1"], "and no second registration under the same nonce");
    assert_eq!(world.settle().await, 2);
    at_rest(&world, "after the race");
}

#[tokio::test(start_paused = true)]
async fn who_loses_the_race_with_a_change_of_the_record_that_it_replaces_tries_again() {
    let world = ready().await;
    lose(&world);
    world.fault_on("register", Fault::RecordTouched);
    let done = world.pass().await;
    let expected = [
        "read client: 401",
        "announce attempt 1 replacing n1",
        "register id-2",
        "deregister id-2",
        "note refusal RegistryUnavailable",
    ];
    assert_eq!(done[..5], expected);
    comes_to_rest(&world, "after the race").await.unwrap();
    assert_eq!(world.suspects(), NOTHING, "everybody knows what became of it");
}

#[tokio::test(start_paused = true)]
async fn a_client_whose_record_is_refused_is_removed_again_and_counted_by_nobody() {
    let world = World::new();
    world.fault_on("create record", Fault::Answered(403));
    let removed = [
        "announce attempt 1",
        "register id-1",
        "deregister id-1",
        "note refusal RegistryUnavailable",
        "status False RegistryUnavailable",
    ];
    assert_eq!(world.pass().await, removed);
    comes_to_rest(&world, "when the quota is raised").await.unwrap();
    assert_eq!(world.suspects(), NOTHING);
}

#[tokio::test(start_paused = true)]
async fn unknown_outcomes_are_tried_three_times_then_halt_and_a_person_resumes() {
    let world = World::new();
    for attempt in 1..=3 {
        world.fault_on("register", Fault::Answered(500));
        let done = world.pass().await;
        assert_eq!(done[0], format!("announce attempt {attempt}"));
        assert_eq!(world.ready(), "Unknown OutcomeUnknown Reconciling");
        assert_eq!(world.pass().await, NOTHING, "not before that request must be over");
        tokio::time::advance(SETTLE).await;
    }
    assert_eq!(world.pass().await, ["status Unknown OutcomeUnknown"]);
    assert_eq!(world.ready(), "Unknown OutcomeUnknown Stalled");
    assert_eq!(world.work(5).await, NOTHING, "a person has to look");
    assert_eq!(world.suspects().len(), 2);
    let command = format!("{}={} --overwrite", annotations::RESUME, world.intent().unwrap().nonce);
    assert!(message(&world).ends_with(&command), "{}", message(&world));
    world.annotate(annotations::RESUME, json!("another nonce"));
    assert_eq!(world.pass().await, NOTHING, "that releases nothing");
    world.annotate(annotations::RESUME, json!(world.intent().unwrap().nonce));
    assert_eq!(world.pass().await, REGISTERS, "the count starts again");
    assert_eq!(world.suspects(), NOTHING, "the person has looked after what was there");
}

#[tokio::test(start_paused = true)]
async fn the_policy_halt_halts_at_the_first_unknown_outcome() {
    let world = World::new();
    world.edit_registry(json!({"spec": {"dynamicRegistration": {"unknownOutcome": "Halt"}}}));
    world.fault_on("register", Fault::Lost);
    assert_eq!(world.pass().await, ["announce attempt 1", "status Unknown OutcomeUnknown"]);
    assert_eq!(world.ready(), "Unknown OutcomeUnknown Reconciling", "nobody can look before it is over");
    tokio::time::advance(SETTLE).await;
    assert_eq!(world.work(3).await, ["status Unknown OutcomeUnknown"]);
    assert_eq!(world.ready(), "Unknown OutcomeUnknown Stalled", "nothing goes on by itself");
    world.annotate(annotations::RESUME, json!(world.intent().unwrap().nonce));
    assert_eq!(world.pass().await[1], "register id-1");
}

#[tokio::test(start_paused = true)]
async fn an_unknown_outcome_stays_unknown_when_the_intent_is_lost() {
    for lost in [json!(null), json!("{ not an intent")] {
        let world = World::new();
        world.fault_on("register", Fault::ReplyLost);
        world.pass().await;
        world.annotate(annotations::INTENT, lost.clone());
        assert_eq!(
            world.work(5).await,
            ["status Unknown OutcomeUnknown"],
            "{lost}: only the message changes"
        );
        assert_eq!(world.ready(), "Unknown OutcomeUnknown Stalled");
        assert!(
            message(&world).ends_with("oauth-operator.io/resume=uid-1 --overwrite"),
            "{}",
            message(&world)
        );
        world.annotate(annotations::RESUME, json!("uid-1"));
        assert_eq!(world.pass().await[1], "register id-2", "{lost}");
        assert_eq!(world.ready(), "True Ready");
    }
}

#[tokio::test(start_paused = true)]
async fn a_replacement_of_unknown_outcome_stays_unknown_when_the_intent_is_lost() {
    let world = ready().await;
    lose(&world);
    world.fault_on("register", Fault::ReplyLost);
    world.pass().await;
    world.annotate(annotations::INTENT, json!(null));
    tokio::time::advance(INTERVAL).await;
    assert!(!world.work(5).await.iter().any(|done| done.starts_with("register")));
    assert_eq!(world.ready(), "Unknown OutcomeUnknown Stalled");
}

#[tokio::test(start_paused = true)]
async fn attempts_are_not_used_up_while_the_initial_access_token_is_missing() {
    let manners = Manners { initial_access_token: Some("let me in"), ..Manners::default() };
    let world = World::with(manners, json!({}));
    world.fault_on("register", Fault::Answered(500));
    world.pass().await;
    let path = "/api/v1/namespaces/shop/secrets/initial";
    let token = world.state().objects.remove(path).unwrap();
    let done = world.work(10).await;
    assert!(!done.iter().any(|done| done.starts_with("announce")), "{done:?}");
    assert_eq!(world.ready(), "False CredentialsNotFound Reconciling");
    world.state().put(path, token);
    assert_eq!(world.pass().await[..2], ["announce attempt 2", "register id-1"]);
}

#[tokio::test(start_paused = true)]
async fn a_refused_client_is_not_asked_for_again_until_something_changes() {
    let refused = ["announce attempt 1", "register: 400", "note refusal Rejected", "status False Rejected"];
    let changes: [(&str, Change); 3] = [
        ("the spec", |world| rename(world, "Good")),
        ("the registry", |world| {
            world.state().manners.refuses_name = None;
            world.edit_registry(json!({"spec": {"timeout": "11s"}}));
        }),
        ("what people ask for", |world| {
            world.state().manners.refuses_name = None;
            ask(world);
        }),
    ];
    for (what, change) in changes {
        let world = World::with(Manners { refuses_name: Some("App"), ..Manners::default() }, json!({}));
        assert_eq!(world.pass().await, refused);
        assert_eq!(world.ready(), "False Rejected Stalled");
        world.restart(0);
        assert_eq!(world.work(5).await, NOTHING, "{what} did not change");
        change(&world);
        assert_eq!(world.pass().await, REGISTERS, "{what} changed");
        assert_eq!(world.suspects(), NOTHING, "what was refused made no client");
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_noted_although_somebody_changed_the_object_meanwhile() {
    let world = World::with(Manners { refuses_name: Some("App"), ..Manners::default() }, json!({}));
    world.fault_on("register", Fault::ObjectTouched);
    let done = world.pass().await;
    assert_eq!(done[..3], ["announce attempt 1", "register: 400", "note refusal Rejected"]);
    assert_eq!(world.ready(), "False Rejected Stalled", "and nobody takes it for an unknown outcome");
}

#[tokio::test(start_paused = true)]
async fn an_update_that_is_refused_is_not_sent_again_until_something_changes() {
    let world = ready_with(Manners { refuses_name: Some("Bad"), ..Manners::default() }, json!({})).await;
    rename(&world, "Bad");
    let refused = [
        "update record of id-1, update in flight",
        "update: 400",
        "update record of id-1, refused",
        "status False Rejected",
    ];
    assert_eq!(world.pass().await, refused);
    world.restart(0);
    assert_eq!(world.work(5).await, NOTHING);
    rename(&world, "App");
    world.settle().await;
    assert_eq!(world.ready(), "True Ready", "back to what the registry has");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_gone_is_replaced_at_the_version_of_its_record() {
    let world = ready().await;
    let before = world.record().unwrap();
    lose(&world);
    let replaced = [
        "read client: 401",
        "announce attempt 1 replacing n1",
        "register id-2",
        "update record of id-2",
        "update Secret of id-2",
        "status True Ready",
    ];
    assert_eq!(world.pass().await, replaced);
    assert_ne!(world.record().unwrap().state.nonce, before.state.nonce);
    assert_eq!(world.pass().await, NOTHING);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_gone_is_replaced_with_the_initial_access_token() {
    let manners = Manners { initial_access_token: Some("let me in"), ..Manners::default() };
    let world = ready_with(manners, json!({})).await;
    lose(&world);
    assert_eq!(world.pass().await[2], "register id-2");
}

#[tokio::test(start_paused = true)]
async fn a_replacement_that_is_refused_is_not_asked_for_again() {
    let world = ready().await;
    world.state().manners.refuses_name = Some("App");
    lose(&world);
    assert!(world.pass().await.contains(&"note refusal Rejected".to_owned()));
    for _ in 0..4 {
        tokio::time::advance(INTERVAL).await;
        assert_eq!(world.pass().await, ["read client: 401"], "looked at, but not registered");
        assert_eq!(world.ready(), "False Rejected Stalled");
    }
    rename(&world, "Good");
    assert!(world.pass().await.contains(&"register id-2".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_gone_is_not_replaced_against_the_policy() {
    let world = ready_with(Manners::default(), json!({"replacementPolicy": "Never"})).await;
    lose(&world);
    assert_eq!(world.pass().await, ["read client: 401", "status False ClientGone"]);
    assert_eq!(world.ready(), "False ClientGone Stalled");
    world.edit(json!({"spec": {"replacementPolicy": "WhenGone"}}));
    assert!(world.pass().await.contains(&"register id-2".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_client_whose_end_only_lost_credentials_prove_is_a_suspect() {
    let manners = Manners { rotates_on_update: true, ..Manners::default() };
    let world = ready_with(manners, json!({})).await;
    rename(&world, "Renamed");
    world.fault_on("update client", Fault::ReplyLost);
    world.pass().await;
    comes_to_rest(&world, "after the lost reply").await.unwrap();
    assert_eq!(world.state().clients.len(), 2, "the old one is there, and nobody holds its token");
    assert!(message(&world).contains("1 earlier attempt may have left a client"), "{}", message(&world));
}

#[tokio::test(start_paused = true)]
async fn what_a_reply_brought_is_kept_whoever_touches_object_or_record() {
    let reading = Manners { rotates_on_read: true, ..Manners::default() };
    let updating = Manners { rotates_on_update: true, ..Manners::default() };
    for (manners, call) in [(reading, "read client"), (updating, "update client")] {
        for fault in [Fault::ObjectTouched, Fault::RecordTouched] {
            let world = ready_with(manners.clone(), json!({})).await;
            world.restart(0);
            rename(&world, "Renamed");
            world.fault_on(call, fault);
            world.pass().await;
            comes_to_rest(&world, &format!("{call}, {fault:?}")).await.unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_registry_whose_reads_rotate_is_read_no_more() {
    let world = ready_with(Manners { rotates_on_read: true, ..Manners::default() }, json!({})).await;
    world.restart(0);
    assert_eq!(
        world.pass().await,
        ["read id-1, which rotates", "update record of id-1"],
        "stored before all else"
    );
    tokio::time::advance(INTERVAL).await;
    assert_eq!(world.work(5).await, NOTHING);
}

#[tokio::test(start_paused = true)]
async fn one_read_that_is_refused_does_not_end_all_looks() {
    let world = ready().await;
    world.state().manners.forbids_reads = true;
    tokio::time::advance(INTERVAL).await;
    assert_eq!(world.work(3).await, NOTHING, "and the client stays ready");
    world.state().manners.forbids_reads = false;
    lose(&world);
    assert!(world.pass().await.contains(&"register id-2".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn an_expiring_secret_is_renewed_once_for_each_end() {
    for tells_no_start in [false, true] {
        let manners =
            Manners { secret_life: Some(12 * 3600), renews: true, tells_no_start, ..Manners::default() };
        let world = ready_with(manners, json!({})).await;
        for end in 1..4 {
            tokio::time::advance(Duration::from_hours(7)).await;
            let far = world.work(3).await;
            assert_eq!(far, NOTHING, "its end is far; {end}, {tells_no_start}");
            tokio::time::advance(Duration::from_hours(2)).await;
            let near = world.work(3).await;
            assert_eq!(near.iter().filter(|done| *done == "update id-1").count(), 1, "{end}: {near:?}");
        }
        assert_eq!(world.ready(), "True Ready");
    }
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_is_not_renewed_is_good_until_its_end() {
    for refuses in [None, Some("App")] {
        let manners = Manners { secret_life: Some(12 * 3600), ..Manners::default() };
        let world = ready_with(manners, json!({})).await;
        world.state().manners.refuses_name = refuses;
        tokio::time::advance(Duration::from_hours(9)).await;
        let done = world.work(5).await;
        let tried =
            done.iter().filter(|done| done.starts_with("update id-1") || *done == "update: 400").count();
        assert_eq!(tried, 1, "{refuses:?}: tried once: {done:?}");
        assert_eq!(world.ready(), "True Ready", "{refuses:?}: it is good for three hours more");
        tokio::time::advance(Duration::from_hours(3)).await;
        let done = world.work(3).await;
        assert_eq!(done, ["status False ClientSecretExpired"], "{refuses:?}: and not tried again");
    }
}

#[tokio::test(start_paused = true)]
async fn secrets_that_are_near_their_end_at_once_are_no_reason_to_renew_for_ever() {
    let manners = Manners { secret_life: Some(-60), renews: true, ..Manners::default() };
    let world = World::with(manners, json!({}));
    let done = world.work(5).await;
    assert!(done.iter().filter(|done| done.starts_with("update id-1")).count() <= 1, "{done:?}");
    assert_eq!(world.ready(), "False ClientSecretExpired Stalled", "the clock of the registry is behind");
}

#[tokio::test(start_paused = true)]
async fn deletion_goes_from_the_registry_to_the_record_to_the_object() {
    let world = ready().await;
    world.delete();
    assert_eq!(world.pass().await, ["deregister id-1", "delete record", "remove finalizer"]);
    assert!(world.object().is_none() && world.record().is_none() && world.secret().is_none());
    assert_eq!(said(&world, "Abandoned"), NOTHING);
}

#[tokio::test(start_paused = true)]
async fn deletion_waits_until_a_registration_in_flight_must_be_over_and_says_what_may_be_left() {
    let world = World::new();
    world.fault_on("register", Fault::CrashAfter);
    world.pass().await;
    world.delete();
    assert_eq!(world.pass().await, ["status False ResolvingOutcome"]);
    tokio::time::advance(SETTLE).await;
    assert_eq!(world.pass().await, ["remove finalizer"]);
    assert!(said(&world, "Abandoned")[0].contains("software_id oauth-operator/shop/app/uid-1/n1"));
}

#[tokio::test(start_paused = true)]
async fn deletion_says_what_a_replacement_may_have_left() {
    let world = ready().await;
    lose(&world);
    world.fault_on("register", Fault::CrashAfter);
    world.pass().await;
    let nonce = world.intent().unwrap().nonce;
    world.delete();
    world.settle().await;
    assert!(said(&world, "Abandoned")[0].contains(&format!("/{nonce})")), "{:?}", world.seen().1);
}

#[tokio::test(start_paused = true)]
async fn deletion_ends_although_the_intent_is_from_the_future_or_somebody_does_not_want_to_wait() {
    let world = World::new();
    world.fault_on("register", Fault::CrashAfter);
    world.pass().await;
    let mut intent = world.intent().unwrap();
    intent.at = "2099-01-01T00:00:00Z".parse().unwrap();
    world.annotate(annotations::INTENT, json!(intent.to_text().unwrap()));
    world.delete();
    world.pass().await;
    assert!(world.object().is_some(), "the request may still be on its way");
    tokio::time::advance(SETTLE).await;
    assert_eq!(world.pass().await, ["remove finalizer"], "nothing is announced after the deletion began");

    let world = World::new();
    world.fault_on("register", Fault::CrashAfter);
    world.pass().await;
    world.annotate(annotations::ABANDON, json!("true"));
    world.delete();
    assert_eq!(world.pass().await, ["remove finalizer"]);
}

#[tokio::test(start_paused = true)]
async fn deletion_past_its_time_ends_without_the_registry_and_keeps_the_record() {
    let world = ready().await;
    world.delete();
    for _ in 0..20 {
        world.fault_on("deregister", Fault::Answered(500));
    }
    assert_eq!(world.pass().await, ["status False RegistryUnavailable"]);
    tokio::time::advance(DELETION).await;
    assert_eq!(world.pass().await, ["update record of id-1, Abandoned", "remove finalizer"]);
    assert_eq!(world.record().unwrap().released, Some(Released::Abandoned));
    assert_eq!(said(&world, "Abandoned").len(), 1);
    world.forget_faults();
    world.sweep().await;
    assert_eq!(world.state().clients.len(), 1, "what was abandoned is left to people");
}

#[tokio::test(start_paused = true)]
async fn the_annotation_ends_a_deletion_at_once() {
    let world = ready().await;
    world.annotate(annotations::ABANDON, json!("true"));
    world.delete();
    assert_eq!(world.pass().await, ["update record of id-1, Abandoned", "remove finalizer"], "no call");
}

#[tokio::test(start_paused = true)]
async fn retain_keeps_client_secret_and_record_whoever_touches_the_record() {
    for fault in [None, Some(Fault::RecordTouched), Some(Fault::ReplyLost)] {
        let world = ready().await;
        retain_and_delete(&world);
        if let Some(fault) = fault {
            world.fault_on("update record", fault);
        }
        let done = world.work(3).await;
        assert_eq!(done[0], "update Secret of id-1", "it must lose its owner first");
        assert_eq!(done[1..], ["update record of id-1, Retained", "remove finalizer"], "{fault:?}");
        world.sweep().await;
        assert!(world.state().clients.contains_key("id-1") && world.secret().is_some(), "{fault:?}");
        assert_eq!(world.record().unwrap().released, Some(Released::Retained), "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn retain_ends_although_the_secret_cannot_be_written() {
    let world = ready().await;
    retain_and_delete(&world);
    for _ in 0..50 {
        world.fault_on("update Secret", Fault::Answered(422));
    }
    world.pass().await;
    assert_eq!(world.ready(), "False KubernetesRefused Reconciling");
    tokio::time::advance(DELETION).await;
    assert_eq!(world.pass().await, ["update record of id-1, Retained", "remove finalizer"]);
}

#[tokio::test(start_paused = true)]
async fn a_finalizer_that_was_taken_away_is_put_back() {
    let world = ready().await;
    world.edit(json!({"metadata": {"finalizers": null}}));
    assert_eq!(world.pass().await, ["add finalizer"]);
    assert_eq!(world.pass().await, NOTHING);
}

#[tokio::test(start_paused = true)]
async fn a_record_whose_object_is_gone_is_swept_with_its_client() {
    let world = ready().await;
    world.edit(json!({"metadata": {"finalizers": null}}));
    world.delete();
    world.state().log.clear();
    world.sweep().await;
    assert_eq!(world.state().log, ["deregister id-1", "delete record"]);
}

#[tokio::test(start_paused = true)]
async fn the_sweep_does_not_trust_a_list_that_has_grown_old() {
    let world = ready().await;
    world.restart(1);
    world.fault_on("read object", Fault::Held);
    let mut sweep = Box::pin(world.sweep());
    tokio::select! {
        biased;
        () = &mut sweep => panic!("it reads the object"),
        () = world.stands_still() => {}
    }
    retain_and_delete(&world);
    world.pass_of(1).await;
    assert_eq!(world.record().unwrap().released, Some(Released::Retained));
    world.release();
    sweep.await;
    assert!(world.state().clients.contains_key("id-1"), "what was retained meanwhile");
}

#[tokio::test(start_paused = true)]
async fn the_sweep_leaves_the_living_alone() {
    let world = ready().await;
    world.state().log.clear();
    world.sweep().await;
    assert_eq!(world.state().log, NOTHING);
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_cannot_be_written_is_told_without_quoting_it() {
    let world = World::new();
    world.fault_on("create Secret", Fault::Answered(403));
    assert_eq!(world.pass().await[2..], ["create record of id-1", "status False KubernetesRefused"]);
    assert_eq!(world.ready(), "False KubernetesRefused Reconciling");
    comes_to_rest(&world, "when the policy lets it through").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_vanishes_while_it_is_written_is_made_again() {
    let world = ready().await;
    world.edit_at("Secret", Some(json!({"data": {"client_id": null}})));
    world.fault_on("update Secret", Fault::Answered(404));
    assert_eq!(
        world.pass().await,
        ["update Secret of id-1"],
        "in the same pass, and the status does not change"
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_stays_wrong_until_it_is_put_right_at_the_registry() {
    let world = ready_with(Manners { refuses_name: Some("Other"), ..Manners::default() }, json!({})).await;
    world.state().manners.refuses_name = Some("App");
    world.state().clients.get_mut("id-1").unwrap().document["client_name"] = json!("Drifted");
    tokio::time::advance(INTERVAL).await;
    world.pass().await;
    assert_eq!(world.ready(), "False Rejected Stalled");
    assert_eq!(world.work(5).await, NOTHING, "drift that cannot be repaired is told in every pass");
    world.state().clients.get_mut("id-1").unwrap().document["client_name"] = json!("App");
    assert_eq!(world.work(5).await, ["status True Ready"]);

    let manners = Manners { insists_on: Some(("client_name", "Its own")), ..Manners::default() };
    let world = World::with(manners, json!({}));
    world.work(3).await;
    assert_eq!(world.ready(), "False NotAsDeclared Stalled");
    world.state().clients.get_mut("id-1").unwrap().document["client_name"] = json!("App");
    assert_eq!(world.work(5).await, ["update record of id-1", "status True Ready"], "and stays so");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_gone_is_not_ready_however_its_replacement_fails() {
    let failures = [
        ("register", Fault::Answered(429), None),
        ("update record", Fault::Answered(403), None),
        ("register", Fault::RecordTouched, None),
        ("register", Fault::ObjectTouched, Some("App")),
    ];
    for (call, fault, refuses_name) in failures {
        let world = ready().await;
        world.state().clients.clear();
        tokio::time::advance(INTERVAL).await;
        world.state().manners.refuses_name = refuses_name;
        world.fault_on(call, fault);
        world.pass().await;
        let replaced = world.record().unwrap().client.client_id == "id-2";
        assert!(replaced || world.ready().starts_with("False"), "{fault:?}: {}", world.ready());
        world.state().manners.refuses_name = None;
        tokio::time::advance(SETTLE * 2).await;
        ask(&world);
        world.pass().await;
        assert_eq!(world.ready(), "True Ready", "{fault:?}: not only after an interval");
        assert_ne!(world.record().unwrap().client.client_id, "id-1", "{fault:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_suspended_client_is_left_alone() {
    let world = ready().await;
    world.edit(json!({"spec": {"suspend": true, "clientName": "Renamed"}}));
    world.edit_at("Secret", None);
    assert_eq!(world.pass().await, ["status True Ready"]);
    assert!(world.condition("Suspended").is_some());
    tokio::time::advance(INTERVAL).await;
    assert_eq!(world.work(3).await, NOTHING);
    world.edit(json!({"spec": {"suspend": false}}));
    assert!(world.pass().await.contains(&"update id-1".to_owned()));
    assert!(world.condition("Suspended").is_none());
}

#[tokio::test(start_paused = true)]
async fn somebody_elses_secret_is_not_touched_and_nothing_is_registered() {
    let world = World::new();
    world.edit_at("Secret", Some(json!({"data": {"mine": "bWluZQ=="}})));
    assert_eq!(world.work(3).await, ["status False SecretNotOurs"]);
    assert_eq!(world.secret().unwrap().keys().collect::<Vec<_>>(), ["mine"]);
}

#[tokio::test(start_paused = true)]
async fn a_record_that_was_removed_by_hand_is_no_reason_for_another_client() {
    let world = ready().await;
    world.edit_at("record", None);
    assert_eq!(world.work(5).await, ["status False RecordLost"]);
    assert_eq!(world.ready(), "False RecordLost Stalled");
    world.annotate(annotations::RESUME, json!(world.intent().unwrap().nonce));
    world.fault_on("register", Fault::Answered(429));
    assert_eq!(world.pass().await[0], "announce attempt 1");
    let done = world.work(5).await;
    assert!(done.contains(&"register id-2".to_owned()), "nobody asks that person again: {done:?}");
    assert_eq!(world.ready(), "True Ready");
}

#[tokio::test(start_paused = true)]
async fn a_deletion_says_that_the_client_of_a_lost_record_may_be_left() {
    let world = ready().await;
    world.edit_at("record", None);
    world.pass().await;
    tokio::time::advance(SETTLE).await;
    world.delete();
    world.settle().await;
    let left = ["Abandoned: client id-1 may still be at the registry: its record is gone"];
    assert_eq!(said(&world, "Abandoned"), left);
}

#[tokio::test(start_paused = true)]
async fn suspects_are_named_until_a_person_has_looked_after_them() {
    let world = World::new();
    world.fault_on("register", Fault::ReplyLost);
    world.settle().await;
    let text = message(&world);
    assert!(text.contains("1 earlier attempt may have left a client"), "{text}");
    let command = format!("{}={} --overwrite", annotations::RESUME, world.intent().unwrap().nonce);
    assert!(text.ends_with(&command), "{text}");
    world.annotate(annotations::RESUME, json!(world.intent().unwrap().nonce));
    assert_eq!(world.pass().await, ["acknowledge", "status True Ready"]);
    assert_eq!(message(&world), "The client is registered and its credentials are stored");
    assert_eq!(world.work(3).await, NOTHING);
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_points_elsewhere_is_not_called() {
    let world = ready().await;
    world.edit_registry(json!({"spec": {"dynamicRegistration": {"issuer": "https://other.example"}}}));
    rename(&world, "Renamed");
    assert_eq!(world.work(3).await, ["status False RegistryChanged"]);
    world.delete();
    assert_eq!(world.pass().await[0], "deregister id-1", "where the client is");
}

#[tokio::test(start_paused = true)]
async fn a_ready_client_stays_ready_while_the_registry_does_not_answer() {
    let world = ready().await;
    tokio::time::advance(INTERVAL).await;
    for _ in 0..10 {
        world.fault_on("read client", Fault::Answered(500));
    }
    assert_eq!(world.work(10).await, NOTHING);
    assert_eq!(world.ready(), "True Ready");
}

#[tokio::test(start_paused = true)]
async fn a_request_too_long_for_the_status_is_cut() {
    let world = ready().await;
    world.annotate(annotations::REQUESTED_AT, json!("x".repeat(5000)));
    assert_eq!(world.pass().await, ["status True Ready"]);
    let handled = world.object().unwrap().status.unwrap().last_handled_reconcile_at.unwrap();
    assert_eq!(handled.len(), 1024, "the API server takes no longer one");
    assert_eq!(world.pass().await, NOTHING);
}

#[tokio::test(start_paused = true)]
async fn no_pass_comes_back_at_once() {
    for (name, change) in CHANGES {
        for call in 0..12 {
            let world = after(name, change).await;
            world.fault_at(0, call, Fault::Answered(500));
            let wake = world.pass_with(0, world.object().unwrap()).await.unwrap();
            assert!(wake >= Duration::from_millis(50), "{name}, call {call}: {wake:?}");
        }
    }
}
