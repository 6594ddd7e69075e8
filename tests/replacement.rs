//! A client that the registry has provably lost is replaced if its object allows that; a record that is lost is not guessed.

use kube::api::{DeleteParams, ListParams};
use serde_json::{Value, json};

use crate::{
    manifests::{client, use_peer},
    support::{
        Cluster, DevelopmentRegistry, Kind, Operator, OperatorOptions, PATIENCE, Peer, World, condition,
        token,
    },
};

struct Story {
    world: World,
    registry: DevelopmentRegistry,
    _operator: Operator,
    id: String,
}

impl Story {
    async fn of_a_ready_client(name: &str, policy: &str) -> Self {
        let world = Cluster::connect().await.world(name).await;
        let registry = DevelopmentRegistry::start().await;
        use_peer(&world, &registry).await;
        let operator = Operator::start(&world, OperatorOptions::default()).await;
        let mut manifest = client("app");
        manifest["spec"]["replacementPolicy"] = json!(policy);
        world.apply(manifest).await;
        let ready = world.wait_condition("app", "Ready", "True", PATIENCE).await;
        let id = ready["status"]["clientId"].as_str().unwrap().to_owned();
        Self { world, registry, _operator: operator, id }
    }

    async fn annotate(&self, name: &str, value: &str) {
        let annotation = json!({"metadata": {"annotations": {name: value}}});
        self.world.patch(Kind::OAuthClient, "app", &annotation).await;
    }

    async fn says(&self, reason: &str) -> Value {
        self.world
            .wait_for(Kind::OAuthClient, "app", reason, PATIENCE, |object| {
                condition(object, "Ready").is_some_and(|ready| ready["reason"] == reason)
            })
            .await
    }

    async fn has_a_new_client(&self) {
        let object = self
            .world
            .wait_for(Kind::OAuthClient, "app", "a new client", PATIENCE, |object| {
                let ready = condition(object, "Ready").is_some_and(|ready| ready["status"] == "True");
                ready && object["status"]["clientId"] != self.id.as_str()
            })
            .await;
        let secret = self.world.secret("app").await.unwrap();
        assert_eq!(object["status"]["clientId"], secret["client_id"].as_str());
        token::grant(self.registry.url(), &secret["client_id"], &secret["client_secret"]).await.unwrap();
        let clients = self.registry.clients().await;
        assert!(clients.iter().any(|client| client["client_id"] == secret["client_id"].as_str()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn when_gone_a_new_client_takes_its_place() {
    let story = Story::of_a_ready_client("gone", "WhenGone").await;
    story.registry.lose(&story.id).await;
    story.annotate("oauth-operator.io/requested-at", "now").await;
    story.has_a_new_client().await;
    assert_eq!(story.registry.clients().await.len(), 1);
    let records = ListParams::default().labels("oauth-operator.io/record");
    assert_eq!(
        story.world.operator_secrets().list(&records).await.unwrap().items.len(),
        1,
        "one client, one record"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn never_means_never() {
    let story = Story::of_a_ready_client("never", "Never").await;
    story.registry.lose(&story.id).await;
    story.annotate("oauth-operator.io/requested-at", "now").await;
    story.says("ClientGone").await;
    assert_eq!(story.registry.clients().await.len(), 0);
    story.world.patch(Kind::OAuthClient, "app", &json!({"spec": {"replacementPolicy": "WhenGone"}})).await;
    story.has_a_new_client().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_record_is_not_taken_for_a_lost_client() {
    let story = Story::of_a_ready_client("record-lost", "WhenGone").await;
    let before = story.world.secret("app").await;
    let records = ListParams::default().labels("oauth-operator.io/record");
    story.world.operator_secrets().delete_collection(&DeleteParams::default(), &records).await.unwrap();
    story.annotate("oauth-operator.io/requested-at", "now").await;
    let object = story.says("RecordLost").await;
    assert_eq!(story.registry.clients().await.len(), 1, "nothing is registered beside it");
    assert_eq!(story.world.secret("app").await, before, "the app goes on");

    let intent = object["metadata"]["annotations"]["oauth-operator.io/intent"].as_str().unwrap();
    let intent: Value = serde_json::from_str(intent).unwrap();
    story.annotate("oauth-operator.io/resume", intent["nonce"].as_str().unwrap()).await;
    story.has_a_new_client().await;
}
