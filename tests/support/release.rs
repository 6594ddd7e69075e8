//! The chart, installed: and since there is no kubelet, its pods' processes as they would be run.

use super::cluster::{Outcome, from_root};
use super::helm::{Helm, chart, documents};
use super::process::Process;
use super::world::{message, to_json};
use super::{Operator, PATIENCE, World, eventually};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::PathBuf;
use tempfile::TempDir;
use tokio::process::Command;

/// The pod that stands for the operator's process.
const POD: &str = "oauth-operator-0";

/// The tests' registries are on this machine.
const LOOPBACK: &str = "config.allowedAddresses={127.0.0.0/8,::1/128}";

/// A release in the operator's namespace of a world.
pub struct Release {
    pub world: World,
    pub helm: Helm,
    pub name: String,
    /// Given to Helm each time.
    arguments: Vec<String>,
    kubeconfigs: TempDir,
}

impl Release {
    /// Installs the chart as it is.
    pub async fn install(world: &World, helm: Helm, arguments: &[&str]) -> Self {
        let arguments = [&["--set", LOOPBACK], arguments].concat();
        let release = Self {
            world: world.clone(),
            helm,
            name: "oauth-operator".to_owned(),
            arguments: arguments.iter().map(ToString::to_string).collect(),
            kubeconfigs: TempDir::new().expect("a folder"),
        };
        release.succeed(&["install", &release.name, &chart_path()], &release.arguments).await;
        release
    }

    /// Beside other releases: serves the world's namespace only, and leaves the CRDs alone.
    pub async fn install_beside(world: &World, helm: Helm, arguments: &[&str]) -> Self {
        let name = format!("fullnameOverride={}", world.namespace);
        let namespaces = format!("namespaces={{{}}}", world.namespace);
        let beside = ["--set", &name, "--set", &namespaces, "--set", "crds.enabled=false"];
        let mut release = Self::install(world, helm, &[&beside[..], arguments].concat()).await;
        release.name.clone_from(&world.namespace);
        release
    }

    /// Upgrades it, with more arguments.
    pub async fn upgrade(&self, arguments: &[&str]) {
        let more: Vec<String> = arguments.iter().map(ToString::to_string).collect();
        let arguments = [&self.arguments[..], &more].concat();
        self.succeed(&["upgrade", "oauth-operator", &chart_path()], &arguments).await;
    }

    /// Runs Helm in the operator's namespace.
    pub async fn run(&self, arguments: &[&str]) -> Outcome {
        let here = ["--namespace", &self.world.operator_namespace];
        let kubeconfig = self.world.cluster.kubeconfig();
        self.helm.run(&[arguments, &here].concat(), Some(&kubeconfig)).await
    }

    async fn succeed(&self, command: &[&str], arguments: &[String]) {
        let arguments: Vec<&str> =
            command.iter().copied().chain(arguments.iter().map(String::as_str)).collect();
        let outcome = self.run(&arguments).await;
        assert!(outcome.status.success(), "{arguments:?}: {outcome:?}");
    }

    /// The objects of the release; with hooks, those of its hooks.
    pub async fn objects(&self, what: &str) -> Vec<Value> {
        documents(&self.run(&["get", what, "oauth-operator"]).await.stdout)
    }

    /// The operator's account, as the API server knows it.
    pub fn user(&self, account: &str) -> String {
        format!("system:serviceaccount:{}:{account}", self.world.operator_namespace)
    }

    /// The operator as its pod would run it: under its account, in its environment; and the pod, which never runs.
    pub async fn operator(&self) -> Operator {
        let template = self.template().await;
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {
                "name": POD, "namespace": self.world.operator_namespace, "labels": template["metadata"]["labels"],
            },
            "spec": template["spec"],
        });
        self.world.apply(pod).await;
        started(self.environment(&template["spec"]).await).await
    }

    /// Another replica, which waits for the Lease. It has no pod.
    pub async fn standby(&self) -> Operator {
        let mut environment = self.environment(&self.template().await["spec"]).await;
        environment.insert("POD_NAME".to_owned(), "oauth-operator-1".to_owned());
        started(environment).await
    }

    /// What the operator's pods are like.
    async fn template(&self) -> Value {
        let deployment = self.deployments().get(&self.name).await.expect("the Deployment");
        to_json(deployment)["spec"]["template"].clone()
    }

    /// Ends the operator and its pod.
    pub async fn end(&self, operator: &Operator) {
        let (status, _) = operator.terminate().await;
        assert!(status.success(), "{}", operator.output());
        self.remove_pod().await;
    }

    /// As the kubelet does it when a pod's process has ended.
    pub async fn remove_pod(&self) {
        let pods: Api<Pod> = Api::namespaced(self.world.cluster.client(), &self.world.operator_namespace);
        pods.delete(POD, &DeleteParams::default()).await.expect("the pod");
    }

    /// The command of a Job of the release, as its pod would run it.
    pub async fn job(&self, job: &Value) -> Process {
        let pod = &job["spec"]["template"]["spec"];
        let arguments =
            pod["containers"][0]["args"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let environment = self.environment(pod).await;
        let environment: Vec<_> =
            environment.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
        let mut command = Command::new(env!("CARGO_BIN_EXE_oauth-operator"));
        Process::spawn("job", command.args(arguments), &environment)
    }

    /// Runs `helm uninstall`, and the Job of its hook as the kubelet would; `meanwhile` stands for what scales Deployments. Returns
    /// what Helm did and what the Job said.
    pub async fn uninstall(&self, meanwhile: impl AsyncFnOnce(&Process)) -> (Outcome, String) {
        let name = format!("{}-uninstall", self.name);
        let jobs = self.jobs();
        let found = async || jobs.get_metadata_opt(&name).await.map_err(message).map(|job| job?.metadata.uid);
        // A Job that failed stays until the next one.
        let before = found().await.expect("the API server answers");
        let by_hand = async {
            let job = eventually("the hook's Job", PATIENCE, async || {
                let uid = found().await?;
                if uid.is_none() || uid == before {
                    Err("not yet".to_owned())
                } else {
                    jobs.get(&name).await.map_err(message)
                }
            });
            let process = self.job(&to_json(job.await)).await;
            meanwhile(&process).await;
            let succeeded = process.wait_exit(PATIENCE).await.success();
            let status = Patch::Merge(json!({"status": ended(succeeded)}));
            jobs.patch_status(&name, &PatchParams::default(), &status).await.expect("the Job's status");
            process.output()
        };
        tokio::join!(self.run(&["uninstall", "oauth-operator"]), by_hand)
    }

    /// The Deployments beside the operator.
    pub fn deployments(&self) -> Api<Deployment> {
        Api::namespaced(self.world.cluster.client(), &self.world.operator_namespace)
    }

    fn jobs(&self) -> Api<Job> {
        Api::namespaced(self.world.cluster.client(), &self.world.operator_namespace)
    }

    /// What a container's process finds in its environment; and its account's kubeconfig in place of a mounted token.
    async fn environment(&self, pod: &Value) -> BTreeMap<String, String> {
        let mut environment = BTreeMap::new();
        for variable in pod["containers"][0]["env"].as_array().into_iter().flatten() {
            let value = match variable["valueFrom"]["fieldRef"]["fieldPath"].as_str() {
                Some("metadata.namespace") => &self.world.operator_namespace,
                Some("metadata.name") => POD,
                Some(other) => panic!("no kubelet for {other}"),
                None => variable["value"].as_str().unwrap_or_default(),
            };
            environment.insert(variable["name"].as_str().expect("a name").to_owned(), value.to_owned());
        }
        let account = pod["serviceAccountName"].as_str().expect("an account");
        environment.insert("KUBECONFIG".to_owned(), self.kubeconfig(account).await.display().to_string());
        environment
    }

    async fn kubeconfig(&self, account: &str) -> PathBuf {
        let namespace = &self.world.operator_namespace;
        let token = self.world.cluster.kubectl(&["create", "token", account, "--namespace", namespace]).await;
        assert!(token.status.success(), "{token:?}");
        let admin = std::fs::read_to_string(self.world.cluster.kubeconfig()).expect("the admin's kubeconfig");
        let mut config = super::world::parse_yaml(&admin);
        config["users"][0]["user"] = json!({"token": token.stdout.trim()});
        let path = self.kubeconfigs.path().join(account);
        std::fs::write(&path, config.to_string()).expect("a kubeconfig");
        path
    }
}

async fn started(environment: BTreeMap<String, String>) -> Operator {
    let operator = Operator::spawn_with(environment);
    operator.wait_ready(PATIENCE).await;
    operator
}

/// As the Job controller leaves it.
fn ended(succeeded: bool) -> Value {
    let conditions = if succeeded { ["SuccessCriteriaMet", "Complete"] } else { ["FailureTarget", "Failed"] };
    let now = super::site::today().to_string();
    let condition =
        |kind| json!({"type": kind, "status": "True", "lastTransitionTime": now, "reason": "ByHand"});
    let mut status = json!({"startTime": now, "conditions": conditions.map(condition)});
    status[if succeeded { "succeeded" } else { "failed" }] = json!(1);
    if succeeded {
        status["completionTime"] = json!(now);
    }
    status
}

fn chart_path() -> String {
    from_root(chart()).display().to_string()
}
