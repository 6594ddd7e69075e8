//! Goes round the registries that list their clients: one list a registry and drift interval serves all its clients, shows what
//! nobody needs any more, and tells whether the registry can be believed.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{
    Api, ResourceExt,
    api::{ListParams, Patch, PatchParams},
    runtime::reflector::Store,
};
use serde_json::json;
use tokio::{task::JoinSet, time::Instant};

use crate::{
    api::{
        ClusterOAuthRegistry, Condition, ConditionStatus, OAuthClient, OAuthRegistry, RegistryKind,
        RegistryStatus, conditions,
    },
    reconcile::{
        Context, PassError, call,
        facts::{Facts, Why},
        gather::{self, Described, Usable},
        intent::Intent,
        look, next,
        record::{self, Record},
    },
    registry::{Client, SessionKey, ShownMark},
};

/// How often it is looked which registry is due.
const TICK: Duration = Duration::from_secs(2);
const PAGE: u32 = 500;

/// Goes round until it is aborted. `namespaces` are those that are served; none means all.
pub async fn run(context: Arc<Context>, namespaces: Vec<String>) {
    let mut last: HashMap<SessionKey, (Instant, u64)> = HashMap::new();
    let mut running: HashSet<SessionKey> = HashSet::new();
    let mut rounds = JoinSet::new();
    context.registries.wait_until_listed().await;
    loop {
        let found = objects(&context);
        last.retain(|key, _| found.iter().any(|object| object.key == *key));
        for object in found {
            let version = object.version();
            let due = last
                .get(&object.key)
                .is_none_or(|(at, then)| *then != version || at.elapsed() >= object.interval());
            // A registry that hangs keeps nobody else waiting.
            if due && running.insert(object.key.clone()) {
                last.insert(object.key.clone(), (Instant::now(), version));
                let (context, namespaces) = (context.clone(), namespaces.clone());
                rounds.spawn(async move {
                    round(&context, &object, &namespaces).await;
                    object.key
                });
            }
        }
        tokio::time::sleep(TICK).await;
        while let Some(ended) = rounds.try_join_next() {
            if let Ok(key) = ended {
                running.remove(&key);
            }
        }
    }
}

/// A registry object of either kind.
pub struct Object {
    key: SessionKey,
    generation: i64,
    described: Described,
    status: Option<RegistryStatus>,
}

impl Object {
    /// Differs when somebody has said something else about the registry.
    fn version(&self) -> u64 {
        use std::hash::{DefaultHasher, Hash as _, Hasher as _};
        let mut hasher = DefaultHasher::new();
        (self.generation, &self.described.accepted).hash(&mut hasher);
        hasher.finish()
    }

    fn interval(&self) -> Duration {
        gather::drift_interval(&self.described.connection)
    }
}

/// The registry objects, as watched.
pub fn objects(context: &Context) -> Vec<Object> {
    let namespaced = context.registries.namespaced.iter().flat_map(Store::state).map(|registry| Object {
        key: SessionKey {
            kind: RegistryKind::OAuthRegistry,
            namespace: registry.namespace().unwrap_or_default(),
            name: registry.name_any(),
        },
        generation: registry.metadata.generation.unwrap_or_default(),
        described: Described::of(registry.as_ref(), &registry.spec.connection),
        status: registry.status.clone(),
    });
    let cluster = context.registries.cluster.iter().flat_map(Store::state).map(|registry| Object {
        key: SessionKey {
            kind: RegistryKind::ClusterOAuthRegistry,
            namespace: String::new(),
            name: registry.name_any(),
        },
        generation: registry.metadata.generation.unwrap_or_default(),
        described: Described::of(registry.as_ref(), &registry.spec.connection),
        status: registry.status.clone(),
    });
    namespaced.chain(cluster).collect()
}

/// One round at one registry.
pub async fn round(context: &Context, object: &Object, namespaces: &[String]) {
    let outcome = visit(context, object, namespaces).await;
    let (account_id, why) = match outcome {
        Ok(None) => return,
        Ok(Some(visited)) => visited,
        Err(PassError::Registry(error)) => (None, Some(Why::from(&error))),
        Err(error) => {
            tracing::warn!(%error, registry = object.key.name, "the round failed; it is tried again");
            return;
        }
    };
    if let Err(error) = tell(context, object, account_id, why.as_ref()).await {
        tracing::warn!(%error, registry = object.key.name, "the registry's status could not be written");
    }
}

/// What a visit found: the account that the credentials open, and what is wrong.
type Visited = (Option<String>, Option<Why>);

/// Lists, judges and sweeps. `None` if the registry cannot list.
async fn visit(
    context: &Context,
    object: &Object,
    namespaces: &[String],
) -> Result<Option<Visited>, PassError> {
    let described = object.described.clone();
    let Usable { known, driver, session } = match gather::find_driver(context, &object.key, described).await?
    {
        Ok(usable) => usable,
        Err(why) => return Ok(Some((None, Some(why)))),
    };
    if !known.capabilities.lists() {
        return Ok(None);
    }
    if let Some(why) = known.not_ready {
        return Ok(Some((None, Some(why))));
    }
    // A client's look may have asked a moment ago; that is as good.
    let since = Instant::now().checked_sub(object.interval() / 2);
    let inventory = session.inventory(driver.as_ref(), since).await?;
    let account = inventory.account_id.clone();
    let clients = look::clients_of(context, &object.key);
    let named: Vec<&str> = clients.iter().filter_map(|client| look::named(client)).collect();
    if named.is_empty() || named.iter().any(|id| inventory.get(id).is_some()) {
        session.learned().proven.clone_from(&known.credentials);
    }
    let proven = session.learned().proven == known.credentials || known.is_accepted();
    if !proven {
        return Ok(Some((account, Some(next::account_unknown(&known.identity())))));
    }
    if let Some(why) = look::mass_absence(context, &object.key, &inventory, &known) {
        return Ok(Some((account, Some(why))));
    }
    for (client, mark) in inventory.marked().filter(|(_, mark)| mark.is_of(&context.installation)) {
        if is_stray(context, &clients, client, mark, namespaces).await? {
            driver.deregister(client).await?;
            context.metrics.swept.inc();
            tracing::info!(
                registry = object.key.name,
                client_id = client.client_id,
                "removed a client of ours that nobody needed"
            );
        }
    }
    Ok(Some((account, None)))
}

/// Whether a client that bears our mark is needed by nobody. Only the API server's own word counts before something is destroyed.
async fn is_stray(
    context: &Context,
    clients: &[Arc<OAuthClient>],
    client: &Client,
    mark: &ShownMark,
    namespaces: &[String],
) -> Result<bool, PassError> {
    let of_object = |uid: &str| mark.is_of_object(&context.installation, uid);
    let seen = clients.iter().find(|object| object.metadata.uid.as_deref().is_some_and(of_object));
    if let Some(seen) = seen {
        return match gather::live(context, seen).await? {
            Some(live) => {
                let pass = gather::gather(context, &live).await?;
                Ok(is_superseded(&pass.facts, client, mark))
            }
            // The next round sees it as one without an object.
            None => Ok(false),
        };
    }
    Ok(!lives(context, &of_object, namespaces).await? && !is_recorded(context, client, &of_object).await?)
}

/// Whether the object has gone on without this client: it names another one, and no attempt is open that may have made it.
fn is_superseded(facts: &Facts, client: &Client, mark: &ShownMark) -> bool {
    let Some(record) = facts.record() else { return false };
    let id = &client.client_id;
    let status = facts.client.status.as_ref();
    let told = status.and_then(|status| status.rotation.as_ref()).map(|rotation| &rotation.retiring);
    let named = status.and_then(|status| status.client_id.as_ref()) == Some(id)
        || told.is_some_and(|retiring| retiring.iter().any(|old| old.client_id == *id));
    let recorded =
        record.client.client_id == *id || record.state.retiring.iter().any(|old| old.client.client_id == *id);
    let intended = facts.intent.as_ref().is_some_and(|intent| {
        let for_it = intent.secret_for.as_ref().is_some_and(|named| named.client_id == *id);
        for_it || intent.retires.as_ref() == Some(id)
    });
    !named && !recorded && !intended && !is_open(facts, facts.intent.as_ref(), record, mark)
}

/// Whether the attempt that made it may still come to something.
fn is_open(facts: &Facts, intent: Option<&Intent>, record: &Record, mark: &ShownMark) -> bool {
    let settled = intent.is_none_or(|intent| facts.since(intent.at) >= facts.settle);
    match mark {
        ShownMark::Full { nonce, .. } => {
            let current = intent.is_some_and(|intent| intent.nonce == *nonce && facts.unresolved().is_some());
            let replaced = intent.is_some_and(|intent| intent.replaces.as_ref() == Some(nonce) && !settled);
            // Of a request that arrived twice, the other one was stored.
            let twin = record.state.nonce == *nonce && !settled;
            current || replaced || twin
        }
        ShownMark::Tag(_) => facts.unresolved().is_some() || !settled,
    }
}

/// Whether an object of this mark is there, by a list of now.
async fn lives(
    context: &Context,
    of_object: &impl Fn(&str) -> bool,
    namespaces: &[String],
) -> Result<bool, PassError> {
    let scopes: Vec<Api<OAuthClient>> = match namespaces {
        [] => vec![Api::all(context.kube.clone())],
        some => some.iter().map(|namespace| Api::namespaced(context.kube.clone(), namespace)).collect(),
    };
    for scope in scopes {
        let mut page = ListParams::default().limit(PAGE);
        loop {
            let found = call("list OAuthClients", scope.list_metadata(&page)).await?;
            if found.items.iter().any(|object| object.metadata.uid.as_deref().is_some_and(of_object)) {
                return Ok(true);
            }
            match found.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page = page.continue_token(&token),
                None => break,
            }
        }
    }
    Ok(false)
}

/// Whether a record speaks of the client or its object: one that was retained, or that is looked after otherwise.
async fn is_recorded(
    context: &Context,
    client: &Client,
    of_object: &impl Fn(&str) -> bool,
) -> Result<bool, PassError> {
    let records = context.records();
    let mut page = ListParams::default().labels(record::LABEL).limit(PAGE);
    loop {
        let found = call("list the records", records.list(&page)).await?;
        let speaks =
            |record: &Record| record.client.client_id == client.client_id || of_object(&record.owner.uid);
        if found.items.iter().filter_map(|secret| Record::read(secret).ok()).any(|record| speaks(&record)) {
            return Ok(true);
        }
        match found.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(false),
        }
    }
}

/// Writes the registry's status, if it says something else.
async fn tell(
    context: &Context,
    object: &Object,
    account_id: Option<String>,
    why: Option<&Why>,
) -> Result<(), PassError> {
    let old = object.status.clone().unwrap_or_default();
    let ready = Why::new("Ready", "The registry answers and shows the clients that were registered there");
    let mut new = RegistryStatus {
        observed_generation: object.generation,
        account_id: account_id.or_else(|| old.account_id.clone().filter(|_| why.is_some())),
        conditions: old.conditions.clone(),
    };
    let status = if why.is_none() { ConditionStatus::True } else { ConditionStatus::False };
    let Why { reason, message } = why.unwrap_or(&ready).clone();
    let now = context.clock.now();
    conditions::set(
        &mut new.conditions,
        Condition {
            type_: conditions::READY.into(),
            status,
            observed_generation: Some(object.generation),
            last_transition_time: Time(Timestamp::from_second(now.as_second()).unwrap_or(now)),
            reason,
            message,
        },
    );
    if object.status.as_ref() == Some(&new) {
        return Ok(());
    }
    let patch = Patch::Merge(json!({"status": new}));
    let (params, name, kube) = (PatchParams::default(), &object.key.name, context.kube.clone());
    let written = match object.key.kind {
        RegistryKind::OAuthRegistry => {
            let registries: Api<OAuthRegistry> = Api::namespaced(kube, &object.key.namespace);
            call("write the registry's status", registries.patch_status(name, &params, &patch))
                .await
                .map(drop)
        }
        RegistryKind::ClusterOAuthRegistry => {
            let registries: Api<ClusterOAuthRegistry> = Api::all(kube);
            call("write the registry's status", registries.patch_status(name, &params, &patch))
                .await
                .map(drop)
        }
    };
    match written {
        Err(PassError::Kubernetes { code: 404, .. }) => Ok(()),
        written => written,
    }
}
