//! What an account may do, as roles say it, and what it did, as the audit log has it.

use super::{Cluster, helm::of_kind};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fmt::{self, Display, Formatter};

/// A verb on a resource, in a namespace or (with none) in the whole cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Right {
    pub verb: String,
    /// With its subresource: `oauthclients/status`.
    pub resource: String,
    /// The API group.
    pub group: String,
    pub namespace: String,
}

/// The rights that the roles among these objects give to a service account.
pub fn granted(objects: &[Value], account: &str) -> BTreeSet<Right> {
    let mut rights = BTreeSet::new();
    for kind in ["ClusterRole", "Role"] {
        for binding in of_kind(objects, &format!("{kind}Binding")) {
            if binding["subjects"][0]["name"] != account {
                continue;
            }
            let same = |role: &&&Value| {
                role["metadata"]["name"] == binding["roleRef"]["name"]
                    && role["metadata"]["namespace"] == binding["metadata"]["namespace"]
            };
            let roles = of_kind(objects, kind);
            let role = roles.iter().find(same).expect("the role of a binding");
            rights.extend(of_role(role));
        }
    }
    rights
}

/// The rights that a role gives.
pub fn of_role(role: &Value) -> BTreeSet<Right> {
    let namespace = role["metadata"]["namespace"].as_str().unwrap_or_default();
    let mut rights = BTreeSet::new();
    for rule in role["rules"].as_array().into_iter().flatten() {
        for group in texts(&rule["apiGroups"]) {
            for resource in texts(&rule["resources"]) {
                rights.extend(texts(&rule["verbs"]).map(|verb| Right {
                    verb: verb.to_owned(),
                    resource: resource.to_owned(),
                    group: group.to_owned(),
                    namespace: namespace.to_owned(),
                }));
            }
        }
    }
    rights
}

fn texts(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// What a user asked for, each with the status of its answer.
pub fn asked(cluster: &Cluster, user: &str) -> Vec<(Right, u64)> {
    let log = std::fs::read_to_string(cluster.audit_log()).expect("the control plane's audit log");
    let complete = log.rfind('\n').map_or("", |end| &log[..end]);
    let events = complete.lines().filter(|line| line.contains(user));
    let events = events.map(|line| serde_json::from_str::<Value>(line).expect("an audit event"));
    let theirs = events.filter(|event| event["user"]["username"] == user && event["objectRef"].is_object());
    theirs.map(|event| (of_event(&event["objectRef"], &event["verb"]), code(&event))).collect()
}

fn code(event: &Value) -> u64 {
    event["responseStatus"]["code"].as_u64().unwrap_or_default()
}

fn of_event(object: &Value, verb: &Value) -> Right {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let resource = match object["subresource"].as_str() {
        Some(subresource) => format!("{}/{subresource}", text(&object["resource"])),
        None => text(&object["resource"]),
    };
    Right {
        verb: text(verb),
        resource,
        group: text(&object["apiGroup"]),
        namespace: text(&object["namespace"]),
    }
}

impl Right {
    /// Whether this right is what allows that.
    pub fn allows(&self, asked: &Self) -> bool {
        let here = self.namespace.is_empty() || self.namespace == asked.namespace;
        here && (&self.verb, &self.resource, &self.group) == (&asked.verb, &asked.resource, &asked.group)
    }
}

impl Display for Right {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.verb, self.resource)
    }
}
