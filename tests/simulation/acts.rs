//! What people, the registry's owner and the cluster do while the operator works, and what is to be seen of it.

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    CLIENTS, CREDENTIALS, NAMESPACE, OPERATOR_NAMESPACE,
    cluster::{Place, at},
    network::Outside,
    plan::Act,
    registries::Registry,
};

/// What happens at any call of another story.
pub static MEANWHILE: &[Act] = &[
    Act {
        name: "the client is labelled",
        act: |outside, now| {
            edit(outside, json!({"metadata": {"labels": {"touched": "true"}}}), now);
        },
    },
    Act {
        name: "the client is edited",
        act: |outside, now| {
            edit(outside, json!({"spec": {"clientName": "Renamed"}}), now);
        },
    },
    Act {
        name: "the record is touched",
        act: |outside, now| {
            for place in records(outside) {
                outside.cluster.apply(&place, json!({"metadata": {"labels": {"touched": "true"}}}), now);
            }
        },
    },
    Act { name: "the client is deleted", act: |outside, now| outside.cluster.remove(&client(0), now) },
    Act {
        name: "the Secret is deleted",
        act: |outside, now| {
            outside.cluster.remove(&at("secrets", NAMESPACE, "app-0"), now);
        },
    },
];

/// The n-th client.
pub fn client(n: usize) -> Place {
    at(CLIENTS, NAMESPACE, &format!("app-{n}"))
}

/// Somebody applies the n-th client.
pub fn apply(outside: &mut Outside, n: usize, now: Timestamp) {
    let mut spec = outside.spec.clone();
    spec["registryRef"] = json!({"kind": "ClusterOAuthRegistry", "name": "registry"});
    spec["clientName"] = json!(format!("App {n}"));
    spec["redirectUris"] = json!(["https://app.example/cb"]);
    let manifest = json!({
        "apiVersion": "oauth-operator.io/v1alpha1", "kind": "OAuthClient", "metadata": {}, "spec": spec,
    });
    outside.cluster.apply(&client(n), manifest, now);
}

pub fn edit(outside: &mut Outside, patch: Value, now: Timestamp) {
    if outside.cluster.get(&client(0)).is_some() {
        outside.cluster.apply(&client(0), patch, now);
    }
}

/// Somebody asks for another secret.
pub fn rotate(outside: &mut Outside, now: Timestamp) {
    edit(outside, json!({"metadata": {"annotations": {"oauth-operator.io/rotate": "1"}}}), now);
}

/// Where the operator's records are.
pub fn records(outside: &Outside) -> Vec<Place> {
    let ours =
        |place: &&Place| place.namespace == OPERATOR_NAMESPACE && place.name.starts_with("oauth-client-");
    outside.cluster.all("secrets").map(|(place, _)| place).filter(ours).cloned().collect()
}

/// Somebody takes a backup.
pub fn save(outside: &mut Outside, place: &Place) {
    if let Some(object) = outside.cluster.get(place) {
        let saved = json!({"apiVersion": object["apiVersion"], "kind": object["kind"], "spec": object["spec"], "data": object["data"]});
        outside.saved = Some((place.clone(), saved));
    }
}

/// Somebody brings the backup back.
pub fn restore(outside: &mut Outside, now: Timestamp) {
    if let Some((place, saved)) = outside.saved.take() {
        outside.cluster.apply(&place, saved, now);
    }
}

/// Somebody does this to each client of ours at the registry.
pub fn tamper(outside: &mut Outside, what: fn(&mut dyn Registry, &str)) {
    for id in outside.registry.names().into_keys() {
        what(outside.registry.as_mut(), &id);
    }
}

/// Whoever may write the object names a client that is not theirs, in the words of the operator.
pub fn forge(outside: &mut Outside, now: Timestamp) {
    let Some(stranger) = outside.registry.strangers().first().cloned() else { return };
    let Some(object) = outside.cluster.get(&client(0)) else { return };
    let intent = json!({
        "uid": object["metadata"]["uid"], "nonce": "forged", "attempt": 1, "at": now.to_string(),
        "secretFor": {"clientId": stranger, "registrationId": stranger},
    });
    let annotations = json!({"oauth-operator.io/intent": intent.to_string()});
    let patch = json!({"metadata": {"annotations": annotations}});
    edit(outside, patch, now);
}

/// Whoever may write the Secret has a client removed that is not theirs, in the words of the operator.
pub fn forge_record(outside: &mut Outside, now: Timestamp) {
    const NAME: &str = "oauth-operator.io/record";
    let Some(stranger) = outside.registry.strangers().first().cloned() else { return };
    let place = at("secrets", NAMESPACE, "app-0");
    let text =
        outside.cluster.get(&place).and_then(|secret| secret["metadata"]["annotations"][NAME].as_str());
    let Some(mut record) = text.and_then(|text| serde_json::from_str::<Value>(text).ok()) else { return };
    let retiring =
        json!([{"clientId": stranger, "registrationId": stranger, "until": "2029-01-01T00:00:00Z"}]);
    record["retiring"] = retiring;
    let annotations = json!({NAME: record.to_string()});
    outside.cluster.apply(&place, json!({"metadata": {"annotations": annotations}}), now);
}

/// Writes the registry's credentials.
pub fn put_credentials(outside: &mut Outside, credentials: &Value, now: Timestamp) {
    let encoded = |value: &Value| {
        let bytes = k8s_openapi::ByteString(value.as_str().unwrap_or_default().into());
        serde_json::to_value(bytes).expect("base64")
    };
    let data: serde_json::Map<_, _> = credentials
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| (key.clone(), encoded(value)))
        .collect();
    outside.cluster.apply(&at("secrets", OPERATOR_NAMESPACE, CREDENTIALS), json!({"data": data}), now);
}

/// Somebody reads in the status what to annotate the registry with, and does so.
pub fn accept(outside: &mut Outside, now: Timestamp) {
    const NAME: &str = "oauth-operator.io/accept";
    let said = outside.cluster.get(&registry()).map(Value::to_string).unwrap_or_default();
    let token: String = said
        .split_once(&format!("{NAME}="))
        .map(|(_, rest)| rest.chars().take_while(char::is_ascii_hexdigit).collect())
        .unwrap_or_default();
    outside.cluster.apply(&registry(), json!({"metadata": {"annotations": {NAME: token}}}), now);
}

/// Every client gives this reason for not being ready; otherwise what is wrong.
pub fn says(outside: &Outside, reason: &str) -> Option<String> {
    let silent = outside.cluster.all(CLIENTS).find(|(_, object)| {
        let conditions = object["status"]["conditions"].as_array();
        !conditions.into_iter().flatten().any(|c| c["type"] == "Ready" && c["reason"] == reason)
    });
    silent.map(|(place, object)| {
        format!("{} should say {reason}: {}", place.name, object["status"]["conditions"])
    })
}

/// The registry gives this reason for not being ready; otherwise what is wrong. Its clients may be: some registries show each to everybody.
pub fn registry_says(outside: &Outside, reason: &str) -> Option<String> {
    let conditions = outside.cluster.get(&registry())?["status"]["conditions"].clone();
    let said =
        conditions.as_array().into_iter().flatten().any(|c| c["type"] == "Ready" && c["reason"] == reason);
    (!said).then(|| format!("the registry should say {reason}: {conditions}"))
}

/// The client bears this name at the registry; otherwise what is wrong.
pub fn is_named(outside: &Outside, name: &str) -> Option<String> {
    let names = outside.registry.names();
    (!names.values().all(|shown| shown == name)).then(|| format!("it should be {name:?}: {names:?}"))
}

/// So many clients of ours are there, and no more than may have been lost; otherwise what is wrong.
pub fn ours_are(outside: &Outside, count: usize) -> Option<String> {
    let names = outside.registry.names();
    let lost = if outside.findable { 0 } else { outside.lost };
    (!(count..=count + lost).contains(&names.len()))
        .then(|| format!("there should be {count} clients: {names:?}"))
}

/// The registry.
pub fn registry() -> Place {
    at("clusteroauthregistries", "", "registry")
}

/// Somebody points the registry object elsewhere.
pub fn point(outside: &mut Outside, origin: &str, now: Timestamp) {
    let place = registry();
    let Some(mut object) = outside.cluster.get(&place).cloned() else { return };
    for block in object["spec"].as_object_mut().into_iter().flat_map(|spec| spec.values_mut()) {
        for member in ["url", "issuer"] {
            if let Some(url) = block[member].as_str() {
                let path = url.splitn(4, '/').nth(3).map(|path| format!("/{path}")).unwrap_or_default();
                block[member] = json!(format!("{origin}{path}"));
            }
        }
    }
    outside.cluster.apply(&place, object_of(&object), now);
}

/// The registry's owner says what clients may ask for.
pub fn guard(outside: &mut Outside, guardrails: &Value, now: Timestamp) {
    outside.cluster.apply(&registry(), json!({"spec": {"guardrails": guardrails}}), now);
}

fn object_of(object: &Value) -> Value {
    json!({"spec": object["spec"]})
}
