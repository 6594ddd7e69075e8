//! What is left of a client's history: what the registry has, what its Secret holds, what its status says.

use k8s_openapi::api::core::v1::Secret;
use serde_json::{Value, json};

use super::town::Town;
use crate::support::{Kind, world::texts};

/// The key of the client secret, as an object declares it.
fn secret_key(object: &Value) -> &str {
    object["spec"]["secret"]["keys"]["clientSecret"].as_str().unwrap_or("client_secret")
}

/// Id and secret of an object's client, once there are some.
pub async fn credentials(town: &Town, name: &str) -> Option<(Value, String)> {
    let object = town.world.get(Kind::OAuthClient, name).await?;
    let id = object["status"].get("clientId")?.clone();
    let secret = town.world.secret(object["status"]["secretRef"]["name"].as_str()?).await?;
    Some((id, secret.get(secret_key(&object)).cloned().unwrap_or_default()))
}

/// The client of an object, its Secret and its status; without times, and with words in the place of names, ids and secrets.
pub async fn state(town: &Town, at: &str, name: &str) -> Value {
    let object = town.world.get(Kind::OAuthClient, name).await.expect("the object");
    let status = &object["status"];
    let id = status["clientId"].as_str().unwrap_or_default();
    let secret = match status["secretRef"]["name"].as_str() {
        Some(name) => town.world.secrets().get_opt(name).await.expect("the API server answers"),
        None => None,
    };
    let secret = secret.unwrap_or_default();
    let client_secret = texts(&secret).remove(secret_key(&object)).unwrap_or_default();
    let state = json!({
        "client": without_empty(town.shown(at, id).await),
        "secret": published(&secret),
        "status": told(status),
    });
    let words = [
        (client_secret.as_str(), "SECRET"),
        (status["registrationId"].as_str().unwrap_or_default(), "REGISTRATION"),
        (status["secretHint"].as_str().unwrap_or_default(), "HINT"),
        (id, "ID"),
        (name, "NAME"),
    ];
    let known = words.into_iter().filter(|(text, _)| !text.is_empty());
    let text = known.fold(state.to_string(), |text, (known, word)| text.replace(known, word));
    serde_json::from_str(&text).expect("words are JSON, too")
}

fn published(secret: &Secret) -> Value {
    let metadata = &secret.metadata;
    let notes =
        metadata.annotations.iter().flatten().filter(|(name, _)| !name.starts_with("oauth-operator.io/"));
    json!({
        "data": texts(secret),
        "labels": metadata.labels.clone().unwrap_or_default(),
        "annotations": notes.collect::<std::collections::BTreeMap<_, _>>(),
        "owners": metadata.owner_references.iter().flatten().count(),
        "type": secret.type_,
    })
}

/// Absent and empty are one.
fn without_empty(mut value: Value) -> Value {
    if let Some(members) = value.as_object_mut() {
        members.values_mut().for_each(|member| *member = without_empty(member.take()));
        members.retain(|_, member| !member.is_null() && *member != "" && *member != json!([]));
    }
    value
}

/// A status without times and generations; conditions in the order of their types, since a list of that kind has none.
pub fn told(status: &Value) -> Value {
    let mut status = status.clone();
    let Some(members) = status.as_object_mut() else { return json!({}) };
    // A create tells no account everywhere; it is told at the next occasion. So are the clients of a registry.
    for member in ["accountId", "clients", "lastHandledReconcileAt", "observedGeneration", "registeredAt"] {
        members.remove(member);
    }
    if let Some(rotation) = members.get_mut("rotation").and_then(Value::as_object_mut) {
        rotation.remove("last");
        rotation.entry("next").and_modify(|next| *next = hours_until(next).into());
    }
    for condition in status["conditions"].as_array_mut().into_iter().flatten() {
        let condition = condition.as_object_mut().expect("a condition");
        condition.remove("lastTransitionTime");
        condition.remove("observedGeneration");
    }
    if let Some(conditions) = status["conditions"].as_array_mut() {
        conditions.sort_by_key(|condition| condition["type"].to_string());
    }
    without_empty(status)
}

/// In how many hours it is at the latest: each client comes up to a tenth of its interval earlier.
fn hours_until(time: &Value) -> String {
    let time: jiff::Timestamp = time.as_str().expect("a time").parse().expect("a time");
    let left = time.duration_since(crate::support::site::today());
    (left.as_secs() / 3600 + 1).to_string()
}
