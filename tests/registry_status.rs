//! A registry says whether it answers and what it can do; what is wrong with it, and no longer when it is put right.

use serde_json::json;

use crate::{
    manifests::registry,
    support::{
        Cluster, DevelopmentRegistry, Kind, Operator, OperatorOptions, PATIENCE, Peer,
        peer::{self, INITIAL_ACCESS_TOKEN},
    },
};

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_without_a_list_says_whether_it_answers_and_what_it_can_do() {
    let world = Cluster::connect().await.world("registry-status").await;
    world.put_secret("initial-access-token", &[("token", INITIAL_ACCESS_TOKEN)]).await;
    let development = DevelopmentRegistry::start().await;
    let mut wrong = registry("http://127.0.0.1:1");
    wrong["spec"]["tls"] = json!({"caBundle": "no certificate"});
    world.apply(wrong).await;
    let _operator = Operator::start(&world, OperatorOptions::default()).await;
    let says = async |reason| world.wait_reason(Kind::OAuthRegistry, "registry", reason, PATIENCE).await;
    says("InvalidRegistry").await;
    world.patch(Kind::OAuthRegistry, "registry", &json!({"spec": {"tls": null}})).await;
    says("RegistryUnavailable").await;

    let issuer = json!({"spec": {"dynamicRegistration": {"issuer": development.url()}}});
    world.patch(Kind::OAuthRegistry, "registry", &issuer).await;
    let status = says("Ready").await["status"].clone();
    let capabilities = json!({
        "rotation": "None", "updates": true, "findsLostRegistrations": false, "showsSecrets": false,
    });
    assert_eq!(status["capabilities"], capabilities, "{status}");
    assert_eq!(status["clients"], 0, "{status}");
    let requests = development.requests();
    assert!(requests.iter().all(|request| request.method == "GET"), "{}", peer::describe(&requests));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_without_metadata_is_not_asked_anything() {
    let world = Cluster::connect().await.world("registry-endpoint").await;
    let development = DevelopmentRegistry::start().await;
    let mut endpoint = registry("");
    endpoint["spec"]["dynamicRegistration"] =
        json!({"registrationEndpoint": format!("{}/register", development.url())});
    world.apply(endpoint).await;
    let _operator = Operator::start(&world, OperatorOptions::default()).await;
    let told = world.wait_condition_of(Kind::OAuthRegistry, "registry", "Ready", "True", PATIENCE).await;
    assert!(told["status"]["conditions"][0]["message"].to_string().contains("not asked"), "{told}");
    assert_eq!(peer::describe(&development.requests()), peer::describe(&[]));
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_come_later_are_told_and_found() {
    let world = Cluster::connect().await.world("late-credentials").await;
    let mut telnyx = registry("http://127.0.0.1:1");
    telnyx["spec"].as_object_mut().unwrap().remove("dynamicRegistration");
    telnyx["spec"]["telnyx"] = json!({"url": "http://127.0.0.1:1", "credentialsSecretRef": {"name": "key"}});
    world.apply(telnyx).await;
    let _operator = Operator::start(&world, OperatorOptions::default()).await;
    let reason = |wanted: &'static str| {
        move |object: &serde_json::Value| object["status"]["conditions"][0]["reason"] == wanted
    };
    world.wait_for(Kind::OAuthRegistry, "registry", "no key", PATIENCE, reason("CredentialsNotFound")).await;

    world.put_secret("key", &[("token", "anything")]).await;
    world
        .wait_for(
            Kind::OAuthRegistry,
            "registry",
            "a key, and nobody there",
            PATIENCE,
            reason("RegistryUnavailable"),
        )
        .await;
}
