use super::*;

#[tokio::test]
async fn a_registration_says_what_is_declared_and_what_servers_need_besides() {
    let basic = "client_secret_basic";
    let rows = [
        (
            declared([]),
            json!({"token_endpoint_auth_method": basic}),
            "some issue no secret when the method is left out; nothing else is assumed",
        ),
        (
            declared([
                (Field::GrantTypes, json!(["client_credentials"])),
                (Field::Scopes, json!(["a", "b:c"])),
            ]),
            json!({
                "grant_types": ["client_credentials"], "response_types": [], "redirect_uris": [],
                "scope": "a b:c", "token_endpoint_auth_method": basic,
            }),
            "a machine client: left out, `code` would be assumed and redirect URIs demanded",
        ),
        (
            declared([
                (Field::GrantTypes, json!(["authorization_code", "refresh_token"])),
                (Field::RedirectUris, json!(["https://app.example/cb"])),
            ]),
            json!({
                "grant_types": ["authorization_code", "refresh_token"], "response_types": ["code"],
                "redirect_uris": ["https://app.example/cb"], "token_endpoint_auth_method": basic,
            }),
            "authorization_code goes with code (RFC 7591 section 2.1)",
        ),
        (
            declared([(Field::GrantTypes, json!(["urn:ietf:params:oauth:grant-type:device_code"]))]),
            json!({
                "grant_types": ["urn:ietf:params:oauth:grant-type:device_code"], "response_types": [],
                "redirect_uris": [], "token_endpoint_auth_method": basic,
            }),
            "a device does not redirect",
        ),
        (
            declared([(Field::RedirectUris, json!(["https://app.example/cb"]))]),
            json!({"redirect_uris": ["https://app.example/cb"], "token_endpoint_auth_method": basic}),
            "without declared grants the server's defaults for both agree",
        ),
        (
            declared([(Field::TokenEndpointAuthMethod, json!("none"))]),
            json!({"token_endpoint_auth_method": "none"}),
            "a declared method stays",
        ),
        (
            declared([(Field::JwksUri, json!("https://app.example/jwks"))]),
            json!({
                "jwks_uri": "https://app.example/jwks", "token_endpoint_auth_method": "private_key_jwt",
            }),
            "who has keys of its own proves itself by them",
        ),
        (
            declared([(Field::LogoUri, json!("")), (Field::Scopes, json!([])), (Field::Contacts, json!([]))]),
            json!({"contacts": [], "token_endpoint_auth_method": basic}),
            "managed and empty: strict servers refuse an empty string, and absent means the same",
        ),
    ];
    for (declared, mut expected, reason) in rows {
        let world = World::answering(201, information(&json!({})));
        world.register(&declared).await.expect(reason);
        let sent = world.last();
        expected["software_id"] = json!("software-1");
        assert_eq!(sent.body, expected, "{reason}");
        assert_eq!((sent.method, sent.url.as_str()), (Method::POST, REGISTER), "{reason}");
    }
}

#[tokio::test]
async fn the_initial_access_token_is_a_bearer_and_without_one_there_is_no_header() {
    let mut world = World::answering(201, information(&json!({})));
    world.register(&named("x")).await.unwrap();
    assert_eq!(world.last().authorization, Given::Bearer(INITIAL.into()), "RFC 7591 section 3");
    world.driver.initial_access_token = None;
    world.register(&named("x")).await.unwrap();
    assert_eq!(world.last().authorization, Given::Nothing, "open registration");
}

#[tokio::test]
async fn a_token_that_no_header_can_hold_is_found_before_anything_is_announced() {
    let mut world = World::answering(201, information(&json!({})));
    for token in ["c4n4ry\nmore", "c4n4ry\u{0}"] {
        world.driver.initial_access_token = Some(token.into());
        let error = world.prepare().await.unwrap_err();
        assert_eq!(
            error.kind,
            Kind::Unauthorized,
            "the breaker would else hear of a silent registry: {error}"
        );
        assert!(error.summary.contains("initialAccessTokenSecretRef"), "what to mend: {error}");
    }
    assert_eq!(world.urls(), [""; 0]);
}

#[tokio::test]
async fn a_reply_is_read_as_real_servers_write_it() {
    let at = |seconds| Timestamp::from_second(seconds).ok();
    let rows = [
        (201, json!({}), (None, None), "RFC 7591 section 3.2.1; 0 is never"),
        (200, json!({}), (None, None), "Glewlwyd answers 200"),
        (202, json!({}), (None, None), "any success with a client in it is one"),
        (
            201,
            json!({"client_id_issued_at": 1_700_000_000, "client_secret_expires_at": 1_900_000_000}),
            (at(1_700_000_000), at(1_900_000_000)),
            "seconds",
        ),
        (
            201,
            json!({"client_id_issued_at": "1700000000", "client_secret_expires_at": "1900000000"}),
            (at(1_700_000_000), at(1_900_000_000)),
            "seconds as a string",
        ),
        (
            201,
            json!({"client_id_issued_at": "today", "client_secret_expires_at": -1}),
            (None, None),
            "nonsense is not told",
        ),
        (
            201,
            json!({"client_id_issued_at": i64::MAX, "client_secret_expires_at": u64::MAX}),
            (None, None),
            "no moment that a calendar knows",
        ),
    ];
    for (status, members, (issued, expires), reason) in rows {
        let world = World::answering(status, information(&members));
        let client = world.register(&named("x")).await.expect(reason);
        assert_eq!(client.client_id, "id-1", "{reason}");
        assert_eq!(secret(&client), Some(SECRET), "{reason}");
        assert_eq!(managed(&client), Ok((MANAGED, TOKEN)), "{reason}");
        assert_eq!((client.registered_at, client.client_secret_expires_at), (issued, expires), "{reason}");
    }
}

#[tokio::test]
async fn a_client_is_not_lost_for_the_encoding_of_its_name() {
    let body = |name: &[u8]| {
        let text = information(&json!({"client_secret": "c4n4ry", "client_name": "NAME"})).to_string();
        let at = text.find("NAME").unwrap();
        [&text.as_bytes()[..at], name, &text.as_bytes()[at + 4..]].concat()
    };
    let rows = [
        (body("Café".as_bytes()), "Café", "UTF-8, as RFC 8259 section 8.1 wants it"),
        (body(b"Caf\xe9"), "Caf\u{fffd}", "another charset: the name is spoilt, the credentials are not"),
        ([b"\xef\xbb\xbf".to_vec(), body(b"x")].concat(), "x", "a byte order mark may be ignored"),
    ];
    for (body, name, reason) in rows {
        let world = World::always(Raw(201, body));
        let client = world.register(&named("x")).await.expect(reason);
        assert_eq!(client.document["client_name"], name, "{reason}");
        assert_eq!(secret(&client), Some("c4n4ry"), "{reason}");
    }
}

#[tokio::test]
async fn a_success_that_cannot_be_understood_leaves_the_outcome_open() {
    let id = |id: Value| Json(201, information(&json!({"client_id": id})));
    let rows = [
        (Raw(200, b"<html>c4n4ry</html>".to_vec()), "a web page"),
        (Json(201, json!([information(&json!({}))])), "a list of clients"),
        (Raw(201, br#"{"client_id": "id-1", "client_secret": "c4n4ry"#.to_vec()), "cut off"),
        (Raw(201, b"[".repeat(100_000)), "too deep to read"),
        (Json(201, without(&information(&json!({})), &["client_id"])), "no client_id"),
        (id(json!("")), "an empty client_id"),
        (id(Value::Null), "no client_id"),
        (id(json!("x".repeat(1025))), "an id that status cannot hold"),
        (id(json!("id\n1\u{1b}[31m")), "an id that rewrites logs"),
        (Empty(204), "nothing at all"),
    ];
    for (reply, reason) in rows {
        let world = World::always(reply);
        let error = world.register(&named("x")).await.expect_err(reason);
        assert_eq!(error.kind, Kind::Ambiguous, "the registry may have made a client: {reason}: {error}");
    }
    let odd = "dyn$ /?#:%26+<é>";
    let world = World::new(move |_| Json(201, information(&json!({"client_id": odd}))));
    assert_eq!(world.register(&named("x")).await.unwrap().client_id, odd, "an odd id is only odd");
}

#[tokio::test]
async fn a_registration_that_was_not_done_is_told_from_one_that_may_have_been() {
    let error = |error: &str| json!({"error": error, "error_description": "words"});
    let rows = [
        (NotSent, Kind::Unavailable, "no byte left: definitely not done"),
        (Interrupted, Kind::Ambiguous, "it may have arrived"),
        (Empty(500), Kind::Ambiguous, "it may have failed behind the commit"),
        (Empty(502), Kind::Ambiguous, "the proxy does not know either"),
        (Empty(503), Kind::Ambiguous, "a 503 may come from behind the commit as well"),
        (Empty(504), Kind::Ambiguous, "the proxy gave up"),
        (Empty(408), Kind::Ambiguous, "a server that gave up reading, or doing"),
        (Empty(303), Kind::Ambiguous, "done, see there"),
        (Empty(301), Kind::Protocol, "never followed"),
        (Empty(307), Kind::Protocol, "never followed"),
        (Empty(308), Kind::Protocol, "never followed"),
        (Json(400, error("invalid_redirect_uri")), Kind::Rejected, "RFC 7591 section 3.2.2"),
        (Json(400, error("invalid_client_metadata")), Kind::Rejected, "RFC 7591 section 3.2.2"),
        (
            Raw(400, b"<html>c4n4ry</html>".to_vec()),
            Kind::Rejected,
            "Canaille's page for a body it cannot read",
        ),
        (Json(401, error("invalid_token")), Kind::Unauthorized, "RFC 6750 section 3.1"),
        (Empty(401), Kind::Unauthorized, "Glewlwyd says no more than that"),
        (Json(403, error("insufficient_scope")), Kind::Unauthorized, "RFC 6750 section 3.1"),
        (Json(400, error("access_denied")), Kind::Unauthorized, "Canaille's way to refuse a token"),
        (Json(400, error("invalid_token")), Kind::Unauthorized, "the code counts, not the status"),
        (Empty(404), Kind::Protocol, "nothing is there"),
        (Empty(405), Kind::Protocol, "something else is there"),
        (Empty(409), Kind::Conflict, "Hydra's duplicate"),
        (Empty(422), Kind::Rejected, "refused"),
    ];
    for (reply, kind, reason) in rows {
        let world = World::always(reply);
        let error = world.register(&named("x")).await.expect_err(reason);
        assert_eq!(error.kind, kind, "{reason}: {error}");
        let posts = world.sent().into_iter().filter(|sent| sent.method == Method::POST).count();
        assert_eq!(posts, 1, "sent once, whatever happens: {reason}");
    }
}

#[tokio::test]
async fn refusals_of_the_token_are_asked_again_and_refusals_of_the_client_are_not() {
    for (error, retry, reason) in [
        ("access_denied", Retry::Slowly, "the token may be mended in its Secret, which no watch shows"),
        ("invalid_redirect_uri", Retry::OnChange, "only another declaration helps"),
    ] {
        let world = World::answering(400, json!({"error": error}));
        let error = world.register(&named("x")).await.unwrap_err();
        assert_eq!(error.kind.retry(), retry, "{reason}");
    }
}

#[tokio::test]
async fn the_servers_words_are_repeated_without_the_secrets_we_know() {
    let description = format!("bad uri; you sent {INITIAL} and {TOKEN} and {SECRET}\n\u{1b}[2J");
    let body = json!({"error": "invalid_redirect_uri", "error_description": description});
    let world = World::answering(400, without(&body, &["error_description"]));
    let error = world.register(&named("x")).await.unwrap_err();
    assert!(error.summary.ends_with("400 (invalid_redirect_uri)"), "{error}");

    let only_initial = format!("bad uri; you sent {INITIAL}");
    let world = World::answering(400, json!({"error": "e", "error_description": only_initial}));
    let error = world.register(&named("x")).await.unwrap_err();
    assert!(error.summary.ends_with("(e: bad uri; you sent [redacted])"), "{error}");

    let of_the_client = format!("bad uri; you sent {TOKEN} and {SECRET}\n\u{1b}[2J");
    let world = World::answering(400, json!({"error": "e", "error_description": of_the_client}));
    let error = world.update(&client(), &named("x"), &[]).await.unwrap_err();
    assert!(error.summary.ends_with("(e: bad uri; you sent [redacted] and [redacted]  [2J)"), "{error}");

    let long = json!({"error": "e".repeat(10_000), "error_description": "d".repeat(10_000)});
    let world = World::answering(400, long);
    let error = world.register(&named("x")).await.unwrap_err();
    assert!(error.summary.len() < 600, "bounded: {}", error.summary.len());
}

#[tokio::test]
async fn a_client_is_managed_only_where_its_token_may_go() {
    let token = Some(TOKEN);
    let rows = [
        (token, Some(MANAGED), Ok(MANAGED), "RFC 7592 section 3"),
        (
            token,
            Some("https://as.example/reg?client_id=id-1"),
            Ok("https://as.example/reg?client_id=id-1"),
            "IBM's query form, verbatim",
        ),
        (token, Some("https://evil.example/id-1"), Err("https://evil.example"), "another host"),
        (token, Some("http://as.example/id-1"), Err("http://as.example"), "another scheme"),
        (token, Some("https://as.example:444/id-1"), Err(":444"), "another port"),
        (
            token,
            Some("https://u:c4n4ry@as.example/id-1"),
            Err("user information"),
            "credentials of the server's choice",
        ),
        (token, Some("/register/id-1"), Err("not a URL"), "relative"),
        (token, Some("data:,x"), Err("another origin"), "an origin that is nowhere"),
        (token, None, Err("registration_client_uri"), "a token, but nowhere to go with it"),
        (None, Some(MANAGED), Err("registration_access_token"), "a place, but no token"),
        (Some(""), Some(MANAGED), Err("registration_access_token"), "an empty token is none"),
        (Some("c4n4ry\n"), Some(MANAGED), Err("registration_access_token"), "no header could hold it"),
        (None, None, Err("registration_access_token"), "RFC 7591 alone: Auth0, Duende, Doorkeeper"),
    ];
    for (token, uri, expected, reason) in rows {
        let body = information(&json!({"registration_access_token": token, "registration_client_uri": uri}));
        let world = World::answering(201, body);
        let client = world.register(&named("x")).await.expect(reason);
        assert_eq!(secret(&client), Some(SECRET), "the credentials count in any case: {reason}");
        match (expected, managed(&client)) {
            (Ok(uri), managed) => assert_eq!(managed, Ok((uri, TOKEN)), "{reason}"),
            (Err(words), Err(why)) => assert!(why.contains(words), "{reason}: {why}"),
            (Err(_), Ok(managed)) => panic!("{reason}: managed at {}", managed.0),
        }
        if expected.is_err() {
            world.sent();
            for operation in [Method::GET, Method::PUT, Method::DELETE] {
                let outcome = world.manage(&operation, &client).await;
                assert_eq!(outcome, Err(Kind::Unsupported), "{operation}: {reason}");
            }
            assert_eq!(world.urls(), [""; 0], "no token left: {reason}");
        }
    }
}

#[tokio::test]
async fn a_token_stays_home_even_if_a_record_says_otherwise() {
    let elsewhere = Url::parse("https://evil.example/id-1").unwrap();
    let client = Client { management: Management::Token { uri: elsewhere, token: TOKEN.into() }, ..client() };
    let world = World::answering(200, information(&json!({})));
    for operation in [Method::GET, Method::PUT, Method::DELETE] {
        assert_eq!(world.manage(&operation, &client).await, Err(Kind::Unsupported), "{operation}");
    }
    assert_eq!(world.urls(), [""; 0]);
}

#[tokio::test]
async fn nothing_that_prints_a_client_prints_a_credential() {
    let members = json!({
        "registration_client_uri": "https://as.example/r?key=c4n4ry",
        "previous_secret": "c4n4ry", "nested": {"token": "c4n4ry"}, "client_name": "App",
    });
    let world = World::answering(201, information(&members));
    let client = world.register(&named("App")).await.unwrap();
    assert_eq!(client.document["previous_secret"], "c4n4ry", "it is kept, as an update must repeat it");
    let shown = format!("{client:?}");
    assert!(!shown.contains(CANARY), "{shown}");
    for expected in ["id-1", "App", "previous_secret", "nested", "https://as.example"] {
        assert!(shown.contains(expected), "what can be shown helps: {expected} in {shown}");
    }
}

#[tokio::test]
async fn a_document_leaves_room_for_the_rest_of_the_record() {
    let large = "x".repeat(600_000);
    let rows = [
        (json!({"client_name": "App", "vendor": "v"}), vec!["client_name", "vendor"], "an ordinary one"),
        (
            json!({"client_name": "App", "vendor": large}),
            vec!["client_name"],
            "what nobody can declare goes first",
        ),
        (
            json!({"client_name": large, "vendor": "v"}),
            vec![],
            "better without a document than without a secret",
        ),
    ];
    for (members, expected, reason) in rows {
        let world = World::answering(201, information(&members));
        let client = world.register(&named("App")).await.expect(reason);
        let kept = ["client_name", "vendor"].into_iter().filter(|m| client.document.contains_key(*m));
        assert_eq!(kept.collect::<Vec<_>>(), expected, "{reason}");
        assert_eq!(secret(&client), Some(SECRET), "{reason}");
    }
}
