//! A thousand clients of others are at the provider already: they are listed, and that is all. Ours is found among them.

use std::collections::HashSet;

use serde_json::json;

use crate::support::{
    Cluster, Operator, OperatorOptions, condition,
    providers::{Fault, cal_com::CalCom, meteroid::Meteroid, place::Place, teable::Teable, telnyx::Telnyx},
    site::{Site, assert_no_secret_anywhere},
};

const STRANGERS: usize = 1000;

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_others_are_left_alone_at_cal_com() {
    beside_a_thousand::<CalCom>("strangers-cal-com").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_others_are_left_alone_at_telnyx() {
    beside_a_thousand::<Telnyx>("strangers-telnyx").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_others_are_left_alone_at_teable() {
    beside_a_thousand::<Teable>("strangers-teable").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_others_are_left_alone_at_meteroid() {
    beside_a_thousand::<Meteroid>("strangers-meteroid").await;
}

/// The reply to the registration is lost, so ours has to be found; then it is deleted.
async fn beside_a_thousand<P: Place>(name: &str) {
    let world = Cluster::connect().await.world(name).await;
    let site = Site::<P>::open(&world, "crowd").await;
    site.fake.at(|provider| provider.settle_strangers(STRANGERS));
    let strangers = site.clients();
    site.fake.disturb(P::REGISTER, Fault::ReplyLost);
    let operator = Operator::start(&world, OperatorOptions::default()).await;
    site.apply(&json!({})).await;
    site.ready().await;
    let credentials = site.credentials().await;
    assert!(site.takes(&credentials) && !strangers.contains_key(&credentials.0), "{}", P::NAME);
    site.eventually("ours is the only new one, and has its name", |provider| {
        let all = provider.all();
        all.len() == STRANGERS + 1 && P::name(&all[&credentials.0]) == "Booking portal"
    })
    .await;

    site.delete().await;
    assert_eq!(site.clients(), strangers, "{}: no other client was touched", P::NAME);
    let ids: HashSet<&str> = strangers.values().map(P::managed_id).collect();
    let mut calls = site.fake.calls().into_iter().map(|call| call.line);
    let asked = calls.find(|line| line.split('/').any(|segment| ids.contains(segment)));
    assert_eq!(asked, None, "{}: nobody else's client was asked for", P::NAME);
    site.fake.assert_contract_held();
    assert_no_secret_anywhere(&world, &operator, &["CANARY-FOREIGN"], P::NAME).await;
}

/// Names are unique at Meteroid. What holds the place of ours is another's, unless it bears exactly our mark.
#[tokio::test(flavor = "multi_thread")]
async fn a_hand_made_app_of_the_same_name_stays_its_makers() {
    let world = Cluster::connect().await.world("hand-made").await;
    let site = Site::<Meteroid>::open(&world, "same").await;
    let names = ["Booking portal", "Booking portal [1f2e3d-0123456789ab-c0de]"];
    site.fake.at(|meteroid| {
        for (id, name) in meteroid.add_foreign(names.len()).iter().zip(names) {
            meteroid.rename(id, name);
        }
    });
    let strangers = site.clients();
    site.fake.disturb(Meteroid::REGISTER, Fault::Answered(409));
    let _operator = Operator::start(&world, OperatorOptions::default()).await;
    site.apply(&json!({})).await;
    let object = site.says("Conflict", "none of the apps there bears our mark").await;
    let message = condition(&object, "Ready").unwrap()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("remove that, or change the spec"), "{message}");
    assert_eq!(site.clients(), strangers, "nothing was adopted, rotated or deleted");

    site.annotate("requested-at", "somebody has looked").await;
    site.ready().await;
    let before = site.credentials().await;
    assert!(!strangers.contains_key(&before.0), "an app of its own");
    site.annotate("rotate", "once").await;
    site.wait_for("it is rotated", |object| object["status"]["rotation"]["lastHandled"] == "once").await;
    assert!(site.takes(&site.credentials().await) && !site.takes(&before));
    site.delete().await;
    assert_eq!(site.clients(), strangers, "nor later");
    site.fake.assert_contract_held();
}
