//! The seam to the outside: where clients are registered, seen by one object for one pass.
//!
//! A driver is one file: it implements [`Registry`] over a [`Session`]. Adding a registry is a new file, a member of
//! [`crate::api::RegistryConnection`], and an arm in [`open`]; the planner knows it by its [`Capabilities`] only.

pub mod address;
mod admin_api;
mod breaker;
mod cal_com;
pub mod credentials;
pub mod dynamic_registration;
pub mod error;
pub mod http;
pub mod inventory;
mod json;
pub mod limiter;
pub mod mark;
pub mod metadata;
mod meteroid;
mod pace;
pub mod session;
mod teable;
mod telnyx;
pub mod transport;

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use crate::api::{Provider, RegistryConnection};

pub use credentials::Credentials;
pub use error::{Error, Kind, Retry};
pub use inventory::Inventory;
pub use mark::{Mark, ShownMark};
pub use metadata::{Adoption, Capabilities, ClientMetadata, Document, Field, MarkPlace, Rotation, Support};
pub use session::{Session, SessionKey, Sessions};

/// What a client should be.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// The declared metadata.
    pub metadata: ClientMetadata,
    /// Whose it is, for a registry whose clients can be listed.
    pub mark: Mark,
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
    /// The id by which the registry manages the client, where that is another one.
    pub registration_id: Option<String>,
    /// The organisation or user that the registry says the client belongs to.
    pub account_id: Option<String>,
    /// The id of the client secret, where secrets have ids.
    pub secret_id: Option<String>,
    /// What the registry shows of the client secret, where it shows a part.
    pub secret_hint: Option<String>,
    /// The secrets that work, newest first, where this reply tells.
    pub secrets: Option<Vec<ShownSecret>>,
    /// Whether the registry lets the client be used.
    pub active: bool,
    /// The owner mark, where the client bears one.
    pub mark: Option<ShownMark>,
    /// How the client is managed.
    pub management: Management,
    /// The registry's last document about the client, without credentials: what a full replacement starts from.
    pub document: Document,
}

/// A client secret as a registry shows it later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownSecret {
    /// Its id.
    pub id: String,
    /// Its last characters.
    pub tail: String,
}

/// A client secret that was issued just now.
#[derive(Clone, Debug)]
pub struct IssuedSecret {
    /// The secret.
    pub secret: SecretString,
    /// Its id, where secrets have ids.
    pub id: Option<String>,
    /// What the registry will show of it.
    pub hint: Option<String>,
}

impl Client {
    /// A client of which only the id is known.
    pub fn named(client_id: impl Into<String>, management: Management) -> Self {
        Self {
            client_id: client_id.into(),
            client_secret: None,
            client_secret_expires_at: None,
            registered_at: None,
            registration_id: None,
            account_id: None,
            secret_id: None,
            secret_hint: None,
            secrets: None,
            active: true,
            mark: None,
            management,
            document: Document::new(),
        }
    }

    /// A line of a list over what is known: what the line does not show is as it was.
    #[must_use]
    pub fn over(self, known: &Self) -> Self {
        let mut document = known.document.clone();
        document.extend(self.document.clone());
        Self { document, ..self }.keeping_credentials(known)
    }

    /// What a later reply left out of the credentials is still so.
    #[must_use]
    pub fn keeping_credentials(self, known: &Self) -> Self {
        Self {
            client_secret: self.client_secret.or_else(|| known.client_secret.clone()),
            registered_at: self.registered_at.or(known.registered_at),
            registration_id: self.registration_id.or_else(|| known.registration_id.clone()),
            account_id: self.account_id.or_else(|| known.account_id.clone()),
            secret_id: self.secret_id.or_else(|| known.secret_id.clone()),
            ..self
        }
    }

    /// Whether another view of the client brought nothing that has to be kept.
    pub fn has_credentials_of(&self, other: &Self) -> bool {
        let secret = |client: &Self| client.client_secret.as_ref().map(|s| s.expose_secret().to_owned());
        let token = |client: &Self| match &client.management {
            Management::Token { token, .. } => Some(token.expose_secret().to_owned()),
            Management::Registry | Management::None(_) => None,
        };
        secret(self) == secret(other)
            && token(self) == token(other)
            && self.client_secret_expires_at == other.client_secret_expires_at
    }

    /// The id in the registry's URLs.
    pub fn managed_id(&self) -> &str {
        self.registration_id.as_deref().unwrap_or(&self.client_id)
    }
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
            .field("registration_id", &self.registration_id)
            .field("account_id", &self.account_id)
            .field("secret_id", &self.secret_id)
            .field("active", &self.active)
            .field("mark", &self.mark)
            .field("management", &self.management)
            .field("document", &document)
            .finish_non_exhaustive()
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
    /// By the registry's own credentials.
    Registry,
    /// Not at all, and why.
    None(String),
}

impl fmt::Debug for Management {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token { uri, .. } => {
                f.debug_tuple("Token").field(&uri.origin().ascii_serialization()).finish()
            }
            Self::Registry => f.write_str("Registry"),
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

    /// What is declared in the form in which it is compared: expanded and filled up as the registry would.
    fn normalised(&self, declared: ClientMetadata) -> ClientMetadata {
        declared
    }

    /// Whether it answers, where it does not list its clients: by reads alone. False if there is nothing to read.
    async fn answers(&self) -> Result<bool, Error> {
        Ok(false)
    }

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

    /// All clients that our credentials can see; ours and others'. A list that is not whole is an error.
    async fn list(&self) -> Result<Vec<Client>, Error> {
        Err(Error::new(Kind::Unsupported, "this registry does not list its clients"))
    }

    /// Issues a client secret, after [`Registry::prepare`]. Whether earlier ones go on working says [`Capabilities::rotation`].
    /// Only [`Kind::Ambiguous`] leaves open whether it happened.
    async fn issue_secret(&self, _client: &Client) -> Result<IssuedSecret, Error> {
        Err(Error::new(Kind::Unsupported, "this registry issues no further secret"))
    }

    /// Makes one of several client secrets useless. Already gone is success.
    async fn revoke_secret(&self, _client: &Client, _secret_id: &str) -> Result<(), Error> {
        Err(Error::new(Kind::Unsupported, "this registry cannot revoke a secret"))
    }
}

/// The driver for what a registry object describes.
///
/// # Errors
/// If the object describes no registry that this version knows, or credentials are missing.
pub fn open(session: Arc<Session>, credentials: Option<Credentials>) -> Result<Box<dyn Registry>, Error> {
    let connection = session.connection.clone();
    let provider = connection.provider().ok_or_else(|| {
        Error::new(
            Kind::Unsupported,
            "the registry object names no registry that this version of the operator knows",
        )
    })?;
    let needed = || {
        credentials.clone().ok_or_else(|| {
            Error::new(
                Kind::Unavailable,
                "the registry's credentials are not known: check its credentialsSecretRef",
            )
        })
    };
    Ok(match provider {
        Provider::CalCom(settings) => Box::new(cal_com::CalCom::new(settings, session, needed()?)?),
        Provider::DynamicRegistration(settings) => {
            Box::new(dynamic_registration::DynamicRegistration::new(settings.clone(), session, credentials)?)
        }
        Provider::Meteroid(settings) => Box::new(meteroid::Meteroid::new(settings, session, needed()?)?),
        Provider::Teable(settings) => Box::new(teable::Teable::new(settings, session, needed()?)?),
        Provider::Telnyx(settings) => Box::new(telnyx::Telnyx::new(settings, session, needed()?)?),
    })
}

#[cfg(test)]
pub(crate) mod tests;

/// The requests that a registry is known to allow in a window of time; kept unless `rateLimit` says otherwise.
fn published_limit(connection: &RegistryConnection) -> Option<(u32, Duration)> {
    match connection.provider()? {
        Provider::CalCom(_) => Some(cal_com::PUBLISHED_LIMIT),
        Provider::DynamicRegistration(_)
        | Provider::Meteroid(_)
        | Provider::Teable(_)
        | Provider::Telnyx(_) => None,
    }
}

/// SHA-256 over the parts, each with its length, in hexadecimal digits.
pub(crate) fn digest(parts: &[&str]) -> String {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part.as_bytes());
    }
    context.finish().as_ref().iter().fold(String::new(), |mut text, byte| {
        // Writing to a `String` cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
