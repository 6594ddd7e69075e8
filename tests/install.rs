//! The chart on a real control plane: installed, upgraded, removed, with the operator under the account that it makes. There is no
//! kubelet: the harness starts the processes of its pods, with their arguments, environments and accounts.

use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::{
    manifests::{client, registry, use_peer},
    own_control_plane::ControlPlane,
    support::{
        Cluster, DevelopmentRegistry, Kind, Operator, OperatorOptions, PATIENCE, Peer, eventually,
        helm::Helm,
        process::Process,
        release::Release,
        world::{IN_USE, message},
    },
};

/// The finalizer of a client.
const HELD: &str = "oauth-operator.io/client";

#[tokio::test(flavor = "multi_thread")]
async fn helm_3_installs_upgrades_and_removes_it_and_clients_stay() {
    whole_life(Helm::V3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn helm_4_installs_upgrades_and_removes_it_and_clients_stay() {
    whole_life(Helm::V4).await;
}

async fn whole_life(helm: Helm) {
    let plane = ControlPlane::up().await;
    let world = Cluster::without_crds(&plane.path()).await.world("helm").await;
    let release = Release::install(&world, helm, &[]).await;
    let operator = release.operator().await;
    let peer = DevelopmentRegistry::start().await;
    use_peer(&world, &peer).await;
    world.apply(client("app")).await;
    let ready = world.wait_condition("app", "Ready", "True", PATIENCE).await;

    release.upgrade(&["--set", "replicas=3"]).await;
    assert_eq!(replicas(&release).await, Some(3));
    refuses_to_leave_clients_behind(&release).await;
    world.wait_condition("app", "Ready", "True", PATIENCE).await;
    assert!(operator.exit_status().is_none(), "and the operator goes on");

    // Helm upgrades no release whose removal has begun, unless it is taken back.
    let back = release.run(&["rollback", "oauth-operator", "2"]).await;
    assert!(back.status.success(), "{back:?}");
    release.upgrade(&["--set", "uninstall.clients=Keep"]).await;
    keeps_clients(&release, &operator, &peer).await;
    let kept = world.get(Kind::OAuthClient, "app").await.expect("the CRD and the client are kept");
    assert_eq!(kept["metadata"]["uid"], ready["metadata"]["uid"]);
    assert_eq!(kept["spec"], ready["spec"]);

    let again = Release::install(&world, helm, &[]).await;
    let operator = again.operator().await;
    world.wait_for(Kind::OAuthClient, "app", "it is held on to again", PATIENCE, is_held).await;
    assert_eq!(peer.clients().await.len(), 1, "it is the same client");
    world.delete(Kind::OAuthClient, "app").await;
    world.wait_gone(Kind::OAuthClient, "app", PATIENCE).await;
    assert_eq!(peer.clients().await.len(), 0, "what was kept can still be removed");

    let (removed, said) = again.uninstall(async |_| again.end(&operator).await).await;
    assert!(removed.status.success(), "without clients nothing is in the way: {removed:?} {said}");
}

async fn refuses_to_leave_clients_behind(release: &Release) {
    let before = release.objects("manifest").await;
    let (refused, said) = release.uninstall(async |_| ()).await;
    assert!(!refused.status.success(), "{refused:?}");
    let names = format!("1 OAuthClients ({}/app)", release.world.namespace);
    assert!(said.contains(&names) && said.contains("uninstall.clients=Keep"), "{said}");
    assert_eq!(release.objects("manifest").await, before, "nothing is removed");
    assert_eq!(replicas(release).await, Some(3), "the operator was not stopped");
}

/// Finalizers go only after the operator, which would put them back.
async fn keeps_clients(release: &Release, operator: &Operator, peer: &impl Peer) {
    let world = &release.world;
    let secret = world.secret("app").await.unwrap();
    world.patch(Kind::OAuthRegistry, "registry", &json!({"metadata": {"finalizers": [IN_USE]}})).await;
    let (removed, said) = release
        .uninstall(async |job| {
            is_told_to_end(release).await;
            assert!(is_held(&world.get(Kind::OAuthClient, "app").await.unwrap()), "its pod is still there");
            assert!(job.exit_status().is_none(), "{}", job.output());
            release.end(operator).await;
        })
        .await;
    assert!(removed.status.success(), "{removed:?} {said}");
    assert!(said.contains("1 OAuthClients stay"), "{said}");
    assert!(!is_held(&world.get(Kind::OAuthClient, "app").await.unwrap()));
    let registry = world.get(Kind::OAuthRegistry, "registry").await.unwrap();
    assert_eq!(registry["metadata"]["finalizers"], Value::Null, "nor is the registry held");
    assert_eq!(world.secret("app").await.unwrap(), secret, "its Secret stays");
    assert_eq!(peer.clients().await.len(), 1, "its client stays");
}

async fn is_told_to_end(release: &Release) {
    eventually("the operator is told to end", PATIENCE, async || {
        let replicas = replicas(release).await;
        if replicas == Some(0) { Ok(()) } else { Err(format!("{replicas:?} replicas")) }
    })
    .await;
}

async fn replicas(release: &Release) -> Option<i32> {
    release.deployments().get(&release.name).await.unwrap().spec.unwrap().replicas
}

fn is_held(object: &Value) -> bool {
    object["metadata"]["finalizers"].as_array().is_some_and(|held| held.contains(&json!(HELD)))
}

#[tokio::test(flavor = "multi_thread")]
async fn it_gives_up_while_the_operator_runs_rather_than_race_with_it() {
    let world = Cluster::connect().await.world("late").await;
    let release = Release::install_beside(&world, Helm::V4, &[]).await;
    let _operator = release.operator().await;
    let mut held = client("app");
    held["metadata"]["finalizers"] = json!([HELD]);
    world.apply(held).await;

    let mut uninstall = Command::new(env!("CARGO_BIN_EXE_oauth-operator"));
    uninstall.args(["uninstall", "--clients", "Keep", "--deployment", &release.name, "--timeout", "2s"]);
    uninstall.args(["--operator-namespace", &world.operator_namespace, "--namespaces", &world.namespace]);
    let kubeconfig = world.cluster.kubeconfig().display().to_string();
    let uninstall = Process::spawn("uninstall", &mut uninstall, &[("KUBECONFIG", kubeconfig)]);
    assert_eq!(uninstall.wait_exit(PATIENCE).await.code(), Some(1), "{}", uninstall.output());
    assert!(uninstall.output().contains("not done after 2s"), "{}", uninstall.output());
    assert!(is_held(&world.get(Kind::OAuthClient, "app").await.unwrap()), "its pod is still there");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_comes_while_the_operator_ends_brings_it_back() {
    let world = Cluster::connect().await.world("meanwhile").await;
    let release = Release::install_beside(&world, Helm::V4, &[]).await;
    let operator = release.operator().await;
    let (refused, said) = release
        .uninstall(async |_| {
            is_told_to_end(&release).await;
            let mut late = client("late");
            late["metadata"]["finalizers"] = json!([HELD]);
            world.apply(late).await;
            release.end(&operator).await;
        })
        .await;
    assert!(!refused.status.success() && said.contains("1 OAuthClients"), "{refused:?} {said}");
    assert_eq!(replicas(&release).await, Some(2));
    assert!(is_held(&world.get(Kind::OAuthClient, "late").await.unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_crds_there_is_nothing_to_let_go() {
    let plane = ControlPlane::up().await;
    let world = Cluster::without_crds(&plane.path()).await.world("bare").await;
    let release = Release::install(&world, Helm::V4, &["--set", "crds.enabled=false"]).await;
    let (removed, said) = release.uninstall(async |_| ()).await;
    assert!(removed.status.success(), "{removed:?} {said}");
    assert!(said.contains("0 OAuthClients stay"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_applies_the_same_without_helm_and_applying_it_again_keeps_clients() {
    let plane = ControlPlane::up().await;
    let cluster = Cluster::without_crds(&plane.path()).await;
    let world = cluster.world("kustomize").await;
    let apply = async || {
        let applied = cluster.kubectl(&["apply", "--server-side", "-k", "config"]).await;
        assert!(applied.status.success(), "{applied:?}");
    };
    apply().await;
    world.apply(registry("http://127.0.0.1:1")).await;
    eventually("the CRDs are served", PATIENCE, async || world.try_apply(client("app")).await).await;
    let before = world.get(Kind::OAuthClient, "app").await;
    cluster.install_crds().await;
    apply().await;
    assert_eq!(world.get(Kind::OAuthClient, "app").await, before);
    for folder in ["config/uninstall", "config/operator"] {
        let applied = cluster.kubectl(&["apply", "--dry-run=server", "--server-side", "-k", folder]).await;
        assert!(applied.status.success(), "{applied:?}");
    }
    let removed = cluster.kubectl(&["delete", "--wait=false", "-k", "config/operator"]).await;
    assert!(removed.status.success(), "{removed:?}");
    assert!(
        world.get(Kind::OAuthClient, "app").await.is_some(),
        "neither CRDs nor clients go with the operator"
    );
    let namespace =
        cluster.kubectl(&["get", "namespace", "oauth-operator", "--output=jsonpath={.status.phase}"]).await;
    assert_eq!(namespace.stdout, "Active", "nor do the records");
}

/// A chart of an application, which declares its client.
fn application(folder: &std::path::Path, client: &Value, registry: &Value) -> String {
    std::fs::create_dir(folder.join("templates")).unwrap();
    std::fs::write(folder.join("Chart.yaml"), "{apiVersion: v2, name: shop, version: 1.0.0}").unwrap();
    std::fs::write(folder.join("templates/registry.yaml"), registry.to_string()).unwrap();
    std::fs::write(folder.join("templates/client.yaml"), client.to_string()).unwrap();
    folder.display().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn helm_4_waits_until_an_applications_client_is_ready_and_says_why_it_is_not() {
    let world = Cluster::connect().await.world("helm-wait").await;
    let peer = DevelopmentRegistry::start().await;
    use_peer(&world, &peer).await;
    let _operator = Operator::start(&world, OperatorOptions::default()).await;
    let kubeconfig = world.cluster.kubeconfig();
    let mut refused = client("app");
    refused["spec"]["grantTypes"] = json!(["urn:example:nobody-offers-this"]);
    for (manifest, name) in [(client("app"), "good"), (refused, "bad")] {
        let folder = tempfile::tempdir().unwrap();
        let mut manifest = manifest;
        manifest["metadata"]["name"] = json!(name);
        let mut registry = registry(peer.url());
        registry["metadata"]["name"] = json!(format!("{name}-registry"));
        manifest["spec"]["registryRef"]["name"] = registry["metadata"]["name"].clone();
        let chart = application(folder.path(), &manifest, &registry);
        let install =
            ["install", name, &chart, "--namespace", &world.namespace, "--wait", "--timeout", "50s"];
        let installed = Helm::V4.run(&install, Some(&kubeconfig)).await;
        let object = world.get(Kind::OAuthClient, name).await.unwrap();
        let ready = crate::support::condition(&object, "Ready").unwrap_or_else(|| panic!("{installed:?}"));
        if name == "good" {
            assert!(installed.status.success(), "{installed:?}");
            assert_eq!(ready["status"], "True", "it returns no sooner");
        } else {
            assert!(!installed.status.success(), "{installed:?}");
            assert!(installed.stderr.contains(ready["message"].as_str().unwrap()), "{ready} {installed:?}");
            assert!(
                !installed.stderr.contains("deadline"),
                "it does not wait for the time-out: {installed:?}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operators_account_can_write_no_secret_but_its_own() {
    let world = Cluster::connect().await.world("policy").await;
    let release = Release::install_beside(&world, Helm::V4, &[]).await;
    let user = release.user(&release.name);
    let secret = |name: &str, kind: &str, mark: bool| {
        let mut annotations = json!({"kubernetes.io/service-account.name": "default"});
        if mark {
            annotations["oauth-operator.io/owner-uid"] = json!("1");
        }
        json!({
            "apiVersion": "v1", "kind": "Secret", "type": kind,
            "metadata": {"name": name, "namespace": world.namespace, "annotations": annotations},
        })
    };
    let as_operator = async |verb: &str, manifest: &Value| {
        let arguments = [verb, "--as", &user, "-f", "-"];
        world.cluster.kubectl_with_input(&arguments, &manifest.to_string()).await
    };
    // The policy takes effect a moment after it is there.
    eventually("a Secret that is not marked is refused", PATIENCE, async || {
        let stray = secret(&format!("stray-{}", uuid::Uuid::new_v4().simple()), "Opaque", false);
        let refused = as_operator("create", &stray).await;
        if refused.stderr.contains("owner-uid") { Ok(()) } else { Err(format!("{refused:?}")) }
    })
    .await;
    let cases = [
        (secret("ours", "Opaque", true), "", "a client's Secret"),
        (secret("record", "oauth-operator.io/record", true), "", "a record"),
        (secret("token", "bootstrap.kubernetes.io/token", true), "another type", "a way into the cluster"),
        (
            secret("account", "kubernetes.io/service-account-token", true),
            "another type",
            "somebody else's rights",
        ),
    ];
    for (manifest, refusal, reason) in cases {
        let made = as_operator("create", &manifest).await;
        assert_eq!(made.status.success(), refusal.is_empty(), "{reason}: {made:?}");
        assert!(made.stderr.contains(refusal), "{reason}: {made:?}");
    }
    world.put_secret("theirs", &[("key", "value")]).await;
    let taken = as_operator("replace", &secret("theirs", "Opaque", true)).await;
    assert!(
        taken.stderr.contains("owner-uid"),
        "a mark of today does not count for what was there: {taken:?}"
    );
    let given_up = as_operator("replace", &secret("ours", "Opaque", false)).await;
    assert!(given_up.stderr.contains("owner-uid"), "nor may a mark be taken away: {given_up:?}");
    let kept = as_operator("replace", &secret("ours", "Opaque", true)).await;
    assert!(kept.status.success(), "{kept:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn helm_4_waits_for_the_deployment_too() {
    let world = Cluster::connect().await.world("helm-ready").await;
    let deployments = kube::Api::<k8s_openapi::api::apps::v1::Deployment>::namespaced(
        world.cluster.client(),
        &world.operator_namespace,
    );
    // In place of the controllers that this control plane does not run.
    let by_hand = eventually("the Deployment", PATIENCE, async || {
        let found = deployments.get_opt(&world.namespace).await.map_err(message)?.ok_or("not yet")?;
        let condition = |kind, reason| json!({"type": kind, "status": "True", "reason": reason});
        let status = json!({"status": {
            "observedGeneration": found.metadata.generation, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2,
            "availableReplicas": 2, "conditions": [
                condition("Available", "MinimumReplicasAvailable"), condition("Progressing", "NewReplicaSetAvailable"),
            ],
        }});
        let patch = Patch::Merge(&status);
        deployments.patch_status(&world.namespace, &PatchParams::default(), &patch).await.map_err(message)
    });
    let waiting = ["--wait", "--timeout", "50s"];
    let (release, _) = tokio::join!(Release::install_beside(&world, Helm::V4, &waiting), by_hand);
    let told = release.run(&["status", "oauth-operator", "--output", "json"]).await.stdout;
    assert!(told.contains(r#""status":"deployed""#), "{told}");
}
