//! `OAuthClient`: one client at one registry.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Condition, Duration, RedirectUri, WebUri};

/// What the client should be at its registry, and where its credentials go. A field that is left out is not managed; an
/// empty one (`[]`, `""`) is managed and empty.
// Its lists are atomic: server-side apply makes an emptied set absent, which would give the field up.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "oauth-operator.io",
    version = "v1alpha1",
    kind = "OAuthClient",
    plural = "oauthclients",
    namespaced,
    status = "OAuthClientStatus",
    derive = "PartialEq",
    shortname = "oac",
    category = "oauth",
    doc = "An OAuth client: registered at a registry, its credentials kept in a Secret of this namespace.",
    selectable = ".spec.registryRef.name",
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
    printcolumn(name = "Client-ID", type_ = "string", json_path = ".status.clientId"),
    printcolumn(name = "Registry", type_ = "string", json_path = ".spec.registryRef.name"),
    printcolumn(name = "Secret", type_ = "string", json_path = ".status.secretRef.name", priority = "1"),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].message",
        priority = "1"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.tokenEndpointAuthMethod) ? (self.tokenEndpointAuthMethod == 'none') == (self.clientType == 'public') : true")
        .message("tokenEndpointAuthMethod `none` and clientType `public` go together: set both or neither").field_path(".tokenEndpointAuthMethod"),
    validation = Rule::new("!(has(self.calCom) && has(self.teable))").message("calCom and teable speak of different registries: keep the block of yours").field_path(".calCom"),
    validation = Rule::new("!(has(self.jwks) && has(self.jwksUri))").message("jwks and jwksUri exclude each other (RFC 7591 section 2): keep one").field_path(".jwks"),
    validation = Rule::new("has(self.tokenEndpointAuthMethod) && self.tokenEndpointAuthMethod == 'private_key_jwt' ? has(self.jwks) || has(self.jwksUri) : true")
        .message("tokenEndpointAuthMethod private_key_jwt needs the public keys: set jwks or jwksUri").field_path(".tokenEndpointAuthMethod"),
    validation = Rule::new("self.clientType == 'public' || !has(self.redirectUris) || self.redirectUris.all(u, u.startsWith('https://') || u.startsWith('http://'))")
        .message("a private-use scheme in redirectUris is for clientType `public` only (RFC 8252 section 8.4)").field_path(".redirectUris"),
    validation = Rule::new("self.clientType == 'confidential' || !has(self.grantTypes) || !('client_credentials' in self.grantTypes)")
        .message("client_credentials needs a secret or key, so clientType `confidential` (RFC 6749 section 4.4)").field_path(".grantTypes"),
    validation = Rule::new("!has(self.grantTypes) || !('authorization_code' in self.grantTypes) || (has(self.redirectUris) && size(self.redirectUris) > 0)")
        .message("authorization_code needs at least one of redirectUris").field_path(".redirectUris"),
    validation = Rule::new("(has(self.secret) && has(self.secret.name)) == (has(oldSelf.secret) && has(oldSelf.secret.name)) && (!(has(self.secret) && has(self.secret.name)) || self.secret.name == oldSelf.secret.name)")
        .message("secret.name is immutable: whoever mounts the old Secret would go without; make a new OAuthClient").field_path(".secret")
)]
pub struct OAuthClientSpec {
    /// The registry that has the client. Immutable: a client cannot move between registries.
    #[x_kube(validation = Rule::new("self == oldSelf").message("registryRef is immutable: a client cannot move; make a new OAuthClient"))]
    pub registry_ref: RegistryRef,

    /// The name that people see when they are asked for consent. Left out: `<namespace>/<name>` of this object. Meteroid shows it with a
    /// short owner mark behind it; Cal.com and Telnyx show such a mark in its place for a moment after the registration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    #[x_kube(validation = Rule::new("!self.matches('^oauth-operator/[^/]+/[^/]+/[^/]+$')").message("must not be an owner mark of the operator (oauth-operator/…)"))]
    pub client_name: Option<String>,

    /// `confidential`: it can keep a secret (a server). `public`: it cannot (an app on a device or in a browser), gets none and
    /// proves itself by PKCE. Immutable.
    #[serde(default)]
    #[x_kube(validation = Rule::new("self == oldSelf").message("clientType is immutable; make a new OAuthClient"))]
    pub client_type: ClientType,

    /// Where the authorization server may send people back to: `https`, or `http` on loopback, or for a public client a
    /// private-use scheme. Compared exactly; no wildcard, fragment or user information. At most 32.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "atomic"))]
    #[x_kube(validation = distinct())]
    pub redirect_uris: Option<Vec<RedirectUri>>,

    /// Where people may be sent after logout (OpenID Connect RP-Initiated Logout). The rules of `redirectUris` hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32), extend("x-kubernetes-list-type" = "atomic"))]
    #[x_kube(validation = distinct())]
    pub post_logout_redirect_uris: Option<Vec<RedirectUri>>,

    /// How the client obtains tokens: `authorization_code`, `refresh_token`, `client_credentials`, or the URI of an extension
    /// grant. `implicit` and `password` are not offered (RFC 9700 sections 2.1.2 and 2.4).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), inner(length(max = 128)), extend("x-kubernetes-list-type" = "atomic"))]
    #[x_kube(validation = Rule::new("self.all(g, g in ['authorization_code', 'refresh_token', 'client_credentials'] || g.startsWith('urn:') || g.startsWith('https://'))")
        .message("each must be authorization_code, refresh_token, client_credentials or the URI of an extension grant; implicit and password are not offered (RFC 9700)"), validation = distinct())]
    pub grant_types: Option<Vec<String>>,

    /// The scopes that the client may ask for, each a `scope-token` of RFC 6749 section 3.3. At most 64. They go to the registry as they
    /// are: at Cal.com they are its permissions (`BOOKING_READ`, or `*` for all), at Teable the likes of `table|read`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 128), regex(pattern = r"^[\x21\x23-\x5B\x5D-\x7E]+$")), extend("x-kubernetes-list-type" = "atomic"))]
    #[x_kube(validation = distinct())]
    pub scopes: Option<Vec<String>>,

    /// How the client proves itself at the token endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_endpoint_auth_method: Option<TokenEndpointAuthMethod>,

    /// `web` or `native` (OpenID Connect Dynamic Client Registration section 2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["web", "native"]))]
    pub application_type: Option<String>,

    /// The client's home page. Teable registers no app without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_uri: Option<WebUri>,

    /// The client's logo.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logo_uri: Option<WebUri>,

    /// The client's privacy policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_uri: Option<WebUri>,

    /// The client's terms of service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tos_uri: Option<WebUri>,

    /// People responsible for the client, usually e-mail addresses. At most 16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 256)), extend("x-kubernetes-list-type" = "atomic"))]
    #[x_kube(validation = distinct())]
    pub contacts: Option<Vec<String>>,

    /// The client's public keys, for `private_key_jwt`. Never a private key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks: Option<JwkSet>,

    /// Where the client publishes its public keys. The registry fetches it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^https://[^/?#@\s]+([/?]\S*)?$"))]
    pub jwks_uri: Option<WebUri>,

    /// Whether the authorization server must insist on PKCE (RFC 7636) from this client. Can be chosen at Telnyx; is always true at
    /// Meteroid and false at Teable. Other registries have no word for it and refuse the field (`Unsupported`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub require_pkce: Option<bool>,

    /// Cal.com only: the booking pages and defaults of a platform client. Any other registry refuses what is set here (`Unsupported`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cal_com: Option<CalComClient>,

    /// Teable only: the texts and flows of an OAuth app. Any other registry refuses what is set here (`Unsupported`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub teable: Option<TeableClient>,

    /// The Secret that receives the credentials, in the namespace of this object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretSpec>,

    /// When the client secret is changed without anybody asking. Left out: never. How, depends on the registry, and
    /// `status.rotation` says it beforehand. To rotate once, set the annotation `oauth-operator.io/rotate` to a new value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<RotationSpec>,

    /// What becomes of the client at the registry when this object is deleted: `Delete` (default), it is removed, and its Secret goes
    /// with the object; or `Retain`, client and Secret stay.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,

    /// When a new client, with a new id, may take the place of this one: `Never`; `WhenGone` (default), when the registry has provably
    /// lost it; or `WhenNeeded`, also when a declared field or a rotation cannot be had otherwise: every rotation at Cal.com and
    /// Telnyx, changed scopes at Cal.com, any change at Meteroid. The new credentials go into the same Secret; an old client that is
    /// there stays for `rotation.overlap`. What users have granted stays with the old one.
    #[serde(default)]
    pub replacement_policy: ReplacementPolicy,

    /// Keeps the operator's hands off: no call to the registry, no write to the Secret. Deletion still works.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspend: bool,
}

/// What a list of type `set` would say, and a list that may be managed and empty has to say itself.
fn distinct() -> kube::core::Rule {
    kube::core::Rule::new("self.all(item, self.exists_one(other, other == item))")
        .message("no two may be equal")
}

/// Which registry.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RegistryRef {
    /// `OAuthRegistry`, in the namespace of this object, or `ClusterOAuthRegistry`.
    #[serde(default)]
    pub kind: RegistryKind,
    /// The registry's name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// The kinds of registry objects.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
pub enum RegistryKind {
    /// A registry of the client's own namespace.
    #[default]
    OAuthRegistry,
    /// A registry of the platform, for the namespaces that it allows.
    ClusterOAuthRegistry,
}

/// Whether a client can keep a secret (RFC 6749 section 2.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum ClientType {
    /// It can: a server.
    #[default]
    Confidential,
    /// It cannot: an app on a device or in a browser.
    Public,
}

/// How the client proves itself at the token endpoint: by nothing (`none`, public clients only), by its secret in a header
/// (`client_secret_basic`) or in the form (`client_secret_post`), or by a JWT that it signs with its secret
/// (`client_secret_jwt`) or a key of its own (`private_key_jwt`). Left out: the registry's default, and `none` for a public client.
// What an optional enum says of itself takes the place of what its field says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TokenEndpointAuthMethod {
    /// By nothing: a public client.
    None,
    /// By its secret, in the `Authorization` header.
    ClientSecretBasic,
    /// By its secret, in the form.
    ClientSecretPost,
    /// By a JWT signed with its secret.
    ClientSecretJwt,
    /// By a JWT signed with its private key; it has no secret.
    PrivateKeyJwt,
}

impl TokenEndpointAuthMethod {
    /// The value on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::ClientSecretBasic => "client_secret_basic",
            Self::ClientSecretPost => "client_secret_post",
            Self::ClientSecretJwt => "client_secret_jwt",
            Self::PrivateKeyJwt => "private_key_jwt",
        }
    }
}

/// Public keys (RFC 7517 section 5).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct JwkSet {
    /// The keys. At most 16.
    #[schemars(length(min = 1, max = 16))]
    pub keys: Vec<Jwk>,
}

/// A public key (RFC 7517, RFC 7518 section 6).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(extend("x-kubernetes-validations" = key_rules()))]
pub struct Jwk {
    /// The family of the key: `RSA`, `EC`, or `OKP` for Ed25519 and its like.
    #[schemars(extend("enum" = ["RSA", "EC", "OKP"]))]
    pub kty: String,
    /// The key's id, by which a signature names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub kid: Option<String>,
    /// What the key is for: `sig` or `enc`.
    #[serde(default, rename = "use", skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["sig", "enc"]))]
    pub use_: Option<String>,
    /// The algorithm, for example `ES256`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub alg: Option<String>,
    /// The modulus of an RSA key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub n: Option<String>,
    /// The exponent of an RSA key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub e: Option<String>,
    /// The curve of an EC or OKP key, for example `P-256` or `Ed25519`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 32))]
    pub crv: Option<String>,
    /// The first coordinate of an EC or OKP key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub x: Option<String>,
    /// The second coordinate of an EC key. In YAML its name wants quotes (`"y"`): bare, it means true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub y: Option<String>,
    /// Only private keys have it: refused.
    #[serde(default, skip_serializing)]
    #[schemars(length(max = 4096))]
    pub d: Option<String>,
    /// Only symmetric keys have it: refused.
    #[serde(default, skip_serializing)]
    #[schemars(length(max = 4096))]
    pub k: Option<String>,
}

fn key_rules() -> Value {
    json!([
        {"rule": "!has(self.d) && !has(self.k)", "message": "this is a private or symmetric key (it has `d` or `k`): give the public key only"},
        {"rule": "self.kty != 'RSA' || (has(self.n) && has(self.e))", "message": "an RSA key needs n and e (RFC 7518 section 6.3.1)"},
        {"rule": "self.kty == 'RSA' || (has(self.crv) && has(self.x))", "message": "an EC or OKP key needs crv and x (RFC 7518 section 6.2.1, RFC 8037)"},
    ])
}

/// Cal.com only: the booking pages and defaults of a platform client. What is left out is not managed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CalComClient {
    /// The page to which Cal.com sends people after a booking. `""` clears it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub booking_redirect_uri: Option<WebUri>,
    /// The page to which Cal.com sends people after they cancelled a booking. `""` clears it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub booking_cancel_redirect_uri: Option<WebUri>,
    /// The page to which Cal.com sends people after they moved a booking. `""` clears it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub booking_reschedule_redirect_uri: Option<WebUri>,
    /// Whether Cal.com sends e-mails to managed users and their guests. A new client has `false`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub are_emails_enabled: Option<bool>,
    /// Whether Cal.com gives new managed users its default event types. A new client has `false`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub are_default_event_types_enabled: Option<bool>,
    /// Whether Cal.com writes bookings into the managed users' calendars. A new client has `true`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub are_calendar_events_enabled: Option<bool>,
}

/// Teable only: the texts and flows of an OAuth app. What is left out is not managed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.description) || !self.description.contains('oauth-operator/')")
    .message("must not hold an owner mark of the operator (oauth-operator/…)").field_path(".description"))]
pub struct TeableClient {
    /// What people read about the app when Teable asks them for consent. The operator keeps its owner mark in a last line of its own
    /// below it. `""` clears it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 2048))]
    pub description: Option<String>,
    /// The redirect URI that Teable uses when a request names none: it is sent as the first of `redirectUris`. Left out: the first of
    /// those that are declared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_redirect_uri: Option<RedirectUri>,
    /// Whether the app may use the device code flow (RFC 8628). A new app has `false`. Servers before 2026 drop it: `NotAsDeclared`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_device_flow: Option<bool>,
}

/// When and how the client secret is changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.every) || duration(self.every) >= duration('1m')").message("must be at least 1m").field_path(".every"),
    validation = Rule::new("!has(self.every) || !has(self.overlap) || duration(self.overlap) < duration(self.every)")
        .message("must be shorter than every: at most one old secret is kept").field_path(".overlap")
)]
pub struct RotationSpec {
    /// The time between two rotations, at least a minute. Each client comes up to a tenth earlier, so that not all come at once;
    /// `status.rotation.next` says when. Left out: only when the annotation `oauth-operator.io/rotate` asks for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<Duration>,
    /// How long the old secret, or the old client where a new one takes its place, goes on working. Default: 1h, or half of `every`
    /// if that is less. Meteroid ends the old secret at once: there it only counts when another app takes the place of one, and needs
    /// `replacementPolicy: WhenNeeded`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlap: Option<Duration>,
}

/// The Secret that receives the credentials.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SecretSpec {
    /// The Secret's name. Left out: the name of this object. Immutable. A Secret that exists and is not ours is never touched.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub name: Option<String>,
    /// The keys under which the app wants to find the credentials.
    #[serde(default)]
    pub keys: SecretKeys,
    /// What else the Secret should hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<SecretTemplate>,
}

/// The keys under which the app wants to find the credentials.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.clientId != self.clientSecret && self.clientId != self.issuer && self.clientSecret != self.issuer")
    .message("clientId, clientSecret and issuer need keys that differ"))]
pub struct SecretKeys {
    /// The key of the client id.
    #[serde(default = "default_client_id_key")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub client_id: String,
    /// The key of the client secret. A public client, or one with keys of its own, has none.
    #[serde(default = "default_client_secret_key")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub client_secret: String,
    /// The key of the issuer URL, where the registry has told one.
    #[serde(default = "default_issuer_key")]
    #[schemars(length(min = 1, max = 253), regex(pattern = r"^[-._a-zA-Z0-9]+$"))]
    pub issuer: String,
}

impl Default for SecretKeys {
    fn default() -> Self {
        Self {
            client_id: default_client_id_key(),
            client_secret: default_client_secret_key(),
            issuer: default_issuer_key(),
        }
    }
}

fn default_client_id_key() -> String {
    "client_id".into()
}

fn default_client_secret_key() -> String {
    "client_secret".into()
}

fn default_issuer_key() -> String {
    "issuer".into()
}

/// What else the Secret should hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.labels) || self.labels.all(k, !k.startsWith('oauth-operator.io/') && !k.startsWith('argocd.argoproj.io/') && !k.contains('.toolkit.fluxcd.io/') && !k.startsWith('helm.sh/') && !k.startsWith('meta.helm.sh/') && k != 'app.kubernetes.io/instance' && k != 'app.kubernetes.io/managed-by')")
        .message("labels must not be the tracking labels of Argo CD, Flux or Helm, or ours: a GitOps tool would prune the Secret").field_path(".labels"),
    validation = Rule::new("!has(self.annotations) || self.annotations.all(k, !k.startsWith('oauth-operator.io/') && !k.startsWith('argocd.argoproj.io/') && !k.contains('.toolkit.fluxcd.io/') && !k.startsWith('helm.sh/') && !k.startsWith('meta.helm.sh/'))")
        .message("annotations must not be the tracking annotations of Argo CD, Flux or Helm, or ours: a GitOps tool would prune the Secret").field_path(".annotations"),
    validation = Rule::new("!has(self.data) || self.data.all(k, k.matches('^[-._a-zA-Z0-9]+$'))").message("keys may hold letters, digits, `-`, `_` and `.` only").field_path(".data"),
    validation = Rule::new("!has(self.data) || self.data.all(k, !self.data[k].matches('[{][{]') || self.data[k].matches('^([^{]|[{][^{]|[{][{] *(clientId|clientSecret|issuer) *[}][}])*$'))")
        .message("a placeholder must be {{ clientId }}, {{ clientSecret }} or {{ issuer }}").field_path(".data")
)]
pub struct SecretTemplate {
    /// Further keys; `{{ clientId }}`, `{{ clientSecret }}` and `{{ issuer }}` in a value are replaced. At most 32.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 32), schema_with = "template_values")]
    pub data: Option<BTreeMap<String, String>>,
    /// Labels of the Secret. At most 32.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 32), schema_with = "label_values")]
    pub labels: Option<BTreeMap<String, String>>,
    /// Annotations of the Secret. At most 32.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("maxProperties" = 32), schema_with = "template_values")]
    pub annotations: Option<BTreeMap<String, String>>,
}

fn template_values(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"type": "object", "maxProperties": 32, "additionalProperties": {"type": "string", "maxLength": 4096}})
}

fn label_values(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({"type": "object", "maxProperties": 32, "additionalProperties": {"type": "string", "maxLength": 63}})
}

/// What becomes of a client at the registry when its object is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// It is deregistered, and its Secret goes with the object.
    #[default]
    Delete,
    /// Client, Secret and the operator's record stay as they are.
    Retain,
}

/// When a new client, with a new id, may take the place of one that this object had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ReplacementPolicy {
    /// Never: say so and wait.
    Never,
    /// When the registry has provably lost the client.
    #[default]
    WhenGone,
    /// Also when a declared field, or a rotation, cannot be had otherwise. The old client is kept for `rotation.overlap`.
    WhenNeeded,
}

/// What the operator found and did. Derived: losing it loses nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OAuthClientStatus {
    /// The `metadata.generation` that this status speaks of; -1 before the first look.
    #[serde(default = "never_observed")]
    #[schemars(range(min = -1))]
    pub observed_generation: i64,
    /// The id that the registry gave the client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub client_id: Option<String>,
    /// The id by which the registry manages the client, where that is another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub registration_id: Option<String>,
    /// The organisation or user that the registry says the client belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub account_id: Option<String>,
    /// When the registry says it registered the client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registered_at: Option<Time>,
    /// What the registry shows of the client secret, to tell it from others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub secret_hint: Option<String>,
    /// The last and the next change of the client secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<RotationStatus>,
    /// When the client secret expires; absent if it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_secret_expires_at: Option<Time>,
    /// The Secret that holds the credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<SecretRef>,
    /// The last value of the annotation `oauth-operator.io/requested-at` (or Flux's) that was acted upon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub last_handled_reconcile_at: Option<String>,
    /// `Ready` (the summary), `Registered`, `CredentialsStored`; `Suspended`, `Reconciling` and `Stalled` only while true.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// The last and the next change of the client secret.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RotationStatus {
    /// What a rotation does at this registry: `Overlap` (a second secret, the old one revoked later), `Replace` (the old secret ends
    /// at once) or `Recreate` (a new client with a new id, the old one removed later).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["Overlap", "Replace", "Recreate"]))]
    pub strategy: Option<String>,
    /// When the secret was last changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<Time>,
    /// When it is changed next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Time>,
    /// The last value of the annotation `oauth-operator.io/rotate` that was acted upon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub last_handled: Option<String>,
    /// When the previous secret stops working.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_ends: Option<Time>,
    /// Earlier clients of this object that still work, and until when.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub retiring: Vec<RetiringClient>,
}

/// An earlier client of an object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetiringClient {
    /// The id of that client.
    #[schemars(length(max = 1024))]
    pub client_id: String,
    /// When it is removed from the registry.
    pub until: Time,
}

fn never_observed() -> i64 {
    -1
}

/// A Secret of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecretRef {
    /// Its name.
    #[schemars(length(max = 253))]
    pub name: String,
}

impl OAuthClient {
    /// Whether our finalizer is on the object.
    pub fn is_held(&self) -> bool {
        self.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == super::FINALIZER)
    }

    /// The name of the Secret that receives the credentials.
    pub fn secret_name(&self) -> String {
        let named = self.spec.secret.as_ref().and_then(|s| s.name.clone());
        named.or_else(|| self.metadata.name.clone()).unwrap_or_default()
    }

    /// The client's display name: declared, or `<namespace>/<name>`.
    pub fn client_name(&self) -> String {
        self.spec.client_name.clone().unwrap_or_else(|| {
            let part = |text: &Option<String>| text.clone().unwrap_or_default();
            format!("{}/{}", part(&self.metadata.namespace), part(&self.metadata.name))
        })
    }
}
