//! The manifests that the promises start from.

use serde_json::{Value, json};

use crate::support::{Peer, World, peer::INITIAL_ACCESS_TOKEN};

/// A registry of the namespace, which looks for drift every 10 s and waits 2 s for an answer.
pub fn registry(url: &str) -> Value {
    json!({
        "apiVersion": "oauth-operator.io/v1alpha1",
        "kind": "OAuthRegistry",
        "metadata": {"name": "registry"},
        "spec": {
            "insecureHttp": true,
            "driftInterval": "10s",
            "timeout": "2s",
            "dynamicRegistration": {"issuer": url, "initialAccessTokenSecretRef": {"name": "initial-access-token"}},
        },
    })
}

/// A machine client.
pub fn client(name: &str) -> Value {
    json!({
        "apiVersion": "oauth-operator.io/v1alpha1",
        "kind": "OAuthClient",
        "metadata": {"name": name},
        "spec": {
            "registryRef": {"name": "registry"},
            "clientName": "Booking portal",
            "grantTypes": ["client_credentials"],
            "scopes": ["bookings.read"],
        },
    })
}

/// Makes a peer usable in a world.
pub async fn use_peer(world: &World, peer: &impl Peer) {
    use_url(world, peer.url()).await;
}

/// Makes the registry at a URL usable in a world.
pub async fn use_url(world: &World, url: &str) {
    world.put_secret("initial-access-token", &[("token", INITIAL_ACCESS_TOKEN)]).await;
    world.apply(registry(url)).await;
}

/// As a merge patch does it (RFC 7396): `null` takes a member away.
pub fn merge(into: &mut Value, change: &Value) {
    match (into, change) {
        (Value::Object(into), Value::Object(change)) => {
            for (key, value) in change {
                if value.is_null() {
                    into.remove(key);
                } else {
                    merge(into.entry(key).or_insert(Value::Null), value);
                }
            }
        }
        (into, change) => into.clone_from(change),
    }
}
