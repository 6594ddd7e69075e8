//! What the platform asks of the process: is it alive, is it ready, what did it count.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::get,
};
use kube::runtime::reflector::Store;
use tokio::net::TcpListener;

use crate::{
    api::{ConditionStatus, OAuthClient, conditions},
    metrics::{Metrics, ReadyLabels},
    reconcile::{Listed, intent::Intent},
};

/// What the answers are made from.
pub struct Surface {
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The clients, as watched.
    pub clients: Vec<Store<OAuthClient>>,
    /// Which of the watches have listed their objects once.
    pub listed: Vec<Listed>,
    /// Whether another replica works, and this one waits to take over.
    pub standby: Arc<AtomicBool>,
}

/// Opens the socket.
///
/// # Errors
/// If the address cannot be bound.
pub async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Serves `/livez`, `/readyz` and `/metrics` until the process ends.
///
/// # Errors
/// If the listener fails.
pub async fn serve(listener: TcpListener, surface: Surface) -> std::io::Result<()> {
    let router = Router::new()
        .route("/livez", get(|| async { "ok" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(Arc::new(surface));
    axum::serve(listener, router).await
}

/// Ready means that every kind was listed once, or that it is another one's turn to work. A missing CRD therefore means "not ready", and never a restart.
async fn ready(State(surface): State<Arc<Surface>>) -> (StatusCode, &'static str) {
    if surface.standby.load(Ordering::Relaxed) || surface.listed.iter().all(|listed| *listed.borrow()) {
        (StatusCode::OK, "ok")
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            "the objects were not listed yet; are the CRDs installed? the log says more",
        )
    }
}

async fn metrics(State(surface): State<Arc<Surface>>) -> Response {
    surface.count();
    match surface.metrics.encode() {
        Ok(text) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(CONTENT_TYPE, kind)], text).into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

impl Surface {
    /// Counts the clients as they stand now.
    fn count(&self) {
        let (mut readiness, mut suspects) = ([0_i64; 3], 0_usize);
        for client in self.clients.iter().flat_map(Store::state) {
            let conditions = client.status.as_ref().map_or(&[][..], |status| &status.conditions);
            let ready = conditions::find(conditions, conditions::READY).map(|condition| condition.status);
            readiness[match ready {
                Some(ConditionStatus::True) => 0,
                Some(ConditionStatus::False) => 1,
                Some(ConditionStatus::Unknown) | None => 2,
            }] += 1;
            suspects += Intent::of(&client).map_or(0, |intent| intent.suspects.len());
        }
        for (ready, count) in ["True", "False", "Unknown"].into_iter().zip(readiness) {
            self.metrics.clients.get_or_create(&ReadyLabels { ready }).set(count);
        }
        self.metrics.suspected_orphans.set(i64::try_from(suspects).unwrap_or(i64::MAX));
    }
}
