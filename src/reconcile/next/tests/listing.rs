//! The rules that only registries need which list their clients, row by row.

use serde_json::json;

use super::{given::*, rules::*};
use crate::{
    api::annotations,
    reconcile::{
        facts::{Asked, Facts, Search},
        intent::{Intent, Named},
        next::{Effect, Step, next},
        record::{Place, Previous, Record, Retiring},
    },
    registry::{
        Adoption, Capabilities, Client, Field, Kind, Management, MarkPlace, Rotation, ShownMark, ShownSecret,
        Support,
    },
};

/// At a registry that lists, whose credentials open the right account.
fn listing(facts: Facts, adoption: Adoption, mark: MarkPlace, rotation: Rotation) -> Facts {
    facts.but(|facts| {
        let known = facts.known();
        known.proven = true;
        known.credentials = Some("key-1".into());
        known.capabilities = Capabilities { adoption, mark, rotation, ..known.capabilities.clone() };
        if let Some(record) = facts.record.as_mut().unwrap() {
            record.client.management = Management::Registry;
            record.state.credentials = Some("key-1".into());
        }
    })
}

/// Secrets are shown again; another one means another client.
pub(super) fn showing(facts: Facts) -> Facts {
    listing(facts, Adoption::AsShown, MarkPlace::PendingName, Rotation::Recreate)
        .but(|facts| facts.known().capabilities.shows_secrets = true)
}

/// Secrets are shown once; another one means another client.
pub(super) fn recreating(facts: Facts) -> Facts {
    listing(facts, Adoption::Replaced, MarkPlace::PendingName, Rotation::Recreate)
}

/// Several secrets work at a time.
pub(super) fn overlapping(facts: Facts) -> Facts {
    listing(facts, Adoption::WithNewSecret, MarkPlace::Beside, Rotation::Overlap)
}

/// One secret works at a time.
pub(super) fn replacing(facts: Facts) -> Facts {
    listing(facts, Adoption::WithNewSecret, MarkPlace::Beside, Rotation::Replace)
}

fn named(facts: Facts) -> Facts {
    told(facts, "Ready", Some("id-1"))
}

fn doubted(facts: Facts) -> Facts {
    facts.but(|facts| facts.known().proven = false)
}

fn surveyed(facts: Facts) -> Facts {
    doubted(facts).but(|facts| facts.progress.surveyed = true)
}

pub(super) fn accepted(facts: Facts) -> Facts {
    facts.but(|facts| facts.known().accepted = Some(facts.known().identity()))
}

fn rotating(facts: Facts) -> Facts {
    prepared(facts.note(annotations::ROTATE, "now"))
}

fn when_needed(facts: Facts) -> Facts {
    facts.spec(json!({"replacementPolicy": "WhenNeeded"}))
}

fn seen(facts: Facts, change: impl FnOnce(&mut Client)) -> Facts {
    facts.but(|facts| {
        let mut client = facts.stored().client.clone();
        change(&mut client);
        facts.progress.seen = Some(client);
    })
}

fn marked(client: &mut Client) {
    client.mark = ShownMark::read("oauth-operator/installation/uid-1/nonce-1");
}

pub(super) fn old(id: &str, ends: i64) -> Retiring {
    let client = Named { client_id: id.into(), registration_id: None };
    Retiring { client, until: ago(-ends) }
}

fn state(facts: Facts, change: impl FnOnce(&mut Record)) -> Facts {
    facts.but(|facts| change(facts.stored()))
}

/// The record that is to be stored.
fn stored(facts: &Facts) -> Record {
    match next(facts) {
        Step::Do(Effect::Store(record)) => *record,
        step => panic!("{}", brief(&step)),
    }
}

#[test]
fn nothing_is_registered_with_a_key_of_another_account() {
    let new = || showing(new_client());
    hold(vec![
        ("it opens the right one", new(), "Prepare"),
        ("it has to show that", doubted(new()), "Survey"),
        ("it did not", surveyed(new()), "wait 30s, RegistryChanged"),
        ("a person says that it does", accepted(surveyed(new())), "Prepare"),
        (
            "a person said so of another one",
            surveyed(new()).but(|facts| facts.known().accepted = Some("earlier".into())),
            "wait 30s, RegistryChanged",
        ),
        (
            "it was asked in this pass",
            announced(doubted(new())),
            "register oauth-operator/ns/app/uid-1/nonce-1",
        ),
        ("a registry without a list cannot show it", doubted(new_client()), "Prepare"),
        ("nothing is to be done", doubted(named(showing(ready()))), "settled"),
        ("a rotation", doubted(rotating(overlapping(ready()))), "Survey"),
        (
            "a rotation that did not show it",
            surveyed(rotating(overlapping(ready()))),
            "wait 30s, RegistryChanged",
        ),
        (
            "a replacement",
            surveyed(prepared(recreating(ready()))).but(|facts| facts.progress.gone = true),
            "wait 30s, RegistryChanged",
        ),
    ]);
}

#[test]
fn nothing_is_taken_for_gone_with_a_key_of_another_account() {
    let deleted = |facts: Facts, seconds| surveyed(facts).deleted(seconds);
    let lost = || named(showing(new_client())).but(Facts::finalize);
    hold(vec![
        ("a deletion looks first", doubted(overlapping(ready())).deleted(9), "Survey"),
        ("it waits for the right key", deleted(overlapping(ready()), 9), "wait 30s, RegistryChanged"),
        ("but not for ever", deleted(overlapping(ready()), 600), "Release(Abandoned)"),
        ("it looks, however late", doubted(overlapping(ready())).deleted(600), "Survey"),
        (
            "or somebody does not want to wait",
            deleted(overlapping(ready()), 9).abandon(),
            "Release(Abandoned)",
        ),
        ("a person says that the key is right", accepted(deleted(overlapping(ready()), 9)), "Deregister"),
        (
            "the registry object is gone: its last key is used",
            deleted(overlapping(ready()), 9).but(|facts| facts.registry = Err(why("RegistryNotFound"))),
            "Deregister",
        ),
        ("a lost record", deleted(lost(), 9), "wait 30s, RegistryChanged"),
        ("not for ever", deleted(lost(), 600), "RemoveFinalizer"),
        ("a lost record, but the right key, however late", lost().deleted(600), "Deregister"),
        (
            "what an open attempt may have made",
            deleted(showing(new_client().attempted(1, 60)), 60),
            "wait 30s, RegistryChanged",
        ),
        (
            "an old client",
            surveyed(state(recreating(ready()), |record| record.state.retiring.push(old("id-0", 0)))),
            "wait 30s, RegistryChanged",
        ),
        (
            "an old secret",
            surveyed(state(overlapping(ready()), |record| record.state.revoking.push("s-0".into()))),
            "wait 30s, RegistryChanged",
        ),
    ]);
}

#[test]
fn absence_counts_when_it_is_proven() {
    let missing =
        |facts: Facts| prepared(facts).but(|facts| facts.progress.missing = Some(why("ClientMissing")));
    hold(vec![
        ("not yet", missing(overlapping(ready())), "wait 30s, ClientMissing"),
        (
            "now",
            missing(overlapping(ready())).but(|facts| facts.progress.gone = true),
            "announce fresh as attempt 1, replaces nonce-1",
        ),
        ("an open attempt waits too", missing(overlapping(ready()).replacing(60)), "wait 30s, ClientMissing"),
    ]);
}

#[test]
fn a_lost_record_is_read_again_where_secrets_are_shown() {
    let lost = || named(prepared(showing(new_client()))).but(Facts::finalize);
    let gone = |facts: Facts| facts.but(|facts| facts.progress.gone = true);
    hold(vec![
        ("status names the client", lost(), "recover id-1"),
        (
            "it is missing",
            lost().but(|facts| facts.progress.missing = Some(why("ClientMissing"))),
            "wait 30s, ClientMissing",
        ),
        ("it is gone", gone(lost()), "announce fresh as attempt 1"),
        (
            "against the policy",
            gone(lost().spec(json!({"replacementPolicy": "Never"}))),
            "refuse, ClientGone",
        ),
        ("a person gave it up", lost().note(annotations::RESUME, "uid-1"), "announce fresh as attempt 1"),
        ("what was read is stored", lost().in_hand("id-1", Asked::Recover), "store id-1 over none"),
    ]);
    let record = stored(&lost().in_hand("id-1", Asked::Recover));
    assert!(
        record.place == Place::WithSecret && record.state.applied.0.is_empty(),
        "nobody knows what was applied"
    );
}

#[test]
fn an_attempt_of_which_nobody_saw_the_end_is_searched_for() {
    let tried = |facts: Facts, age| prepared(showing(facts.attempted(1, age)));
    let search = |facts: Facts, search| facts.but(|facts| facts.progress.searched = Some(search));
    let nothing = |age| search(tried(new_client(), age), Search::Nothing);
    hold(vec![
        ("a list may lag behind", tried(new_client(), 2), "wait 1s, OutcomeUnknown"),
        ("now it does not", tried(new_client(), 3), "Search"),
        (
            "a conflict says that it is there",
            tried(new_client(), 0).but(|facts| facts.progress.conflict = Some(error(Kind::Conflict))),
            "Search",
        ),
        ("it may still be on its way", nothing(29), "wait 1s, OutcomeUnknown"),
        ("it must be over; what comes late bears its mark", nothing(30), "announce fresh as attempt 2"),
        (
            "nobody has to resume, however often",
            search(prepared(showing(new_client().attempted(9, 30))), Search::Nothing),
            "announce fresh as attempt 10",
        ),
        (
            "what was found is stored",
            tried(new_client(), 9).in_hand("id-1", Asked::Register),
            "store id-1 over none",
        ),
        (
            "a replacement keeps what it replaces",
            search(prepared(showing(ready()).replacing(30)), Search::Nothing),
            "announce fresh as attempt 2, replaces nonce-1",
        ),
        (
            "what cannot be adopted is not searched for",
            prepared(recreating(new_client().attempted(1, 29))),
            "wait 1s, OutcomeUnknown",
        ),
        (
            "but made again",
            prepared(recreating(new_client().attempted(1, 30))),
            "announce fresh as attempt 2",
        ),
        ("a registry without a list", prepared(new_client().attempted(1, 3)), "wait 27s, OutcomeUnknown"),
    ]);
}

#[test]
fn a_client_without_a_known_secret_gets_one_that_was_announced() {
    let found = |facts: Facts| {
        prepared(facts).but(|facts| {
            facts.progress.searched = Some(Search::Found);
            facts.progress.adopting = Some(another("id-1"));
        })
    };
    let to_serve = Some(Named::of(&another("id-1")));
    let issuing =
        |facts: Facts| facts.but(|facts| facts.intent.as_mut().unwrap().secret_for.clone_from(&to_serve));
    let made =
        || announced(overlapping(new_client())).but(|facts| facts.progress.adopting = Some(another("id-1")));
    hold(vec![
        (
            "found",
            found(overlapping(new_client().attempted(1, 3))),
            "announce fresh as attempt 2, a secret for id-1",
        ),
        (
            "an older request would end the new secret",
            found(replacing(new_client().attempted(1, 29))),
            "wait 1s, OutcomeUnknown",
        ),
        (
            "now it must be over",
            found(replacing(new_client().attempted(1, 30))),
            "announce fresh as attempt 2, a secret for id-1",
        ),
        ("made just now: it did what it was for", made(), "announce fresh as attempt 1, a secret for id-1"),
        ("then it is issued", issuing(made()), "issue a secret for id-1"),
        (
            "what was announced for another",
            made().but(|facts| facts.intent.as_mut().unwrap().secret_for = Some(Named::of(&another("id-2")))),
            "announce fresh as attempt 1, a secret for id-1",
        ),
        (
            "nothing fences one that may be on its way",
            issuing(prepared(overlapping(new_client().attempted(1, 29)))),
            "wait 1s, OutcomeUnknown",
        ),
        ("later it is looked for", issuing(prepared(overlapping(new_client().attempted(1, 30)))), "Search"),
    ]);
}

#[test]
fn a_rotation_is_what_the_registry_can_do() {
    let rotated = |facts: Facts| named(when_needed(rotating(facts)));
    let refused_before = |for_good| rotated(overlapping(ready())).replacing(60).refused(for_good);
    hold(vec![
        (
            "another secret beside it",
            rotated(overlapping(ready())),
            "announce fresh as attempt 1, replaces nonce-1, a secret for id-1",
        ),
        (
            "another secret in its place",
            rotated(replacing(ready())),
            "announce fresh as attempt 1, replaces nonce-1, a secret for id-1",
        ),
        (
            "another client",
            rotated(recreating(ready())),
            "announce fresh as attempt 1, replaces nonce-1, retires id-1",
        ),
        (
            "prepared first",
            rotated(overlapping(ready())).but(|facts| facts.progress.prepared = false),
            "Prepare",
        ),
        ("one at a time", told(rotated(recreating(ready())), "Ready", Some("id-0")), "settled"),
        ("not against the policy", rotating(recreating(ready())), "refuse, Unsupported"),
        ("what nobody could end is not begun", when_needed(rotating(ready())), "refuse, Unsupported"),
        (
            "an overlap that cannot be",
            replacing(ready()).spec(json!({"rotation": {"overlap": "1h"}})),
            "refuse, Unsupported",
        ),
        ("refused for good", refused_before(true), "refuse, Rejected"),
        (
            "refused for now",
            refused_before(false),
            "announce fresh as attempt 1, replaces nonce-1, a secret for id-1",
        ),
        (
            "it was handled",
            state(rotated(overlapping(ready())), |record| record.state.schedule.handled = Some("now".into())),
            "settled",
        ),
        (
            "it is time",
            state(named(prepared(overlapping(ready()))), |record| record.state.schedule.next = Some(now())),
            "announce fresh as attempt 1, replaces nonce-1, a secret for id-1",
        ),
        (
            "it is not yet time",
            state(named(prepared(overlapping(ready()))), |record| record.state.schedule.next = Some(ago(-1))),
            "settled",
        ),
        (
            "another interval is reckoned from first",
            overlapping(ready()).spec(json!({"rotation": {"every": "1h"}})),
            "store id-1 over 7",
        ),
    ]);
}

#[test]
fn a_secret_that_somebody_else_ended_is_replaced() {
    let with_secret = |facts: Facts| {
        state(facts, |record| {
            record.client.secret_id = Some("s-1".into());
            record.client.secret_hint = Some("abcd".into());
        })
    };
    let shows = |facts: Facts, ids: &[&str]| {
        let secrets = ids.iter().map(|id| ShownSecret { id: (*id).into(), tail: "abcd".into() }).collect();
        seen(with_secret(prepared(facts)), |client| {
            client.secrets = Some(secrets);
            marked(client);
        })
    };
    let hints = |facts: Facts, hint: &str| {
        seen(with_secret(prepared(facts)), |client| {
            client.secret_hint = Some(hint.into());
            marked(client);
        })
    };
    let since = |facts: Facts, seconds| state(facts, |record| record.state.secret_since = Some(ago(seconds)));
    let again = "announce fresh as attempt 1, replaces nonce-1, a secret for id-1";
    hold(vec![
        ("it is among those that work", shows(overlapping(ready()), &["s-0", "s-1"]), "settled"),
        ("it is not", shows(overlapping(ready()), &["s-0"]), again),
        ("there is none", shows(overlapping(ready()), &[]), again),
        ("the same hint", hints(replacing(ready()), "abcd"), "settled"),
        ("another hint", hints(replacing(ready()), "efgh"), again),
        ("a request of ours may still arrive", since(hints(replacing(ready()), "efgh"), 29), "settled"),
        ("now it must be over", since(hints(replacing(ready()), "efgh"), 30), again),
        ("a line of a list shows neither", seen(with_secret(overlapping(ready())), marked), "settled"),
    ]);
}

#[test]
fn what_was_replaced_ends_when_its_time_has_come() {
    let previous = |ends: i64| {
        state(overlapping(ready()), |record| {
            record.state.previous = Some(Previous { id: "s-0".into(), until: ago(-ends) });
        })
    };
    let revoking =
        || state(overlapping(ready()), |record| record.state.revoking = vec!["s-0".into(), "s-1".into()]);
    let retiring =
        |ends| state(named(recreating(ready())), |record| record.state.retiring = vec![old("id-0", ends)]);
    hold(vec![
        ("a secret that overlaps", previous(1), "settled"),
        ("its end is noted first", previous(0), "store id-1 over 7"),
        ("then it ends", revoking(), "RevokeSecret(\"s-0\")"),
        (
            "and the next",
            revoking().but(|facts| facts.progress.revoked.push("s-0".into())),
            "RevokeSecret(\"s-1\")",
        ),
        (
            "then it is forgotten",
            revoking().but(|facts| facts.progress.revoked = vec!["s-0".into(), "s-1".into()]),
            "store id-1 over 7",
        ),
        ("a client that overlaps", retiring(1), "settled"),
        ("it ends", retiring(0), "retire id-0"),
        (
            "and is forgotten",
            retiring(0).but(|facts| facts.progress.retired.push("id-0".into())),
            "store id-1 over 7",
        ),
        ("not while an attempt is open", prepared(retiring(0).replacing(10)), "wait 20s, OutcomeUnknown"),
        ("whatever the registry refuses", retiring(0).spec(json!({"clientName": "B"})), "retire id-0"),
        (
            "not while the new one is missing",
            retiring(0).but(|facts| facts.progress.missing = Some(why("ClientMissing"))),
            "wait 30s, ClientMissing",
        ),
        ("hands off", retiring(0).spec(json!({"suspend": true})), "refuse, Suspended"),
    ]);
    let noted = stored(&previous(0)).state;
    assert_eq!(
        (noted.previous, noted.revoking),
        (None, vec!["s-0".into()]),
        "so that a crash does not forget it"
    );
}

#[test]
fn secrets_that_nobody_knows_end_when_no_request_can_bring_another() {
    let strays = |since: i64| {
        let facts = state(overlapping(ready()), |record| {
            record.client.secret_id = Some("s-1".into());
            record.state.previous = Some(Previous { id: "s-0".into(), until: ago(-60) });
            record.state.stray_secrets = true;
            record.state.secret_since = Some(ago(since));
        });
        seen(facts, |client| {
            let secret = |id: &str| ShownSecret { id: id.into(), tail: "abcd".into() };
            client.secrets = Some(["s-0", "s-1", "s-2"].map(secret).into());
            marked(client);
        })
    };
    hold(vec![
        ("one may still be on its way", strays(29), "settled"),
        ("now it must be over", strays(30), "store id-1 over 7"),
        ("a look has to show them", strays(30).but(|facts| facts.progress.seen = None), "settled"),
    ]);
    let noted = stored(&strays(30)).state;
    assert_eq!(
        (noted.revoking, noted.stray_secrets),
        (vec!["s-2".into()], false),
        "neither ours nor the one before"
    );
}

#[test]
fn a_secret_stored_by_one_who_was_overtaken_has_strays_beside_it() {
    let overtaken = |since: i64, announced: i64| {
        let mut facts = state(overlapping(ready()), |record| {
            record.state.nonce = "nonce-2".into();
            record.state.secret_since = Some(ago(since));
        })
        .replacing(announced);
        let named = Named::of(&facts.stored().client);
        let intent = facts.intent.as_mut().unwrap();
        (intent.nonce, intent.secret_for) = ("nonce-4".into(), Some(named));
        facts
    };
    hold(vec![
        ("another attempt came after it", overtaken(100, 40), "store id-1 over 7"),
        ("an object from before it", overtaken(40, 100), "settled"),
        ("there is only one secret", replacing(overtaken(100, 40)), "settled"),
        (
            "its own attempt",
            overtaken(100, 40).but(|facts| facts.intent.as_mut().unwrap().nonce = "nonce-2".into()),
            "settled",
        ),
    ]);
    let noted = stored(&overtaken(100, 40)).state;
    assert_eq!((noted.stray_secrets, noted.secret_since), (true, Some(ago(40))), "and once only");
}

#[test]
fn a_mark_comes_off_when_the_object_names_the_client_and_goes_back_where_it_stays() {
    let pending = |facts: Facts| state(facts, |record| marked(&mut record.client));
    hold(vec![
        ("the object names nobody yet", pending(showing(ready())), "settled"),
        ("it names another one", told(pending(showing(ready())), "Ready", Some("id-0")), "settled"),
        ("now it names it", pending(named(showing(ready()))), "update"),
        (
            "a look shows the name",
            seen(pending(named(showing(ready()))), |client| client.mark = None),
            "settled",
        ),
        ("a mark that stays", seen(overlapping(ready()), marked), "settled"),
        ("somebody took it off", seen(overlapping(ready()), |_| {}), "update"),
        (
            "nobody can put it back",
            seen(replacing(ready()), |_| {}).but(|facts| {
                drop(facts.known().capabilities.fields.insert(Field::Description, Support::Unsupported));
            }),
            "settled",
        ),
        (
            "a name that would be taken for one",
            showing(new_client()).spec(json!({"clientName": "oauth-operator/a/b/c"})),
            "refuse, Unsupported",
        ),
        (
            "where marks do not stand in names",
            overlapping(new_client()).spec(json!({"clientName": "oauth-operator/a/b/c"})),
            "Prepare",
        ),
        ("almost", showing(new_client()).spec(json!({"clientName": "oauth-operator/a/b"})), "Prepare"),
    ]);
}

#[test]
fn a_field_that_cannot_be_changed_means_another_client_if_people_agree() {
    let changed = || {
        named(prepared(replacing(ready()))).spec(json!({"clientName": "B"})).but(|facts| {
            drop(facts.known().capabilities.fields.insert(Field::ClientName, Support::Immutable));
        })
    };
    hold(vec![
        ("they did not", changed(), "refuse, ReplacementNeeded"),
        ("they did", when_needed(changed()), "announce fresh as attempt 1, replaces nonce-1, retires id-1"),
        ("one at a time", told(when_needed(changed()), "Ready", Some("id-0")), "settled"),
        ("what can be changed is", named(overlapping(ready())).spec(json!({"clientName": "B"})), "update"),
        (
            "what is set for the first time is noted, to be reset later",
            named(overlapping(ready())).spec(json!({"logoUri": "https://x"})),
            "store id-1 over 7, in flight",
        ),
    ]);
}

#[test]
fn a_client_that_the_registry_disabled_is_not_ready() {
    let shown = |active| {
        seen(named(overlapping(ready())), |client| {
            marked(client);
            client.active = active;
        })
    };
    hold(vec![
        ("it is in use", shown(true), "settled"),
        ("it is not", shown(false), "refuse, ClientDisabled"),
        (
            "its secret is published nevertheless",
            shown(false).but(|facts| facts.secret = crate::reconcile::secret::Found::Absent),
            "Publish",
        ),
    ]);
}

#[test]
fn another_account_is_another_registry_until_a_person_says_otherwise() {
    let in_account = |facts: Facts, then: Option<&str>, now: Option<&str>| {
        facts.but(|facts| {
            facts.stored().client.account_id = then.map(str::to_owned);
            facts.known().account_id = now.map(str::to_owned);
        })
    };
    let moved = |facts: Facts| facts.but(|facts| facts.known().origin = "https://b.example".into());
    let token = || ready().but(|facts| facts.known().proven = true);
    hold(vec![
        ("the same", in_account(overlapping(ready()), Some("a"), Some("a")), "settled"),
        ("another", in_account(overlapping(ready()), Some("a"), Some("b")), "refuse, RegistryChanged"),
        ("nobody knows which it was", in_account(overlapping(ready()), None, Some("b")), "settled"),
        ("nobody knows which it is", in_account(overlapping(ready()), Some("a"), None), "settled"),
        (
            "a person says so",
            accepted(in_account(overlapping(ready()), Some("a"), Some("b"))),
            "store id-1 over 7",
        ),
        ("another place", moved(overlapping(ready())), "refuse, RegistryChanged"),
        ("a person says that it moved", accepted(moved(overlapping(ready()))), "store id-1 over 7"),
        (
            "a token is sent nowhere else, whoever says so",
            accepted(moved(token())),
            "refuse, RegistryChanged",
        ),
    ]);
    let noted = stored(&accepted(moved(overlapping(ready()))));
    assert_eq!(noted.state.origin, "https://b.example");
}

#[test]
fn a_deletion_removes_what_an_open_attempt_may_have_made() {
    let gone = |facts: Facts, seconds| facts.deleted(seconds).but(|facts| facts.progress.deregistered = true);
    let beside = |facts: Facts| state(showing(facts), |record| record.place = Place::WithSecret);
    hold(vec![
        ("nothing is open", gone(overlapping(ready()), 9), "DeleteRecord"),
        ("a record with the Secret goes with it", gone(beside(ready()), 9), "RemoveFinalizer"),
        ("it may be on its way", gone(overlapping(ready()).replacing(29), 9), "wait 1s, ResolvingOutcome"),
        ("it must be over", gone(overlapping(ready()).replacing(30), 9), "DeregisterMarked"),
        (
            "it is removed",
            gone(overlapping(ready()).replacing(30), 9).but(|facts| facts.progress.cleared = true),
            "DeleteRecord",
        ),
        ("not waited for for ever", gone(overlapping(ready()).replacing(29), 600), "DeregisterMarked"),
        ("without a record", overlapping(new_client().attempted(1, 30)).deleted(9), "DeregisterMarked"),
        (
            "without a record, too early",
            overlapping(new_client().attempted(1, 29)).deleted(9),
            "wait 1s, ResolvingOutcome",
        ),
        (
            "and then it ends",
            overlapping(new_client().attempted(1, 30)).deleted(9).but(|facts| facts.progress.cleared = true),
            "RemoveFinalizer",
        ),
        (
            "status names one whose record is lost",
            named(showing(new_client())).but(Facts::finalize).deleted(9),
            "Deregister",
        ),
        (
            "where secrets are shown once there is no way to it",
            named(overlapping(new_client())).but(Facts::finalize).deleted(9),
            "RemoveFinalizer",
        ),
        (
            "what is retained is not removed",
            named(showing(new_client()))
                .but(Facts::finalize)
                .spec(json!({"deletionPolicy": "Retain"}))
                .deleted(9),
            "RemoveFinalizer",
        ),
    ]);
}

#[test]
fn what_is_to_be_removed_later_is_kept_where_tenants_cannot_write() {
    let replaces = |retires: bool, place| {
        let facts = state(showing(ready()).replacing(0), |record| record.place = place);
        facts.in_hand("id-2", Asked::Register).but(|facts| {
            facts.intent.as_mut().unwrap().retires = retires.then(|| "id-1".into());
        })
    };
    let kept = |facts: &Facts| {
        let record = stored(facts);
        let retiring =
            record.state.retiring.iter().map(|old| old.client.client_id.clone()).collect::<Vec<_>>();
        (record.place, record.version, retiring)
    };
    let seven = Some("7".to_owned());
    assert_eq!(
        kept(&replaces(true, Place::WithSecret)),
        (Place::Apart, None, vec!["id-1".into()]),
        "created apart"
    );
    assert_eq!(
        kept(&replaces(true, Place::Apart)),
        (Place::Apart, seven.clone(), vec!["id-1".into()]),
        "over the one apart"
    );
    assert_eq!(
        kept(&replaces(false, Place::WithSecret)),
        (Place::WithSecret, seven, vec![]),
        "nothing to remove"
    );
}

#[test]
fn a_new_secret_takes_the_place_of_the_old_one_in_the_record() {
    let issued = |facts: Facts, attempt| {
        let facts = state(rotating(facts), |record| {
            record.client.secret_id = Some("s-1".into());
            record.state.previous = Some(Previous { id: "s-0".into(), until: ago(-60) });
        });
        facts.replacing(0).in_hand("id-1", Asked::IssueSecret).but(|facts| {
            facts.intent.as_mut().unwrap().attempt = attempt;
            facts.progress.in_hand.as_mut().unwrap().client.secret_id = Some("s-2".into());
        })
    };
    let overlap = stored(&issued(overlapping(ready()), 1));
    assert_eq!((overlap.client.secret_id.as_deref(), overlap.state.nonce.as_str()), (Some("s-2"), "nonce-2"));
    assert_eq!(
        overlap.state.previous.map(|previous| previous.id).as_deref(),
        Some("s-1"),
        "it works for a while"
    );
    assert_eq!(overlap.state.revoking, ["s-0"], "the one before it does not: nobody counts on a third");
    assert_eq!(overlap.state.schedule.handled.as_deref(), Some("now"), "once for each word");
    assert!(!overlap.state.stray_secrets);
    assert!(
        stored(&issued(overlapping(ready()), 2)).state.stray_secrets,
        "a lost reply may have brought one more"
    );
    let replaced = stored(&issued(replacing(ready()), 2)).state;
    assert_eq!((replaced.revoking.len(), replaced.stray_secrets), (0, false), "there is only one");
}

#[test]
fn what_was_announced_for_a_client_names_it() {
    let step = next(&rotating(overlapping(ready())));
    let Step::Do(Effect::Announce(intent)) = step else { panic!("{}", brief(&step)) };
    let Intent { secret_for, retires, refused, .. } = *intent;
    assert_eq!((secret_for, retires, refused), (Some(Named::of(&another("id-1"))), None, None));
}
