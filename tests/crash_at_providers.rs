//! The operator is killed around each call that matters of what providers need several calls for. The next one brings it to its
//! end: one client, whose published secret authenticates, and nothing beside it.

use futures::future::join_all;
use serde_json::json;

use crate::{
    stand_ins::{StandIn, client, registry},
    support::{
        Action, Cluster, FaultPlan, FaultProxy, Kind, Operator, OperatorOptions, PATIENCE, When, World,
        condition, eventually,
        providers::{cal_com::CalCom, place::Place, teable::Teable},
    },
};

pub const ROTATE: &str = "oauth-operator.io/rotate";
const BOTH: [When; 2] = [When::BeforeForward, When::AfterAnswer];
/// More would only slow one another down.
const AT_ONCE: usize = 4;

/// A provider behind a proxy, as the API server is, and an operator that can be killed at a call to either.
pub struct Story<P> {
    pub world: World,
    pub plan: FaultPlan,
    pub provider: StandIn<P>,
    api: FaultProxy,
    _way: FaultProxy,
}

impl<P: Place> Story<P> {
    pub async fn begin(cluster: &Cluster) -> Self {
        let world = cluster.world("crash-at").await;
        let plan = FaultPlan::new();
        let provider = StandIn::<P>::start().await;
        let way = FaultProxy::to_registry(provider.served.url(), &plan).await;
        let api = FaultProxy::to_api_server(cluster, &plan).await;
        world.put_credentials(P::SLUG, &P::credentials()).await;
        world.apply(registry::<P>(way.url())).await;
        Self { world, plan, provider, api, _way: way }
    }

    pub async fn operator(&self) -> Operator {
        let options =
            OperatorOptions { kubeconfig: Some(self.api.kubeconfig()), ..OperatorOptions::default() };
        Operator::start(&self.world, options).await
    }

    /// Kills the operator at the next call of this kind, whatever it is doing then.
    fn kill_at(&self, operator: &Operator, (method, path): (&'static str, &str), when: When) {
        self.plan.on(method, path, when, Action::kill(operator.killer()));
    }

    async fn is_killed(&self, operator: Operator) {
        eventually("it is killed", PATIENCE, async || {
            operator.exit_status().map(drop).ok_or_else(|| self.plan.describe())
        })
        .await;
    }

    /// The id and secret that the application gets, of a client that is ready.
    pub async fn published(&self) -> (String, String) {
        let object = self.world.wait_condition("app", "Ready", "True", PATIENCE).await;
        let secret = self.world.secret("app").await.unwrap();
        assert_eq!(object["status"]["clientId"], secret["client_id"].as_str());
        (secret["client_id"].clone(), secret["client_secret"].clone())
    }
}

/// Goes through stories, some at a time.
pub async fn all<S: Future<Output = ()>>(stories: impl IntoIterator<Item = S>) {
    let mut stories: Vec<S> = stories.into_iter().collect();
    while !stories.is_empty() {
        let rest = stories.split_off(stories.len().min(AT_ONCE));
        join_all(stories).await;
        stories = rest;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_around_any_call_of_a_rotation_one_secret_works_and_it_is_the_published_one() {
    let cluster = Cluster::connect().await;
    let calls = [
        ("PATCH", "/oauthclients/app"),
        ("POST", "/secret"),
        ("PUT", "-operator/secrets/"),
        ("PUT", "/secrets/app"),
        ("PUT", "/oauthclients/app/status"),
        ("DELETE", "/secret/"),
    ];
    let cases = calls.into_iter().flat_map(|call| BOTH.map(|when| (call, when)));
    all(cases.map(|(call, when)| rotation_survives(&cluster, call, when))).await;
}

async fn rotation_survives(cluster: &Cluster, call: (&'static str, &str), when: When) {
    let told = format!("{when:?} {call:?}");
    let story = Story::<Teable>::begin(cluster).await;
    let operator = story.operator().await;
    let mut manifest = client::<Teable>("app");
    manifest["spec"]["rotation"] = json!({"overlap": "1s"});
    story.world.apply(manifest).await;
    let (id, old) = story.published().await;
    story.kill_at(&operator, call, when);
    story.world.annotate(Kind::OAuthClient, "app", ROTATE, "1").await;
    story.is_killed(operator).await;

    let _next = story.operator().await;
    story
        .world
        .wait_for(Kind::OAuthClient, "app", &told, PATIENCE, |object| {
            object["status"]["rotation"]["lastHandled"] == "1"
        })
        .await;
    eventually(&format!("{told}: one secret is left"), PATIENCE, async || {
        let secrets = story.provider.fake.at(|provider| provider.live_secrets(&id));
        if secrets == 1 { Ok(()) } else { Err(format!("{secrets} secrets\n{}", story.plan.describe())) }
    })
    .await;
    let (same, new) = story.published().await;
    assert_eq!((&same, new == old), (&id, false), "{told}: the same client, another secret");
    assert!(story.provider.fake.at(|provider| provider.authenticates(&id, &new)), "{told}");
    assert_eq!(story.provider.fake.at(|provider| provider.clients().len()), 1, "{told}");
    story.provider.fake.assert_contract_held();
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_around_any_call_of_a_create_there_is_one_client_and_its_mark_comes_off() {
    let cluster = Cluster::connect().await;
    let calls = [
        ("PATCH", "/oauthclients/app"),
        ("POST", "/v2/oauth-clients"),
        ("POST", "/secrets"),
        ("PUT", "/oauthclients/app/status"),
        ("PATCH", "/v2/oauth-clients/"),
    ];
    let cases = calls.into_iter().flat_map(|call| BOTH.map(|when| (call, when)));
    all(cases.map(|(call, when)| create_survives(&cluster, call, when))).await;
}

async fn create_survives(cluster: &Cluster, call: (&'static str, &str), when: When) {
    let told = format!("{when:?} {call:?}");
    let story = Story::<CalCom>::begin(cluster).await;
    let operator = story.operator().await;
    story.kill_at(&operator, call, when);
    story.world.apply(client::<CalCom>("app")).await;
    story.is_killed(operator).await;
    for client in story.provider.fake.at(|provider| provider.clients()) {
        let renamed = call == ("PATCH", "/v2/oauth-clients/") && when == When::AfterAnswer;
        assert_eq!(client.name.starts_with("oauth-operator/"), !renamed, "{told}: {}", client.name);
    }

    let _next = story.operator().await;
    let (id, secret) = story.published().await;
    let clients = eventually(&format!("{told}: the mark comes off"), PATIENCE, async || {
        let clients = story.provider.fake.at(|provider| provider.clients());
        let named = clients.iter().all(|client| client.name == "Booking portal");
        if named { Ok(clients) } else { Err(story.plan.describe()) }
    })
    .await;
    assert_eq!(clients.len(), 1, "{told}: {clients:?}");
    assert_eq!((&clients[0].id, &clients[0].secret), (&id, &secret), "{told}");
    let ready = story.world.get(Kind::OAuthClient, "app").await.unwrap();
    assert_eq!(condition(&ready, "Ready").unwrap()["reason"], "Ready", "{told}");
    story.provider.fake.assert_contract_held();
}
