//! Each field of each kind, as the generated CRDs name them, is set, changed, unset, made wrong and put right. Three things hold:
//! it reaches what is declared; it recovers from a bad declaration; and in the end nothing tells of its history.

mod client;
mod clients;
mod operation;
mod registries;
mod registry;
mod state;
mod story;
mod town;

use std::{collections::BTreeSet, fs, panic::AssertUnwindSafe, sync::atomic::AtomicUsize};

use futures::{FutureExt, StreamExt, future, stream};
use serde_json::{Value, json};

use crate::{
    own_control_plane::ControlPlane,
    support::{
        Cluster, Kind, Operator, OperatorOptions, PATIENCE, World,
        cluster::from_root,
        eventually,
        providers::{cal_com::CalCom, meteroid::Meteroid, place::Place, teable::Teable, telnyx::Telnyx},
        world::parse_yaml,
    },
};
use client::ClientSubject;
use operation::Operation;
use registry::RegistrySubject;
use story::Subject;
use town::Town;

/// The name of the registry that is no provider's.
const DEVELOPMENT: &str = "development";
/// All registries.
const EVERYWHERE: [&str; 5] = [DEVELOPMENT, CalCom::SLUG, Meteroid::SLUG, Teable::SLUG, Telnyx::SLUG];
/// More fields at once than these would only wait for one another.
const AT_ONCE: usize = 24;

#[test]
fn every_field_of_a_client_has_its_operation_and_every_operation_its_field() {
    assert_covered("oauthclients", &clients::operations());
}

#[test]
fn every_field_of_a_registry_has_its_operation_and_every_operation_its_field() {
    assert_covered("oauthregistries", &registries::operations());
    let of_both = registries::operations().into_iter().chain(registries::of_the_cluster());
    assert_covered("clusteroauthregistries", &of_both.collect::<Vec<_>>());
}

fn assert_covered(plural: &str, operations: &[Operation]) {
    let crd = fs::read_to_string(from_root(format!("crds/{plural}.oauth-operator.io.yaml"))).unwrap();
    let schema = &parse_yaml(&crd)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    let (mut fields, covered) =
        (BTreeSet::new(), operations.iter().map(|operation| operation.field.to_owned()));
    collect_fields(schema, "", &mut fields);
    let covered: BTreeSet<String> = covered.collect();
    let without: Vec<_> = fields.difference(&covered).collect();
    assert!(without.is_empty(), "{plural}: fields without an operation: {without:?}");
    let nowhere: Vec<_> = covered.difference(&fields).collect();
    assert!(nowhere.is_empty(), "{plural}: operations on fields that do not exist: {nowhere:?}");
}

/// The fields that hold values, and lists of objects beside the fields of these.
fn collect_fields(schema: &Value, path: &str, fields: &mut BTreeSet<String>) {
    let members = |schema: &Value| schema["properties"].as_object().cloned().unwrap_or_default();
    let is_leaf = members(schema).is_empty();
    if is_leaf {
        fields.insert(path.to_owned());
    }
    let (object, path) =
        if is_leaf { (&schema["items"], format!("{path}[]")) } else { (schema, path.to_owned()) };
    for (name, member) in members(object) {
        let field = if path.is_empty() { name } else { format!("{path}.{name}") };
        collect_fields(&member, &field, fields);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_field_of_a_client_reaches_recovers_and_leaves_no_history() {
    let world = Cluster::connect().await.world("ops").await;
    let town = Town::open(&world).await;
    for at in EVERYWHERE {
        world.put_credentials(at, &Town::credentials(at)).await;
        let spec = town.registry(at, at);
        world
            .apply(json!({
                "apiVersion": "oauth-operator.io/v1alpha1", "kind": "OAuthRegistry",
                "metadata": {"name": at}, "spec": spec,
            }))
            .await;
    }
    let _operator = Operator::start(&world, OperatorOptions::default()).await;
    let subjects = clients::operations().into_iter().enumerate().map(|(number, operation)| {
        let name = format!("{}-{number}", slug(operation.field));
        ClientSubject { town: &town, name, operation }
    });
    all_live(subjects).await;
    nobody_is_left_behind(&town).await;
    town.assert_contracts_held();
}

#[tokio::test(flavor = "multi_thread")]
async fn each_field_of_a_registry_reaches_recovers_and_leaves_no_history() {
    let plane = ControlPlane::up().await;
    let cluster = Cluster::without_crds(&plane.path()).await;
    cluster.install_crds().await;
    let world = cluster.world("ops").await;
    label(&world, "team", "shop").await;
    let town = Town::open(&world).await;
    town.put_credentials_twice().await;
    let options = OperatorOptions { all_namespaces: true, ..OperatorOptions::default() };
    let _operator = Operator::start(&world, options).await;
    let of =
        |kind, operations: Vec<Operation>| operations.into_iter().map(move |operation| (kind, operation));
    let subjects = of(Kind::OAuthRegistry, registries::operations())
        .chain(of(Kind::ClusterOAuthRegistry, registries::of_the_cluster()));
    let subjects = subjects.enumerate().map(|(number, (kind, operation))| {
        let name = format!("{}-{number}", slug(operation.field));
        RegistrySubject { town: &town, kind, name, operation, clients: AtomicUsize::new(0) }
    });
    all_live(subjects).await;
    nobody_is_left_behind(&town).await;
    town.assert_contracts_held();
}

async fn label(world: &World, label: &str, value: &str) {
    let metadata = json!({"name": world.namespace, "labels": {label: value}});
    world.apply(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata})).await;
}

/// Lets all of them live, many at once, and names each that failed.
async fn all_live(subjects: impl Iterator<Item = impl Subject>) {
    let failed: Vec<String> = stream::iter(subjects)
        .map(async |subject| {
            let lived = AssertUnwindSafe(subject.live()).catch_unwind().await;
            lived.err().map(|_| subject.told())
        })
        .buffer_unordered(AT_ONCE)
        .filter_map(future::ready)
        .collect()
        .await;
    assert!(failed.is_empty(), "{failed:#?}");
}

fn slug(field: &str) -> String {
    field.replace("[]", "").replace('.', "-").to_lowercase()
}

/// Each client at a registry is the one that some object names.
async fn nobody_is_left_behind(town: &Town) {
    for at in EVERYWHERE {
        eventually(&format!("the clients of {at} are those of the objects"), PATIENCE, async || {
            let objects =
                town.world.api(Kind::OAuthClient).list(&kube::api::ListParams::default()).await.unwrap();
            let named: BTreeSet<_> = objects
                .iter()
                .filter_map(|o| o.data["status"]["clientId"].as_str().map(str::to_owned))
                .collect();
            let strays: Vec<_> = town.ids(at).await.into_iter().filter(|id| !named.contains(id)).collect();
            if strays.is_empty() { Ok(()) } else { Err(format!("{strays:?}")) }
        })
        .await;
    }
}
