//! What needs a cluster of its own: an operator that serves all namespaces, and one that starts before its CRDs.

use std::{path::PathBuf, process::Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use crate::{
    manifests::client,
    support::{
        Cluster, DevelopmentRegistry, Kind, Operator, OperatorOptions, PATIENCE, Peer, World,
        cluster::from_root, condition, peer::INITIAL_ACCESS_TOKEN,
    },
};

/// A control plane for one test.
pub struct ControlPlane {
    folder: TempDir,
}

impl ControlPlane {
    pub async fn up() -> Self {
        let plane = Self { folder: tempfile::tempdir().unwrap() };
        let up = Command::new(from_root("hack/controlplane/up"))
            .arg(plane.path())
            .stdin(Stdio::null())
            .output()
            .await
            .unwrap();
        assert!(up.status.success(), "{}", String::from_utf8_lossy(&up.stderr));
        plane
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("controlplane")
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        let down = std::process::Command::new(from_root("hack/controlplane/down")).arg(self.path()).output();
        assert!(down.is_ok_and(|down| down.status.success()), "the control plane does not go down");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_waits_for_its_crds_and_serves_the_namespaces_that_a_cluster_registry_allows() {
    let plane = ControlPlane::up().await;
    let cluster = Cluster::without_crds(&plane.path()).await;
    let world = cluster.world("cluster").await;
    let everywhere = || OperatorOptions { all_namespaces: true, ..OperatorOptions::default() };

    let operator = Operator::spawn(&world, everywhere());
    crate::support::eventually("it lives, and says what is missing", PATIENCE, async || {
        let alive = operator.get("livez").await?;
        let said = operator.output().contains("are the CRDs installed");
        if said { Ok(alive) } else { Err(operator.output()) }
    })
    .await;
    assert!(operator.get("readyz").await.is_err(), "it is not ready without its CRDs");
    cluster.install_crds().await;
    operator.wait_ready(PATIENCE).await;

    let registry = DevelopmentRegistry::start().await;
    world.put_operator_secret("initial-access-token", &[("token", INITIAL_ACCESS_TOKEN)]).await;
    world.apply(cluster_registry(&registry, None)).await;
    let mut manifest = client("app");
    manifest["spec"]["registryRef"] = json!({"kind": "ClusterOAuthRegistry", "name": "platform"});
    world.apply(manifest).await;
    refused(&world).await;
    world.apply(cluster_registry(&registry, Some(json!({"matchLabels": {"team": "shop"}})))).await;
    refused(&world).await;
    assert_eq!(registry.clients().await.len(), 0, "closed by default");

    world
        .apply(cluster_registry(
            &registry,
            Some(json!({"matchLabels": {"kubernetes.io/metadata.name": world.namespace}})),
        ))
        .await;
    world.wait_condition("app", "Ready", "True", PATIENCE).await;

    world.apply(cluster_registry(&registry, None)).await;
    refused(&world).await;
    assert_eq!(registry.clients().await.len(), 1, "losing the permission stops changes only");
    world.apply(cluster_registry(&registry, Some(json!({})))).await;
    world.wait_condition("app", "Ready", "True", PATIENCE).await;
    world.apply(cluster_registry(&registry, None)).await;
    refused(&world).await;
    world.delete(Kind::OAuthClient, "app").await;
    world.wait_gone(Kind::OAuthClient, "app", PATIENCE).await;
    assert_eq!(registry.clients().await.len(), 0, "and never a deregistration");
}

fn cluster_registry(registry: &DevelopmentRegistry, allowed: Option<Value>) -> Value {
    let mut spec = json!({
        "insecureHttp": true,
        "driftInterval": "10s",
        "dynamicRegistration": {
            "issuer": registry.url(),
            "initialAccessTokenSecretRef": {"name": "initial-access-token"},
        },
    });
    if let Some(allowed) = allowed {
        spec["allowedNamespaces"] = allowed;
    }
    json!({
        "apiVersion": "oauth-operator.io/v1alpha1",
        "kind": "ClusterOAuthRegistry",
        "metadata": {"name": "platform"},
        "spec": spec,
    })
}

async fn refused(world: &World) {
    world
        .wait_for(Kind::OAuthClient, "app", "it is not allowed", PATIENCE, |object| {
            condition(object, "Ready").is_some_and(|ready| ready["reason"] == "NamespaceNotAllowed")
        })
        .await;
}
