//! The operator is told to end, or stands still for a while, at each of its calls while it creates a client: when the call has had
//! its effect, and before its answer is read.

use std::{sync::Arc, time::Duration};

use crate::{
    crash::{Story, suspects},
    crash_at_providers::all,
    manifests::client,
    support::{Action, Cluster, Kind, Operator, PATIENCE, Peer, When, condition, eventually},
};

/// More calls than a create has; those that never come are stories without an incident.
const MOST_CALLS: usize = 10;
/// Fewer than a create has; a call up to this one that never comes was counted wrong.
const FEWEST_CALLS: usize = 6;
/// The operator's own bound (`--shutdown-timeout`) is a minute; a pass with nothing in its way takes no second of that.
const GRACE: Duration = Duration::from_secs(15);

/// A story of a new client, with an operator that gets a signal at this call. `None` if the client is ready without it.
async fn signalled(cluster: &Cluster, signal: &'static str, number: usize) -> Option<(Story, Operator)> {
    let story = Story::begin(cluster, "Retry").await;
    let operator = Operator::start(&story.world, story.options()).await;
    story.plan.reset();
    story.plan.at(number, When::AfterAnswer, Action::tell(operator.signaller(signal)));
    story.world.apply(client("app")).await;
    let struck = eventually("it has its signal, or the client is ready", PATIENCE, async || {
        let ready = is_ready(&story).await;
        if story.plan.fired() == 1 || ready {
            Ok(story.plan.fired() == 1)
        } else {
            Err(story.plan.describe())
        }
    })
    .await;
    assert!(struck || number > FEWEST_CALLS, "call {number} never came\n{}", story.plan.describe());
    struck.then_some((story, operator))
}

async fn is_ready(story: &Story) -> bool {
    let object = story.world.get(Kind::OAuthClient, "app").await.unwrap();
    condition(&object, "Ready").is_some_and(|ready| ready["status"] == "True")
}

#[tokio::test(flavor = "multi_thread")]
async fn told_to_end_at_any_call_of_a_create_it_commits_what_it_has_in_hand() {
    let cluster = Cluster::connect().await;
    all((1..=MOST_CALLS).map(|number| ends(&cluster, number))).await;
}

async fn ends(cluster: &Cluster, number: usize) {
    let told = format!("SIGTERM at call {number}");
    let Some((story, operator)) = signalled(cluster, "-TERM", number).await else { return };
    let began = tokio::time::Instant::now();
    let status = operator.wait_exit().await;
    let took = began.elapsed();
    assert!(status.success() && took < GRACE, "{told}: {status} after {took:?}");

    let _next = Operator::start(&story.world, story.options()).await;
    story.comes_to_a_good_end(&told).await;
    assert_eq!(story.registry.clients().await.len(), 1, "{told}: registered once\n{}", story.plan.describe());
    let object = story.world.get(Kind::OAuthClient, "app").await.unwrap();
    assert!(suspects(&object).is_empty(), "{told}: no outcome was left unknown");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_stood_still_at_any_call_of_a_create_does_no_harm_when_it_goes_on() {
    let cluster = Cluster::connect().await;
    all((1..=MOST_CALLS).map(|number| stands_still(&cluster, number))).await;
}

async fn stands_still(cluster: &Cluster, number: usize) {
    let told = format!("SIGSTOP at call {number}");
    let Some((story, zombie)) = signalled(cluster, "-STOP", number).await else { return };
    let successor = Arc::new(Operator::start(&story.world, story.options()).await);
    story.world.wait_condition("app", "Ready", "True", PATIENCE).await;
    let before = story.world.secret("app").await.unwrap();

    zombie.signaller("-CONT")();
    eventually(&format!("{told}: its pass has come to an end"), PATIENCE, async || {
        let metrics = zombie.get("metrics").await?;
        if metrics.contains("reconciles_total{") { Ok(()) } else { Err(metrics) }
    })
    .await;
    assert_eq!(
        story.world.secret("app").await.unwrap(),
        before,
        "{told}: the credentials in use stay in use"
    );
    story.comes_to_a_good_end(&told).await;
    assert!(successor.exit_status().is_none() && zombie.exit_status().is_none(), "{told}: both go on");
}
