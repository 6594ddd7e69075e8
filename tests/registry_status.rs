//! A registry says what is wrong with it, and no longer when it is put right.

use serde_json::json;

use crate::{
    manifests::registry,
    support::{Cluster, Kind, Operator, OperatorOptions, PATIENCE},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_without_a_list_says_only_what_is_wrong_with_it() {
    let world = Cluster::connect().await.world("registry-status").await;
    let mut wrong = registry("http://127.0.0.1:1");
    wrong["spec"]["tls"] = json!({"caBundle": "no certificate"});
    world.apply(wrong).await;
    let _operator = Operator::start(&world, OperatorOptions::default()).await;
    let told = world.wait_condition_of(Kind::OAuthRegistry, "registry", "Ready", "False", PATIENCE).await;
    assert_eq!(told["status"]["conditions"][0]["reason"], "InvalidRegistry", "{told}");

    world.patch(Kind::OAuthRegistry, "registry", &json!({"spec": {"tls": null}})).await;
    let silent =
        |object: &serde_json::Value| object["status"]["conditions"].as_array().is_none_or(Vec::is_empty);
    world.wait_for(Kind::OAuthRegistry, "registry", "nothing is wrong any more", PATIENCE, silent).await;
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
