//! Puts the parts together and runs them until the process is told to end.

use std::{io, sync::Arc, time::Duration};

use futures::{FutureExt, future::Shared};
use http::{
    HeaderMap, Request, Response, StatusCode,
    header::{HeaderValue, RETRY_AFTER, USER_AGENT},
};
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client, Config, client::Body, runtime::events::Reporter};
use thiserror::Error;
use tokio::signal::unix::{SignalKind, signal};
use tower::service_fn;

use crate::{
    api::FIELD_MANAGER,
    clock::Clock,
    controller,
    metrics::Metrics,
    reconcile::{Context, Looks, Settings, backoff::Backoff, lanes::Lanes, look::Misses},
    registry::{Sessions, http::HttpConnect, limiter::Limiter},
    rounds, server,
    settings::Arguments,
    sweep,
};

/// The API server asks for a second; whatever stands before it may ask for more.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// Why the operator cannot start or go on.
#[derive(Debug, Error)]
pub enum Error {
    /// No API server.
    #[error("no way to the API server: {0}; set KUBECONFIG, or run in a pod with a service account")]
    Kubeconfig(String),
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
    /// No signal handler.
    #[error("cannot handle signals: {0}")]
    Signals(io::Error),
}

/// Runs the operator until SIGTERM or SIGINT.
///
/// # Errors
/// If it cannot start.
pub async fn run(mut arguments: Arguments) -> Result<(), Error> {
    arguments.namespaces.retain(|namespace| !namespace.is_empty());
    let kube = connect().await?;
    let installation = installation(&kube, &arguments.operator_namespace).await?;
    let listener = server::bind(arguments.listen)
        .await
        .map_err(|source| Error::Listen { address: arguments.listen, source })?;
    let listen = listener.local_addr().unwrap_or(arguments.listen);
    let stop = stop_signal().map_err(Error::Signals)?;
    let watches = controller::watches(&kube, &arguments.namespaces);
    let metrics = Arc::new(Metrics::new());
    let surface = server::Surface {
        metrics: metrics.clone(),
        clients: watches.clients.clone(),
        listed: watches.listed,
    };
    let context = Arc::new(Context {
        reporter: Reporter { controller: FIELD_MANAGER.into(), instance: None },
        clock: Clock::system(),
        sessions: Sessions::new(Arc::new(HttpConnect), metrics.clone()),
        registries: watches.registries,
        settings: Settings {
            operator_namespace: arguments.operator_namespace.clone(),
            settle_time: arguments.settle_time,
            deletion_timeout: arguments.deletion_timeout,
        },
        nonces: Box::new(|| uuid::Uuid::new_v4().simple().to_string()),
        clients: watches.clients.clone(),
        looks: Looks::default(),
        misses: Misses::default(),
        backoff: Backoff::default(),
        lanes: Lanes::new(usize::from(arguments.concurrency)),
        installation,
        metrics,
        kube,
    });
    let server = tokio::spawn(server::serve(listener, surface));
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        %listen,
        namespaces = ?arguments.namespaces,
        operator_namespace = arguments.operator_namespace,
        "started"
    );
    let sweep = tokio::spawn(sweep::run(context.clone(), arguments.namespaces.clone()));
    let rounds = tokio::spawn(rounds::run(context.clone(), arguments.namespaces));
    let passes = controller::run(context, watches.scopes, stop.clone());
    bounded(passes, stop, arguments.shutdown_timeout).await;
    sweep.abort();
    rounds.abort();
    server.abort();
    tracing::info!("stopped");
    Ok(())
}

async fn connect() -> Result<Client, Error> {
    let wrong = |error: &dyn std::fmt::Display| Error::Kubeconfig(error.to_string());
    let mut config = Config::infer().await.map_err(|e| wrong(&e))?;
    // A write that is repeated below us would blur what is known about its outcome.
    config.default_retry = false;
    let agent = HeaderValue::from_static(concat!("oauth-operator/", env!("CARGO_PKG_VERSION")));
    config.headers.push((USER_AGENT, agent));
    let client = Client::try_from(config).map_err(|e| wrong(&e))?;
    let (namespace, pause) = (client.default_namespace().to_owned(), Arc::new(Limiter::new(None)));
    let patient = service_fn(move |request| patiently(client.clone(), pause.clone(), request));
    Ok(Client::new(patient, namespace))
}

/// Sends a request once, and not before the API server wants one again: its priority and fairness says when (429).
async fn patiently(
    client: Client,
    pause: Arc<Limiter>,
    request: Request<Body>,
) -> kube::Result<Response<Body>> {
    while let Err(wait) = pause.open() {
        tokio::time::sleep(wait).await;
    }
    let response = client.send(request).await?;
    if response.status() == StatusCode::TOO_MANY_REQUESTS
        && let Some(wait) = retry_after(response.headers())
    {
        pause.close(wait.min(LONGEST_PAUSE));
    }
    Ok(response)
}

/// In seconds: API servers give no date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok().map(Duration::from_secs)
}

async fn installation(kube: &Client, namespace: &str) -> Result<String, Error> {
    let namespaces: Api<Namespace> = Api::all(kube.clone());
    let found = namespaces
        .get_metadata(namespace)
        .await
        .map_err(|error| Error::Namespace { namespace: namespace.into(), why: error.to_string() })?;
    Ok(found.metadata.uid.unwrap_or_default())
}

type Stop = Shared<futures::future::BoxFuture<'static, ()>>;

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
