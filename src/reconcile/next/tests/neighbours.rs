//! Clients of others at the same provider: whatever tenants write, and whoever lists, sweeps or swaps a key, none of them is touched.

use std::time::Duration;

use serde_json::{Value, json};

use super::{providers::*, world::*};
use crate::{
    api::annotations,
    providers::{
        cal_com, meteroid,
        place::Place,
        teable::{self, Switch},
        telnyx,
    },
    reconcile::record::Released,
    registry::Mark,
};

/// What others have and do at a provider.
pub(super) trait Neighbour: Priced {
    /// The id of a new client that somebody made by hand.
    fn foreign(&mut self) -> String;
    /// The id by which the provider manages it.
    fn managed(&self, id: &str) -> String {
        id.to_owned()
    }
    /// Puts a mark where the operator would.
    fn mark(&mut self, id: &str, mark: &Mark);
    /// All that there is to a client, secrets included.
    fn whole(&self, id: &str) -> String;
    /// The credentials of another account, which has no client.
    fn other_account(&mut self) -> Value;
}

impl Neighbour for cal_com::CalCom {
    fn foreign(&mut self) -> String {
        self.add_foreign(1);
        self.clients().pop().unwrap().id
    }
    fn mark(&mut self, id: &str, mark: &Mark) {
        self.edit(id, |client| client.name = mark.text());
    }
    fn whole(&self, id: &str) -> String {
        format!("{:?}", self.client(id))
    }
    fn other_account(&mut self) -> Value {
        self.key("cal_live_CANARY-other", 2, cal_com::Role::Owner);
        json!({"token": "cal_live_CANARY-other"})
    }
}

impl Neighbour for telnyx::Telnyx {
    fn foreign(&mut self) -> String {
        self.add_foreign(1);
        self.clients().pop().unwrap().client_id
    }
    fn mark(&mut self, id: &str, mark: &Mark) {
        self.edit(id, |client| client.name = mark.text());
    }
    fn whole(&self, id: &str) -> String {
        format!("{:?}", self.client(id))
    }
    fn other_account(&mut self) -> Value {
        self.key("KEY_CANARY-other", "organization-2");
        json!({"token": "KEY_CANARY-other"})
    }
}

impl Neighbour for teable::Teable {
    fn foreign(&mut self) -> String {
        self.add_foreign(1).pop().unwrap()
    }
    fn mark(&mut self, id: &str, mark: &Mark) {
        self.edit(id, |client| client.description = Some(format!("Theirs\n{}", mark.text())));
    }
    fn whole(&self, id: &str) -> String {
        format!("{:?}", self.client(id))
    }
    fn other_account(&mut self) -> Value {
        self.switches.insert(Switch::OwnersOnly);
        self.add_user("other@example.com", "CANARY-other-password", "teable_CANARY-other");
        json!({"email": "other@example.com", "password": "CANARY-other-password"})
    }
}

impl Neighbour for meteroid::Meteroid {
    fn foreign(&mut self) -> String {
        let id = self.add_foreign(1).pop().unwrap();
        self.client(&id).unwrap().client_id
    }
    fn managed(&self, id: &str) -> String {
        self.client(id).unwrap().id
    }
    fn mark(&mut self, id: &str, mark: &Mark) {
        self.edit(id, |app| app.name = format!("Theirs [{}]", mark.tag()));
    }
    fn whole(&self, id: &str) -> String {
        format!("{:?}", self.client(id))
    }
    fn other_account(&mut self) -> Value {
        const KEY: &str = "pv_prod_CANARY0000000000000000000002/7n42DGM5Tflk9n8mt7Fhc8";
        self.add_organization(KEY);
        json!({"token": KEY})
    }
}

/// Clients of others, as they were.
pub(super) struct Untouched(Vec<(String, String)>);

impl<P: Neighbour> Town<P> {
    fn somebody_elses(&self) -> (String, Untouched) {
        let id = self.fake.at(Neighbour::foreign);
        let untouched = self.are(&[&id]);
        (id, untouched)
    }

    fn are(&self, ids: &[&str]) -> Untouched {
        let whole = |id: &&str| ((*id).to_owned(), self.fake.at(|provider| provider.whole(id)));
        Untouched(ids.iter().map(whole).collect())
    }

    fn assert_untouched(&self, Untouched(before): &Untouched, what: &str) {
        for (id, whole) in before {
            let now = self.fake.at(|provider| provider.whole(id));
            assert_eq!(now, *whole, "{}: {what}: client {id} of somebody else", P::NAME);
        }
    }

    /// A rotation, a change, rounds and sweeps, with time for all that overlaps to end.
    async fn lives_on(&self) {
        self.world.annotate(annotations::ROTATE, json!(self.world.now().to_string()));
        self.world.settle().await;
        self.world.edit(json!({"spec": {"clientName": "Renamed"}}));
        self.rests().await;
    }

    async fn rests(&self) {
        for _ in 0..2 {
            self.world.settle().await;
            tokio::time::advance(OVERLAP).await;
            self.world.round().await;
        }
        self.world.sweep().await;
    }

    /// As it is stored, with these members changed, where the user's Secret keeps a record.
    fn forge_record(&self, members: &Value) {
        let stored = self.world.record_text();
        let mut forged: Value = serde_json::from_str(&stored).unwrap();
        forged.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        let annotations = json!({annotations::RECORD: forged.to_string()});
        self.world.edit_at("Secret", Some(json!({"metadata": {"annotations": annotations}})));
    }
}

fn spec() -> Value {
    json!({"replacementPolicy": "WhenNeeded", "rotation": {}})
}

/// One kind of story at all four providers.
macro_rules! at_all_providers {
    ($story:ident) => {
        $story::<cal_com::CalCom>().await;
        $story::<telnyx::Telnyx>().await;
        $story::<teable::Teable>().await;
        $story::<meteroid::Meteroid>().await;
    };
}

async fn forged_record<P: Neighbour>() {
    let town = Town::<P>::ready(&spec()).await;
    let (id, untouched) = town.somebody_elses();
    let managed = town.fake.at(|provider| provider.managed(&id));
    let past = "2020-01-01T00:00:00Z";
    let leads_elsewhere = json!({
        "registrationId": managed, "secretId": id, "straySecrets": true, "revoking": [id],
        "previous": {"id": id, "until": past},
        "retiring": [{"clientId": id, "registrationId": managed, "until": past}],
    });
    for members in [leads_elsewhere.clone(), json!({"clientId": id}), json!({"clientId": id, "secretId": id})]
    {
        town.forge_record(&members);
        town.lives_on().await;
        town.assert_untouched(&untouched, &format!("a record with {members}"));
    }
    town.forge_record(&leads_elsewhere);
    town.world.delete();
    town.rests().await;
    town.assert_untouched(&untouched, "a deletion");
    assert_eq!(town.names().len(), 1, "{}: its own client is gone, and no other", P::NAME);
}

#[tokio::test(start_paused = true)]
async fn a_record_that_a_tenant_wrote_leads_to_nobody_elses_client() {
    at_all_providers!(forged_record);
}

#[tokio::test(start_paused = true)]
async fn a_record_that_a_tenant_wrote_leads_to_no_other_registry() {
    let town = Town::<cal_com::CalCom>::ready(&spec()).await;
    town.forge_record(&json!({"registry": {"kind": "ClusterOAuthRegistry", "name": "the-platforms"}}));
    town.world.delete();
    town.rests().await;
    town.at_rest("the client was removed by the credentials of its own registry");
    assert!(town.world.object().is_none(), "and not abandoned as one of a registry that is not there");
    assert!(town.world.record().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_record_with_the_secret_counts_only_where_reads_show_secrets() {
    let town = Town::<telnyx::Telnyx>::ready(&spec()).await;
    town.forge_record(&json!({}));
    town.world.edit_at("record", None);
    let done = town.world.work(3).await;
    assert_eq!(done, ["status False RecordLost"], "only a person may say what becomes of the client");
}

async fn forged_intent<P: Neighbour>() {
    for before in [true, false] {
        let town = if before { Town::<P>::new(&spec()) } else { Town::<P>::ready(&spec()).await };
        let (id, untouched) = town.somebody_elses();
        let managed = town.fake.at(|provider| provider.managed(&id));
        let replaces = town.world.record().map(|record| record.state.nonce);
        let intent = json!({
            "uid": "uid-1", "nonce": "forged", "replaces": replaces, "attempt": 1, "at": "2020-01-01T00:00:00Z",
            "secretFor": {"clientId": id, "registrationId": managed}, "retires": id, "gaveUp": id,
        });
        town.world.annotate(annotations::INTENT, json!(intent.to_string()));
        town.lives_on().await;
        town.assert_untouched(&untouched, if before { "a new object" } else { "a client that is ready" });
        assert_ne!(town.id().as_ref(), Some(&id), "{}: it was adopted", P::NAME);
        assert_eq!(town.world.ready(), "True Ready", "{}", P::NAME);
        town.world.delete();
        town.rests().await;
        town.assert_untouched(&untouched, "a deletion");
        assert_eq!(town.names().len(), 1, "{}: its own client is gone, and no other", P::NAME);
    }
}

#[tokio::test(start_paused = true)]
async fn an_intent_that_a_tenant_wrote_gets_no_secret_of_somebody_elses_client() {
    at_all_providers!(forged_intent);
}

async fn forged_status<P: Neighbour>() {
    let town = Town::<P>::ready(&spec()).await;
    let (id, untouched) = town.somebody_elses();
    let managed = town.fake.at(|provider| provider.managed(&id));
    let retiring = json!({"retiring": [{"clientId": id, "until": "2020-01-01T00:00:00Z"}]});
    let mut status = json!({"registrationId": managed, "rotation": retiring});
    // Where the record is with the Secret, status says whose record it is: only the operator may write it.
    if P::NAME != "Cal.com" {
        status["clientId"] = json!(id);
    }
    town.world.edit(json!({"status": status}));
    town.lives_on().await;
    town.assert_untouched(&untouched, "a client that is ready");
    town.at_rest_beside(&untouched);
    town.world.edit(json!({"status": status}));
    town.world.delete();
    town.rests().await;
    town.assert_untouched(&untouched, "a deletion");
    assert_eq!(town.names().len(), 1, "{}: its own client is gone, and no other", P::NAME);
}

impl<P: Neighbour> Town<P> {
    /// At rest, as soon as the clients of others are not counted.
    fn at_rest_beside(&self, Untouched(others): &Untouched) {
        let mine = |id: &String| !others.iter().any(|(other, _)| other == id);
        let ours: Vec<String> = self.names().into_keys().filter(mine).collect();
        assert_eq!(ours, [self.id().unwrap_or_default()], "{}", P::NAME);
        assert_eq!(self.world.ready(), "True Ready", "{}", P::NAME);
    }
}

#[tokio::test(start_paused = true)]
async fn a_status_that_somebody_wrote_leads_to_nobody_elses_client() {
    at_all_providers!(forged_status);
}

fn mark(installation: &str, uid: &str, nonce: &str) -> Mark {
    Mark { installation: installation.into(), uid: uid.into(), nonce: nonce.into(), replaces: None }
}

async fn others_marks<P: Neighbour>() {
    let town = Town::<P>::ready(&spec()).await;
    let marked = |installation, uid, nonce| {
        let id = town.fake.at(Neighbour::foreign);
        town.fake.at(|provider| provider.mark(&id, &mark(installation, uid, nonce)));
        id
    };
    let elsewhere = marked("another-installation", "uid-1", "n1");
    let other_name = marked("another-installation", "uid-7", "n7");
    let by_hand = town.fake.at(Neighbour::foreign);
    town.fake.at(|provider| provider.rename(&by_hand, "App"));
    // An object that the watch has not shown yet.
    town.world.put_other_object("uid-2");
    let unseen = marked("installation", "uid-2", "n2");
    let nobodys = marked("installation", "uid-3", "n3");
    let untouched = town.are(&[&elsewhere, &other_name, &by_hand, &unseen]);
    town.lives_on().await;
    town.assert_untouched(&untouched, "rounds and sweeps");
    assert!(!town.names().contains_key(&nobodys), "{}: ours, and nobody needs it", P::NAME);
    town.world.delete();
    town.rests().await;
    town.assert_untouched(&untouched, "a deletion");
}

#[tokio::test(start_paused = true)]
async fn the_sweep_leaves_other_installations_other_clusters_and_people_alone() {
    at_all_providers!(others_marks);
}

async fn retained<P: Neighbour>() {
    let retain = |town: &Town<P>| {
        town.world.edit(json!({"spec": {"deletionPolicy": "Retain"}}));
        town.world.delete();
    };
    for call in 0.. {
        let town = Town::<P>::new(&spec());
        town.world.fault_at(0, call, Fault::CrashAfter);
        let done = town.world.pass().await;
        let over = town.world.faults_left() > 0;
        if town.world.object().is_some() {
            retain(&town);
        }
        let then = town.world.work(5).await;
        town.rests().await;
        let what =
            format!("{}: retained after a crash at call {call}, after {done:?}, then {then:?}", P::NAME);
        assert!(town.world.object().is_none(), "{what}: the deletion does not end");
        let Some(secret) = town.world.secret() else {
            let recorded = town.world.record().is_some_and(|record| record.released.is_some());
            assert!(!over && (recorded || town.names().is_empty()), "{what}: nobody has its secret");
            continue;
        };
        let works =
            town.fake.at(|provider| provider.authenticates(&secret["client_id"], &secret["client_secret"]));
        assert!(works, "{what}: the Secret that stays is dead");
        assert_eq!(town.world.record().unwrap().released, Some(Released::Retained), "{what}");
        if over {
            break;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_retained_survives_the_sweep_whenever_it_was_retained() {
    at_all_providers!(retained);
}

#[tokio::test(start_paused = true)]
async fn what_was_retained_with_a_record_that_cannot_be_read_survives_the_sweep() {
    let town = Town::<teable::Teable>::ready(&json!({"deletionPolicy": "Retain"})).await;
    town.world.edit_at("record", Some(json!({"data": {"state": "Z2FyYmFnZQ=="}})));
    town.world.delete();
    town.world.work(20).await;
    assert!(town.world.object().is_none(), "a deletion ends");
    town.world.round().await;
    assert_eq!(town.names().len(), 1, "the Secret of an app may hold it");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_cannot_be_removed_keeps_no_other_from_being_swept() {
    let town = Town::<telnyx::Telnyx>::ready(&spec()).await;
    let strays: Vec<String> = (0..6)
        .map(|n| {
            let id = town.fake.at(Neighbour::foreign);
            town.fake.at(|provider| provider.mark(&id, &mark("installation", &format!("uid-{n}0"), "n")));
            id
        })
        .collect();
    for _ in 0..3 {
        town.fake.disturb(
            &format!("DELETE /v2/oauth/clients/{}", strays[0]),
            crate::providers::Fault::Answered(500),
        );
    }
    tokio::time::advance(INTERVAL).await;
    town.world.round().await;
    let left: Vec<String> = town.names().into_keys().filter(|id| strays.contains(id)).collect();
    assert_eq!(left, strays[..1]);
}

fn swap<P: Neighbour>(town: &Town<P>) {
    let other = town.fake.at(Neighbour::other_account);
    town.world.put_credentials(&other);
}

/// Rotated, and the old one goes on working.
async fn rotated<P: Neighbour>() -> (Town<P>, Untouched) {
    let town = Town::<P>::ready(&spec()).await;
    town.world.annotate(annotations::ROTATE, json!("first"));
    town.world.settle().await;
    let ids: Vec<String> = town.names().into_keys().collect();
    let untouched = town.are(&ids.iter().map(String::as_str).collect::<Vec<_>>());
    (town, untouched)
}

async fn swapped_at_rest<P: Neighbour>() {
    let (town, untouched) = rotated::<P>().await;
    swap(&town);
    let secret = town.world.secret();
    // The other key has been read, and it is not yet time to look.
    tokio::time::advance(INTERVAL / 5).await;
    town.world.annotate(annotations::ROTATE, json!("second"));
    town.world.work(10).await;
    town.world.round().await;
    tokio::time::advance(OVERLAP * 2).await;
    town.world.work(10).await;
    town.world.round().await;
    town.assert_untouched(&untouched, "the key of another account");
    let count = untouched.0.len();
    assert_eq!(town.names().len(), count, "{}: nothing was registered in the other account", P::NAME);
    assert_eq!(town.world.secret(), secret, "{}", P::NAME);
    town.world.put_credentials(&P::credentials());
    town.comes_to_rest("the key is back").await.unwrap();
    assert_ne!(town.world.secret(), secret, "{}: what was asked for meanwhile is done", P::NAME);
}

#[tokio::test(start_paused = true)]
async fn the_key_of_another_account_registers_nothing() {
    at_all_providers!(swapped_at_rest);
}

async fn swapped_before_the_end<P: Neighbour>() {
    let (town, untouched) = rotated::<P>().await;
    let state = town.world.record().unwrap().state;
    let ends = state.retiring.iter().map(|old| old.until).chain(state.previous.iter().map(|old| old.until));
    let Some(end) = ends.min() else { return };
    let left = |now: jiff::Timestamp| Duration::try_from(end.duration_since(now)).unwrap();
    tokio::time::advance(left(town.world.now()).saturating_sub(Duration::from_mins(2))).await;
    town.world.pass().await;
    swap(&town);
    tokio::time::advance(left(town.world.now())).await;
    town.world.pass().await;
    town.assert_untouched(&untouched, "the end of an overlap in the other account");
    let record = town.world.record().unwrap().state;
    let listed =
        (record.retiring, record.previous.map(|old| old.id).into_iter().chain(record.revoking).count());
    let expected = (state.retiring, usize::from(state.previous.is_some()));
    assert_eq!(listed, expected, "{}: what could not be ended is not forgotten", P::NAME);
    town.world.put_credentials(&P::credentials());
    town.comes_to_rest("the key is back").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_key_of_another_account_ends_nothing() {
    at_all_providers!(swapped_before_the_end);
}

async fn swapped_in_deletion<P: Neighbour>() {
    for comes_back in [true, false] {
        let (town, untouched) = rotated::<P>().await;
        swap(&town);
        tokio::time::advance(INTERVAL).await;
        town.world.delete();
        town.world.work(2).await;
        town.assert_untouched(&untouched, "a deletion in the other account");
        assert!(town.world.object().is_some(), "{}: it is not told that the client is gone", P::NAME);
        if comes_back {
            town.world.put_credentials(&P::credentials());
            tokio::time::advance(SETTLE * 2).await;
            town.world.work(3).await;
            town.at_rest("the key is back");
            assert!(town.world.object().is_none(), "{}", P::NAME);
        } else {
            town.world.work(10).await;
            assert!(town.world.object().is_none(), "{}: a deletion ends", P::NAME);
            let released = town.world.record().map(|record| record.released);
            assert_eq!(released, Some(Some(Released::Abandoned)), "{}: the ledger knows", P::NAME);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_deletion_with_the_key_of_another_account_is_no_proof_that_the_client_is_gone() {
    at_all_providers!(swapped_in_deletion);
}

#[tokio::test(start_paused = true)]
async fn a_record_is_not_swept_with_the_key_of_another_account() {
    let town = Town::<telnyx::Telnyx>::ready(&spec()).await;
    let untouched = town.are(&[&town.id().unwrap()]);
    swap(&town);
    town.world.edit(json!({"metadata": {"finalizers": null}}));
    town.world.delete();
    tokio::time::advance(INTERVAL).await;
    town.world.round().await;
    town.world.sweep().await;
    town.assert_untouched(&untouched, "a sweep in the other account");
    assert!(town.world.record().is_some(), "nobody would know of it any more");
}

/// What looks like a mark is one: such a name would never be taken for a name.
#[tokio::test(start_paused = true)]
async fn a_name_that_looks_like_a_mark_is_refused_where_marks_stand_in_names() {
    for uid in ["uid-1", "uid-2"] {
        let name = mark("installation", uid, "n1").text();
        let town = Town::<cal_com::CalCom>::new(&json!({"clientName": name}));
        town.world.work(3).await;
        assert_eq!(
            (town.world.ready().as_str(), town.names().len()),
            ("False Unsupported Stalled", 0),
            "{uid}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_rotation_that_could_not_be_ended_is_refused() {
    let rotating = json!({"rotation": {"every": "1h"}, "replacementPolicy": "WhenNeeded"});
    let world = World::with(Manners::default(), rotating);
    world.work(3).await;
    assert_eq!(world.ready(), "False Unsupported Stalled", "the token of the old client would be lost");
    assert!(world.seen().0.is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_old_secret_ends_although_the_registry_refuses_a_change() {
    let town = Town::<teable::Teable>::ready(&json!({"rotation": {}})).await;
    town.world.annotate(annotations::ROTATE, json!("1"));
    town.world.settle().await;
    let id = town.id().unwrap();
    assert_eq!(town.fake.at(|provider| provider.secrets(&id)), 2, "the old one goes on working for a while");
    town.world.edit(json!({"spec": {"scopes": ["no|such|scope"]}}));
    town.world.work(2).await;
    tokio::time::advance(OVERLAP).await;
    town.world.work(3).await;
    assert_eq!(town.world.ready(), "False Rejected Stalled");
    assert_eq!(town.fake.at(|provider| provider.secrets(&id)), 1);
}

#[tokio::test(start_paused = true)]
async fn each_absence_is_proven_anew() {
    let town = Town::<telnyx::Telnyx>::ready(&spec()).await;
    for _ in 0..2 {
        let id = town.id().unwrap();
        town.fake.at(|provider| provider.take(&id));
        ask(&town.world);
        assert_eq!(town.world.pass().await, ["status False ClientMissing"], "the first miss proves nothing");
        tokio::time::advance(SETTLE).await;
        town.world.pass().await;
        assert_eq!(town.world.ready(), "True Ready", "the second one does");
        assert_ne!(town.id().unwrap(), id);
    }
}

async fn registry_is_away<P: Neighbour>() {
    let elsewhere = json!({"spec": {P::registry(ORIGIN, KEY_REF).as_object().unwrap().keys().next().unwrap(): {"url": "https://elsewhere.example"}}});
    let renamed = json!({"metadata": {"name": "gone"}});
    let back = json!({"metadata": {"name": "dev"}, "spec": P::registry(ORIGIN, KEY_REF)});
    for away in [elsewhere, renamed] {
        let (town, untouched) = rotated::<P>().await;
        town.world.edit_registry(away.clone());
        tokio::time::advance(OVERLAP).await;
        town.world.work(5).await;
        town.assert_untouched(&untouched, "the end of an overlap while the registry is away");
        town.world.edit_registry(back.clone());
        town.comes_to_rest("the registry is back").await.unwrap();

        let (town, untouched) = rotated::<P>().await;
        town.world.edit_registry(away);
        town.world.delete();
        town.world.work(2).await;
        town.assert_untouched(&untouched, "a deletion while the registry is away");
        assert!(town.world.object().is_some(), "{}: nobody was told", P::NAME);
        town.world.edit_registry(back.clone());
        town.world.work(2).await;
        town.at_rest("the registry is back");
        assert!(town.world.object().is_none(), "{}", P::NAME);
    }
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_is_away_while_old_ones_wait_for_their_end_forgets_none() {
    at_all_providers!(registry_is_away);
}
