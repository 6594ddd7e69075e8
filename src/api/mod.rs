//! What users write and read: the kinds of the API group, their rules and their conditions. No I/O.
//!
//! Doc comments on fields are what `kubectl explain` prints; `x_kube(validation)` rules are CEL and are enforced by the
//! API server, so that `kubectl apply` refuses a contradiction at once. The words are RFC 7591's in camelCase.

pub mod annotations;
pub mod conditions;
mod crds;
mod duration;
pub mod hosts;
mod oauth_client;
mod oauth_registry;
mod reference;
mod uris;

pub use conditions::{Condition, ConditionStatus};
pub use crds::{crd_files, crds};
pub use duration::Duration;
pub use hosts::RegistryHosts;
pub use oauth_client::{
    CalComClient, ClientType, DeletionPolicy, Jwk, JwkSet, OAuthClient, OAuthClientSpec, OAuthClientStatus,
    RegistryKind, RegistryRef, ReplacementPolicy, RetiringClient, RotationSpec, RotationStatus, SecretKeys,
    SecretRef, SecretSpec, SecretTemplate, TeableClient, TokenEndpointAuthMethod,
};
pub use oauth_registry::{
    CalCom, ClusterOAuthRegistry, ClusterOAuthRegistrySpec, CredentialsRef, DescribesRegistry, DriftReads,
    DynamicRegistration, Guardrails, Meteroid, NamespaceSelector, OAuthRegistry, OAuthRegistrySpec, Provider,
    RateLimit, RegistryCapabilities, RegistryConnection, RegistryStatus, SecretKeyRef, Teable,
    TeableAuthentication, TeableCredentialsRef, Telnyx, Tls, UnknownOutcome,
};
pub use reference::reference;
pub use uris::{RedirectUri, WebUri};

/// The API group of all our kinds; also the prefix of our annotations and labels.
pub const GROUP: &str = "oauth-operator.io";

/// The finalizer on an `OAuthClient`: it goes when the registry no longer has the client, or when that was given up.
pub const FINALIZER: &str = "oauth-operator.io/client";

/// The finalizer on a registry: it goes when no client is there any more, or a bounded time after the deletion began.
pub const IN_USE: &str = "oauth-operator.io/in-use";

/// The name under which our writes to Kubernetes appear in `managedFields` and events.
pub const FIELD_MANAGER: &str = "oauth-operator";
