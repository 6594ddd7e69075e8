//! One pass over one client: gather → (next → run)* → report.
//!
//! The rules of [`mod@next`] decide everything and do nothing; [`run`] does one thing and decides nothing. A pass may end anywhere:
//! every prefix of its effects is a state from which the next pass goes on.

pub mod backoff;
pub mod facts;
pub mod gather;
pub mod intent;
pub mod lanes;
pub mod look;
pub mod next;
pub mod protocol;
pub mod record;
mod report;
pub mod rotation;
pub mod run;
pub mod secret;
pub mod status;

use std::{
    collections::HashMap,
    future::Future,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::FutureExt;
use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ListMeta};
use kube::{
    Api,
    api::ListParams,
    runtime::{controller::Action, events::Reporter, reflector::Store},
};
use thiserror::Error;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use crate::{
    api::{ClusterOAuthRegistry, OAuthClient, OAuthRegistry, RegistryHosts},
    clock::Clock,
    lease::Turn,
    metrics::{Metrics, ReconcileLabels},
    registry::{self, Retry, Sessions},
};
use backoff::{Backoff, jittered};
use facts::{Facts, Why};
use gather::Pass;
use lanes::Lanes;
use look::Misses;
use next::{Step, next};
use protocol::Rule;
use record::Record;

/// More rounds than any pass needs; a pass that does not end is a bug, and says so.
const ROUNDS: usize = 24;
/// How often a pass starts over because the object changed under it.
const RESTARTS: usize = 3;
/// A request to the API server takes no longer.
const API_TIMEOUT: Duration = Duration::from_secs(15);
/// For what somebody else has to mend.
pub const SLOWLY: Duration = Duration::from_mins(10);
/// For what should come soon.
pub const SOON: Duration = Duration::from_secs(30);
/// Between tries of a deletion that the registry refuses.
const WHILE_DELETING: Duration = Duration::from_mins(1);

/// What all passes share.
pub struct Context {
    /// The way to the API server.
    pub kube: kube::Client,
    /// The time.
    pub clock: Clock,
    /// The way to the registries.
    pub sessions: Sessions,
    /// The registry objects, as watched.
    pub registries: Registries,
    /// What the operator was told at start.
    pub settings: Settings,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Where events go.
    pub reporter: Reporter,
    /// Makes nonces: unique, not secret.
    pub nonces: Box<dyn Fn() -> String + Send + Sync>,
    /// Which installation this is: the UID of the operator's namespace.
    pub installation: String,
    /// The clients, as watched.
    pub clients: Vec<Store<OAuthClient>>,
    /// When clients were last looked at.
    pub looks: Looks,
    /// Which clients their registries did not show.
    pub misses: Misses,
    /// Failures in a row.
    pub backoff: Backoff,
    /// Passes at once, for each registry and over all controllers.
    pub lanes: Lanes,
    /// Whether another replica may work already.
    pub turn: Turn,
}

impl Context {
    /// The records, in the operator's namespace.
    pub fn records(&self) -> Api<Secret> {
        Api::namespaced(self.kube.clone(), &self.settings.operator_namespace)
    }
}

/// The registry objects, as watched: a store for each served namespace, and one for the cluster's.
#[derive(Clone)]
pub struct Registries {
    /// `OAuthRegistry` objects.
    pub namespaced: Vec<Store<OAuthRegistry>>,
    /// `ClusterOAuthRegistry` objects; `None` if only chosen namespaces are served.
    pub cluster: Option<Store<ClusterOAuthRegistry>>,
    /// Which of the watches have listed their objects once.
    pub listed: Vec<Listed>,
    /// Told whenever one of the watches has seen something.
    pub changed: Arc<Notify>,
}

/// Whether a watch has listed its objects once. (A store's own `wait_until_ready` wakes one waiter only.)
pub type Listed = watch::Receiver<bool>;

impl Registries {
    /// Waits until all registries and clients were listed: before that, "there is no such registry" would be a guess, and so
    /// would be "nobody has a client there".
    pub async fn wait_until_listed(&self) {
        for listed in &self.listed {
            // An error means that the watch has ended, and with it this process.
            drop(listed.clone().wait_for(|listed| *listed).await);
        }
    }
}

/// What the operator was told at start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The namespace of the operator: records are kept there.
    pub operator_namespace: String,
    /// When every older pass and request must be over, at least; a registry's own timeout may be longer.
    pub settle_time: Duration,
    /// How long a deletion may try to tell the registry.
    pub deletion_timeout: Duration,
    /// The hosts that an `OAuthRegistry` may name.
    pub registry_hosts: RegistryHosts,
}

/// When clients were last looked at, and last changed by us. A hint: after a restart everything is looked at once.
#[derive(Default)]
pub struct Looks(Mutex<HashMap<String, Looked>>);

#[derive(Clone, Copy)]
struct Looked {
    at: Instant,
    changed: Option<Instant>,
}

impl Looks {
    /// Whether an interval has passed since the last look.
    pub fn due(&self, uid: &str, interval: Duration) -> bool {
        // The queue comes back a little early or late.
        self.all().get(uid).is_none_or(|looked| looked.at.elapsed() >= interval * 4 / 5)
    }

    /// When we last changed something of it at the registry: what was listed before knows nothing of that.
    pub fn changed_at(&self, uid: &str) -> Option<Instant> {
        self.all().get(uid)?.changed
    }

    /// Notes a look.
    pub fn looked(&self, uid: &str) {
        let at = Instant::now();
        self.all().entry(uid.to_owned()).or_insert(Looked { at, changed: None }).at = at;
    }

    /// Notes a change, whose reply shows as much as a look.
    pub fn changed(&self, uid: &str) {
        let at = Instant::now();
        self.all().insert(uid.to_owned(), Looked { at, changed: Some(at) });
    }

    /// Forgets a client.
    pub fn forget(&self, uid: &str) {
        self.all().remove(uid);
    }

    fn all(&self) -> MutexGuard<'_, HashMap<String, Looked>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a pass ended early. Its text holds no secret.
#[derive(Debug, Error)]
pub enum PassError {
    /// Our view was stale: somebody else wrote first.
    #[error("the object changed meanwhile")]
    Stale,
    /// The API server refused or failed us.
    #[error("cannot {what}: {why}")]
    Kubernetes {
        /// What was tried.
        what: &'static str,
        /// The HTTP status, 0 if there was no answer.
        code: u16,
        /// Why it failed.
        why: String,
    },
    /// Another replica may work already.
    #[error("the Lease was not renewed for so long that another replica may have it")]
    NotOurTurn,
    /// The registry failed us.
    #[error(transparent)]
    Registry(#[from] registry::Error),
    /// A bug.
    #[error("internal error: {0}; please report this")]
    Internal(String),
}

impl PassError {
    fn is_transient(&self) -> bool {
        matches!(self, Self::Kubernetes { code: 0 | 408 | 429 | 500.., .. })
    }

    /// Whether the API server said no, once and for all.
    fn is_definite(&self) -> bool {
        matches!(self, Self::Kubernetes { code: 400..=499, .. }) && !self.is_transient()
    }

    fn is_not_found(&self) -> bool {
        matches!(self, Self::Kubernetes { code: 404, .. })
    }
}

/// What to ask for after a page of a list; `None` after the last one.
pub(crate) fn following(page: ListParams, list: &ListMeta) -> Option<ListParams> {
    let token = list.continue_.as_ref().filter(|token| !token.is_empty())?;
    Some(page.continue_token(token))
}

/// Does something of which a panic is a failure like any other: nobody else is kept from anything by it, and it is tried again.
pub(crate) fn caught<T>(
    work: impl Future<Output = Result<T, PassError>>,
) -> impl Future<Output = Result<T, PassError>> {
    let panicked = |_| Err(PassError::Internal("it panicked; the log says where".into()));
    AssertUnwindSafe(Box::pin(work)).catch_unwind().map(move |ended| ended.unwrap_or_else(panicked))
}

/// Sends one request to the API server, bounded in time.
pub(crate) async fn call<T>(
    what: &'static str,
    request: impl Future<Output = kube::Result<T>>,
) -> Result<T, PassError> {
    match tokio::time::timeout(API_TIMEOUT, request).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(kube::Error::Api(status))) if status.is_conflict() || status.is_already_exists() => {
            Err(PassError::Stale)
        }
        Ok(Err(kube::Error::Api(status))) => {
            Err(PassError::Kubernetes { what, code: status.code, why: status.message.clone() })
        }
        // Deserialization errors quote values, and a value may be a secret.
        Ok(Err(kube::Error::SerdeError(_))) => {
            Err(PassError::Kubernetes { what, code: 0, why: "the API server's answer cannot be read".into() })
        }
        Ok(Err(error)) => Err(PassError::Kubernetes { what, code: 0, why: error.to_string() }),
        Err(_) => {
            Err(PassError::Kubernetes { what, code: 0, why: format!("no answer within {API_TIMEOUT:?}") })
        }
    }
}

/// One pass over one client. Never an error: what failed is in status, logs and metrics, and the delay is in the action.
pub async fn reconcile(client: Arc<OAuthClient>, context: Arc<Context>) -> Action {
    context.registries.wait_until_listed().await;
    let key = gather::key_of(&client);
    let Some(_permit) = context.lanes.enter(key).await else { return Action::await_change() };
    // A pass is large; ten thousand may wait.
    Box::pin(begin(client, context)).await
}

async fn begin(client: Arc<OAuthClient>, context: Arc<Context>) -> Action {
    let began = Instant::now();
    let outcome = caught(try_pass(&context, &client)).await;
    let outcome = outcome.unwrap_or_else(|error| failed(&context, &client, &error));
    context.metrics.reconciles.get_or_create(&ReconcileLabels { result: outcome.result }).inc();
    context.metrics.reconcile_seconds.observe(began.elapsed().as_secs_f64());
    outcome.action
}

/// A pass, and another one if the object changed under it.
async fn try_pass(context: &Context, client: &OAuthClient) -> Result<Outcome, PassError> {
    let mut outcome = pass(context, client).await;
    for _ in 0..RESTARTS {
        if !matches!(outcome, Err(PassError::Stale)) {
            break;
        }
        outcome = match gather::live(context, client).await? {
            Some(live) => pass(context, &live).await,
            None => Ok(Outcome { result: "settled", action: Action::await_change() }),
        };
    }
    outcome
}

/// How a pass ended.
struct Outcome {
    result: &'static str,
    action: Action,
}

async fn pass(context: &Context, client: &OAuthClient) -> Result<Outcome, PassError> {
    let mut pass = gather::gather(context, client).await?;
    look::believe(context, &mut pass);
    let mut end = part(context, &mut pass).await?;
    // Some things wait until status names the client: the owner mark comes off only then.
    if matches!(end, Step::Settled) && matches!(next(&pass.facts), Step::Do(_)) {
        pass.facts.progress.notes.clear();
        end = part(context, &mut pass).await?;
    }
    Ok(outcome(context, &pass, &end))
}

/// Does what is to be done, and reports it.
async fn part(context: &Context, pass: &mut Pass) -> Result<Step, PassError> {
    let end = match decide(context, pass).await {
        Ok(step) => step,
        Err(PassError::Registry(error)) => Step::Fail(error),
        Err(error) if error.is_definite() => Step::Wait(refused_by_kubernetes(&pass.facts, &error), SOON),
        Err(error) => {
            report::publish_notes(context, &pass.facts).await;
            return Err(error);
        }
    };
    report::report(context, &mut pass.facts, &end).await?;
    Ok(end)
}

/// Quota, policy, missing rights: somebody has to mend it, so it belongs into the status. Policies may quote what they refuse.
fn refused_by_kubernetes(facts: &Facts, error: &PassError) -> Why {
    let secrets = facts.record().map(Record::secrets).unwrap_or_default();
    let error = registry::error::quote(&error.to_string(), &secrets);
    Why::new(
        "KubernetesRefused",
        format!("{error}; check the operator's rights, quotas and admission policies"),
    )
}

/// Asks for the next step and runs it, until there is nothing to do.
async fn decide(context: &Context, pass: &mut Pass) -> Result<Step, PassError> {
    let mut hangs_together = false;
    for _ in 0..ROUNDS {
        let effect = match next(&pass.facts) {
            Step::Do(effect) => effect,
            end => return Ok(end),
        };
        // What a reply brought is stored or removed first of all, under the record's own version: nobody else has it.
        let has_a_reply = pass.facts.progress.in_hand.is_some() || pass.facts.progress.stray.is_some();
        // Some registries change a client's secret when it is read: only who works may ask, and is sure to have the answer stored.
        if !has_a_reply && !context.turn.is_ours() && Rule::Turn.holds() {
            return Err(PassError::NotOurTurn);
        }
        if !hangs_together && !has_a_reply && !effect.only_reads() {
            if !gather::hangs_together(context, &pass.facts.client).await? {
                return Err(PassError::Stale);
            }
            hangs_together = true;
        }
        tracing::debug!(?effect, "next");
        run::run(effect, pass, context).await?;
    }
    Ok(next(&pass.facts))
}

fn outcome(context: &Context, pass: &Pass, end: &Step) -> Outcome {
    let facts = &pass.facts;
    let (uid, generation) = (facts.uid(), facts.client.metadata.generation);
    let interval = facts.registry.as_ref().map_or(SLOWLY, |known| known.drift_interval);
    let (result, delay) = match end {
        Step::Settled if facts.deleting() => {
            context.backoff.forget(uid);
            context.looks.forget(uid);
            context.misses.forget(uid);
            return Outcome { result: "settled", action: Action::await_change() };
        }
        Step::Settled => ("settled", jittered(interval, &uid)),
        Step::Wait(_, after) => ("waiting", *after + Duration::from_millis(50)),
        Step::Refuse(_) => ("refused", jittered(interval, &uid)),
        Step::Do(_) => ("error", context.backoff.failed(uid, generation)),
        Step::Fail(error) => match error.kind.retry() {
            Retry::Backoff => ("error", context.backoff.failed(uid, generation)),
            Retry::After(after) => ("waiting", jittered(after + Duration::from_secs(1), &uid).max(after)),
            // A deletion has no time to lose; what comes of it cannot be tried again later.
            Retry::Slowly | Retry::OnChange if facts.deleting() => ("error", jittered(WHILE_DELETING, &uid)),
            Retry::Slowly => ("error", jittered(SLOWLY.min(interval.max(SOON)), &uid)),
            Retry::OnChange => ("refused", jittered(interval, &uid)),
        },
    };
    if result != "error" {
        context.backoff.forget(uid);
        // What a look has shown and nothing came of has to be seen again.
        if facts.progress.looked {
            context.looks.looked(uid);
        }
    }
    let delay = next_event(facts).map_or(delay, |event| delay.min(event));
    // A deletion must not sleep past its end.
    let delay = if facts.deleting() {
        next::time_left(facts).map_or(delay, |left| delay.min(left + Duration::from_secs(1)))
    } else {
        delay
    };
    Outcome { result, action: Action::requeue(delay) }
}

/// What is due before the next look: a rotation, the end of an old secret or client.
fn next_event(facts: &Facts) -> Option<Duration> {
    let state = &facts.record()?.state;
    let retiring = state.retiring.iter().map(|old| old.until);
    let events =
        state.schedule.next.into_iter().chain(state.previous.as_ref().map(|p| p.until)).chain(retiring);
    let until = |event: jiff::Timestamp| {
        // What is overdue goes on at its own pace: it may be refused.
        let left = Duration::try_from(event.duration_since(facts.now)).ok().filter(|left| !left.is_zero())?;
        Some(left + Duration::from_millis(50))
    };
    events.filter_map(until).min()
}

fn failed(context: &Context, client: &OAuthClient, error: &PassError) -> Outcome {
    let (name, namespace) = (&client.metadata.name, &client.metadata.namespace);
    tracing::warn!(?namespace, ?name, %error, "the pass failed; it is tried again");
    let uid = client.metadata.uid.as_deref().unwrap_or_default();
    let delay = context.backoff.failed(uid, client.metadata.generation);
    Outcome { result: "error", action: Action::requeue(delay) }
}
