//! The way to the API server.

use std::{sync::Arc, time::Duration};

use http::{
    HeaderMap, Request, Response, StatusCode,
    header::{HeaderValue, RETRY_AFTER, USER_AGENT},
};
use kube::{Client, Config, client::Body};
use thiserror::Error;
use tower::service_fn;

use crate::registry::limiter::Limiter;

/// The API server asks for a second; whatever stands before it may ask for more.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// Why there is no way to the API server.
#[derive(Debug, Error)]
#[error("no way to the API server: {0}; set KUBECONFIG, or run in a pod with a service account")]
pub struct Error(String);

/// Where the API server is, and who we are there.
///
/// # Errors
/// If neither a kubeconfig nor a service account says so.
pub async fn config() -> Result<Config, Error> {
    Config::infer().await.map_err(|error| Error(error.to_string()))
}

/// The way to the API server, on which nothing is repeated.
///
/// # Errors
/// If the configuration cannot be used.
pub fn connect(mut config: Config) -> Result<Client, Error> {
    // A write that is repeated below us would blur what is known about its outcome.
    config.default_retry = false;
    let agent = HeaderValue::from_static(concat!("oauth-operator/", env!("CARGO_PKG_VERSION")));
    config.headers.push((USER_AGENT, agent));
    Client::try_from(config).map_err(|error| Error(error.to_string()))
}

/// The same way to the API server, taken only when it wants to be asked.
pub fn patient(client: Client) -> Client {
    let (namespace, pause) = (client.default_namespace().to_owned(), Arc::new(Limiter::new(None)));
    let patient = service_fn(move |request| patiently(client.clone(), pause.clone(), request));
    Client::new(patient, namespace)
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
