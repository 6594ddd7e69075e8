//! A registry that hangs slows no client of another one, and no end of the operator.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use crate::{
    manifests::{client, registry, use_url},
    support::{
        Cluster, Endpoint, HostileRegistry, Misbehaviour, Operator, OperatorOptions, PATIENCE, World,
        eventually,
    },
};

const HUNG: usize = 200;
const GOOD: usize = 5;
/// How long a request to the registry that hangs takes.
const TIMEOUT: &str = "20s";
/// Far below that, and far above what five clients take.
const SOON: Duration = Duration::from_secs(8);

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_hangs_slows_no_client_of_another_one() {
    let world = Cluster::connect().await.world("lanes").await;
    let (good, hung) = (HostileRegistry::start().await, HostileRegistry::start().await);
    hung.misbehave(Endpoint::Discovery, Misbehaviour::Hangs);
    use_url(&world, good.url()).await;
    let mut manifest = registry(hung.url());
    manifest["metadata"]["name"] = json!("hung");
    manifest["spec"]["timeout"] = json!(TIMEOUT);
    world.apply(manifest).await;
    create(&world, "hung", HUNG).await;

    let options = OperatorOptions::default();
    let width = options.concurrency;
    // The round asks once, too.
    let full = width + 1;
    let operator = Operator::start(&world, options).await;
    eventually("the lane of the registry that hangs is full", PATIENCE, async || {
        let asked = hung.requests().len();
        if asked == full { Ok(()) } else { Err(format!("{asked} requests so far")) }
    })
    .await;
    let began = Instant::now();
    create(&world, "registry", GOOD).await;
    world.wait_ready_clients(GOOD, SOON).await;
    eprintln!("{GOOD} clients beside {HUNG} that hang: ready within {:.1?}", began.elapsed());
    assert_eq!(hung.requests().len(), full, "the lane was full all the time");
    let metrics = operator.metrics().await;
    assert!(!metrics.contains("code=\"0\""), "no request to the other one had ended: {metrics}");

    let (status, took) = operator.terminate().await;
    eprintln!("ended {took:.1?} after it was told to");
    assert!(status.success(), "{status}: the passes that ran came to their end");
    assert_eq!(hung.requests().len(), full, "those that waited did not begin");
    let failed = operator.output().matches("\"reason\":\"RegistryUnavailable\"").count();
    assert_eq!(failed, width, "nor did they fail: {}", operator.output());
}

async fn create(world: &World, registry: &str, count: usize) {
    let of_registry = |number| {
        let mut manifest = client(&format!("{registry}-{number}"));
        manifest["spec"]["registryRef"]["name"] = json!(registry);
        manifest
    };
    world.create_clients((0..count).map(of_registry)).await;
}
