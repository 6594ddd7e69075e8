//! The HTTP client of the tests themselves.

use std::sync::Once;
use std::time::Duration;

/// The process-wide TLS provider, which both kube and reqwest want to find before they are first used.
pub fn install_tls_provider() {
    static ONCE: Once = Once::new();
    // Somebody may have installed one by other means: that one stays.
    ONCE.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
}

/// A client that goes straight to loopback, follows nothing and never hangs.
///
/// One a test: it belongs to the runtime in which it was first used.
pub fn client() -> reqwest::Client {
    install_tls_provider();
    reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(Duration::from_secs(10))
        .build()
        .expect("an HTTP client")
}

/// The text at `url`, if the answer is a 2xx; what went wrong otherwise.
pub async fn get(url: &str) -> Result<String, String> {
    text(client().get(url)).await
}

/// Sends a request and returns the text of its answer, if that is a 2xx; what went wrong otherwise.
pub async fn text(request: reqwest::RequestBuilder) -> Result<String, String> {
    let response = request.send().await.map_err(|error| format!("{error:?}"))?;
    let (status, url) = (response.status(), response.url().clone());
    let body = response.text().await.map_err(|error| format!("{error:?}"))?;
    if status.is_success() { Ok(body) } else { Err(format!("{url}: {status}: {body}")) }
}
