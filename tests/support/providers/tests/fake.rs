use serde_json::{Value, json};

use super::{ask, headers, request};
use crate::providers::cal_com::{CalCom, KEY};
use crate::providers::contract::Contract;
use crate::providers::meteroid::Meteroid;
use crate::providers::teable::Teable;
use crate::providers::telnyx::Telnyx;
use crate::providers::{Fake, Fault, Provider, Reply, Request};

const LIST: &str = "GET /v2/oauth-clients";

fn new_client() -> Value {
    json!({ "name": "n", "redirectUris": [], "permissions": [] })
}

#[test]
fn every_document_is_sound() {
    for document in [CalCom::contract(), Meteroid::contract(), Teable::contract(), Telnyx::contract()] {
        Contract::read(document).assert_sound();
    }
}

/// A provider that answers what no document describes.
struct Broken;

impl Provider for Broken {
    fn contract() -> &'static str {
        CalCom::contract()
    }

    fn answer(&mut self, _: &Request) -> Reply {
        Reply::json(200, &json!({ "status": "success", "data": { "secret": "CANARY" } }))
    }
}

#[test]
#[should_panic(expected = "GET /v2/oauth-clients: reply 200: header X-RateLimit-Limit-Default is missing")]
fn a_provider_that_breaks_its_contract_is_told_so() {
    let fake = Fake::new(Broken);
    ask(&fake, KEY, LIST, &Value::Null);
    fake.assert_contract_held();
}

#[test]
#[should_panic(
    expected = "POST /v2/oauth-clients: body breaks /components/schemas/NewClient/additionalProperties"
)]
fn an_operator_that_breaks_the_contract_is_told_so() {
    let fake = Fake::new(CalCom::new());
    ask(
        &fake,
        KEY,
        "POST /v2/oauth-clients",
        &json!({
            "name": "n", "redirectUris": [], "permissions": [], "isTrusted": true,
        }),
    );
    fake.assert_contract_held();
}

#[test]
fn a_violation_does_not_repeat_a_secret() {
    let fake = Fake::new(Broken);
    ask(
        &fake,
        KEY,
        "POST /v2/oauth-clients?key=CANARY",
        &json!({ "name": ["CANARY"], "permissions": "CANARY" }),
    );
    let told = fake.take_violations().concat();
    assert!(!told.is_empty() && !told.contains("CANARY"), "{told}");
    fake.assert_contract_held();
}

#[test]
fn each_fault_is_what_it_says() {
    let create = "POST /v2/oauth-clients";
    let rows = [
        (Fault::Lost, None, 0, 0, "it never arrived"),
        (Fault::ReplyLost, None, 1, 201, "it had its effect"),
        (Fault::Answered(503), Some(503), 0, 503, "something in between answered"),
    ];
    for (fault, status, clients, recorded, reason) in rows {
        let fake = Fake::new(CalCom::new());
        let body = new_client().to_string();
        let fields =
            [("authorization", format!("Bearer {KEY}")), ("content-type", "application/json".to_owned())];
        let fields = fields.each_ref().map(|(name, value)| (*name, value.as_str()));
        fake.disturb(create, fault);
        let reply = fake.exchange(&request(create, &fields, &body));
        assert_eq!(reply.map(|reply| reply.status.as_u16()), status, "{reason}");
        assert_eq!(fake.at(|provider| provider.clients().len()), clients, "{reason}");
        assert_eq!(fake.calls()[0].status, recorded, "{reason}");
        assert_eq!(ask(&fake, KEY, create, &new_client()).status, 201, "only once");
        fake.assert_contract_held();
    }
}

#[test]
fn calls_are_counted_by_operation() {
    let fake = Fake::new(CalCom::new());
    fake.at(|provider| provider.add_foreign(2));
    for client in fake.at(|provider| provider.clients()) {
        ask(&fake, KEY, &format!("GET /v2/oauth-clients/{}", client.id), &Value::Null);
    }
    assert_eq!(fake.count("GET /v2/oauth-clients/{clientId}"), 2);
    fake.forget_calls();
    assert!(fake.calls().is_empty());
    fake.assert_contract_held();
}

#[test]
fn credentials_are_told_apart_by_their_scheme() {
    let mut request = request(LIST, &[], "");
    request.headers = headers(&[("authorization", "bearer  k ")]);
    assert_eq!(request.credentials("Bearer"), Some("k"));
    assert_eq!(request.credentials("Basic"), None);
}
