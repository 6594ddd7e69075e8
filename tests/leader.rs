//! Several replicas, of which one works. Whoever is told to end hands over at once; whoever dies or stands still is replaced when its
//! Lease is old, and does no harm when it goes on.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::coordination::v1::Lease;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    crash::Story,
    manifests::client,
    support::{Action, Cluster, Operator, OperatorOptions, PATIENCE, Peer, When, eventually},
};

/// From the signal until the other one has the Lease.
const HANDOVER: Duration = Duration::from_millis(500);
/// A busy machine makes one of several slow, not all.
const HANDOVERS: usize = 3;
/// A Lease is old after 15 s; the rest is for those who look.
const OLD: Duration = Duration::from_secs(25);

async fn replica(story: &Story, name: &str) -> Operator {
    Operator::start(&story.world, named(story.options(), name)).await
}

fn named(options: OperatorOptions, name: &str) -> OperatorOptions {
    let extra = vec!["--leader-election".to_owned(), format!("--identity={name}")];
    OperatorOptions { extra, ..options }
}

fn leases(story: &Story) -> Api<Lease> {
    Api::namespaced(story.world.cluster.client(), &story.world.operator_namespace)
}

async fn holder(story: &Story) -> Option<String> {
    leases(story).get_opt("oauth-operator").await.unwrap()?.spec?.holder_identity
}

async fn is_held_by(story: &Story, name: &str, deadline: Duration) {
    eventually(&format!("{name} has the Lease"), deadline, async || {
        let holder = holder(story).await;
        if holder.as_deref() == Some(name) { Ok(()) } else { Err(format!("{holder:?} has it")) }
    })
    .await;
}

async fn works(operator: &Operator) -> bool {
    operator.metrics().await.contains("\noauth_operator_working 1")
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_told_to_end_hands_over_at_once() {
    let story = Story::begin(&Cluster::connect().await, "Retry").await;
    let mut working = replica(&story, "replica-0").await;
    is_held_by(&story, "replica-0", PATIENCE).await;
    let mut took = Vec::new();
    for number in 1..=HANDOVERS {
        let name = format!("replica-{number}");
        let waiting = replica(&story, &name).await;
        assert!(works(&working).await && !works(&waiting).await, "one works, and the other is ready to");
        let began = Instant::now();
        working.signaller("-TERM")();
        is_held_by(&story, &name, OLD).await;
        took.push(began.elapsed());
        assert!(working.wait_exit().await.success());
        story.world.apply(client(&name)).await;
        story.world.wait_condition(&name, "Ready", "True", PATIENCE).await;
        working = waiting;
    }
    eprintln!("handovers: {took:?}");
    assert!(took.iter().min() <= Some(&HANDOVER), "{took:?}");
    assert_eq!(story.registry.clients().await.len(), HANDOVERS, "each registered once");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_dies_is_replaced_when_its_lease_is_old() {
    let story = Story::begin(&Cluster::connect().await, "Retry").await;
    let dies = Arc::new(replica(&story, "first").await);
    is_held_by(&story, "first", PATIENCE).await;
    let waits = replica(&story, "second").await;
    story.plan.reset();
    story.plan.on("POST", "/register", When::BeforeForward, Action::kill(dies.killer()));
    story.world.apply(client("app")).await;
    is_held_by(&story, "second", OLD).await;
    story.comes_to_a_good_end("killed while it held the Lease").await;
    assert!(works(&waits).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_stood_still_past_its_lease_does_no_harm_and_ends() {
    let story = Story::begin(&Cluster::connect().await, "Retry").await;
    let zombie = replica(&story, "zombie").await;
    is_held_by(&story, "zombie", PATIENCE).await;
    let _successor = replica(&story, "successor").await;
    story.plan.reset();
    story.plan.on("POST", "/register", When::AfterAnswer, Action::tell(zombie.signaller("-STOP")));
    story.world.apply(client("app")).await;
    is_held_by(&story, "successor", OLD).await;
    story.world.wait_condition("app", "Ready", "True", PATIENCE).await;
    let before = story.world.secret("app").await.unwrap();

    zombie.signaller("-CONT")();
    let status = zombie.wait_exit().await;
    assert!(!status.success(), "{status}");
    assert!(zombie.output().contains("held by successor now"), "{}", zombie.output());
    assert_eq!(story.world.secret("app").await.unwrap(), before, "the credentials in use stay in use");
    story.comes_to_a_good_end("it goes on beside its successor").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_others_touch_is_kept_and_one_that_is_given_to_another_is_lost() {
    let story = Story::begin(&Cluster::connect().await, "Retry").await;
    let loser = replica(&story, "loser").await;
    is_held_by(&story, "loser", PATIENCE).await;
    let change = async |patch: Value| {
        let patch = Patch::Merge(patch);
        leases(&story).patch("oauth-operator", &PatchParams::default(), &patch).await.unwrap().spec.unwrap()
    };
    let before = change(json!({"metadata": {"labels": {"touched": "yes"}}})).await.renew_time;
    eventually("it is renewed", PATIENCE, async || {
        let renewed = leases(&story).get("oauth-operator").await.unwrap().spec.unwrap().renew_time;
        if renewed > before { Ok(()) } else { Err(format!("{renewed:?}")) }
    })
    .await;
    change(json!({"spec": {"holderIdentity": "somebody", "leaseDurationSeconds": 1}})).await;
    assert!(!loser.wait_exit().await.success());
    assert!(loser.output().contains("held by somebody now"), "{}", loser.output());

    let next = replica(&story, "next").await;
    is_held_by(&story, "next", OLD).await;
    story.world.apply(client("app")).await;
    story.world.wait_condition("app", "Ready", "True", PATIENCE).await;
    assert!(works(&next).await);
}
