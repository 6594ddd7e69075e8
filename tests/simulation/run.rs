//! One run: a world, a plan, operators that come and go, and what is true at the end.

use std::{cell::Cell, panic, sync::Arc, time::Duration};

use futures::FutureExt;
use jiff::Timestamp;
use kube::runtime::events::Reporter;
use oauth_operator::{
    api::RegistryHosts,
    clock::Clock,
    controller::{self, Scope},
    lease::{Held, Lease, Turn},
    metrics::Metrics,
    operator,
    reconcile::{Context, Looks, Settings, backoff::Backoff, lanes::Lanes, look::Misses},
    registry::Sessions,
};
use serde_json::json;
use tokio::{sync::mpsc::UnboundedReceiver, task::JoinSet};

use crate::{
    INSTALLATION, NAMESPACE, OPERATOR_NAMESPACE, acts,
    cluster::at,
    invariants,
    network::{Happened, Network, Outside, Seen},
    plan::{Act, Plan},
    registries::Class,
    scenario::{Operators, Scenario},
};

/// Nothing takes longer to come to rest: a deletion gives up after five minutes, an overlap ends after ten.
const PATIENCE: Duration = Duration::from_hours(3);
/// Nothing takes so many calls, thousands of looks at many clients included.
const MOST_CALLS: usize = 20_000;
const DRIFT_INTERVAL: Duration = Duration::from_secs(330);
const STEP: Duration = Duration::from_secs(20);
/// How long an operator that has lost the Lease may take to end what it has begun.
pub const SHUTDOWN: Duration = Duration::from_mins(1);

/// What a run was.
pub struct Outcome {
    /// All calls that the operators sent, up to one drift interval after the last write.
    pub calls: Vec<Seen>,
    pub events: usize,
    pub violations: Vec<String>,
    /// Clients that nobody can ever find again.
    pub orphans: usize,
    /// How everything stands at the end, without ids and times.
    pub end: String,
    pub trace: Vec<String>,
    /// What went wrong, in words that make a plan.
    pub met: Vec<String>,
    /// How often something was held against an invariant.
    pub checked: usize,
}

thread_local! {
    /// How often something has panicked on this thread, which one run has for itself.
    static PANICS: Cell<usize> = const { Cell::new(0) };
}

/// The operator goes on when a pass panics. A run in which one does so unplanned is wrong all the same.
pub fn hear_of_panics() {
    let print = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        PANICS.set(PANICS.get() + 1);
        print(panic);
    }));
}

/// Runs a scenario at a registry of this class under this plan.
pub fn run(class: &Class, scenario: &Scenario, plan: &Plan) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(World::play(class, scenario, plan))
}

struct World {
    network: Network,
    happened: UnboundedReceiver<Happened>,
    /// Each ends with its number, if it may not work any more.
    operators: JoinSet<usize>,
    /// Whether who works holds the Lease.
    elects: bool,
    count: usize,
}

impl World {
    async fn play(class: &Class, scenario: &Scenario, plan: &Plan) -> Outcome {
        let clock = Clock::starting_at("2030-01-01T00:00:00Z".parse().expect("a time"));
        // Two operators at a registry whose reads change the secret: what one has just read, the other does not know yet.
        let renewed = class.rotates_on_read && (scenario.operators != Operators::One || plan.freezes());
        let strict = !(scenario.tampers || plan.meddles() || renewed);
        let (network, happened) = Network::new(class, scenario.ready > 1, plan.clone(), clock, strict);
        let elects = scenario.operators == Operators::Replicas;
        let mut world = Self { network, happened, operators: JoinSet::new(), elects, count: 0 };
        world.prepare(class, scenario);
        (0..scenario.operators.count()).for_each(|_| world.start());
        if scenario.ready > 0 {
            world.rest(Duration::from_mins(2)).await;
        } else {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let now = world.now();
        world.network.outside().arm();
        (scenario.act.act)(&mut world.network.outside(), now);
        if let Some(then) = &scenario.then {
            world.rest_until(scenario.quiet, None, |outside| (then.wrong)(outside).is_none()).await;
            let wrong = (then.wrong)(&world.network.outside());
            world.network.outside().violations.extend(wrong);
            let now = world.now();
            (then.act.act)(&mut world.network.outside(), now);
        }
        let again = scenario.then.as_ref().filter(|_| scenario.again).map(|then| &then.act);
        let at_rest = |outside: &Outside| invariants::at_rest(outside, class, scenario).0.is_empty();
        world.rest_until(scenario.quiet, again, at_rest).await;
        world.report(class, scenario)
    }

    fn now(&self) -> Timestamp {
        self.network.clock.now()
    }

    fn prepare(&self, class: &Class, scenario: &Scenario) {
        let now = self.now();
        let mut outside = self.network.outside();
        for name in [NAMESPACE, OPERATOR_NAMESPACE] {
            outside.cluster.apply(
                &at("namespaces", "", name),
                json!({"kind": "Namespace", "apiVersion": "v1"}),
                now,
            );
        }
        outside.credentials = (class.credentials)();
        let credentials = outside.credentials.clone();
        acts::put_credentials(&mut outside, &credentials, now);
        let mut spec = (class.registry)();
        spec["allowedNamespaces"] = json!({});
        spec["driftInterval"] = json!("5m");
        let registry =
            json!({"apiVersion": "oauth-operator.io/v1alpha1", "kind": "ClusterOAuthRegistry", "spec": spec});
        outside.cluster.apply(&at("clusteroauthregistries", "", "registry"), registry, now);
        outside.spec = (class.spec)();
        outside.spec["replacementPolicy"] = json!("WhenNeeded");
        outside.spec["rotation"] = json!({"overlap": "6m"});
        crate::cluster::merge(&mut outside.spec, &(scenario.spec)());
        for n in 0..scenario.ready {
            acts::apply(&mut outside, n, now);
        }
    }

    /// Starts an operator.
    fn start(&mut self) {
        let who = self.count;
        self.count += 1;
        let (network, elects) = (self.network.clone(), self.elects);
        self.operators.spawn(async move {
            let kube = network.to_cluster(who);
            let lease = Lease::new(kube.clone(), network.clock, OPERATOR_NAMESPACE, who.to_string());
            let held = if elects { Some(lease.acquire(|| {}).await) } else { None };
            let turn = held.as_ref().map(Held::turn).unwrap_or_default();
            let (context, scopes) = operator(&network, who, kube, turn);
            let work = |stop| operator::work(context, scopes, Vec::new(), SHUTDOWN, stop);
            let lost = operator::hold(held, work, std::future::pending().boxed().shared()).await;
            lost.expect_err("nobody tells it to stop");
            who
        });
    }

    /// Some things have to be seen twice, a drift interval apart, and some people are asked twice.
    async fn rest_until(&mut self, quiet: Duration, again: Option<&Act>, holds: impl Fn(&Outside) -> bool) {
        self.rest(quiet).await;
        let holds = holds(&self.network.outside());
        if !holds {
            let now = self.now();
            if let Some(again) = again {
                (again.act)(&mut self.network.outside(), now);
            }
            self.rest(quiet).await;
        }
    }

    /// Until nothing has been written for so long. Operators that died are started again meanwhile.
    async fn rest(&mut self, quiet: Duration) {
        let end = tokio::time::Instant::now() + PATIENCE;
        self.network.outside().last_write = tokio::time::Instant::now();
        while !self.network.outside().is_quiet(quiet) {
            if tokio::time::Instant::now() > end || self.network.outside().sent > MOST_CALLS {
                self.network.outside().violations.push("I5: it does not come to rest".into());
                return;
            }
            tokio::select! {
                biased;
                Some(happened) = self.happened.recv() => {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    match happened { Happened::OperatorFailed => self.start() }
                }
                Some(ended) = self.operators.join_next() => {
                    match ended {
                        // With its process all ends that is still on its way.
                        Ok(who) => drop(self.network.outside().dead.insert(who)),
                        Err(why) => self.network.outside().violations.push(format!("an operator ended: {why}")),
                    }
                    self.start();
                }
                () = tokio::time::sleep(STEP) => {}
            }
        }
    }

    fn report(&self, class: &Class, scenario: &Scenario) -> Outcome {
        let mut outside = self.network.outside();
        let mut violations = std::mem::take(&mut outside.violations);
        let (found, orphans) = invariants::at_rest(&outside, class, scenario);
        violations.extend(found);
        violations.extend((PANICS.take() > 0).then(|| "something panicked".to_owned()));
        let (calls, events) = outside.seen();
        let last =
            calls.get(outside.calls_until_rest.saturating_sub(1)).map(|call| call.at).unwrap_or_default();
        Outcome {
            calls: calls.iter().filter(|call| call.at <= last + DRIFT_INTERVAL).cloned().collect(),
            events,
            violations,
            orphans,
            end: invariants::end(&outside),
            trace: outside.trace.clone(),
            met: outside.met.clone(),
            checked: outside.checked + invariants::AT_REST,
        }
    }
}

/// What an operator has, and what wakes it.
fn operator(network: &Network, who: usize, kube: kube::Client, turn: Turn) -> (Arc<Context>, Vec<Scope>) {
    let watches = controller::watches(&kube, &[]);
    let metrics = Arc::new(Metrics::new());
    let made = std::sync::atomic::AtomicU32::new(0);
    let context = Context {
        reporter: Reporter { controller: "simulation".into(), instance: None },
        clock: network.clock,
        sessions: Sessions::new(network.to_registries(who), metrics.clone()),
        registries: watches.registries,
        settings: Settings {
            operator_namespace: OPERATOR_NAMESPACE.into(),
            settle_time: Duration::from_secs(30),
            deletion_timeout: Duration::from_mins(5),
            registry_hosts: RegistryHosts::default(),
        },
        nonces: Box::new(move || {
            format!("n{who}-{}", made.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
        }),
        clients: watches.clients,
        looks: Looks::default(),
        misses: Misses::default(),
        backoff: Backoff::default(),
        lanes: Lanes::new(8),
        installation: INSTALLATION.into(),
        metrics,
        turn,
        kube,
    };
    (Arc::new(context), watches.scopes)
}
