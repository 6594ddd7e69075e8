//! Whatever a provider answers, the status says what it means, and all is well again once that is mended.
//!
//! One operator and one world for the whole table of a provider; each row has a provider, a registry and a client of its own.

use std::time::Duration;

use futures::{StreamExt, stream};
use serde_json::{Value, json};

use crate::support::{
    Cluster, Operator, OperatorOptions, World, condition,
    providers::{
        Fault,
        cal_com::{self, CalCom, ORGANIZATION, Role},
        meteroid::{self, Connect, Meteroid},
        place::Place,
        teable::{self, Switch, Teable},
        telnyx::Telnyx,
    },
    site::Site,
};

/// How long a provider wants no request; longer than it takes to ask it, on a busy machine.
const SILENCE: Duration = Duration::from_secs(8);
/// What is declared while nobody knows whether there is a client.
const MEANWHILE: &str = "https://office.example/callback";
/// Rows, each of which asks the API server ten times a second.
const AT_ONCE: usize = 6;
/// The reasons that wait for somebody to change something. With all others the operator goes on by itself.
const DEAD_ENDS: [&str; 4] = ["ClientDisabled", "ClientGone", "Conflict", "Rejected"];

/// When something goes wrong, what, the reason that `Ready` should have then, and why that one.
type Row<P> = (When, Trouble<P>, &'static str, &'static str);

/// When it goes wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    /// The client is new.
    Registering,
    /// A client that is ready changes: its name, or its secret where that is all that can be changed.
    Changing,
    /// A client that is ready is looked at.
    Looking,
}

/// What is wrong, until it is mended.
enum Trouble<P> {
    /// This call is answered with this status, once.
    Answer(&'static str, u16),
    /// This call takes place, but nobody sees its reply, once.
    Silence(&'static str),
    /// The provider is different.
    Owner(fn(&mut P), fn(&mut P)),
    /// These credentials are given.
    Credentials(Value),
    /// The registry is declared so, by its URL and the Secret with the credentials.
    Registry(fn(&str, &str) -> Value),
    /// The client is declared so.
    Spec(Value),
}

use Trouble::{Answer, Credentials, Owner, Registry, Silence, Spec};
use When::{Changing, Looking, Registering};

/// What differs at one provider.
trait Table: Place {
    /// What a change is called.
    const CHANGE: &'static str;

    /// Its own rows.
    fn rows() -> Vec<Row<Self>>;
    /// Credentials of nobody.
    fn wrong_credentials() -> Value {
        json!({"token": "CANARY-of-nobody"})
    }
    /// Changes a client that is ready.
    async fn change(site: &Site<Self>) {
        site.edit(&json!({"clientName": "Booking office"})).await;
    }
}

/// What every provider may answer.
fn common<P: Table>() -> Vec<Row<P>> {
    let bad = "what is declared is refused: nothing is tried until it changes";
    let collection = "a 404 of the collection says nothing of any client: the url is wrong";
    let right = "a right is missing: somebody has to grant it";
    let misplaced = Registry(|url, secret| P::registry(&format!("{url}/nowhere"), secret));
    vec![
        (Registering, Credentials(P::wrong_credentials()), "Unauthorized", "nobody has these credentials"),
        (Registering, Answer(P::REGISTER, 403), "Unauthorized", right),
        (Registering, Answer(P::REGISTER, 400), "Rejected", bad),
        (Registering, Answer(P::REGISTER, 415), "Rejected", bad),
        (Registering, Answer(P::REGISTER, 422), "Rejected", bad),
        (Registering, Answer(P::REGISTER, 404), "RegistryProtocolError", collection),
        (Registering, misplaced, "RegistryProtocolError", collection),
        (Registering, Answer(P::REGISTER, 409), "Conflict", "nothing of ours is found: it is another's"),
        (Registering, Answer(P::REGISTER, 500), "OutcomeUnknown", "it may have been done before it failed"),
        (Registering, Silence(P::REGISTER), "OutcomeUnknown", "it may have been done: it is looked for"),
    ]
}

/// What every provider may answer that can change a client.
fn of_updates<P: Table>() -> Vec<Row<P>> {
    let bad = "what is declared is refused: nothing is tried until it changes";
    let again = "an update is repeated: nothing is lost by that";
    vec![
        (Changing, Answer(P::CHANGE, 400), "Rejected", bad),
        (Changing, Answer(P::CHANGE, 422), "Rejected", bad),
        (Changing, Answer(P::CHANGE, 403), "Unauthorized", "a right is missing: somebody has to grant it"),
        (Changing, Answer(P::CHANGE, 404), "RegistryUnavailable", "a read shows that it is still there"),
        (Changing, Answer(P::CHANGE, 500), "RegistryUnavailable", again),
        (Changing, Answer(P::CHANGE, 503), "RegistryUnavailable", again),
        (Changing, Silence(P::CHANGE), "RegistryUnavailable", again),
        (Changing, throttled(), "Throttled", "all clients of the registry wait"),
    ]
}

/// Refuses everybody for a while; that ends by itself.
fn throttled<P: Place>() -> Trouble<P> {
    Owner(|provider| provider.throttle(SILENCE), |_| {})
}

impl Table for CalCom {
    const CHANGE: &'static str = "PATCH /v2/oauth-clients/{clientId}";

    fn rows() -> Vec<Row<Self>> {
        let member = Owner(
            |p: &mut Self| p.key(cal_com::KEY, ORGANIZATION, Role::Member),
            |p| p.key(cal_com::KEY, ORGANIZATION, Role::Owner),
        );
        let platform = Owner(
            |p: &mut Self| p.organization(ORGANIZATION).platform = false,
            |p| p.organization(ORGANIZATION).platform = true,
        );
        let subscription = Owner(
            |p: &mut Self| p.organization(ORGANIZATION).subscription = false,
            |p| p.organization(ORGANIZATION).subscription = true,
        );
        let scopes = Spec(json!({"scopes": ["FLY"]}));
        let own = [
            (Registering, member, "Unauthorized", "members of an organisation may only read"),
            (Registering, platform, "Unauthorized", "the organisation is no platform"),
            (Registering, subscription, "Rejected", "said in the words of any bad request"),
            (Registering, scopes, "Rejected", "there is no such permission"),
            (Registering, throttled(), "Throttled", "X-RateLimit-Reset tells for how long"),
        ];
        of_updates().into_iter().chain(own).collect()
    }
}

impl Table for Telnyx {
    const CHANGE: &'static str = "PUT /v2/oauth/clients/{id}";

    fn rows() -> Vec<Row<Self>> {
        /// Somebody else has the name.
        fn taken(telnyx: &mut Telnyx, status: u16) {
            telnyx.settle_strangers(1);
            let id = telnyx.all().into_keys().next().unwrap();
            telnyx.rename(&id, "Booking portal");
            telnyx.refuses_duplicates = Some(status);
        }
        let free = |telnyx: &mut Self| telnyx.refuses_duplicates = None;
        let grants = Spec(json!({"grantTypes": ["urn:ietf:params:oauth:grant-type:device_code"]}));
        let own = [
            (Registering, grants, "Rejected", "it has no such grant, and says so with 422"),
            (Registering, throttled(), "Throttled", "x-ratelimit-reset tells for how long"),
            (Registering, Owner(|p: &mut Self| taken(p, 409), free), "Conflict", "the name is another's"),
            (
                Registering,
                Owner(|p: &mut Self| taken(p, 422), free),
                "Conflict",
                "the same by its code 10012",
            ),
        ];
        of_updates().into_iter().chain(own).collect()
    }
}

impl Table for Teable {
    const CHANGE: &'static str = "PUT /api/oauth/client/{clientId}";

    fn rows() -> Vec<Row<Self>> {
        let bearer = Registry(by_access_token);
        let scopes = Spec(json!({"scopes": ["table|fly"]}));
        let own = [
            (Registering, bearer, "Unauthorized", "access tokens are not let in, whatever their rights"),
            (Registering, scopes, "Rejected", "this server knows no such scope"),
        ];
        of_updates().into_iter().chain(own).collect()
    }

    fn wrong_credentials() -> Value {
        json!({"email": teable::EMAIL, "password": "CANARY-of-nobody"})
    }
}

impl Table for Meteroid {
    const CHANGE: &'static str = "POST /api/v1/oauth-apps/{id}/rotate";

    fn rows() -> Vec<Row<Self>> {
        let on = |p: &mut Self| p.connect = Connect::On;
        let forbidden = Owner(|p: &mut Self| p.connect = Connect::Forbidden, on);
        let nowhere = Owner(|p: &mut Self| p.connect = Connect::NotFound, on);
        let expired = Owner(
            |p: &mut Self| p.expire_key(meteroid::KEY),
            |p| p.add_key(meteroid::KEY, &p.organization_of(meteroid::KEY)),
        );
        let disabled = Owner(|p: &mut Self| activate(p, false), |p| activate(p, true));
        let again = "the old secret may be dead already: it is done again";
        vec![
            (Registering, forbidden, "Unauthorized", "Connect is off, as a matter of rights"),
            (Registering, nowhere, "RegistryProtocolError", "Connect is off, so there is nothing"),
            (Registering, expired, "Unauthorized", "the key has expired"),
            (Registering, throttled(), "Throttled", "retry-after tells for how long"),
            (Looking, disabled, "ClientDisabled", "only the service's own people can change that"),
            (Changing, Answer(Self::CHANGE, 500), "OutcomeUnknown", again),
            (Changing, Silence(Self::CHANGE), "OutcomeUnknown", again),
            (Changing, Answer(Self::CHANGE, 403), "Unauthorized", "a right is missing"),
            (Changing, Answer(Self::CHANGE, 404), "RegistryProtocolError", "not in its own words"),
            (Changing, Answer(Self::CHANGE, 400), "RegistryProtocolError", "nothing declared was sent"),
        ]
    }

    async fn change(site: &Site<Self>) {
        site.annotate("rotate", "once").await;
    }
}

fn activate(meteroid: &mut Meteroid, is_active: bool) {
    for id in meteroid.all().keys() {
        meteroid.edit(id, |app| app.is_active = is_active);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cal_com_is_understood() {
    is_understood::<CalCom>("status-cal-com").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn telnyx_is_understood() {
    is_understood::<Telnyx>("status-telnyx").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn teable_is_understood() {
    is_understood::<Teable>("status-teable").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn meteroid_is_understood() {
    is_understood::<Meteroid>("status-meteroid").await;
}

async fn is_understood<P: Table>(name: &str) {
    let world = Cluster::connect().await.world(name).await;
    let operator = Operator::start(&world, OperatorOptions::default()).await;
    let rows = common::<P>().into_iter().chain(P::rows()).enumerate();
    let rows = stream::iter(rows.map(|(number, row)| holds(&world, number, row)));
    let all_rows = rows.buffer_unordered(AT_ONCE).collect::<()>();
    tokio::join!(all_rows, vanishes::<P>(&world), ends::<P>(&world));
    let metrics = operator.metrics().await;
    assert!(metrics.contains("oauth_operator_abandoned_total 0"), "no deletion was given up: {metrics}");
}

async fn holds<P: Table>(world: &World, number: usize, row: Row<P>) {
    let (when, trouble, reason, because) = row;
    let site = Site::<P>::open(world, &format!("row-{number}")).await;
    if when != Registering {
        is_ready(&site).await;
    }
    trouble.begins(&site).await;
    match when {
        Registering => site.apply(trouble.spec()).await,
        Changing => P::change(&site).await,
        Looking => site.annotate("requested-at", "now").await,
    }
    let object = site.says(reason, because).await;
    let ready = condition(&object, "Ready").unwrap();
    let status = if reason == "OutcomeUnknown" { "Unknown" } else { "False" };
    assert_eq!(ready["status"], status, "{because}: {object:#}");
    assert!(ready["message"].as_str().unwrap().len() > 30, "it says what happened: {ready}");
    let state = if DEAD_ENDS.contains(&reason) { "Stalled" } else { "Reconciling" };
    assert!(condition(&object, state).is_some(), "{because}: {state}: {object:#}");

    trouble.ends(&site).await;
    site.annotate("requested-at", "it is mended").await;
    site.ready().await;
    assert!(site.takes(&site.credentials().await), "{because}: the credentials are good in the end");
    // What was asked at a wrong place, or in words that the provider refuses, is in no document; and the last such question may come late.
    if !matches!(trouble, Registry(_) | Spec(_)) {
        site.fake.assert_contract_held();
    }
}

/// A new client, ready and with its name.
async fn is_ready<P: Place>(site: &Site<P>) -> String {
    site.apply(&json!({})).await;
    let id = site.ready().await["status"]["clientId"].as_str().unwrap().to_owned();
    site.eventually("it has its name", |provider| P::name(&provider.all()[&id]) == "Booking portal").await;
    id
}

impl<P: Place> Trouble<P> {
    async fn begins(&self, site: &Site<P>) {
        match self {
            Answer(call, status) => site.fake.disturb(call, Fault::Answered(*status)),
            Silence(call) => site.fake.disturb(call, Fault::ReplyLost),
            Owner(break_it, _) => site.fake.at(break_it),
            Credentials(wrong) => site.give_credentials(wrong).await,
            Registry(wrong) => site.declare(*wrong).await,
            Spec(_) => {}
        }
    }

    async fn ends(&self, site: &Site<P>) {
        match self {
            Answer(..) | Silence(_) => {}
            Owner(_, mend_it) => site.fake.at(mend_it),
            Credentials(_) => site.give_credentials(&P::credentials()).await,
            Registry(_) => site.declare(P::registry).await,
            Spec(_) => site.edit(&P::spec()).await,
        }
    }

    fn spec(&self) -> &Value {
        match self {
            Spec(wrong) => wrong,
            _ => &Value::Null,
        }
    }
}

fn by_access_token(url: &str, secret: &str) -> Value {
    let mut registry = Teable::registry(url, secret);
    registry["teable"]["authentication"] = json!("Bearer");
    registry
}

/// The same password is not tried again soon, so that the account is not locked.
#[tokio::test(flavor = "multi_thread")]
async fn a_captcha_at_teable_is_told_with_the_way_around_it() {
    let world = Cluster::connect().await.world("captcha").await;
    let _operator = Operator::start(&world, OperatorOptions::default()).await;
    let site = Site::<Teable>::open(&world, "captcha").await;
    site.fake.at(|teable| teable.switches.extend([Switch::Captcha, Switch::AccessTokens]));
    site.apply(&json!({})).await;
    let object = site.says("Unauthorized", "nobody is there to solve it").await;
    let message = condition(&object, "Ready").unwrap()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("captcha") && message.contains("authentication: Bearer"), "{message}");
    site.declare(by_access_token).await;
    site.ready().await;
    site.fake.assert_contract_held();
}

/// A 404 to the client's own id is believed at the second time, and then the policy decides.
async fn vanishes<P: Place>(world: &World) {
    let site = Site::<P>::open(world, "gone").await;
    let id = is_ready(&site).await;
    site.edit(&json!({"replacementPolicy": "Never"})).await;
    site.ready().await;
    site.fake.at(|provider| provider.take(&id));
    site.annotate("requested-at", "now").await;
    site.says("ClientMissing", "one miss proves nothing").await;
    site.says("ClientGone", "two do, and nothing may take its place").await;
    assert!(site.clients().is_empty(), "nothing is registered");
    site.edit(&json!({"replacementPolicy": "WhenGone"})).await;
    site.ready().await;
    assert!(site.takes(&site.credentials().await), "{}: another client takes its place", P::NAME);
    site.fake.assert_contract_held();
}

/// A deletion ends, whether the client is gone already or its removal fails at first.
async fn ends<P: Place>(world: &World) {
    let site = Site::<P>::open(world, "end").await;
    let id = is_ready(&site).await;
    site.fake.at(|provider| provider.take(&id));
    site.delete().await;

    is_ready(&site).await;
    site.fake.disturb(P::REMOVE, Fault::Answered(500));
    site.delete().await;
    assert!(site.clients().is_empty(), "{}: it was tried again", P::NAME);
    site.fake.assert_contract_held();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_was_found_follows_what_was_declared_meanwhile() {
    let world = Cluster::connect().await.world("meanwhile").await;
    let _operator = Operator::start(&world, OperatorOptions::default()).await;
    tokio::join!(
        follows_after_all::<CalCom>(&world, "cal-com", |client| client.redirect_uris == [MEANWHILE]),
        follows_after_all::<Telnyx>(&world, "telnyx", |client| client.redirect_uris == [MEANWHILE]),
        follows_after_all::<Teable>(&world, "teable", |client| client.redirect_uris == [MEANWHILE]),
    );
}

/// Nobody sees the reply to the registration, and then something else is declared.
async fn follows_after_all<P: Place>(world: &World, name: &str, so: fn(&P::Client) -> bool) {
    let site = Site::<P>::open(world, name).await;
    site.fake.disturb(P::REGISTER, Fault::ReplyLost);
    site.apply(&json!({})).await;
    site.eventually("it is registered", |provider| provider.all().len() == 1).await;
    site.edit(&json!({"redirectUris": [MEANWHILE]})).await;
    site.ready().await;
    let credentials = site.credentials().await;
    assert!(site.takes(&credentials), "{:#?}", site.clients());
    site.eventually("it is as declared now", |provider| provider.all().get(&credentials.0).is_some_and(so))
        .await;
    site.fake.assert_contract_held();
}
