//! Registry objects of either kind: as they are watched, and as they are written.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{
    Api,
    api::{Patch, PatchParams},
    runtime::reflector::Store,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{
    api::{ClusterOAuthRegistry, DescribesRegistry, OAuthRegistry, RegistryKind, RegistryStatus},
    reconcile::{
        Context, PassError, call,
        gather::{self, Described},
    },
    registry::SessionKey,
};

/// A registry object of either kind.
pub struct RegistryObject {
    /// The key of its session.
    pub key: SessionKey,
    /// Its metadata.
    pub metadata: ObjectMeta,
    /// What it says.
    pub described: Described,
    /// What was said about it.
    pub status: Option<RegistryStatus>,
}

impl RegistryObject {
    fn of(registry: &impl DescribesRegistry) -> Self {
        let namespace = registry.namespace().unwrap_or_default();
        Self {
            key: SessionKey { kind: registry.registry_kind(), namespace, name: registry.name_any() },
            metadata: registry.meta().clone(),
            described: Described::of(registry),
            status: registry.told().cloned(),
        }
    }

    /// Differs when somebody has said something else about the registry.
    pub fn version(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.metadata.generation, &self.described.accepted).hash(&mut hasher);
        hasher.finish()
    }

    /// Its `metadata.generation`.
    pub fn generation(&self) -> i64 {
        self.metadata.generation.unwrap_or_default()
    }

    /// How often its clients are looked at.
    pub fn interval(&self) -> Duration {
        gather::drift_interval(&self.described.connection)
    }
}

/// The registry objects, as watched.
pub fn all(context: &Context) -> Vec<RegistryObject> {
    let registries = &context.registries;
    let namespaced = registries.namespaced.iter().flat_map(Store::state);
    let cluster = registries.cluster.iter().flat_map(Store::state);
    namespaced
        .map(|registry| RegistryObject::of(registry.as_ref()))
        .chain(cluster.map(|registry| RegistryObject::of(registry.as_ref())))
        .collect()
}

/// What of an object is written.
#[derive(Clone, Copy)]
pub enum Part {
    /// All but the status.
    Object,
    /// The status.
    Status,
}

/// Patches a registry object. That it is gone is as good.
pub async fn patch(
    context: &Context,
    key: &SessionKey,
    what: &'static str,
    part: Part,
    patch: &Value,
) -> Result<(), PassError> {
    let kube = context.kube.clone();
    let written = match key.kind {
        RegistryKind::OAuthRegistry => {
            let registries: Api<OAuthRegistry> = Api::namespaced(kube, &key.namespace);
            call(what, write(&registries, &key.name, part, patch)).await
        }
        RegistryKind::ClusterOAuthRegistry => {
            let registries: Api<ClusterOAuthRegistry> = Api::all(kube);
            call(what, write(&registries, &key.name, part, patch)).await
        }
    };
    match written {
        Err(PassError::Kubernetes { code: 404, .. }) => Ok(()),
        written => written,
    }
}

async fn write<K: Clone + DeserializeOwned + std::fmt::Debug>(
    registries: &Api<K>,
    name: &str,
    part: Part,
    patch: &Value,
) -> kube::Result<()> {
    let (params, patch) = (PatchParams::default(), Patch::Merge(patch));
    match part {
        Part::Object => registries.patch(name, &params, &patch).await.map(drop),
        Part::Status => registries.patch_status(name, &params, &patch).await.map(drop),
    }
}
