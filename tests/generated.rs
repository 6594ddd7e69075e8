//! What is generated is fresh, what is written is true: CRDs, examples, docs, dependencies.

use std::{collections::BTreeSet, fs, path::Path};

use oauth_operator::{api, settings::Arguments};

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

/// The API server refuses a rule that may cost too much, as it estimates from the bounds. With bounds ten times as wide every
/// rule costs at least ten times as much; so what it takes then costs at most a tenth of the limit as it is.
#[tokio::test(flavor = "multi_thread")]
async fn every_rule_costs_at_most_a_tenth_of_the_limit() {
    let cluster = Cluster::connect().await;
    for bounds in [&["maxItems", "maxProperties"][..], &["maxLength"][..]] {
        for mut crd in api::crds().unwrap() {
            widen(&mut crd["spec"]["versions"][0]["schema"], bounds);
            let arguments = ["apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", "-"];
            let outcome = cluster.kubectl_with_input(&arguments, &crd.to_string()).await;
            assert!(outcome.status.success(), "ten times {bounds:?}: {outcome:?}");
        }
    }
}

fn widen(schema: &mut serde_json::Value, bounds: &[&str]) {
    match schema {
        serde_json::Value::Object(members) => {
            for (name, value) in members {
                match value.as_u64() {
                    Some(bound) if bounds.contains(&name.as_str()) => *value = (bound * 10).into(),
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
    for file in files("examples", "yaml") {
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
    let pages = files("docs", "md").into_iter();
    let pages = pages.chain(["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"].map(from_root));
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
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

fn files(folder: impl AsRef<Path>, ending: &str) -> Vec<std::path::PathBuf> {
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
