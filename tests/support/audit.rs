//! What the operator asked of the API server, as the API server's audit log has it.
//!
//! The log is written before an answer is sent, so it is complete as soon as its effect can be seen.

use super::World;
use serde::Deserialize;
use std::fmt::{self, Display, Formatter};

/// How the operator's calls are told from everybody else's.
const USER_AGENT: &str = "oauth-operator/";

const WRITING_VERBS: [&str; 4] = ["create", "update", "patch", "delete"];

/// The cost of being one of several, and of telling people: not of reconciling.
const OVERHEAD: [&str; 2] = ["leases", "events"];

/// One call by the operator, with its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The Kubernetes verb: `get`, `list`, `watch`, `create`, `update`, `patch`, `delete` …
    pub verb: String,
    /// Plural, such as `oauthclients`.
    pub resource: String,
    /// Such as `status`, or nothing.
    pub subresource: String,
    /// One of the world's two.
    pub namespace: String,
    /// The object's, or nothing for a list.
    pub name: String,
    /// The HTTP status of the answer.
    pub code: u16,
}

/// All calls of the world's operators that were answered, in the order of their answers.
pub fn calls(world: &World) -> Vec<Call> {
    let log = std::fs::read_to_string(world.cluster.audit_log()).expect("the control plane's audit log");
    calls_in(&log, &world.namespaces())
}

/// Those calls that were meant to change something, refused ones too; without leases and events.
pub fn writes(world: &World) -> Vec<Call> {
    calls(world).into_iter().filter(Call::is_write).collect()
}

/// One call a line, for assertion messages.
pub fn describe(calls: &[Call]) -> String {
    let lines: Vec<_> = calls.iter().map(|call| format!("  {call}")).collect();
    format!("{} calls:\n{}", calls.len(), lines.join("\n"))
}

impl Call {
    fn is_write(&self) -> bool {
        WRITING_VERBS.contains(&self.verb.as_str()) && !OVERHEAD.contains(&self.resource.as_str())
    }
}

impl Display for Call {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let Self { verb, resource, subresource, namespace, name, code } = self;
        let slash = if subresource.is_empty() { "" } else { "/" };
        write!(formatter, "{verb} {resource}{slash}{subresource} {namespace}/{name}: {code}")
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    stage: String,
    verb: String,
    #[serde(default)]
    user_agent: String,
    object_ref: Option<ObjectRef>,
    response_status: Option<ResponseStatus>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ObjectRef {
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
}

#[derive(Deserialize)]
struct ResponseStatus {
    code: u16,
}

fn calls_in(log: &str, namespaces: &[&str]) -> Vec<Call> {
    // What follows the last line feed is still being written.
    let complete = log.rfind('\n').map_or("", |end| &log[..end]);
    complete
        .lines()
        // Parsing a whole run's log for each test would be slow.
        .filter(|line| {
            line.contains(USER_AGENT) && namespaces.iter().any(|namespace| line.contains(namespace))
        })
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("audit log: {error}: {line}")))
        .filter_map(|event: Event| event.into_call())
        .filter(|call| namespaces.contains(&call.namespace.as_str()))
        .collect()
}

impl Event {
    fn into_call(self) -> Option<Call> {
        let ours = self.stage == "ResponseComplete" && self.user_agent.starts_with(USER_AGENT);
        let (true, Some(object)) = (ours, self.object_ref) else { return None };
        Some(Call {
            verb: self.verb,
            resource: object.resource,
            subresource: object.subresource,
            namespace: object.namespace,
            name: object.name,
            code: self.response_status.map_or(0, |status| status.code),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn line(verb: &str, changes: &Value) -> String {
        let mut event = json!({
            "kind": "Event", "stage": "ResponseComplete", "verb": verb, "userAgent": "oauth-operator/0.1.0",
            "objectRef": { "resource": "secrets", "namespace": "here", "name": "one", "apiVersion": "v1" },
            "responseStatus": { "metadata": {}, "code": 201 },
        });
        merge(&mut event, changes);
        format!("{event}\n")
    }

    fn merge(into: &mut Value, changes: &Value) {
        for (key, change) in changes.as_object().unwrap() {
            if change.is_object() { merge(&mut into[key], change) } else { into[key] = change.clone() }
        }
    }

    fn writes_in(log: &str) -> Vec<Call> {
        calls_in(log, &["here", "here-operator"]).into_iter().filter(Call::is_write).collect()
    }

    #[test]
    fn counts_what_the_operator_wrote_in_its_world() {
        let log = [
            line("create", &json!({})),
            line("patch", &json!({ "objectRef": { "resource": "oauthclients", "subresource": "status" } })),
            line(
                "delete",
                &json!({ "objectRef": { "namespace": "here-operator" }, "responseStatus": { "code": 409 } }),
            ),
        ]
        .concat();
        let writes = writes_in(&log);
        let expected = "3 calls:\n  create secrets here/one: 201\n  patch oauthclients/status here/one: 201\n  \
                        delete secrets here-operator/one: 409";
        assert_eq!(describe(&writes), expected);
    }

    #[test]
    fn leaves_out_everything_else() {
        let others = [
            ("get", json!({})),
            ("create", json!({ "stage": "ResponseStarted" })),
            ("create", json!({ "userAgent": "kubectl/v1 for oauth-operator/1" })),
            ("create", json!({ "objectRef": { "namespace": "here-too" } })),
            ("create", json!({ "objectRef": null })),
            ("create", json!({ "objectRef": { "resource": "events", "apiGroup": "events.k8s.io" } })),
            ("update", json!({ "objectRef": { "resource": "leases" } })),
        ];
        for (verb, changes) in others {
            assert_eq!(writes_in(&line(verb, &changes)), [], "{verb} {changes}");
        }
        assert_eq!(calls_in(&line("get", &json!({})), &["here"]).len(), 1);
        let half_a_line = &line("create", &json!({}))[..100];
        assert_eq!(writes_in(half_a_line), []);
    }
}
