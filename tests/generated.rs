//! What is generated is fresh, what is written is true: CRDs, examples, docs, dependencies.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use oauth_operator::{
    api,
    metrics::{Metrics, RequestLabels},
    settings::Arguments,
};

use crate::support::{Cluster, cluster::from_root};

/// etcd takes 1.5 MiB; a CRD that large would leave nothing for its future.
const LARGEST_CRD: usize = 200 * 1024;

#[test]
fn the_crds_are_fresh_and_small() {
    for (name, text) in api::crd_files().unwrap() {
        let found = fs::read_to_string(from_root("crds").join(&name)).unwrap_or_default();
        assert!(found == text, "crds/{name} is stale: run `make generate`");
        assert!(text.len() <= LARGEST_CRD, "crds/{name} has {} bytes", text.len());
    }
    let files = fs::read_dir(from_root("crds")).unwrap().count();
    assert_eq!(files, api::crd_files().unwrap().len(), "crds/ holds the CRDs and nothing else");
}

#[test]
fn the_api_reference_is_fresh() {
    let found = fs::read_to_string(from_root("docs/api.md")).unwrap_or_default();
    assert!(found == api::reference().unwrap(), "docs/api.md is stale: run `make generate`");
}

/// The API server refuses a rule that may cost too much, as it estimates from the bounds. With bounds five times as wide every
/// rule costs at least five times as much; so what it takes then costs at most a fifth of the limit as it is.
#[tokio::test(flavor = "multi_thread")]
async fn every_rule_costs_at_most_a_fifth_of_the_limit() {
    let cluster = Cluster::connect().await;
    for bounds in [&["maxItems", "maxProperties"][..], &["maxLength"][..]] {
        for mut crd in api::crds().unwrap() {
            widen(&mut crd["spec"]["versions"][0]["schema"], bounds);
            let arguments = ["apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", "-"];
            let outcome = cluster.kubectl_with_input(&arguments, &crd.to_string()).await;
            assert!(outcome.status.success(), "five times {bounds:?}: {outcome:?}");
        }
    }
}

fn widen(schema: &mut serde_json::Value, bounds: &[&str]) {
    match schema {
        serde_json::Value::Object(members) => {
            for (name, value) in members {
                match value.as_u64() {
                    Some(bound) if bounds.contains(&name.as_str()) => *value = (bound * 5).into(),
                    _ => widen(value, bounds),
                }
            }
        }
        serde_json::Value::Array(items) => items.iter_mut().for_each(|item| widen(item, bounds)),
        _ => {}
    }
}

#[test]
fn every_field_is_explained() {
    for crd in api::crds().unwrap() {
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
        for part in ["spec", "status"] {
            assert_explained(&schema[part], &format!("{}.{part}", crd["spec"]["names"]["kind"]));
        }
    }
}

fn assert_explained(schema: &serde_json::Value, path: &str) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        // The selector's own members are explained by Kubernetes.
        if path.contains("allowedNamespaces.") {
            continue;
        }
        assert!(
            field["description"].as_str().is_some_and(|text| text.len() > 8),
            "{path} has no description"
        );
        let bounded = match field["type"].as_str() {
            Some("array") => field["maxItems"].is_number(),
            Some("string") => {
                ["maxLength", "enum", "pattern", "format"].iter().any(|bound| !field[bound].is_null())
            }
            _ => true,
        };
        assert!(bounded, "{path} has no bound");
        assert_explained(field, &path);
        assert_explained(&field["items"], &path);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_takes_every_example() {
    let cluster = Cluster::connect().await;
    // What only Argo CD or Flux take is in folders of their own.
    let own =
        files("examples", "yaml").into_iter().filter(|file| file.parent() == Some(&from_root("examples")));
    for file in own {
        let path = file.display().to_string();
        let text = fs::read_to_string(&file).unwrap();
        // Namespaces that an example makes itself are not there in a dry run.
        let created: Vec<&str> =
            text.split("\n---").filter(|part| part.contains("kind: Namespace")).collect();
        for namespace in created {
            cluster.kubectl_with_input(&["apply", "-f", "-"], namespace).await;
        }
        let outcome = cluster.kubectl(&["apply", "--dry-run=server", "--validate=strict", "-f", &path]).await;
        assert!(outcome.status.success(), "{path}: {outcome:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_takes_what_the_quickstart_applies() {
    let cluster = Cluster::connect().await;
    let page = fs::read_to_string(from_root("docs/quickstart.md")).unwrap();
    let manifests: Vec<&str> =
        page.split("<<'EOF'\n").skip(1).filter_map(|rest| rest.split("\nEOF").next()).collect();
    assert_eq!(manifests.len(), 2, "a registry and a client");
    for manifest in manifests {
        let arguments = ["apply", "--dry-run=server", "--validate=strict", "-f", "-"];
        let outcome = cluster.kubectl_with_input(&arguments, manifest).await;
        assert!(outcome.status.success(), "{manifest}: {outcome:?}");
    }
}

#[test]
fn what_the_examples_for_gitops_tools_wait_for_exists() {
    let kinds: BTreeSet<String> = api::crds().unwrap().iter().map(api_version_and_kind).collect();
    let mut named = BTreeSet::new();
    for file in files("examples/argo-cd", "yaml").into_iter().chain(files("examples/flux", "yaml")) {
        let text = fs::read_to_string(&file).unwrap();
        for document in text.split("\n---\n") {
            let manifest: serde_json::Value = serde_saphyr::from_str(document).unwrap();
            assert!(manifest["kind"].is_string(), "{}: {manifest}", file.display());
            let checks = manifest["spec"]["healthChecks"].as_array().into_iter().flatten();
            named.extend(
                checks.map(|check| format!("{} {}", text_of(&check["apiVersion"]), text_of(&check["kind"]))),
            );
        }
    }
    assert!(!named.is_empty() && named.is_subset(&kinds), "{named:?} of {kinds:?}");
}

fn api_version_and_kind(crd: &serde_json::Value) -> String {
    let spec = &crd["spec"];
    let version = text_of(&spec["versions"][0]["name"]);
    format!("{}/{version} {}", text_of(&spec["group"]), text_of(&spec["names"]["kind"]))
}

fn text_of(value: &serde_json::Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// What a page about a registry with an API of its own has to say, in this order.
const SECTIONS: [&str; 8] = [
    "Credentials and rights",
    "What is mapped to what",
    "Registration and the owner mark",
    "Secrets and rotation",
    "Drift and limits",
    "Answers",
    "What is not possible, and why",
    "What is confirmed, and what is not",
];

#[test]
fn every_registry_has_an_example_and_a_page_with_the_same_sections() {
    let examples: String =
        files("examples", "yaml").iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    let readme = fs::read_to_string(from_root("README.md")).unwrap();
    for kind in kinds_of_registries() {
        assert!(examples.contains(&format!("\n  {kind}:\n")), "no example has a registry of {kind}");
        let page = format!("docs/registries/{}.md", kebab(&kind));
        assert!(readme.contains(&page), "README.md does not name {page}");
        let text = fs::read_to_string(from_root(&page)).unwrap_or_else(|error| panic!("{page}: {error}"));
        let sections: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("## ")).collect();
        assert!(kind == "dynamicRegistration" || sections == SECTIONS, "{page} has {sections:?}");
    }
}

/// The members of a registry's spec that say which one it is: those with an address.
fn kinds_of_registries() -> Vec<String> {
    let crds = api::crds().unwrap();
    let registry = crds.iter().find(|crd| crd["spec"]["names"]["kind"] == "OAuthRegistry").unwrap();
    let schema = &registry["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let members = schema["properties"]["spec"]["properties"].as_object().unwrap();
    let addressed = |member: &serde_json::Value| {
        ["url", "issuer"].iter().any(|address| member["properties"].get(address).is_some())
    };
    let kinds = members.iter().filter(|(_, member)| addressed(member)).map(|(name, _)| name.clone());
    let kinds: Vec<String> = kinds.collect();
    assert!(kinds.len() >= 5, "the search finds nothing any more: {kinds:?}");
    kinds
}

/// `calCom` as file names have it: `cal-com`.
fn kebab(name: &str) -> String {
    let letters = |c: char| if c.is_ascii_uppercase() { vec!['-', c.to_ascii_lowercase()] } else { vec![c] };
    name.chars().flat_map(letters).collect()
}

#[test]
fn every_link_between_the_pages_leads_somewhere() {
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        // What stands in code is no link.
        let text: String = text.split('`').step_by(2).collect();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            if path.contains("://") {
                continue;
            }
            let target = if path.is_empty() { page.clone() } else { page.parent().unwrap().join(path) };
            assert!(target.exists(), "{}: {link} leads nowhere", page.display());
            let found = anchor.is_empty() || anchors(&fs::read_to_string(&target).unwrap()).contains(anchor);
            assert!(found, "{}: {link} leads to no heading", page.display());
        }
    }
}

fn pages() -> impl Iterator<Item = PathBuf> {
    let others = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"];
    files("docs", "md").into_iter().chain(others.map(from_root))
}

/// Promises and threats name the tests that hold them; so a test that went takes its sentence along.
#[test]
fn every_file_that_the_pages_name_exists() {
    let mut named = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        let code = text.split('`').skip(1).step_by(2);
        let is_path = |word: &&str| {
            ["tests/", "src/", "examples/", "hack/"].iter().any(|folder| word.starts_with(folder))
        };
        // The guide's registry does not exist.
        for path in code.filter(is_path).filter(|path| !path.contains("acme")) {
            let path = path.split(' ').next().unwrap_or_default();
            named += 1;
            assert!(from_root(path).exists(), "{} names {path}", page.display());
        }
    }
    assert!(named > 50, "the search finds nothing any more: {named}");
}

/// The headings as links name them.
fn anchors(page: &str) -> BTreeSet<String> {
    let headings = page.lines().filter(|line| line.starts_with('#'));
    let kept = |c: &char| c.is_alphanumeric() || [' ', '-', '_'].contains(c);
    let anchor = |heading: &str| -> String {
        heading.trim_start_matches('#').trim().to_lowercase().chars().filter(kept).collect()
    };
    headings.map(|heading| anchor(heading).replace(' ', "-")).collect()
}

#[test]
fn every_reason_is_documented() {
    let page = fs::read_to_string(from_root("docs/conditions.md")).unwrap();
    let undocumented: BTreeSet<String> =
        reasons().into_iter().filter(|reason| !page.contains(&format!("`{reason}`"))).collect();
    assert!(undocumented.is_empty(), "docs/conditions.md does not explain {undocumented:?}");
}

#[test]
fn every_reason_that_is_documented_exists() {
    let sources = files("src", "rs").into_iter().filter(|file| !is_test(file));
    let sources: String = sources.map(|file| fs::read_to_string(file).unwrap()).collect();
    let page = fs::read_to_string(from_root("docs/conditions.md")).unwrap();
    let rows: Vec<&str> = page.lines().filter_map(|line| line.strip_prefix("| `")).collect();
    assert!(rows.len() > 50, "the search finds nothing any more: {rows:?}");
    for reason in rows.iter().filter_map(|row| row.split('`').next()) {
        let is_member = reason.starts_with(|c: char| c.is_ascii_lowercase());
        assert!(is_member || sources.contains(&format!("\"{reason}\"")), "nobody gives the reason {reason}");
    }
}

#[test]
fn every_metric_is_documented_and_every_documented_one_exists() {
    let metrics = Metrics::new();
    // A family without a series is not shown.
    drop(metrics.registry_requests.get_or_create(&RequestLabels { operation: "read", code: 200 }));
    let exposed = metrics.encode().unwrap();
    let families = exposed.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let samples = families.map(|(family, kind)| match kind {
        "counter" => format!("{family}_total"),
        "info" => format!("{family}_info"),
        _ => family.to_owned(),
    });
    let samples: BTreeSet<String> = samples.collect();
    let page = fs::read_to_string(from_root("docs/metrics.md")).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `oauth_operator")?.split('`').next());
    let rows: BTreeSet<String> = rows.map(|rest| format!("oauth_operator{rest}")).collect();
    assert_eq!(rows, samples, "the table of docs/metrics.md and the code");
    let used = page.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    for name in used.filter(|word| word.starts_with("oauth_operator_")) {
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        assert!(samples.contains(base.unwrap_or(name)), "docs/metrics.md uses {name}");
    }
}

/// The guide is written by hand, so it could forget what a driver has to say.
#[test]
fn the_guide_for_a_new_registry_names_all_that_a_driver_answers() {
    let guide = fs::read_to_string(from_root("docs/adding-a-registry.md")).unwrap();
    let parts = [
        ("src/registry/mod.rs", "pub trait Registry", "fn "),
        ("src/registry/metadata.rs", "pub struct Capabilities", "pub "),
        ("src/registry/error.rs", "pub enum Kind", ""),
    ];
    for (file, opening, before) in parts {
        let source = fs::read_to_string(from_root(file)).unwrap();
        let body = source.split(opening).nth(1).unwrap().split("\n}").next().unwrap();
        let lines = body.lines().map(|line| line.trim_start().trim_start_matches("async "));
        let items = lines.filter(|line| !line.starts_with("//")).filter_map(|line| line.strip_prefix(before));
        let word =
            |item: &str| item.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
        let names: Vec<String> = items.map(word).filter(|name| name.len() > 2).collect();
        assert!(names.len() > 5, "the search finds nothing any more in {file}: {names:?}");
        for name in names {
            assert!(guide.contains(&format!("`{name}`")), "docs/adding-a-registry.md does not name {name}");
        }
    }
}

/// The `PascalCase` words that are handed to `Why::new`, `note` and `warn`, or returned as a reason.
fn reasons() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for file in files("src", "rs").into_iter().filter(|file| !is_test(file)) {
        let text = fs::read_to_string(&file).unwrap();
        let text = text.split("#[cfg(test)]").next().unwrap_or_default().to_owned();
        for opening in ["Why::new(", ".note(", ".warn(", "=> \""] {
            for after in text.split(opening).skip(1) {
                let literal = after.trim_start().trim_start_matches('"');
                let word: String = literal.chars().take_while(char::is_ascii_alphanumeric).collect();
                let quoted = after.trim_start().starts_with('"') || opening.ends_with('"');
                let pascal = word.len() > 4 && word.starts_with(|c: char| c.is_ascii_uppercase());
                if quoted && pascal && literal[word.len()..].starts_with('"') {
                    found.insert(word);
                }
            }
        }
    }
    assert!(found.len() > 15, "the search finds nothing any more: {found:?}");
    found
}

#[test]
fn every_setting_is_documented() {
    use clap::CommandFactory;
    let page = fs::read_to_string(from_root("docs/configuration.md")).unwrap();
    for argument in Arguments::command().get_arguments() {
        if let Some(long) = argument.get_long().filter(|long| !["help", "version"].contains(long)) {
            assert!(page.contains(&format!("`--{long}`")), "docs/configuration.md does not explain --{long}");
            assert!(argument.get_env().is_some(), "--{long} has no environment variable");
            assert!(argument.get_help().is_some(), "--{long} has no help");
        }
    }
}

#[test]
fn there_is_one_tls_provider() {
    let lock = fs::read_to_string(from_root("Cargo.lock")).unwrap();
    for crate_name in ["aws-lc-rs", "openssl", "native-tls"] {
        assert!(
            !lock.contains(&format!("name = \"{crate_name}\"\n")),
            "{crate_name} came in: two providers panic at first use"
        );
    }
}

#[test]
fn the_rules_do_no_io() {
    let rules = files("src/reconcile/next", "rs").into_iter().filter(|file| !is_test(file));
    let modules = ["next", "facts", "status", "secret", "record", "intent"];
    let modules = modules.map(|module| from_root(format!("src/reconcile/{module}.rs")));
    for file in rules.chain(modules) {
        let text = fs::read_to_string(&file).unwrap();
        for forbidden in ["kube::Api", "Api<", "reqwest", "tokio::", ".await", "async fn", "Timestamp::now"] {
            assert!(!text.contains(forbidden), "{} is pure, but it says {forbidden}", file.display());
        }
    }
}

/// A unit test's file: `tests.rs`, or one in a folder `tests`.
fn is_test(file: &Path) -> bool {
    let inside = file.strip_prefix(from_root("src")).unwrap();
    inside.iter().any(|part| part == "tests" || part == "tests.rs")
}

fn files(folder: impl AsRef<Path>, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![from_root(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                folders.push(entry);
            } else if entry.extension().is_some_and(|found| found == ending) {
                found.push(entry);
            }
        }
    }
    assert!(!found.is_empty());
    found
}
