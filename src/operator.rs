//! Puts the parts together and runs them until the process is told to end.

use std::{
    io,
    panic::resume_unwind,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::{
    FutureExt,
    future::{self, Shared},
};
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client, Config, runtime::events::Reporter};
use thiserror::Error;
use tokio::{
    signal::unix::{SignalKind, signal},
    task::JoinSet,
};

use crate::{
    api::FIELD_MANAGER,
    api_server,
    clock::Clock,
    controller::{self, Scope, Watches},
    lease::{self, Held, Lease, Lost, Turn},
    metrics::Metrics,
    reconcile::{Context, Looks, Settings, backoff::Backoff, lanes::Lanes, look::Misses},
    registry::{Sessions, address::AddressPolicy, http::HttpConnect},
    rounds, server,
    settings::Arguments,
    sweep,
};

/// Why the operator cannot start or go on.
#[derive(Debug, Error)]
pub enum Error {
    /// No API server.
    #[error(transparent)]
    ApiServer(#[from] api_server::Error),
    /// No namespace of our own.
    #[error(
        "namespace {namespace} of the operator cannot be read: {why}; create it, or name another by --operator-namespace"
    )]
    Namespace {
        /// Its name.
        namespace: String,
        /// What the API server said.
        why: String,
    },
    /// No place to listen.
    #[error("cannot listen on {address}: {source}; name another address by --listen")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// Another one works now.
    #[error("this process may not work any more: {0}")]
    Lost(#[from] Lost),
    /// No signal handler.
    #[error("cannot handle signals: {0}")]
    Signals(io::Error),
}

/// Runs the operator until SIGTERM or SIGINT.
///
/// # Errors
/// If it cannot start, or if another replica works now.
pub async fn run(arguments: Arguments) -> Result<(), Error> {
    let config = api_server::config().await?;
    let addresses = addresses(&config, &arguments);
    let direct = api_server::connect(config)?;
    let kube = api_server::patient(direct.clone());
    let installation = installation(&kube, &arguments.operator_namespace).await?;
    let listener = server::bind(arguments.listen)
        .await
        .map_err(|source| Error::Listen { address: arguments.listen, source })?;
    let listen = listener.local_addr().unwrap_or(arguments.listen);
    let stop = stop_signal().map_err(Error::Signals)?;
    let watches = controller::watches(&kube, &arguments.namespaces);
    let metrics = Arc::new(Metrics::new());
    let standby = Arc::new(AtomicBool::new(false));
    let surface = server::Surface {
        metrics: metrics.clone(),
        clients: watches.clients.clone(),
        listed: watches.listed.clone(),
        standby: standby.clone(),
    };
    let server = tokio::spawn(server::serve(listener, surface));
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        %listen,
        namespaces = ?arguments.namespaces,
        operator_namespace = arguments.operator_namespace,
        "started"
    );
    let turn = tokio::select! {
        // A Lease that waits with the rest when there is a storm would be lost in it.
        held = elected(direct, &arguments, &standby) => Some(held),
        () = stop.clone() => None,
    };
    let ended = match turn {
        Some(held) => {
            metrics.working.set(1);
            let sessions = Sessions::new(Arc::new(HttpConnect { addresses }), metrics.clone());
            let turn = held.as_ref().map(Held::turn).unwrap_or_default();
            let (context, scopes) = context(kube, sessions, &arguments, installation, watches, metrics, turn);
            let Arguments { namespaces, shutdown_timeout, .. } = arguments;
            let work = |stop| work(context, scopes, namespaces, shutdown_timeout, stop);
            hold(held, work, stop).await.map_err(Error::from)
        }
        None => Ok(()),
    };
    server.abort();
    tracing::info!("stopped");
    ended
}

/// Where registries may not be: at the API server, among others.
fn addresses(config: &Config, arguments: &Arguments) -> AddressPolicy {
    let service = std::env::var("KUBERNETES_SERVICE_HOST").ok().filter(|host| !host.is_empty());
    let api_server = config.cluster_url.host().into_iter().chain(service.as_deref());
    AddressPolicy::new(arguments.allowed_addresses.clone(), api_server)
}

/// Waits until this process may work; at once if it is the only one.
async fn elected(direct: Client, arguments: &Arguments, standby: &AtomicBool) -> Option<Held> {
    if !arguments.leader_election {
        return None;
    }
    let identity = arguments.identity.clone().unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
    tracing::info!(identity, "waiting for the Lease {}", lease::NAME);
    let lease = Lease::new(direct, Clock::system(), &arguments.operator_namespace, identity);
    let held = lease.acquire(|| standby.store(true, Ordering::Relaxed)).await;
    standby.store(false, Ordering::Relaxed);
    tracing::info!("it is this process's turn to work");
    Some(held)
}

/// Works for as long as the Lease is held, and lets it go in the end. Where it is lost, running passes come to their end: what they
/// have in hand is worth more than a moment with two that work. No Lease: this process is the only one.
///
/// # Errors
/// If the Lease was lost.
pub async fn hold<F: Future<Output = ()>>(
    held: Option<Held>,
    work: impl FnOnce(Stop) -> F,
    stop: Stop,
) -> Result<(), Lost> {
    let Some(mut held) = held else {
        work(stop).await;
        return Ok(());
    };
    let (tell, told) = tokio::sync::oneshot::channel::<()>();
    let stop = async move {
        tokio::select! { () = stop => {}, _ = told => {} }
    };
    let mut work = pin!(work(stop.boxed().shared()));
    let lost = tokio::select! {
        () = &mut work => None,
        lost = held.keep() => Some(lost),
    };
    let Some(lost) = lost else {
        held.release().await;
        return Ok(());
    };
    tracing::error!(%lost, "stopping");
    drop(tell);
    work.await;
    Err(lost)
}

/// What all passes share, and what wakes them.
fn context(
    kube: Client,
    sessions: Sessions,
    arguments: &Arguments,
    installation: String,
    watches: Watches,
    metrics: Arc<Metrics>,
    turn: Turn,
) -> (Arc<Context>, Vec<Scope>) {
    let context = Context {
        reporter: Reporter { controller: FIELD_MANAGER.into(), instance: None },
        clock: Clock::system(),
        sessions,
        registries: watches.registries,
        settings: Settings {
            operator_namespace: arguments.operator_namespace.clone(),
            settle_time: arguments.settle_time,
            deletion_timeout: arguments.deletion_timeout,
            registry_hosts: arguments.namespaced_registry_hosts.clone(),
        },
        nonces: Box::new(|| uuid::Uuid::new_v4().simple().to_string()),
        clients: watches.clients,
        looks: Looks::default(),
        misses: Misses::default(),
        backoff: Backoff::default(),
        lanes: Lanes::new(usize::from(arguments.concurrency)),
        installation,
        metrics,
        turn,
        kube,
    };
    (Arc::new(context), watches.scopes)
}

/// Passes, rounds and the sweep. When it is time to stop, passes come to their end, within so long; the others have nothing in hand.
pub async fn work(
    context: Arc<Context>,
    scopes: Vec<Scope>,
    namespaces: Vec<String>,
    shutdown_timeout: Duration,
    stop: Stop,
) {
    let mut beside = JoinSet::new();
    beside.spawn(sweep::run(context.clone(), namespaces.clone()));
    beside.spawn(rounds::run(context.clone(), namespaces));
    let passes = controller::run(context, scopes, stop.clone());
    let beside = async {
        tokio::select! {
            () = stop.clone() => beside.shutdown().await,
            // Neither ends by itself.
            Some(Err(ended)) = beside.join_next() => {
                if let Ok(panic) = ended.try_into_panic() {
                    resume_unwind(panic);
                }
            }
        }
        future::pending::<()>().await;
    };
    tokio::select! {
        () = bounded(passes, stop.clone(), shutdown_timeout) => {}
        () = beside => {}
    }
}

async fn installation(kube: &Client, namespace: &str) -> Result<String, Error> {
    let namespaces: Api<Namespace> = Api::all(kube.clone());
    let found = namespaces
        .get_metadata(namespace)
        .await
        .map_err(|error| Error::Namespace { namespace: namespace.into(), why: error.to_string() })?;
    Ok(found.metadata.uid.unwrap_or_default())
}

/// Resolves when it is time to stop.
pub type Stop = Shared<future::BoxFuture<'static, ()>>;

/// Resolves at the first SIGTERM or SIGINT; a second one ends the process at once.
fn stop_signal() -> io::Result<Stop> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let (told, stop) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        tracing::info!("stopping: running passes come to their end");
        // If nobody listens any more, the process is ending anyway.
        let _ = told.send(());
        tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        tracing::warn!("told twice: stopping at once");
        std::process::exit(1);
    });
    Ok(async move { drop(stop.await) }.boxed().shared())
}

/// A controller whose first list never succeeded does not end by itself, so there is a deadline.
async fn bounded(passes: impl Future<Output = ()>, stop: Stop, timeout: Duration) {
    let deadline = async {
        stop.await;
        tokio::time::sleep(timeout).await;
    };
    tokio::select! {
        () = passes => {}
        () = deadline => tracing::warn!(?timeout, "passes still run; they are left as after a crash"),
    }
}
