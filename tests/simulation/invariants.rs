//! What must be true: at every write that says Ready, and once everything has come to rest.
//!
//! I1 Ready means that the Secret opens the registry. I2 One client and one secret for each object, none without. I3 Nobody else's
//! client is touched. I4 What cannot be found again is counted, and bounded. I5 It comes to rest, and is silent then. I6 The end does
//! not depend on what went wrong. I7 Secrets stand where they belong, and nowhere else. I8 Who has lost the Lease falls silent.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use k8s_openapi::ByteString;
use serde_json::{Value, json};

use crate::{
    CLIENTS, OPERATOR_NAMESPACE,
    cluster::{Place, Request, at},
    network::Outside,
    registries::Class,
    run::SHUTDOWN,
    scenario::Scenario,
};

/// What is checked of every run at its end: I1 to I7.
pub const AT_REST: usize = 7;

/// How long it may take an operator to learn that the Lease is another's, its request to renew it having got lost.
const LEARNING: Duration = Duration::from_secs(10);

/// I8, at any call.
pub fn talks_out_of_turn(outside: &Outside, who: usize) -> Option<String> {
    let deposed = outside.deposed.get(&who)?;
    let awake = outside.frozen.get(&who).map_or(*deposed, |until| *deposed.max(until));
    (awake.elapsed() > LEARNING + SHUTDOWN).then(|| format!("I8: operator {who} goes on without the Lease"))
}

/// I1, at the very moment.
pub fn ready_means_ready(outside: &Outside, request: &Request) -> Option<String> {
    // Of a request that the network has made two of, the second one's secret counts; the next look shows it.
    if request.subresource != "status" || request.place.resource != CLIENTS || outside.doubled > 0 {
        return None;
    }
    let object = outside.cluster.get(&request.place)?;
    (is_ready(object) && !opens(outside, &request.place, object))
        .then(|| format!("I1: {} is Ready, and its Secret opens nothing", request.place.name))
}

/// I1, when a request arrives that everybody has given up: nobody may have said Ready since it was `sent`.
pub fn still_opens(outside: &Outside, sent: u64) -> Option<String> {
    if outside.doubled > 0 {
        return None;
    }
    let since = |object: &Value| {
        let version =
            object["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse::<u64>().ok());
        version.is_some_and(|version| version > sent)
    };
    let stays = |object: &Value| {
        object["metadata"]["deletionTimestamp"].is_null() && is_ready(object) && since(object)
    };
    let mut clients = outside.cluster.all(CLIENTS).filter(|(_, object)| stays(object));
    let (place, _) = clients.find(|(place, object)| !opens(outside, place, object))?;
    Some(format!("I1: {} is Ready, and a late request has ended its Secret", place.name))
}

/// Everything that must hold at rest, and how many clients are orphans.
pub fn at_rest(outside: &Outside, class: &Class, scenario: &Scenario) -> (Vec<String>, usize) {
    let mut violations = outside.registry.complaints();
    let names = outside.registry.names();
    let mut needed = BTreeSet::new();
    for (place, object) in outside.cluster.all(CLIENTS) {
        let id = object["status"]["clientId"].as_str().unwrap_or_default().to_owned();
        violations.extend(of_object(outside, place, object, &id, &names));
        needed.insert(id);
    }
    let registries = outside.cluster.all("clusteroauthregistries");
    let held = registries.filter(|(_, object)| !object["metadata"]["deletionTimestamp"].is_null());
    violations.extend(held.map(|(place, _)| format!("{}: I2: the deletion does not end", place.name)));
    let others: Vec<&String> = names.keys().filter(|id| !needed.contains(*id)).collect();
    // What the network has made of one request, nobody can know; and an event dies with its operator.
    let untold = outside.doubled + usize::from(class.rotates_on_read && !outside.dead.is_empty());
    violations.extend(others.iter().filter_map(|id| unspoken(outside, id)).skip(untold));
    let others = others.len();
    if others < scenario.kept {
        violations.push("I2: the client was to be kept".into());
    }
    let orphans = others.saturating_sub(scenario.kept);
    // Nothing at the registry tells whose a client is that was cut off from its object there.
    let unmarked = usize::from(scenario.cuts_off && class.forgets);
    let budget = if class.findable { 0 } else { outside.lost } + unmarked;
    if orphans > budget {
        violations.push(format!("I2: {orphans} clients too many at the registry: {names:?}"));
    }
    if scenario.kept == 0 {
        violations.extend(records(outside));
    }
    violations.extend(secrets_elsewhere(outside));
    (violations, orphans)
}

fn of_object(
    outside: &Outside,
    place: &Place,
    object: &Value,
    id: &str,
    names: &BTreeMap<String, String>,
) -> Vec<String> {
    let mut violations = Vec::new();
    let mut say = |what: String| violations.push(format!("{}: {what}", place.name));
    if !object["metadata"]["deletionTimestamp"].is_null() {
        say("I2: the deletion does not end".into());
        return violations;
    }
    if object["metadata"]["finalizers"].as_array().is_none_or(Vec::is_empty) {
        say("I2: nothing would hold it until its client is gone".into());
    }
    if !is_ready(object) {
        say(format!("I6: it is not Ready: {}", object["status"]["conditions"]));
    }
    if !opens(outside, place, object) {
        say("I1: the Secret opens nothing".into());
    }
    let asked = &object["metadata"]["annotations"]["oauth-operator.io/rotate"];
    if *asked != object["status"]["rotation"]["lastHandled"] {
        say(format!("I6: the rotation {asked} has not come"));
    }
    if !(1..=1 + outside.doubled).contains(&outside.registry.secrets(id)) {
        say(format!("I2: {} secrets work", outside.registry.secrets(id)));
    }
    if names.get(id).map(String::as_str) != object["spec"]["clientName"].as_str() {
        say(format!("I6: its name is {:?}", names.get(id)));
    }
    violations
}

/// I4: of a client that may have been left behind, status or an event tells, as long as there is an object to tell it.
fn unspoken(outside: &Outside, id: &str) -> Option<String> {
    let software_id = outside.registry.software_id(id)?;
    let told = |object: &Value| object["status"].to_string().contains(&software_id);
    let mut objects = outside.cluster.all(CLIENTS).map(|(_, object)| object).peekable();
    let spoken = objects.peek().is_none()
        || objects.any(told)
        || outside.cluster.events.iter().any(|event| event.contains(&software_id) || event.contains(id));
    (!spoken).then(|| format!("I4: nobody speaks of the client {id} ({software_id})"))
}

/// Every record belongs to an object, and every object's finalizer to it.
fn records(outside: &Outside) -> Vec<String> {
    let uids: BTreeSet<&str> =
        outside.cluster.all(CLIENTS).filter_map(|(_, object)| object["metadata"]["uid"].as_str()).collect();
    outside
        .cluster
        .all("secrets")
        .filter(|(place, _)| place.namespace == OPERATOR_NAMESPACE && place.name.starts_with("oauth-client-"))
        .filter(|(place, _)| !uids.contains(place.name.trim_start_matches("oauth-client-")))
        .map(|(place, _)| format!("I2: the record {} is left", place.name))
        .collect()
}

/// I7: nothing but Secrets holds a secret.
fn secrets_elsewhere(outside: &Outside) -> Vec<String> {
    let mut told: Vec<String> = outside.cluster.events.clone();
    for resource in [CLIENTS, "clusteroauthregistries"] {
        told.extend(outside.cluster.all(resource).map(|(_, object)| object.to_string()));
    }
    let told = told.join("\n");
    let leaked = outside.registry.secrets_given().into_iter().filter(|secret| told.contains(secret.as_str()));
    leaked.map(|_| "I7: a secret stands where it does not belong".to_owned()).collect()
}

fn is_ready(object: &Value) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

fn opens(outside: &Outside, place: &Place, object: &Value) -> bool {
    let Some(secret) = outside.cluster.get(&at("secrets", &place.namespace, &place.name)) else {
        return false;
    };
    let value = |key: &str| {
        let bytes: Option<ByteString> = serde_json::from_value(secret["data"][key].clone()).ok();
        bytes.and_then(|bytes| String::from_utf8(bytes.0).ok()).unwrap_or_default()
    };
    let id = value("client_id");
    object["status"]["clientId"] == json!(id) && outside.registry.authenticates(&id, &value("client_secret"))
}

/// How everything stands, without what differs from run to run: ids, times, secrets, texts.
pub fn end(outside: &Outside) -> String {
    let client = |(place, object): (&Place, &Value)| {
        let conditions = object["status"]["conditions"].as_array();
        let conditions: Vec<String> = conditions
            .into_iter()
            .flatten()
            .map(|condition| format!("{}={}/{}", condition["type"], condition["status"], condition["reason"]))
            .collect();
        format!("{} {} {}", place.name, object["spec"], conditions.join(" "))
    };
    let clients: Vec<String> = outside.cluster.all(CLIENTS).map(client).collect();
    let keys = |(place, secret): (&Place, &Value)| {
        let keys: Vec<&String> =
            secret["data"].as_object().into_iter().flat_map(|data| data.keys()).collect();
        format!("{}/{} {keys:?}", place.namespace, place.name.split("uid").next().unwrap_or_default())
    };
    let secrets: Vec<String> = outside.cluster.all("secrets").map(keys).collect();
    format!("{}\n{}", clients.join("\n"), secrets.join("\n"))
}
