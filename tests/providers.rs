//! A client lives at each of the four providers: registered, changed field by field, repaired, rotated, restored, deleted. Over
//! HTTP, against a provider that keeps to its own document, beside a client that is none of our business.

use std::time::Duration;

use kube::api::{DeleteParams, ListParams};
use serde_json::{Value, json};

use crate::support::{
    Cluster, Operator, OperatorOptions, PATIENCE, World, eventually,
    providers::{
        cal_com::{self, CalCom, mask},
        meteroid::Meteroid,
        place::Place,
        teable::{Switch, Teable},
        telnyx::Telnyx,
    },
    site::Site,
};

/// How long an old secret or client works on; long enough to be seen.
const OVERLAP: &str = "6s";
/// Two drift intervals of 10 s, their jitter, and a busy machine.
const SOON: Duration = Duration::from_secs(40);

/// What is declared, and whether a client is so.
type Change<P> = (Value, fn(&<P as Place>::Client) -> bool);

/// What a life is like at one provider.
trait Life: Place {
    /// What a rotation asks of the provider.
    const ROTATION: &'static [&'static str];
    /// Whether a client keeps its id over a rotation.
    const KEEPS_ID: bool = true;
    /// Whether the old credentials work on for a while.
    const OVERLAPS: bool = true;

    /// Everything that can be changed of a client.
    fn changes() -> Vec<Change<Self>>;
    /// Everything that takes another client.
    fn replacements() -> Vec<Change<Self>> {
        Vec::new()
    }
    /// What is needed for all of it.
    fn prepare(&mut self) {}
    /// Somebody else lays hands on a client.
    fn meddle(&mut self, id: &str) {
        self.rename(id, "Somebody else's");
    }
}

impl Life for CalCom {
    const ROTATION: &'static [&'static str] =
        &[Self::REGISTER, "PATCH /v2/oauth-clients/{clientId}", Self::REMOVE];
    const KEEPS_ID: bool = false;

    fn changes() -> Vec<Change<Self>> {
        let (booked, cancelled) = ("https://portal.example/booked", "https://portal.example/cancelled");
        vec![
            (json!({"clientName": "Booking office"}), |client| client.name == "Booking office"),
            (json!({"redirectUris": ["https://b.example", "https://a.example"]}), |client| {
                client.redirect_uris == ["https://b.example", "https://a.example"]
            }),
            (json!({"logoUri": "https://portal.example/logo"}), |client| client.logo.is_some()),
            (json!({"logoUri": null}), |client| client.logo.is_none()),
            (json!({"calCom": {"bookingRedirectUri": booked}}), |client| {
                client.booking_redirect_uri.is_some()
            }),
            (json!({"calCom": {"bookingCancelRedirectUri": cancelled}}), |client| {
                client.booking_cancel_redirect_uri.is_some()
            }),
            (json!({"calCom": {"bookingRescheduleRedirectUri": booked}}), |client| {
                client.booking_reschedule_redirect_uri.is_some()
            }),
            (json!({"calCom": {"areEmailsEnabled": true}}), |client| client.are_emails_enabled),
            (json!({"calCom": {"areDefaultEventTypesEnabled": true}}), |client| {
                client.are_default_event_types_enabled
            }),
            (json!({"calCom": {"areCalendarEventsEnabled": false}}), |client| {
                !client.are_calendar_events_enabled
            }),
        ]
    }

    fn replacements() -> Vec<Change<Self>> {
        vec![(json!({"scopes": ["*"]}), |client| client.permissions == mask(&cal_com::PERMISSIONS))]
    }
}

impl Life for Telnyx {
    const ROTATION: &'static [&'static str] = &[Self::REGISTER, "PUT /v2/oauth/clients/{id}", Self::REMOVE];
    const KEEPS_ID: bool = false;

    fn changes() -> Vec<Change<Self>> {
        vec![
            (json!({"clientName": "Booking office"}), |client| client.name == "Booking office"),
            (json!({"scopes": ["calls.read"]}), |client| client.allowed_scopes == ["calls.read"]),
            (json!({"grantTypes": ["authorization_code", "refresh_token"]}), |client| {
                client.allowed_grant_types == ["authorization_code", "refresh_token"]
            }),
            (json!({"redirectUris": ["https://b.example", "https://a.example"]}), |client| {
                client.redirect_uris.len() == 2
            }),
            (json!({"requirePkce": true}), |client| client.require_pkce),
            (json!({"requirePkce": null}), |client| !client.require_pkce),
            (json!({"logoUri": "https://portal.example/logo"}), |client| client.logo_uri.is_some()),
            (json!({"policyUri": "https://portal.example/policy"}), |client| client.policy_uri.is_some()),
            (json!({"tosUri": "https://portal.example/terms"}), |client| client.tos_uri.is_some()),
        ]
    }
}

impl Life for Teable {
    const ROTATION: &'static [&'static str] = &[
        "POST /api/oauth/client/{clientId}/secret",
        "DELETE /api/oauth/client/{clientId}/secret/{secretId}",
    ];

    fn prepare(&mut self) {
        self.switches.insert(Switch::DeviceFlow);
    }

    fn changes() -> Vec<Change<Self>> {
        vec![
            (json!({"clientName": "Booking office"}), |client| client.name == "Booking office"),
            (json!({"clientUri": "https://office.example"}), |client| {
                client.homepage == "https://office.example"
            }),
            (json!({"redirectUris": ["https://b.example", "https://a.example"]}), |client| {
                client.redirect_uris == ["https://b.example", "https://a.example"]
            }),
            (json!({"teable": {"defaultRedirectUri": "https://a.example"}}), |client| {
                client.redirect_uris == ["https://a.example", "https://b.example"]
            }),
            (json!({"scopes": ["record|read", "table|read"]}), |client| {
                client.scopes.iter().flatten().eq(["record|read", "table|read"])
            }),
            (json!({"scopes": null}), |client| client.scopes.iter().flatten().count() == 0),
            (json!({"logoUri": "https://portal.example/logo"}), |client| has_text(client.logo.as_ref())),
            (json!({"logoUri": null}), |client| !has_text(client.logo.as_ref())),
            (json!({"teable": {"description": "For offices"}}), |client| {
                let lines: Vec<_> = client.description.iter().flat_map(|text| text.lines()).collect();
                matches!(lines[..], ["For offices", mark] if mark.starts_with("oauth-operator/"))
            }),
            (json!({"teable": {"allowDeviceFlow": true}}), |client| client.allow_device_flow),
        ]
    }
}

impl Life for Meteroid {
    const ROTATION: &'static [&'static str] = &["POST /api/v1/oauth-apps/{id}/rotate"];
    const OVERLAPS: bool = false;

    fn changes() -> Vec<Change<Self>> {
        Vec::new()
    }

    fn replacements() -> Vec<Change<Self>> {
        vec![
            (json!({"clientName": "Booking office"}), |app| Self::name(app) == "Booking office"),
            (json!({"redirectUris": ["https://office.example"], "scopes": ["read"]}), |app| {
                app.redirect_uris == ["https://office.example"] && app.scopes == ["read"]
            }),
        ]
    }

    /// All that its owner can do is to change the secret.
    fn meddle(&mut self, id: &str) {
        self.edit(id, |app| "CANARY-meteroid-by-hand".clone_into(&mut app.client_secret));
    }
}

fn has_text(text: Option<&String>) -> bool {
    text.is_some_and(|text| !text.is_empty())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_lives_at_cal_com() {
    whole_life::<CalCom>("life-cal-com").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_lives_at_telnyx() {
    whole_life::<Telnyx>("life-telnyx").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_lives_at_teable() {
    whole_life::<Teable>("life-teable").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_lives_at_meteroid() {
    whole_life::<Meteroid>("life-meteroid").await;
}

async fn whole_life<P: Life>(name: &str) {
    let world = Cluster::connect().await.world(name).await;
    let site = Site::<P>::open(&world, "life").await;
    site.fake.at(|provider| {
        provider.settle_strangers(1);
        provider.prepare();
    });
    let strangers = site.clients();
    let options = OperatorOptions { extra: vec!["--log=trace".into()], ..OperatorOptions::default() };
    let operator = Operator::start(&world, options).await;

    is_registered(&site, &world).await;
    follows_the_spec(&site).await;
    is_replaced_where_it_cannot_follow(&site).await;
    is_repaired(&site).await;
    is_rotated(&site).await;
    gets_its_secret_back(&site, &world).await;
    site.fake.forget_calls();
    site.delete().await;
    assert_eq!(changes(&site), [P::REMOVE]);
    assert_eq!(site.clients(), strangers, "nothing of ours stays, and nobody else's client was touched");
    let records = ListParams::default().labels("oauth-operator.io/record");
    assert!(world.operator_secrets().list(&records).await.unwrap().items.is_empty(), "no record stays");
    assert!(!operator.output().contains("panicked"), "{}", operator.output());
    site.assert_all_well(&operator).await;
}

/// What changed anything at the provider since the calls were forgotten.
fn changes<P: Place>(site: &Site<P>) -> Vec<String> {
    site.requests().into_iter().filter(|operation| !operation.starts_with("GET ")).collect()
}

async fn is_registered<P: Life>(site: &Site<P>, world: &World) {
    let spec = json!({"replacementPolicy": "WhenNeeded", "rotation": {"overlap": OVERLAP}});
    site.apply(&spec).await;
    let object = site.ready().await;
    let credentials = site.credentials().await;
    assert_eq!(object["status"]["clientId"], credentials.0);
    assert!(site.takes(&credentials), "the Secret's values authenticate");
    let secret = world.secret(&site.secret_name()).await.unwrap();
    assert_eq!(secret.into_keys().collect::<Vec<_>>(), ["client_id", "client_secret"], "and nothing else");
    site.eventually("it has its name", |provider| is_called(provider, &credentials.0, "Booking portal"))
        .await;
}

fn is_called<P: Place>(provider: &P, id: &str, name: &str) -> bool {
    provider.all().get(id).is_some_and(|client| P::name(client) == name)
}

async fn follows_the_spec<P: Life>(site: &Site<P>) {
    let credentials = site.credentials().await;
    for (spec, so) in P::changes() {
        assert!(!so(&site.clients()[&credentials.0]), "{spec} would change nothing");
        site.edit(&spec).await;
        site.ready().await;
        let client = &site.clients()[&credentials.0];
        assert!(so(client), "{spec}: {client:#?}");
    }
    assert_eq!(site.credentials().await, credentials, "no update changed what the app uses");
}

async fn is_replaced_where_it_cannot_follow<P: Life>(site: &Site<P>) {
    for (spec, so) in P::replacements() {
        let before = site.credentials().await;
        site.edit(&spec).await;
        let after = others_than(site, &before).await;
        assert!(site.takes(&before), "{spec}: the old client works on");
        assert!(site.takes(&after) && so(&site.clients()[&after.0]), "{spec}: {:#?}", site.clients());
        site.ready().await;
        old_one_ends(site, &before, &after).await;
    }
}

async fn others_than<P: Place>(site: &Site<P>, before: &(String, String)) -> (String, String) {
    eventually("other credentials are published", SOON, async || {
        let now = site.credentials().await;
        if now == *before { Err("still the old ones".into()) } else { Ok(now) }
    })
    .await
}

async fn old_one_ends<P: Place>(site: &Site<P>, before: &(String, String), after: &(String, String)) {
    site.eventually("the old credentials end", |provider| !provider.authenticates(&before.0, &before.1))
        .await;
    site.eventually("one client and one secret stay", |provider| {
        provider.all().len() == 2 && provider.secrets(&after.0) == 1
    })
    .await;
    assert!(site.takes(after), "the new ones work on");
}

async fn is_repaired<P: Life>(site: &Site<P>) {
    let (id, _) = site.credentials().await;
    let declared = P::name(&site.clients()[&id]);
    site.fake.at(|provider| provider.meddle(&id));
    eventually("what others did is undone", SOON, async || {
        let credentials = site.credentials().await;
        let named = site.fake.at(|provider| is_called(provider, &id, &declared));
        if named && site.takes(&credentials) { Ok(()) } else { Err(format!("{:#?}", site.clients())) }
    })
    .await;
    site.ready().await;
}

async fn is_rotated<P: Life>(site: &Site<P>) {
    let before = site.credentials().await;
    site.fake.forget_calls();
    site.annotate("rotate", "once").await;
    let after = others_than(site, &before).await;
    assert_eq!(site.takes(&before), P::OVERLAPS, "whether the old credentials work on for a while");
    assert!(site.takes(&after), "the new ones work at once");
    assert_eq!(before.0 == after.0, P::KEEPS_ID, "the client's id");
    site.wait_for("it is done", |object| object["status"]["rotation"]["lastHandled"] == "once").await;
    old_one_ends(site, &before, &after).await;
    eventually("all of the rotation", PATIENCE, async || {
        let asked = changes(site);
        if asked == P::ROTATION { Ok(()) } else { Err(format!("{asked:?}")) }
    })
    .await;
}

/// Cal.com shows it again; elsewhere it is in the record. Nothing changes at the provider.
async fn gets_its_secret_back<P: Life>(site: &Site<P>, world: &World) {
    let before = site.credentials().await;
    site.ready().await;
    site.fake.forget_calls();
    world.secrets().delete(&site.secret_name(), &DeleteParams::default()).await.unwrap();
    site.look("the Secret is lost").await;
    assert_eq!(site.credentials().await, before);
    assert_eq!(changes(site), [""; 0], "it was only read");
    site.ready().await;
}
