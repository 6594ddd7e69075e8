//! The operator is killed at each of its calls while it creates a client, before the call and after its effect. Whatever it had
//! done, the next one brings one client into use, loses no secret, and names what it may have left behind.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    manifests::{client, registry, use_peer},
    support::{
        Action, Cluster, DevelopmentRegistry, FaultPlan, FaultProxy, Kind, Operator, OperatorOptions,
        PATIENCE, Peer, When, World, condition, development_registry::RegistryOptions, eventually, token,
    },
};

/// More calls than a create has: the loop ends when a run is over before its call comes.
const MOST_CALLS: usize = 40;

#[tokio::test(flavor = "multi_thread")]
async fn killed_before_any_call_of_a_create_nothing_is_lost() {
    for_each_call(When::BeforeForward).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_after_any_call_of_a_create_nothing_is_lost() {
    for_each_call(When::AfterAnswer).await;
}

async fn for_each_call(when: When) {
    let cluster = Cluster::connect().await;
    for number in 1..MOST_CALLS {
        let story = Story::begin(&cluster, "Retry").await;
        let killed = story.kill_at(number, when).await;
        if !killed {
            assert!(number > 6, "a create has more calls than {number}");
            return;
        }
        let _next = Operator::start(&story.world, story.options()).await;
        story.comes_to_a_good_end(&format!("{when:?} call {number}")).await;
    }
    panic!("a create has more calls than {MOST_CALLS}");
}

#[tokio::test(flavor = "multi_thread")]
async fn told_to_halt_it_waits_for_a_person_and_says_how_to_go_on() {
    let cluster = Cluster::connect().await;
    let story = Story::begin(&cluster, "Halt").await;
    let registered = |plan: &FaultPlan, kill| plan.on("POST", "/register", When::AfterAnswer, kill);
    assert!(story.kill(registered, |_| false).await);
    let _next = Operator::start(&story.world, story.options()).await;

    let halted = story
        .world
        .wait_for(Kind::OAuthClient, "app", "it halts", PATIENCE, |object| {
            condition(object, "Stalled").is_some_and(|stalled| stalled["reason"] == "OutcomeUnknown")
        })
        .await;
    let ready = condition(&halted, "Ready").unwrap();
    assert_eq!(ready["status"], "Unknown");
    let message = ready["message"].as_str().unwrap();
    let clients = story.registry.clients().await;
    assert_eq!(clients.len(), 1, "nothing more was registered");
    let software_id = clients[0]["software_id"].as_str().unwrap();
    assert!(message.contains(software_id), "the message names what to look for: {message}");
    story.registry.lose(clients[0]["client_id"].as_str().unwrap()).await;

    story.types(message).await;
    story.comes_to_a_good_end("after the resume").await;
}

pub struct Story {
    pub world: World,
    pub plan: FaultPlan,
    pub registry: DevelopmentRegistry,
    pub api: FaultProxy,
    _registry_proxy: FaultProxy,
}

impl Story {
    pub async fn begin(cluster: &Cluster, unknown_outcome: &str) -> Self {
        Self::begin_at(cluster, unknown_outcome, RegistryOptions::default()).await
    }

    pub async fn begin_at(
        cluster: &Cluster,
        unknown_outcome: &str,
        registry_options: RegistryOptions,
    ) -> Self {
        let world = cluster.world("crash").await;
        let plan = FaultPlan::new();
        let (development, proxy) = DevelopmentRegistry::start_behind_with(&plan, registry_options).await;
        let api = FaultProxy::to_api_server(cluster, &plan).await;
        use_peer(&world, &development).await;
        let mut manifest = registry(development.url());
        manifest["spec"]["dynamicRegistration"]["unknownOutcome"] = json!(unknown_outcome);
        world.apply(manifest).await;
        Self { world, plan, registry: development, api, _registry_proxy: proxy }
    }

    pub fn options(&self) -> OperatorOptions {
        OperatorOptions { kubeconfig: Some(self.api.kubeconfig()), ..OperatorOptions::default() }
    }

    /// Kills the operator at the given call. False if the client was ready before it came.
    async fn kill_at(&self, number: usize, when: When) -> bool {
        self.kill(|plan, kill| plan.at(number, when, kill), |plan| plan.counted() < number).await
    }

    /// Starts the operator, applies the client and kills as planned. False if the client is ready and it is too late for that.
    async fn kill(
        &self,
        plan: impl FnOnce(&FaultPlan, Action),
        too_late: impl Fn(&FaultPlan) -> bool,
    ) -> bool {
        let operator = Operator::start(&self.world, self.options()).await;
        self.plan.reset();
        plan(&self.plan, Action::kill(operator.killer()));
        self.world.apply(client("app")).await;
        let killed = eventually("killed, or over", PATIENCE, async || {
            if operator.exit_status().is_some() {
                return Ok(true);
            }
            let object = self.world.get(Kind::OAuthClient, "app").await.unwrap();
            let ready = condition(&object, "Ready").is_some_and(|ready| ready["status"] == "True");
            if ready && too_late(&self.plan) { Ok(false) } else { Err(self.plan.describe()) }
        })
        .await;
        operator.kill9().await;
        killed
    }

    pub async fn comes_to_a_good_end(&self, told: &str) {
        let object = self.world.wait_condition("app", "Ready", "True", PATIENCE).await;
        let secret = self.world.secret("app").await.unwrap();
        let id = object["status"]["clientId"].as_str().unwrap();
        assert_eq!(secret["client_id"], id, "{told}: one client in use");
        let granted = token::grant(self.registry.url(), id, &secret["client_secret"]).await;
        assert!(granted.is_ok(), "{told}: the Secret authenticates: {granted:?}\n{}", self.plan.describe());

        let clients = self.registry.clients().await;
        let orphans = clients.len() - 1;
        let suspects = suspects(&object);
        assert!(
            orphans <= suspects.len(),
            "{told}: {orphans} orphans, {suspects:?}\n{}",
            self.plan.describe()
        );
        assert!(suspects.len() <= 2, "{told}: attempts stay within their budget: {suspects:?}");
        let message = condition(&object, "Ready").unwrap()["message"].as_str().unwrap();
        for client in clients.iter().filter(|client| client["client_id"] != id) {
            let software_id = client["software_id"].as_str().unwrap();
            assert!(message.contains(software_id), "{told}: the orphan {software_id} is named in {message}");
        }
        if !suspects.is_empty() {
            self.a_person_looks_after_them(message).await;
        }
    }

    /// Does what the message says.
    async fn a_person_looks_after_them(&self, message: &str) {
        self.types(message).await;
        self.world
            .wait_for(Kind::OAuthClient, "app", "the suspects are looked after", PATIENCE, |object| {
                let ready = condition(object, "Ready").unwrap();
                ready["status"] == "True"
                    && suspects(object).is_empty()
                    && !ready["message"].to_string().contains("earlier")
            })
            .await;
    }

    /// Types the command that a message ends with.
    async fn types(&self, message: &str) {
        let command = message.split("kubectl ").nth(1).expect("the message ends with a command");
        let arguments: Vec<&str> = command.split_whitespace().collect();
        let outcome = self.world.cluster.kubectl(&arguments).await;
        assert!(outcome.status.success(), "kubectl {command}: {outcome:?}");
    }
}

pub fn suspects(object: &Value) -> Vec<Value> {
    let intent = object["metadata"]["annotations"]["oauth-operator.io/intent"].as_str().unwrap_or("{}");
    let intent: Value = serde_json::from_str(intent).unwrap();
    intent["suspects"].as_array().cloned().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_lets_the_running_pass_end() {
    let cluster = Cluster::connect().await;
    let world = cluster.world("sigterm").await;
    let registry = DevelopmentRegistry::start().await;
    use_peer(&world, &registry).await;
    let operator = Operator::start(&world, OperatorOptions::default()).await;
    for number in 0..20 {
        world.apply(client(&format!("app-{number}"))).await;
    }
    let (status, took) = operator.terminate().await;
    assert!(status.success() && took < Duration::from_secs(10), "{status} after {took:?}");
    let _next = Operator::start(&world, OperatorOptions::default()).await;
    for number in 0..20 {
        world.wait_condition(&format!("app-{number}"), "Ready", "True", PATIENCE).await;
    }
    assert_eq!(registry.clients().await.len(), 20, "no outcome was left unknown");
}
