//! Deletion ends at providers too, where the registry's own credentials are the only way to a client: with them gone first, with
//! the registry object gone first, and with a client that is to stay.

use std::time::Duration;

use kube::api::{DeleteParams, ListParams};
use serde_json::json;

use crate::{
    stand_ins::{INTERVAL, StandIn, client},
    support::{
        Cluster, Kind, Operator, OperatorOptions, PATIENCE, World, eventually,
        providers::{cal_com::CalCom, place::Place, teable::Teable},
    },
};

/// How long a deletion is tried where the way to the client is gone.
const TRIED_FOR: Duration = Duration::from_secs(6);

struct Story<P> {
    world: World,
    provider: StandIn<P>,
    operator: Operator,
}

fn options() -> OperatorOptions {
    OperatorOptions { deletion_timeout: TRIED_FOR, ..OperatorOptions::default() }
}

impl<P: Place> Story<P> {
    async fn of_a_ready_client(name: &str) -> Self {
        let world = Cluster::connect().await.world(name).await;
        let provider = StandIn::<P>::start().await;
        provider.use_in(&world).await;
        let operator = Operator::start(&world, options()).await;
        world.apply(client::<P>("app")).await;
        world.wait_condition("app", "Ready", "True", PATIENCE).await;
        Self { world, provider, operator }
    }

    async fn loses_its_registry(&self) {
        self.world.delete(Kind::OAuthRegistry, P::SLUG).await;
        self.world.wait_gone(Kind::OAuthRegistry, P::SLUG, PATIENCE).await;
    }

    async fn loses_its_credentials(&self) {
        self.world.secrets().delete(P::SLUG, &DeleteParams::default()).await.unwrap();
    }

    async fn is_deleted(&self) {
        self.world.delete(Kind::OAuthClient, "app").await;
        self.world.wait_gone(Kind::OAuthClient, "app", PATIENCE).await;
    }

    /// The reasons why records outlive their objects.
    async fn released(&self) -> Vec<String> {
        let params = ListParams::default().labels("oauth-operator.io/record");
        let records = self.world.operator_secrets().list(&params).await.unwrap().items;
        let reason = |record: k8s_openapi::api::core::v1::Secret| {
            record.metadata.annotations.unwrap_or_default().remove("oauth-operator.io/released")
        };
        records.into_iter().map(|record| reason(record).unwrap_or_default()).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_whose_registry_object_or_credentials_went_first_is_still_told() {
    tokio::join!(is_still_told::<CalCom>("del-told-cal-com"), is_still_told::<Teable>("del-told-teable"));
}

async fn is_still_told<P: Place + Clients>(name: &str) {
    let story = Story::<P>::of_a_ready_client(name).await;
    story.loses_its_credentials().await;
    story.loses_its_registry().await;
    story.is_deleted().await;
    assert_eq!(story.provider.fake.at(|provider| provider.count()), 0, "the client is deregistered");
    assert_eq!(story.released().await, [""; 0], "no record stays");
    story.provider.fake.assert_contract_held();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_any_way_to_the_client_the_deletion_ends_with_a_record_of_it() {
    tokio::join!(is_abandoned::<CalCom>("del-lost-cal-com"), is_abandoned::<Teable>("del-lost-teable"));
}

async fn is_abandoned<P: Place + Clients>(name: &str) {
    let story = Story::<P>::of_a_ready_client(name).await;
    story.operator.kill9().await;
    story.loses_its_credentials().await;
    story.loses_its_registry().await;
    let next = Operator::start(&story.world, options()).await;
    story.is_deleted().await;
    assert_eq!(story.provider.fake.at(|provider| provider.count()), 1, "nobody could reach it");
    assert_eq!(story.released().await, ["Abandoned"], "the record is the ledger of the orphan");
    assert!(next.metrics().await.contains("oauth_operator_abandoned_total 1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_to_stay_stays_and_no_sweep_takes_it() {
    tokio::join!(stays::<CalCom>("del-retain-cal-com"), stays::<Teable>("del-retain-teable"));
}

async fn stays<P: Place + Clients>(name: &str) {
    let story = Story::<P>::of_a_ready_client(name).await;
    let before = story.world.secret("app").await.unwrap();
    story.world.patch(Kind::OAuthClient, "app", &json!({"spec": {"deletionPolicy": "Retain"}})).await;
    story.is_deleted().await;
    assert_eq!(story.released().await, ["Retained"]);
    let secret = story.world.secrets().get("app").await.unwrap();
    assert!(secret.metadata.owner_references.unwrap_or_default().is_empty(), "nobody collects the Secret");

    // Before and after a restart, which forgets what the process knew of it.
    story.goes_round_twice().await;
    story.operator.kill9().await;
    let _next = Operator::start(&story.world, options()).await;
    story.goes_round_twice().await;
    assert_eq!(story.provider.fake.at(|provider| provider.count()), 1, "the client stays");
    assert_eq!(story.released().await, ["Retained"], "and so does its record");
    assert_eq!(story.world.secret("app").await.unwrap(), before);
    let (id, secret) = (&before["client_id"], &before["client_secret"]);
    assert!(story.provider.fake.at(|provider| provider.works(id, secret)));
    story.provider.fake.assert_contract_held();
}

impl<P: Place> Story<P> {
    /// Waits for two rounds that began from now on: the first may have begun before.
    async fn goes_round_twice(&self) {
        self.provider.fake.forget_calls();
        eventually("two lists", 4 * INTERVAL, async || {
            let lists =
                self.provider.fake.calls().iter().filter(|call| call.line.starts_with("GET ")).count();
            if lists >= 2 { Ok(()) } else { Err(format!("{lists} so far")) }
        })
        .await;
    }
}

/// What a provider's owner sees.
trait Clients {
    fn count(&self) -> usize;
    fn works(&self, id: &str, secret: &str) -> bool;
}

impl Clients for CalCom {
    fn count(&self) -> usize {
        self.clients().len()
    }
    fn works(&self, id: &str, secret: &str) -> bool {
        self.authenticates(id, secret)
    }
}

impl Clients for Teable {
    fn count(&self) -> usize {
        self.clients().len()
    }
    fn works(&self, id: &str, secret: &str) -> bool {
        self.authenticates(id, secret)
    }
}
