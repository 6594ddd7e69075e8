//! What a tenant tries: somebody else's registry or Secret, addresses that the operator reaches and they do not, redirects to
//! anywhere. Each is refused with a reason, and nothing is sent where it should not go.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use serde_json::{Value, json};

use crate::{
    manifests::{client, merge, registry, use_peer},
    support::{
        Cluster, DevelopmentRegistry, Kind, Operator, OperatorOptions, PATIENCE, Peer, World, condition,
        ports::listener,
    },
};

/// Something on loopback that nobody should come to.
struct Trap {
    address: SocketAddr,
    visits: Arc<AtomicUsize>,
}

impl Trap {
    async fn set() -> Self {
        let listener = listener().await;
        let (address, visits) = (listener.local_addr().unwrap(), Arc::<AtomicUsize>::default());
        let count = visits.clone();
        tokio::spawn(async move {
            while listener.accept().await.is_ok() {
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { address, visits }
    }

    fn visits(&self) -> usize {
        self.visits.load(Ordering::Relaxed)
    }
}

/// Where a pod would find the API server; nobody is there.
const SERVICE: &str = "192.0.2.1";

/// An operator that sends to no loopback address.
async fn strict(world: &World, more: &[&str]) -> Operator {
    let extra = ["--allowed-addresses", ""].iter().chain(more).map(ToString::to_string).collect();
    let environment = vec![("KUBERNETES_SERVICE_HOST", SERVICE.to_owned())];
    Operator::start(world, OperatorOptions { environment, extra, ..OperatorOptions::default() }).await
}

/// Where the operator really finds it.
fn api_server(world: &World) -> String {
    let text = std::fs::read_to_string(world.cluster.kubeconfig()).unwrap();
    let (_, rest) = text.split_once("server: ").unwrap();
    rest.split_whitespace().next().unwrap().trim_matches(['"', ',', '}']).to_owned()
}

/// A registry of that name and a client of it, both named alike.
async fn apply(world: &World, name: &str, spec: &Value) {
    let mut registry = registry("https://login.example.com");
    registry["metadata"]["name"] = json!(name);
    merge(&mut registry["spec"], spec);
    world.apply(registry).await;
    let mut client = client(name);
    client["spec"]["registryRef"]["name"] = json!(name);
    world.apply(client).await;
}

/// Registry and client give this reason, and the message has this word.
async fn both_say(world: &World, name: &str, reason: &str, said: &str) {
    for kind in [Kind::OAuthRegistry, Kind::OAuthClient] {
        let object = world.wait_reason(kind, name, reason, PATIENCE).await;
        let message = condition(&object, "Ready").unwrap()["message"].to_string();
        assert!(message.contains(said), "{kind:?} {name}: {said:?} is not in {message}");
    }
}

fn dynamic(member: &str, url: &str) -> Value {
    let mut server =
        json!({"issuer": null, "registrationEndpoint": null, "initialAccessTokenSecretRef": null});
    server[member] = json!(url);
    json!({"dynamicRegistration": server})
}

#[tokio::test(flavor = "multi_thread")]
async fn no_registry_leads_to_an_address_of_the_operators_own() {
    let world = Cluster::connect().await.world("tenant-address").await;
    let trap = Trap::set().await;
    let port = trap.address.port();
    world.put_secret("key", &[("token", "anything")]).await;
    let telnyx = |host: &str| {
        let url = format!("http://{host}:{port}/v2");
        json!({"dynamicRegistration": null, "telnyx": {"url": url, "credentialsSecretRef": {"name": "key"}}})
    };
    let mut proxied = dynamic("issuer", "http://as.example");
    proxied["proxyUrl"] = json!(format!("http://127.0.0.1:{port}"));
    let rows = [
        ("issuer", dynamic("issuer", &format!("http://127.0.0.1:{port}")), "a loopback address"),
        ("name", dynamic("issuer", &format!("http://localhost:{port}")), "a loopback address"),
        ("number", dynamic("issuer", &format!("http://2130706433:{port}")), "a loopback address"),
        ("mapped", dynamic("issuer", &format!("http://[::ffff:127.0.0.1]:{port}")), "a loopback address"),
        ("api", telnyx("127.0.0.1"), "a loopback address"),
        ("api-name", telnyx("localhost"), "a loopback address"),
        ("unspecified", telnyx("0.0.0.0"), "an unspecified address"),
        ("proxy", proxied, "a loopback address"),
        ("link-local", dynamic("issuer", "http://169.254.169.254/latest"), "a link-local address"),
        ("api-server", dynamic("issuer", &api_server(&world)), "a loopback address"),
        ("api-service", dynamic("issuer", &format!("https://{SERVICE}")), "an address of the API server"),
    ];
    let _operator = strict(&world, &[]).await;
    for (name, spec, class) in &rows {
        apply(&world, name, spec).await;
        both_say(&world, name, "AddressNotAllowed", class).await;
    }
    // There is no metadata to read, so only the client comes to it.
    let endpoint = format!("http://127.0.0.1:{port}/register");
    apply(&world, "endpoint", &dynamic("registrationEndpoint", &endpoint)).await;
    let object = world.wait_reason(Kind::OAuthClient, "endpoint", "AddressNotAllowed", PATIENCE).await;
    assert!(condition(&object, "Ready").unwrap()["message"].to_string().contains("--allowed-addresses"));
    assert_eq!(trap.visits(), 0, "nobody has come to the trap");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_of_a_namespace_names_listed_hosts_only() {
    let world = Cluster::connect().await.world("tenant-host").await;
    let trap = Trap::set().await;
    let _operator =
        strict(&world, &["--namespaced-registry-hosts", "login.example.com,*.company.example"]).await;
    let elsewhere = format!("http://elsewhere.example:{}", trap.address.port());
    let mut proxied = dynamic("issuer", "https://login.company.example");
    proxied["proxyUrl"] = json!(elsewhere);
    let rows = [
        ("issuer", dynamic("issuer", &elsewhere)),
        ("endpoint", dynamic("registrationEndpoint", &elsewhere)),
        ("proxy", proxied),
    ];
    for (name, spec) in &rows {
        apply(&world, name, spec).await;
        both_say(&world, name, "HostNotAllowed", "elsewhere.example").await;
    }
    apply(&world, "listed", &dynamic("issuer", "https://no-such-host.company.example")).await;
    world.wait_reason(Kind::OAuthClient, "listed", "RegistryUnavailable", PATIENCE).await;
    assert_eq!(trap.visits(), 0, "nobody has come to the trap");
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_elses_registry_and_somebody_elses_secret_are_out_of_reach() {
    let cluster = Cluster::connect().await;
    let (ours, theirs) = (cluster.world("tenant-ours").await, cluster.world("tenant-theirs").await);
    let development = DevelopmentRegistry::start().await;
    use_peer(&theirs, &development).await;
    theirs.put_secret("key", &[("token", "theirs")]).await;
    let _operator = Operator::start(&ours, OperatorOptions::default()).await;

    ours.apply(client("by-name")).await;
    ours.wait_reason(Kind::OAuthClient, "by-name", "RegistryNotFound", PATIENCE).await;
    let mut reference = client("by-namespace");
    reference["spec"]["registryRef"]["namespace"] = json!(theirs.namespace);
    let refusal = ours.try_apply(reference).await.unwrap_err();
    assert!(refusal.contains("namespace"), "a reference has no namespace: {refusal}");

    let secret = json!({"dynamicRegistration": {"issuer": development.url(), "initialAccessTokenSecretRef": {"name": "key"}}});
    apply(&ours, "their-key", &secret).await;
    both_say(&ours, "their-key", "CredentialsNotFound", &format!("{}/key", ours.namespace)).await;

    ours.put_secret("database", &[("password", "theirs")]).await;
    use_peer(&ours, &development).await;
    let mut overwriting = client("overwriting");
    overwriting["spec"]["secret"] = json!({"name": "database"});
    ours.apply(overwriting).await;
    ours.wait_reason(Kind::OAuthClient, "overwriting", "SecretNotOurs", PATIENCE).await;
    assert_eq!(ours.secret("database").await.unwrap()["password"], "theirs");
    ours.wait_condition("by-name", "Ready", "True", PATIENCE).await;
    let registered = development.clients().await;
    assert_eq!(registered.len(), 1, "only `by-name`, which has a registry now: {registered:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_outside_the_guardrails_is_not_asked_for() {
    let world = Cluster::connect().await.world("tenant-guardrails").await;
    let development = DevelopmentRegistry::start().await;
    use_peer(&world, &development).await;
    let guardrails = json!({
        "allowedRedirectHosts": ["*.shop.example"], "allowedGrantTypes": ["authorization_code", "refresh_token"],
        "allowedScopes": ["bookings.read"],
    });
    world.patch(Kind::OAuthRegistry, "registry", &json!({"spec": {"guardrails": guardrails}})).await;
    let _operator = Operator::start(&world, OperatorOptions::default()).await;
    let portal = |name: &str, change: Value| {
        let mut manifest = client(name);
        manifest["spec"]["grantTypes"] = json!(["authorization_code"]);
        manifest["spec"]["redirectUris"] = json!(["https://portal.shop.example/cb"]);
        merge(&mut manifest["spec"], &change);
        manifest
    };
    let rows = [
        ("redirect", json!({"redirectUris": ["https://evil.example/cb"]}), "evil.example"),
        ("logout", json!({"postLogoutRedirectUris": ["https://evil.example/"]}), "postLogoutRedirectUris"),
        ("grant", json!({"grantTypes": ["client_credentials"]}), "client_credentials"),
        ("scope", json!({"scopes": ["bookings.read", "admin"]}), "admin"),
        ("silent", json!({"scopes": null}), "declare it"),
    ];
    for (name, change, word) in rows {
        world.apply(portal(name, change)).await;
        let object = world.wait_reason(Kind::OAuthClient, name, "NotAllowed", PATIENCE).await;
        let message = condition(&object, "Ready").unwrap()["message"].to_string();
        assert!(message.contains(word), "{name}: {word:?} is not in {message}");
    }
    assert_eq!(development.clients().await.len(), 0, "none of them was registered");

    world.apply(portal("allowed", json!({}))).await;
    world.wait_condition("allowed", "Ready", "True", PATIENCE).await;
    let (before, secret) = (development.clients().await, world.secret("allowed").await);
    let changes = json!({"spec": {"guardrails": {"allowedScopes": ["bookings.write"]}}});
    world.patch(Kind::OAuthRegistry, "registry", &changes).await;
    world.patch(Kind::OAuthClient, "allowed", &json!({"spec": {"clientName": "Renamed"}})).await;
    world.wait_reason(Kind::OAuthClient, "allowed", "NotAllowed", PATIENCE).await;
    assert_eq!(world.secret("allowed").await, secret, "its Secret stays");
    assert_eq!(development.clients().await.len(), before.len(), "it is not deregistered");
    world.delete(Kind::OAuthClient, "allowed").await;
    world.wait_gone(Kind::OAuthClient, "allowed", PATIENCE).await;
    assert_eq!(development.clients().await.len(), 0, "until its object goes");
}
