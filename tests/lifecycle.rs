//! A client lives: created, used, changed, repaired, deleted. The same story at every real registry.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    manifests::{client, use_peer},
    support::{
        Cluster, DevelopmentRegistry, Kind, OidcProvider, Operator, OperatorOptions, PATIENCE, Peer, World,
        assert_no_secret, eventually, peer::INITIAL_ACCESS_TOKEN, token, world::texts,
    },
};

#[tokio::test(flavor = "multi_thread")]
async fn a_client_lives_at_the_development_registry() {
    let world = Cluster::connect().await.world("life-dev").await;
    whole_life(&world, &DevelopmentRegistry::start().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_lives_at_oidc_provider_whose_tokens_rotate() {
    let world = Cluster::connect().await.world("life-oidc").await;
    whole_life(&world, &OidcProvider::start().await).await;
}

async fn whole_life(world: &World, peer: &impl Peer) {
    use_peer(world, peer).await;
    let operator = Operator::start(world, OperatorOptions::default()).await;
    world.apply(client("app")).await;

    let ready = world.wait_condition("app", "Ready", "True", PATIENCE).await;
    let id = ready["status"]["clientId"].as_str().unwrap().to_owned();
    let secret = world.secret("app").await.unwrap();
    assert_eq!(secret["client_id"], id);
    assert_eq!(secret["issuer"], peer.url());
    grants(peer, &secret["client_id"], &secret["client_secret"]).await;
    let first_token = registration_token(world).await;

    follows_the_spec(world, peer, &id, json!({"scopes": ["bookings.read", "api:read"]}), "scope").await;
    let second_token = registration_token(world).await;
    assert_ne!(
        first_token, second_token,
        "the update rotated the registration token, and the new one is stored"
    );
    follows_the_spec(world, peer, &id, json!({"clientName": "Booking office"}), "client_name").await;
    assert_ne!(second_token, registration_token(world).await, "and again, by the token that was stored");

    is_repaired(world, peer, &id).await;
    let after = world.secret("app").await.unwrap();
    assert_eq!(after, secret, "no update changed what the app uses");
    grants(peer, &after["client_id"], &after["client_secret"]).await;

    world.delete(Kind::OAuthClient, "app").await;
    world.wait_gone(Kind::OAuthClient, "app", PATIENCE).await;
    assert_eq!(peer.clients().await, Vec::<Value>::new(), "the registry is empty");
    assert!(records(world).await.is_empty(), "no record stays");
    let refused = token::grant(peer.url(), &after["client_id"], &after["client_secret"]).await;
    assert!(refused.is_err(), "the credentials are dead");

    let secrets = [&secret["client_secret"], &first_token, &second_token, INITIAL_ACCESS_TOKEN];
    assert_no_secret(&operator.output(), &secrets, "the log");
    assert_no_secret(&operator.metrics().await, &secrets, "the metrics");
    assert_no_secret(&ready.to_string(), &secrets, "the object");
}

async fn grants(peer: &impl Peer, id: &str, secret: &str) {
    let token = token::grant(peer.url(), id, secret).await.expect("the Secret's values authenticate");
    assert!(token.token_type.eq_ignore_ascii_case("bearer") && token.expires_in > 0, "{token:?}");
}

async fn follows_the_spec(world: &World, peer: &impl Peer, id: &str, change: Value, member: &str) {
    let before = known(peer, id).await[member].clone();
    world.patch(Kind::OAuthClient, "app", &json!({"spec": change})).await;
    world.wait_condition("app", "Ready", "True", PATIENCE).await;
    let now = known(peer, id).await;
    assert_ne!(now[member], before, "the registry follows the spec: {now:#}");
}

async fn is_repaired(world: &World, peer: &impl Peer, id: &str) {
    let declared = known(peer, id).await["client_name"].clone();
    peer.patch(id, &json!({"client_name": "Somebody else's"})).await;
    eventually("the change by others is undone", Duration::from_secs(25), async || {
        let name = known(peer, id).await["client_name"].clone();
        if name == declared { Ok(()) } else { Err(format!("it is called {name}")) }
    })
    .await;
    world.wait_condition("app", "Ready", "True", PATIENCE).await;
}

async fn known(peer: &impl Peer, id: &str) -> Value {
    let clients = peer.clients().await;
    clients.into_iter().find(|client| client["client_id"] == id).expect("the registry has the client")
}

async fn records(world: &World) -> Vec<std::collections::BTreeMap<String, String>> {
    let params = kube::api::ListParams::default().labels("oauth-operator.io/record");
    world.operator_secrets().list(&params).await.unwrap().items.iter().map(texts).collect()
}

async fn registration_token(world: &World) -> String {
    let records = records(world).await;
    assert_eq!(records.len(), 1, "one client, one record");
    records[0]["registration_access_token"].clone()
}
