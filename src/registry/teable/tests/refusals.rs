//! What is no success, and what it says.

use serde_json::json;

use super::*;

use crate::registry::tests::CANARY;

/// All that can be asked of a client, by name.
const OPERATIONS: [&str; 7] = ["register", "observe", "update", "deregister", "list", "issue", "revoke"];

async fn ask(driver: &Teable, operation: &str) -> Result<(), Error> {
    let client = client();
    let outcome = match operation {
        "register" => driver.register(&wanted(least(), "n1")).await.map(drop),
        "observe" => driver.observe(&client).await.map(drop),
        "update" => driver.update(&client, &least(), &[]).await.map(drop),
        "deregister" => driver.deregister(&client).await,
        "list" => driver.list().await.map(drop),
        "issue" => driver.issue_secret(&client).await.map(drop),
        _ => driver.revoke_secret(&client, "sec1").await,
    };
    searched(outcome)
}

fn refused(status: u16, code: &str) -> Reply {
    Reply::json(status, &json!({"message": "No", "status": status, "code": code}))
}

#[tokio::test(start_paused = true)]
async fn every_status_is_told_by_what_happens_next() {
    let makes = |operation: &str| matches!(operation, "register" | "issue");
    let wait = std::time::Duration::from_secs(30);
    let rows = [
        (400, "validation_error", Kind::Rejected, Kind::Protocol),
        (401, "unauthorized", Kind::Unauthorized, Kind::Unauthorized),
        (402, "payment_required", Kind::Rejected, Kind::Protocol),
        (403, "restricted_resource", Kind::Unauthorized, Kind::Unauthorized),
        (408, "request_timeout", Kind::Ambiguous, Kind::Unavailable),
        (409, "conflict", Kind::Conflict, Kind::Conflict),
        (413, "", Kind::Rejected, Kind::Protocol),
        (415, "", Kind::Rejected, Kind::Protocol),
        (422, "unprocessable_entity", Kind::Rejected, Kind::Protocol),
        (429, "too_many_requests", Kind::Throttled(wait), Kind::Throttled(wait)),
        (302, "", Kind::Protocol, Kind::Protocol),
        (303, "", Kind::Ambiguous, Kind::Protocol),
        (500, "internal_server_error", Kind::Ambiguous, Kind::Unavailable),
        (502, "", Kind::Ambiguous, Kind::Unavailable),
        (503, "database_connection_unavailable", Kind::Ambiguous, Kind::Unavailable),
        (504, "gateway_timeout", Kind::Ambiguous, Kind::Unavailable),
    ];
    for (status, code, making, other) in rows {
        for operation in OPERATIONS {
            let driver = answering(move |_| refused(status, code));
            let kind = ask(&driver, operation).await.unwrap_err().kind;
            let expected = match (making, operation) {
                // Nothing that is declared is sent.
                (Kind::Rejected, "issue") => other,
                (Kind::Rejected, "update") => making,
                _ if makes(operation) => making,
                _ => other,
            };
            assert_eq!(kind, expected, "{status} to {operation}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn only_teables_own_words_prove_a_client_absent() {
    let html = || Reply { body: "<html>Not here</html>".into(), ..Reply::empty(404) };
    let router = json!({"message": "Cannot GET /api/oauth/client/clt1", "status": 404, "code": "not_found"});
    let rows: [(Reply, bool, &str); 5] = [
        (refused(404, "not_found"), true, "Teable's own"),
        (html(), false, "a gateway, or the wrong url"),
        (Reply::empty(404), false, "nobody's words"),
        (refused(404, "unknown_error_code"), false, "another code"),
        (Reply::json(404, &router), false, "a server that has no OAuth apps"),
    ];
    for (reply, absent, reason) in rows {
        for operation in ["observe", "update", "deregister", "issue", "revoke"] {
            let reply = reply.clone();
            let outcome = ask(&answering(move |_| reply.clone()), operation).await;
            let kind = outcome.map_err(|error| error.kind);
            match (operation, absent) {
                ("issue", true) => assert_eq!(kind, Err(Kind::Unavailable), "{reason}"),
                (_, true) => assert_eq!(kind, Ok(()), "{operation}: {reason}"),
                (_, false) => assert_eq!(kind, Err(Kind::Protocol), "{operation}: {reason}"),
            }
        }
    }
    for operation in ["register", "list"] {
        let kind = ask(&answering(|_| refused(404, "not_found")), operation).await.unwrap_err().kind;
        assert_eq!(kind, Kind::Protocol, "{operation}: the collection itself is never absent");
    }
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_looked_into_by_a_read() {
    for switch in [None, Some(Switch::UnknownIsNotFound)] {
        let world = World::new().await;
        if let Some(switch) = switch {
            world.fake.at(|server| server.switches.insert(switch));
        }
        let gone = client();
        assert!(world.driver.update(&gone, &least(), &[]).await.unwrap().is_none(), "absent: {switch:?}");
        world.driver.deregister(&gone).await.expect("done already");
        let lines = ["PUT", "GET", "DELETE", "GET"].map(|verb| format!("{verb} /api/oauth/client/clt1"));
        assert_eq!(world.log.lines(), lines, "{switch:?}");
        world.fake.assert_contract_held();
    }
    let world = World::new().await;
    let there = world.register(least()).await;
    let secret = world.issue(&there).await.unwrap().id.unwrap();
    let path = "/api/oauth/client/{clientId}";
    world.fake.disturb(&format!("PUT {path}"), Fault::Answered(500));
    assert_eq!(world.driver.update(&there, &least(), &[]).await.unwrap_err().kind, Kind::Unavailable);
    world.fake.disturb(&format!("DELETE {path}"), Fault::Answered(500));
    assert_eq!(
        world.driver.deregister(&there).await.unwrap_err().kind,
        Kind::Unavailable,
        "it is still there"
    );
    world.fake.disturb(&format!("DELETE {path}/secret/{{secretId}}"), Fault::Answered(500));
    assert_eq!(world.driver.revoke_secret(&there, &secret).await.unwrap_err().kind, Kind::Unavailable);
    world.fake.disturb(&format!("DELETE {path}"), Fault::Answered(500));
    world.fake.disturb(&format!("GET {path}"), Fault::Lost);
    assert_eq!(world.driver.deregister(&there).await.unwrap_err().kind, Kind::Unavailable, "nobody can tell");
}

#[tokio::test(start_paused = true)]
async fn a_registration_of_which_nobody_saw_the_end_is_unknown_and_sent_once() {
    let rows =
        [(Fault::ReplyLost, 1, "it happened"), (Fault::Lost, 0, "it did not"), (Fault::Answered(500), 0, "")];
    for (fault, clients, reason) in rows {
        let world = World::new().await;
        world.fake.disturb("POST /api/oauth/client", fault);
        let error = searched(world.driver.register(&wanted(least(), "n1")).await).unwrap_err();
        assert_eq!(error.kind, Kind::Ambiguous, "{reason}");
        assert_eq!(world.fake.count("POST /api/oauth/client"), 1, "{reason}");
        assert_eq!(world.fake.at(|server| server.clients().len()), clients, "{reason}");
        let marked = world.driver.list().await.unwrap();
        assert_eq!(
            marked.iter().filter(|client| client.mark.is_some()).count(),
            clients,
            "it is found: {reason}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_breaks_the_contract_is_no_answer() {
    let without = |member: &str| {
        let mut body = told(&json!({}));
        body.as_object_mut().unwrap().remove(member);
        body
    };
    let rows = [
        (json!([]), "no object"),
        (without("clientId"), "no clientId"),
        (without("name"), "no name"),
        (without("homepage"), "no homepage"),
        (without("redirectUris"), "no redirectUris"),
        (told(&json!({"clientId": ".."})), "a clientId that is a step in a path"),
        (told(&json!({"redirectUris": "https://a"})), "redirectUris that are no list"),
        (told(&json!({"description": "x".repeat(300_000)})), "more than a record can hold"),
    ];
    for (body, reason) in rows {
        let text = body.to_string();
        let driver = answering(move |_| Reply { body: text.clone().into(), ..Reply::empty(200) });
        assert_eq!(ask(&driver, "register").await.unwrap_err().kind, Kind::Ambiguous, "{reason}");
        for operation in ["observe", "update"] {
            assert_eq!(
                ask(&driver, operation).await.unwrap_err().kind,
                Kind::Protocol,
                "{operation}: {reason}"
            );
        }
    }
    let rows = [
        ("observe", told(&json!({"clientId": "clt2"})), "another client"),
        ("update", told(&json!({"clientId": "clt2"})), "another client"),
        ("observe", told(&json!({"secrets": {}})), "secrets that are no list"),
        ("observe", told(&json!({"secrets": [{"id": "sec1"}]})), "a secret without a mask"),
        ("list", json!({"clients": []}), "a list that is none"),
        ("list", json!([{"clientId": "clt1"}]), "an item without a name"),
        ("list", json!([7]), "an item that is none"),
    ];
    for (operation, body, reason) in rows {
        let driver = answering(move |_| Reply::json(200, &body));
        assert_eq!(ask(&driver, operation).await.unwrap_err().kind, Kind::Protocol, "{operation}: {reason}");
    }
    let more = told(&json!({"owner": "me", "secrets": null, "scopes": null, "logo": null}));
    let read = answering(move |_| Reply::json(200, &more)).observe(&client()).await.unwrap().unwrap();
    assert_eq!(read.secrets.as_deref(), Some(&[][..]), "unknown members and nulls are fine");
    assert!(!read.document.contains_key("owner"));
}

#[tokio::test(start_paused = true)]
async fn access_tokens_work_where_the_server_lets_them_in() {
    let world = World::with(by_token());
    world.fake.at(|server| server.switches.insert(Switch::AccessTokens));
    world.register(least()).await;
    assert_eq!(world.log.lines(), ["POST /api/oauth/client"], "and need no sign-in");

    world.fake.at(|server| server.switches.remove(&Switch::AccessTokens));
    for operation in OPERATIONS {
        let error = ask(&world.driver, operation).await.unwrap_err();
        assert_eq!(error.kind, Kind::Unauthorized, "{operation}");
        assert!(error.summary.contains("set authentication: Password"), "what to do: {error}");
    }
    let foreign =
        Reply::json(403, &json!({"code": "restricted_resource", "message": "No permission", "status": 403}));
    let error = ask(&answering(move |_| foreign.clone()), "deregister").await.unwrap_err();
    assert!(error.summary.contains("No permission") && !error.summary.contains("Password"), "{error}");
    let world = World::with(Credentials::Bearer(format!("{CANARY}\n").into()));
    assert_eq!(searched(world.driver.prepare().await).unwrap_err().kind, Kind::Unauthorized, "a line break");
    assert_eq!(ask(&world.driver, "list").await.unwrap_err().kind, Kind::Unauthorized);
    assert_eq!(world.log.lines(), <[&str; 0]>::default(), "nothing was sent");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_repeats_our_credentials_is_not_repeated() {
    let echo = |request: &Request| {
        let shown = request.header("authorization").or(request.header("cookie")).unwrap_or_default();
        let given = format!("{shown} {}", String::from_utf8_lossy(&request.body));
        Reply::json(400, &json!({"code": "validation_error", "message": given, "status": 400}))
    };
    for operation in OPERATIONS {
        let error = ask(&answering(echo), operation).await.unwrap_err();
        assert!(error.summary.contains("validation_error"), "its own words, but for ours: {error}");
    }
    let session = session_answering(&spec("Password"), move |request| Some(echo(request)));
    let driver = driver(&session, by_password(PASSWORD));
    assert_eq!(ask(&driver, "list").await.unwrap_err().kind, Kind::Unauthorized, "at the sign-in");
    let until = tokio::time::Instant::now() + std::time::Duration::from_hours(1);
    session.learned().ticket = Some((format!("auth_session={CANARY}-cookie").into(), until));
    for operation in OPERATIONS {
        ask(&driver, operation).await.unwrap_err();
    }
}
