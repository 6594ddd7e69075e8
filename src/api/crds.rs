//! The CRDs as Kubernetes takes them.

use std::error::Error;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::{Value, json};

use super::{ClusterOAuthRegistry, OAuthClient, OAuthRegistry};

/// All CRDs, as plain JSON, in the order in which they should be applied.
///
/// # Errors
/// If a CRD is not JSON, which would be a bug here.
pub fn crds() -> serde_json::Result<Vec<Value>> {
    [OAuthRegistry::crd(), ClusterOAuthRegistry::crd(), OAuthClient::crd()].into_iter().map(finish).collect()
}

fn finish(crd: CustomResourceDefinition) -> serde_json::Result<Value> {
    let mut crd = serde_json::to_value(crd)?;
    let schema = &mut crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
    // kstatus takes an object without status for finished; a default that is behind makes it wait for us.
    schema["status"]["default"] = json!({"observedGeneration": -1});
    tidy(schema);
    Ok(crd)
}

/// An absent field is not managed, an empty one is; `null` would be a third thing that means nothing. And the API server
/// warns of integer formats that it does not know.
fn tidy(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            members.remove("nullable");
            if members.get("format").is_some_and(|f| f == "uint32") {
                members.remove("format");
            }
            members.values_mut().for_each(tidy);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        _ => {}
    }
}

/// The CRDs as the files of the folder `crds/`: name and YAML text.
///
/// # Errors
/// If a CRD cannot be written as YAML, which would be a bug here.
pub fn crd_files() -> Result<Vec<(String, String)>, Box<dyn Error>> {
    const HEADER: &str = "# Generated from src/api by `cargo run --bin crds -- crds`. Do not edit.\n";
    let name = |crd: &Value| crd["metadata"]["name"].as_str().unwrap_or_default().to_owned() + ".yaml";
    crds()?.iter().map(|crd| Ok((name(crd), format!("{HEADER}{}", serde_saphyr::to_string(crd)?)))).collect()
}
