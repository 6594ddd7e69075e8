//! The chart makes what it says, refuses what it does not know, and is held together with the program, its docs and `config/`.

use std::{collections::BTreeSet, fs};

use clap::CommandFactory;
use oauth_operator::{api, settings::Arguments};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::support::{
    cluster::{from_root, run},
    helm::{Helm, chart, documents, named, of_kind},
    rights::{Right, granted, of_role},
};

fn file(path: &str) -> String {
    fs::read_to_string(chart().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn yaml(text: &str) -> Value {
    documents(text).remove(0)
}

#[tokio::test]
async fn helm_finds_no_fault_in_it() {
    for helm in Helm::ALL {
        let linted = helm.run(&["lint", "--strict", chart().to_str().unwrap()], None).await;
        assert!(linted.status.success(), "{helm:?}: {linted:?}");
    }
}

#[tokio::test]
async fn what_is_packed_makes_the_same_with_both_helms() {
    let folder = tempfile::tempdir().unwrap();
    let (chart, to) = (chart(), folder.path().to_str().unwrap());
    let packed = Helm::V4.run(&["package", chart.to_str().unwrap(), "--destination", to], None).await;
    assert!(packed.status.success(), "{packed:?}");
    let archive = fs::read_dir(to).unwrap().next().unwrap().unwrap().path();
    let expected = Helm::V4.template(&[]).await.unwrap();
    assert_eq!(of_kind(&expected, "CustomResourceDefinition").len(), api::crds().unwrap().len());
    for helm in Helm::ALL {
        let arguments =
            ["template", "oauth-operator", archive.to_str().unwrap(), "--namespace", "oauth-operator"];
        let made = helm.run(&arguments, None).await;
        assert_eq!(documents(&made.stdout), expected, "{helm:?}: {}", made.stderr);
    }
}

#[test]
fn its_crds_are_those_of_the_program() {
    for (name, text) in api::crd_files().unwrap() {
        assert!(
            file(&format!("files/crds/{name}")) == text,
            "files/crds/{name} is stale: run `make generate`"
        );
    }
    let files = fs::read_dir(chart().join("files/crds")).unwrap().count();
    assert_eq!(files, api::crds().unwrap().len(), "files/crds holds the CRDs and nothing else");
}

#[tokio::test]
async fn crds_are_kept_and_can_be_left_to_others() {
    let made = Helm::V4.template(&[]).await.unwrap();
    for crd in of_kind(&made, "CustomResourceDefinition") {
        assert_eq!(crd["metadata"]["annotations"]["helm.sh/resource-policy"], "keep");
    }
    let ours = made.iter().filter(|object| object["apiVersion"].as_str().unwrap().starts_with(api::GROUP));
    assert_eq!(
        ours.count(),
        0,
        "an object of our kinds in the same release as its CRD fails on a new cluster"
    );
    let made = Helm::V4.template(&["--set", "crds.keep=false"]).await.unwrap();
    assert_eq!(of_kind(&made, "CustomResourceDefinition")[0]["metadata"]["annotations"], Value::Null);
    let made = Helm::V4.template(&["--set", "crds.enabled=false"]).await.unwrap();
    assert_eq!(of_kind(&made, "CustomResourceDefinition").len(), 0);
}

/// Another value for each that there is, and what it leads to: some text of the object of that kind.
const CHANGES: [(&str, &str, &str, &str); 45] = [
    ("fullnameOverride", r#""other""#, "Deployment", r#""name":"other""#),
    ("labels", r#"{"team":"login"}"#, "Service", r#""team":"login""#),
    ("namespaces", r#"["shop"]"#, "Role", r#""namespace":"shop""#),
    ("replicas", "3", "Deployment", r#""replicas":3"#),
    ("image.repository", r#""mirror/operator""#, "Deployment", r#""image":"mirror/operator:"#),
    ("image.tag", r#""v9""#, "Job", r#"oauth-operator:v9""#),
    (
        "image.digest",
        r#""sha256:0000000000000000000000000000000000000000000000000000000000000000""#,
        "Deployment",
        "oauth-operator@sha256:0000",
    ),
    ("image.pullPolicy", r#""Always""#, "Deployment", r#""imagePullPolicy":"Always""#),
    ("imagePullSecrets", r#"[{"name":"pull"}]"#, "Job", r#""imagePullSecrets":[{"name":"pull"}]"#),
    ("config.concurrency", "4", "Deployment", r#"_CONCURRENCY","value":"4""#),
    ("config.settleTime", r#""45s""#, "Deployment", r#"_SETTLE_TIME","value":"45s""#),
    ("config.deletionTimeout", r#""1h""#, "Deployment", r#"_DELETION_TIMEOUT","value":"1h""#),
    ("config.shutdownTimeout", r#""1m30s""#, "Deployment", r#""terminationGracePeriodSeconds":105"#),
    ("config.allowedAddresses", r#"["10.0.0.0/8","::1/128"]"#, "Deployment", r#""10.0.0.0/8,::1/128""#),
    ("config.namespacedRegistryHosts", r#"["*.example.com"]"#, "Deployment", r#""*.example.com""#),
    ("config.listenAddress", r#""[::]""#, "Deployment", r#""[::]:8080""#),
    ("config.logFormat", r#""text""#, "Deployment", r#"_LOG_FORMAT","value":"text""#),
    ("config.log", r#""debug""#, "Deployment", r#"_LOG","value":"debug""#),
    ("extraEnv", r#"[{"name":"TZ","value":"UTC"}]"#, "Deployment", r#"{"name":"TZ","value":"UTC"}"#),
    ("crds.enabled", "false", "", ""),
    ("crds.keep", "false", "", ""),
    ("uninstall.clients", r#""Keep""#, "Job", r#""--clients","Keep""#),
    ("serviceAccount.create", "false", "", ""),
    ("serviceAccount.name", r#""mine""#, "ClusterRoleBinding", r#""name":"mine""#),
    ("serviceAccount.annotations", r#"{"a":"b"}"#, "ServiceAccount", r#""annotations":{"a":"b"}"#),
    ("rbac.aggregate", "false", "", ""),
    ("admissionPolicy.enabled", "false", "", ""),
    ("networkPolicy.enabled", "true", "NetworkPolicy", r#""except":["169.254.0.0/16"]"#),
    ("networkPolicy.from", r#"[{"podSelector":{}}]"#, "NetworkPolicy", r#""from":[{"podSelector":{}}]"#),
    ("networkPolicy.ports", "[443,9443]", "NetworkPolicy", r#"{"port":9443,"protocol":"TCP"}"#),
    ("networkPolicy.extraEgress", r#"[{"ports":[{"port":1080}]}]"#, "NetworkPolicy", r#"{"port":1080}"#),
    ("metrics.serviceMonitor.enabled", "true", "ServiceMonitor", r#""interval":"30s""#),
    ("metrics.serviceMonitor.interval", r#""1m""#, "ServiceMonitor", r#""interval":"1m""#),
    ("metrics.serviceMonitor.labels", r#"{"by":"us"}"#, "ServiceMonitor", r#""by":"us""#),
    ("metrics.rules.enabled", "true", "PrometheusRule", "OAuthClientsNotReady"),
    ("metrics.rules.labels", r#"{"by":"us"}"#, "PrometheusRule", r#""by":"us""#),
    ("metrics.dashboard.enabled", "true", "ConfigMap", "oauth_operator_clients"),
    ("metrics.dashboard.labels", r#"{"by":"us"}"#, "ConfigMap", r#""by":"us""#),
    ("podDisruptionBudget.enabled", "false", "", ""),
    ("podLabels", r#"{"a":"b"}"#, "Deployment", r#""a":"b""#),
    ("podAnnotations", r#"{"a":"b"}"#, "Deployment", r#""annotations":{"a":"b"}"#),
    ("priorityClassName", r#""high""#, "Deployment", r#""priorityClassName":"high""#),
    ("resources", r#"{"requests":{"cpu":"1"}}"#, "Deployment", r#""cpu":"1""#),
    ("nodeSelector", r#"{"a":"b"}"#, "Job", r#""nodeSelector":{"a":"b"}"#),
    ("tolerations", r#"[{"operator":"Exists"}]"#, "Job", r#""tolerations":[{"operator":"Exists"}]"#),
];

/// Those whose rows would be two lines each.
const SPREAD: (&str, &str) = (
    r#"affinity={"nodeAffinity":{}}"#,
    r#"topologySpreadConstraints=[{"maxSkew":2,"topologyKey":"zone","whenUnsatisfiable":"DoNotSchedule"}]"#,
);

#[tokio::test]
async fn every_value_changes_something() {
    let everything = ["networkPolicy.enabled", "metrics.serviceMonitor.enabled", "metrics.rules.enabled"];
    let everything = everything.into_iter().chain(["metrics.dashboard.enabled"]);
    let everything: Vec<String> = everything.map(|switch| format!("{switch}=true")).collect();
    let everything: Vec<&str> = everything.iter().flat_map(|set| ["--set", set]).collect();
    for (path, value, kind, leads_to) in CHANGES {
        // A switch is compared with what is there without it, any other value with all that there can be.
        let with: &[&str] = if path.ends_with(".enabled") { &[] } else { &everything };
        let before = Helm::V4.template(with).await.unwrap();
        let set = format!("{path}={value}");
        let after = Helm::V4.template(&[with, &["--set-json", &set]].concat()).await.unwrap();
        assert_ne!(after, before, "{set} changes nothing");
        let told = of_kind(&after, kind).iter().any(|object| object.to_string().contains(leads_to));
        assert!(kind.is_empty() || told, "{set}: no {kind} has {leads_to}: {:#?}", of_kind(&after, kind));
    }
    let (affinity, spread) = SPREAD;
    let made = Helm::V4.template(&["--set-json", affinity, "--set-json", spread]).await.unwrap();
    let pod = &named(&made, "Deployment", "oauth-operator")["spec"]["template"]["spec"];
    assert_eq!(pod["affinity"], json!({"nodeAffinity": {}}));
    assert_eq!(pod["topologySpreadConstraints"][0]["maxSkew"], 2);

    let told: BTreeSet<_> = CHANGES.map(|(path, ..)| path).into_iter().collect();
    let spread = ["affinity", "topologySpreadConstraints"];
    let mut all = BTreeSet::new();
    leaves(&yaml(&file("values.yaml")), "", &mut all);
    let untold: Vec<_> =
        all.iter().filter(|path| !told.contains(&***path) && !spread.contains(&&***path)).collect();
    assert!(untold.is_empty(), "no row changes {untold:?}");
}

/// The paths of what can be set. A mapping that has members by default, but whose members are free, is one value.
fn leaves(values: &Value, path: &str, found: &mut BTreeSet<String>) {
    let free = ["resources", "metrics.dashboard.labels"].contains(&path);
    match values.as_object().filter(|members| !members.is_empty() && !free) {
        Some(members) => {
            for (name, value) in members {
                let inner = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                leaves(value, &inner, found);
            }
        }
        None => drop(found.insert(path.to_owned())),
    }
}

#[test]
fn every_value_is_explained_and_typed() {
    let (values, schema) = (yaml(&file("values.yaml")), file("values.schema.json"));
    let schema: Value = serde_json::from_str(&schema).unwrap();
    assert_explained(&values, &schema, "");
}

fn assert_explained(values: &Value, schema: &Value, path: &str) {
    let typed = schema["properties"].as_object().unwrap();
    let declared: BTreeSet<_> = values.as_object().unwrap().keys().collect();
    // Every chart has that one, from the charts above it.
    let typed_names: BTreeSet<_> = typed.keys().filter(|name| *name != "global").collect();
    assert_eq!(declared, typed_names, "values.yaml and values.schema.json have the same members at {path:?}");
    assert_eq!(schema["additionalProperties"], false, "unknown members of {path:?} are refused");
    for (name, schema) in typed {
        let path = format!("{path}.{name}");
        assert!(
            schema["description"].as_str().is_some_and(|text| text.len() > 5),
            "{path} has no description"
        );
        if schema["properties"].is_object() {
            assert_explained(&values[name], schema, &path);
        }
    }
}

#[tokio::test]
async fn wrong_values_are_refused_by_name() {
    let cases = [
        ("replica=3", "replica", "a value that does not exist"),
        ("config.concurency=8", "concurency", "the same, further inside"),
        ("replicas=-1", "replicas", "no such number"),
        ("replicas=two", "replicas", "no number"),
        ("config.concurrency=0", "concurrency", "the operator would refuse it"),
        ("config.settleTime=30", "settleTime", "no unit"),
        ("config.shutdownTimeout=1 minute", "shutdownTimeout", "no duration"),
        ("uninstall.clients=keep", "clients", "neither Keep nor Refuse"),
        ("namespaces={Shop}", "namespaces", "no namespace is called so"),
        ("config.allowedAddresses={localhost}", "allowedAddresses", "no CIDR"),
        ("config.namespacedRegistryHosts={https://a.example}", "namespacedRegistryHosts", "a URL, no host"),
        ("image.digest=sha256:abc", "digest", "too short"),
        ("config.logFormat=xml", "logFormat", "neither text nor json"),
    ];
    for helm in Helm::ALL {
        for (set, named, reason) in cases {
            let refused = helm.template(&["--set", set]).await;
            let told = refused.err().unwrap_or_else(|| panic!("{helm:?} takes {set}: {reason}"));
            assert!(told.contains(named), "{helm:?} {set} ({reason}): {told}");
        }
    }
}

#[tokio::test]
async fn every_setting_of_the_program_can_be_set_and_has_the_same_default() {
    /// The namespace is the pod's, logs are for machines, there are replicas, and the two lists are set below.
    const OTHERWISE: [&str; 5] = [
        "OAUTH_OPERATOR_NAMESPACE",
        "OAUTH_OPERATOR_LOG_FORMAT",
        "OAUTH_OPERATOR_LEADER_ELECTION",
        "OAUTH_OPERATOR_ALLOWED_ADDRESSES",
        "OAUTH_OPERATOR_NAMESPACED_REGISTRY_HOSTS",
    ];
    let all = "config.allowedAddresses={10.0.0.0/8},config.namespacedRegistryHosts={none}";
    let made = Helm::V4.template(&["--set", all]).await.unwrap();
    let deployment = named(&made, "Deployment", "oauth-operator");
    let environment = deployment["spec"]["template"]["spec"]["containers"][0]["env"].as_array().unwrap();
    let value = |name: &str| environment.iter().find(|variable| variable["name"] == name);
    let mut known = BTreeSet::new();
    for argument in Arguments::command().get_arguments() {
        let Some(name) = argument.get_env().and_then(|name| name.to_str()) else { continue };
        known.insert(name.to_owned());
        let set = value(name).unwrap_or_else(|| panic!("no value of the chart sets {name}"));
        let default = argument.get_default_values().first().and_then(|default| default.to_str());
        if !OTHERWISE.contains(&name) {
            assert_eq!(set["value"].as_str().unwrap_or_default(), default.unwrap_or_default(), "{name}");
        }
    }
    let unknown: Vec<_> = environment.iter().filter_map(|variable| variable["name"].as_str()).collect();
    let unknown: Vec<_> =
        unknown.into_iter().filter(|name| !known.contains(*name) && *name != "POD_NAME").collect();
    assert!(unknown.is_empty(), "the program does not know {unknown:?}");
}

#[tokio::test]
async fn pods_are_restricted_and_can_write_nothing() {
    let made = Helm::V4.template(&[]).await.unwrap();
    for (kind, name) in [("Deployment", "oauth-operator"), ("Job", "oauth-operator-uninstall")] {
        let pod = &named(&made, kind, name)["spec"]["template"]["spec"];
        let security = json!({
            "runAsNonRoot": true, "runAsUser": 65532, "runAsGroup": 65532, "seccompProfile": {"type": "RuntimeDefault"},
        });
        assert_eq!(pod["securityContext"], security, "{kind}");
        let security = json!({
            "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
        });
        assert_eq!(pod["containers"][0]["securityContext"], security, "{kind}");
        assert_eq!(pod["volumes"], Value::Null, "{kind}");
        assert!(pod["containers"][0]["resources"]["limits"]["memory"].is_string(), "{kind}");
    }
}

#[tokio::test]
async fn the_operator_lists_secrets_in_its_own_namespace_only() {
    let everywhere = Helm::V4.template(&[]).await.unwrap();
    let some = Helm::V4.template(&["--set", "namespaces={shop,till}"]).await.unwrap();
    for (made, told) in [(&everywhere, "cluster"), (&some, "namespaced")] {
        let rights = granted(made, "oauth-operator");
        let foreign = rights.iter().filter(|right| right.namespace != "oauth-operator");
        let mut verbs: Vec<_> =
            foreign.filter(|right| right.resource == "secrets").map(|right| &*right.verb).collect();
        verbs.sort_unstable();
        verbs.dedup();
        assert_eq!(verbs, ["create", "get", "update"], "{told}");
        assert!(rights.iter().all(|right| right.verb != "*" && right.resource != "*"), "{told}");
    }
    for account in ["oauth-operator", "oauth-operator-uninstall"] {
        let wide: Vec<Right> =
            granted(&some, account).into_iter().filter(|right| right.namespace.is_empty()).collect();
        assert_eq!(wide, [], "with a list of namespaces {account} has no cluster-wide right");
    }
}

#[tokio::test]
async fn people_get_no_right_to_write_a_status() {
    let made = Helm::V4.template(&[]).await.unwrap();
    let for_people: Vec<_> = of_kind(&made, "ClusterRole")
        .into_iter()
        .filter(|role| role.to_string().contains("aggregate-to"))
        .collect();
    assert_eq!(for_people.len(), 2);
    for role in for_people {
        for right in of_role(role) {
            assert!(!right.resource.contains('/') && right.group == api::GROUP, "{right}");
            let may_write =
                role["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-view"] != "true";
            assert_eq!(["get", "list", "watch"].contains(&&*right.verb), !may_write, "{right}");
            let platform = right.resource == "clusteroauthregistries" && may_write;
            assert!(!platform, "cluster registries are the platform's: {right}");
        }
    }
}

#[test]
fn the_alerts_are_those_of_the_docs_and_name_what_there_is() {
    let page = fs::read_to_string(from_root("docs/metrics.md")).unwrap();
    let told = page.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    assert_eq!(yaml(&file("files/alerts.yaml")), yaml(told), "files/alerts.yaml and docs/metrics.md");
    for path in ["files/alerts.yaml", "files/dashboard.json"] {
        let names = metric_names(&file(path));
        assert!(names.len() > 5, "the search finds nothing any more: {names:?}");
        for name in names {
            let name = name.strip_suffix("_bucket").unwrap_or(&name);
            assert!(page.contains(&format!("| `{name}` |")), "{path}: docs/metrics.md knows no {name}");
        }
    }
}

fn metric_names(text: &str) -> BTreeSet<String> {
    let names = regex::Regex::new("oauth_operator_[a-z_]+").unwrap();
    names.find_iter(text).map(|name| name.as_str().to_owned()).collect()
}

#[tokio::test]
async fn config_is_what_the_chart_makes() {
    let folder = tempfile::tempdir().unwrap();
    let mut generate = Command::new(from_root("hack/manifests"));
    let generated = run(generate.arg(folder.path()), "").await;
    assert!(generated.status.success(), "{generated:?}");
    for path in ["crds.yaml", "operator/operator.yaml", "uninstall/uninstall.yaml"] {
        let (fresh, kept) = (folder.path().join(path), from_root("config").join(path));
        let (fresh, kept) = (fs::read_to_string(fresh).unwrap(), fs::read_to_string(kept).unwrap());
        assert!(fresh == kept, "config/{path} is stale: run `make generate`");
        assert!(!kept.contains("  helm.sh/"), "config/{path}: nobody has Helm look after it");
    }
    let kubectl = from_root("target/tools/kubectl");
    let built = run(Command::new(kubectl).arg("kustomize").arg(from_root("config")), "").await;
    let mut built: Vec<Value> = documents(&built.stdout);
    built.retain(|object| object["kind"] != "Namespace");
    let chart = Helm::V4.template(&["--no-hooks", "--set", "crds.keep=false"]).await.unwrap();
    let sorted = |mut objects: Vec<Value>| {
        for object in &mut objects {
            without_helm(object);
        }
        objects.sort_by_key(|object| format!("{} {}", object["kind"], object["metadata"]["name"]));
        objects
    };
    assert_eq!(sorted(built), sorted(chart), "kubectl apply -k config makes the same objects");
}

/// What only says that Helm has made it.
fn without_helm(object: &mut Value) {
    if let Some(labels) = object["metadata"]["labels"].as_object_mut() {
        labels.retain(|name, _| name != "helm.sh/chart" && name != "app.kubernetes.io/managed-by");
    }
    if object.pointer("/spec/template/metadata/labels").is_some() {
        without_helm(&mut object["spec"]["template"]);
    }
}
