//! GitOps tools judge right: kstatus (Flux, Helm 4) and Argo CD, of every object that a life shows.

use serde_json::{Value, json};

use crate::{
    manifests::{client, merge, use_peer},
    support::{
        Cluster, DevelopmentRegistry, Endpoint, HostileRegistry, Kind, Misbehaviour, Operator,
        OperatorOptions, PATIENCE, World, condition,
        judges::{Recorder, Verdict, argo_cd, kstatus},
        providers::{place::Place, telnyx::Telnyx},
        site::Site,
        world::has_condition,
    },
};

/// What was so, what kstatus has to say of it, and what Argo CD.
type Moment = (&'static str, Value, &'static str, &'static str);

#[tokio::test(flavor = "multi_thread")]
async fn the_tools_see_what_is_so_at_every_moment_of_a_clients_life() {
    let world = Cluster::connect().await.world("gitops").await;
    let recorder = Recorder::start(&world, Kind::OAuthClient).await;
    let mut registry = DevelopmentRegistry::start().await;
    let mut moments: Vec<Moment> = Vec::new();
    let mut then = |what, object, kstatus, argo_cd| moments.push((what, object, kstatus, argo_cd));

    then("nobody has looked", world.apply(client("app")).await, "InProgress", "Progressing");
    let _operator = Operator::start(&world, OperatorOptions::default()).await;
    then("there is no registry", says(&world, "RegistryNotFound").await, "InProgress", "Progressing");
    use_peer(&world, &registry).await;
    then("it is registered", says(&world, "Ready").await, "Current", "Healthy");
    let edited = edit(&world, json!({"scopes": ["bookings.read", "api:read"]})).await;
    then("it was edited, and nobody has looked", edited, "InProgress", "Progressing");
    then("the registry has followed", says(&world, "Ready").await, "Current", "Healthy");
    edit(&world, json!({"grantTypes": ["client_credentials", "urn:example:unknown"]})).await;
    then("the registry refuses it", says(&world, "Rejected").await, "Failed", "Degraded");
    edit(&world, json!({"grantTypes": ["client_credentials"]})).await;
    then("it was mended", says(&world, "Ready").await, "Current", "Healthy");
    edit(&world, json!({"suspend": true})).await;
    then("it is suspended", suspended(&world).await, "Current", "Suspended");
    edit(&world, json!({"clientName": "Booking office"})).await;
    then("it was edited meanwhile", suspended(&world).await, "Current", "Suspended");
    edit(&world, json!({"suspend": false})).await;
    then("it goes on", says(&world, "Ready").await, "Current", "Healthy");
    registry.stop().await;
    edit(&world, json!({"clientName": "Booking desk"})).await;
    then("the registry is away", says(&world, "RegistryUnavailable").await, "InProgress", "Progressing");
    registry.restart().await;
    then("the registry is back", says(&world, "Ready").await, "Current", "Healthy");

    registry.stop().await;
    world.delete(Kind::OAuthClient, "app").await;
    let leaving = world.get(Kind::OAuthClient, "app").await.expect("it waits for its registry");
    then("it is being deleted", leaving, "Terminating", "Progressing");
    registry.restart().await;
    world.wait_gone(Kind::OAuthClient, "app", PATIENCE).await;

    hold(&moments).await;
    assert_lawful(&recorder.seen(), moments.len()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_that_nobody_knows_is_never_taken_for_good() {
    let world = Cluster::connect().await.world("gitops-unknown").await;
    let recorder = Recorder::start(&world, Kind::OAuthClient).await;
    let registry = HostileRegistry::start().await;
    registry.misbehave(Endpoint::Register, Misbehaviour::Hangs);
    let mut declared = crate::manifests::registry(registry.url());
    merge(
        &mut declared["spec"],
        &json!({"timeout": "1s", "dynamicRegistration": {"unknownOutcome": "Halt"}}),
    );
    world.put_secret("initial-access-token", &[("token", "CANARY")]).await;
    world.apply(declared).await;
    let _operator = Operator::start(&world, OperatorOptions::default()).await;
    world.apply(client("app")).await;
    let halted = world.wait_condition("app", "Stalled", "True", PATIENCE).await;
    assert_eq!(condition(&halted, "Ready").unwrap()["status"], "Unknown", "{halted:#}");
    hold(&[("it waits for a person", halted, "Failed", "Degraded")]).await;
    assert_lawful(&recorder.seen(), 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tools_see_whether_a_registry_can_be_used() {
    let world = Cluster::connect().await.world("gitops-registry").await;
    let recorder = Recorder::start(&world, Kind::OAuthRegistry).await;
    let site: Site<Telnyx> = Site::open(&world, "telnyx").await;
    let _operator = Operator::start(&world, OperatorOptions::default()).await;
    let ready = world.wait_reason(Kind::OAuthRegistry, "telnyx", "Ready", PATIENCE).await;
    site.fake.at(|telnyx| telnyx.throttle(PATIENCE));
    let throttled = world.wait_reason(Kind::OAuthRegistry, "telnyx", "Throttled", PATIENCE).await;
    let no_certificate = json!({"spec": {"tls": {"caBundle": "no certificate"}}});
    world.patch(Kind::OAuthRegistry, "telnyx", &no_certificate).await;
    let invalid = world.wait_reason(Kind::OAuthRegistry, "telnyx", "InvalidRegistry", PATIENCE).await;
    hold(&[
        ("it can be used", ready, "Current", "Healthy"),
        ("it wants no request", throttled, "InProgress", "Progressing"),
        ("nobody but its owner can mend it", invalid, "Failed", "Degraded"),
    ])
    .await;
    assert_lawful(&recorder.seen(), 3).await;
}

#[test]
fn argo_cd_judges_what_no_life_may_show() {
    let object =
        |kind: &str, status: Value| json!({"kind": kind, "metadata": {"generation": 2}, "status": status});
    let says = |observed: i64, conditions: &[(&str, &str)]| {
        let conditions =
            conditions.iter().map(|(name, status)| json!({"type": name, "status": status, "message": name}));
        json!({"observedGeneration": observed, "conditions": conditions.collect::<Vec<_>>()})
    };
    let cases = [
        ("OAuthClient", Value::Null, "Progressing", "a status that was lost is no success"),
        ("OAuthClient", json!({"observedGeneration": -1}), "Progressing", "the default of the CRD"),
        ("OAuthClient", says(2, &[]), "Progressing", "there is always something said"),
        ("OAuthClient", says(1, &[("Ready", "True")]), "Progressing", "it was ready as it was before"),
        (
            "OAuthClient",
            says(1, &[("Ready", "False"), ("Stalled", "True")]),
            "Progressing",
            "the edit may mend it",
        ),
        ("OAuthClient", says(1, &[("Suspended", "True")]), "Progressing", "it may go on now"),
        ("OAuthClient", says(2, &[("Ready", "Unknown")]), "Progressing", "nobody knows is not failed"),
        ("OAuthClient", says(2, &[("Ready", "True"), ("Stalled", "False")]), "Healthy", "false is as absent"),
        (
            "OAuthClient",
            says(2, &[("Ready", "True"), ("Reconciling", "True")]),
            "Progressing",
            "it is still at it",
        ),
        (
            "OAuthClient",
            says(2, &[("Ready", "Unknown"), ("Suspended", "True")]),
            "Suspended",
            "before its first look",
        ),
        ("OAuthRegistry", Value::Null, "Progressing", "nobody has asked it yet"),
        (
            "ClusterOAuthRegistry",
            says(1, &[("Ready", "True")]),
            "Progressing",
            "another registry may be behind it now",
        ),
        ("ClusterOAuthRegistry", says(2, &[("Ready", "False")]), "Progressing", "it may come back"),
    ];
    for (kind, status, expected, reason) in cases {
        let object = object(kind, status);
        assert_eq!(argo_cd(std::slice::from_ref(&object))[0].status, expected, "{reason}: {object}");
    }
}

async fn edit(world: &World, spec: Value) -> Value {
    world.patch(Kind::OAuthClient, "app", &json!({"spec": spec})).await
}

/// Waits until `Ready` has this reason, of what is declared now, and nothing is suspended.
async fn says(world: &World, reason: &str) -> Value {
    world
        .wait_for(Kind::OAuthClient, "app", reason, PATIENCE, |object| {
            is_observed(object)
                && condition(object, "Ready").is_some_and(|ready| ready["reason"] == reason)
                && condition(object, "Suspended").is_none()
        })
        .await
}

async fn suspended(world: &World) -> Value {
    let holds = |object: &Value| is_observed(object) && has_condition(object, "Suspended", "True");
    world.wait_for(Kind::OAuthClient, "app", "suspended", PATIENCE, holds).await
}

fn is_observed(object: &Value) -> bool {
    object["status"]["observedGeneration"] == object["metadata"]["generation"]
}

/// The tools say at each moment what they should.
async fn hold(moments: &[Moment]) {
    let objects: Vec<_> = moments.iter().map(|(_, object, ..)| object.clone()).collect();
    let verdicts = kstatus(&objects).await.into_iter().zip(argo_cd(&objects));
    for ((what, object, by_kstatus, by_argo_cd), (kstatus, argo_cd)) in moments.iter().zip(verdicts) {
        assert_eq!(kstatus.status, *by_kstatus, "{what}: {object:#}");
        assert_eq!(argo_cd.status, *by_argo_cd, "{what}: {argo_cd:?}: {object:#}");
    }
}

/// What holds of every object that was ever shown, however short.
async fn assert_lawful(seen: &[Value], at_least: usize) {
    assert!(seen.len() >= at_least, "the watch has missed something: {seen:#?}");
    let kstatus = kstatus(seen).await;
    assert_eq!(kstatus.len(), seen.len());
    for ((object, kstatus), argo_cd) in seen.iter().zip(kstatus).zip(argo_cd(seen)) {
        let what = format!("kstatus {kstatus:?}, Argo CD {argo_cd:?}: {object:#}");
        assert_eq!(kstatus.status, lawful(object), "{what}");
        assert!(agree(object, &kstatus, &argo_cd), "{what}");
    }
}

/// What kstatus has to conclude, told by our own promises: nothing is finished but what is `Ready` as it is declared now, or
/// was left alone on request; nothing has failed but dead ends.
fn lawful(object: &Value) -> &'static str {
    let is = |name| has_condition(object, name, "True");
    let kept_ready =
        is("Suspended") && condition(object, "Ready").is_some_and(|ready| ready["status"] == "True");
    match () {
        () if object["metadata"]["deletionTimestamp"].is_string() => "Terminating",
        () if is("Stalled") => "Failed",
        () if is("Reconciling") => "InProgress",
        () if is("Ready") || kept_ready => "Current",
        () => "InProgress",
    }
}

fn agree(object: &Value, kstatus: &Verdict, argo_cd: &Verdict) -> bool {
    let expected = match kstatus.status.as_str() {
        "Terminating" => "Progressing",
        _ if is_observed(object) && has_condition(object, "Suspended", "True") => "Suspended",
        "Current" => "Healthy",
        "Failed" => "Degraded",
        _ => "Progressing",
    };
    argo_cd.status == expected
}
