//! The seam to the outside: where clients are registered, seen by one object for one pass.
//!
//! A driver is one file: it implements [`Registry`] over a [`Session`]. Adding a registry is a new file, a member of
//! [`RegistryConnection`], and an arm in [`open`]; the planner knows it by its [`Capabilities`] only.

mod breaker;
pub mod dynamic_registration;
pub mod error;
pub mod http;
mod limiter;
pub mod metadata;
pub mod session;
pub mod transport;

use std::{collections::BTreeMap, fmt, sync::Arc};

use async_trait::async_trait;
use jiff::Timestamp;
use secrecy::SecretString;
use url::Url;

use crate::api::RegistryConnection;
pub use error::{Error, Kind, Retry};
pub use metadata::{Capabilities, ClientMetadata, Document, Field, Support};
pub use session::{Session, SessionKey, Sessions};

/// What a client should be.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The declared metadata.
    pub metadata: ClientMetadata,
    /// What people can search for at the registry when an outcome is unknown (`software_id`, RFC 7591 section 2).
    pub software_id: String,
}

/// A client that a registry has told us about.
#[derive(Clone)]
pub struct Client {
    /// The client id.
    pub client_id: String,
    /// The client secret, where there is one.
    pub client_secret: Option<SecretString>,
    /// When the secret expires; `None` if never, or not told.
    pub client_secret_expires_at: Option<Timestamp>,
    /// When the registry says it registered the client.
    pub registered_at: Option<Timestamp>,
    /// How the client is managed.
    pub management: Management,
    /// The registry's last document about the client, without credentials: what a full replacement starts from.
    pub document: Document,
}

/// Shows no credential: neither ours, nor what a registry may have put into a member or a URL of its own.
impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = |name: &str| Field::ALL.iter().any(|field| field.wire_name() == name);
        let document: BTreeMap<&str, Option<&serde_json::Value>> =
            self.document.iter().map(|(name, value)| (name.as_str(), known(name).then_some(value))).collect();
        f.debug_struct("Client")
            .field("client_id", &self.client_id)
            .field("client_secret", &self.client_secret)
            .field("client_secret_expires_at", &self.client_secret_expires_at)
            .field("registered_at", &self.registered_at)
            .field("management", &self.management)
            .field("document", &document)
            .finish()
    }
}

/// How a registered client is managed.
#[derive(Clone)]
pub enum Management {
    /// By a token of its own (RFC 7592).
    Token {
        /// `registration_client_uri`, used verbatim.
        uri: Url,
        /// `registration_access_token`.
        token: SecretString,
    },
    /// Not at all, and why.
    None(String),
}

impl fmt::Debug for Management {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token { uri, .. } => {
                f.debug_tuple("Token").field(&uri.origin().ascii_serialization()).finish()
            }
            Self::None(why) => f.debug_tuple("None").field(why).finish(),
        }
    }
}

/// Where clients are registered.
#[async_trait]
pub trait Registry: Send + Sync {
    /// What this registry can do.
    fn capabilities(&self) -> Capabilities;

    /// Scheme, host and port that the registry's credentials may be sent to.
    fn origin(&self) -> String;

    /// The issuer that apps discover their endpoints from, where it is known.
    fn issuer(&self) -> Option<String>;

    /// Makes sure that a registration can be sent now, so that none is announced in vain. No effect at the registry.
    async fn prepare(&self) -> Result<(), Error>;

    /// Registers a client, after [`Registry::prepare`]. Only [`Kind::Ambiguous`] leaves open whether it happened.
    async fn register(&self, wanted: &Wanted) -> Result<Client, Error>;

    /// Looks, never touches. `None` means *proven absent*; "cannot tell" is an error.
    async fn observe(&self, client: &Client) -> Result<Option<Client>, Error>;

    /// Makes the client what is declared; `reset` are the fields that left the spec. `None` means proven absent.
    async fn update(
        &self,
        client: &Client,
        wanted: &ClientMetadata,
        reset: &[Field],
    ) -> Result<Option<Client>, Error>;

    /// Removes the client. Already gone is success.
    async fn deregister(&self, client: &Client) -> Result<(), Error>;
}

/// The driver for what a registry object describes.
///
/// # Errors
/// If the object describes no registry that this version knows.
pub fn open(
    session: Arc<Session>,
    initial_access_token: Option<SecretString>,
) -> Result<Box<dyn Registry>, Error> {
    let RegistryConnection { dynamic_registration, .. } = &session.connection;
    match dynamic_registration {
        Some(settings) => Ok(Box::new(dynamic_registration::DynamicRegistration::new(
            settings.clone(),
            session,
            initial_access_token,
        )?)),
        None => Err(Error::new(
            Kind::Unsupported,
            "the registry object names no registry that this version of the operator knows",
        )),
    }
}
