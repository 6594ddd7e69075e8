//! A registry's credentials may change, come late or be of the wrong kind: the operator goes on with the new ones without a
//! restart, and says what is wrong with the old.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    stand_ins::{StandIn, client, registry},
    support::{
        Cluster, Kind, Operator, OperatorOptions, PATIENCE, World, condition, eventually,
        providers::{
            cal_com::{self, CalCom},
            meteroid::Meteroid,
            place::Place,
            teable::{self, Switch, Teable},
            telnyx::Telnyx,
        },
    },
};

const SIGN_IN: &str = "POST /api/auth/signin";

struct Story<P> {
    world: World,
    provider: StandIn<P>,
    _operator: Operator,
}

impl<P: Place> Story<P> {
    async fn of_a_ready_client(name: &str, prepare: impl FnOnce(&mut P)) -> Self {
        let world = Cluster::connect().await.world(name).await;
        let provider = StandIn::<P>::start().await;
        provider.fake.at(prepare);
        provider.use_in(&world).await;
        let operator = Operator::start(&world, OperatorOptions::default()).await;
        let story = Self { world, provider, _operator: operator };
        story.can_register("app").await;
        story
    }

    async fn can_register(&self, name: &str) {
        self.world.apply(client::<P>(name)).await;
        self.world.wait_condition(name, "Ready", "True", PATIENCE).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_key_is_picked_up_without_a_restart() {
    let story = Story::<CalCom>::of_a_ready_client("cred-key", |_| {}).await;
    let before = story.world.secret("app").await;
    story.provider.fake.at(|provider| provider.replace_key(cal_com::KEY, "cal_live_CANARY-next"));
    story.world.wait_reason(Kind::OAuthRegistry, CalCom::SLUG, "Unauthorized", PATIENCE).await;
    story.world.put_secret(CalCom::SLUG, &[("token", "cal_live_CANARY-next")]).await;
    story.world.wait_reason(Kind::OAuthRegistry, CalCom::SLUG, "Ready", PATIENCE).await;
    story.can_register("next").await;
    story.world.wait_condition("app", "Ready", "True", PATIENCE).await;
    assert_eq!(story.world.secret("app").await, before, "the same client");
    assert_eq!(story.provider.fake.at(|provider| provider.clients().len()), 2);
    story.provider.fake.assert_contract_held();
}

#[tokio::test(flavor = "multi_thread")]
async fn another_password_is_picked_up_when_the_session_ends() {
    let story = Story::<Teable>::of_a_ready_client("cred-password", |_| {}).await;
    let before = story.world.secret("app").await;
    let next = [("email", teable::EMAIL), ("password", "CANARY-next-password")];
    story.provider.fake.at(|provider| provider.change_password(next[0].1, next[1].1));
    story.world.put_secret(Teable::SLUG, &next).await;
    story.provider.fake.at(Teable::end_sessions);
    story.can_register("next").await;
    story.world.wait_condition("app", "Ready", "True", PATIENCE).await;
    assert_eq!(story.world.secret("app").await, before, "the same client");
    let refused =
        story.provider.fake.calls().iter().filter(|call| call.line == SIGN_IN && call.status != 200).count();
    assert!(refused <= 1, "the old password was tried {refused} times: the account would be locked");
    story.provider.fake.assert_contract_held();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_ends_is_renewed_before_or_at_the_next_request() {
    /// Less than two drift intervals.
    const LIFE: Duration = Duration::from_secs(15);
    let story =
        Story::<Teable>::of_a_ready_client("cred-session", |provider| provider.session_life = LIFE).await;
    eventually("a session came to its end", PATIENCE, async || {
        let sessions = story.provider.fake.count(SIGN_IN);
        if sessions >= 2 { Ok(()) } else { Err(format!("{sessions} so far")) }
    })
    .await;
    let unauthorized = || story.provider.fake.calls().iter().filter(|call| call.status == 401).count();
    let before = unauthorized();
    assert!(before <= 1, "its cookie says when it ends, but for a request on its way: {before}");

    story.provider.fake.at(Teable::end_sessions);
    story.can_register("next").await;
    let cost = unauthorized() - before;
    assert!((1..=2).contains(&cost), "a session that ends early costs a request, and one on its way: {cost}");
    story.world.wait_condition("app", "Ready", "True", PATIENCE).await;
    story.provider.fake.assert_contract_held();
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_are_not_there_are_missed_by_name_and_taken_when_they_come() {
    let world = Cluster::connect().await.world("cred-missing").await;
    let _operator = Operator::start(&world, OperatorOptions::default()).await;
    world.put_secret(Telnyx::SLUG, &[("token", " ")]).await;
    world.put_secret(Meteroid::SLUG, &[("key", "under another name")]).await;
    world.put_secret(Teable::SLUG, &[("email", teable::EMAIL)]).await;
    tokio::join!(
        are_missed_until_they_come::<CalCom>(&world, "cal-com has no text under key token"),
        are_missed_until_they_come::<Telnyx>(&world, "telnyx has no text under key token"),
        are_missed_until_they_come::<Meteroid>(&world, "meteroid has no text under key token"),
        are_missed_until_they_come::<Teable>(&world, "teable has no text under key email and password"),
    );
}

async fn are_missed_until_they_come<P: Place>(world: &World, told: &str) {
    let provider = StandIn::<P>::start().await;
    world.apply(provider.registry()).await;
    let name = format!("{}-app", P::SLUG);
    world.apply(client::<P>(&name)).await;
    for (kind, name) in [(Kind::OAuthRegistry, P::SLUG), (Kind::OAuthClient, &name)] {
        let object = world.wait_reason(kind, name, "CredentialsNotFound", PATIENCE).await;
        let message = condition(&object, "Ready").unwrap()["message"].to_string();
        assert!(message.contains(told), "{kind:?}: {message}");
    }
    assert_eq!(provider.fake.calls().len(), 0, "nothing is asked without credentials");
    world.put_credentials(P::SLUG, &P::credentials()).await;
    world.wait_condition(&name, "Ready", "True", PATIENCE).await;
    world.wait_reason(Kind::OAuthRegistry, P::SLUG, "Ready", PATIENCE).await;
    provider.fake.assert_contract_held();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_refuses_access_tokens_is_named_with_the_way_out() {
    let world = Cluster::connect().await.world("cred-bearer").await;
    let teable = StandIn::<Teable>::start().await;
    world.put_secret(Teable::SLUG, &[("token", teable::ACCESS_TOKEN)]).await;
    world.apply(by_token(teable.served.url())).await;
    let operator = Operator::start(&world, OperatorOptions::default()).await;
    world.apply(client::<Teable>("app")).await;
    for (kind, name) in [(Kind::OAuthRegistry, Teable::SLUG), (Kind::OAuthClient, "app")] {
        let object = world.wait_reason(kind, name, "Unauthorized", PATIENCE).await;
        let message = condition(&object, "Ready").unwrap()["message"].to_string();
        assert!(message.contains("does not accept access tokens for OAuth apps"), "{kind:?}: {message}");
        assert!(message.contains("authentication: Password"), "{kind:?}: {message}");
    }
    assert!(!operator.output().contains(teable::ACCESS_TOKEN), "the token stands in no log");

    teable.fake.at(|provider| provider.switches.insert(Switch::AccessTokens));
    world.annotate(Kind::OAuthClient, "app", "oauth-operator.io/requested-at", "now").await;
    world.wait_condition("app", "Ready", "True", PATIENCE).await;
    assert_eq!(teable.fake.count(SIGN_IN), 0, "a token needs no sign-in");
    teable.fake.assert_contract_held();
}

fn by_token(url: &str) -> Value {
    let mut manifest = registry::<Teable>(url);
    manifest["spec"]["teable"]["authentication"] = json!("Bearer");
    manifest
}
