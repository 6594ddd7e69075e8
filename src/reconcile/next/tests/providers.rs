//! The same promises at the four providers: each driver against its own fake under its contract, with every fault at every call.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::FutureExt;
use serde_json::{Value, json};

use super::world::*;
use crate::{
    api::annotations,
    providers::{Fake, Provider, cal_com, meteroid, teable, telnyx},
};

/// One provider: how it is declared, and what its owner sees and does there.
trait Place: Provider + Sized {
    const NAME: &'static str;
    /// Whether clients can be changed at all.
    const UPDATES: bool = true;
    /// Calls of a registration, rename and secret included.
    const CALLS: usize = 2;
    /// Writes to Kubernetes until it is ready.
    const WRITES: usize = 4;

    fn fresh() -> Self;
    fn registry() -> Value;
    fn credentials() -> Value;
    fn spec() -> Value;
    /// Ids and names, as they stand there.
    fn names(&self) -> BTreeMap<String, String>;
    fn authenticates(&self, id: &str, secret: &str) -> bool;
    fn rename(&mut self, id: &str, name: &str);
    fn take(&mut self, id: &str);
    fn secrets(&self, id: &str) -> usize;
}

/// Longer than old secrets and clients work if nobody says.
const OVERLAP: Duration = Duration::from_hours(2);
const KEY_REF: &str = "initial";

impl Place for cal_com::CalCom {
    const NAME: &'static str = "Cal.com";
    const WRITES: usize = 3;

    fn fresh() -> Self {
        Self::new()
    }
    fn registry() -> Value {
        json!({"calCom": {"url": "https://as.example", "credentialsSecretRef": {"name": KEY_REF}}})
    }
    fn credentials() -> Value {
        json!({"token": cal_com::KEY})
    }
    fn spec() -> Value {
        json!({"scopes": ["BOOKING_READ", "PROFILE_READ"]})
    }
    fn names(&self) -> BTreeMap<String, String> {
        self.clients().into_iter().map(|client| (client.id, client.name)).collect()
    }
    fn authenticates(&self, id: &str, secret: &str) -> bool {
        self.authenticates(id, secret)
    }
    fn rename(&mut self, id: &str, name: &str) {
        self.edit(id, |client| client.name = name.into());
    }
    fn take(&mut self, id: &str) {
        self.remove(id);
    }
    fn secrets(&self, id: &str) -> usize {
        self.client(id).iter().count()
    }
}

impl Place for telnyx::Telnyx {
    const NAME: &'static str = "Telnyx";

    fn fresh() -> Self {
        Self::new()
    }
    fn registry() -> Value {
        json!({"telnyx": {"url": "https://as.example/v2", "credentialsSecretRef": {"name": KEY_REF}}})
    }
    fn credentials() -> Value {
        json!({"token": telnyx::KEY})
    }
    fn spec() -> Value {
        json!({"scopes": ["admin"], "grantTypes": ["authorization_code"]})
    }
    fn names(&self) -> BTreeMap<String, String> {
        self.clients().into_iter().map(|client| (client.client_id, client.name)).collect()
    }
    fn authenticates(&self, id: &str, secret: &str) -> bool {
        self.authenticates(id, secret)
    }
    fn rename(&mut self, id: &str, name: &str) {
        self.edit(id, |client| client.name = name.into());
    }
    fn take(&mut self, id: &str) {
        self.remove(id);
    }
    fn secrets(&self, id: &str) -> usize {
        self.client(id).iter().count()
    }
}

impl Place for teable::Teable {
    const NAME: &'static str = "Teable";
    const WRITES: usize = 5;

    fn fresh() -> Self {
        Self::new()
    }
    fn registry() -> Value {
        json!({"teable": {"url": "https://as.example", "authentication": "Password", "credentialsSecretRef": {"name": KEY_REF}}})
    }
    fn credentials() -> Value {
        json!({"email": teable::EMAIL, "password": teable::PASSWORD})
    }
    fn spec() -> Value {
        json!({"clientUri": "https://app.example", "scopes": ["table|read"], "teable": {"description": "For tables"}})
    }
    fn names(&self) -> BTreeMap<String, String> {
        self.clients().into_iter().map(|client| (client.client_id, client.name)).collect()
    }
    fn authenticates(&self, id: &str, secret: &str) -> bool {
        self.authenticates(id, secret)
    }
    fn rename(&mut self, id: &str, name: &str) {
        self.edit(id, |client| client.name = name.into());
    }
    fn take(&mut self, id: &str) {
        self.remove(id);
    }
    fn secrets(&self, id: &str) -> usize {
        self.live_secrets(id)
    }
}

impl Place for meteroid::Meteroid {
    const NAME: &'static str = "Meteroid";
    const UPDATES: bool = false;
    const CALLS: usize = 1;

    fn fresh() -> Self {
        Self::new()
    }
    fn registry() -> Value {
        json!({"meteroid": {"url": "https://as.example", "credentialsSecretRef": {"name": KEY_REF}}})
    }
    fn credentials() -> Value {
        json!({"token": meteroid::KEY})
    }
    fn spec() -> Value {
        json!({})
    }
    fn names(&self) -> BTreeMap<String, String> {
        // The tag is the operator's business.
        let plain = |name: String| name.split(" [").next().unwrap_or_default().to_owned();
        self.clients().into_iter().map(|app| (app.client_id, plain(app.name))).collect()
    }
    fn authenticates(&self, id: &str, secret: &str) -> bool {
        self.authenticates(id, secret)
    }
    fn rename(&mut self, _: &str, _: &str) {}
    fn take(&mut self, id: &str) {
        self.remove(id);
    }
    fn secrets(&self, id: &str) -> usize {
        self.live_secrets(id)
    }
}

/// A world with one of the providers in it.
struct Town<P: Place> {
    world: World,
    fake: Fake<P>,
}

impl<P: Place> Town<P> {
    fn new(spec: &Value) -> Self {
        let fake = Fake::new(P::fresh());
        let behind = fake.clone();
        let backend: Backend = Arc::new(move |request| behind.exchange(request));
        let mut all = P::spec();
        all.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let world = World::at_provider(backend, P::registry(), &P::credentials(), all);
        Self { world, fake }
    }

    async fn ready(spec: &Value) -> Self {
        let town = Self::new(spec);
        town.world.settle().await;
        town.at_rest("before");
        town
    }

    fn id(&self) -> Option<String> {
        self.world.object()?.status?.client_id
    }

    fn names(&self) -> BTreeMap<String, String> {
        self.fake.at(|provider| provider.names())
    }

    /// What must hold once faults have stopped and passes have nothing more to do.
    fn at_rest(&self, what: &str) {
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

    async fn comes_to_rest(&self, what: &str) -> Result<(), String> {
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

fn ask(world: &World) {
    world.annotate(annotations::REQUESTED_AT, json!(world.now().to_string()));
}

type Change<P> = fn(&Town<P>);

/// What people or the registry do to a client that is ready, or new.
fn changes<P: Place>() -> Vec<(&'static str, Change<P>)> {
    let mut changes: Vec<(&'static str, Change<P>)> = vec![
        ("create", |_| {}),
        ("lose", |town| {
            town.fake.at(|provider| provider.names().keys().for_each(|id| provider.take(id)));
            ask(&town.world);
        }),
        ("delete the Secret", |town| town.world.edit_at("Secret", None)),
        ("edit the Secret", |town| {
            town.world.edit_at("Secret", Some(json!({"data": {"client_secret": "Z2FyYmFnZQ=="}})));
        }),
        ("delete", |town| town.world.delete()),
        ("rotate", |town| town.world.annotate(annotations::ROTATE, json!("1"))),
        ("rename", |town| town.world.edit(json!({"spec": {"clientName": "Renamed"}}))),
    ];
    if P::UPDATES {
        changes.push(("drift", |town| {
            let id = town.id().unwrap();
            town.fake.at(|provider| provider.rename(&id, "Somebody else's"));
            ask(&town.world);
        }));
    }
    changes
}

async fn after<P: Place>(name: &str, change: Change<P>) -> Town<P> {
    let spec = json!({"replacementPolicy": "WhenNeeded", "rotation": {}});
    let town = if name == "create" { Town::new(&spec) } else { Town::ready(&spec).await };
    change(&town);
    town
}

async fn every_fault_heals<P: Place>() {
    let faults = [
        Fault::CrashBefore,
        Fault::CrashAfter,
        Fault::ReplyLost,
        Fault::Lost,
        Fault::Late,
        Fault::Answered(500),
        Fault::ObjectTouched,
        Fault::Conflict,
    ];
    let mut failures = Vec::new();
    for (name, change) in changes::<P>() {
        for fault in faults {
            for call in 0.. {
                let town = after::<P>(name, change).await;
                town.world.fault_at(0, call, fault);
                let done = town.world.pass().await;
                if town.world.faults_left() > 0 {
                    break;
                }
                town.world.deliver();
                let what = format!("{name}: {fault:?} at call {call}, after {done:?}");
                failures.extend(town.comes_to_rest(&what).await.err());
            }
        }
    }
    assert!(failures.is_empty(), "{} failures\n{}", failures.len(), failures.join("\n"));
}

#[tokio::test(start_paused = true)]
async fn every_fault_at_every_call_heals_at_cal_com() {
    every_fault_heals::<cal_com::CalCom>().await;
}

#[tokio::test(start_paused = true)]
async fn every_fault_at_every_call_heals_at_telnyx() {
    every_fault_heals::<telnyx::Telnyx>().await;
}

#[tokio::test(start_paused = true)]
async fn every_fault_at_every_call_heals_at_teable() {
    every_fault_heals::<teable::Teable>().await;
}

#[tokio::test(start_paused = true)]
async fn every_fault_at_every_call_heals_at_meteroid() {
    every_fault_heals::<meteroid::Meteroid>().await;
}

async fn costs<P: Place>() {
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
