//! `oauth-operator uninstall`: what has to happen before the operator is removed. A finalizer that nobody answers for would hold
//! its object, and so the object's namespace, for ever.

use std::time::Duration;

use clap::{Args, ValueEnum};
use futures::{TryStreamExt, stream};
use k8s_openapi::api::{apps::v1::Deployment, core::v1::Pod};
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, Patch, PatchParams},
    core::{ApiResource, DynamicObject, PartialObjectMeta},
};
use serde_json::json;
use thiserror::Error;
use tokio::time::{sleep, timeout};

use crate::{
    api::{self, ClusterOAuthRegistry, FINALIZER, IN_USE, OAuthClient, OAuthRegistry},
    api_server,
    reconcile::{PassError, call, following, record},
};

const PAGE: u32 = 500;
const AT_ONCE: usize = 8;
const PAUSE: Duration = Duration::from_secs(1);
/// So many names make a refusal concrete; more would hide what to do.
const NAMED: usize = 5;

/// What `oauth-operator uninstall` is told.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// What to do while there are `OAuthClient`s
    #[arg(long, value_enum, ignore_case = true, default_value_t = Clients::Refuse)]
    pub clients: Clients,

    /// The operator's Deployment, in its namespace: it is scaled to 0 first, and its pods' end is waited for. Left out: you have
    /// stopped the operator
    #[arg(long, value_name = "NAME")]
    pub deployment: Option<String>,

    /// How long all of it may take
    #[arg(long, default_value = "4m", value_parser = api::Duration::parse, value_name = "DURATION")]
    pub timeout: Duration,
}

/// What becomes of `OAuthClient`s when the operator is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Clients {
    /// Let go of them: they, their Secrets and the clients at the registries stay as they are
    Keep,
    /// Change nothing and fail while there is one
    Refuse,
}

/// Why the operator must not be removed yet.
#[derive(Debug, Error)]
pub enum Error {
    /// No API server.
    #[error(transparent)]
    ApiServer(#[from] api_server::Error),
    /// The API server refused or failed us.
    #[error(transparent)]
    Kubernetes(#[from] PassError),
    /// There are clients.
    #[error(
        "there are {count} OAuthClients ({names}): delete them first, so that their registries are told, or let them be with \
         --clients Keep (of a Helm release: helm rollback, then helm upgrade --reuse-values --set uninstall.clients=Keep)"
    )]
    Refused {
        /// How many.
        count: usize,
        /// Some of them.
        names: String,
    },
    /// Something does not end.
    #[error(
        "not done after {0:?}: does a pod of the operator not end, or does another operator serve these namespaces? It may be \
         run again"
    )]
    Late(Duration),
}

/// Prepares the removal of an operator: of its namespace, and of those that it serves (none means all).
///
/// # Errors
/// If the operator must not be removed yet.
pub async fn run(operator_namespace: String, namespaces: Vec<String>, options: Options) -> Result<(), Error> {
    let limit = options.timeout;
    let kube = api_server::connect(api_server::config().await?)?;
    let uninstall = Uninstall { kube, operator_namespace, namespaces, options };
    timeout(limit, uninstall.run()).await.unwrap_or(Err(Error::Late(limit)))
}

struct Uninstall {
    kube: Client,
    operator_namespace: String,
    namespaces: Vec<String>,
    options: Options,
}

/// Objects of a kind, in one namespace or in all, and how we hold on to them.
struct Scope {
    resource: ApiResource,
    namespace: Option<String>,
    finalizer: &'static str,
}

type Metadata = PartialObjectMeta<DynamicObject>;

impl Uninstall {
    async fn run(&self) -> Result<(), Error> {
        self.may_go().await?;
        let replicas = self.stop().await?;
        // Somebody may have made one meanwhile.
        if let Err(refused) = self.may_go().await {
            self.scale(replicas).await?;
            return Err(refused);
        }
        self.let_go().await?;
        self.say_what_stays().await
    }

    async fn may_go(&self) -> Result<(), Error> {
        if self.options.clients == Clients::Keep {
            return Ok(());
        }
        let clients = self.clients().await?;
        let mut names: Vec<String> = clients.iter().take(NAMED).map(full_name).collect();
        if clients.len() > NAMED {
            names.push("…".into());
        }
        if names.is_empty() {
            return Ok(());
        }
        Err(Error::Refused { count: clients.len(), names: names.join(", ") })
    }

    /// Ends the operator, which would hold on to the objects again. Returns how many replicas there were.
    async fn stop(&self) -> Result<i32, Error> {
        let Some(name) = &self.options.deployment else { return Ok(0) };
        let namespace = &self.operator_namespace;
        let deployments: Api<Deployment> = Api::namespaced(self.kube.clone(), namespace);
        let found = call("read the operator's Deployment", deployments.get_opt(name)).await?;
        let Some(spec) = found.and_then(|found| found.spec) else {
            tracing::warn!(deployment = name, "there is no such Deployment: nothing is stopped");
            return Ok(0);
        };
        self.scale(0).await?;
        let labels = spec.selector.match_labels.unwrap_or_default();
        let selector: Vec<String> = labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let of_the_operator = ListParams::default().labels(&selector.join(","));
        let pods: Api<Pod> = Api::namespaced(self.kube.clone(), namespace);
        while call("list the operator's pods", pods.list(&of_the_operator)).await?.iter().any(runs) {
            sleep(PAUSE).await;
        }
        tracing::info!(deployment = name, "the operator has ended");
        Ok(spec.replicas.unwrap_or(1))
    }

    async fn scale(&self, replicas: i32) -> Result<(), Error> {
        let Some(name) = &self.options.deployment else { return Ok(()) };
        let deployments: Api<Deployment> = Api::namespaced(self.kube.clone(), &self.operator_namespace);
        let scale = Patch::Merge(json!({"spec": {"replicas": replicas}}));
        let params = PatchParams::default();
        call("scale the operator's Deployment", deployments.patch_scale(name, &params, &scale)).await?;
        Ok(())
    }

    /// Until none is left: a list may be older than what the operator did last.
    async fn let_go(&self) -> Result<(), Error> {
        loop {
            let mut released = 0;
            for scope in self.scopes() {
                let mut held = self.list(&scope).await?;
                held.retain(|object| object.finalizers().iter().any(|held| held == scope.finalizer));
                released += held.len();
                stream::iter(held.into_iter().map(Ok))
                    .try_for_each_concurrent(AT_ONCE, |object| self.release(&scope, object))
                    .await?;
            }
            if released == 0 {
                return Ok(());
            }
            sleep(PAUSE).await;
        }
    }

    async fn release(&self, scope: &Scope, mut object: Metadata) -> Result<(), Error> {
        object.finalizers_mut().retain(|finalizer| finalizer != scope.finalizer);
        let metadata =
            json!({"resourceVersion": object.resource_version(), "finalizers": object.finalizers()});
        let patch = Patch::Merge(json!({"metadata": metadata}));
        let objects = scope.api(&self.kube, object.namespace());
        let (name, params) = (object.name_any(), PatchParams::default());
        match call("let an object go", objects.patch_metadata(&name, &params, &patch)).await {
            Ok(_) => tracing::info!(kind = scope.resource.kind, object = full_name(&object), "let go"),
            // Changed or gone meanwhile: the next list tells.
            Err(PassError::Stale | PassError::Kubernetes { code: 404, .. }) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    async fn say_what_stays(&self) -> Result<(), Error> {
        let clients = self.clients().await?.len();
        tracing::info!(
            "{clients} OAuthClients stay, with their Secrets and the clients at their registries; the records stay in namespace \
             {}, labelled {}. Nobody looks after them until an operator runs there again",
            self.operator_namespace,
            record::LABEL,
        );
        Ok(())
    }

    async fn clients(&self) -> Result<Vec<Metadata>, Error> {
        let mut found = Vec::new();
        for namespace in self.namespaces() {
            found.extend(self.list(&Scope::of::<OAuthClient>(namespace, FINALIZER)).await?);
        }
        Ok(found)
    }

    /// The served namespaces; `None` is all of them.
    fn namespaces(&self) -> Vec<Option<String>> {
        let named: Vec<_> = self.namespaces.iter().cloned().map(Some).collect();
        if named.is_empty() { vec![None] } else { named }
    }

    fn scopes(&self) -> Vec<Scope> {
        let mut scopes = Vec::new();
        for namespace in self.namespaces() {
            scopes.push(Scope::of::<OAuthClient>(namespace.clone(), FINALIZER));
            if namespace.is_none() {
                scopes.push(Scope::of::<ClusterOAuthRegistry>(None, IN_USE));
            }
            scopes.push(Scope::of::<OAuthRegistry>(namespace, IN_USE));
        }
        scopes
    }

    /// Nothing, where there is no such kind.
    async fn list(&self, scope: &Scope) -> Result<Vec<Metadata>, Error> {
        let objects = scope.api(&self.kube, scope.namespace.clone());
        let mut page = ListParams::default().limit(PAGE);
        let mut found = Vec::new();
        loop {
            let listed = match call("list what the operator looks after", objects.list_metadata(&page)).await
            {
                Err(PassError::Kubernetes { code: 404, .. }) => return Ok(found),
                listed => listed?,
            };
            found.extend(listed.items);
            match following(page, &listed.metadata) {
                Some(next) => page = next,
                None => return Ok(found),
            }
        }
    }
}

impl Scope {
    fn of<K: kube::Resource<DynamicType = ()>>(namespace: Option<String>, finalizer: &'static str) -> Self {
        Self { resource: ApiResource::erase::<K>(&()), namespace, finalizer }
    }

    fn api(&self, kube: &Client, namespace: Option<String>) -> Api<DynamicObject> {
        match namespace {
            Some(namespace) => Api::namespaced_with(kube.clone(), &namespace, &self.resource),
            None => Api::all_with(kube.clone(), &self.resource),
        }
    }
}

/// A pod that has ended may stay for its log.
fn runs(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    !matches!(phase, Some("Succeeded" | "Failed"))
}

fn full_name(object: &Metadata) -> String {
    let namespace = object.namespace().map(|namespace| namespace + "/").unwrap_or_default();
    namespace + &object.name_any()
}
