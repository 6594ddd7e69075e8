//! What a client costs at each of the four providers: so many requests about it, so many writes to Kubernetes; at rest, nothing.
//!
//! The list of all clients and the sign-in are not counted: one serves all clients of a registry, however many they are. Nor is
//! what the registry says of itself.

use crate::{
    cost::named_writes,
    support::{
        Cluster, Operator, OperatorOptions, audit,
        providers::{
            cal_com::CalCom,
            meteroid::Meteroid,
            place::Place,
            teable::{Switch, Teable},
            telnyx::Telnyx,
        },
        site::Site,
    },
};
use serde_json::json;

const ANNOUNCE: &str = "patch oauthclients (finalizer and intent)";
const RECORD: &str = "create secrets (the record)";
const SECRET: &str = "create secrets (the Secret)";
const STATUS: &str = "update oauthclients/status";

#[tokio::test(flavor = "multi_thread")]
async fn at_cal_com_the_secret_is_the_record() {
    let requests = ["POST /v2/oauth-clients", "PATCH /v2/oauth-clients/{clientId}"];
    costs::<CalCom>("cost-cal-com", |_| {}, &requests, &[ANNOUNCE, SECRET, STATUS]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn at_telnyx_the_name_comes_with_a_second_request() {
    let requests = ["POST /v2/oauth/clients", "PUT /v2/oauth/clients/{id}"];
    costs::<Telnyx>("cost-telnyx", |_| {}, &requests, &[ANNOUNCE, RECORD, SECRET, STATUS]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn at_teable_the_secret_comes_with_a_second_request_that_is_announced() {
    let requests = ["POST /api/oauth/client", "POST /api/oauth/client/{clientId}/secret"];
    let writes = [ANNOUNCE, ANNOUNCE, RECORD, SECRET, STATUS];
    costs::<Teable>("cost-teable", |_| {}, &requests, &writes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn at_a_teable_that_shows_a_secret_at_once_there_is_no_second_one() {
    let shows = |teable: &mut Teable| _ = teable.switches.insert(Switch::SecretOnCreate);
    let writes = [ANNOUNCE, RECORD, SECRET, STATUS];
    costs::<Teable>("cost-teable-new", shows, &["POST /api/oauth/client"], &writes).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn at_meteroid_one_request_is_enough() {
    let writes = [ANNOUNCE, RECORD, SECRET, STATUS];
    costs::<Meteroid>("cost-meteroid", |_| {}, &["POST /api/v1/oauth-apps"], &writes).await;
}

async fn costs<P: Place>(name: &str, prepare: fn(&mut P), requests: &[&str], writes: &[&str]) {
    let world = Cluster::connect().await.world(name).await;
    let site = Site::<P>::open(&world, "cost").await;
    site.fake.at(prepare);
    let _operator = Operator::start(&world, OperatorOptions::default()).await;
    site.apply(&json!({})).await;
    let id = site.ready().await["status"]["clientId"].as_str().unwrap().to_owned();
    site.eventually("it has its name", |provider| P::name(&provider.all()[&id]) == "Booking portal").await;
    assert_eq!(site.requests(), requests, "{}", P::NAME);
    assert_eq!(named_writes(&world), writes, "{}", audit::describe(&audit::writes(&world)));

    let lists = site.fake.count(P::LIST);
    site.listed(lists + 2).await;
    let changes: Vec<String> =
        site.requests().into_iter().filter(|asked| !asked.starts_with("GET ")).collect();
    assert_eq!(changes, requests, "at rest, nothing but reads");
    assert_eq!(named_writes(&world), writes, "at rest: {}", audit::describe(&audit::writes(&world)));
    site.fake.assert_contract_held();
}
