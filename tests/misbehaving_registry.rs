//! Whatever a registry answers: a reason that says what to do, nothing lost, nothing created twice beyond the budget, no secret
//! in any output, and no request to a place where it should not go.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    manifests::{client, use_url},
    support::{
        Cluster, Endpoint, HostileRegistry, Kind, Misbehaviour, Operator, OperatorOptions, PATIENCE, World,
        condition, hostile::CANARY, site::assert_no_secret_anywhere,
    },
};

/// A registration and two more attempts.
const BUDGET: usize = 3;

struct Case {
    does: Misbehaviour,
    reason: &'static str,
    /// Whether the client may exist although we hold no reply.
    unknown: bool,
}

fn case(does: Misbehaviour, reason: &'static str, unknown: bool) -> Case {
    Case { does, reason, unknown }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_that_is_refused_is_not_tried_in_vain() {
    for case in [
        case(Misbehaviour::Unauthorized, "Unauthorized", false),
        case(Misbehaviour::Forbidden, "Unauthorized", false),
        case(Misbehaviour::TooManyRequests(3), "Throttled", false),
        case(Misbehaviour::InvalidRedirectUri("not on our list".into()), "Rejected", false),
        case(Misbehaviour::EchoesCredentials, "Rejected", false),
        case(Misbehaviour::RedirectElsewhere(307), "RegistryProtocolError", false),
        case(Misbehaviour::RedirectElsewhere(302), "RegistryProtocolError", false),
    ] {
        registering(case).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_of_unknown_outcome_is_repeated_within_the_budget() {
    for case in [
        case(Misbehaviour::InternalError, "OutcomeUnknown", true),
        case(Misbehaviour::Unavailable, "OutcomeUnknown", true),
        case(Misbehaviour::TruncatedBody, "OutcomeUnknown", true),
        case(Misbehaviour::HugeBody, "OutcomeUnknown", true),
    ] {
        registering(case).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_that_is_answered_with_nonsense_is_unknown() {
    for case in [
        case(Misbehaviour::NoClientId, "OutcomeUnknown", true),
        case(Misbehaviour::Html, "OutcomeUnknown", true),
        case(Misbehaviour::Hangs, "OutcomeUnknown", true),
        case(Misbehaviour::ClosesMidHeaders, "OutcomeUnknown", true),
    ] {
        registering(case).await;
    }
}

async fn registering(case: Case) {
    let does = format!("{:?}", case.does);
    let world = Cluster::connect().await.world("hostile").await;
    let registry = HostileRegistry::start().await;
    registry.misbehave(Endpoint::Register, case.does);
    use_url(&world, registry.url()).await;
    let operator = Operator::start(&world, OperatorOptions::default()).await;
    world.apply(client("app")).await;

    let object = says(&world, case.reason).await;
    assert_ne!(ready(&object)["status"], "True", "{does}");
    let message = ready(&object)["message"].as_str().unwrap().to_owned();
    assert!(message.len() > 40, "{does}: the message says what to do: {message}");
    assert_eq!(world.secret("app").await, None, "{does}: no Secret before there are credentials");
    if case.unknown {
        let halted = world
            .wait_for(Kind::OAuthClient, "app", "the budget is used up", PATIENCE, |object| {
                condition(object, "Stalled").is_some()
            })
            .await;
        assert!(
            ready(&halted)["message"].as_str().unwrap().contains("oauth-operator.io/resume="),
            "{does}: {halted:#}"
        );
        assert_eq!(posts(&registry), BUDGET, "{does}: {:?}", registry.requests());
        let metrics = operator.metrics().await;
        let suspected = format!("oauth_operator_suspected_orphans {}", BUDGET - 1);
        assert!(metrics.contains(&suspected), "{does}: those before the one that is open: {metrics}");
    }
    no_secret_anywhere(&world, &operator, &registry, &does).await;

    registry.behave(Endpoint::Register);
    let annotations = if case.unknown {
        let object = world.get(Kind::OAuthClient, "app").await.unwrap();
        let nonce = intent(&object)["nonce"].clone();
        json!({"oauth-operator.io/resume": nonce})
    } else {
        json!({"oauth-operator.io/requested-at": "now"})
    };
    world.patch(Kind::OAuthClient, "app", &json!({"metadata": {"annotations": annotations}})).await;
    let object = world.wait_condition("app", "Ready", "True", PATIENCE).await;
    let suspects = intent(&object)["suspects"].as_array().map_or(0, Vec::len);
    assert_eq!(suspects, 0, "{does}: a person has looked after them");
    assert!(registry.clients().len() <= 1 + BUDGET, "{does}: {} clients", registry.clients().len());
    no_secret_anywhere(&world, &operator, &registry, &does).await;
    assert_eq!(registry.requests_elsewhere(), Vec::<String>::new(), "{does}: nothing was sent elsewhere");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_registry_costs_no_attempt() {
    let world = Cluster::connect().await.world("unreachable").await;
    use_url(&world, "http://127.0.0.1:9").await;
    let operator = Operator::start(&world, OperatorOptions::default()).await;
    world.apply(client("app")).await;
    let object = says(&world, "RegistryUnavailable").await;
    assert_eq!(intent(&object), Value::Null, "nothing was announced that could not be sent");
    let gone = tokio::time::Instant::now();
    world.delete(Kind::OAuthClient, "app").await;
    world.wait_gone(Kind::OAuthClient, "app", PATIENCE).await;
    assert!(gone.elapsed() < Duration::from_secs(5), "there was nothing to wait for");
    drop(operator);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_ready_stays_so_whatever_a_look_is_answered() {
    for does in [
        Misbehaviour::InternalError,
        Misbehaviour::HugeBody,
        Misbehaviour::Hangs,
        Misbehaviour::TooManyRequests(2),
    ] {
        let world = Cluster::connect().await.world("look").await;
        let registry = HostileRegistry::start().await;
        use_url(&world, registry.url()).await;
        let operator = Operator::start(&world, OperatorOptions::default()).await;
        world.apply(client("app")).await;
        let before = world.wait_condition("app", "Ready", "True", PATIENCE).await;
        let secret = world.secret("app").await;
        registry.misbehave(Endpoint::Read, does.clone());
        let annotations = json!({"metadata": {"annotations": {"oauth-operator.io/requested-at": "now"}}});
        world.patch(Kind::OAuthClient, "app", &annotations).await;
        let after = world
            .wait_for(Kind::OAuthClient, "app", "the request is handled", PATIENCE, |object| {
                object["status"]["lastHandledReconcileAt"] == "now"
            })
            .await;
        assert_eq!(ready(&after), ready(&before), "{does:?}");
        assert_eq!(world.secret("app").await, secret, "{does:?}");
        assert_eq!(posts(&registry), 1, "{does:?}: nothing is registered again");
        no_secret_anywhere(&world, &operator, &registry, &format!("{does:?} at a look")).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_management_token_does_not_make_a_second_client() {
    let world = Cluster::connect().await.world("lost-token").await;
    let registry = HostileRegistry::start().await;
    use_url(&world, registry.url()).await;
    let _operator = Operator::start(&world, OperatorOptions::default()).await;
    world.apply(client("app")).await;
    world.wait_condition("app", "Ready", "True", PATIENCE).await;
    registry.misbehave(Endpoint::Read, Misbehaviour::Unauthorized);
    let annotations = json!({"metadata": {"annotations": {"oauth-operator.io/requested-at": "now"}}});
    world.patch(Kind::OAuthClient, "app", &annotations).await;
    says(&world, "ManagementLost").await;
    assert_eq!(posts(&registry), 1, "a 401 alone proves nothing");
    assert_eq!(registry.clients().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_managed_elsewhere_is_used_and_its_token_goes_nowhere() {
    let world = Cluster::connect().await.world("elsewhere").await;
    let registry = HostileRegistry::start().await;
    registry.misbehave(Endpoint::Register, Misbehaviour::ManagedElsewhere);
    use_url(&world, registry.url()).await;
    let operator = Operator::start(&world, OperatorOptions::default()).await;
    world.apply(client("app")).await;
    world.wait_condition("app", "Ready", "True", PATIENCE).await;
    world.patch(Kind::OAuthClient, "app", &json!({"spec": {"clientName": "Another"}})).await;
    let object = says(&world, "NotManageable").await;
    assert!(ready(&object)["message"].as_str().unwrap().contains("clientName"), "{object:#}");
    world.delete(Kind::OAuthClient, "app").await;
    world.wait_gone(Kind::OAuthClient, "app", PATIENCE).await;
    assert_eq!(registry.requests_elsewhere(), Vec::<String>::new());
    no_secret_anywhere(&world, &operator, &registry, "managed elsewhere").await;
}

async fn says(world: &World, reason: &str) -> Value {
    world
        .wait_for(Kind::OAuthClient, "app", reason, PATIENCE, |object| {
            condition(object, "Ready").is_some_and(|ready| ready["reason"] == reason)
        })
        .await
}

fn ready(object: &Value) -> Value {
    condition(object, "Ready").cloned().unwrap_or_default()
}

fn intent(object: &Value) -> Value {
    let text = object["metadata"]["annotations"]["oauth-operator.io/intent"].as_str();
    text.map_or(Value::Null, |text| serde_json::from_str(text).unwrap())
}

fn posts(registry: &HostileRegistry) -> usize {
    registry
        .requests()
        .iter()
        .filter(|request| request.starts_with("POST ") && !request.contains("token"))
        .count()
}

async fn no_secret_anywhere(world: &World, operator: &Operator, registry: &HostileRegistry, told: &str) {
    let mut secrets = registry.secrets();
    secrets.push(CANARY.to_owned() + "-initial-access-token");
    assert_no_secret_anywhere(world, operator, &secrets, told).await;
}
