//! At rest a registry is asked for one list an interval, whatever the number of its clients; its limit is kept when they are many,
//! and when it wants silence it has it.

use std::{collections::BTreeMap, time::Duration};

use serde_json::json;
use tokio::time::Instant;

use crate::{
    stand_ins::{INTERVAL, StandIn, client, names},
    support::{
        Cluster, Kind, Operator, OperatorOptions, PATIENCE, World, audit, eventually,
        providers::{
            Call, cal_com::CalCom, meteroid::Meteroid, place::Place, teable::Teable, telnyx::Telnyx,
        },
    },
};

const LONG: Duration = Duration::from_mins(5);
/// Drift intervals that a rest is watched for.
const INTERVALS: usize = 2;
/// A request that is late on its way is that much closer to the next.
const EARLY: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_clients_at_cal_com_cost_one_list_an_interval() {
    const CLIENTS: usize = 1000;
    let world = Cluster::connect().await.world("rest-cal-com").await;
    let cal_com = StandIn::<CalCom>::start().await;
    // At the published limit two thousand requests take twenty minutes: both sides lift it until the clients are there.
    cal_com.fake.at(|provider| provider.set_limit(u32::MAX));
    cal_com.use_in(&world).await;
    let lifted = json!({"rateLimit": {"requestsPerSecond": 1000, "burst": 1000}, "driftInterval": "10m"});
    tune::<CalCom>(&world, &lifted).await;
    let operator = Operator::start(&world, OperatorOptions::default()).await;
    let began = Instant::now();
    world.create_clients(names(CLIENTS).map(|name| client::<CalCom>(&name))).await;
    world.wait_ready_clients(CLIENTS, LONG).await;
    eprintln!("{CLIENTS} clients ready within {:.1?}", began.elapsed());
    operator.terminate().await;

    tune::<CalCom>(&world, &json!({"rateLimit": null, "driftInterval": "10s"})).await;
    let operator = Operator::start(&world, OperatorOptions::default()).await;
    let calls = rest(&world, &cal_com, &operator, CLIENTS).await;
    let others: Vec<&Call> = calls.iter().filter(|call| call.operation != "GET /v2/oauth-clients").collect();
    assert!(others.is_empty(), "nothing is asked of a single client: {others:?}");
    assert_eq!(calls.len(), lists(&calls).len(), "and a list is one request");
}

/// Teable's list shows neither redirect URIs nor secrets, so each client is also read at every sixth list.
#[tokio::test(flavor = "multi_thread")]
async fn clients_at_teable_cost_one_list_an_interval_and_a_read_at_every_sixth() {
    const CLIENTS: usize = 30;
    let world = Cluster::connect().await.world("rest-teable").await;
    let teable = StandIn::<Teable>::start().await;
    teable.use_in(&world).await;
    let operator = Operator::start(&world, OperatorOptions::default()).await;
    world.create_clients(names(CLIENTS).map(|name| client::<Teable>(&name))).await;
    world.wait_ready_clients(CLIENTS, LONG).await;

    let calls = rest(&world, &teable, &operator, CLIENTS).await;
    let reads = calls.iter().filter(|call| call.operation == "GET /api/oauth/client/{clientId}").count();
    eprintln!("{} lists and {reads} reads of {CLIENTS} clients", lists(&calls).len());
    assert_eq!(calls.len(), lists(&calls).len() + reads, "nothing else is asked: {calls:?}");
    // A sixth of them in the mean, but not in each round: their turns are drawn, and so is the jitter of their looks.
    let looks = lists(&calls).len() * CLIENTS;
    assert!(reads <= looks / 3, "{reads} reads at {looks} looks");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_of_new_clients_keeps_the_published_limit() {
    const CLIENTS: usize = 64;
    const LIMIT: usize = 120;
    const WINDOW: Duration = Duration::from_mins(1);
    let world = Cluster::connect().await.world("rest-crowd").await;
    let cal_com = StandIn::<CalCom>::start().await;
    cal_com.use_in(&world).await;
    let _operator = Operator::start(&world, OperatorOptions::default()).await;
    world.create_clients(names(CLIENTS).map(|name| client::<CalCom>(&name))).await;
    world.wait_ready_clients(CLIENTS, LONG).await;
    let calls = eventually("more calls than the limit lets through at once", LONG, async || {
        let calls = cal_com.fake.calls();
        if calls.len() > LIMIT { Ok(calls) } else { Err(format!("{} so far", calls.len())) }
    })
    .await;
    assert!(calls.iter().all(|call| call.status != 429), "the provider refused none of them");
    for (first, beyond) in calls.iter().zip(calls.iter().skip(LIMIT)) {
        let apart = beyond.at - first.at;
        assert!(apart > WINDOW, "{} requests within {apart:?}", LIMIT + 1);
    }
    cal_com.fake.assert_contract_held();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_wants_silence_has_it() {
    let world = Cluster::connect().await.world("rest-silence").await;
    let _operator = Operator::start(&world, OperatorOptions::default()).await;
    // Cal.com tells by the reset of its limit, the others by `Retry-After`.
    tokio::join!(
        has_silence::<CalCom>(&world),
        has_silence::<Telnyx>(&world),
        has_silence::<Teable>(&world),
        has_silence::<Meteroid>(&world),
    );
}

async fn has_silence<P: Place>(world: &World) {
    const SILENCE: Duration = Duration::from_secs(12);
    /// For requests that were on their way when the first was refused.
    const ON_THE_WAY: Duration = Duration::from_secs(1);
    let provider = StandIn::<P>::start().await;
    provider.use_in(world).await;
    let names = ["a", "b", "c"].map(|name| format!("{}-{name}", P::SLUG));
    world.create_clients(names.iter().map(|name| client::<P>(name))).await;
    for name in &names {
        world.wait_condition(name, "Ready", "True", PATIENCE).await;
    }
    provider.fake.forget_calls();
    provider.fake.at(|provider| provider.throttle(SILENCE));
    let began = Instant::now();
    let first = eventually("a request is refused", PATIENCE, async || {
        provider.fake.calls().first().cloned().ok_or("none so far".to_owned())
    })
    .await;
    assert_eq!(first.status, 429, "{}", first.line);
    for name in &names {
        world.annotate(Kind::OAuthClient, name, "oauth-operator.io/requested-at", "now").await;
    }
    let calls = eventually("it is asked again", PATIENCE, async || {
        let calls = provider.fake.calls();
        if calls.iter().any(|call| call.status < 300) { Ok(calls) } else { Err(format!("{calls:?}")) }
    })
    .await;
    for call in calls.iter().filter(|call| call.at > first.at + ON_THE_WAY) {
        assert!(call.at >= began + SILENCE, "{}: {} came in the silence", P::SLUG, call.line);
    }
    for name in &names {
        world.wait_condition(name, "Ready", "True", PATIENCE).await;
    }
    let registry = world.wait_condition_of(Kind::OAuthRegistry, P::SLUG, "Ready", "True", PATIENCE).await;
    assert_eq!(registry["status"]["observedGeneration"], registry["metadata"]["generation"]);
    provider.fake.assert_contract_held();
}

/// Watches a rest: clients are looked at, their registry is asked for one list an interval, and nothing is written. Returns what
/// the provider was asked meanwhile.
async fn rest<P: Place>(
    world: &World,
    provider: &StandIn<P>,
    operator: &Operator,
    clients: usize,
) -> Vec<Call> {
    world.wait_condition_of(Kind::OAuthRegistry, P::SLUG, "Ready", "True", LONG).await;
    let since = settled(operator).await;
    looks(operator, since + clients).await;
    let (since, written) = (settled(operator).await, audit::writes(world).len());
    provider.fake.forget_calls();
    looks(operator, since + INTERVALS * clients).await;
    let calls = eventually("whole intervals, from list to list", LONG, async || {
        let calls = provider.fake.calls();
        let seen = lists(&calls).len();
        if seen > INTERVALS { Ok(calls) } else { Err(format!("{seen} lists so far")) }
    })
    .await;

    let writes = audit::writes(world).split_off(written);
    assert!(writes.is_empty(), "at rest: {}", audit::describe(&writes));
    let lists = lists(&calls);
    for (one, next) in lists.iter().zip(lists.iter().skip(1)) {
        let apart = next.at - one.at;
        assert!(apart + EARLY >= INTERVAL, "two lists within {apart:?}");
    }
    let mut by_path = BTreeMap::<&str, usize>::new();
    for call in &calls {
        *by_path.entry(&call.line).or_default() += 1;
    }
    eprintln!("{}: {by_path:?}", P::SLUG);
    provider.fake.assert_contract_held();
    calls
}

/// The lists among the calls: the reads of a whole collection.
fn lists(calls: &[Call]) -> Vec<&Call> {
    calls.iter().filter(|call| call.line.starts_with("GET ") && !call.operation.contains('{')).collect()
}

/// Waits until so many passes have found everything as declared.
async fn looks(operator: &Operator, count: usize) {
    eventually(&format!("{count} looks"), LONG, async || {
        let settled = settled(operator).await;
        if settled >= count { Ok(()) } else { Err(format!("{settled} so far")) }
    })
    .await;
}

/// How many passes have found everything as declared.
async fn settled(operator: &Operator) -> usize {
    let metrics = operator.metrics().await;
    let line = metrics.lines().find(|line| line.contains("reconciles_total{result=\"settled\"}"));
    let count = line.and_then(|line| line.rsplit(' ').next());
    count.and_then(|count| count.parse().ok()).unwrap_or_default()
}

async fn tune<P: Place>(world: &World, changes: &serde_json::Value) {
    world.patch(Kind::OAuthRegistry, P::SLUG, &json!({"spec": changes})).await;
}
