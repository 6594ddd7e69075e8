//! A thousand clients at once: all ready, nothing refused by the API server, and each as cheap as one alone.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use crate::{
    manifests::{client, use_peer},
    support::{Cluster, DevelopmentRegistry, Kind, Operator, OperatorOptions, Peer, audit},
};

const CLIENTS: usize = 1000;
const LONG: Duration = Duration::from_mins(5);

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_clients_are_ready_at_the_price_of_one_each() {
    let world = Cluster::connect().await.world("thousand").await;
    let registry = DevelopmentRegistry::start().await;
    use_peer(&world, &registry).await;
    // One look a client within the test is enough; ten minutes is the default.
    world
        .patch(Kind::OAuthRegistry, "registry", &json!({"spec": {"driftInterval": "10m", "timeout": "30s"}}))
        .await;
    let operator = Operator::start(&world, OperatorOptions::default()).await;

    let began = Instant::now();
    world.create_clients((0..CLIENTS).map(|number| client(&format!("app-{number}")))).await;
    let created = began.elapsed();
    world.wait_ready_clients(CLIENTS, LONG).await;
    eprintln!(
        "{CLIENTS} clients: created within {created:.1?}, ready within {:.1?}, memory {}",
        began.elapsed(),
        operator.memory()
    );

    let calls = audit::calls(&world);
    let refused = calls.iter().filter(|call| call.code == 429).count();
    assert_eq!(refused, 0, "the API server was not pressed");
    let (of_registries, writes): (Vec<_>, Vec<_>) =
        audit::writes(&world).into_iter().partition(|write| write.resource == "oauthregistries");
    assert_eq!(writes.len(), 4 * CLIENTS, "four writes a client");
    assert!(of_registries.len() <= 5, "a few for the registry: {}", audit::describe(&of_registries));
    assert!(writes.iter().all(|write| write.code < 300), "none of them in vain");
    let registrations = registry.requests().iter().filter(|request| request.method == "POST").count();
    assert_eq!(registrations, CLIENTS, "one registration a client");
}
