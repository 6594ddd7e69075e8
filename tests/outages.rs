//! The API server is away for a while, or has too many requests, and so has the registry: nothing is lost, nobody is hammered, and
//! it comes to a good end by itself.

use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use crate::{
    crash::Story,
    manifests::client,
    support::{Action, Cluster, Kind, Operator, PATIENCE, Peer, When, eventually, peer, token},
};

/// As long as an API server takes to be replaced by another version; longer than a request's time-out (15 s) and than the longest
/// pause of a watch (30 s).
const OUTAGE: Duration = Duration::from_mins(1);
/// Watches, passes, the sweep and the round each try again, less and less often. Who spins tries thousands of times.
const TRIES_A_SECOND: u64 = 4;
/// Waves of a storm that are waited for.
const STORM: Duration = Duration::from_secs(25);
const RETRY_AFTER: u32 = 6;
/// A watch that has failed for long is begun again after half a minute, drawn out by its jitter.
const RECOVERY: Duration = Duration::from_mins(2);
/// For requests that were on their way when the first was refused.
const ON_THE_WAY: Duration = Duration::from_secs(1);

/// Waits until a time has passed, in which the operator lives all the while.
async fn lives_through(operator: &Operator, time: Duration) {
    let began = Instant::now();
    eventually("the time is over", time + PATIENCE, async || {
        operator.get("livez").await.unwrap_or_else(|why| panic!("it does not live: {why}"));
        if began.elapsed() >= time { Ok(()) } else { Err(format!("{:?} so far", began.elapsed())) }
    })
    .await;
}

async fn authenticates(story: &Story, name: &str) {
    let object = story.world.wait_condition(name, "Ready", "True", RECOVERY).await;
    let secret = story.world.secret(name).await.unwrap();
    assert_eq!(object["status"]["clientId"], secret["client_id"].as_str(), "{name}");
    let granted = token::grant(story.registry.url(), &secret["client_id"], &secret["client_secret"]).await;
    assert!(granted.is_ok(), "{name}: {granted:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_minute_without_api_server_loses_nothing() {
    let story = Story::begin(&Cluster::connect().await, "Retry").await;
    let operator = Operator::start(&story.world, story.options()).await;
    for name in ["changed", "deleted"] {
        story.world.apply(client(name)).await;
        story.world.wait_condition(name, "Ready", "True", RECOVERY).await;
    }
    // It goes away at the worst time: when a registration has had its effect, and nothing of it is stored.
    let gate = story.api.gate();
    let closing = gate.clone();
    story.plan.reset();
    story.plan.on("POST", "/register", When::AfterAnswer, Action::tell(move || closing.close()));
    story.world.apply(client("torn")).await;
    eventually("the API server is away", PATIENCE, async || {
        if story.plan.fired() == 1 { Ok(()) } else { Err(story.plan.describe()) }
    })
    .await;
    let asked = story.registry.requests().len();

    let change = json!({"spec": {"scopes": ["bookings.write"]}});
    story.world.patch(Kind::OAuthClient, "changed", &change).await;
    story.world.delete(Kind::OAuthClient, "deleted").await;
    story.world.apply(client("new")).await;
    lives_through(&operator, OUTAGE).await;
    let (tries, requests) = (gate.refused() as u64, story.registry.requests().len() - asked);
    eprintln!("{tries} tries at the API server, {requests} requests at the registry");
    assert!((3..=TRIES_A_SECOND * OUTAGE.as_secs()).contains(&tries), "{tries} tries");
    assert!(requests <= 6, "what nobody can see is not done: {}", peer::describe(&story.registry.requests()));

    gate.open();
    story.world.wait_gone(Kind::OAuthClient, "deleted", RECOVERY).await;
    for name in ["changed", "torn", "new"] {
        authenticates(&story, name).await;
    }
    let clients = story.registry.clients().await;
    assert_eq!(clients.len(), 3, "no second client: {clients:#?}");
    let changed = clients.iter().filter(|client| client["scope"] == "bookings.write").count();
    assert_eq!(changed, 1, "what was declared meanwhile: {clients:#?}");
    assert!(operator.exit_status().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_with_too_many_requests_is_left_alone_for_as_long_as_it_says() {
    api_server_storm(Some(RETRY_AFTER)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_with_too_many_requests_that_names_no_time_is_tried_less_and_less() {
    api_server_storm(None).await;
}

async fn api_server_storm(retry_after: Option<u32>) {
    let story = Story::begin(&Cluster::connect().await, "Retry").await;
    let operator = Operator::start(&story.world, story.options()).await;
    story.world.apply(client("app")).await;
    story.world.wait_condition("app", "Ready", "True", RECOVERY).await;
    story.plan.reset();
    story.plan.storm("api", Action::TooManyRequests(retry_after));
    // Its watches break, so they are begun again in the storm.
    story.api.gate().close();
    story.api.gate().open();
    story.world.apply(client("new")).await;
    lives_through(&operator, STORM).await;

    let calls = story.plan.calls();
    let refused: Vec<_> = calls.iter().filter(|call| call.to == "api").collect();
    eprintln!("{} requests in a storm with {retry_after:?}", refused.len());
    let most = TRIES_A_SECOND * STORM.as_secs();
    assert!((2..=most).contains(&(refused.len() as u64)), "{}", story.plan.describe());
    if let Some(seconds) = retry_after {
        let silence = Duration::from_secs(seconds.into());
        for (number, call) in refused.iter().enumerate() {
            let earlier = refused[..number].iter().map(|earlier| call.at - earlier.at);
            let early = earlier.filter(|apart| *apart > ON_THE_WAY && *apart < silence).max();
            assert_eq!(early, None, "{call} came in the silence\n{}", story.plan.describe());
        }
    }
    story.plan.calm();
    for name in ["app", "new"] {
        authenticates(&story, name).await;
    }
    assert_eq!(story.registry.clients().await.len(), 2, "no second client");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_with_too_many_requests_is_left_alone_for_as_long_as_it_says() {
    registry_storm(Some(RETRY_AFTER), Duration::from_secs(RETRY_AFTER.into())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_with_too_many_requests_that_names_no_time_is_left_alone_for_a_while() {
    registry_storm(None, Duration::from_secs(20)).await;
}

async fn registry_storm(retry_after: Option<u32>, silence: Duration) {
    let story = Story::begin(&Cluster::connect().await, "Retry").await;
    let _operator = Operator::start(&story.world, story.options()).await;
    let names = ["a", "b", "c", "d", "e"];
    story.plan.storm("registry", Action::TooManyRequests(retry_after));
    story.world.create_clients(names.map(client)).await;
    let asked = eventually("it is asked again after a silence", silence * 3, async || {
        let calls = story.plan.calls();
        let asked: Vec<Instant> =
            calls.iter().filter(|call| call.to == "registry").map(|call| call.at).collect();
        let again = asked.iter().any(|at| *at - asked[0] > ON_THE_WAY);
        if again { Ok(asked) } else { Err(story.plan.describe()) }
    })
    .await;
    let early: Vec<_> = asked.iter().map(|at| *at - asked[0]).filter(|apart| *apart > ON_THE_WAY).collect();
    assert!(early.iter().all(|apart| *apart >= silence), "{early:?} after the first refusal");
    assert!(asked.len() <= 4 * names.len(), "{}", story.plan.describe());
    story.plan.calm();
    for name in names {
        authenticates(&story, name).await;
    }
    assert_eq!(story.registry.clients().await.len(), names.len(), "no second client");
}
