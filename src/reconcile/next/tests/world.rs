//! An API server and a registry in memory, and operators whose every request may go wrong.

use std::{
    collections::{BTreeMap, VecDeque},
    future::pending,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use axum::{Router, extract::Request, response::IntoResponse};
use http::{Method, StatusCode};
use jiff::Timestamp;
use kube::runtime::{events::Reporter, reflector, watcher};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use tokio::sync::Notify;

use crate::{
    api::{Condition, FINALIZER, OAuthClient, OAuthRegistry, RegistryHosts, annotations, conditions},
    clock::Clock,
    lease::Turn,
    metrics::Metrics,
    providers,
    reconcile::{
        Context, Looks, Registries, Settings, backoff::Backoff, intent::Intent, lanes::Lanes, look::Misses,
        reconcile, record::Record,
    },
    registry::{
        self, Sessions,
        transport::{
            Authorization, Body, Connect, Limits, Request as Sent, Response, Route, Transport, TransportError,
        },
    },
};

pub(super) const SETTLE: Duration = Duration::from_secs(30);
pub(super) const INTERVAL: Duration = Duration::from_mins(10);
pub(super) const DELETION: Duration = Duration::from_mins(5);

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The operator dies before it is sent.
    CrashBefore,
    /// It has its effect, and the operator dies before the reply.
    CrashAfter,
    /// It has its effect, but the reply never comes.
    ReplyLost,
    /// It never arrives.
    Lost,
    /// It and its operator stand still until [`World::release`].
    Held,
    /// It has no effect and this answer.
    Answered(u16),
    /// Somebody touches the object first, without a meaning.
    ObjectTouched,
    /// Somebody labels the record first.
    RecordTouched,
    /// The API server sees a conflict, over a quota for example.
    Conflict,
}

/// How the registry behaves.
#[derive(Clone, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a habit of its own, in any combination")]
pub(super) struct Manners {
    pub rotates_on_read: bool,
    pub rotates_on_update: bool,
    pub secret_life: Option<i64>,
    pub renews: bool,
    pub tells_no_start: bool,
    pub forbids_reads: bool,
    pub initial_access_token: Option<&'static str>,
    pub insists_on: Option<(&'static str, &'static str)>,
    pub refuses_name: Option<&'static str>,
    pub hides: Option<&'static str>,
}

#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub secret: String,
    pub token: String,
    pub document: Value,
    pub since: i64,
    pub ends: Option<i64>,
}

#[derive(Default)]
pub(super) struct State {
    pub objects: BTreeMap<String, Value>,
    pub clients: BTreeMap<String, Entry>,
    pub manners: Manners,
    /// What had an effect, in order.
    pub log: Vec<String>,
    pub events: Vec<String>,
    /// The `software_id` of every registration that was let in.
    pub registrations: Vec<String>,
    version: u64,
    made: u64,
    counts: BTreeMap<usize, usize>,
    at: Vec<(usize, usize, Fault)>,
    on: VecDeque<(&'static str, Fault)>,
    dead: Vec<usize>,
}

/// A request to either side.
#[derive(Clone)]
enum Call {
    Kube(Method, String, Value),
    Registry(Method, String, String, Value),
    Provider(providers::Request),
}

/// What one of them answers.
enum Answer {
    Json(u16, Value),
    Reply(Option<providers::Reply>),
}

/// A provider behind the transport, instead of the registry of RFC 7591 in here.
pub(super) type Backend = Arc<dyn Fn(&providers::Request) -> Option<providers::Reply> + Send + Sync>;

struct Shared {
    backend: Option<Backend>,
    state: Mutex<State>,
    clock: Clock,
    crashed: [Notify; 2],
    held: Notify,
    released: Notify,
}

pub(super) struct World {
    shared: Arc<Shared>,
    operators: Mutex<BTreeMap<usize, Arc<Context>>>,
    /// What the operators' watches of clients keep.
    watches: Mutex<BTreeMap<usize, reflector::store::Writer<OAuthClient>>>,
    registry: Mutex<Value>,
}

/// A pass that stands still.
pub(super) type HeldPass<'a> = std::pin::Pin<Box<dyn Future<Output = Option<Duration>> + 'a>>;

const OBJECT: &str = "/apis/oauth-operator.io/v1alpha1/namespaces/shop/oauthclients/app";
const RECORD: &str = "/api/v1/namespaces/operator/secrets/oauth-client-uid-1";
const SECRET: &str = "/api/v1/namespaces/shop/secrets/app";

impl World {
    /// A new object at a registry, and one operator.
    pub(super) fn new() -> Self {
        Self::with(Manners::default(), json!({}))
    }

    /// The same, with these manners of the registry and these members of the object's spec.
    pub(super) fn with(manners: Manners, spec: Value) -> Self {
        let registry = json!({"dynamicRegistration": {"issuer": "https://as.example"}});
        Self::at(None, registry, manners, spec)
    }

    /// The same at a provider, whose registry object is this one. Its credentials are `initial` in the namespace `shop`.
    pub(super) fn at_provider(backend: Backend, registry: Value, credentials: &Value, spec: Value) -> Self {
        let world = Self::at(Some(backend), registry, Manners::default(), spec);
        world.put_credentials(credentials);
        world
    }

    /// Writes the registry's credentials.
    pub(super) fn put_credentials(&self, credentials: &Value) {
        let bytes = |text: &Value| k8s_openapi::ByteString(text.as_str().unwrap().into());
        let data: BTreeMap<&String, k8s_openapi::ByteString> =
            credentials.as_object().unwrap().iter().map(|(key, text)| (key, bytes(text))).collect();
        let secret = json!({"metadata": {"name": "initial", "namespace": "shop"}, "data": data});
        self.state().put("/api/v1/namespaces/shop/secrets/initial", secret);
    }

    fn at(backend: Option<Backend>, registry: Value, manners: Manners, spec: Value) -> Self {
        let token = manners.initial_access_token;
        let shared = Shared {
            backend,
            state: Mutex::new(State { manners, ..State::default() }),
            clock: Clock::starting_at("2030-01-01T00:00:00Z".parse().unwrap()),
            crashed: [Notify::new(), Notify::new()],
            held: Notify::new(),
            released: Notify::new(),
        };
        let mut registry = json!({"metadata": {"name": "dev", "namespace": "shop"}, "spec": registry});
        if token.is_some() {
            registry["spec"]["dynamicRegistration"]["initialAccessTokenSecretRef"] =
                json!({"name": "initial", "key": "token"});
        }
        let world = Self {
            shared: Arc::new(shared),
            operators: Mutex::default(),
            watches: Mutex::default(),
            registry: Mutex::new(registry),
        };
        let mut object = json!({
            "apiVersion": "oauth-operator.io/v1alpha1", "kind": "OAuthClient",
            "metadata": {"name": "app", "namespace": "shop", "uid": "uid-1", "generation": 1},
            "spec": {"registryRef": {"name": "dev"}, "clientName": "App", "redirectUris": ["https://app.example/cb"]},
        });
        merge(&mut object["spec"], &spec);
        let mut state = world.state();
        state.put(OBJECT, object);
        if let Some(token) = token {
            let data = serde_json::to_value(k8s_openapi::ByteString(token.into())).unwrap();
            state.put(
                "/api/v1/namespaces/shop/secrets/initial",
                json!({"metadata": {"name": "initial", "namespace": "shop"}, "data": {"token": data}}),
            );
        }
        drop(state);
        world.restart(0);
        world
    }

    pub(super) fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.shared.state.lock().unwrap()
    }

    pub(super) fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }

    /// Starts an operator, or starts it again: what it held in memory is gone.
    pub(super) fn restart(&self, who: usize) {
        let shared = self.shared.clone();
        let router = Router::new().fallback(move |request: Request| kube(shared.clone(), who, request));
        let client = kube::Client::new(router, "shop");
        let (store, mut writer) = reflector::store();
        let registry: OAuthRegistry = serde_json::from_value(self.registry.lock().unwrap().clone()).unwrap();
        writer.apply_watcher_event(&watcher::Event::Apply(registry));
        let (clients, watch) = reflector::store();
        self.watches.lock().unwrap().insert(who, watch);
        let metrics = Arc::new(Metrics::new());
        let nonces = self.shared.clone();
        let context = Context {
            reporter: Reporter { controller: "test".into(), instance: None },
            kube: client,
            clock: self.shared.clock,
            sessions: Sessions::new(Arc::new(Road(self.shared.clone(), who)), metrics.clone()),
            registries: Registries {
                namespaced: vec![store],
                cluster: None,
                listed: Vec::new(),
                changed: Arc::default(),
            },
            settings: Settings {
                operator_namespace: "operator".into(),
                settle_time: SETTLE,
                deletion_timeout: DELETION,
                registry_hosts: RegistryHosts::default(),
            },
            metrics,
            nonces: Box::new(move || {
                let mut state = nonces.state.lock().unwrap();
                state.made += 1;
                format!("n{}", state.made)
            }),
            installation: "installation".into(),
            clients: vec![clients],
            looks: Looks::default(),
            misses: Misses::default(),
            turn: Turn::default(),
            backoff: Backoff::default(),
            lanes: Lanes::new(8),
        };
        self.state().dead.retain(|dead| *dead != who);
        self.operators.lock().unwrap().insert(who, Arc::new(context));
    }

    /// One pass of the first operator; returns what it did, in order.
    pub(super) async fn pass(&self) -> Vec<String> {
        self.pass_of(0).await
    }

    pub(super) async fn pass_of(&self, who: usize) -> Vec<String> {
        self.state().log.clear();
        if let Some(object) = self.object() {
            self.pass_with(who, object).await;
        }
        self.state().log.clone()
    }

    /// A pass from this view of the object. An operator that dies in it starts again.
    pub(super) async fn pass_with(&self, who: usize, object: OAuthClient) -> Option<Duration> {
        self.watch(who);
        let context = self.operators.lock().unwrap()[&who].clone();
        tokio::select! {
            biased;
            action = reconcile(Arc::new(object), context) => Some(wake(&action)),
            () = self.shared.crashed[who].notified() => {
                self.restart(who);
                None
            }
        }
    }

    /// The operator's watch catches up.
    fn watch(&self, who: usize) {
        let mut watches = self.watches.lock().unwrap();
        let watch = watches.get_mut(&who).unwrap();
        watch.apply_watcher_event(&watcher::Event::Init);
        if let Some(object) = self.object() {
            watch.apply_watcher_event(&watcher::Event::InitApply(object));
        }
        watch.apply_watcher_event(&watcher::Event::InitDone);
    }

    /// So many passes, with time between them; returns all that was done.
    pub(super) async fn work(&self, passes: usize) -> Vec<String> {
        let mut all = Vec::new();
        for _ in 0..passes {
            all.extend(self.pass().await);
            tokio::time::advance(SETTLE * 2).await;
        }
        all
    }

    /// Runs a pass of this operator until one of its requests stands still; then nobody polls it until it is awaited.
    pub(super) async fn hold<'a>(&'a self, who: usize, object: OAuthClient) -> Option<HeldPass<'a>> {
        let mut pass: HeldPass<'a> = Box::pin(self.pass_with(who, object));
        tokio::select! {
            biased;
            _ = &mut pass => None,
            () = self.shared.held.notified() => Some(pass),
        }
    }

    /// Passes with time between them, until three in a row do nothing. Returns how many it took.
    pub(super) async fn settle(&self) -> usize {
        let mut quiet = 0;
        for count in 0..80 {
            quiet = if self.pass().await.is_empty() { quiet + 1 } else { 0 };
            if quiet == 3 {
                return count;
            }
            // Now a settle time, now a drift interval.
            tokio::time::advance(if quiet == 0 { SETTLE * 2 } else { INTERVAL }).await;
        }
        panic!("it does not come to rest: {:?}", self.state().log);
    }

    /// One round of the sweep of the first operator.
    pub(super) async fn sweep(&self) {
        let context = self.operators.lock().unwrap()[&0].clone();
        let round = tokio::time::timeout(Duration::from_secs(200), crate::sweep::run(context, Vec::new()));
        assert!(round.await.is_err(), "the sweep ended");
    }

    /// One round of the first operator at the registry.
    pub(super) async fn round(&self) {
        self.watch(0);
        let context = self.operators.lock().unwrap()[&0].clone();
        for object in crate::registry_objects::all(&context) {
            crate::rounds::round(&context, &object, &[]).await;
        }
    }

    /// The n-th request of an operator goes wrong; counted from 0, events not counted.
    pub(super) fn fault_at(&self, who: usize, n: usize, fault: Fault) {
        let seen = self.state().counts.get(&who).copied().unwrap_or_default();
        self.state().at.push((who, seen + n, fault));
    }

    /// The next request of this name goes wrong.
    pub(super) fn fault_on(&self, name: &'static str, fault: Fault) {
        self.state().on.push_back((name, fault));
    }

    pub(super) fn forget_faults(&self) {
        let mut state = self.state();
        state.at.clear();
        state.on.clear();
    }

    pub(super) fn faults_left(&self) -> usize {
        let state = self.state();
        state.at.len() + state.on.len()
    }

    /// Until a request stands still.
    pub(super) async fn stands_still(&self) {
        self.shared.held.notified().await;
    }

    /// Requests that stood still go on.
    pub(super) fn release(&self) {
        self.shared.released.notify_waiters();
    }

    pub(super) fn object(&self) -> Option<OAuthClient> {
        let object = self.state().objects.get(OBJECT).cloned();
        object.map(|object| serde_json::from_value(object).unwrap())
    }

    pub(super) fn record(&self) -> Option<Record> {
        let secret = self.state().objects.get(RECORD).cloned()?;
        Some(Record::read(&serde_json::from_value(secret).unwrap()).unwrap())
    }

    pub(super) fn secret(&self) -> Option<BTreeMap<String, String>> {
        let secret = self.state().objects.get(SECRET).cloned()?;
        let secret: k8s_openapi::api::core::v1::Secret = serde_json::from_value(secret).unwrap();
        let text = |bytes: k8s_openapi::ByteString| String::from_utf8(bytes.0).unwrap();
        Some(secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, text(value))).collect())
    }

    pub(super) fn intent(&self) -> Option<Intent> {
        Intent::of(&self.object()?)
    }

    /// The nonces of the suspects that the object names.
    pub(super) fn suspects(&self) -> Vec<String> {
        let suspects = self.intent().map(|intent| intent.suspects).unwrap_or_default();
        suspects.into_iter().map(|suspect| suspect.nonce).collect()
    }

    /// The clients at the registry, the events, and what was registered.
    pub(super) fn seen(&self) -> (BTreeMap<String, Entry>, Vec<String>, Vec<String>) {
        let state = self.state();
        (state.clients.clone(), state.events.clone(), state.registrations.clone())
    }

    pub(super) fn condition(&self, type_: &str) -> Option<Condition> {
        conditions::find(&self.object()?.status?.conditions, type_).cloned()
    }

    /// `Ready` with its reason, and what kstatus reads.
    pub(super) fn ready(&self) -> String {
        let Some(ready) = self.condition(conditions::READY) else { return "nothing".into() };
        let also = [conditions::RECONCILING, conditions::STALLED];
        let also = also.into_iter().filter(|t| self.condition(t).is_some());
        let mut words = vec![format!("{:?}", ready.status), ready.reason];
        words.extend(also.map(str::to_owned));
        words.join(" ")
    }

    /// People change the object: a merge patch; `null` removes.
    pub(super) fn edit(&self, patch: Value) {
        let mut state = self.state();
        let mut object = state.objects[OBJECT].clone();
        let spec = object["spec"].clone();
        merge(&mut object, &patch);
        if object["spec"] != spec {
            object["metadata"]["generation"] = json!(object["metadata"]["generation"].as_i64().unwrap() + 1);
        }
        state.put(OBJECT, object);
    }

    /// People change or remove another object.
    pub(super) fn edit_at(&self, what: &str, patch: Option<Value>) {
        let place = if what == "record" { RECORD } else { SECRET };
        assert!(["record", "Secret"].contains(&what));
        let mut state = self.state();
        let mut object = state
            .objects
            .remove(place)
            .unwrap_or_else(|| json!({"metadata": {"name": "app", "namespace": "shop"}}));
        if let Some(patch) = patch {
            merge(&mut object, &patch);
            state.put(place, object);
        }
    }

    /// The record as the user's Secret would keep it.
    pub(super) fn record_text(&self) -> String {
        let secret = self.state().objects[SECRET].clone();
        let kept = secret["metadata"]["annotations"][annotations::RECORD].as_str().map(str::to_owned);
        kept.unwrap_or_else(|| self.record().unwrap().to_annotation("client_secret").unwrap())
    }

    /// Another object, which no watch has shown yet.
    pub(super) fn put_other_object(&self, uid: &str) {
        let mut state = self.state();
        let mut object = state.objects[OBJECT].clone();
        object["metadata"] = json!({"name": "other", "namespace": "till", "uid": uid, "generation": 1});
        object.as_object_mut().unwrap().remove("status");
        state.put("/apis/oauth-operator.io/v1alpha1/namespaces/till/oauthclients/other", object);
    }

    /// People change the registry object. Only a restart of the operator reads it again here.
    pub(super) fn edit_registry(&self, patch: Value) {
        merge(&mut self.registry.lock().unwrap(), &patch);
        self.restart(0);
    }

    /// A person removes at the registry what nobody knows, and says so.
    pub(super) fn look_after(&self) {
        let ours = self.record().map(|record| record.client.client_id);
        self.state().clients.retain(|id, _| Some(id) == ours.as_ref());
        self.annotate(annotations::RESUME, json!(self.intent().map(|intent| intent.nonce)));
    }

    pub(super) fn delete(&self) {
        let now = self.now().to_string();
        let mut state = self.state();
        if state.objects[OBJECT]["metadata"]["finalizers"].as_array().is_none_or(Vec::is_empty) {
            state.objects.remove(OBJECT);
            return;
        }
        let generation = state.objects[OBJECT]["metadata"]["generation"].as_i64().unwrap() + 1;
        drop(state);
        self.edit(json!({"metadata": {"deletionTimestamp": now, "generation": generation}}));
    }

    /// The object is gone, and another one of its name is there.
    pub(super) fn make_again(&self) {
        let mut state = self.state();
        let mut object = state.objects.remove(OBJECT).unwrap();
        object["metadata"] = json!({"name": "app", "namespace": "shop", "uid": "uid-2", "generation": 1, "finalizers": [FINALIZER]});
        object.as_object_mut().unwrap().remove("status");
        state.put(OBJECT, object);
    }

    pub(super) fn annotate(&self, name: &str, value: Value) {
        self.edit(json!({"metadata": {"annotations": {name: value}}}));
    }
}

/// The delay of an action, which only its `Debug` shows; `MAX` if it waits for a change.
fn wake(action: &kube::runtime::controller::Action) -> Duration {
    let text = format!("{action:?}");
    let Some((_, delay)) = text.split_once("Some(") else { return Duration::MAX };
    let delay = delay.trim_end_matches([' ', '}', ')']);
    let unit = delay.find(|c: char| c.is_alphabetic() || c == 'µ').unwrap();
    let number: f64 = delay[..unit].parse().unwrap();
    let scale = match &delay[unit..] {
        "s" => 1.0,
        "ms" => 1e-3,
        _ => 1e-6,
    };
    Duration::from_secs_f64(number * scale)
}

fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(members) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in members {
        if value.is_null() {
            target.as_object_mut().unwrap().remove(key);
        } else {
            merge(&mut target[key], value);
        }
    }
}

fn status(code: u16, reason: &str) -> (u16, Value) {
    (
        code,
        json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": format!("it says {reason}")}),
    )
}

/// The name of a request, for faults and for the log.
fn name(call: &Call) -> String {
    match call {
        Call::Kube(method, path, _) => {
            let what = match path.as_str() {
                path if path.ends_with("/status") => return "write status".into(),
                path if path.contains("/oauthclients") => "object",
                path if path.contains("namespaces/operator/") => "record",
                path if path.ends_with("/initial") => "token",
                path if path.contains("/secrets") => "Secret",
                _ => "event",
            };
            let how = match method.as_str() {
                "GET" => "read",
                "POST" => "create",
                "DELETE" => "delete",
                _ => "update",
            };
            format!("{how} {what}")
        }
        Call::Provider(request) => format!("{} {}", request.method, request.path),
        Call::Registry(method, path, ..) => match (method.as_str(), path.as_str()) {
            ("GET", path) if path.contains(".well-known") => "discover".into(),
            ("POST", "/register") => "register".into(),
            ("POST", _) => "probe".into(),
            ("GET", _) => "read client".into(),
            ("PUT", _) => "update client".into(),
            _ => "deregister".into(),
        },
    }
}

impl Shared {
    /// What becomes of this request.
    fn fault(&self, who: usize, call: &Call) -> Option<Fault> {
        let name = name(call);
        let mut state = self.state.lock().unwrap();
        if state.dead.contains(&who) {
            return Some(Fault::CrashBefore);
        }
        if name.ends_with("event") {
            return None;
        }
        let count = state.counts.entry(who).or_default();
        let n = *count;
        *count += 1;
        if let Some(found) = state.at.iter().position(|(w, at, _)| (*w, *at) == (who, n)) {
            return Some(state.at.remove(found).2);
        }
        let found = state.on.iter().position(|(on, _)| *on == name)?;
        state.on.remove(found).map(|(_, fault)| fault)
    }

    /// Lets a request through, or not. `None` is no answer, ever.
    async fn carry(&self, who: usize, call: Call) -> Option<Answer> {
        let fault = self.fault(who, &call);
        let crash = || {
            self.state.lock().unwrap().dead.push(who);
            self.crashed[who].notify_one();
        };
        match fault {
            Some(Fault::CrashBefore) => crash(),
            Some(Fault::CrashAfter) => {
                drop(self.apply(call));
                crash();
            }
            Some(Fault::ReplyLost) => drop(self.apply(call)),
            Some(Fault::Lost) => {}
            Some(Fault::Held) => {
                self.held.notify_one();
                self.released.notified().await;
                return Some(self.apply(call));
            }
            Some(Fault::Answered(code)) => {
                let (code, body) = status(code, if code == 409 { "Conflict" } else { "Said" });
                return Some(Answer::Json(code, body));
            }
            Some(Fault::Conflict) if matches!(call, Call::Kube(..)) => {
                let (code, body) = status(409, "Conflict");
                return Some(Answer::Json(code, body));
            }
            Some(Fault::ObjectTouched | Fault::RecordTouched) => {
                let path = if fault == Some(Fault::ObjectTouched) { OBJECT } else { RECORD };
                let mut state = self.state.lock().unwrap();
                if let Some(mut object) = state.objects.get(path).cloned() {
                    object["metadata"]["labels"]["touched"] = json!("true");
                    state.put(path, object);
                }
                drop(state);
                return Some(self.apply(call));
            }
            None | Some(Fault::Conflict) => return Some(self.apply(call)),
        }
        None
    }

    fn apply(&self, call: Call) -> Answer {
        let now = self.clock.now();
        let mut state = self.state.lock().unwrap();
        let (code, body) = match call {
            Call::Kube(method, path, body) => state.kube(&method, &path, body, now),
            Call::Registry(method, path, token, body) => state.registry(&method, &path, &token, body, now),
            Call::Provider(request) => {
                let reply = self.backend.as_ref().and_then(|backend| backend(&request));
                let told = reply.as_ref().map_or(0, |reply| reply.status.as_u16());
                if request.method != Method::GET {
                    state.log.push(format!("{} {}: {told}", request.method, request.path));
                }
                return Answer::Reply(reply);
            }
        };
        Answer::Json(code, body)
    }
}

async fn kube(shared: Arc<Shared>, who: usize, request: Request) -> impl IntoResponse {
    let (parts, body) = request.into_parts();
    let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let body = serde_json::from_slice(&bytes).unwrap_or_default();
    let call = Call::Kube(parts.method, parts.uri.path().to_owned(), body);
    match shared.carry(who, call).await {
        Some(Answer::Json(code, value)) => (StatusCode::from_u16(code).unwrap(), axum::Json(value)),
        Some(Answer::Reply(_)) | None => pending().await,
    }
}

impl State {
    pub(super) fn put(&mut self, path: &str, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        if object["metadata"]["uid"].is_null() {
            object["metadata"]["uid"] = json!(format!("uid-of-{}", self.version));
        }
        self.objects.insert(path.to_owned(), object.clone());
        object
    }

    fn kube(&mut self, method: &Method, path: &str, body: Value, now: Timestamp) -> (u16, Value) {
        if path.contains("/events") {
            let (reason, note) = (body["reason"].as_str().unwrap_or_default(), body["note"].as_str());
            self.events.push(format!("{reason}: {}", note.unwrap_or_default()));
            return (201, body);
        }
        if *method == Method::GET && (path.ends_with("/secrets") || path.ends_with("/oauthclients")) {
            let (group, kind) = path.rsplit_once('/').unwrap();
            let listed = |at: &str| at.starts_with(group) && at.rsplit('/').nth(1) == Some(kind);
            let items: Vec<&Value> =
                self.objects.iter().filter(|(at, _)| listed(at)).map(|(_, object)| object).collect();
            return (200, json!({"kind": "List", "apiVersion": "v1", "metadata": {}, "items": items}));
        }
        let (target, is_status) = path.strip_suffix("/status").map_or((path, false), |target| (target, true));
        let target = if method == Method::POST {
            format!("{target}/{}", body["metadata"]["name"].as_str().unwrap())
        } else {
            target.to_owned()
        };
        let target = target.as_str();
        let found = self.objects.get(target).cloned();
        let version = |value: &Value| value["metadata"]["resourceVersion"].as_str().map(str::to_owned);
        let expected = match *method {
            Method::DELETE => body["preconditions"]["resourceVersion"].as_str().map(str::to_owned),
            _ => version(&body),
        };
        let Some(found) = found else {
            if method != Method::POST {
                return status(404, "NotFound");
            }
            let kind = name(&Call::Kube(method.clone(), target.into(), Value::Null));
            self.log.push(format!("{kind}{}", holding(&body)));
            return (201, self.put(target, body));
        };
        match *method {
            Method::GET => return (200, found),
            Method::POST => return status(409, "AlreadyExists"),
            _ if expected.is_some() && expected != version(&found) => return status(409, "Conflict"),
            _ => {}
        }
        let mut new = found.clone();
        match *method {
            Method::DELETE => {
                self.log.push(name(&Call::Kube(method.clone(), path.into(), Value::Null)));
                self.objects.remove(target);
                return (200, json!({"kind": "Status", "apiVersion": "v1", "status": "Success"}));
            }
            Method::PUT if is_status => {
                new["status"] = body["status"].clone();
                if new == found {
                    return (200, found);
                }
                self.log.push(format!("status {}", told(&new)));
            }
            Method::PUT => {
                new = body;
                new["metadata"]["uid"] = found["metadata"]["uid"].clone();
                self.log.push(format!(
                    "{}{}",
                    name(&Call::Kube(method.clone(), path.into(), Value::Null)),
                    holding(&new)
                ));
            }
            _ => {
                merge(&mut new, &body);
                self.log.push(patched(&found, &new));
            }
        }
        let _ = now;
        let new = self.put(target, new);
        let finalizers = new["metadata"]["finalizers"].as_array().map_or(0, Vec::len);
        if !new["metadata"]["deletionTimestamp"].is_null() && finalizers == 0 {
            self.objects.remove(target);
            let owned =
                |object: &Value| object["metadata"]["ownerReferences"][0]["uid"] == new["metadata"]["uid"];
            self.objects.retain(|_, object| !owned(object));
        }
        (200, new)
    }

    fn registry(
        &mut self,
        method: &Method,
        path: &str,
        bearer: &str,
        body: Value,
        now: Timestamp,
    ) -> (u16, Value) {
        let manners = self.manners.clone();
        if path.contains(".well-known") {
            return (
                200,
                json!({"issuer": "https://as.example", "registration_endpoint": "https://as.example/register", "token_endpoint": "https://as.example/token"}),
            );
        }
        if path == "/token" {
            let known = self.clients.iter().any(|(id, entry)| bearer == format!("{id}:{}", entry.secret));
            let error = if known { "unauthorized_client" } else { "invalid_client" };
            return (if known { 400 } else { 401 }, json!({"error": error}));
        }
        let ends = |life: i64| now.as_second() + life;
        let shape = |document: &mut Value| {
            if let Some((member, value)) = manners.insists_on {
                document[member] = json!(value);
            }
        };
        if path == "/register" {
            if manners.initial_access_token.is_some_and(|token| token != bearer) {
                self.log.push("register: 401".into());
                return (401, json!({"error": "invalid_token"}));
            }
            if manners.refuses_name.is_some_and(|name| body["client_name"] == name) {
                self.log.push("register: 400".into());
                return (400, json!({"error": "invalid_client_metadata"}));
            }
            self.made += 1;
            self.registrations.push(body["software_id"].as_str().unwrap().to_owned());
            let id = format!("id-{}", self.registrations.len());
            let mut document = body;
            shape(&mut document);
            let entry = Entry {
                secret: format!("s3cr3t-{}", self.made),
                token: format!("t0ken-{}", self.made),
                document,
                since: now.as_second(),
                ends: manners.secret_life.map(ends),
            };
            self.log.push(format!("register {id}"));
            let reply = reply(&id, &entry, &manners);
            self.clients.insert(id, entry);
            return (201, reply);
        }
        let id = path.trim_start_matches("/register/").to_owned();
        let Some(mut entry) = self.clients.get(&id).filter(|entry| entry.token == bearer).cloned() else {
            self.log.push(format!(
                "{}: 401",
                name(&Call::Registry(method.clone(), path.into(), String::new(), Value::Null))
            ));
            return (401, json!({"error": "invalid_token"}));
        };
        self.made += 1;
        match *method {
            Method::DELETE => {
                self.log.push(format!("deregister {id}"));
                self.clients.remove(&id);
                return (204, Value::Null);
            }
            Method::GET if manners.forbids_reads => return (403, json!({})),
            Method::GET if manners.rotates_on_read => {
                entry.token = format!("t0ken-{}", self.made);
                self.log.push(format!("read {id}, which rotates"));
            }
            Method::GET => {}
            _ => {
                if manners.refuses_name.is_some_and(|name| body["client_name"] == name) {
                    self.log.push("update: 400".into());
                    return (400, json!({"error": "invalid_client_metadata"}));
                }
                entry.document = body;
                shape(&mut entry.document);
                if manners.rotates_on_update {
                    entry.token = format!("t0ken-{}", self.made);
                    entry.secret = format!("s3cr3t-{}", self.made);
                }
                if manners.renews {
                    entry.ends = manners.secret_life.map(ends);
                    entry.secret = format!("s3cr3t-{}", self.made);
                }
                self.log.push(format!("update {id}"));
            }
        }
        self.clients.insert(id.clone(), entry.clone());
        let mut reply = reply(&id, &entry, &manners);
        if let (Some(member), &Method::GET) = (manners.hides, method) {
            reply.as_object_mut().unwrap().remove(member);
        }
        (200, reply)
    }
}

fn reply(id: &str, entry: &Entry, manners: &Manners) -> Value {
    let mut reply = entry.document.clone();
    reply["client_id"] = json!(id);
    reply["client_secret"] = json!(entry.secret);
    reply["client_secret_expires_at"] = json!(entry.ends.unwrap_or(0));
    reply["registration_access_token"] = json!(entry.token);
    reply["registration_client_uri"] = json!(format!("https://as.example/register/{id}"));
    if !manners.tells_no_start {
        reply["client_id_issued_at"] = json!(entry.since);
    }
    reply
}

/// Which client a Secret speaks of, and what became of its object.
fn holding(secret: &Value) -> String {
    let data = secret["data"]["client_id"].clone();
    let id: Option<k8s_openapi::ByteString> = serde_json::from_value(data).ok();
    let released = secret["metadata"]["annotations"][annotations::RELEASED].as_str();
    let mut text = id.map(|id| format!(" of {}", String::from_utf8(id.0).unwrap())).unwrap_or_default();
    let state: Option<k8s_openapi::ByteString> = serde_json::from_value(secret["data"]["state"].clone()).ok();
    if let Some(state) = state.and_then(|state| serde_json::from_slice::<Value>(&state.0).ok()) {
        text += if state["inFlight"].is_null() { "" } else { ", update in flight" };
        text += if state["refused"].is_null() { "" } else { ", refused" };
    }
    text + &released.map(|why| format!(", {why}")).unwrap_or_default()
}

fn told(object: &Value) -> String {
    let conditions: Vec<Condition> =
        serde_json::from_value(object["status"]["conditions"].clone()).unwrap_or_default();
    conditions::find(&conditions, conditions::READY)
        .map_or_else(|| "nothing".into(), |ready| format!("{:?} {}", ready.status, ready.reason))
}

fn patched(before: &Value, after: &Value) -> String {
    let intent = |object: &Value| {
        serde_json::from_str::<Intent>(object["metadata"]["annotations"][annotations::INTENT].as_str()?).ok()
    };
    match (intent(before), intent(after)) {
        (before, Some(after)) if before.as_ref() != Some(&after) => {
            let replaces =
                after.replaces.as_ref().map(|nonce| format!(" replacing {nonce}")).unwrap_or_default();
            match &after.refused {
                _ if before
                    .is_some_and(|before| before.nonce == after.nonce && before.refused == after.refused) =>
                {
                    "acknowledge".into()
                }
                Some(refusal) => format!("note refusal {}", refusal.reason),
                None => format!("announce attempt {}{replaces}", after.attempt),
            }
        }
        _ => {
            let ours = |object: &Value| {
                object["metadata"]["finalizers"].as_array().is_some_and(|all| all.contains(&json!(FINALIZER)))
            };
            match (ours(before), ours(after)) {
                (true, false) => "remove finalizer".into(),
                (false, true) => "add finalizer".into(),
                _ => "patch nothing".into(),
            }
        }
    }
}

/// The way of an operator to the registry.
struct Road(Arc<Shared>, usize);

impl Connect for Road {
    fn connect(&self, route: &Route) -> Result<Arc<dyn Transport>, String> {
        Ok(Arc::new(Vehicle(self.0.clone(), self.1, route.limits.clone())))
    }
}

struct Vehicle(Arc<Shared>, usize, Limits);

#[async_trait]
impl Transport for Vehicle {
    async fn send(&self, request: Sent) -> Result<Response, TransportError> {
        let call = if self.0.backend.is_some() {
            Call::Provider(registry::tests::on_the_wire(request))
        } else {
            to_registry(request)
        };
        match tokio::time::timeout(self.2.timeout, self.0.carry(self.1, call)).await {
            Ok(Some(Answer::Json(code, body))) => Ok(Response {
                status: StatusCode::from_u16(code).unwrap(),
                headers: http::HeaderMap::new(),
                body: if body.is_null() { bytes::Bytes::new() } else { body.to_string().into() },
            }),
            Ok(Some(Answer::Reply(Some(providers::Reply { status, headers, body })))) => {
                Ok(Response { status, headers, body })
            }
            Ok(Some(Answer::Reply(None)) | None) => {
                tokio::time::sleep(self.2.timeout).await;
                Err(TransportError::Interrupted("no answer".into()))
            }
            Err(_) => Err(TransportError::Interrupted("no answer".into())),
        }
    }
}

fn to_registry(request: Sent) -> Call {
    let bytes = match request.body {
        Body::Empty => bytes::Bytes::new(),
        Body::Json(bytes) | Body::Form(bytes) => bytes,
    };
    let token = match request.authorization {
        Authorization::None => String::new(),
        Authorization::Bearer(token) | Authorization::Cookie(token) => token.expose_secret().to_owned(),
        Authorization::Basic(user, password) => format!("{user}:{}", password.expose_secret()),
    };
    let body = serde_json::from_slice(&bytes).unwrap_or_default();
    Call::Registry(request.method, request.url.path().to_owned(), token, body)
}
