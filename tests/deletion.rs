//! Deletion always ends: with the registry told, or after a bounded time without, and then it says so and keeps the record.

use std::time::Duration;

use kube::{
    Api,
    api::{DeleteParams, ListParams, PropagationPolicy},
};
use serde_json::json;

use crate::{
    manifests::{client, use_peer},
    support::{
        Cluster, DevelopmentRegistry, Kind, Operator, OperatorOptions, PATIENCE, Peer, World, eventually,
    },
};

struct Story {
    world: World,
    registry: DevelopmentRegistry,
    operator: Operator,
}

impl Story {
    async fn of_a_ready_client(name: &str, options: OperatorOptions) -> Self {
        let world = Cluster::connect().await.world(name).await;
        let registry = DevelopmentRegistry::start().await;
        use_peer(&world, &registry).await;
        let operator = Operator::start(&world, options).await;
        world.apply(client("app")).await;
        world.wait_condition("app", "Ready", "True", PATIENCE).await;
        Self { world, registry, operator }
    }

    async fn nothing_is_left(&self) {
        self.world.wait_gone(Kind::OAuthClient, "app", PATIENCE).await;
        assert_eq!(self.registry.clients().await.len(), 0, "the client is deregistered");
        assert_eq!(self.records().await, 0, "no record stays");
    }

    async fn records(&self) -> usize {
        let params = ListParams::default().labels("oauth-operator.io/record");
        self.world.operator_secrets().list(&params).await.unwrap().items.len()
    }

    async fn abandoned(&self) {
        self.world.wait_gone(Kind::OAuthClient, "app", PATIENCE).await;
        let params = ListParams::default().labels("oauth-operator.io/record");
        let records = self.world.operator_secrets().list(&params).await.unwrap().items;
        let notes = records[0].metadata.annotations.clone().unwrap();
        assert_eq!(
            notes["oauth-operator.io/released"], "Abandoned",
            "the record is the ledger of the orphan"
        );
        let metrics = self.operator.metrics().await;
        assert!(metrics.contains("oauth_operator_abandoned_total 1"), "{metrics}");
        eventually("an event says so", PATIENCE, async || {
            let events = self.world.kubectl(&["get", "events", "--output=yaml"]).await.stdout;
            if events.contains("reason: Abandoned") { Ok(()) } else { Err(events) }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreground_deletion_deregisters() {
    let story = Story::of_a_ready_client("del-foreground", OperatorOptions::default()).await;
    let params =
        DeleteParams { propagation_policy: Some(PropagationPolicy::Foreground), ..DeleteParams::default() };
    story.world.api(Kind::OAuthClient).delete("app", &params).await.unwrap();
    story.nothing_is_left().await;
    assert_eq!(story.world.secret("app").await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_the_namespace_deregisters() {
    let story = Story::of_a_ready_client("del-namespace", OperatorOptions::default()).await;
    let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(story.world.cluster.client());
    namespaces.delete(&story.world.namespace, &DeleteParams::default()).await.unwrap();
    eventually("the namespace is gone", PATIENCE, async || {
        match namespaces.get_opt(&story.world.namespace).await.unwrap() {
            None => Ok(()),
            Some(namespace) => Err(format!("{:?}", namespace.status)),
        }
    })
    .await;
    story.nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_was_deleted_first_is_still_told() {
    let story = Story::of_a_ready_client("del-registry", OperatorOptions::default()).await;
    story.world.delete(Kind::OAuthRegistry, "registry").await;
    story.world.secrets().delete("initial-access-token", &DeleteParams::default()).await.unwrap();
    story.operator.kill9().await;
    let _next = Operator::start(&story.world, OperatorOptions::default()).await;
    story.world.delete(Kind::OAuthClient, "app").await;
    story.nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_client_is_deregistered_too() {
    let story = Story::of_a_ready_client("del-suspended", OperatorOptions::default()).await;
    story.world.patch(Kind::OAuthClient, "app", &json!({"spec": {"suspend": true}})).await;
    story.world.wait_condition("app", "Suspended", "True", PATIENCE).await;
    story.world.delete(Kind::OAuthClient, "app").await;
    story.nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retain_keeps_client_secret_and_record() {
    let story = Story::of_a_ready_client("del-retain", OperatorOptions::default()).await;
    let before = story.world.secret("app").await.unwrap();
    story.world.patch(Kind::OAuthClient, "app", &json!({"spec": {"deletionPolicy": "Retain"}})).await;
    story.world.delete(Kind::OAuthClient, "app").await;
    story.world.wait_gone(Kind::OAuthClient, "app", PATIENCE).await;
    assert_eq!(story.registry.clients().await.len(), 1, "the client stays at the registry");
    assert_eq!(story.records().await, 1, "the record stays");
    let secret = story.world.secrets().get("app").await.unwrap();
    assert!(secret.metadata.owner_references.unwrap_or_default().is_empty(), "nobody collects the Secret");
    assert_eq!(story.world.secret("app").await.unwrap(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_does_not_answer_is_given_up_after_the_timeout() {
    let options = OperatorOptions { deletion_timeout: Duration::from_secs(4), ..OperatorOptions::default() };
    let story = Story::of_a_ready_client("del-timeout", options).await;
    story.registry.stop().await;
    story.world.delete(Kind::OAuthClient, "app").await;
    story.abandoned().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_annotation_gives_up_at_once() {
    let story = Story::of_a_ready_client("del-abandon", OperatorOptions::default()).await;
    story.registry.stop().await;
    story.world.delete(Kind::OAuthClient, "app").await;
    story
        .world
        .wait_for(Kind::OAuthClient, "app", "status says why it is still there", PATIENCE, |object| {
            object["status"].to_string().contains("RegistryUnavailable")
        })
        .await;
    let annotation = json!({"metadata": {"annotations": {"oauth-operator.io/abandon": "true"}}});
    story.world.patch(Kind::OAuthClient, "app", &annotation).await;
    story.abandoned().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_whose_object_is_gone_without_it_is_settled() {
    let story = Story::of_a_ready_client("del-forced", OperatorOptions::default()).await;
    story.operator.kill9().await;
    story.world.delete(Kind::OAuthClient, "app").await;
    story.world.patch(Kind::OAuthClient, "app", &json!({"metadata": {"finalizers": null}})).await;
    story.world.wait_gone(Kind::OAuthClient, "app", PATIENCE).await;
    assert_eq!(story.registry.clients().await.len(), 1, "somebody took the finalizer away");
    let _next = Operator::start(&story.world, OperatorOptions::default()).await;
    eventually("the sweep settles it", PATIENCE, async || {
        let (clients, records) = (story.registry.clients().await.len(), story.records().await);
        if (clients, records) == (0, 0) {
            Ok(())
        } else {
            Err(format!("{clients} clients, {records} records"))
        }
    })
    .await;
}
