//! What all clients of one registry share: the way there, its pace, its breaker, and what was learned about it.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use http::StatusCode;
use secrecy::SecretString;
use tokio::time::Instant;
use url::Url;

use super::{
    Inventory, Registry,
    breaker::Breaker,
    credentials::{Credentials, Kept, Refusal},
    error::{Error, Kind},
    inventory::Inventories,
    limiter::Limiter,
    metadata::Field,
    pace,
    transport::{Connect, Limits, Request, Response, Route, Transport, TransportError},
};
use crate::{
    api::RegistryConnection,
    clock::Clock,
    metrics::{Metrics, RequestLabels},
};

/// Replies larger than this are not read.
const BODY_LIMIT: usize = 1024 * 1024;
/// The same where clients are listed: some registries show a thousand of them in one reply, each with a secret of kilobytes.
const LIST_LIMIT: usize = 16 * BODY_LIMIT;
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longer waits for the limiter are the queue's, not a pass's.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// What all clients of one registry share.
pub struct Session {
    /// How the registry was described when the session began.
    pub connection: RegistryConnection,
    /// What was learned about it; a hint, lost at restart.
    pub learned: Mutex<Learned>,
    /// Held while signing in, for a ticket: a thousand clients sign in once.
    pub sign_in: tokio::sync::Mutex<Refusal>,
    credentials: Mutex<Kept>,
    inventories: Inventories,
    transport: Arc<dyn Transport>,
    limiter: Limiter,
    breaker: Breaker,
    metrics: Arc<Metrics>,
}

/// The endpoints of an authorization server, as far as it may be sent credentials there.
#[derive(Clone, Debug)]
pub struct Endpoints {
    /// Where clients are registered (RFC 7591 section 3).
    pub registration: Url,
    /// Where tokens are issued (RFC 6749 section 3.2).
    pub token: Option<Url>,
}

/// What was learned about a registry. Losing it costs a request or a repair, never a client.
#[derive(Default)]
pub struct Learned {
    /// The endpoints that its metadata named, and when they were read.
    pub endpoints: Option<(Instant, Endpoints)>,
    /// The fields that some read has shown: only their absence can be told from a lossy read.
    pub shown: BTreeSet<Field>,
    /// Whether a read has returned a new registration token (RFC 7592 section 3).
    pub reads_rotate: bool,
    /// The path of the collection of clients, where a registry has been seen with another than the documented one.
    pub collection: Option<&'static str>,
    /// What a sign-in brought, and until when it is good.
    pub ticket: Option<(SecretString, Instant)>,
    /// The fingerprint of credentials that have opened the account in which our clients are.
    pub proven: Option<String>,
    /// The account that these credentials open, by their fingerprint.
    pub account: Option<(String, String)>,
}

/// How long a request may take at this registry.
pub fn timeout(connection: &RegistryConnection) -> Duration {
    connection.timeout.as_ref().and_then(crate::api::Duration::get).unwrap_or(DEFAULT_TIMEOUT)
}

fn body_limit(connection: &RegistryConnection) -> usize {
    if connection.dynamic_registration.is_some() { BODY_LIMIT } else { LIST_LIMIT }
}

impl Session {
    /// Opens a session; no request is sent.
    ///
    /// # Errors
    /// If the connection cannot be made from what the registry says (`tls`, `proxyUrl`).
    pub fn open(
        connection: &RegistryConnection,
        connect: &dyn Connect,
        metrics: Arc<Metrics>,
    ) -> Result<Self, String> {
        let route = Route {
            limits: Limits { timeout: timeout(connection), body: body_limit(connection) },
            ca_bundle: connection.tls.as_ref().map(|tls| tls.ca_bundle.clone()),
            proxy_url: connection.proxy_url.as_ref().map(|url| url.0.clone()),
        };
        Ok(Self {
            connection: connection.clone(),
            learned: Mutex::default(),
            sign_in: tokio::sync::Mutex::default(),
            credentials: Mutex::default(),
            inventories: Inventories::default(),
            transport: connect.connect(&route)?,
            limiter: match (connection.rate_limit, super::published_limit(connection)) {
                (None, Some((requests, window))) => Limiter::published(requests, window),
                (rate, _) => Limiter::new(rate),
            },
            breaker: Breaker::default(),
            metrics,
        })
    }

    /// What was learned so far.
    pub fn learned(&self) -> MutexGuard<'_, Learned> {
        self.learned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The credentials that were read last.
    pub fn credentials(&self) -> MutexGuard<'_, Kept> {
        self.credentials.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The fingerprint of the credentials, if there are any.
    pub fn fingerprint(&self) -> Option<String> {
        self.credentials().last().map(|last| last.fingerprint())
    }

    /// Keeps credentials that were read just now. Other ones have opened nothing yet.
    pub fn keep_credentials(&self, credentials: Credentials) {
        if self.credentials().keep(credentials) {
            self.learned().ticket = None;
        }
    }

    /// Keeps what a sign-in with these credentials brought, unless other ones have been read meanwhile.
    pub fn keep_ticket(&self, credentials: &Credentials, ticket: SecretString, until: Instant) {
        // Held to the end: `keep_credentials` must not come between.
        let kept = self.credentials();
        if kept.last().is_none_or(|last| last.is(credentials)) {
            self.learned().ticket = Some((ticket, until));
        }
    }

    /// All clients of the registry, as asked for after `since`; `None`: whenever that was.
    pub async fn inventory(
        &self,
        registry: &dyn Registry,
        since: Option<Instant>,
    ) -> Result<Arc<Inventory>, Error> {
        let fingerprint = self.fingerprint().unwrap_or_default();
        let inventory = self.inventories.since(since, &fingerprint, registry).await?;
        if let Some(account) = &inventory.account_id {
            self.learned().account = Some((fingerprint, account.clone()));
        }
        Ok(inventory)
    }

    /// Sends one request at the registry's pace. It may be repeated when nobody knows its outcome.
    pub async fn send(&self, operation: &'static str, request: Request) -> Result<Response, Error> {
        self.pace().await?;
        let origin = request.url.origin().ascii_serialization();
        self.exchange(operation, request).await.map_err(|error| match error {
            TransportError::NotAllowed(why) => Error::new(Kind::AddressNotAllowed, why),
            TransportError::NotSent(why) | TransportError::Interrupted(why) => unreachable(&origin, &why),
        })?
    }

    /// Sends one request whose turn was taken by [`Session::pace`] and that must not be repeated blindly.
    pub async fn send_prepared(&self, operation: &'static str, request: Request) -> Result<Response, Error> {
        // Another request may have been told to wait since then.
        wait_for(|| self.limiter.open()).await?;
        let origin = request.url.origin().ascii_serialization();
        self.exchange(operation, request).await.map_err(|error| match error {
            TransportError::NotAllowed(why) => Error::new(Kind::AddressNotAllowed, why),
            TransportError::NotSent(why) => unreachable(&origin, &why),
            TransportError::Interrupted(why) => Error::new(Kind::Ambiguous, why),
        })?
    }

    async fn exchange(
        &self,
        operation: &'static str,
        request: Request,
    ) -> Result<Result<Response, Error>, TransportError> {
        let began = Instant::now();
        let origin = request.url.origin().ascii_serialization();
        let outcome = self.transport.send(request).await;
        let code = outcome.as_ref().map_or(0, |reply| reply.status.as_u16());
        self.metrics.registry_requests.get_or_create(&RequestLabels { operation, code }).inc();
        self.metrics.registry_request_seconds.observe(began.elapsed().as_secs_f64());
        let failure = match &outcome {
            Ok(reply) if reply.status.is_server_error() => {
                Some(unreachable(&origin, &format!("it answered {}", reply.status.as_u16())).summary)
            }
            // Who was not asked has not failed.
            Ok(_) | Err(TransportError::NotAllowed(_)) => None,
            Err(error) => Some(unreachable(&origin, &error.to_string()).summary),
        };
        match failure {
            Some(why) => {
                self.breaker.failed(&why);
                // Asking for the endpoints again is a harmless way to find out whether the registry is back.
                self.learned().endpoints = None;
            }
            None => self.breaker.answered(),
        }
        outcome.map(|reply| self.obey(reply))
    }

    /// Waits for this request's turn, or says how long that would take.
    pub async fn pace(&self) -> Result<(), Error> {
        // Before the breaker: its one trial is not for a request that may not go.
        wait_for(|| self.limiter.open()).await?;
        self.breaker.admit().map_err(|why| Error::new(Kind::Unavailable, why))?;
        wait_for(|| self.limiter.take()).await
    }

    fn obey(&self, reply: Response) -> Result<Response, Error> {
        if reply.status == StatusCode::UNAUTHORIZED {
            self.credentials().refused();
        }
        let asked = pace::silence(reply.status, &reply.headers, Clock::system().now());
        if let Some(wait) = asked {
            self.limiter.close(wait);
        }
        if reply.status != StatusCode::TOO_MANY_REQUESTS {
            return Ok(reply);
        }
        Err(Error::new(
            Kind::Throttled(asked.unwrap_or_default()),
            "the registry answered 429 Too Many Requests; all its clients wait",
        ))
    }
}

/// Waits for a turn, unless that takes long.
async fn wait_for(turn: impl Fn() -> Result<(), Duration>) -> Result<(), Error> {
    while let Err(wait) = turn() {
        if wait > LONGEST_WAIT {
            let why = "the registry asked for fewer requests, or rateLimit is used up";
            return Err(Error::new(Kind::Throttled(wait), why));
        }
        tokio::time::sleep(wait).await;
    }
    Ok(())
}

fn unreachable(origin: &str, why: &str) -> Error {
    let summary = format!("{origin} does not answer ({why}): look at the registry and at the way to it");
    Error::new(Kind::Unavailable, summary)
}

/// Which registry object a session belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SessionKey {
    /// The kind's name.
    pub kind: crate::api::RegistryKind,
    /// The namespace, empty for a cluster kind.
    pub namespace: String,
    /// The name.
    pub name: String,
}

/// The sessions of all registries, and the last good ones of those that are gone: deletions still need them.
pub struct Sessions {
    open: Mutex<HashMap<SessionKey, Arc<Session>>>,
    connect: Arc<dyn Connect>,
    metrics: Arc<Metrics>,
}

impl Sessions {
    /// No session yet.
    pub fn new(connect: Arc<dyn Connect>, metrics: Arc<Metrics>) -> Self {
        Self { open: Mutex::default(), connect, metrics }
    }

    /// The session of a registry, opened again if the registry's description changed.
    pub fn get(&self, key: &SessionKey, connection: &RegistryConnection) -> Result<Arc<Session>, String> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        match open.get(key) {
            Some(session) if session.connection == *connection => Ok(session.clone()),
            _ => {
                let session =
                    Arc::new(Session::open(connection, self.connect.as_ref(), self.metrics.clone())?);
                open.insert(key.clone(), session.clone());
                Ok(session)
            }
        }
    }

    /// The last session of a registry that may be gone.
    pub fn last(&self, key: &SessionKey) -> Option<Arc<Session>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }
}
