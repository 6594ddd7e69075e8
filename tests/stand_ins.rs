//! The providers' stand-ins behind a socket, and the manifests that the promises about them start from.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{
    World,
    providers::{Fake, place::Place, server::Served},
    site::{extend, serve_new},
};

/// The shortest drift interval that the API allows.
pub const INTERVAL: Duration = Duration::from_secs(10);

/// A provider's stand-in that is being served.
pub struct StandIn<P> {
    /// What happens there, and what happened.
    pub fake: Fake<P>,
    /// Where it is.
    pub served: Served,
}

impl<P: Place> StandIn<P> {
    /// Starts one.
    pub async fn start() -> Self {
        let (fake, served) = serve_new().await;
        Self { fake, served }
    }

    /// Makes it usable in a world.
    pub async fn use_in(&self, world: &World) {
        world.put_credentials(P::SLUG, &P::credentials()).await;
        world.apply(self.registry()).await;
    }

    /// The registry object: it looks for drift as often as the API allows.
    pub fn registry(&self) -> Value {
        registry::<P>(self.served.url())
    }
}

/// A registry object for what stands in at this URL.
pub fn registry<P: Place>(url: &str) -> Value {
    let mut spec = json!({"insecureHttp": true, "driftInterval": "10s", "timeout": "2s"});
    extend(&mut spec, &P::registry(url, P::SLUG));
    json!({
        "apiVersion": "oauth-operator.io/v1alpha1",
        "kind": "OAuthRegistry",
        "metadata": {"name": P::SLUG},
        "spec": spec,
    })
}

/// A client of this name there.
pub fn client<P: Place>(name: &str) -> Value {
    let mut spec = json!({
        "registryRef": {"name": P::SLUG},
        "clientName": "Booking portal",
        "redirectUris": ["https://app.example.com/callback"],
    });
    extend(&mut spec, &P::spec());
    json!({
        "apiVersion": "oauth-operator.io/v1alpha1",
        "kind": "OAuthClient",
        "metadata": {"name": name},
        "spec": spec,
    })
}

/// Names of clients: `app-0`, `app-1` …
pub fn names(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|number| format!("app-{number}"))
}
