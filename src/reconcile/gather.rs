//! Gathers the facts of a pass: reads only.

use std::{sync::Arc, time::Duration};

use k8s_openapi::{
    api::core::v1::{Namespace, Secret},
    apimachinery::pkg::apis::meta::v1::LabelSelector,
};
use kube::{
    Api, ResourceExt,
    core::{Selector, SelectorExt},
    runtime::reflector::ObjectRef,
};
use secrecy::SecretString;

use super::{
    Context, PassError, call,
    facts::{self, Facts, Known, Progress, Why, fingerprint},
    intent::Intent,
    record::{self, Record},
    secret,
};
use crate::{
    api::{
        ClusterOAuthRegistry, ConditionStatus, DriftReads, DynamicRegistration, OAuthClient, OAuthRegistry,
        RegistryConnection, RegistryKind, RegistryRef, UnknownOutcome, WebUri, conditions,
    },
    registry::{self, Registry, Session, SessionKey, session},
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

/// Reads everything that a pass is decided from. `client` was read before; [`hangs_together`] reads it again.
pub async fn gather(context: &Context, client: &OAuthClient) -> Result<Pass, PassError> {
    let uid = client.metadata.uid.clone().unwrap_or_default();
    let namespace = client.namespace().unwrap_or_default();
    let records = context.records();
    let secrets: Api<Secret> = Api::namespaced(context.kube.clone(), &namespace);
    let record = call("read the record", records.get_opt(&record::name(&uid))).await?;
    let record = record.map(|secret| read_record(&secret, &uid)).transpose();
    let secret = call("read the Secret", secrets.get_opt(&client.secret_name())).await?;
    let registering = matches!(record, Ok(None)) && client.metadata.deletion_timestamp.is_none();
    let (registry, driver, session) = match find_registry(context, client, registering).await? {
        Ok(found) => (Ok(found.known), Some(found.driver), Some(found.session)),
        Err(why) => (Err(why), None, None),
    };
    let settle = session.as_ref().map_or(Duration::ZERO, |s| session::timeout(&s.connection));
    let intent = Intent::of(client);
    // A replacement that was not made goes on only when a look finds the client gone again.
    let nonce = record.as_ref().ok().and_then(Option::as_ref).map(|record: &Record| &record.state.nonce);
    let replacing = nonce.is_some() && nonce == intent.as_ref().and_then(|intent| intent.replaces.as_ref());
    let facts = Facts {
        now: context.clock.now(),
        intent,
        look_due: replacing || look_due(context, client, registry.as_ref().ok()),
        client: client.clone(),
        record,
        secret: secret::judge(secret, &uid),
        registry,
        nonce: (context.nonces)(),
        installation: context.installation.clone(),
        settle: context.settings.settle_time.max(settle),
        deletion_timeout: context.settings.deletion_timeout,
        progress: Progress::default(),
    };
    Ok(Pass { facts, driver, session })
}

fn read_record(secret: &Secret, uid: &str) -> Result<Record, String> {
    let record = Record::read(secret)?;
    if record.owner.uid == uid { Ok(record) } else { Err("it belongs to another object".into()) }
}

/// Reads the object again: facts count only if nothing happened to it while they were read.
pub async fn hangs_together(context: &Context, client: &OAuthClient) -> Result<bool, PassError> {
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

fn look_due(context: &Context, client: &OAuthClient, known: Option<&Known>) -> bool {
    let interval = known.map_or(DEFAULT_DRIFT_INTERVAL, |known| known.drift_interval);
    let status = client.status.as_ref();
    let unseen = status.map(|status| status.observed_generation) != client.metadata.generation;
    let requested = facts::requested(client);
    let unhandled =
        requested.is_some() && requested != status.and_then(|s| s.last_handled_reconcile_at.clone());
    // What was wrong may have been put right at the registry.
    let ready = status.and_then(|status| conditions::find(&status.conditions, conditions::READY));
    let unready = ready.is_none_or(|ready| ready.status != ConditionStatus::True);
    unseen
        || unhandled
        || unready
        || context.looks.due(client.metadata.uid.as_deref().unwrap_or_default(), interval)
}

struct Found {
    known: Known,
    driver: Box<dyn Registry>,
    session: Arc<Session>,
}

async fn find_registry(
    context: &Context,
    client: &OAuthClient,
    registering: bool,
) -> Result<Result<Found, Why>, PassError> {
    let reference = &client.spec.registry_ref;
    let key = session_key(reference, &client.namespace().unwrap_or_default());
    let connection = match reference.kind {
        RegistryKind::OAuthRegistry => namespaced(context, &key),
        RegistryKind::ClusterOAuthRegistry => cluster(context, client, &key).await?,
    };
    let connection = match connection {
        Ok(connection) => connection,
        Err(why) => return Ok(Err(why)),
    };
    let session = match context.sessions.get(&key, &connection) {
        Ok(session) => session,
        Err(why) => return Ok(Err(Why::new("InvalidRegistry", why))),
    };
    let (token, not_ready) = match token(context, &key, &connection, registering).await? {
        Ok(token) => (token, None),
        Err(why) => (None, Some(why)),
    };
    let driver = match registry::open(session.clone(), token) {
        Ok(driver) => driver,
        Err(error) => return Ok(Err(Why::from(&error))),
    };
    let known = known(&session, driver.as_ref(), not_ready);
    Ok(Ok(Found { known, driver, session }))
}

fn known(session: &Session, driver: &dyn Registry, not_ready: Option<Why>) -> Known {
    let connection = &session.connection;
    let dynamic = connection.dynamic_registration.as_ref();
    let learned = session.learned();
    Known {
        origin: driver.origin(),
        issuer: driver.issuer(),
        capabilities: driver.capabilities(),
        unknown_outcome: dynamic.map_or(UnknownOutcome::default(), |d| d.unknown_outcome),
        reads: dynamic.is_none_or(|d| d.drift_reads == DriftReads::Auto) && !learned.reads_rotate,
        shown: learned.shown.clone(),
        drift_interval: drift_interval(connection),
        fingerprint: fingerprint(&serde_json::to_string(connection).unwrap_or_default()),
        not_ready,
    }
}

/// How often a registry's clients are looked at.
pub fn drift_interval(connection: &RegistryConnection) -> Duration {
    let given = connection.drift_interval.as_ref().and_then(crate::api::Duration::get);
    given.unwrap_or(DEFAULT_DRIFT_INTERVAL)
}

/// The key of the session of a referenced registry.
pub fn session_key(reference: &RegistryRef, namespace: &str) -> SessionKey {
    let namespace = match reference.kind {
        RegistryKind::OAuthRegistry => namespace,
        RegistryKind::ClusterOAuthRegistry => "",
    };
    SessionKey { kind: reference.kind, namespace: namespace.into(), name: reference.name.clone() }
}

fn namespaced(context: &Context, key: &SessionKey) -> Result<RegistryConnection, Why> {
    let found = context
        .registries
        .namespaced
        .iter()
        .find_map(|store| store.get(&ObjectRef::<OAuthRegistry>::new(&key.name).within(&key.namespace)));
    found.map(|registry| registry.spec.connection.clone()).ok_or_else(|| {
        let message =
            format!("there is no OAuthRegistry {} in namespace {}: create it", key.name, key.namespace);
        Why::new("RegistryNotFound", message)
    })
}

async fn cluster(
    context: &Context,
    client: &OAuthClient,
    key: &SessionKey,
) -> Result<Result<RegistryConnection, Why>, PassError> {
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
        return Ok(Ok(registry.spec.connection.clone()));
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

/// The initial access token, read anew for every registration, so that a rotated one is used at once.
async fn token(
    context: &Context,
    key: &SessionKey,
    connection: &RegistryConnection,
    registering: bool,
) -> Result<Result<Option<SecretString>, Why>, PassError> {
    let reference =
        connection.dynamic_registration.as_ref().and_then(|d| d.initial_access_token_secret_ref.as_ref());
    let Some(reference) = reference.filter(|_| registering) else { return Ok(Ok(None)) };
    let namespace = match key.kind {
        RegistryKind::OAuthRegistry => &key.namespace,
        RegistryKind::ClusterOAuthRegistry => &context.settings.operator_namespace,
    };
    let secrets: Api<Secret> = Api::namespaced(context.kube.clone(), namespace);
    let secret = call("read the initial access token", secrets.get_opt(&reference.name)).await?;
    let value = secret.and_then(|secret| secret.data?.remove(&reference.key)).map(|value| value.0);
    let text = value.and_then(|bytes| String::from_utf8(bytes).ok()).map(|text| text.trim().to_owned());
    Ok(text.filter(|text| !text.is_empty()).map(|text| Some(SecretString::from(text))).ok_or_else(|| {
        let message = format!(
            "the registry wants an initial access token, but Secret {namespace}/{} has no text under key {}: create it",
            reference.name, reference.key
        );
        Why::new("CredentialsNotFound", message)
    }))
}

/// Reads what a new registration needs for a client that has a record. Returns whether it is there.
pub async fn may_register_again(context: &Context, pass: &mut Pass) -> Result<bool, PassError> {
    let (Some(session), Ok(known)) = (&pass.session, &mut pass.facts.registry) else { return Ok(false) };
    let client = &pass.facts.client;
    let key = session_key(&client.spec.registry_ref, &client.namespace().unwrap_or_default());
    match token(context, &key, &session.connection, true).await? {
        Ok(token) => pass.driver = Some(registry::open(session.clone(), token)?),
        Err(why) => known.not_ready = Some(why),
    }
    Ok(known.not_ready.is_none())
}

/// A driver for a client whose registry object may be gone: the last session there was, or what the record knows.
pub fn driver_from_record(
    context: &Context,
    record: &Record,
    namespace: &str,
) -> Result<Box<dyn Registry>, registry::Error> {
    let at_origin = |driver: Box<dyn Registry>| (driver.origin() == record.state.origin).then_some(driver);
    let key = session_key(&record.state.registry, namespace);
    let last = context.sessions.last(&key).and_then(|session| registry::open(session, None).ok());
    if let Some(driver) = last.and_then(at_origin) {
        return Ok(driver);
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
        drift_interval: None,
        timeout: None,
        rate_limit: None,
        tls: None,
        proxy_url: None,
        insecure_http: record.state.origin.starts_with("http://"),
    };
    let gone = SessionKey { name: format!("{} (gone)", record.state.origin), ..key };
    let session = context
        .sessions
        .get(&gone, &connection)
        .map_err(|why| registry::Error::new(registry::Kind::Unavailable, why))?;
    registry::open(session, None)
}
