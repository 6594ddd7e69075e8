//! Everything is deleted at once, in any order: registry, credentials, clients, the namespace. Every client is deregistered, and nothing
//! hangs.

use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api,
    api::{DeleteParams, ListParams, PropagationPolicy},
};
use serde_json::Value;

use crate::{
    manifests::{client, use_peer},
    stand_ins::{self, StandIn},
    support::{
        Cluster, DevelopmentRegistry, Kind, Operator, OperatorOptions, PATIENCE, Peer, World, audit,
        condition, eventually,
        providers::{place::Place, teable::Teable},
    },
};

const CLIENTS: [&str; 3] = ["a", "b", "c"];

struct Story {
    world: World,
    registry: DevelopmentRegistry,
    _operator: Operator,
}

impl Story {
    async fn of_ready_clients(name: &str, options: OperatorOptions) -> Self {
        let world = Cluster::connect().await.world(name).await;
        let registry = DevelopmentRegistry::start().await;
        use_peer(&world, &registry).await;
        let operator = Operator::start(&world, options).await;
        for name in CLIENTS {
            world.apply(client(name)).await;
        }
        for name in CLIENTS {
            world.wait_condition(name, "Ready", "True", PATIENCE).await;
        }
        world.wait_in_use(Kind::OAuthRegistry, "registry").await;
        Self { world, registry, _operator: operator }
    }

    async fn nothing_is_left(&self) {
        for name in CLIENTS {
            self.world.wait_gone(Kind::OAuthClient, name, PATIENCE).await;
        }
        self.world.wait_gone(Kind::OAuthRegistry, "registry", PATIENCE).await;
        assert_eq!(self.registry.clients().await.len(), 0, "every client is deregistered");
        let records = ListParams::default().labels("oauth-operator.io/record");
        assert_eq!(
            self.world.operator_secrets().list(&records).await.unwrap().items.len(),
            0,
            "no record stays"
        );
    }
}

fn finalizers(object: &Value) -> usize {
    object["metadata"]["finalizers"].as_array().map_or(0, Vec::len)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_delete_of_everything_deregisters_every_client_in_whatever_order() {
    let all = [
        "oauthregistry/registry",
        "secret/initial-access-token",
        "oauthclient/a",
        "oauthclient/b",
        "oauthclient/c",
    ];
    let clients_first: Vec<&str> = all.iter().rev().copied().collect();
    let credentials_first = [
        "secret/initial-access-token",
        "oauthclient/b",
        "oauthregistry/registry",
        "oauthclient/a",
        "oauthclient/c",
    ];
    for (name, order) in
        [("registry", &all[..]), ("clients", &clients_first), ("credentials", &credentials_first)]
    {
        let story = Story::of_ready_clients(&format!("down-{name}"), OperatorOptions::default()).await;
        let arguments = [&["delete", "--wait=false"], order].concat();
        let deleted = story.world.kubectl(&arguments).await;
        assert!(deleted.status.success(), "{name} first: {deleted:?}");
        story.nothing_is_left().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_namespace_with_its_registry_deregisters_every_client() {
    let story = Story::of_ready_clients("down-namespace", OperatorOptions::default()).await;
    let namespaces: Api<Namespace> = Api::all(story.world.cluster.client());
    let params =
        DeleteParams { propagation_policy: Some(PropagationPolicy::Foreground), ..DeleteParams::default() };
    namespaces.delete(&story.world.namespace, &params).await.unwrap();
    eventually("the namespace is gone", PATIENCE, async || {
        let found = namespaces.get_opt(&story.world.namespace).await.unwrap();
        found.map_or(Ok(()), |namespace| Err(format!("{:?}", namespace.status)))
    })
    .await;
    story.nothing_is_left().await;
}

/// Where one key manages all clients, and nothing in a record could.
#[tokio::test(flavor = "multi_thread")]
async fn a_registry_whose_key_went_first_still_lets_its_clients_go() {
    let world = Cluster::connect().await.world("down-key").await;
    let teable = StandIn::<Teable>::start().await;
    teable.use_in(&world).await;
    let _operator = Operator::start(&world, OperatorOptions::default()).await;
    for name in CLIENTS {
        world.apply(stand_ins::client::<Teable>(name)).await;
    }
    for name in CLIENTS {
        world.wait_condition(name, "Ready", "True", PATIENCE).await;
    }
    world.wait_in_use(Kind::OAuthRegistry, "teable").await;
    let all = [
        "delete",
        "--wait=false",
        "secret/teable",
        "oauthregistry/teable",
        "oauthclient/a",
        "oauthclient/b",
        "oauthclient/c",
    ];
    let deleted = world.kubectl(&all).await;
    assert!(deleted.status.success(), "{deleted:?}");
    for name in CLIENTS {
        world.wait_gone(Kind::OAuthClient, name, PATIENCE).await;
    }
    world.wait_gone(Kind::OAuthRegistry, "teable", PATIENCE).await;
    assert_eq!(teable.fake.at(|provider| provider.all().len()), 0, "every client is deregistered");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_going_takes_nobody_in_and_waits_for_a_bounded_time() {
    let options = OperatorOptions { deletion_timeout: Duration::from_secs(10), ..OperatorOptions::default() };
    let story = Story::of_ready_clients("down-bounded", options).await;
    let world = &story.world;
    world.delete(Kind::OAuthRegistry, "registry").await;
    world.apply(client("late")).await;
    world.wait_reason(Kind::OAuthClient, "late", "RegistryDeleting", PATIENCE).await;
    world.wait_gone(Kind::OAuthRegistry, "registry", PATIENCE).await;
    world.annotate(Kind::OAuthClient, "a", "oauth-operator.io/requested-at", "now").await;
    world.wait_reason(Kind::OAuthClient, "a", "RegistryNotFound", PATIENCE).await;
    assert_eq!(
        story.registry.clients().await.len(),
        CLIENTS.len(),
        "nobody deleted them, and nobody new came"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_without_clients_is_not_held_and_one_with_clients_costs_one_write() {
    let story = Story::of_ready_clients("down-cost", OperatorOptions::default()).await;
    let world = &story.world;
    let of_registry = |subresource: &str| {
        let is = |call: &audit::Call| call.resource == "oauthregistries" && call.subresource == subresource;
        audit::writes(world).into_iter().filter(is).count()
    };
    assert_eq!(of_registry(""), 1, "{}", audit::describe(&audit::writes(world)));
    let counted = |object: &Value| object["status"]["clients"] == CLIENTS.len();
    let object =
        world.wait_for(Kind::OAuthRegistry, "registry", "it counts its clients", PATIENCE, counted).await;
    assert_eq!(condition(&object, "Ready").unwrap()["status"], "True");
    assert!(of_registry("status") <= 3, "{}", audit::describe(&audit::writes(world)));

    for name in CLIENTS {
        world.delete(Kind::OAuthClient, name).await;
    }
    let free = |object: &Value| finalizers(object) == 0;
    world.wait_for(Kind::OAuthRegistry, "registry", "nobody uses it any more", PATIENCE, free).await;
    assert_eq!(of_registry(""), 2, "{}", audit::describe(&audit::writes(world)));
}
