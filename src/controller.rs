//! Watches the objects, decides what wakes a client, and runs the passes.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    panic::resume_unwind,
    pin::pin,
    sync::Arc,
};

use futures::{
    Stream, StreamExt,
    future::{self, Either},
    stream::BoxStream,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    runtime::{
        Controller, PredicateConfig, WatchStreamExt,
        controller::Action,
        reflector::{self, ObjectRef, Store},
        watcher,
    },
};
use serde::de::DeserializeOwned;
use tokio::sync::{Notify, watch};
use tracing::Instrument;

use crate::{
    api::{ClusterOAuthRegistry, OAuthClient, OAuthRegistry, RegistryKind, annotations},
    reconcile::{self, Context, Listed, Registries},
};

/// Objects in one page of a list.
const PAGE: u32 = 500;

/// The annotations that wake a client. The intent is not among them: we write it ourselves.
const WAKING: [&str; 5] = [
    annotations::REQUESTED_AT,
    annotations::FLUX_REQUESTED_AT,
    annotations::RESUME,
    annotations::ABANDON,
    annotations::ROTATE,
];

/// The watches of one scope: all namespaces, or one.
pub struct Scope {
    clients: Store<OAuthClient>,
    client_changes: Changes<OAuthClient>,
    registry_changes: Changes<OAuthRegistry>,
    cluster_changes: Option<Changes<ClusterOAuthRegistry>>,
}

/// Everything that is watched.
pub struct Watches {
    /// A scope for each served namespace, or one for all.
    pub scopes: Vec<Scope>,
    /// The registry objects that the scopes' watches keep.
    pub registries: Registries,
    /// The clients that the scopes' watches keep.
    pub clients: Vec<Store<OAuthClient>>,
    /// Which of the watches have listed their objects once.
    pub listed: Vec<Listed>,
}

/// Prepares the watches; nothing is sent before [`run`]. No namespace means all of them.
pub fn watches(client: &Client, namespaces: &[String]) -> Watches {
    let registries =
        Registries { namespaced: Vec::new(), cluster: None, listed: Vec::new(), changed: Arc::default() };
    let mut watches = Watches { scopes: Vec::new(), registries, clients: Vec::new(), listed: Vec::new() };
    if namespaces.is_empty() {
        let cluster = kept(Api::all(client.clone()), &watches.registries.changed);
        watches.registries.cluster = Some(cluster.store);
        watches.registries.listed.push(cluster.listed);
        let changes = of_registries(cluster.events);
        watches.add(Api::all(client.clone()), Api::all(client.clone()), Some(changes));
    }
    for namespace in namespaces {
        let clients = Api::namespaced(client.clone(), namespace);
        watches.add(clients, Api::namespaced(client.clone(), namespace), None);
    }
    watches.listed.extend(watches.registries.listed.iter().cloned());
    watches
}

impl Watches {
    fn add(
        &mut self,
        clients: Api<OAuthClient>,
        registries: Api<OAuthRegistry>,
        cluster_changes: Option<Changes<ClusterOAuthRegistry>>,
    ) {
        let changed = &self.registries.changed;
        let (clients, registries) = (kept(clients, changed), kept(registries, changed));
        let client_changes =
            clients.events.applied_objects().predicate_filter(wakes, PredicateConfig::default());
        self.registries.namespaced.push(registries.store);
        self.registries.listed.push(registries.listed);
        self.registries.listed.push(clients.listed);
        self.clients.push(clients.store.clone());
        self.scopes.push(Scope {
            clients: clients.store,
            client_changes: logged(client_changes),
            registry_changes: of_registries(registries.events),
            cluster_changes,
        });
    }
}

type Changes<K> = BoxStream<'static, Result<K, watcher::Error>>;

/// A watch and what it keeps.
struct Kept<K: Resource<DynamicType = ()> + 'static> {
    store: Store<K>,
    listed: Listed,
    events: BoxStream<'static, watcher::Result<watcher::Event<K>>>,
}

fn kept<K>(api: Api<K>, changed: &Arc<Notify>) -> Kept<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + std::fmt::Debug + Send + Sync + 'static,
{
    let (store, writer) = reflector::store();
    let (told, listed) = watch::channel(false);
    let changed = changed.clone();
    let events = watcher(api, watcher::Config::default().page_size(PAGE))
        .default_backoff()
        .modify(|object: &mut K| {
            object.managed_fields_mut().clear();
            object.annotations_mut().remove("kubectl.kubernetes.io/last-applied-configuration");
        })
        .reflect(writer)
        .inspect(move |event| {
            if matches!(event, Ok(watcher::Event::InitDone)) {
                told.send_replace(true);
            }
            changed.notify_one();
        });
    Kept { store, listed, events: events.boxed() }
}

/// Changes of spec, deletions, and what people accept.
fn of_registries<K>(events: BoxStream<'static, watcher::Result<watcher::Event<K>>>) -> Changes<K>
where
    K: Resource<DynamicType = ()> + Clone + Send + Sync + 'static,
{
    logged(events.touched_objects().predicate_filter(tells, PredicateConfig::default()))
}

/// An error goes no further: the controller would hold back all watches for it, and each has its own backoff.
fn logged<K: Resource<DynamicType = ()> + Send + 'static>(
    changes: impl Stream<Item = Result<K, watcher::Error>> + Send + 'static,
) -> Changes<K> {
    let logged = changes.filter(|change| {
        if let Err(error) = change {
            let kind = K::kind(&());
            tracing::warn!(%kind, %error, "cannot watch; are the CRDs installed and may the operator list them?");
        }
        future::ready(change.is_ok())
    });
    logged.boxed()
}

/// What of a registry wakes its clients.
#[expect(clippy::unnecessary_wraps, reason = "a predicate of kube")]
fn tells(registry: &impl ResourceExt) -> Option<u64> {
    let mut hasher = DefaultHasher::new();
    (registry.meta().generation, registry.annotations().get(annotations::ACCEPT)).hash(&mut hasher);
    Some(hasher.finish())
}

/// What wakes a client: its spec, its deletion, what people ask for by annotation, and whoever takes our finalizer off.
#[expect(clippy::unnecessary_wraps, reason = "a predicate of kube")]
fn wakes(client: &OAuthClient) -> Option<u64> {
    let mut hasher = DefaultHasher::new();
    let metadata = &client.metadata;
    metadata.generation.hash(&mut hasher);
    metadata.deletion_timestamp.is_some().hash(&mut hasher);
    let registered = client.status.as_ref().is_some_and(|status| status.client_id.is_some());
    (registered && !client.is_held()).hash(&mut hasher);
    for name in WAKING {
        metadata.annotations.as_ref().and_then(|notes| notes.get(name)).hash(&mut hasher);
    }
    Some(hasher.finish())
}

/// Runs the passes of all scopes until `shutdown`; passes that run then come to their end, and those that wait end at once.
pub async fn run(
    context: Arc<Context>,
    scopes: Vec<Scope>,
    shutdown: impl Future<Output = ()> + Clone + Send + Sync + 'static,
) {
    let closing = context.clone();
    let running = scopes.into_iter().map(|scope| {
        let context = context.clone();
        let mut controller = Controller::for_stream(scope.client_changes, scope.clients.clone())
            // The lanes bound the passes; a bound over all registries would be full of passes that wait for one of them.
            .with_config(kube::runtime::controller::Config::default().concurrency(0))
            .graceful_shutdown_on(shutdown.clone());
        let clients = scope.clients.clone();
        controller = controller.watches_stream(scope.registry_changes, move |registry| {
            let namespace = registry.namespace();
            dependents(&clients, RegistryKind::OAuthRegistry, &registry.name_any(), namespace.as_deref())
        });
        if let Some(changes) = scope.cluster_changes {
            let clients = scope.clients.clone();
            controller = controller.watches_stream(changes, move |registry| {
                dependents(&clients, RegistryKind::ClusterOAuthRegistry, &registry.name_any(), None)
            });
        }
        controller.run(pass, |_, error: &Never, _| match *error {}, context).for_each(|_| future::ready(()))
    });
    let running = pin!(future::join_all(running));
    if let Either::Right(((), running)) = future::select(running, pin!(shutdown)).await {
        closing.lanes.close();
        running.await;
    }
}

/// No pass fails: what went wrong is reported and becomes a delay.
#[derive(Debug, thiserror::Error)]
enum Never {}

async fn pass(client: Arc<OAuthClient>, context: Arc<Context>) -> Result<Action, Never> {
    // A task of its own: the controller looks after all that it holds whenever one of them moves, ten thousand that wait among
    // them. So only the end of a pass moves it.
    let pass = tokio::spawn(reconcile::reconcile(client, context).in_current_span());
    match pass.await {
        Ok(action) => Ok(action),
        Err(error) => match error.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            Err(_) => Ok(Action::await_change()),
        },
    }
}

fn dependents(
    clients: &Store<OAuthClient>,
    kind: RegistryKind,
    name: &str,
    namespace: Option<&str>,
) -> Vec<ObjectRef<OAuthClient>> {
    let of_it = |client: &Arc<OAuthClient>| {
        let reference = &client.spec.registry_ref;
        let here = namespace.is_none_or(|namespace| client.namespace().as_deref() == Some(namespace));
        reference.kind == kind && reference.name == name && here
    };
    clients
        .state()
        .iter()
        .filter(|client| of_it(client))
        .map(|client| ObjectRef::from_obj(client.as_ref()))
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn annotated<K: DeserializeOwned>(annotation: &str, spec: &Value) -> K {
        serde_json::from_value(json!({
            "metadata": {"name": "app", "namespace": "ns", "generation": 1, "annotations": {annotation: "x"}},
            "spec": spec,
        }))
        .unwrap()
    }

    #[test]
    fn what_people_ask_for_wakes_a_client_and_what_we_write_does_not() {
        let client =
            |annotation| annotated::<OAuthClient>(annotation, &json!({"registryRef": {"name": "dev"}}));
        let cases = [
            (annotations::REQUESTED_AT, true, "a look"),
            (annotations::FLUX_REQUESTED_AT, true, "a look, by Flux"),
            (annotations::RESUME, true, "the next attempt"),
            (annotations::ABANDON, true, "the end of a deletion"),
            (annotations::ROTATE, true, "a new secret"),
            (annotations::INTENT, false, "written by the pass itself"),
        ];
        for (annotation, woken, reason) in cases {
            let differs = wakes(&client(annotation)) != wakes(&client("example.com/note"));
            assert_eq!(differs, woken, "{annotation}: {reason}");
        }
    }

    #[test]
    fn whoever_takes_our_finalizer_off_wakes_the_client() {
        let woken = |id: Option<&str>, finalizers: &[&str]| {
            let client: OAuthClient = serde_json::from_value(json!({
                "metadata": {"name": "app", "namespace": "ns", "finalizers": finalizers},
                "spec": {"registryRef": {"name": "dev"}},
                "status": {"clientId": id, "conditions": []},
            }))
            .unwrap();
            wakes(&client)
        };
        let held = [crate::api::FINALIZER];
        assert_ne!(woken(Some("id-1"), &held), woken(Some("id-1"), &[]));
        assert_eq!(woken(None, &[]), woken(None, &held), "we put it on ourselves");
        assert_eq!(woken(None, &held), woken(Some("id-1"), &held), "and then register it");
    }

    #[test]
    fn a_registry_that_people_accept_wakes_its_clients() {
        let registry = |annotation| annotated::<OAuthRegistry>(annotation, &json!({}));
        assert_ne!(tells(&registry(annotations::ACCEPT)), tells(&registry("example.com/note")));
    }

    #[tokio::test]
    async fn nothing_is_believed_before_all_clients_and_registries_were_listed() {
        let client = Client::new(axum::Router::new(), "ns");
        for (namespaces, listed, reason) in [
            (vec![], 3, "clients, and both kinds of registries"),
            (vec!["shop".to_owned(), "till".to_owned()], 4, "clients and registries of each namespace"),
        ] {
            assert_eq!(watches(&client, &namespaces).registries.listed.len(), listed, "{reason}");
        }
    }
}
