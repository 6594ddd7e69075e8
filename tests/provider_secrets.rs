//! Cal.com shows secrets to whoever may read, and repeats what it refuses. None of that is in what the operator writes for people.

use kube::api::DeleteParams;
use serde_json::{Value, json};

use crate::support::{
    Cluster, Operator, OperatorOptions, assert_no_secret, condition,
    providers::{cal_com::CalCom, place::Place},
    site::Site,
};

const STRANGERS: usize = 20;
/// Cal.com's answer holds it, in `message` and in `details`.
const REFUSED: &str = "CANARY-refused";

#[tokio::test(flavor = "multi_thread")]
async fn no_reply_of_cal_com_leaves_a_trace() {
    let world = Cluster::connect().await.world("traces").await;
    let site = Site::<CalCom>::open(&world, "traces").await;
    site.fake.at(|provider| provider.settle_strangers(STRANGERS));
    let options = OperatorOptions { extra: vec!["--log=trace".into()], ..OperatorOptions::default() };
    let operator = Operator::start(&world, options).await;

    site.apply(&json!({"scopes": [REFUSED]})).await;
    let object = site.says("Rejected", "there is no such permission").await;
    assert_no_secret(&told(&object), &[REFUSED], "the status");
    site.fake.take_violations();
    site.edit(&CalCom::spec()).await;
    site.ready().await;

    site.listed(site.fake.count(CalCom::LIST) + 1).await;
    world.secrets().delete(&site.secret_name(), &DeleteParams::default()).await.unwrap();
    site.look("the Secret is lost").await;
    assert!(site.takes(&site.credentials().await), "a read has shown it again");
    let requests = site.requests();
    site.delete().await;
    for operation in ["GET /v2/oauth-clients/{clientId}", "PATCH /v2/oauth-clients/{clientId}"] {
        assert!(requests.iter().any(|asked| asked == operation), "{operation} showed it: {requests:?}");
    }
    assert!(site.fake.at(|provider| provider.given().len()) > STRANGERS, "there was something to tell");
    assert!(!operator.output().contains("panicked"), "{}", operator.output());
    site.assert_all_well(&operator).await;
    let events = world.kubectl(&["get", "events", "--output=json"]).await.stdout;
    assert_no_secret(&events, &[REFUSED], "the events");
}

/// What an object's condition tells people.
fn told(object: &Value) -> String {
    condition(object, "Ready").unwrap().to_string()
}
