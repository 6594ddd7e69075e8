//! A real control plane.

use super::{Kind, PATIENCE, World, eventually, http, world};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, Patch};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::discovery::pinned_kind;
use kube::{Client, Config};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::sync::OnceCell;

/// Names the folder of the control plane, as `hack/controlplane/up` made it.
const VARIABLE: &str = "TEST_CONTROLPLANE";

/// The control plane that all tests of a run share.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    folder: PathBuf,
}

/// What a command did.
#[derive(Debug)]
pub struct Outcome {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
}

impl Cluster {
    /// Connects to the control plane of this run and, once a process, installs the CRDs there.
    ///
    /// A client belongs to the runtime it was made in, so each test connects for itself.
    ///
    /// # Panics
    ///
    /// When there is none: a test that needs a control plane is never skipped.
    pub async fn connect() -> Self {
        let Some(folder) = std::env::var_os(VARIABLE).map(PathBuf::from) else {
            panic!("run `make test`, or bring one up with hack/controlplane/up DIR and set {VARIABLE}=DIR")
        };
        let cluster = Self::without_crds(&folder).await;
        cluster.install_crds_once().await;
        cluster
    }

    /// Connects to the control plane of a folder, as it is.
    pub async fn without_crds(folder: &Path) -> Self {
        http::install_tls_provider();
        Self { client: client(config(&folder.join("kubeconfig")).await), folder: folder.to_owned() }
    }

    /// Two namespaces that begin with `name`.
    pub async fn world(&self, name: &str) -> World {
        let random = uuid::Uuid::new_v4().simple().to_string();
        let namespace = format!("{name}-{}", &random[..8]);
        let operator_namespace = format!("{namespace}-operator");
        let world = World { cluster: self.clone(), namespace, operator_namespace };
        for namespace in world.namespaces() {
            world
                .apply(json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace } }))
                .await;
        }
        world
    }

    /// The tests' own client, with every right.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// The kubeconfig with every right.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.join("kubeconfig")
    }

    /// One JSON line a call.
    pub fn audit_log(&self) -> PathBuf {
        self.folder.join("audit.log")
    }

    /// A client that sends every request once, for who forwards those of others.
    pub async fn client_without_retries(&self) -> Client {
        let mut config = config(&self.kubeconfig()).await;
        config.default_retry = false;
        client(config)
    }

    /// Runs kubectl against this control plane.
    pub async fn kubectl(&self, arguments: &[&str]) -> Outcome {
        self.kubectl_with_input(arguments, "").await
    }

    /// Runs kubectl, with something for its standard input (`-f -`).
    pub async fn kubectl_with_input(&self, arguments: &[&str], input: &str) -> Outcome {
        let mut kubectl = Command::new(from_root("target/tools/kubectl"));
        kubectl
            .args(arguments)
            .env("KUBECONFIG", self.kubeconfig())
            // Its own cache: another control plane may have had this one's port.
            .env("KUBECACHEDIR", self.folder.join("kubectl-cache"));
        run(&mut kubectl, input).await
    }

    async fn install_crds_once(&self) {
        static INSTALLED: OnceCell<()> = OnceCell::const_new();
        INSTALLED.get_or_init(|| self.install_crds()).await;
    }

    /// Installs the CRDs and waits until their kinds are served.
    pub async fn install_crds(&self) {
        let api: Api<CustomResourceDefinition> = Api::all(self.client());
        for crd in crds() {
            let name = crd["metadata"]["name"].as_str().expect("a CRD has a name").to_owned();
            api.patch(&name, &world::apply_parameters(), &Patch::Apply(crd))
                .await
                .unwrap_or_else(|error| panic!("CRD {name}: {}", world::message(error)));
            eventually(&format!("{name} is established"), PATIENCE, async || {
                is_established(&api, &name).await
            })
            .await;
        }
        eventually("all kinds are served", PATIENCE, async || {
            for kind in Kind::ALL {
                pinned_kind(&self.client, &kind.gvk()).await.map_err(world::message)?;
            }
            Ok(())
        })
        .await;
    }
}

/// Runs a tool of `target/tools` to its end, with something for its standard input.
pub async fn run(command: &mut Command, input: &str) -> Outcome {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("`make test` builds the tools into target/tools");
    let mut stdin = child.stdin.take().expect("piped");
    // At once: it may answer before it has read all. And it may end without reading.
    let writing = async move { drop(stdin.write_all(input.as_bytes()).await) };
    let ((), output) = futures::join!(writing, child.wait_with_output());
    let output = output.expect("a tool's output");
    Outcome {
        status: output.status,
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A path in the repository.
pub fn from_root(path: impl AsRef<Path>) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

async fn config(kubeconfig: &Path) -> Config {
    let kubeconfig = Kubeconfig::read_from(kubeconfig)
        .unwrap_or_else(|error| panic!("{VARIABLE} names no control plane: {error}"));
    Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .expect("the kubeconfig of hack/controlplane/up")
}

fn client(config: Config) -> Client {
    Client::try_from(config).expect("a client of the control plane")
}

/// The manifests of `crds/`.
fn crds() -> Vec<Value> {
    let folder = std::fs::read_dir(from_root("crds")).expect("the folder crds");
    let mut paths: Vec<_> = folder.map(|entry| entry.expect("an entry of crds").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    paths.sort();
    assert!(!paths.is_empty(), "no CRDs in crds/");
    paths.iter().map(|path| world::parse_yaml(&std::fs::read_to_string(path).expect("a CRD"))).collect()
}

async fn is_established(api: &Api<CustomResourceDefinition>, name: &str) -> Result<(), String> {
    let crd = world::to_json(api.get(name).await.map_err(world::message)?);
    if world::has_condition(&crd, "Established", "True") {
        Ok(())
    } else {
        Err(format!("{:#}", crd["status"]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn kubectl_speaks_to_the_same_world() {
        let world = Cluster::connect().await.world("support-kubectl").await;
        world.put_secret("one", &[("token", "value")]).await;
        let listed = world.kubectl(&["get", "secrets", "--output=name"]).await;
        assert_eq!(
            (listed.status.code(), listed.stdout.as_str()),
            (Some(0), "secret/one\n"),
            "{}",
            listed.stderr
        );
        let unknown = world.kubectl(&["get", "secret", "two"]).await;
        assert_eq!(unknown.status.code(), Some(1));
        assert!(unknown.stderr.contains("NotFound"), "{}", unknown.stderr);
    }
}
