//! The operator is killed at each of its calls while it updates, deletes or rotates. The next one brings that to its end, and the
//! credentials that were good stay good until others are published.

use std::iter;

use kube::api::ListParams;
use serde_json::json;

use crate::{
    crash::Story,
    crash_at_providers::{self as at_providers, ROTATE, all},
    manifests::client,
    stand_ins::client as client_of,
    support::{
        Action, Cluster, FaultPlan, Kind, Operator, PATIENCE, Peer, When, condition,
        development_registry::RegistryOptions,
        eventually,
        providers::{meteroid::Meteroid, place::Place, telnyx::Telnyx},
        token,
    },
};

/// Fewer than any of these operations has; who counts fewer counts wrong.
const FEWEST_CALLS: usize = 4;

/// A call, counted from 1, and the side of it on which the operator is killed.
type Crash = (usize, When);

/// Goes through a story without a crash to count its calls, then through one for each place between two calls, and both ends. To
/// the world, a kill after a call's effect and one before the next call are the same.
async fn around_each_call<F: Future<Output = usize>>(play: impl Fn(Option<Crash>) -> F) {
    let calls = play(None).await;
    eprintln!("{calls} calls");
    assert!(calls >= FEWEST_CALLS, "{calls} calls");
    let crashes = iter::once((1, When::BeforeForward)).chain((1..=calls).map(|n| (n, When::AfterAnswer)));
    all(crashes.map(async |crash| assert!(play(Some(crash)).await > 0))).await;
}

/// Arms the kill, and waits until it has struck or what was begun is over.
async fn killed_or<T>(
    plan: &FaultPlan,
    operator: &Operator,
    crash: Option<Crash>,
    begin: impl Future<Output = T>,
    mut is_over: impl AsyncFnMut() -> bool,
) -> usize {
    plan.reset();
    if let Some((number, when)) = crash {
        plan.at(number, when, Action::kill(operator.killer()));
    }
    begin.await;
    eventually("killed, or over", PATIENCE, async || {
        let over = operator.exit_status().is_some() || is_over().await;
        if over { Ok(()) } else { Err(plan.describe()) }
    })
    .await;
    let struck = crash.is_none_or(|(number, _)| number > FEWEST_CALLS || plan.fired() == 1);
    assert!(struck, "{crash:?} never came\n{}", plan.describe());
    plan.counted()
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_call_of_an_update_it_comes_to_its_end() {
    let cluster = Cluster::connect().await;
    // A registry whose updates bring new tokens takes the old ones away: then nobody has one after a lost reply.
    let lasting = RegistryOptions { rotate_registration_token: false };
    around_each_call(|crash| update(&cluster, lasting.clone(), crash)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_call_of_an_update_that_takes_the_token_away_the_credentials_stay_good() {
    let cluster = Cluster::connect().await;
    around_each_call(|crash| update(&cluster, RegistryOptions::default(), crash)).await;
}

async fn update(cluster: &Cluster, options: RegistryOptions, crash: Option<Crash>) -> usize {
    let told = format!("{crash:?} of an update, {options:?}");
    let rotates_tokens = options.rotate_registration_token;
    let story = Story::begin_at(cluster, "Retry", options).await;
    let operator = Operator::start(&story.world, story.options()).await;
    story.world.apply(client("app")).await;
    story.world.wait_condition("app", "Ready", "True", PATIENCE).await;
    let secret = story.world.secret("app").await.unwrap();
    let change = json!({"spec": {"scopes": ["bookings.read", "bookings.write"]}});
    let changed = story.world.patch(Kind::OAuthClient, "app", &change);
    let ready = async || is_ready(&story).await;
    let calls = killed_or(&story.plan, &operator, crash, changed, ready).await;
    operator.kill9().await;
    let token_lost = rotates_tokens && takes_the_token_along(&story.plan);

    let _next = Operator::start(&story.world, story.options()).await;
    let object = story
        .world
        .wait_for(Kind::OAuthClient, "app", &told, PATIENCE, |object| {
            let current = object["status"]["observedGeneration"] == object["metadata"]["generation"];
            let ready = condition(object, "Ready").unwrap();
            current && (ready["status"] == "True" || token_lost && ready["reason"] == "ManagementLost")
        })
        .await;
    let clients = story.registry.clients().await;
    assert_eq!(clients.len(), 1, "{told}: {clients:?}");
    assert_eq!(clients[0]["scope"], "bookings.read bookings.write", "{told}: {:#}", object["status"]);
    assert_eq!(story.world.secret("app").await.unwrap(), secret, "{told}: the same credentials");
    let granted = token::grant(story.registry.url(), &secret["client_id"], &secret["client_secret"]).await;
    assert!(granted.is_ok(), "{told}: {granted:?}");
    calls
}

/// Whether the crash fell between the reply with a new registration token and its commit: then nobody has one.
fn takes_the_token_along(plan: &FaultPlan) -> bool {
    let struck = plan.calls().into_iter().find(|call| call.faulty);
    struck.is_some_and(|call| {
        call.method == "PUT"
            && ["/register/", "-operator/secrets/"].iter().any(|place| call.path.contains(place))
    })
}

async fn is_ready(story: &Story) -> bool {
    let object = story.world.get(Kind::OAuthClient, "app").await.unwrap();
    let current = object["status"]["observedGeneration"] == object["metadata"]["generation"];
    current && condition(&object, "Ready").is_some_and(|ready| ready["status"] == "True")
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_call_of_a_deletion_nothing_stays() {
    let cluster = Cluster::connect().await;
    around_each_call(|crash| deletion(&cluster, crash)).await;
}

async fn deletion(cluster: &Cluster, crash: Option<Crash>) -> usize {
    let told = format!("{crash:?} of a deletion");
    let story = Story::begin(cluster, "Retry").await;
    let operator = Operator::start(&story.world, story.options()).await;
    story.world.apply(client("app")).await;
    story.world.wait_condition("app", "Ready", "True", PATIENCE).await;
    let deleted = story.world.delete(Kind::OAuthClient, "app");
    let gone = async || story.world.get(Kind::OAuthClient, "app").await.is_none();
    let calls = killed_or(&story.plan, &operator, crash, deleted, gone).await;
    operator.kill9().await;

    let next = Operator::start(&story.world, story.options()).await;
    story.world.wait_gone(Kind::OAuthClient, "app", PATIENCE).await;
    let records = ListParams::default().labels("oauth-operator.io/record");
    let records = story.world.operator_secrets().list(&records).await.unwrap().items.len();
    assert_eq!((story.registry.clients().await.len(), records), (0, 0), "{told}\n{}", story.plan.describe());
    let metrics = next.metrics().await;
    assert!(!metrics.contains("oauth_operator_abandoned_total 1"), "{told}: nothing was given up");
    calls
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_call_of_a_rotation_in_place_the_published_secret_works() {
    let cluster = Cluster::connect().await;
    around_each_call(|crash| rotation::<Meteroid>(&cluster, crash)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_any_call_of_a_rotation_by_a_new_client_the_published_secret_works() {
    let cluster = Cluster::connect().await;
    around_each_call(|crash| rotation::<Telnyx>(&cluster, crash)).await;
}

async fn rotation<P: Place>(cluster: &Cluster, crash: Option<Crash>) -> usize {
    let told = format!("{crash:?} of a rotation at {}", P::NAME);
    let story = at_providers::Story::<P>::begin(cluster).await;
    let operator = story.operator().await;
    let mut manifest = client_of::<P>("app");
    manifest["spec"]["replacementPolicy"] = json!("WhenNeeded");
    manifest["spec"]["rotation"] = json!({"overlap": "1s"});
    story.world.apply(manifest).await;
    let (_, old) = story.published().await;
    let asked = story.world.annotate(Kind::OAuthClient, "app", ROTATE, "1");
    let over = async || one_secret_is_left(&story).await.is_ok();
    let calls = killed_or(&story.plan, &operator, crash, asked, over).await;
    operator.kill9().await;

    let _next = story.operator().await;
    eventually(&told, PATIENCE, async || one_secret_is_left(&story).await).await;
    let (id, new) = story.published().await;
    assert_ne!(new, old, "{told}: another secret");
    assert!(story.provider.fake.at(|provider| provider.authenticates(&id, &new)), "{told}");
    story.provider.fake.assert_contract_held();
    calls
}

/// The rotation was handled, and what it replaced is gone.
async fn one_secret_is_left<P: Place>(story: &at_providers::Story<P>) -> Result<(), String> {
    let object = story.world.get(Kind::OAuthClient, "app").await.unwrap();
    let handled = object["status"]["rotation"]["lastHandled"] == "1";
    let secrets: usize = story.provider.fake.at(|provider| {
        let clients = provider.all();
        clients.keys().map(|id| provider.secrets(id)).sum()
    });
    let ready = condition(&object, "Ready").is_some_and(|ready| ready["status"] == "True");
    if handled && ready && secrets == 1 {
        Ok(())
    } else {
        Err(format!("{secrets} secrets, {:#}\n{}", object["status"], story.plan.describe()))
    }
}
