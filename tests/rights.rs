//! The chart gives the operator the rights that it uses, and no more: as the audit log has it.

use serde_json::{Value, json};

use crate::{
    manifests::{client, registry, use_peer},
    own_control_plane::ControlPlane,
    support::{
        Cluster, DevelopmentRegistry, Kind, Operator, PATIENCE, Peer, World, eventually,
        helm::Helm,
        peer::INITIAL_ACCESS_TOKEN,
        process::Process,
        providers::{place::Place, teable::Teable},
        release::Release,
        rights::{self, Right},
        site::Site,
        world::IN_USE,
    },
};

#[tokio::test(flavor = "multi_thread")]
async fn in_all_namespaces_every_right_is_used_and_none_is_missing() {
    let plane = ControlPlane::up().await;
    let world = Cluster::without_crds(&plane.path()).await.world("rights").await;
    let release = Release::install(&world, Helm::V4, &["--set", "uninstall.clients=Keep"]).await;
    let operator = release.operator().await;
    let standby = release.standby().await;
    let peer = lives_at_a_registry(&world).await;
    lives_at_a_provider(&world).await;
    uses_a_cluster_registry(&world, &peer).await;
    assert!(standby.terminate().await.0.success());
    assert_used(&release, &release.name, &release.objects("manifest").await);
    is_uninstalled(&release, &operator, &[Kind::OAuthRegistry, Kind::ClusterOAuthRegistry]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_some_namespaces_every_right_is_used_and_none_is_missing() {
    let world = Cluster::connect().await.world("rights-some").await;
    let release = Release::install_beside(&world, Helm::V4, &["--set", "uninstall.clients=Keep"]).await;
    let operator = release.operator().await;
    let standby = release.standby().await;
    let _peer = lives_at_a_registry(&world).await;
    lives_at_a_provider(&world).await;
    assert!(standby.terminate().await.0.success());
    assert_used(&release, &release.name, &release.objects("manifest").await);
    is_uninstalled(&release, &operator, &[Kind::OAuthRegistry]).await;
}

/// The same of the account that lets go, of a client and of registries that are in use.
async fn is_uninstalled(release: &Release, operator: &Operator, held: &[Kind]) {
    let world = &release.world;
    world.apply(client("kept")).await;
    world.wait_condition("kept", "Ready", "True", PATIENCE).await;
    let hooks = release.objects("hooks").await;
    let meanwhile = async |_: &Process| {
        operator.terminate().await;
        for kind in held {
            let in_use = json!({"metadata": {"finalizers": [IN_USE]}});
            world.patch(*kind, "registry", &in_use).await;
        }
        release.remove_pod().await;
    };
    let (removed, said) = release.uninstall(meanwhile).await;
    assert!(removed.status.success(), "{removed:?} {said}");
    for kind in held {
        let registry = world.get(*kind, "registry").await.unwrap();
        assert_eq!(registry["metadata"]["finalizers"], Value::Null, "{kind:?}");
    }
    assert_used(release, &format!("{}-uninstall", release.name), &hooks);
}

fn assert_used(release: &Release, account: &str, objects: &[Value]) {
    let asked = rights::asked(&release.world.cluster, &release.user(account));
    let denied: Vec<_> = asked.iter().filter(|(_, code)| *code == 403).map(|(right, _)| right).collect();
    assert!(denied.is_empty(), "{account} was refused {denied:#?}");
    let granted = rights::granted(objects, account);
    assert!(granted.len() > 5, "{account}: the search finds nothing any more: {granted:?}");
    let used = |right: &&Right| asked.iter().any(|(asked, _)| right.allows(asked));
    let unused: Vec<&Right> = granted.iter().filter(|right| !used(right)).collect();
    assert!(unused.is_empty(), "{account} has rights that it does not use: {unused:#?}");
}

/// Registered, repaired, its Secret edited, deleted.
async fn lives_at_a_registry(world: &World) -> DevelopmentRegistry {
    let peer = DevelopmentRegistry::start().await;
    use_peer(world, &peer).await;
    world.apply(client("app")).await;
    let ready = world.wait_condition("app", "Ready", "True", PATIENCE).await;
    let id = ready["status"]["clientId"].as_str().unwrap();
    peer.patch(id, &json!({"client_name": "Somebody else's"})).await;
    world.annotate(Kind::OAuthClient, "app", "oauth-operator.io/requested-at", "once").await;
    eventually("it is repaired", PATIENCE, async || {
        let name = peer.clients().await[0]["client_name"].clone();
        if name == "Booking portal" { Ok(()) } else { Err(name.to_string()) }
    })
    .await;
    world.put_secret("app", &[("client_secret", "edited")]).await;
    world.annotate(Kind::OAuthClient, "app", "oauth-operator.io/requested-at", "twice").await;
    eventually("the Secret is as it was", PATIENCE, async || {
        let secret = world.secret("app").await.unwrap_or_default();
        if secret["client_secret"] == "edited" { Err("edited".to_owned()) } else { Ok(()) }
    })
    .await;
    world.delete(Kind::OAuthClient, "app").await;
    world.wait_gone(Kind::OAuthClient, "app", PATIENCE).await;
    peer
}

/// Where clients are listed the registry has a status; and a second secret makes a rotation.
async fn lives_at_a_provider(world: &World) {
    let site = Site::<Teable>::open(world, "teable").await;
    site.apply(&json!({"rotation": {"overlap": "1s"}})).await;
    site.ready().await;
    let before = site.credentials().await;
    site.annotate("rotate", "now").await;
    site.wait_for("it is rotated", |object| object["status"]["rotation"]["lastHandled"] == "now").await;
    assert_ne!(site.credentials().await, before, "{}", Teable::NAME);
    site.delete().await;
}

async fn uses_a_cluster_registry(world: &World, peer: &DevelopmentRegistry) {
    world.put_operator_secret("initial-access-token", &[("token", INITIAL_ACCESS_TOKEN)]).await;
    let mut platform = registry(peer.url());
    platform["kind"] = json!("ClusterOAuthRegistry");
    platform["spec"]["allowedNamespaces"] = json!({});
    world.apply(platform.clone()).await;
    let mut manifest = client("platform");
    manifest["spec"]["registryRef"]["kind"] = json!("ClusterOAuthRegistry");
    world.apply(manifest).await;
    world.wait_condition("platform", "Ready", "True", PATIENCE).await;
    world.wait_in_use(Kind::ClusterOAuthRegistry, "registry").await;
    world.delete(Kind::OAuthClient, "platform").await;
    world.wait_gone(Kind::OAuthClient, "platform", PATIENCE).await;
    // Its status says what is wrong with it.
    platform["spec"]["tls"] = json!({"caBundle": "no certificate"});
    world.apply(platform).await;
    world.wait_condition_of(Kind::ClusterOAuthRegistry, "registry", "Ready", "False", PATIENCE).await;
}
