use super::*;

#[tokio::test]
async fn metadata_is_looked_for_where_the_standards_put_it() {
    let rows = [
        (ISSUER, vec!["https://as.example/.well-known/oauth-authorization-server"], "RFC 8414 section 3"),
        (
            "https://as.example/tenant",
            vec!["https://as.example/.well-known/oauth-authorization-server/tenant"],
            "the issuer's path goes behind the well-known one",
        ),
        (
            "https://as.example/tenant/",
            vec!["https://as.example/.well-known/oauth-authorization-server/tenant"],
            "a slash at its end goes first (RFC 8414 section 3.1)",
        ),
        (
            "https://as.example/a%20b",
            vec!["https://as.example/.well-known/oauth-authorization-server/a%20b"],
            "what is encoded stays so",
        ),
        (
            "https://as.example/tenant",
            vec![
                "https://as.example/.well-known/oauth-authorization-server/tenant",
                "https://as.example/tenant/.well-known/openid-configuration",
            ],
            "OpenID Connect Discovery section 4 puts it before the well-known one",
        ),
    ];
    for (url, expected, reason) in rows {
        let last = (*expected.last().unwrap()).to_owned();
        let world = World::open(issuer(url), None, move |sent| {
            if sent.url == last {
                Json(200, json!({"issuer": url, "registration_endpoint": REGISTER}))
            } else {
                Empty(404)
            }
        });
        world.prepare().await.expect(reason);
        let sent = world.sent();
        assert_eq!(sent.iter().map(|s| s.url.as_str()).collect::<Vec<_>>(), expected, "{reason}");
        assert!(sent.iter().all(|s| s.authorization == Given::Nothing), "no credential is needed here");
    }
}

#[tokio::test]
async fn a_first_document_that_is_of_no_use_does_not_hide_a_good_second_one() {
    let rows = [
        (Empty(404), "it is not there"),
        (Empty(401), "some put everything unknown behind a login"),
        (Empty(302), "and some redirect there"),
        (Raw(200, b"<html>app</html>".to_vec()), "a single-page app answers everything"),
        (Json(200, json!(["x"])), "no object"),
        (Json(200, json!({"issuer": "https://as.example/other"})), "another issuer's"),
        (Json(200, json!({"issuer": ISSUER})), "OAuth metadata without registration, OpenID's with it"),
    ];
    for (first, reason) in rows {
        let world = World::open(issuer(ISSUER), None, move |sent| match sent.url.as_str() {
            METADATA => first.clone(),
            _ => Json(200, metadata()),
        });
        assert_eq!(world.prepare().await, Ok(()), "{reason}");
    }
}

#[tokio::test]
async fn metadata_that_cannot_be_trusted_is_refused_and_says_why() {
    let saying = |member: &str, value: Value| {
        let mut body = metadata();
        body[member] = value;
        Json(200, body)
    };
    let rows = [
        (
            saying("issuer", json!("https://evil.example")),
            "https://evil.example",
            "it must speak for the issuer it was asked for (RFC 8414 section 3.3)",
        ),
        (
            saying("issuer", json!("https://as.example/")),
            "\"https://as.example/\"",
            "apps compare `iss` exactly, so the issuer that goes into their Secret must be exact",
        ),
        (saying("issuer", json!(7)), "issuer", "no issuer at all"),
        (
            saying("registration_endpoint", json!("https://evil.example/register")),
            "another origin (https://evil.example)",
            "the initial access token goes nowhere else",
        ),
        (
            saying("registration_endpoint", json!("http://as.example/register")),
            "another origin",
            "the scheme is part of the origin",
        ),
        (
            saying("registration_endpoint", json!("https://as.example:8443/register")),
            "another origin",
            "the port is part of the origin",
        ),
        (
            saying("registration_endpoint", json!("https://user:c4n4ry@as.example/register")),
            "user information",
            "it would send credentials of the server's choice beside ours",
        ),
        (saying("registration_endpoint", json!("/register")), "not a URL", "relative"),
        (saying("registration_endpoint", Value::Null), "is off", "what to do: switch it on"),
        (Raw(200, b"<html>c4n4ry</html>".to_vec()), "no JSON", "a web page, of which nothing is quoted"),
        (Json(200, json!([CANARY])), "no object", "JSON, but no object"),
        (Empty(404), "answered 404", "no metadata"),
        (Empty(302), "redirect (302)", "never followed"),
        (Empty(307), "redirect (307)", "never followed"),
    ];
    for (reply, expected, reason) in rows {
        let world = World::open(issuer(ISSUER), None, move |_| reply.clone());
        let error = world.prepare().await.expect_err(reason);
        assert_eq!(error.kind, Kind::Protocol, "{reason}: {error}");
        assert!(error.summary.contains(expected), "{reason}: {error}");
        assert!(error.summary.len() < 1000, "it fits into a condition: {error}");
        assert_eq!(world.urls().len(), 2, "both places were tried: {reason}");
        let error = world.register(&named("x")).await.expect_err(reason);
        assert_eq!(error.kind, Kind::Protocol, "no registration is sent: {reason}");
        assert!(world.sent().iter().all(|sent| sent.method == Method::GET), "{reason}");
    }
}

#[tokio::test]
async fn an_origin_that_a_registry_names_is_quoted_in_bounds() {
    let long = format!("https://{}.example/register", "x".repeat(100_000));
    let world = World::open(issuer(ISSUER), None, move |_| {
        Json(200, json!({"issuer": ISSUER, "registration_endpoint": long}))
    });
    let error = world.prepare().await.unwrap_err();
    assert!(error.summary.len() < 1000, "it goes into an annotation and into logs");
}

#[tokio::test]
async fn a_server_that_fails_is_not_a_server_without_metadata() {
    for (reply, reason) in [
        (Empty(500), "5xx"),
        (Empty(503), "5xx"),
        (Interrupted, "an answer that broke off"),
        (NotSent, "no connection"),
    ] {
        let world = World::open(issuer(ISSUER), None, move |_| reply.clone());
        assert_eq!(world.prepare().await.unwrap_err().kind, Kind::Unavailable, "{reason}");
        assert_eq!(world.urls().len(), 1, "the next place would fail as well: {reason}");
    }
}

#[tokio::test(start_paused = true)]
async fn metadata_is_read_once_and_again_after_an_hour_or_a_failure() {
    let (fails, failing) = tokio::sync::watch::channel(false);
    let world =
        World::new(move |_| if *failing.borrow() { Interrupted } else { Json(200, information(&json!({}))) });
    for _ in 0..3 {
        world.prepare().await.unwrap();
    }
    assert_eq!(world.urls(), [format!("GET {METADATA}")], "once");
    tokio::time::advance(Duration::from_mins(61)).await;
    world.prepare().await.unwrap();
    assert_eq!(world.urls(), [format!("GET {METADATA}")], "after an hour");
    fails.send(true).unwrap();
    assert_eq!(world.observe(&client()).await.unwrap_err().kind, Kind::Unavailable);
    fails.send(false).unwrap();
    world.sent();
    world.prepare().await.unwrap();
    assert_eq!(world.urls(), [format!("GET {METADATA}")], "the server may have come back as another");
}

#[tokio::test]
async fn an_explicit_endpoint_needs_no_metadata_and_knows_no_issuer() {
    let world =
        World::open(endpoint("https://as.example/r?tenant=a"), None, |_| Json(201, information(&json!({}))));
    world.prepare().await.unwrap();
    world.register(&named("x")).await.unwrap();
    assert_eq!(world.urls(), ["POST https://as.example/r?tenant=a"], "and nothing else");
    assert_eq!(world.driver.issuer(), None);
    assert_eq!(world.driver.origin(), "https://as.example", "where credentials may go");
}

#[tokio::test]
async fn a_token_endpoint_elsewhere_is_no_witness() {
    let world = World::open(issuer(ISSUER), None, |sent| match sent.url.as_str() {
        METADATA => Json(
            200,
            json!({"issuer": ISSUER, "registration_endpoint": REGISTER, "token_endpoint": "https://evil.example/token"}),
        ),
        _ => Json(401, json!({"error": "invalid_client"})),
    });
    let error = world.observe(&client()).await.unwrap_err();
    assert_eq!(error.kind, Kind::ManagementLost, "the secret is not sent there to ask");
    assert!(world.sent().iter().all(|sent| sent.url.starts_with(ISSUER)));
}
