//! What is counted, under names that `docs/metrics.md` lists. No label ever holds the name of an object.

use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
        info::Info,
    },
    registry::{Registry, Unit},
};

/// Labels of a request to a registry.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    /// What was asked: `discover`, `register`, `read`, …; `docs/metrics.md` lists them.
    pub operation: &'static str,
    /// The HTTP status, 0 if there was no reply.
    pub code: u16,
}

/// Labels of a pass.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReconcileLabels {
    /// How it ended: `settled`, `waiting`, `refused` or `error`.
    pub result: &'static str,
}

/// Labels of the clients.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReadyLabels {
    /// The status of the condition `Ready`: `True`, `False` or `Unknown`.
    pub ready: &'static str,
}

/// All metrics of the operator.
#[derive(Default)]
pub struct Metrics {
    /// Passes, by how they ended.
    pub reconciles: Family<ReconcileLabels, Counter>,
    /// How long passes took.
    pub reconcile_seconds: Seconds,
    /// Requests to registries.
    pub registry_requests: Family<RequestLabels, Counter>,
    /// How long requests to registries took.
    pub registry_request_seconds: Seconds,
    /// Clients, by readiness. Set when the metrics are read.
    pub clients: Family<ReadyLabels, Gauge>,
    /// Registrations whose outcome nobody knows, among the objects that exist. Set when the metrics are read.
    pub suspected_orphans: Gauge,
    /// Whether this process works: 1, or 0 while another replica does.
    pub working: Gauge,
    /// Deletions that ended without the registry being told.
    pub abandoned: Counter,
    /// Clients that bore our mark and that nobody needed, removed at registries that list their clients.
    pub swept: Counter,
}

/// A histogram of durations, 5 ms to 80 s.
#[derive(Clone)]
pub struct Seconds(Histogram);

impl Default for Seconds {
    fn default() -> Self {
        Self(Histogram::new(exponential_buckets(0.005, 2.0, 15)))
    }
}

impl Seconds {
    /// Notes a duration in seconds.
    pub fn observe(&self, seconds: f64) {
        self.0.observe(seconds);
    }
}

impl Metrics {
    /// Zeroes for every label value that is known beforehand, so that a rate has a beginning.
    pub fn new() -> Self {
        let metrics = Self::default();
        for result in ["settled", "waiting", "refused", "error"] {
            drop(metrics.reconciles.get_or_create(&ReconcileLabels { result }));
        }
        for ready in ["True", "False", "Unknown"] {
            drop(metrics.clients.get_or_create(&ReadyLabels { ready }));
        }
        metrics
    }

    /// The metrics in the `OpenMetrics` text format.
    ///
    /// # Errors
    /// If formatting fails, which a `String` does not.
    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut registry = Registry::with_prefix("oauth_operator");
        let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The version that runs", version);
        registry.register("reconciles", "Passes over an OAuthClient", self.reconciles.clone());
        registry.register_with_unit(
            "reconcile",
            "How long passes over an OAuthClient took",
            Unit::Seconds,
            self.reconcile_seconds.0.clone(),
        );
        registry.register("registry_requests", "Requests to registries", self.registry_requests.clone());
        registry.register_with_unit(
            "registry_request",
            "How long requests to registries took",
            Unit::Seconds,
            self.registry_request_seconds.0.clone(),
        );
        registry.register(
            "working",
            "Whether this process works, or waits for the Lease",
            self.working.clone(),
        );
        registry.register("clients", "OAuthClients by the status of Ready", self.clients.clone());
        registry.register(
            "suspected_orphans",
            "Registrations of existing OAuthClients whose outcome is unknown",
            self.suspected_orphans.clone(),
        );
        registry.register(
            "abandoned",
            "Deletions that ended without the registry being told",
            self.abandoned.clone(),
        );
        registry.register(
            "swept",
            "Clients of ours that nobody needed, removed at registries",
            self.swept.clone(),
        );
        let mut text = String::new();
        encode(&mut text, &registry)?;
        Ok(text)
    }
}
