//! What a client costs: four writes to Kubernetes and one registration; at rest, nothing.

use std::time::Duration;

use crate::{
    manifests::{client, use_peer},
    support::{
        Cluster, DevelopmentRegistry, Operator, OperatorOptions, PATIENCE, Peer, World, audit, eventually,
        peer,
    },
};

/// Ten drift intervals of 10 s, and some time for jitter.
const TEN_INTERVALS: Duration = Duration::from_secs(150);

#[tokio::test(flavor = "multi_thread")]
async fn a_client_costs_four_writes_and_one_registration_and_then_nothing() {
    let world = Cluster::connect().await.world("cost").await;
    let registry = DevelopmentRegistry::start().await;
    use_peer(&world, &registry).await;
    let _operator = Operator::start(&world, OperatorOptions::default()).await;
    world.apply(client("app")).await;
    world.wait_condition("app", "Ready", "True", PATIENCE).await;

    let expected = [
        "patch oauthclients (finalizer and intent)",
        "create secrets (the record)",
        "create secrets (the Secret)",
        "update oauthclients/status",
    ];
    assert_eq!(named_writes(&world), expected, "{}", audit::describe(&audit::writes(&world)));
    assert_eq!(count(&registry, "POST", "/register"), 1, "{}", peer::describe(&registry.requests()));

    eventually("ten looks at the registry", TEN_INTERVALS, async || {
        let looks = registry
            .requests()
            .iter()
            .filter(|r| r.method == "GET" && r.path.starts_with("/register/"))
            .count();
        if looks >= 10 { Ok(()) } else { Err(format!("{looks} so far")) }
    })
    .await;
    assert_eq!(named_writes(&world), expected, "at rest: {}", audit::describe(&audit::writes(&world)));
    let others = registry.requests().iter().filter(|r| r.method != "GET").count();
    assert_eq!(others, 1, "nothing but reads at rest: {}", peer::describe(&registry.requests()));
}

/// What was written for clients. What a registry says of itself is said once for all of them.
pub fn named_writes(world: &World) -> Vec<&'static str> {
    let name =
        |call: audit::Call| match (call.verb.as_str(), call.resource.as_str(), call.subresource.as_str()) {
            ("patch", "oauthclients", "") => "patch oauthclients (finalizer and intent)",
            ("create", "secrets", "") if call.namespace == world.operator_namespace => {
                "create secrets (the record)"
            }
            ("create", "secrets", "") => "create secrets (the Secret)",
            ("update", "oauthclients", "status") => "update oauthclients/status",
            _ => "another write",
        };
    let of_clients = |call: &audit::Call| call.resource != "oauthregistries";
    audit::writes(world).into_iter().filter(of_clients).map(name).collect()
}

fn count(peer: &impl Peer, method: &str, path: &str) -> usize {
    peer.requests().iter().filter(|r| r.method == method && r.path == path).count()
}
