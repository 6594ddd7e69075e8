//! `OAuthRegistry` and `ClusterOAuthRegistry`: where clients are registered, and how to talk to it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Duration, WebUri};

/// A registry for the clients of its own namespace.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "oauth-operator.io",
    version = "v1alpha1",
    kind = "OAuthRegistry",
    plural = "oauthregistries",
    namespaced,
    derive = "PartialEq",
    shortname = "oreg",
    category = "oauth",
    doc = "A registry of OAuth clients, for the OAuthClients of this namespace.",
    printcolumn(name = "Issuer", type_ = "string", json_path = ".spec.dynamicRegistration.issuer"),
    printcolumn(
        name = "Endpoint",
        type_ = "string",
        json_path = ".spec.dynamicRegistration.registrationEndpoint",
        priority = "1"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = connection_rules()))]
pub struct OAuthRegistrySpec {
    /// Which registry, and how to talk to it.
    #[serde(flatten)]
    pub connection: RegistryConnection,
}

/// A registry of the platform, usable from the namespaces that it allows.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "oauth-operator.io",
    version = "v1alpha1",
    kind = "ClusterOAuthRegistry",
    plural = "clusteroauthregistries",
    derive = "PartialEq",
    shortname = "coreg",
    category = "oauth",
    doc = "A registry of OAuth clients that the platform owns. Its credentials live in the operator's namespace.",
    printcolumn(name = "Issuer", type_ = "string", json_path = ".spec.dynamicRegistration.issuer"),
    printcolumn(
        name = "Endpoint",
        type_ = "string",
        json_path = ".spec.dynamicRegistration.registrationEndpoint",
        priority = "1"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = connection_rules()))]
pub struct ClusterOAuthRegistrySpec {
    /// Which registry, and how to talk to it.
    #[serde(flatten)]
    pub connection: RegistryConnection,
    /// The namespaces whose clients may use this registry, by their labels. Absent: none. `{}`: all. A client that loses its
    /// permission is no longer changed, but is still deregistered when it is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_namespaces: Option<NamespaceSelector>,
}

/// Namespaces by their labels.
pub type NamespaceSelector = LabelSelector;

fn connection_rules() -> Value {
    json!([
        {"rule": "has(self.dynamicRegistration)", "message": "say which registry this is: set dynamicRegistration"},
        {"rule": "!has(self.driftInterval) || duration(self.driftInterval) >= duration('10s')",
         "message": "must be at least 10s", "fieldPath": ".driftInterval"},
        {"rule": "!has(self.timeout) || (duration(self.timeout) >= duration('1s') && duration(self.timeout) <= duration('60s'))",
         "message": "must be from 1s to 60s", "fieldPath": ".timeout"},
        {"rule": "(has(self.insecureHttp) && self.insecureHttp) || !has(self.dynamicRegistration) \
            || (!(has(self.dynamicRegistration.issuer) && self.dynamicRegistration.issuer.startsWith('http://')) \
            && !(has(self.dynamicRegistration.registrationEndpoint) && self.dynamicRegistration.registrationEndpoint.startsWith('http://')))",
         "message": "http:// sends secrets in the clear: use https://, or set insecureHttp: true to allow it", "fieldPath": ".dynamicRegistration"},
    ])
}

/// Which registry, and how to talk to it: what both kinds share.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegistryConnection {
    /// A server of RFC 7591 (Dynamic Client Registration), and of RFC 7592 where it can manage what it registered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dynamic_registration: Option<DynamicRegistration>,
    /// How often each client is compared with what the registry has, and its Secret with the record. At least 10s; default 10m.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift_interval: Option<Duration>,
    /// How long one request may take in all. 1s to 60s; default 10s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// How many requests the registry may get, over all its clients. Default: no limit but the registry's own answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<RateLimit>,
    /// How to trust the registry's certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// The HTTP proxy on the way to the registry, for example `http://proxy.internal:3128`. Left out: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy_url: Option<WebUri>,
    /// Allows `http://`: secrets then cross the network in the clear. For trying on loopback and for servers in the same cluster.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub insecure_http: bool,
}

/// A server of RFC 7591 and RFC 7592.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.issuer) != has(self.registrationEndpoint)")
    .message("give either issuer (its metadata names the registration endpoint) or registrationEndpoint"))]
pub struct DynamicRegistration {
    /// The issuer, whose metadata (RFC 8414 or OpenID Connect Discovery) names the registration endpoint, on the same origin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^https?://[^/?#@\s]+(/[^?#\s]*)?$"))]
    pub issuer: Option<WebUri>,
    /// The registration endpoint of a server that publishes no metadata.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^https?://[^/?#@\s]+([/?][^#\s]*)?$"))]
    pub registration_endpoint: Option<WebUri>,
    /// The token that authorises a registration (RFC 7591 section 3), if the server wants one. Read again for every registration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial_access_token_secret_ref: Option<SecretKeyRef>,
    /// What to do when nobody can tell whether a registration happened: this protocol has no way to look.
    #[serde(default)]
    pub unknown_outcome: UnknownOutcome,
    /// Whether clients are read to find changes made by others.
    #[serde(default)]
    pub drift_reads: DriftReads,
}

/// What to do when a registration may or may not have happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum UnknownOutcome {
    /// Wait until the lost request must be over, then register again, twice at most. Each may leave an orphan that nobody
    /// holds the secret of; it is counted and named. Then halt.
    #[default]
    Retry,
    /// Wait for a person, who looks at the registry and then sets the annotation that the status names.
    Halt,
}

/// Whether clients are read to find changes made by others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DriftReads {
    /// Every drift interval, until a read returns a new registration token (RFC 7592 section 3): then no more.
    #[default]
    Auto,
    /// Never. Changes made by others stay unseen.
    Never,
}

/// A value in a Secret: of the registry's namespace, or for a `ClusterOAuthRegistry` of the operator's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecretKeyRef {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key in it.
    #[serde(default = "token_key")]
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

fn token_key() -> String {
    "token".into()
}

/// How many requests a registry may get.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RateLimit {
    /// Sustained requests a second.
    #[schemars(range(min = 1, max = 1000))]
    pub requests_per_second: u32,
    /// Requests that may come at once after a quiet time.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = 1000))]
    pub burst: u32,
}

fn one() -> u32 {
    1
}

/// How to trust a registry's certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tls {
    /// PEM certificates of authorities to trust, besides those of the operator's image.
    #[schemars(length(min = 1, max = 65_536))]
    pub ca_bundle: String,
}
