//! What the platform sees of the process: probes, metrics, logs, its end.

use std::time::Duration;

use serde_json::Value;

use crate::{
    manifests::{client, use_peer},
    support::{
        Cluster, DevelopmentRegistry, Operator, OperatorOptions, PATIENCE, cluster::from_root, eventually,
    },
};

#[tokio::test(flavor = "multi_thread")]
async fn probes_metrics_and_logs_are_as_documented_and_sigterm_ends_it_soon() {
    let world = Cluster::connect().await.world("surface").await;
    let registry = DevelopmentRegistry::start().await;
    use_peer(&world, &registry).await;
    let operator = Operator::start(&world, OperatorOptions::default()).await;
    world.apply(client("app")).await;
    world.wait_condition("app", "Ready", "True", PATIENCE).await;

    assert_eq!(operator.get("livez").await.unwrap(), "ok");
    assert_eq!(operator.get("readyz").await.unwrap(), "ok");
    eventually("the client is counted as ready", PATIENCE, async || {
        let metrics = operator.metrics().await;
        if metrics.contains("oauth_operator_clients{ready=\"True\"} 1") { Ok(()) } else { Err(metrics) }
    })
    .await;
    let metrics = operator.metrics().await;
    assert!(
        metrics.contains("oauth_operator_registry_requests_total{operation=\"register\",code=\"201\"} 1"),
        "{metrics}"
    );
    let page = std::fs::read_to_string(from_root("docs/metrics.md")).unwrap();
    for name in metrics.lines().filter_map(exposed_name) {
        assert!(page.contains(&format!("`{name}`")), "docs/metrics.md does not explain {name}");
    }

    for line in operator.output().lines() {
        let entry: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        assert!(entry["timestamp"].is_string() && entry["level"].is_string(), "{line}");
    }
    let events = world.kubectl(&["get", "events", "--output=name"]).await.stdout;
    assert_eq!(events.lines().count(), 1, "one event for one transition: {events}");

    let (status, took) = operator.terminate().await;
    assert!(status.success() && took < Duration::from_secs(5), "{status} after {took:?}");
}

/// The sample's name, without what histograms append.
fn exposed_name(line: &str) -> Option<&str> {
    let name = line.split(['{', ' ']).next().filter(|name| !name.starts_with('#') && !name.is_empty())?;
    Some(["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_setting_is_refused_with_what_to_do() {
    let cluster = Cluster::connect().await;
    let world = cluster.world("settings").await;
    let missing = ["--operator-namespace", "no-such-namespace"].map(str::to_owned).to_vec();
    let cases = [
        (missing, "--operator-namespace"),
        (["--settle-time", "soon"].map(str::to_owned).to_vec(), "1h30m"),
        (["--log", "=nonsense="].map(str::to_owned).to_vec(), "--log"),
        (["--concurrency", "0"].map(str::to_owned).to_vec(), "--concurrency"),
    ];
    for (extra, expected) in cases {
        let operator =
            Operator::spawn(&world, OperatorOptions { extra: extra.clone(), ..OperatorOptions::default() });
        let status = operator.wait_exit().await;
        assert!(!status.success(), "{extra:?}");
        assert!(operator.output().contains(expected), "{extra:?}: {}", operator.output());
    }
}
