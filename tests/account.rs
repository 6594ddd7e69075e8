//! A list that lacks our clients proves nothing by itself: the wrong account and a restored backup look the same. Nothing is
//! registered then, until the list is right again or the owner says that it is.

use serde_json::{Value, json};

use crate::{
    stand_ins::{StandIn, client, names},
    support::{
        Cluster, Kind, Operator, OperatorOptions, PATIENCE, World, condition, eventually,
        providers::{
            cal_com::{self, CalCom, Role},
            teable::{self, Teable},
        },
    },
};

const ACCEPT: &str = "oauth-operator.io/accept";
const REQUESTED_AT: &str = "oauth-operator.io/requested-at";
const REGISTRY: &str = "cal-com";
const OTHER_KEY: &str = "cal_live_CANARY-another-organisation";
const OTHER_ORGANIZATION: u64 = 2;
/// Where a key is that its provider does not accept at the moment.
const WITHDRAWN: &str = "withdrawn";

struct Story {
    world: World,
    cal_com: StandIn<CalCom>,
    names: Vec<String>,
    _operator: Operator,
}

impl Story {
    async fn of_ready_clients(name: &str, clients: usize) -> Self {
        let world = Cluster::connect().await.world(name).await;
        let cal_com = StandIn::<CalCom>::start().await;
        cal_com.use_in(&world).await;
        // One after another, so that what is found of one client meets what has become of the others.
        let options = OperatorOptions { concurrency: 1, ..OperatorOptions::default() };
        let operator = Operator::start(&world, options).await;
        let names: Vec<String> = names(clients).collect();
        world.create_clients(names.iter().map(|name| client::<CalCom>(name))).await;
        world.wait_ready_clients(clients, PATIENCE).await;
        let story = Self { world, cal_com, names, _operator: operator };
        eventually("their marks are off", PATIENCE, async || {
            let names: Vec<String> = story.clients().into_iter().map(|client| client.name).collect();
            if names.iter().all(|name| name == "Booking portal") { Ok(()) } else { Err(names.join(", ")) }
        })
        .await;
        story.cal_com.fake.forget_calls();
        story
    }

    fn clients(&self) -> Vec<cal_com::Client> {
        self.cal_com.fake.at(|provider| provider.clients())
    }

    /// Somebody puts another key in the place of the one in use, which is withdrawn.
    async fn swap_key(&self, old: &str, new: &str) {
        self.cal_com.fake.at(|provider| provider.replace_key(old, &format!("{WITHDRAWN}-{old}")));
        self.world.put_secret(REGISTRY, &[("token", new)]).await;
    }

    async fn another_organisations_key_comes(&self) {
        self.cal_com.fake.at(|provider| provider.key(OTHER_KEY, OTHER_ORGANIZATION, Role::Owner));
        self.swap_key(cal_com::KEY, OTHER_KEY).await;
        self.all_say("RegistryChanged").await;
    }

    async fn the_old_key_comes_back(&self) {
        let withdrawn = format!("{WITHDRAWN}-{}", cal_com::KEY);
        self.cal_com.fake.at(|provider| provider.replace_key(&withdrawn, cal_com::KEY));
        self.swap_key(OTHER_KEY, cal_com::KEY).await;
    }

    /// The registry says so, and each of its clients.
    async fn all_say(&self, reason: &str) {
        self.registry_says(reason).await;
        for name in &self.names {
            self.client_says(name, reason).await;
        }
    }

    async fn registry_says(&self, reason: &str) -> Value {
        self.world.wait_reason(Kind::OAuthRegistry, REGISTRY, reason, PATIENCE).await
    }

    async fn client_says(&self, name: &str, reason: &str) -> Value {
        self.world.wait_reason(Kind::OAuthClient, name, reason, PATIENCE).await
    }

    /// The registry's owner does what its status says.
    async fn the_owner_accepts(&self, reason: &str) {
        let registry = self.registry_says(reason).await;
        let message = condition(&registry, "Ready").unwrap()["message"].as_str().unwrap();
        let token = message.split(&format!("{ACCEPT}=")).nth(1).expect("the message names what to set");
        self.world.annotate(Kind::OAuthRegistry, REGISTRY, ACCEPT, token).await;
    }

    /// Ids, secrets and versions of the clients' Secrets.
    async fn secrets(&self) -> Vec<(String, String, String)> {
        let mut found = Vec::new();
        for name in &self.names {
            let values = self.world.secret(name).await.unwrap();
            let version = self.world.secrets().get(name).await.unwrap().metadata.resource_version;
            found.push((values["client_id"].clone(), values["client_secret"].clone(), version.unwrap()));
        }
        found
    }

    fn assert_only_read(&self) {
        let calls = self.cal_com.fake.calls();
        let writes: Vec<&str> =
            calls.iter().map(|call| call.line.as_str()).filter(|line| !line.starts_with("GET ")).collect();
        assert!(writes.is_empty(), "{writes:?}");
    }

    /// These clients are in use again, each as another one, registered once.
    async fn have_new_clients(&self, names: &[String], lost: &[String]) {
        for name in names {
            self.world
                .wait_for(Kind::OAuthClient, name, "it has a new client", PATIENCE, |object| {
                    let id = object["status"]["clientId"].as_str().unwrap_or_default();
                    let ready = condition(object, "Ready").is_some_and(|ready| ready["status"] == "True");
                    ready && !lost.iter().any(|lost| lost == id)
                })
                .await;
            let secret = self.world.secret(name).await.unwrap();
            let (id, secret) = (&secret["client_id"], &secret["client_secret"]);
            assert!(self.cal_com.fake.at(|provider| provider.authenticates(id, secret)), "{name}");
        }
        let registrations = self.cal_com.fake.count("POST /v2/oauth-clients");
        assert_eq!(registrations, names.len(), "each once");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_organisations_key_registers_nothing_and_touches_no_secret() {
    tokio::join!(nothing_comes_of_another_key(1), nothing_comes_of_another_key(5));
}

async fn nothing_comes_of_another_key(clients: usize) {
    let story = Story::of_ready_clients("account-swap", clients).await;
    let (secrets, before) = (story.secrets().await, story.clients());
    story.another_organisations_key_comes().await;
    assert_eq!(story.secrets().await, secrets, "no Secret is touched");
    story.the_old_key_comes_back().await;
    story.all_say("Ready").await;
    assert_eq!(story.secrets().await, secrets, "nor on the way back");
    assert_eq!(story.clients(), before, "all is as it was at the provider");
    story.assert_only_read();
    story.cal_com.fake.assert_contract_held();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_owner_can_say_that_the_other_organisation_is_right() {
    let story = Story::of_ready_clients("account-accept", 5).await;
    let left: Vec<String> = story.clients().into_iter().map(|client| client.id).collect();
    story.another_organisations_key_comes().await;
    story.assert_only_read();
    story.the_owner_accepts("RegistryChanged").await;
    story.have_new_clients(&story.names, &left).await;
    let there =
        story.clients().into_iter().filter(|client| client.organization_id == OTHER_ORGANIZATION).count();
    assert_eq!((there, story.clients().len()), (5, 10), "those of the old organisation stay there");
    story.registry_says("Ready").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_that_vanish_at_once_are_replaced_when_the_owner_says_so() {
    let story = Story::of_ready_clients("account-mass", 7).await;
    let (gone, kept) = story.names.split_at(5);
    let mut lost = Vec::new();
    for name in gone {
        lost.push(story.world.secret(name).await.unwrap()["client_id"].clone());
    }
    story.cal_com.fake.at(|provider| lost.iter().for_each(|id| provider.remove(id)));
    let secrets = story.secrets().await;
    story.registry_says("MassAbsence").await;
    for name in gone {
        story.world.annotate(Kind::OAuthClient, name, REQUESTED_AT, "now").await;
        story.client_says(name, "MassAbsence").await;
    }
    story.assert_only_read();
    assert_eq!(story.secrets().await, secrets, "the applications go on");
    for name in kept {
        story.client_says(name, "Ready").await;
    }

    story.the_owner_accepts("MassAbsence").await;
    story.have_new_clients(gone, &lost).await;
    story.registry_says("Ready").await;
    assert_eq!(story.secrets().await[gone.len()..], secrets[gone.len()..], "the others are as they were");
    story.cal_com.fake.assert_contract_held();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_vanished_is_looked_for_twice_and_then_replaced_if_its_object_allows_that() {
    let story = Story::of_ready_clients("account-one", 5).await;
    let [replaced, stays, ..] = story.names.as_slice() else { panic!("five of them") };
    let never = json!({"spec": {"replacementPolicy": "Never"}});
    story.world.patch(Kind::OAuthClient, stays, &never).await;
    story.world.wait_condition(stays, "Ready", "True", PATIENCE).await;
    story.cal_com.fake.forget_calls();
    let mut lost = Vec::new();
    for name in [replaced, stays] {
        lost.push(story.world.secret(name).await.unwrap()["client_id"].clone());
    }
    story.cal_com.fake.at(|provider| lost.iter().for_each(|id| provider.remove(id)));
    for name in [replaced, stays] {
        story.client_says(name, "ClientMissing").await;
    }
    story.assert_only_read();
    story.have_new_clients(std::slice::from_ref(replaced), &lost).await;
    story.client_says(stays, "ClientGone").await;
    story.cal_com.fake.assert_contract_held();
}

/// Servers of 2025 let every user read every app whose id they know, so such a read says nothing about whose account it is.
#[tokio::test(flavor = "multi_thread")]
async fn another_users_password_registers_nothing_although_it_may_read_all_clients() {
    const OTHER: [(&str, &str); 2] = [("email", "other@example.com"), ("password", "CANARY-other-password")];
    let world = Cluster::connect().await.world("account-user").await;
    let teable = StandIn::<Teable>::start().await;
    teable.use_in(&world).await;
    let _operator = Operator::start(&world, OperatorOptions::default()).await;
    world.create_clients(names(2).map(|name| client::<Teable>(&name))).await;
    world.wait_ready_clients(2, PATIENCE).await;

    teable.fake.at(|provider| provider.add_user(OTHER[0].1, OTHER[1].1, "teable_CANARY-other"));
    world.put_secret("teable", &OTHER).await;
    // The next request is refused, so the credentials are read again.
    teable.fake.at(Teable::end_sessions);
    world.wait_reason(Kind::OAuthRegistry, "teable", "RegistryChanged", PATIENCE).await;
    for name in names(2) {
        world.annotate(Kind::OAuthClient, &name, REQUESTED_AT, "now").await;
        let handled = |object: &Value| object["status"]["lastHandledReconcileAt"] == "now";
        world.wait_for(Kind::OAuthClient, &name, "it is read", PATIENCE, handled).await;
    }
    world.apply(client::<Teable>("new")).await;
    world.wait_reason(Kind::OAuthClient, "new", "RegistryChanged", PATIENCE).await;
    let owners = teable.fake.at(|provider| provider.clients()).into_iter().map(|client| client.created_by);
    assert_eq!(owners.collect::<Vec<_>>(), [teable::EMAIL; 2], "nothing is registered");
    teable.fake.assert_contract_held();
}
