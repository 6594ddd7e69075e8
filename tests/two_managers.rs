//! Two managers never fight: whoever applies a manifest owns what it declares, the operator owns the rest, and applying it again
//! changes nothing.

use serde_json::{Value, json};

use crate::{
    manifests::{client, registry, use_peer},
    support::{
        Cluster, DevelopmentRegistry, Kind, Operator, OperatorOptions, PATIENCE, Peer, World, audit,
        cluster::Outcome, world::texts,
    },
};

/// As Argo CD applies with `ServerSideApply=true`.
const ARGO_CD: &str = "argocd-controller";
/// As Flux applies.
const FLUX: &str = "kustomize-controller";

#[tokio::test(flavor = "multi_thread")]
async fn applying_the_same_manifest_again_changes_nothing_and_wakes_nobody() {
    let (world, _peer, _operator) = managed("two-managers").await;
    for (name, apply) in [
        ("by-server", &["apply", "--server-side", "--field-manager", ARGO_CD][..]),
        ("by-client", &["apply"]),
    ] {
        let manifest = tracked(name);
        assert_done(&pipe(&world, apply, &manifest).await);
        world.wait_condition(name, "Ready", "True", PATIENCE).await;
        let (before, earlier) = (version(&world, name).await, writes(&world).len());

        assert_done(&pipe(&world, apply, &manifest).await);
        assert_eq!(version(&world, name).await, before, "{apply:?} wrote again");
        // What the second apply had woken would have come before this look.
        world.annotate(Kind::OAuthClient, name, "oauth-operator.io/requested-at", "now").await;
        world
            .wait_for(Kind::OAuthClient, name, "it was looked at", PATIENCE, |object| {
                object["status"]["lastHandledReconcileAt"] == "now"
            })
            .await;
        let woken = writes(&world).split_off(earlier);
        assert_eq!(woken.len(), 1, "the echo of the request alone: {}", audit::describe(&woken));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_ours_shows_as_drift_and_no_manager_owns_what_is_not_its_own() {
    let (world, peer, _operator) = managed("drift").await;
    let manifest = tracked("app");
    assert_done(&server_side(&world, ARGO_CD, &manifest).await);
    world.wait_condition("app", "Ready", "True", PATIENCE).await;
    assert_done(&diff(&world, ARGO_CD, &manifest).await);

    let object = world.get(Kind::OAuthClient, "app").await.unwrap();
    let ours = owned(&object, "oauth-operator");
    assert!(ours.contains("f:status") && ours.contains("f:finalizers"), "{ours}");
    assert!(!ours.contains("f:spec") && !ours.contains("f:labels"), "the operator writes no spec: {ours}");
    let theirs = owned(&object, ARGO_CD);
    assert!(theirs.contains("f:spec") && !theirs.contains("f:status"), "{theirs}");

    // The registry's manifest, too: its status and its finalizer are ours.
    world.wait_in_use(Kind::OAuthRegistry, "registry").await;
    let registry = registry(peer.url());
    let applied = ["apply", "--server-side", "--force-conflicts", "--field-manager", FLUX];
    assert_done(&pipe(&world, &applied, &registry).await);
    assert_done(&diff(&world, FLUX, &registry).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_by_another_manager_is_followed_and_meets_no_conflict_of_ours() {
    let (world, _peer, _operator) = managed("other-manager").await;
    let manifest = tracked("app");
    assert_done(&server_side(&world, ARGO_CD, &manifest).await);
    world.wait_condition("app", "Ready", "True", PATIENCE).await;

    let addition = json!({
        "apiVersion": manifest["apiVersion"], "kind": manifest["kind"], "metadata": {"name": "app"},
        "spec": {"registryRef": manifest["spec"]["registryRef"], "contacts": ["people@example.com"]},
    });
    assert_done(&server_side(&world, FLUX, &addition).await);
    let followed = world.wait_condition("app", "Ready", "True", PATIENCE).await;
    assert_eq!(followed["metadata"]["generation"], 2, "{followed:#}");
    assert_done(&server_side(&world, ARGO_CD, &manifest).await);
    assert_done(&diff(&world, ARGO_CD, &manifest).await);

    let mut rival = addition.clone();
    rival["spec"]["clientName"] = json!("Booking office");
    let refused = server_side(&world, FLUX, &rival).await;
    assert!(refused.stderr.contains(ARGO_CD), "the two of them may quarrel: {refused:?}");
    assert!(!refused.stderr.contains("oauth-operator\""), "but none with us: {refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_a_manager_empties_is_managed_and_empty() {
    let (world, peer, _operator) = managed("emptied").await;
    let mut manifest = tracked("app");
    manifest["spec"]["contacts"] = json!(["people@example.com"]);
    for (contacts, generation) in [(json!(["people@example.com"]), 1), (json!([]), 2)] {
        manifest["spec"]["contacts"] = contacts.clone();
        assert_done(&server_side(&world, ARGO_CD, &manifest).await);
        let followed = world.wait_condition("app", "Ready", "True", PATIENCE).await;
        assert_eq!(followed["metadata"]["generation"], generation, "{followed:#}");
        assert_eq!(followed["spec"]["contacts"], contacts, "it did not leave the manifest: {followed:#}");
        let kept = peer.clients().await.remove(0);
        assert_eq!(kept["contacts"], contacts, "{kept:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_of_ours_bears_a_tracking_label() {
    let (world, _peer, _operator) = managed("tracking").await;
    assert_done(&server_side(&world, ARGO_CD, &tracked("app")).await);
    world.wait_condition("app", "Ready", "True", PATIENCE).await;
    for secrets in [world.secrets(), world.operator_secrets()] {
        let found = secrets.list(&kube::api::ListParams::default()).await.unwrap().items;
        let made: Vec<_> = found.iter().filter(|secret| texts(secret).contains_key("client_id")).collect();
        assert_eq!(made.len(), 1, "{found:#?}");
        let metadata = serde_json::to_string(&made[0].metadata).unwrap();
        for key in ["app.kubernetes.io/instance", "argocd.argoproj.io", "toolkit.fluxcd.io", "helm.sh"] {
            assert!(!metadata.contains(key), "a tool would prune it: {metadata}");
        }
    }
}

/// A world with a registry, and an operator in it.
async fn managed(name: &str) -> (World, DevelopmentRegistry, Operator) {
    let world = Cluster::connect().await.world(name).await;
    let peer = DevelopmentRegistry::start().await;
    use_peer(&world, &peer).await;
    let operator = Operator::start(&world, OperatorOptions::default()).await;
    (world, peer, operator)
}

/// A client as the tools apply it: with the labels and annotations by which they know what is theirs.
fn tracked(name: &str) -> Value {
    let mut manifest = named(name, client(name));
    manifest["metadata"]["labels"] = json!({
        "app.kubernetes.io/instance": "clients",
        "kustomize.toolkit.fluxcd.io/name": "clients",
        "kustomize.toolkit.fluxcd.io/namespace": "flux-system",
    });
    manifest["metadata"]["annotations"] =
        json!({"argocd.argoproj.io/tracking-id": "clients:oauth-operator.io/OAuthClient:shop/app"});
    manifest
}

fn named(name: &str, mut manifest: Value) -> Value {
    manifest["metadata"]["name"] = json!(name);
    manifest
}

async fn server_side(world: &World, manager: &str, manifest: &Value) -> Outcome {
    pipe(world, &["apply", "--server-side", "--field-manager", manager], manifest).await
}

/// Exits with 1 if the manifest would change anything.
async fn diff(world: &World, manager: &str, manifest: &Value) -> Outcome {
    pipe(world, &["diff", "--server-side", "--field-manager", manager], manifest).await
}

async fn pipe(world: &World, arguments: &[&str], manifest: &Value) -> Outcome {
    let arguments = [arguments, &["--namespace", &world.namespace, "-f", "-"]].concat();
    world.cluster.kubectl_with_input(&arguments, &manifest.to_string()).await
}

fn assert_done(outcome: &Outcome) {
    assert!(outcome.status.success(), "{outcome:?}");
}

/// What a registry says of itself is no matter of a client's manifest.
fn writes(world: &World) -> Vec<audit::Call> {
    audit::writes(world).into_iter().filter(|call| call.resource != "oauthregistries").collect()
}

async fn version(world: &World, name: &str) -> Value {
    world.get(Kind::OAuthClient, name).await.unwrap()["metadata"]["resourceVersion"].clone()
}

/// The fields that a manager owns, as the API server keeps them.
fn owned(object: &Value, manager: &str) -> String {
    let entries = object["metadata"]["managedFields"].as_array().expect("managed fields");
    let of_manager = entries.iter().filter(|entry| entry["manager"] == manager);
    of_manager.map(|entry| entry["fieldsV1"].to_string()).collect()
}
