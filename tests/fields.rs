//! Every declared field reaches the registry, is watched over, and is reset when it leaves the spec; for each sort of client.

use serde_json::{Value, json};

use crate::{
    manifests::{client, use_peer},
    support::{
        Cluster, DevelopmentRegistry, Kind, OidcProvider, Operator, OperatorOptions, PATIENCE, Peer, World,
        eventually,
    },
};

/// Fields that may leave the spec, with a value that no registry has by itself, and one to change it to.
fn optional_fields() -> Vec<(&'static str, &'static str, Value, Value)> {
    vec![
        ("clientUri", "client_uri", json!("https://portal.example.com"), json!("https://www.example.com")),
        (
            "logoUri",
            "logo_uri",
            json!("https://portal.example.com/l.png"),
            json!("https://portal.example.com/m.png"),
        ),
        (
            "policyUri",
            "policy_uri",
            json!("https://portal.example.com/privacy"),
            json!("https://portal.example.com/p"),
        ),
        (
            "tosUri",
            "tos_uri",
            json!("https://portal.example.com/terms"),
            json!("https://portal.example.com/t"),
        ),
        ("contacts", "contacts", json!(["ops@example.com"]), json!(["dev@example.com", "ops@example.com"])),
        (
            "postLogoutRedirectUris",
            "post_logout_redirect_uris",
            json!(["https://portal.example.com/bye"]),
            json!(["https://portal.example.com/ciao"]),
        ),
    ]
}

fn web_app() -> Value {
    let mut manifest = client("app");
    manifest["spec"] = json!({
        "registryRef": {"name": "registry"},
        "clientName": "Portal",
        "redirectUris": ["https://portal.example.com/callback", "http://127.0.0.1/callback"],
        "grantTypes": ["authorization_code", "refresh_token"],
        "scopes": ["openid", "offline_access"],
        "tokenEndpointAuthMethod": "client_secret_post",
        "applicationType": "native",
    });
    for (field, _, value, _) in optional_fields() {
        manifest["spec"][field] = value;
    }
    manifest
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_web_app_at_the_development_registry() {
    let world = Cluster::connect().await.world("fields-dev").await;
    each_field(&world, &DevelopmentRegistry::start().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_web_app_at_oidc_provider() {
    let world = Cluster::connect().await.world("fields-oidc").await;
    each_field(&world, &OidcProvider::start().await).await;
}

async fn each_field(world: &World, peer: &impl Peer) {
    use_peer(world, peer).await;
    let _operator = Operator::start(world, OperatorOptions::default()).await;
    world.apply(web_app()).await;
    world.wait_condition("app", "Ready", "True", PATIENCE).await;
    shows(peer, |member, first, _| (member, first)).await;

    let changed: Vec<(&str, Value)> =
        optional_fields().into_iter().map(|(field, _, _, value)| (field, value)).collect();
    world.patch(Kind::OAuthClient, "app", &json!({"spec": object(changed)})).await;
    shows(peer, |member, _, second| (member, second)).await;
    let updates = count_updates(peer);
    assert_eq!(updates, 1, "one change of the spec, one update");

    let nobodys: Vec<(&str, Value)> =
        optional_fields().into_iter().map(|(_, member, first, _)| (member, first)).collect();
    let id = peer.clients().await[0]["client_id"].as_str().unwrap().to_owned();
    peer.patch(&id, &object(nobodys)).await;
    look(world).await;
    shows(peer, |member, _, second| (member, second)).await;

    let unset: Vec<(&str, Value)> =
        optional_fields().into_iter().map(|(field, ..)| (field, Value::Null)).collect();
    world.patch(Kind::OAuthClient, "app", &json!({"spec": object(unset)})).await;
    shows(peer, |member, _, _| (member, Value::Null)).await;

    let settled = count_updates(peer);
    look(world).await;
    assert_eq!(count_updates(peer), settled, "nothing differs any more");
    world.wait_condition("app", "Ready", "True", PATIENCE).await;
}

/// Asks for a pass and waits until it was made.
async fn look(world: &World) {
    let token = uuid::Uuid::new_v4().to_string();
    let annotation = json!({"metadata": {"annotations": {"oauth-operator.io/requested-at": token}}});
    world.patch(Kind::OAuthClient, "app", &annotation).await;
    world
        .wait_for(Kind::OAuthClient, "app", "the look was made", PATIENCE, |object| {
            object["status"]["lastHandledReconcileAt"] == token.as_str()
        })
        .await;
}

async fn shows(peer: &impl Peer, expected: impl Fn(&'static str, Value, Value) -> (&'static str, Value)) {
    eventually("the registry shows what is declared", PATIENCE, async || {
        let clients = peer.clients().await;
        let client = clients.first().ok_or("there is no client yet")?;
        for (_, member, first, second) in optional_fields() {
            let (member, expected) = expected(member, first, second);
            let found = client.get(member).cloned().unwrap_or_default();
            let empty = expected.is_null() && found.as_array().is_some_and(Vec::is_empty);
            if found != expected && !empty {
                return Err(format!("{member} is {found}, not {expected}"));
            }
        }
        Ok(())
    })
    .await;
}

fn count_updates(peer: &impl Peer) -> usize {
    peer.requests().iter().filter(|request| request.method == "PUT").count()
}

fn object(members: Vec<(&str, Value)>) -> Value {
    Value::Object(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_public_client_which_has_no_secret() {
    let spec = json!({
        "registryRef": {"name": "registry"},
        "clientType": "public",
        "redirectUris": ["com.example.app:/callback"],
        "grantTypes": ["authorization_code"],
        "applicationType": "native",
    });
    without_secret("public", spec).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_client_with_a_key_of_its_own_which_has_no_secret() {
    let spec = json!({
        "registryRef": {"name": "registry"},
        "grantTypes": ["client_credentials"],
        "tokenEndpointAuthMethod": "private_key_jwt",
        "jwks": {"keys": [{
            "kty": "EC",
            "crv": "P-256",
            "alg": "ES256",
            "use": "sig",
            "kid": "1",
            "x": "zq5WI9iiK4ICOjAKY9WJrWs2Nm6hwHbjzwZhjHkPDjY",
            "y": "DwB6RQhjlYK_MbPklB286pwXdXO9b1UY6hMmpHBRmaU",
        }]},
    });
    without_secret("key", spec).await;
}

async fn without_secret(name: &str, spec: Value) {
    let world = Cluster::connect().await.world(name).await;
    let peer = OidcProvider::start().await;
    use_peer(&world, &peer).await;
    let _operator = Operator::start(&world, OperatorOptions::default()).await;
    let mut manifest = client("app");
    manifest["spec"] = spec;
    world.apply(manifest).await;
    let ready = world.wait_condition("app", "Ready", "True", PATIENCE).await;
    let secret = world.secret("app").await.unwrap();
    let keys: Vec<&String> = secret.keys().collect();
    assert_eq!(keys, ["client_id", "issuer"], "there is no secret to hold");
    assert_eq!(ready["status"]["clientId"], secret["client_id"].as_str());
    look(&world).await;
    world.wait_condition("app", "Ready", "True", PATIENCE).await;
    assert_eq!(count_updates(&peer), 0, "nothing differs");
    world.delete(Kind::OAuthClient, "app").await;
    world.wait_gone(Kind::OAuthClient, "app", PATIENCE).await;
    assert_eq!(peer.clients().await.len(), 0);
}
