//! An `OAuthRegistry` or a `ClusterOAuthRegistry`, and the clients that show whether it can be used.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};

use super::{
    DEVELOPMENT,
    client::filled,
    operation::Operation,
    state::{credentials, state, told},
    story::Subject,
    town::Town,
};
use crate::{
    manifests::merge,
    support::{Kind, PATIENCE, condition, eventually, world::has_condition},
};

/// A registry that something is done to.
pub struct RegistrySubject<'a> {
    pub town: &'a Town,
    pub kind: Kind,
    pub name: String,
    pub operation: Operation,
    /// How many clients were declared there.
    pub clients: AtomicUsize,
}

impl Subject for RegistrySubject<'_> {
    fn town(&self) -> &Town {
        self.town
    }

    fn kind(&self) -> Kind {
        self.kind
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn operation(&self) -> &Operation {
        &self.operation
    }

    fn manifest(&self, value: Option<&Value>) -> Value {
        let at = self.operation.at;
        let mut base = self.town.registry(at, at);
        base["driftInterval"] = json!("1m");
        if self.kind == Kind::ClusterOAuthRegistry {
            base["allowedNamespaces"] = json!({"matchLabels": {"team": "shop"}});
        }
        let manifest = json!({
            "apiVersion": "oauth-operator.io/v1alpha1", "kind": format!("{:?}", self.kind),
            "metadata": {"name": self.name}, "spec": self.operation.spec(&base, value),
        });
        filled(&manifest, &|text| {
            let text = text.replace("{url}", self.town.url(at)).replace("{ca}", &self.town.certificate());
            text.replace("{namespace}", &self.town.world.namespace)
        })
    }

    /// The first client can be looked at. Where registrations have credentials of their own, another one can be registered.
    async fn works(&self, value: Option<&Value>) {
        let world = &self.town.world;
        if self.clients.load(Ordering::Relaxed) == 0 || self.operation.at == DEVELOPMENT {
            let client = self.declare_client().await;
            world.wait_condition(&client, "Ready", "True", PATIENCE).await;
        }
        let look = uuid::Uuid::new_v4().to_string();
        world.annotate(Kind::OAuthClient, &self.client(0), "oauth-operator.io/requested-at", &look).await;
        let what = format!("{} is {value:?}, and a client is looked at", self.told());
        world
            .wait_for(Kind::OAuthClient, &self.client(0), &what, PATIENCE, |object| {
                object["status"]["lastHandledReconcileAt"] == look && has_condition(object, "Ready", "True")
            })
            .await;
    }

    /// A client that is declared meanwhile says it; put right, it is as good as any. One that is registered was declared before
    /// the operator had seen the registry's change.
    async fn says(&self, reason: &str, word: &str) {
        let message = eventually(&format!("{}: {reason}", self.told()), PATIENCE, async || {
            let name = self.declare_client().await;
            let so = |object: &Value| {
                condition(object, "Ready").cloned().filter(|ready| ready["reason"] == reason)
            };
            let is_over = |object: &Value| so(object).is_some() || has_condition(object, "Ready", "True");
            let object = self.town.world.wait_for(Kind::OAuthClient, &name, reason, PATIENCE, is_over).await;
            so(&object).map(|ready| ready["message"].to_string()).ok_or_else(|| format!("{object:#}"))
        })
        .await;
        assert!(message.contains(word), "{}: {word:?} is not in {message}", self.told());
    }

    async fn credentials(&self) -> Option<(Value, String)> {
        credentials(self.town, &self.client(0)).await
    }

    /// What is left of each client's history, and of the registry's.
    async fn state(&self) -> Value {
        let registry = self.town.world.get(self.kind, &self.name).await.expect("the registry");
        let mut clients = Vec::new();
        for number in 0..self.clients.load(Ordering::Relaxed) {
            clients.push(state(self.town, self.operation.at, &self.client(number)).await);
        }
        // Each is like the others, however many there are.
        clients.dedup();
        let behind = registry["status"]["observedGeneration"] != registry["metadata"]["generation"];
        json!({"clients": clients, "registry": told(&registry["status"]), "behind": behind})
    }

    fn another(&self, name: String) -> Self {
        let clients = AtomicUsize::new(0);
        Self { town: self.town, kind: self.kind, name, operation: self.operation.clone(), clients }
    }
}

impl RegistrySubject<'_> {
    fn client(&self, number: usize) -> String {
        format!("{}-client-{number}", self.name)
    }

    async fn declare_client(&self) -> String {
        let name = self.client(self.clients.fetch_add(1, Ordering::Relaxed));
        let mut spec = Town::client(self.operation.at);
        let reference = json!({"kind": format!("{:?}", self.kind), "name": self.name});
        merge(&mut spec, &json!({"registryRef": reference}));
        let manifest = json!({
            "apiVersion": "oauth-operator.io/v1alpha1", "kind": "OAuthClient",
            "metadata": {"name": name}, "spec": spec,
        });
        self.town.world.apply(manifest).await;
        name
    }
}
