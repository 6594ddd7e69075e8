//! `OAuthRegistry` and `ClusterOAuthRegistry`: where clients are registered, and how to talk to it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{CustomResource, KubeSchema, ResourceExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Condition, Duration, RegistryKind, WebUri};

/// A registry for the clients of its own namespace.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "oauth-operator.io",
    version = "v1alpha1",
    kind = "OAuthRegistry",
    plural = "oauthregistries",
    namespaced,
    status = "RegistryStatus",
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
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason"
    ),
    printcolumn(name = "Clients", type_ = "integer", json_path = ".status.clients"),
    printcolumn(name = "Account", type_ = "string", json_path = ".status.accountId"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = connection_rules()))]
pub struct OAuthRegistrySpec {
    /// Which registry, and how to talk to it.
    #[serde(flatten)]
    pub connection: RegistryConnection,
    /// What clients may ask for here. A client that is outside is not registered or changed; one that exists stays as it is. Absent: no
    /// limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guardrails: Option<Guardrails>,
}

/// A registry of the platform, usable from the namespaces that it allows.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "oauth-operator.io",
    version = "v1alpha1",
    kind = "ClusterOAuthRegistry",
    plural = "clusteroauthregistries",
    status = "RegistryStatus",
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
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason"
    ),
    printcolumn(name = "Clients", type_ = "integer", json_path = ".status.clients"),
    printcolumn(name = "Account", type_ = "string", json_path = ".status.accountId"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = connection_rules()))]
pub struct ClusterOAuthRegistrySpec {
    /// Which registry, and how to talk to it.
    #[serde(flatten)]
    pub connection: RegistryConnection,
    /// What clients may ask for here. A client that is outside is not registered or changed; one that exists stays as it is. Absent: no
    /// limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guardrails: Option<Guardrails>,
    /// The namespaces whose clients may use this registry, by their labels. Absent: none. `{}`: all. A client that loses its
    /// permission is no longer changed, but is still deregistered when it is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_namespaces: Option<NamespaceSelector>,
}

/// What the objects of both kinds say.
pub trait DescribesRegistry: ResourceExt {
    /// Its kind.
    fn registry_kind(&self) -> RegistryKind;
    /// Which registry, and how to talk to it.
    fn connection(&self) -> &RegistryConnection;
    /// What clients may ask for.
    fn guardrails(&self) -> Option<&Guardrails>;
    /// What the operator has told of it.
    fn told(&self) -> Option<&RegistryStatus>;
}

macro_rules! describes_registry {
    ($($kind:ident),*) => {$(
        impl DescribesRegistry for $kind {
            fn registry_kind(&self) -> RegistryKind {
                RegistryKind::$kind
            }

            fn connection(&self) -> &RegistryConnection {
                &self.spec.connection
            }

            fn guardrails(&self) -> Option<&Guardrails> {
                self.spec.guardrails.as_ref()
            }

            fn told(&self) -> Option<&RegistryStatus> {
                self.status.as_ref()
            }
        }
    )*};
}

describes_registry!(OAuthRegistry, ClusterOAuthRegistry);

/// What the clients of a registry may ask for. A field that is limited here must be declared by each client: `[]` for none.
// Its lists are atomic: server-side apply makes an emptied set absent, which would lift the limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Guardrails {
    /// The hosts that redirect URIs may have, those after a logout too: `portal.example.com`, or `*.example.com` for every name below.
    /// Loopback hosts of public clients count as others, and a URI without a host is not allowed. Absent: any. `[]`: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(max = 253), regex(pattern = r"^(([*][.])?[a-z0-9_]([a-z0-9._-]*[a-z0-9])?|[\[][0-9a-f:.]+[\]])$")), extend("x-kubernetes-list-type" = "atomic"))]
    pub allowed_redirect_hosts: Option<Vec<String>>,
    /// The grant types. Absent: any. `[]`: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 128)), extend("x-kubernetes-list-type" = "atomic"))]
    pub allowed_grant_types: Option<Vec<String>>,
    /// The scopes, as the registry takes them. A `*` for all of them, as at Cal.com, counts as all. Absent: any. `[]`: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128), inner(length(min = 1, max = 128)), extend("x-kubernetes-list-type" = "atomic"))]
    pub allowed_scopes: Option<Vec<String>>,
}

/// Namespaces by their labels.
pub type NamespaceSelector = LabelSelector;

/// What the operator last found at a registry. Derived: losing it loses nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegistryStatus {
    /// The `metadata.generation` that this status speaks of.
    #[serde(default)]
    #[schemars(range(min = -1))]
    pub observed_generation: i64,
    /// How many `OAuthClient`s use it. Counted once in a `driftInterval`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clients: Option<u32>,
    /// What it can do for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<RegistryCapabilities>,
    /// The organisation or user that the credentials open, where the registry tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub account_id: Option<String>,
    /// `Ready`: whether the registry answers and, where it lists its clients, shows ours and may be believed. `Reconciling` and `Stalled`
    /// only while true.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// What a registry can do for its clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegistryCapabilities {
    /// How a client secret is rotated: `Overlap`, `Replace` or `Recreate`; `None` where it cannot be.
    #[schemars(length(max = 64))]
    pub rotation: String,
    /// Whether a client can be changed; otherwise a change needs a new one. With dynamic registration, where the server does RFC 7592.
    pub updates: bool,
    /// Whether the client of a registration whose reply was lost is found again.
    pub finds_lost_registrations: bool,
    /// Whether it shows a client's secret again.
    pub shows_secrets: bool,
}

/// The members of which exactly one says which registry it is.
const KINDS: [&str; 5] = ["calCom", "dynamicRegistration", "meteroid", "teable", "telnyx"];

fn connection_rules() -> Value {
    let one = KINDS.map(|kind| format!("has(self.{kind})")).join(", ");
    let same = KINDS.map(|kind| format!("has(self.{kind}) == has(oldSelf.{kind})")).join(" && ");
    let urls = KINDS
        .into_iter()
        .filter(|kind| *kind != "dynamicRegistration")
        .map(|kind| format!("(has(self.{kind}) && self.{kind}.url.startsWith('http://'))"));
    let plain = urls.collect::<Vec<_>>().join(" || ");
    json!([
        {"rule": format!("[{one}].filter(is, is).size() == 1"),
         "message": format!("say which registry this is: set exactly one of {}", KINDS.join(", "))},
        {"rule": same, "message": "a registry cannot become one of another kind: make a new one"},
        {"rule": "!has(self.driftInterval) || duration(self.driftInterval) >= duration('10s')",
         "message": "must be at least 10s", "fieldPath": ".driftInterval"},
        {"rule": "!has(self.timeout) || (duration(self.timeout) >= duration('1s') && duration(self.timeout) <= duration('60s'))",
         "message": "must be from 1s to 60s", "fieldPath": ".timeout"},
        {"rule": "(has(self.insecureHttp) && self.insecureHttp) || !has(self.dynamicRegistration) \
            || (!(has(self.dynamicRegistration.issuer) && self.dynamicRegistration.issuer.startsWith('http://')) \
            && !(has(self.dynamicRegistration.registrationEndpoint) && self.dynamicRegistration.registrationEndpoint.startsWith('http://')))",
         "message": HTTP, "fieldPath": ".dynamicRegistration"},
        {"rule": format!("(has(self.insecureHttp) && self.insecureHttp) || !({plain})"), "message": HTTP},
    ])
}

const HTTP: &str = "http:// sends secrets in the clear: use https://, or set insecureHttp: true to allow it";

/// Which registry, and how to talk to it: what both kinds share.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegistryConnection {
    /// Cal.com: the OAuth clients of a platform organisation, by API v2. Cal.com has declared that API deprecated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cal_com: Option<CalCom>,
    /// A server of RFC 7591 (Dynamic Client Registration), and of RFC 7592 where it can manage what it registered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dynamic_registration: Option<DynamicRegistration>,
    /// Meteroid, hosted: the OAuth apps of an organisation. Connect must be enabled there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meteroid: Option<Meteroid>,
    /// Teable, in the cloud or self-hosted: the OAuth apps of a user, who should be the operator's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teable: Option<Teable>,
    /// Telnyx: the OAuth clients of an account, by API v2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub telnyx: Option<Telnyx>,
    /// How often each client is compared with what the registry has, and its Secret with the record. At least 10s; default 10m. Where a
    /// registry lists its clients, one list serves all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift_interval: Option<Duration>,
    /// How long one request may take in all. 1s to 60s; default 10s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// How many requests the registry may get, over all its clients. Default: at Cal.com the 120 a minute that it publishes; elsewhere
    /// no limit but the registry's own answers.
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

/// Cal.com: the OAuth clients of a platform organisation (API v2, which Cal.com has declared deprecated).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CalCom {
    /// Where the API is, without `/v2`. Default: `https://api.cal.com`.
    #[serde(default = "cal_com_url")]
    #[schemars(regex(pattern = r"^https?://[^/?#@\s]+(/[^?#\s]*)?$"))]
    pub url: WebUri,
    /// The API key of an owner or admin of the organisation. It can read every client secret there. It is in a Secret
    /// of this object's namespace, for a `ClusterOAuthRegistry` of the operator's. A changed one is picked up within a minute.
    pub credentials_secret_ref: SecretKeyRef,
}

fn cal_com_url() -> WebUri {
    WebUri("https://api.cal.com".into())
}

/// Telnyx: the OAuth clients of an account (API v2).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Telnyx {
    /// Where the API is, with `/v2`. Default: `https://api.telnyx.com/v2`.
    #[serde(default = "telnyx_url")]
    #[schemars(regex(pattern = r"^https?://[^/?#@\s]+(/[^?#\s]*)?$"))]
    pub url: WebUri,
    /// The API key of a user that nothing else uses, since Telnyx lists the clients of a user. It is in a Secret
    /// of this object's namespace, for a `ClusterOAuthRegistry` of the operator's. A changed one is picked up within a minute.
    pub credentials_secret_ref: SecretKeyRef,
}

fn telnyx_url() -> WebUri {
    WebUri("https://api.telnyx.com/v2".into())
}

/// Teable, in the cloud or self-hosted: the OAuth apps of a user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Teable {
    /// Where Teable is, without `/api`. Default: the cloud, `https://app.teable.ai`.
    #[serde(default = "teable_url")]
    #[schemars(regex(pattern = r"^https?://[^/?#@\s]+(/[^?#\s]*)?$"))]
    pub url: WebUri,
    /// How the operator authenticates at Teable: `Password`, it signs in with e-mail address and password of a user; or `Bearer`, it
    /// sends an access token. Start with `Password`: servers up to 2025 refuse access tokens for OAuth apps with 403.
    pub authentication: TeableAuthentication,
    /// The credentials: a Secret of this object's namespace, for a `ClusterOAuthRegistry` of the operator's. A changed one is
    /// picked up within a minute.
    pub credentials_secret_ref: TeableCredentialsRef,
}

fn teable_url() -> WebUri {
    WebUri("https://app.teable.ai".into())
}

/// How the operator authenticates at Teable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum TeableAuthentication {
    /// By an access token, as Teable documents it. Servers up to 2025 refuse it with 403 for OAuth apps, and the condition says so.
    Bearer,
    /// By signing in with e-mail and password of a user of its own; the session is kept in memory and renewed.
    Password,
}

/// Where the credentials for Teable are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TeableCredentialsRef {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// The key of the access token, for `Bearer`.
    #[serde(default = "token_key")]
    #[schemars(length(min = 1, max = 253))]
    pub token_key: String,
    /// The key of the e-mail address, for `Password`.
    #[serde(default = "email_key")]
    #[schemars(length(min = 1, max = 253))]
    pub email_key: String,
    /// The key of the password, for `Password`.
    #[serde(default = "password_key")]
    #[schemars(length(min = 1, max = 253))]
    pub password_key: String,
}

fn email_key() -> String {
    "email".into()
}

fn password_key() -> String {
    "password".into()
}

/// Meteroid, hosted: the OAuth apps of an organisation. Connect must be enabled there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Meteroid {
    /// Where the API is, without `/api`. Default: `https://api.meteroid.com`.
    #[serde(default = "meteroid_url")]
    #[schemars(regex(pattern = r"^https?://[^/?#@\s]+(/[^?#\s]*)?$"))]
    pub url: WebUri,
    /// An API key of the environment that the apps are to belong to. It is in a Secret
    /// of this object's namespace, for a `ClusterOAuthRegistry` of the operator's. A changed one is picked up within a minute.
    pub credentials_secret_ref: SecretKeyRef,
}

fn meteroid_url() -> WebUri {
    WebUri("https://api.meteroid.com".into())
}

/// Which registry it is, and what only that one needs to be told.
#[derive(Clone, Copy, Debug)]
#[expect(missing_docs, reason = "each is the member of `RegistryConnection` of the same name")]
pub enum Provider<'a> {
    CalCom(&'a CalCom),
    DynamicRegistration(&'a DynamicRegistration),
    Meteroid(&'a Meteroid),
    Teable(&'a Teable),
    Telnyx(&'a Telnyx),
}

/// Where the credentials of a registry are: a Secret, and the keys in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each says what it is")]
pub enum CredentialsRef<'a> {
    Bearer { name: &'a str, key: &'a str },
    Password { name: &'a str, user_key: &'a str, password_key: &'a str },
}

impl RegistryConnection {
    /// Which registry it is; `None` if it is one that this version does not know.
    pub fn provider(&self) -> Option<Provider<'_>> {
        let members = [
            self.cal_com.as_ref().map(Provider::CalCom),
            self.dynamic_registration.as_ref().map(Provider::DynamicRegistration),
            self.meteroid.as_ref().map(Provider::Meteroid),
            self.teable.as_ref().map(Provider::Teable),
            self.telnyx.as_ref().map(Provider::Telnyx),
        ];
        members.into_iter().flatten().next()
    }

    /// The URLs that it names.
    pub fn urls(&self) -> impl Iterator<Item = &str> {
        let named = match self.provider() {
            Some(
                Provider::CalCom(CalCom { url, .. })
                | Provider::Meteroid(Meteroid { url, .. })
                | Provider::Teable(Teable { url, .. })
                | Provider::Telnyx(Telnyx { url, .. }),
            ) => [Some(url), None],
            Some(Provider::DynamicRegistration(server)) => {
                [server.issuer.as_ref(), server.registration_endpoint.as_ref()]
            }
            None => [None, None],
        };
        named.into_iter().flatten().chain(&self.proxy_url).map(|WebUri(url)| url.as_str())
    }

    /// Where its credentials are; `None` if it needs none.
    pub fn credentials(&self) -> Option<CredentialsRef<'_>> {
        match self.provider()? {
            Provider::CalCom(CalCom { credentials_secret_ref, .. })
            | Provider::Meteroid(Meteroid { credentials_secret_ref, .. })
            | Provider::Telnyx(Telnyx { credentials_secret_ref, .. }) => Some(credentials_secret_ref.into()),
            Provider::DynamicRegistration(server) => {
                server.initial_access_token_secret_ref.as_ref().map(CredentialsRef::from)
            }
            Provider::Teable(teable) => Some(teable.credentials()),
        }
    }
}

impl Teable {
    fn credentials(&self) -> CredentialsRef<'_> {
        let TeableCredentialsRef { name, token_key, email_key, password_key } = &self.credentials_secret_ref;
        match self.authentication {
            TeableAuthentication::Bearer => CredentialsRef::Bearer { name, key: token_key },
            TeableAuthentication::Password => {
                CredentialsRef::Password { name, user_key: email_key, password_key }
            }
        }
    }
}

impl<'a> From<&'a SecretKeyRef> for CredentialsRef<'a> {
    fn from(SecretKeyRef { name, key }: &'a SecretKeyRef) -> Self {
        Self::Bearer { name, key }
    }
}

impl<'a> CredentialsRef<'a> {
    /// The Secret's name.
    pub fn name(self) -> &'a str {
        match self {
            Self::Bearer { name, .. } | Self::Password { name, .. } => name,
        }
    }

    /// The keys that it must have.
    pub fn keys(self) -> Vec<&'a str> {
        match self {
            Self::Bearer { key, .. } => vec![key],
            Self::Password { user_key, password_key, .. } => vec![user_key, password_key],
        }
    }
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
    /// What to do when nobody can tell whether a registration happened, for this protocol has no way to look: `Retry` (default)
    /// registers again, twice at most, and counts what may be left behind; `Halt` waits for a person.
    #[serde(default)]
    pub unknown_outcome: UnknownOutcome,
    /// Whether clients are read to find changes made by others: `Auto` (default), as long as no read returns a new registration token;
    /// or `Never`.
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
