//! A world of its own for each test, and what a user can do there.

use super::cluster::{Cluster, Outcome};
use super::{PATIENCE, eventually};
use futures::{StreamExt, stream};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams,
    PostParams,
};
use kube::core::params::ValidationDirective;
use kube::discovery::{Scope, pinned_kind};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

const GROUP: &str = "oauth-operator.io";
const VERSION: &str = "v1alpha1";
const FIELD_MANAGER: &str = "test";
/// The finalizer of a registry that has clients.
pub const IN_USE: &str = "oauth-operator.io/in-use";
/// More creations at once than these would only wait for one another.
const AT_ONCE: usize = 16;

/// Two fresh namespaces: nobody else's objects are in them, and nobody cleans them up, for the control plane itself is
/// thrown away.
#[derive(Clone)]
pub struct World {
    /// Where they are.
    pub cluster: Cluster,
    /// Where the clients, their Secrets and namespaced registries live.
    pub namespace: String,
    /// Where the operator keeps its own things.
    pub operator_namespace: String,
}

/// What the operator brings to the Kubernetes API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One client at one registry.
    OAuthClient,
    /// A registry for its own namespace.
    OAuthRegistry,
    /// A registry for all namespaces that it allows. Its name is shared by all worlds.
    ClusterOAuthRegistry,
}

/// An object as a user would write it: YAML or JSON, with or without a namespace.
pub struct Manifest(Value);

impl World {
    /// Server-side apply. Without a namespace it lands in the clients'.
    ///
    /// # Panics
    ///
    /// When the API server refuses, with its message.
    pub async fn apply(&self, manifest: impl Into<Manifest>) -> Value {
        self.try_apply(manifest).await.unwrap_or_else(|message| panic!("the API server refused: {message}"))
    }

    /// Server-side apply, as strict about unknown fields as kubectl.
    ///
    /// # Errors
    ///
    /// What the API server says.
    pub async fn try_apply(&self, manifest: impl Into<Manifest>) -> Result<Value, String> {
        let Manifest(object) = manifest.into();
        let api = self.api_for(&object).await?;
        let name = object["metadata"]["name"].as_str().ok_or("the manifest has no metadata.name")?;
        api.patch(name, &apply_parameters(), &Patch::Apply(&object)).await.map(to_json).map_err(message)
    }

    /// Creates many clients, several at once.
    ///
    /// # Panics
    ///
    /// When the API server refuses one of them.
    pub async fn create_clients(&self, manifests: impl IntoIterator<Item = Value>) {
        let clients = self.api(Kind::OAuthClient);
        stream::iter(manifests)
            .for_each_concurrent(AT_ONCE, async |manifest| {
                let client = serde_json::from_value(manifest).expect("a client");
                let created = clients.create(&PostParams::default(), &client).await;
                created.unwrap_or_else(|error| panic!("{}", message(error)));
            })
            .await;
    }

    /// How many clients are ready.
    pub async fn ready_clients(&self) -> usize {
        let clients = self.api(Kind::OAuthClient).list(&ListParams::default()).await;
        let clients = clients.expect("the API server answers").items.into_iter().map(to_json);
        clients.filter(|client| has_condition(client, "Ready", "True")).count()
    }

    /// Waits until so many clients are ready.
    ///
    /// # Panics
    ///
    /// When they are fewer after `deadline`.
    pub async fn wait_ready_clients(&self, count: usize, deadline: Duration) {
        eventually(&format!("{count} clients are ready"), deadline, async || {
            let ready = self.ready_clients().await;
            if ready == count { Ok(()) } else { Err(format!("{ready} so far")) }
        })
        .await;
    }

    /// Waits for the reason that an object's `Ready` gives; returns the object that gave it.
    ///
    /// # Panics
    ///
    /// When it does not come to that before `deadline`, with the object's metadata and status.
    pub async fn wait_reason(&self, kind: Kind, name: &str, reason: &str, deadline: Duration) -> Value {
        self.wait_for(kind, name, reason, deadline, |object| {
            condition(object, "Ready").is_some_and(|ready| ready["reason"] == reason)
        })
        .await
    }

    /// Sets an annotation of an object.
    pub async fn annotate(&self, kind: Kind, name: &str, annotation: &str, value: &str) {
        self.patch(kind, name, &json!({"metadata": {"annotations": {annotation: value}}})).await;
    }

    /// The object, if it is there.
    pub async fn get(&self, kind: Kind, name: &str) -> Option<Value> {
        let found = self.api(kind).get_opt(name).await;
        found.unwrap_or_else(|error| panic!("{kind:?} {name}: {}", message(error))).map(to_json)
    }

    /// JSON merge patch.
    ///
    /// # Panics
    ///
    /// When the API server refuses, with its message.
    pub async fn patch(&self, kind: Kind, name: &str, changes: &Value) -> Value {
        let patched = self.try_patch(kind, name, changes).await;
        patched.unwrap_or_else(|message| panic!("the API server refused: {message}"))
    }

    /// JSON merge patch.
    ///
    /// # Errors
    ///
    /// What the API server says.
    pub async fn try_patch(&self, kind: Kind, name: &str, changes: &Value) -> Result<Value, String> {
        let parameters =
            PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        self.api(kind).patch(name, &parameters, &Patch::Merge(changes)).await.map(to_json).map_err(message)
    }

    /// Asks for the object's deletion; its finalizer may hold it for a while (`wait_gone`).
    pub async fn delete(&self, kind: Kind, name: &str) {
        let deleted = self.api(kind).delete(name, &DeleteParams::default()).await;
        deleted.unwrap_or_else(|error| panic!("{kind:?} {name}: {}", message(error)));
    }

    /// Waits until the object is no more.
    ///
    /// # Panics
    ///
    /// When it is still there after `deadline`, with its metadata and status.
    pub async fn wait_gone(&self, kind: Kind, name: &str, deadline: Duration) {
        eventually(&format!("{kind:?} {name} is gone"), deadline, async || {
            self.get(kind, name).await.map_or(Ok(()), |object| Err(format!("{:#}", summary(&object))))
        })
        .await;
    }

    /// Waits for a condition of an `OAuthClient`; returns the object that had it.
    ///
    /// # Panics
    ///
    /// When it does not come to that before `deadline`, with the object's metadata and status.
    pub async fn wait_condition(
        &self,
        name: &str,
        condition: &str,
        status: &str,
        deadline: Duration,
    ) -> Value {
        self.wait_condition_of(Kind::OAuthClient, name, condition, status, deadline).await
    }

    /// Waits for a condition that speaks of the object's current generation; returns the object that had it.
    ///
    /// # Panics
    ///
    /// When it does not come to that before `deadline`, with the object's metadata and status.
    pub async fn wait_condition_of(
        &self,
        kind: Kind,
        name: &str,
        condition: &str,
        status: &str,
        deadline: Duration,
    ) -> Value {
        let what = format!("{condition}={status}");
        self.wait_for(kind, name, &what, deadline, |object| has_condition(object, condition, status)).await
    }

    /// Waits until a registry object may not go before its clients.
    ///
    /// # Panics
    ///
    /// When it does not come to that in time, with the object's metadata and status.
    pub async fn wait_in_use(&self, kind: Kind, name: &str) {
        let in_use = |object: &Value| object["metadata"]["finalizers"] == json!([IN_USE]);
        self.wait_for(kind, name, "it is in use", PATIENCE, in_use).await;
    }

    /// Waits until an object satisfies a test of your own; returns it then.
    ///
    /// # Panics
    ///
    /// When it does not come to that before `deadline`, with the object's metadata and status.
    pub async fn wait_for(
        &self,
        kind: Kind,
        name: &str,
        what: &str,
        deadline: Duration,
        holds: impl Fn(&Value) -> bool,
    ) -> Value {
        eventually(&format!("{kind:?} {}/{name}: {what}", self.namespace), deadline, async || {
            let object = self.get(kind, name).await.ok_or("there is no such object")?;
            if holds(&object) { Ok(object) } else { Err(format!("{:#}", summary(&object))) }
        })
        .await
    }

    /// The Secrets beside the clients.
    pub fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.cluster.client(), &self.namespace)
    }

    /// The Secrets in the operator's namespace, its records among them.
    pub fn operator_secrets(&self) -> Api<Secret> {
        Api::namespaced(self.cluster.client(), &self.operator_namespace)
    }

    /// What a Secret beside the clients holds, if it is there.
    pub async fn secret(&self, name: &str) -> Option<BTreeMap<String, String>> {
        self.secrets().get_opt(name).await.expect("the API server answers").map(|secret| texts(&secret))
    }

    /// Writes a Secret beside the clients.
    pub async fn put_secret(&self, name: &str, values: &[(&str, &str)]) {
        self.apply(secret_manifest(&self.namespace, name, values)).await;
    }

    /// Writes a Secret whose values are the members of an object.
    pub async fn put_credentials(&self, name: &str, credentials: &Value) {
        let members = credentials.as_object().expect("an object").iter();
        let pairs: Vec<_> =
            members.map(|(key, text)| (key.as_str(), text.as_str().expect("a text"))).collect();
        self.put_secret(name, &pairs).await;
    }

    /// Writes a Secret into the operator's namespace.
    pub async fn put_operator_secret(&self, name: &str, values: &[(&str, &str)]) {
        self.apply(secret_manifest(&self.operator_namespace, name, values)).await;
    }

    /// Runs kubectl in the clients' namespace.
    pub async fn kubectl(&self, arguments: &[&str]) -> Outcome {
        self.cluster.kubectl(&[&["--namespace", &self.namespace], arguments].concat()).await
    }

    /// The clients' and the operator's.
    pub fn namespaces(&self) -> [&str; 2] {
        [&self.namespace, &self.operator_namespace]
    }

    /// The objects of a kind in the clients' namespace (or in the cluster), for what has no helper here.
    pub fn api(&self, kind: Kind) -> Api<DynamicObject> {
        let resource = ApiResource::from_gvk(&kind.gvk());
        match kind {
            Kind::ClusterOAuthRegistry => Api::all_with(self.cluster.client(), &resource),
            Kind::OAuthClient | Kind::OAuthRegistry => {
                Api::namespaced_with(self.cluster.client(), &self.namespace, &resource)
            }
        }
    }

    /// Where an object of any kind belongs: the API server knows.
    async fn api_for(&self, object: &Value) -> Result<Api<DynamicObject>, String> {
        let (resource, capabilities) =
            pinned_kind(&self.cluster.client(), &group_version_kind(object)?).await.map_err(message)?;
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or(&self.namespace);
        Ok(match capabilities.scope {
            Scope::Cluster => Api::all_with(self.cluster.client(), &resource),
            Scope::Namespaced => Api::namespaced_with(self.cluster.client(), namespace, &resource),
        })
    }
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::OAuthClient, Self::OAuthRegistry, Self::ClusterOAuthRegistry];

    pub fn gvk(self) -> GroupVersionKind {
        GroupVersionKind::gvk(GROUP, VERSION, &format!("{self:?}"))
    }
}

impl From<Value> for Manifest {
    fn from(object: Value) -> Self {
        Self(object)
    }
}

impl From<&str> for Manifest {
    fn from(yaml: &str) -> Self {
        Self(parse_yaml(yaml))
    }
}

impl From<String> for Manifest {
    fn from(yaml: String) -> Self {
        Self::from(yaml.as_str())
    }
}

/// What a Secret holds, as text.
pub fn texts(secret: &Secret) -> BTreeMap<String, String> {
    let data = secret.data.iter().flatten();
    data.map(|(key, ByteString(value))| (key.clone(), String::from_utf8_lossy(value).into_owned())).collect()
}

/// An object's condition of that type: `condition(&client, "Stalled").unwrap()["reason"]`.
pub fn condition<'a>(object: &'a Value, condition: &str) -> Option<&'a Value> {
    let mut conditions = object["status"]["conditions"].as_array().into_iter().flatten();
    conditions.find(|candidate| candidate["type"] == condition)
}

/// Whether an object has the condition, and says so of its current generation.
pub fn has_condition(object: &Value, wanted: &str, status: &str) -> bool {
    condition(object, wanted).is_some_and(|found| {
        let observed = found.get("observedGeneration").or(object["status"].get("observedGeneration"));
        found["status"] == status
            && observed.is_none_or(|generation| *generation == object["metadata"]["generation"])
    })
}

/// What helps to see why an object is not where it should be.
fn summary(object: &Value) -> Value {
    let mut metadata = object["metadata"].clone();
    if let Some(metadata) = metadata.as_object_mut() {
        metadata.remove("managedFields");
    }
    json!({ "metadata": metadata, "status": object["status"] })
}

/// As strict about unknown fields as kubectl, and never beaten by another field manager.
pub fn apply_parameters() -> PatchParams {
    PatchParams::apply(FIELD_MANAGER).force().validation(ValidationDirective::Strict)
}

fn secret_manifest(namespace: &str, name: &str, values: &[(&str, &str)]) -> Value {
    let data: BTreeMap<_, _> = values.iter().copied().collect();
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": { "name": name, "namespace": namespace },
        "stringData": data,
    })
}

fn group_version_kind(object: &Value) -> Result<GroupVersionKind, String> {
    let kind = object["kind"].as_str().ok_or("the manifest has no kind")?;
    let api_version = object["apiVersion"].as_str().ok_or("the manifest has no apiVersion")?;
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    Ok(GroupVersionKind::gvk(group, version, kind))
}

/// One YAML document.
pub fn parse_yaml(yaml: &str) -> Value {
    serde_saphyr::from_str(yaml).unwrap_or_else(|error| panic!("no YAML: {error}\n{yaml}"))
}

/// A typed object as the API server shows it.
pub fn to_json(object: impl serde::Serialize) -> Value {
    serde_json::to_value(object).expect("an object is JSON")
}

/// The API server's own words where there are any.
pub fn message(error: kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message,
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_of_an_older_generation_does_not_count() {
        let object = |status: Value| json!({ "metadata": { "generation": 2 }, "status": status });
        let ready = json!({ "type": "Ready", "status": "True" });
        let ready_at =
            |generation: u32| json!({ "type": "Ready", "status": "True", "observedGeneration": generation });
        let cases = [
            (json!(null), false),
            (json!({ "conditions": [ready] }), true),
            (json!({ "conditions": [ready], "observedGeneration": 1 }), false),
            (json!({ "conditions": [ready_at(2)], "observedGeneration": 1 }), true),
            (json!({ "conditions": [ready_at(1)], "observedGeneration": 2 }), false),
        ];
        for (status, expected) in cases {
            assert_eq!(has_condition(&object(status.clone()), "Ready", "True"), expected, "{status}");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_world_takes_secrets_and_refuses_nonsense() {
        let world = Cluster::connect().await.world("support-world").await;
        world.put_secret("one", &[("token", "value")]).await;
        world.put_operator_secret("two", &[("token", "other")]).await;
        assert_eq!(world.secret("one").await.unwrap()["token"], "value");
        assert_eq!(world.secret("two").await, None);
        assert_eq!(texts(&world.operator_secrets().get("two").await.unwrap())["token"], "other");

        let refusal =
            world.try_apply("{apiVersion: v1, kind: Secret, metadata: {name: three}, nonsense: 1}").await;
        assert!(refusal.unwrap_err().contains("nonsense"));
        assert_eq!(world.get(Kind::OAuthClient, "nobody").await, None);
    }
}
