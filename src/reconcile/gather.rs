//! Gathers the facts of a pass: reads only.

use std::{sync::Arc, time::Duration};

use super::{
    Context, PassError, call,
    facts::{self, Facts, Known, Progress, Why, fingerprint},
    intent::Intent,
    protocol::Rule,
    record::{self, Record},
    secret::{self, Found},
};
use crate::{
    api::{
        ClusterOAuthRegistry, ConditionStatus, CredentialsRef, DeletionPolicy, DescribesRegistry, DriftReads,
        DynamicRegistration, Guardrails, OAuthClient, OAuthRegistry, RegistryConnection, RegistryKind,
        RegistryRef, UnknownOutcome, WebUri, annotations, conditions,
    },
    registry::{self, ClientMetadata, Credentials, Management, Registry, Session, SessionKey, session},
};
use k8s_openapi::{
    api::core::v1::{Namespace, Secret},
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use kube::{
    Api, ResourceExt,
    core::{Selector, SelectorExt},
    runtime::reflector::ObjectRef,
};

const DEFAULT_DRIFT_INTERVAL: Duration = Duration::from_mins(10);

/// Facts, and the driver that acts on what is decided from them.
pub struct Pass {
    /// What is known.
    pub facts: Facts,
    /// The registry, if it can be used.
    pub driver: Option<Box<dyn Registry>>,
    /// The registry's session.
    pub session: Option<Arc<Session>>,
}

impl Pass {
    /// The registry, for an effect that only a usable one brings about.
    pub fn driver(&self) -> Result<&dyn Registry, PassError> {
        self.driver
            .as_deref()
            .ok_or_else(|| PassError::Internal("a rule asked for a registry that is not there".into()))
    }
}

/// Reads everything that a pass is decided from. `client` was read before; [`hangs_together`] reads it again.
pub async fn gather(context: &Context, client: &OAuthClient) -> Result<Pass, PassError> {
    let uid = client.metadata.uid.clone().unwrap_or_default();
    let namespace = client.namespace().unwrap_or_default();
    let found = find_registry(context, client).await?;
    let secrets: Api<Secret> = Api::namespaced(context.kube.clone(), &namespace);
    let apart = read_apart(context, &uid).await?;
    let secret = call("read the Secret", secrets.get_opt(&client.secret_name())).await?;
    let secret = secret::judge(secret, &uid);
    let never_beside = found.as_ref().is_ok_and(|found| !found.known.capabilities.shows_secrets);
    let beside = || read_beside(client, &secret).filter(|_| !never_beside);
    let record = apart.map_or_else(|| Ok(beside()), |apart| apart.map(Some));
    let (registry, driver, session) = match found {
        Ok(found) => (Ok(found.known), Some(found.driver), Some(found.session)),
        Err(why) => (Err(why), None, None),
    };
    let settle = session.as_ref().map_or(Duration::ZERO, |s| session::timeout(&s.connection));
    let intent = Intent::of(client);
    // A replacement that was not made goes on only when a look finds the client gone again.
    let stored = record.as_ref().ok().and_then(Option::as_ref);
    let nonce = stored.map(|record: &Record| &record.state.nonce);
    let replacing = nonce.is_some() && nonce == intent.as_ref().and_then(|intent| intent.replaces.as_ref());
    let closely =
        replacing || stored.is_some_and(|record| record.state.stray_secrets) || looks_closely(client);
    Ok(Pass {
        facts: Facts {
            now: context.clock.now(),
            intent,
            look_due: closely || look_due(context, client, registry.as_ref().ok()),
            look_closely: closely,
            client: client.clone(),
            declared: declared(client, driver.as_deref()),
            record,
            secret,
            registry,
            nonce: (context.nonces)(),
            installation: context.installation.clone(),
            settle: if Rule::Settle.holds() {
                context.settings.settle_time.max(settle)
            } else {
                Duration::ZERO
            },
            deletion_timeout: context.settings.deletion_timeout,
            progress: Progress::default(),
        },
        driver,
        session,
    })
}

/// What is declared, as the registry compares it.
fn declared(client: &OAuthClient, driver: Option<&dyn Registry>) -> ClientMetadata {
    let declared = ClientMetadata::declared(client);
    match driver {
        Some(driver) => driver.normalised(declared),
        None => declared,
    }
}

async fn read_apart(context: &Context, uid: &str) -> Result<Option<Result<Record, String>>, PassError> {
    let record = call("read the record", context.records().get_opt(&record::name(uid))).await?;
    Ok(record.map(|secret| read_record(&secret, uid)))
}

/// The record that the user's Secret keeps. It counts only for the client that the object itself names: everybody who may write
/// the Secret could have written it. A deletion that retains the client only keeps what it says.
fn read_beside(client: &OAuthClient, secret: &Found) -> Option<Record> {
    let Found::Ours(secret) = secret else { return None };
    let record = Record::beside(secret, client)?;
    let named = client.status.as_ref().and_then(|status| status.client_id.as_ref());
    let retained =
        client.metadata.deletion_timestamp.is_some() && client.spec.deletion_policy == DeletionPolicy::Retain;
    (retained || named == Some(&record.client.client_id)).then_some(record)
}

fn read_record(secret: &Secret, uid: &str) -> Result<Record, String> {
    let record = Record::read(secret)?;
    if record.owner.uid == uid { Ok(record) } else { Err("it belongs to another object".into()) }
}

/// Reads the object again: facts count only if nothing happened to it while they were read.
pub async fn hangs_together(context: &Context, client: &OAuthClient) -> Result<bool, PassError> {
    if !Rule::Collect.holds() {
        return Ok(true);
    }
    let live = live(context, client).await?;
    Ok(live.is_some_and(|live| live.metadata.resource_version == client.metadata.resource_version))
}

/// The object as the API server has it, `None` if it is gone or another one bears its name.
pub async fn live(context: &Context, client: &OAuthClient) -> Result<Option<OAuthClient>, PassError> {
    let clients: Api<OAuthClient> =
        Api::namespaced(context.kube.clone(), &client.namespace().unwrap_or_default());
    let live = call("read the OAuthClient", clients.get_opt(&client.name_any())).await?;
    Ok(live.filter(|live| live.metadata.uid == client.metadata.uid))
}

/// Whether somebody waits for the truth about this very client.
fn looks_closely(client: &OAuthClient) -> bool {
    let status = client.status.as_ref();
    let unseen = status.map(|status| status.observed_generation) != client.metadata.generation;
    let requested = facts::requested(client);
    let unhandled =
        requested.is_some() && requested != status.and_then(|s| s.last_handled_reconcile_at.clone());
    // What was wrong may have been put right at the registry.
    let ready = status.and_then(|status| conditions::find(&status.conditions, conditions::READY));
    unseen || unhandled || ready.is_none_or(|ready| ready.status != ConditionStatus::True)
}

fn look_due(context: &Context, client: &OAuthClient, known: Option<&Known>) -> bool {
    let interval = known.map_or(DEFAULT_DRIFT_INTERVAL, |known| known.drift_interval);
    context.looks.due(client.metadata.uid.as_deref().unwrap_or_default(), interval)
}

/// A registry that can be used.
pub struct Usable {
    /// What it is known to be.
    pub known: Known,
    /// Its driver.
    pub driver: Box<dyn Registry>,
    /// Its session.
    pub session: Arc<Session>,
}

/// What a registry object says.
#[derive(Clone)]
pub struct Described {
    /// How to talk to the registry.
    pub connection: RegistryConnection,
    /// The value of the annotation `accept`.
    pub accepted: Option<String>,
    /// What clients may ask for.
    pub guardrails: Option<Guardrails>,
    /// Whether the object is being deleted.
    pub deleting: bool,
}

impl Described {
    /// What a registry object says.
    pub fn of(object: &impl DescribesRegistry) -> Self {
        Self {
            connection: object.connection().clone(),
            accepted: object.annotations().get(annotations::ACCEPT).cloned(),
            guardrails: object.guardrails().cloned(),
            deleting: object.meta().deletion_timestamp.is_some(),
        }
    }
}

async fn find_registry(context: &Context, client: &OAuthClient) -> Result<Result<Usable, Why>, PassError> {
    let reference = &client.spec.registry_ref;
    let key = key_of(client);
    let described = match reference.kind {
        RegistryKind::OAuthRegistry => namespaced(context, &key),
        RegistryKind::ClusterOAuthRegistry => cluster(context, client, &key).await?,
    };
    match described {
        Ok(described) => find_driver(context, &key, described).await,
        Err(why) => Ok(Err(why)),
    }
}

/// The registry that an object describes, or why it cannot be used.
pub async fn find_driver(
    context: &Context,
    key: &SessionKey,
    Described { connection, accepted, guardrails, deleting }: Described,
) -> Result<Result<Usable, Why>, PassError> {
    if let Some(why) = host_not_allowed(context, key, &connection) {
        return Ok(Err(why));
    }
    let session = match context.sessions.get(key, &connection) {
        Ok(session) => session,
        Err(why) => return Ok(Err(Why::new("InvalidRegistry", why))),
    };
    let (credentials, not_ready) = match credentials(context, key, &session).await? {
        Ok(credentials) => (credentials, None),
        Err(why) => (session.credentials().last(), Some(why)),
    };
    let driver = match registry::open(session.clone(), credentials) {
        Ok(driver) => driver,
        Err(error) => return Ok(Err(not_ready.unwrap_or_else(|| Why::from(&error)))),
    };
    let not_ready = deleting.then(registry_deleting).or(not_ready);
    let known = Known { accepted, guardrails, ..known(&session, driver.as_ref(), not_ready) };
    Ok(Ok(Usable { known, driver, session }))
}

/// Who may create an `OAuthRegistry` names no host that the operator's owner has not listed.
fn host_not_allowed(context: &Context, key: &SessionKey, connection: &RegistryConnection) -> Option<Why> {
    let limited = key.kind == RegistryKind::OAuthRegistry;
    let url = context.settings.registry_hosts.refused(connection).filter(|_| limited)?;
    let message = format!(
        "OAuthRegistry {} names {url}, whose host is not among those that the operator serves (--namespaced-registry-hosts): ask the \
         operator's owner to list it, or use a ClusterOAuthRegistry",
        key.name
    );
    Some(Why::new("HostNotAllowed", message))
}

fn registry_deleting() -> Why {
    let message = "the registry object is being deleted, and nothing new is registered there: make a new one, or delete its clients, for \
                   which it waits";
    Why::new("RegistryDeleting", message)
}

fn known(session: &Session, driver: &dyn Registry, not_ready: Option<Why>) -> Known {
    let connection = &session.connection;
    let dynamic = connection.dynamic_registration.as_ref();
    let capabilities = driver.capabilities();
    let credentials = session.fingerprint().filter(|_| capabilities.lists());
    let learned = session.learned();
    let account =
        learned.account.as_ref().filter(|(fingerprint, _)| Some(fingerprint) == credentials.as_ref());
    Known {
        origin: driver.origin(),
        issuer: driver.issuer(),
        unknown_outcome: dynamic.map_or(UnknownOutcome::default(), |d| d.unknown_outcome),
        reads: dynamic.is_none_or(|d| d.drift_reads == DriftReads::Auto) && !learned.reads_rotate,
        shown: learned.shown.clone(),
        drift_interval: drift_interval(connection),
        fingerprint: fingerprint(&serde_json::to_string(connection).unwrap_or_default()),
        not_ready,
        proven: credentials.is_some() && learned.proven == credentials,
        account_id: account.map(|(_, account)| account.clone()),
        accepted: None,
        guardrails: None,
        credentials,
        capabilities,
    }
}

/// How often a registry's clients are looked at.
pub fn drift_interval(connection: &RegistryConnection) -> Duration {
    let given = connection.drift_interval.as_ref().and_then(crate::api::Duration::get);
    given.unwrap_or(DEFAULT_DRIFT_INTERVAL)
}

/// The key of the session of the registry that an object refers to.
pub fn key_of(client: &OAuthClient) -> SessionKey {
    session_key(&client.spec.registry_ref, &client.namespace().unwrap_or_default())
}

fn session_key(reference: &RegistryRef, namespace: &str) -> SessionKey {
    let namespace = match reference.kind {
        RegistryKind::OAuthRegistry => namespace,
        RegistryKind::ClusterOAuthRegistry => "",
    };
    SessionKey { kind: reference.kind, namespace: namespace.into(), name: reference.name.clone() }
}

fn namespaced(context: &Context, key: &SessionKey) -> Result<Described, Why> {
    let found = context
        .registries
        .namespaced
        .iter()
        .find_map(|store| store.get(&ObjectRef::<OAuthRegistry>::new(&key.name).within(&key.namespace)));
    found.map(|registry| Described::of(registry.as_ref())).ok_or_else(|| {
        let message =
            format!("there is no OAuthRegistry {} in namespace {}: create it", key.name, key.namespace);
        Why::new("RegistryNotFound", message)
    })
}

async fn cluster(
    context: &Context,
    client: &OAuthClient,
    key: &SessionKey,
) -> Result<Result<Described, Why>, PassError> {
    let Some(store) = &context.registries.cluster else {
        let message = "this operator serves chosen namespaces only and sees no ClusterOAuthRegistry: use an OAuthRegistry";
        return Ok(Err(Why::new("ClusterRegistryUnavailable", message)));
    };
    let Some(registry) = store.get(&ObjectRef::<ClusterOAuthRegistry>::new(&key.name)) else {
        let message = format!("there is no ClusterOAuthRegistry {}: create it", key.name);
        return Ok(Err(Why::new("RegistryNotFound", message)));
    };
    let namespace = client.namespace().unwrap_or_default();
    if allowed(context, registry.spec.allowed_namespaces.as_ref(), &namespace).await? {
        return Ok(Ok(Described::of(registry.as_ref())));
    }
    let message = format!(
        "ClusterOAuthRegistry {} does not allow namespace {namespace}: ask its owner to let spec.allowedNamespaces match the namespace's labels",
        key.name
    );
    Ok(Err(Why::new("NamespaceNotAllowed", message)))
}

/// Closed by default: no selector allows nothing, an empty one everything.
async fn allowed(
    context: &Context,
    selector: Option<&LabelSelector>,
    namespace: &str,
) -> Result<bool, PassError> {
    let Some(selector) = selector else { return Ok(false) };
    let Ok(selector) = Selector::try_from(selector.clone()) else { return Ok(false) };
    if selector.selects_all() {
        return Ok(true);
    }
    let namespaces: Api<Namespace> = Api::all(context.kube.clone());
    let namespace = call("read the namespace", namespaces.get_metadata_opt(namespace)).await?;
    Ok(namespace.is_some_and(|namespace| selector.matches(namespace.labels())))
}

/// The registry's credentials: read by name, at most once a minute for all its clients, and at once after they were refused.
async fn credentials(
    context: &Context,
    key: &SessionKey,
    session: &Session,
) -> Result<Result<Option<Credentials>, Why>, PassError> {
    let Some(reference) = session.connection.credentials() else { return Ok(Ok(None)) };
    if let Some(fresh) = session.credentials().fresh() {
        return Ok(Ok(Some(fresh)));
    }
    let namespace = match key.kind {
        RegistryKind::OAuthRegistry => &key.namespace,
        RegistryKind::ClusterOAuthRegistry => &context.settings.operator_namespace,
    };
    let secrets: Api<Secret> = Api::namespaced(context.kube.clone(), namespace);
    let secret = call("read the registry's credentials", secrets.get_opt(reference.name())).await?;
    let Some(credentials) = secret.and_then(|secret| read_credentials(reference, &secret)) else {
        let message = format!(
            "the registry needs credentials, but Secret {namespace}/{} has no text under key {}: create it",
            reference.name(),
            reference.keys().join(" and ")
        );
        return Ok(Err(Why::new("CredentialsNotFound", message)));
    };
    session.keep_credentials(credentials.clone());
    Ok(Ok(Some(credentials)))
}

fn read_credentials(reference: CredentialsRef<'_>, secret: &Secret) -> Option<Credentials> {
    let text = |key: &str| {
        let bytes = secret.data.as_ref()?.get(key)?.0.clone();
        let text = String::from_utf8(bytes).ok()?.trim().to_owned();
        (!text.is_empty()).then_some(text)
    };
    Some(match reference {
        CredentialsRef::Bearer { key, .. } => Credentials::Bearer(text(key)?.into()),
        CredentialsRef::Password { user_key, password_key, .. } => {
            Credentials::Password { user: text(user_key)?, password: text(password_key)?.into() }
        }
    })
}

/// Other credentials may open another account, where the client would seem to be gone.
fn may_open_account(session: &Session, record: &Record) -> bool {
    let credentials = session.fingerprint();
    let by_token = !matches!(record.client.management, Management::Registry);
    by_token || credentials == record.state.credentials || credentials == session.learned().proven
}

/// A driver for a client whose registry object may be gone: the last session there was, or what the record knows.
pub fn driver_from_record(
    context: &Context,
    record: &Record,
    namespace: &str,
) -> Result<Box<dyn Registry>, registry::Error> {
    let at_origin = |driver: Box<dyn Registry>| (driver.origin() == record.state.origin).then_some(driver);
    let key = session_key(&record.state.registry, namespace);
    let last = context.sessions.last(&key).filter(|session| may_open_account(session, record));
    let last = last.and_then(|session| {
        let credentials = session.credentials().last();
        registry::open(session, credentials).ok()
    });
    if let Some(driver) = last.and_then(at_origin) {
        return Ok(driver);
    }
    if matches!(record.client.management, Management::Registry) {
        let RegistryRef { kind, name } = &record.state.registry;
        return Err(registry::Error::new(
            registry::Kind::Unavailable,
            format!(
                "{kind:?} {name} or its credentials are gone or others, and with them the way to the client: put them back"
            ),
        ));
    }
    let issuer = record.state.issuer.clone();
    let endpoint = issuer.is_none().then(|| record.state.origin.clone());
    let connection = RegistryConnection {
        dynamic_registration: Some(DynamicRegistration {
            issuer: issuer.map(WebUri),
            registration_endpoint: endpoint.map(WebUri),
            initial_access_token_secret_ref: None,
            unknown_outcome: UnknownOutcome::default(),
            drift_reads: DriftReads::default(),
        }),
        insecure_http: record.state.origin.starts_with("http://"),
        ..RegistryConnection::default()
    };
    let gone = SessionKey { name: format!("{} (gone)", record.state.origin), ..key };
    let session = context
        .sessions
        .get(&gone, &connection)
        .map_err(|why| registry::Error::new(registry::Kind::Unavailable, why))?;
    registry::open(session, None)
}
