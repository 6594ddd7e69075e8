//! The same promises at the four providers: each driver against its own fake under its contract.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::FutureExt;
use serde_json::{Value, json};

use super::world::*;
use crate::{
    api::annotations,
    providers::{Fake, cal_com, meteroid, place::Place, teable, telnyx},
};

/// What it costs at one provider.
pub(super) trait Priced: Place {
    /// Calls of a registration, rename and secret included.
    const CALLS: usize = 2;
    /// Writes to Kubernetes until it is ready.
    const WRITES: usize = 4;
}

impl Priced for cal_com::CalCom {
    const WRITES: usize = 3;
}

impl Priced for telnyx::Telnyx {}

impl Priced for teable::Teable {
    const WRITES: usize = 5;
}

impl Priced for meteroid::Meteroid {
    const CALLS: usize = 1;
}

/// Longer than old secrets and clients work if nobody says.
pub(super) const OVERLAP: Duration = Duration::from_hours(2);
pub(super) const KEY_REF: &str = "initial";
pub(super) const ORIGIN: &str = "https://as.example";

/// Ids and names, as they stand there.
fn names<P: Place>(provider: &P) -> BTreeMap<String, String> {
    provider.all().into_iter().map(|(id, client)| (id, P::name(&client))).collect()
}

/// A world with one of the providers in it.
pub(super) struct Town<P: Priced> {
    pub world: World,
    pub fake: Fake<P>,
}

impl<P: Priced> Town<P> {
    pub(super) fn new(spec: &Value) -> Self {
        let fake = Fake::new(P::fresh());
        let behind = fake.clone();
        let backend: Backend = Arc::new(move |request| behind.exchange(request));
        let mut all = P::spec();
        all.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let world = World::at_provider(backend, P::registry(ORIGIN, KEY_REF), &P::credentials(), all);
        Self { world, fake }
    }

    pub(super) async fn ready(spec: &Value) -> Self {
        let town = Self::new(spec);
        town.world.settle().await;
        town.at_rest("before");
        town
    }

    pub(super) fn id(&self) -> Option<String> {
        self.world.object()?.status?.client_id
    }

    pub(super) fn names(&self) -> BTreeMap<String, String> {
        self.fake.at(|provider| names(provider))
    }

    /// What must hold once faults have stopped and passes have nothing more to do.
    pub(super) fn at_rest(&self, what: &str) {
        let what = format!("{}: {what}", P::NAME);
        self.fake.assert_contract_held();
        let names = self.names();
        let Some(object) = self.world.object() else {
            assert!(names.is_empty(), "{what}: left behind: {names:?}");
            return;
        };
        assert!(object.metadata.deletion_timestamp.is_none(), "{what}: the deletion does not end");
        assert_eq!(self.world.ready(), "True Ready", "{what}: {names:?}");
        let id = self.id().unwrap_or_default();
        let others: Vec<&String> = names.keys().filter(|other| **other != id).collect();
        assert!(others.is_empty(), "{what}: orphans {others:?} of {names:?}");
        assert_eq!(self.fake.at(|provider| provider.secrets(&id)), 1, "{what}: secrets that work");
        let name = object.spec.client_name.unwrap();
        assert_eq!(names.get(&id), Some(&name), "{what}: its name");
        let published = self.world.secret().unwrap_or_else(|| panic!("{what}: no Secret"));
        assert_eq!(published["client_id"], id, "{what}");
        let secret = &published["client_secret"];
        assert!(
            self.fake.at(|provider| provider.authenticates(&id, secret)),
            "{what}: the published secret is dead"
        );
    }

    pub(super) async fn comes_to_rest(&self, what: &str) -> Result<(), String> {
        let run = std::panic::AssertUnwindSafe(async {
            for _ in 0..3 {
                self.world.settle().await;
                self.world.round().await;
                // Whatever overlaps ends.
                tokio::time::advance(OVERLAP).await;
            }
            self.world.sweep().await;
            self.at_rest(what);
        });
        let why = |why: Box<dyn std::any::Any + Send>| match why.downcast::<String>() {
            Ok(text) => *text,
            Err(why) => {
                why.downcast_ref::<&str>().map_or_else(|| "it panicked".into(), |text| (*text).into())
            }
        };
        run.catch_unwind().await.map_err(|panic| format!("{what}: {}", why(panic)))
    }
}

pub(super) fn ask(world: &World) {
    world.annotate(annotations::REQUESTED_AT, json!(world.now().to_string()));
}

async fn costs<P: Priced>() {
    let town = Town::<P>::new(&json!({}));
    town.world.round().await;
    town.fake.forget_calls();
    let done = town.world.pass().await;
    let calls = town.fake.calls();
    let calls: Vec<&String> =
        calls.iter().map(|call| &call.operation).filter(|operation| !operation.contains("/auth/")).collect();
    let writes = done.iter().filter(|line| !line.contains('/')).count();
    assert_eq!((calls.len(), writes), (P::CALLS, P::WRITES), "{}: {calls:?} and {done:?}", P::NAME);
    town.at_rest("after one pass");
    town.fake.forget_calls();
    for _ in 0..3 {
        tokio::time::advance(INTERVAL).await;
        town.world.round().await;
        assert_eq!(town.world.pass().await, [""; 0], "{}: at rest", P::NAME);
    }
    let lists = town.fake.calls().iter().filter(|call| !call.line.contains("/auth/")).count();
    let whole = usize::from(P::NAME == "Teable");
    assert!((3..=3 + whole).contains(&lists), "{}: {lists} calls in three intervals", P::NAME);
}

#[tokio::test(start_paused = true)]
async fn a_new_client_is_ready_after_one_pass_at_the_documented_cost() {
    costs::<cal_com::CalCom>().await;
    costs::<telnyx::Telnyx>().await;
    costs::<teable::Teable>().await;
    costs::<meteroid::Meteroid>().await;
}

/// One drift that a look finds, and what was told of it.
async fn tells_of_a_repair<P: Priced>() {
    let town = Town::<P>::ready(&json!({})).await;
    let repairs = || town.world.seen().1.iter().filter(|event| event.starts_with("DriftRepaired: ")).count();
    assert_eq!(repairs(), 0, "{}: to take a pending mark off is no repair", P::NAME);
    let id = town.id().unwrap();
    town.fake.at(|provider| provider.rename(&id, "Somebody else's"));
    ask(&town.world);
    town.world.settle().await;
    town.at_rest("repaired");
    assert_eq!(repairs(), 1, "{}", P::NAME);
}

#[tokio::test(start_paused = true)]
async fn a_repair_is_told_of_once_wherever_the_mark_stands() {
    tells_of_a_repair::<cal_com::CalCom>().await;
    tells_of_a_repair::<telnyx::Telnyx>().await;
    tells_of_a_repair::<teable::Teable>().await;
}

/// The only client is gone, and whoever replaced it died before status named the new one.
#[tokio::test(start_paused = true)]
async fn a_client_of_which_only_its_mark_tells_proves_the_account_and_is_taken_over() {
    let town = Town::<cal_com::CalCom>::ready(&json!({})).await;
    let old = town.id().unwrap();
    town.fake.at(|provider| provider.take(&old));
    ask(&town.world);
    town.world.fault_on("update Secret", Fault::CrashAfter);
    town.comes_to_rest("after the crash").await.unwrap();
    assert_eq!(town.world.faults_left(), 0, "it died at the commit");
    assert_eq!(town.fake.count("POST /v2/oauth-clients"), 2, "the new one was found, not made again");
}
