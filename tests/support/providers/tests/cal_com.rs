use std::{collections::BTreeSet, time::Duration};

use serde_json::{Value, json};
use tokio::time::advance;

use super::{Answer, ask, ask_with};
use crate::providers::Fake;
use crate::providers::cal_com::{
    CalCom, KEY, ORGANIZATION, Organization, PERMISSIONS, Role, mask, permitted,
};

const CLIENTS: &str = "/v2/oauth-clients";
const MEMBER: &str = "cal_CANARY-member";
const OTHER: &str = "cal_CANARY-other";
const WINDOW: Duration = Duration::from_mins(1);

fn provider() -> Fake<CalCom> {
    let mut provider = CalCom::new();
    provider.key(MEMBER, ORGANIZATION, Role::Member);
    provider.key(OTHER, 2, Role::Admin);
    Fake::new(provider)
}

fn wanted() -> Value {
    json!({ "name": "one", "redirectUris": ["https://a.example.com/"], "permissions": ["BOOKING_READ"] })
}

fn create(fake: &Fake<CalCom>, body: &Value) -> Answer {
    ask(fake, KEY, &format!("POST {CLIENTS}"), body)
}

fn created(fake: &Fake<CalCom>) -> String {
    create(fake, &wanted()).body["data"]["clientId"].as_str().unwrap().to_owned()
}

fn list(fake: &Fake<CalCom>, key: &str) -> Vec<String> {
    let answer = ask(fake, key, &format!("GET {CLIENTS}"), &Value::Null);
    assert_eq!(answer.status, 200);
    answer.body["data"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect()
}

fn on(fake: &Fake<CalCom>, verb: &str, id: &str, body: &Value) -> Answer {
    ask(fake, KEY, &format!("{verb} {CLIENTS}/{id}"), body)
}

#[test]
fn a_client_lives() {
    let fake = provider();
    let answer = create(&fake, &wanted());
    assert_eq!((answer.status, &answer.body["status"]), (201, &json!("success")));
    assert_eq!(answer.body["data"].get("name"), None, "a creation tells id and secret only");
    let (id, secret) = (&answer.body["data"]["clientId"], &answer.body["data"]["clientSecret"]);
    let (id, secret) = (id.as_str().unwrap(), secret.as_str().unwrap());
    assert!(fake.at(|provider| provider.authenticates(id, secret)));
    assert!(
        secret.starts_with("eyJ") && secret.split('.').count() == 3 && secret.contains("CANARY"),
        "{secret}"
    );

    let read = on(&fake, "GET", id, &Value::Null);
    assert_eq!((read.status, &read.body["data"]["secret"]), (200, &json!(secret)), "secrets can be read");
    let changed = on(&fake, "PATCH", id, &json!({ "name": "two" }));
    assert_eq!((changed.status, &changed.body["data"]["secret"]), (200, &json!(secret)), "a change keeps it");
    let mut expected = read.body["data"].clone();
    expected["name"] = json!("two");
    assert_eq!(changed.body["data"], expected, "nothing but what was sent changes");

    let deleted = on(&fake, "DELETE", id, &Value::Null);
    assert_eq!((deleted.status, &deleted.body["data"]), (200, &expected), "the last answer has it once more");
    for verb in ["GET", "DELETE"] {
        assert_eq!(on(&fake, verb, id, &Value::Null).status, 404, "{verb}: it is gone");
    }
    assert_eq!(on(&fake, "PATCH", id, &json!({})).status, 404);
    assert!(!fake.at(|provider| provider.authenticates(id, secret)));
    assert_eq!(fake.at(|provider| provider.secrets_given()), [secret]);
    fake.assert_contract_held();
}

#[test]
fn permissions_are_bits() {
    let rows = [
        (json!(["*"]), PERMISSIONS.to_vec(), "all of them, never the star"),
        (
            json!(["PROFILE_WRITE", "APPS_READ"]),
            vec!["APPS_READ", "PROFILE_WRITE"],
            "in the order of the bits",
        ),
        (json!(["APPS_READ", "APPS_READ"]), vec!["APPS_READ"], "duplicates vanish"),
        (json!([]), vec![], "none at all"),
    ];
    for (sent, expected, reason) in rows {
        let fake = provider();
        let mut body = wanted();
        body["permissions"] = sent;
        assert_eq!(create(&fake, &body).status, 201, "{reason}");
        let client = fake.at(|provider| provider.clients()).remove(0);
        let shown = on(&fake, "GET", &client.id, &Value::Null);
        assert_eq!(shown.body["data"]["permissions"], json!(expected), "{reason}");
        assert_eq!(
            (mask(&expected), permitted(client.permissions)),
            (client.permissions, expected),
            "{reason}"
        );
        fake.assert_contract_held();
    }
}

#[test]
fn what_it_does_not_know_is_lost_in_silence() {
    let rows = [
        (
            "POST",
            json!({ "name": "n", "redirectUris": [], "permissions": [], "scope": "x" }),
            201,
            "a new client's",
        ),
        ("PATCH", json!({ "scope": "x" }), 200, "a change's"),
        ("PATCH", json!({ "permissions": ["*"] }), 200, "permissions are fixed, and nothing says so"),
        ("PATCH", json!({ "permissions": 7 }), 200, "so they are not even looked at"),
    ];
    for (verb, body, status, reason) in rows {
        let fake = provider();
        let id = created(&fake);
        let before = fake.at(|provider| provider.client(&id));
        let answer = match verb {
            "POST" => create(&fake, &body),
            _ => on(&fake, verb, &id, &body),
        };
        assert_eq!((answer.status, fake.at(|provider| provider.client(&id))), (status, before), "{reason}");
        let told = fake.take_violations().concat();
        assert!(told.contains("additionalProperties"), "{reason}: we must not send that: {told}");
    }
}

#[test]
fn null_clears_what_can_be_empty() {
    for name in ["logo", "bookingRedirectUri", "bookingCancelRedirectUri", "bookingRescheduleRedirectUri"] {
        let fake = provider();
        let id = created(&fake);
        let shown = |body: &Value| on(&fake, "PATCH", &id, body).body["data"].get(name).cloned();
        assert_eq!(shown(&json!({ name: "https://b.example.com/" })), Some(json!("https://b.example.com/")));
        assert_eq!(
            shown(&json!({})),
            Some(json!("https://b.example.com/")),
            "an empty change changes nothing"
        );
        let cleared = (name == "logo").then_some(Value::Null);
        assert_eq!(shown(&json!({ name: null })), cleared, "{name}: only the logo is shown when it is unset");
        fake.assert_contract_held();
    }
    for name in ["name", "redirectUris", "areEmailsEnabled", "areCalendarEventsEnabled"] {
        let fake = provider();
        let id = created(&fake);
        let before = fake.at(|provider| provider.clients());
        assert_eq!(on(&fake, "PATCH", &id, &json!({ name: null })).status, 500, "{name}: no column for null");
        assert_eq!(fake.at(|provider| provider.clients()), before, "{name}");
        assert!(fake.take_violations().concat().contains(&format!("body/{name} breaks")), "{name}");
    }
}

#[test]
fn what_is_not_valid_is_repeated() {
    let fake = provider();
    let id = created(&fake);
    let rows = [
        ("POST", json!({}), vec!["name", "redirectUris", "permissions"], "all that is missing, at once"),
        (
            "POST",
            json!({ "name": null, "redirectUris": [], "permissions": [] }),
            vec!["name"],
            "null is missing too",
        ),
        (
            "POST",
            json!({ "name": "n", "redirectUris": [], "permissions": ["ALL"] }),
            vec!["permissions"],
            "unknown",
        ),
        (
            "POST",
            json!({ "name": "n", "redirectUris": [7], "permissions": [] }),
            vec!["redirectUris"],
            "no text",
        ),
        ("PATCH", json!({ "areEmailsEnabled": "yes" }), vec!["areEmailsEnabled"], "no boolean"),
        ("PATCH", json!({ "logo": 7 }), vec!["logo"], "no text"),
    ];
    for (verb, body, expected, reason) in rows {
        let answer = match verb {
            "POST" => create(&fake, &body),
            _ => on(&fake, verb, &id, &body),
        };
        assert_eq!(
            (answer.status, &answer.body["error"]["code"]),
            (400, &json!("BadRequestException")),
            "{reason}"
        );
        let errors = answer.body["error"]["details"]["errors"].as_array().unwrap();
        let named: Vec<_> = errors.iter().map(|error| error["property"].as_str().unwrap()).collect();
        assert_eq!((named, &errors[0]["target"]), (expected, &body), "{reason}");
        assert!(!fake.take_violations().is_empty(), "{reason}");
    }
    assert_eq!(fake.at(|provider| provider.clients().len()), 1, "none of them had an effect");
    let odd = json!({ "name": "", "redirectUris": ["no uri"], "permissions": [] });
    assert_eq!(create(&fake, &odd).status, 201, "texts are not looked at");
    fake.assert_contract_held();
}

#[test]
fn who_may_do_what() {
    let rows = [
        (KEY, true, true, [200, 201, 200, 200, 200], "an owner does everything"),
        (MEMBER, true, true, [200, 403, 200, 403, 403], "a member reads, secrets included"),
        (OTHER, true, true, [200, 201, 403, 403, 403], "a client of another organisation's"),
        ("cal_unknown", true, true, [401; 5], "an unknown key"),
        (KEY, false, true, [403; 5], "without the platform plan"),
        (KEY, true, false, [200, 400, 200, 200, 200], "without a subscription there are no more clients"),
    ];
    for (key, platform, subscription, expected, reason) in rows {
        let fake = provider();
        let id = created(&fake);
        fake.at(|provider| *provider.organization(ORGANIZATION) = Organization { platform, subscription });
        let one = format!("{CLIENTS}/{id}");
        let requests = [
            (format!("GET {CLIENTS}"), Value::Null),
            (format!("POST {CLIENTS}"), wanted()),
            (format!("GET {one}"), Value::Null),
            (format!("PATCH {one}"), json!({})),
            (format!("DELETE {one}"), Value::Null),
        ];
        let statuses = requests.map(|(line, body)| ask(&fake, key, &line, &body).status);
        assert_eq!(statuses, expected, "{reason}");
        fake.assert_contract_held();
    }
}

#[test]
fn a_key_sees_its_organisation_only() {
    let fake = provider();
    let id = created(&fake);
    assert_eq!((list(&fake, KEY), list(&fake, OTHER)), (vec![id], vec![]), "empty, and right");
    fake.at(|provider| provider.replace_key(KEY, "cal_new"));
    assert_eq!(list(&fake, "cal_new").len(), 1, "a new key for the same");
    assert_eq!(ask(&fake, KEY, &format!("GET {CLIENTS}"), &Value::Null).status, 401, "the old one is void");
    fake.assert_contract_held();
}

#[test]
fn a_client_can_show_itself() {
    let fake = provider();
    let id = created(&fake);
    let secret = fake.at(|provider| provider.client(&id)).unwrap().secret;
    let key = format!("Bearer {KEY}");
    let key = ("authorization", key.as_str());
    let unknown = "cmunknown";
    let rows = [
        (id.as_str(), vec![("x-cal-secret-key", secret.as_str())], 200, "its own secret"),
        (&id, vec![("x-cal-secret-key", "wrong")], 401, "another one"),
        (&id, vec![("x-cal-secret-key", "wrong"), key], 401, "which comes before the key"),
        (unknown, vec![("x-cal-secret-key", secret.as_str())], 401, "an unknown client is no 404 then"),
        (unknown, vec![key], 404, "but is for the key"),
    ];
    for (id, fields, status, reason) in rows {
        let answer = ask_with(&fake, &fields, &format!("GET {CLIENTS}/{id}"), &Value::Null);
        assert_eq!(answer.status, status, "{reason}");
    }
    fake.assert_contract_held();
}

#[test]
fn names_need_not_differ_and_lists_have_neither_order_nor_pages() {
    let fake = provider();
    fake.at(|provider| provider.add_foreign(150));
    let (one, two) = (created(&fake), created(&fake));
    assert_ne!(one, two, "two of the same name");
    let (first, second) = (list(&fake, KEY), list(&fake, KEY));
    assert_eq!(first.len(), 152, "all at once");
    assert_ne!(first, second, "in another order each time");
    assert_eq!(first.iter().collect::<BTreeSet<_>>(), second.iter().collect(), "the same ones");
    let clients = fake.at(|provider| provider.clients());
    let secrets: BTreeSet<_> = clients.iter().map(|client| &client.secret).collect();
    assert_eq!(secrets.len(), clients.len(), "no two secrets are the same");
    assert!(clients[0].secret.contains("CANARY-FOREIGN"));
    fake.assert_contract_held();
}

#[tokio::test(start_paused = true)]
async fn a_list_may_lag_behind() {
    let fake = provider();
    let old = created(&fake);
    fake.at(|provider| provider.stale_list_for(Duration::from_secs(5)));
    let new = created(&fake);
    on(&fake, "DELETE", &old, &Value::Null);
    assert_eq!(list(&fake, KEY), [old.as_str()], "neither the creation nor the deletion is to be seen");
    assert_eq!(on(&fake, "GET", &new, &Value::Null).status, 200, "though a client itself is");
    advance(Duration::from_secs(5)).await;
    assert_eq!(list(&fake, KEY), [new.as_str()]);
    fake.assert_contract_held();
}

#[tokio::test(start_paused = true)]
async fn a_key_has_120_requests_a_minute_and_is_blocked_for_another() {
    let fake = provider();
    let limits = |answer: &Answer| {
        let value = |name: &str| answer.header(&format!("x-ratelimit-{name}-default")).map(str::to_owned);
        (value("limit").unwrap(), value("remaining").unwrap(), value("reset").unwrap())
    };
    let told = |limit: u32, left: u32, reset: u32| (limit.to_string(), left.to_string(), reset.to_string());
    let get = || ask(&fake, KEY, &format!("GET {CLIENTS}"), &Value::Null);
    assert_eq!(limits(&get()), told(120, 119, 60));
    advance(Duration::from_millis(30_500)).await;
    assert_eq!(limits(&get()), told(120, 118, 30), "seconds from now, rounded up");
    for _ in 2..120 {
        assert_eq!(get().status, 200);
    }
    let refused = get();
    assert_eq!((refused.status, limits(&refused)), (429, told(120, 0, 60)), "blocked from here on");
    assert_eq!(refused.body["error"]["code"], "ThrottlerException");
    assert_eq!(refused.header("retry-after"), None, "nothing else tells how long");
    assert_eq!(list(&fake, MEMBER).len(), 0, "another key has its own limit");
    advance(WINDOW / 2).await;
    assert_eq!(limits(&get()), told(120, 0, 30), "asking again does not prolong it");
    advance(WINDOW / 2).await;
    assert_eq!(limits(&get()), told(120, 119, 60));
    fake.assert_contract_held();
}

#[tokio::test(start_paused = true)]
async fn it_can_be_told_to_throttle() {
    let fake = provider();
    fake.at(|provider| provider.throttle_for(Duration::from_secs(90)));
    let answer = create(&fake, &wanted());
    assert_eq!((answer.status, answer.header("x-ratelimit-reset-default")), (429, Some("90")));
    advance(Duration::from_secs(90)).await;
    assert_eq!(create(&fake, &wanted()).status, 201);
    assert_eq!(fake.at(|provider| provider.clients().len()), 1, "what was refused had no effect");
    fake.assert_contract_held();
}

#[tokio::test(start_paused = true)]
async fn an_error_says_when_and_where() {
    let fake = provider();
    advance(Duration::from_millis(1500)).await;
    let answer = on(&fake, "GET", "cmunknown", &Value::Null);
    assert_eq!(
        (&answer.body["status"], &answer.body["error"]["code"]),
        (&json!("error"), &json!("NotFoundException"))
    );
    assert_eq!(answer.body["timestamp"], "2026-01-01T00:00:01.500Z");
    assert_eq!(answer.body["path"], format!("{CLIENTS}/cmunknown"));
    assert_eq!(answer.header("x-request-id"), Some("request-1"));
    fake.assert_contract_held();
}

#[test]
fn everything_can_be_below_a_path() {
    let fake = provider();
    fake.at(|provider| provider.set_prefix("/api"));
    let answer = ask(&fake, KEY, &format!("POST /api{CLIENTS}"), &wanted());
    assert_eq!(answer.status, 201);
    assert_eq!(fake.count(&format!("POST {CLIENTS}")), 1, "its operations have the same names");
    fake.assert_contract_held();
    assert_eq!(ask(&fake, KEY, &format!("GET {CLIENTS}"), &Value::Null).status, 404, "nothing is elsewhere");
    assert!(fake.take_violations().concat().contains("status 404 is not described"));
}

#[test]
fn its_owner_can_change_it_by_hand() {
    let fake = provider();
    let (one, two) = (created(&fake), created(&fake));
    fake.at(|provider| provider.edit(&one, |client| client.permissions = mask(&["*"])));
    assert_eq!(on(&fake, "GET", &one, &Value::Null).body["data"]["permissions"], json!(PERMISSIONS));
    fake.at(|provider| provider.remove(&two));
    assert_eq!(list(&fake, KEY), [one]);
    fake.assert_contract_held();
}
