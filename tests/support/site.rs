//! A provider behind a socket, declared as a registry of a world, and the one client that is declared there.

use super::ports::listener;
use super::providers::{
    Fake,
    place::Place,
    server::{Served, serve},
};
use super::{Kind, Operator, PATIENCE, World, assert_no_secret, condition, eventually};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A provider, its registry object, the Secret with its credentials, and its client, all of one name.
pub struct Site<P> {
    /// The provider.
    pub fake: Fake<P>,
    /// Where it is served.
    pub served: Served,
    world: World,
    name: String,
}

impl<P: Place> Site<P> {
    /// Serves a new provider and declares it.
    pub async fn open(world: &World, name: &str) -> Self {
        let (fake, served) = serve_new().await;
        let site = Self { fake, served, world: world.clone(), name: name.to_owned() };
        site.give_credentials(&P::credentials()).await;
        site.declare(P::registry).await;
        site
    }

    /// Declares the registry, by its URL and the Secret with the credentials. It looks for drift every 10 s and waits 5 s for an
    /// answer.
    pub async fn declare(&self, connection: fn(&str, &str) -> Value) {
        let mut spec = json!({"insecureHttp": true, "driftInterval": "10s", "timeout": "5s"});
        extend(&mut spec, &connection(self.served.url(), &self.name));
        self.world
            .apply(json!({
                "apiVersion": "oauth-operator.io/v1alpha1", "kind": "OAuthRegistry",
                "metadata": {"name": self.name}, "spec": spec,
            }))
            .await;
    }

    /// Writes the credentials that the operator uses.
    pub async fn give_credentials(&self, credentials: &Value) {
        self.world.put_credentials(&self.name, credentials).await;
    }

    /// Declares the client: what this provider needs, and this.
    pub async fn apply(&self, more: &Value) {
        let mut spec = json!({
            "registryRef": {"name": self.name},
            "clientName": "Booking portal",
            "redirectUris": ["https://portal.example/callback"],
            "secret": {"name": self.secret_name()},
        });
        extend(&mut spec, &P::spec());
        extend(&mut spec, more);
        self.world
            .apply(json!({
                "apiVersion": "oauth-operator.io/v1alpha1", "kind": "OAuthClient",
                "metadata": {"name": self.name}, "spec": spec,
            }))
            .await;
    }

    /// Declares something else.
    pub async fn edit(&self, spec: &Value) {
        self.world.patch(Kind::OAuthClient, &self.name, &json!({"spec": spec})).await;
    }

    /// Annotates the client.
    pub async fn annotate(&self, name: &str, value: &str) {
        let annotations = json!({format!("oauth-operator.io/{name}"): value});
        self.world
            .patch(Kind::OAuthClient, &self.name, &json!({"metadata": {"annotations": annotations}}))
            .await;
    }

    /// Has the operator look at the client now, and waits until it has.
    pub async fn look(&self, token: &str) -> Value {
        self.annotate("requested-at", token).await;
        self.wait_for("the request is handled", |object| object["status"]["lastHandledReconcileAt"] == token)
            .await
    }

    /// Waits until the client is ready, as it is declared now.
    pub async fn ready(&self) -> Value {
        self.world.wait_condition(&self.name, "Ready", "True", PATIENCE).await
    }

    /// Waits until `Ready` has this reason, and speaks of what is declared now.
    pub async fn says(&self, reason: &str, because: &str) -> Value {
        self.wait_for(&format!("{reason}, because {because}"), |object| {
            let ready = condition(object, "Ready");
            ready.is_some_and(|ready| {
                ready["reason"] == reason && ready["observedGeneration"] == object["metadata"]["generation"]
            })
        })
        .await
    }

    /// Waits until the client's object is like this.
    pub async fn wait_for(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let what = format!("{what} ({})", P::NAME);
        self.world.wait_for(Kind::OAuthClient, &self.name, &what, PATIENCE, holds).await
    }

    /// Waits until what is at the provider is like this.
    pub async fn eventually(&self, what: &str, holds: impl Fn(&P) -> bool) {
        eventually(&format!("{what} ({})", P::NAME), PATIENCE, async || {
            let seen = || format!("{:#?}\n{:#?}", self.clients().values(), self.requests());
            if self.fake.at(|provider| holds(provider)) { Ok(()) } else { Err(seen()) }
        })
        .await;
    }

    /// Waits until all clients were listed that many times.
    pub async fn listed(&self, times: usize) {
        eventually("the clients are listed", PATIENCE, async || {
            let listed = self.fake.count(P::LIST);
            if listed >= times { Ok(()) } else { Err(format!("{listed} times so far")) }
        })
        .await;
    }

    /// Deletes the client's object and waits until it is gone.
    pub async fn delete(&self) {
        self.world.delete(Kind::OAuthClient, &self.name).await;
        self.world.wait_gone(Kind::OAuthClient, &self.name, PATIENCE).await;
    }

    /// Where the client's credentials go.
    pub fn secret_name(&self) -> String {
        format!("{}-client", self.name)
    }

    /// The client's id and secret, as its application has them.
    pub async fn credentials(&self) -> (String, String) {
        let secret = self.world.secret(&self.secret_name()).await.expect("the client's Secret");
        (secret["client_id"].clone(), secret["client_secret"].clone())
    }

    /// What the provider has.
    pub fn clients(&self) -> BTreeMap<String, P::Client> {
        self.fake.at(|provider| provider.all())
    }

    /// Whether the provider takes these credentials of a client.
    pub fn takes(&self, (id, secret): &(String, String)) -> bool {
        self.fake.at(|provider| provider.authenticates(id, secret))
    }

    /// What the provider was asked about its clients, but for the list of all of them: that one serves the whole registry, and
    /// is asked for every drift interval whatever becomes of a client. So does a sign-in.
    pub fn requests(&self) -> Vec<String> {
        let calls = self.fake.calls().into_iter().map(|call| call.operation);
        calls.filter(|operation| operation != P::LIST && !operation.contains("/auth/")).collect()
    }

    /// What must stand in no output: all that the provider ever gave, and the operator's own credentials.
    pub fn secrets(&self) -> Vec<String> {
        let credentials = P::credentials();
        let own = credentials.as_object().into_iter().flatten();
        // An e-mail address is none.
        let own = own.filter(|(key, _)| *key != "email").filter_map(|(_, text)| text.as_str());
        own.map(str::to_owned).chain(self.fake.at(|provider| provider.given())).collect()
    }

    /// Fails if an exchange was not as the contract says, or if a secret stands anywhere but in Secrets.
    pub async fn assert_all_well(&self, operator: &Operator) {
        self.fake.assert_contract_held();
        assert_no_secret_anywhere(&self.world, operator, &self.secrets(), P::NAME).await;
    }
}

/// Asserts that none of `secrets` is in what the operator writes for people: logs, metrics, objects and events.
pub async fn assert_no_secret_anywhere(
    world: &World,
    operator: &Operator,
    secrets: &[impl AsRef<str>],
    told: &str,
) {
    let objects = world.kubectl(&["get", "oac,oreg,events", "--output=json"]).await.stdout;
    let places =
        [("the log", operator.output()), ("the metrics", operator.metrics().await), ("the objects", objects)];
    for (place, text) in places {
        assert_no_secret(&text, secrets, &format!("{place} ({told})"));
    }
}

/// Serves a provider that nobody has used, on the day of the real binary.
pub async fn serve_new<P: Place>() -> (Fake<P>, Served) {
    let fake = Fake::new(P::fresh());
    fake.at(|provider| provider.set_time(today()));
    let served = serve(listener().await, fake.clone());
    (fake, served)
}

/// The day of the real binary.
#[expect(clippy::disallowed_methods, reason = "that binary has no other clock")]
pub fn today() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

/// Adds these members.
pub fn extend(object: &mut Value, with: &Value) {
    object.as_object_mut().expect("an object").extend(with.as_object().cloned().unwrap_or_default());
}
