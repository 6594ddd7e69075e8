//! The user's Secret is derived: lost or edited it comes back with the same values, without a call that changes the registry.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

use crate::{
    manifests::{client, use_peer},
    support::{
        Cluster, DevelopmentRegistry, Kind, Operator, OperatorOptions, PATIENCE, Peer, World, condition,
        eventually, peer,
    },
};

/// The drift interval of 10 s, its jitter, and a busy machine.
const WITHIN_AN_INTERVAL: Duration = Duration::from_secs(20);

struct Story {
    world: World,
    registry: DevelopmentRegistry,
    _operator: Operator,
    secret: BTreeMap<String, String>,
}

impl Story {
    async fn of_a_ready_client(name: &str) -> Self {
        let world = Cluster::connect().await.world(name).await;
        let registry = DevelopmentRegistry::start().await;
        use_peer(&world, &registry).await;
        let operator = Operator::start(&world, OperatorOptions::default()).await;
        world.apply(client("app")).await;
        world.wait_condition("app", "Ready", "True", PATIENCE).await;
        let secret = world.secret("app").await.unwrap();
        Self { world, registry, _operator: operator, secret }
    }

    async fn the_same_values_are_back(&self) {
        eventually("the same id and secret", WITHIN_AN_INTERVAL, async || {
            let found = self.world.secret("app").await.ok_or("there is no Secret")?;
            let ours = |key: &str| found.get(key) == self.secret.get(key);
            if ours("client_id") && ours("client_secret") && ours("issuer") {
                Ok(())
            } else {
                Err(format!("{found:?}"))
            }
        })
        .await;
        let changes: Vec<_> = self.registry.requests().into_iter().filter(|r| r.method != "GET").collect();
        assert_eq!(changes.len(), 1, "the registration and nothing else: {}", peer::describe(&changes));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_it_comes_back() {
    let story = Story::of_a_ready_client("secret-deleted").await;
    story.world.secrets().delete("app", &DeleteParams::default()).await.unwrap();
    story.the_same_values_are_back().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_garbage_in_it_it_comes_back_and_foreign_keys_stay() {
    let story = Story::of_a_ready_client("secret-garbage").await;
    let garbage = json!({"data": {"client_secret": "Z2FyYmFnZQ==", "client_id": null, "theirs": "eA=="}});
    story.world.secrets().patch("app", &PatchParams::default(), &Patch::Merge(&garbage)).await.unwrap();
    story.the_same_values_are_back().await;
    assert_eq!(story.world.secret("app").await.unwrap()["theirs"], "x", "what others put there stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_layout_moves_the_values_and_leaves_nothing_behind() {
    let story = Story::of_a_ready_client("secret-layout").await;
    let layout = json!({"keys": {"clientId": "CLIENT_ID", "clientSecret": "CLIENT_SECRET"},
        "template": {"data": {"dsn": "oauth://{{ clientId }}:{{ clientSecret }}@as"}, "labels": {"team": "shop"}}});
    story.world.patch(Kind::OAuthClient, "app", &json!({"spec": {"secret": layout}})).await;
    let (id, secret) = (&story.secret["client_id"], &story.secret["client_secret"]);
    let expected: BTreeMap<String, String> = [
        ("CLIENT_ID", id.clone()),
        ("CLIENT_SECRET", secret.clone()),
        ("issuer", story.registry.url().to_owned()),
        ("dsn", format!("oauth://{id}:{secret}@as")),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value))
    .collect();
    eventually("the new layout", PATIENCE, async || {
        let found = story.world.secret("app").await.unwrap();
        if found == expected { Ok(()) } else { Err(format!("{found:?}")) }
    })
    .await;
    let labels = story.world.secrets().get("app").await.unwrap().metadata.labels.unwrap_or_default();
    assert_eq!(labels.get("team").map(String::as_str), Some("shop"));
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_elses_is_never_touched() {
    let world = Cluster::connect().await.world("secret-foreign").await;
    let registry = DevelopmentRegistry::start().await;
    use_peer(&world, &registry).await;
    world.put_secret("app", &[("password", "theirs")]).await;
    let before = world.secrets().get("app").await.unwrap();
    let _operator = Operator::start(&world, OperatorOptions::default()).await;
    world.apply(client("app")).await;
    let refused = world.wait_condition("app", "Stalled", "True", PATIENCE).await;
    assert_eq!(condition(&refused, "Ready").unwrap()["reason"], "SecretNotOurs");
    assert_eq!(registry.clients().await.len(), 0, "no client is registered in vain");
    let after = world.secrets().get("app").await.unwrap();
    assert_eq!(after.metadata.resource_version, before.metadata.resource_version);

    world.secrets().delete("app", &DeleteParams::default()).await.unwrap();
    world.wait_condition("app", "Ready", "True", PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_record_is_for_the_operator_alone() {
    let story = Story::of_a_ready_client("secret-record").await;
    let found = story.world.secrets().list(&kube::api::ListParams::default()).await.unwrap();
    let names: Vec<_> = found.items.iter().filter_map(|secret| secret.metadata.name.clone()).collect();
    assert!(
        names.contains(&"app".to_owned()) && !names.iter().any(|name| name.starts_with("oauth-client-")),
        "{names:?}"
    );
    let user: Secret = story.world.secrets().get("app").await.unwrap();
    let keys: Vec<&String> = user.data.as_ref().unwrap().keys().collect();
    assert_eq!(keys, ["client_id", "client_secret", "issuer"], "only what the app needs");
    assert!(user.data.unwrap().values().all(|ByteString(value)| !value.is_empty()));
}
