//! Helm, and what it makes of the chart.

use super::cluster::{Outcome, from_root, run};
use serde_json::Value;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use tokio::process::Command;

/// A major version of Helm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Helm {
    V3,
    V4,
}

impl Helm {
    /// Those that the chart is for.
    pub const ALL: [Self; 2] = [Self::V3, Self::V4];

    /// Runs it, with nothing of the machine's own repositories and plugins.
    pub async fn run(self, arguments: &[&str], kubeconfig: Option<&Path>) -> Outcome {
        let home = TempDir::new().expect("a folder for Helm");
        let mut helm = Command::new(from_root(match self {
            Self::V3 => "target/tools/helm3",
            Self::V4 => "target/tools/helm4",
        }));
        for folder in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
            helm.env(folder, home.path());
        }
        helm.env("KUBECONFIG", kubeconfig.unwrap_or(home.path()));
        run(helm.args(arguments), "").await
    }

    /// What the chart makes of these arguments, as a release `oauth-operator` in a namespace of that name.
    ///
    /// # Errors
    ///
    /// What Helm says.
    pub async fn template(self, arguments: &[&str]) -> Result<Vec<Value>, String> {
        let chart = chart();
        let chart = chart.to_str().expect("a path in UTF-8");
        let template = ["template", "oauth-operator", chart, "--namespace", "oauth-operator"];
        let made = self.run(&[&template, arguments].concat(), None).await;
        if made.status.success() { Ok(documents(&made.stdout)) } else { Err(made.stderr) }
    }
}

/// Where the chart is.
pub fn chart() -> PathBuf {
    from_root("charts/oauth-operator")
}

/// The objects of a YAML stream.
pub fn documents(yaml: &str) -> Vec<Value> {
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(yaml).unwrap_or_else(|error| panic!("no YAML: {error}\n{yaml}"));
    documents.into_iter().filter(|document| !document.is_null()).collect()
}

/// The objects of a kind.
pub fn of_kind<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects.iter().filter(|object| object["kind"] == kind).collect()
}

/// The object of that kind and name.
///
/// # Panics
///
/// When there is none.
pub fn named<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let found = of_kind(objects, kind).into_iter().find(|object| object["metadata"]["name"] == name);
    found.unwrap_or_else(|| panic!("no {kind} {name}"))
}
