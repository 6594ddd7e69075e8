use super::*;

#[tokio::test]
async fn requests_go_to_the_registration_client_uri_verbatim_with_the_clients_own_token() {
    let uri = "https://as.example/reg/%7Eodd?client_id=id-1&x=%2F";
    let client = Client {
        management: Management::Token { uri: Url::parse(uri).unwrap(), token: TOKEN.into() },
        ..client()
    };
    let world = World::answering(200, information(&json!({})));
    for operation in [Method::GET, Method::PUT, Method::DELETE] {
        world.manage(&operation, &client).await.unwrap();
        let sent = world.last();
        assert_eq!((sent.method, sent.url.as_str()), (operation, uri));
        assert_eq!(sent.authorization, Given::Bearer(TOKEN.into()), "not the initial access token");
    }
}

/// The body of an update, after the server said this at the registration.
async fn update_after(said: &Value, declared: &ClientMetadata, reset: &[Field]) -> Value {
    let world = World::answering(200, information(said));
    let client = world.register(&named("x")).await.unwrap();
    world.update(&client, declared, reset).await.unwrap();
    let sent = world.last();
    assert_eq!(sent.method, Method::PUT);
    assert_eq!(sent.body["client_id"], "id-1", "required (RFC 7592 section 2.2)");
    without(&sent.body, &["client_id"])
}

#[tokio::test]
async fn an_update_repeats_what_the_server_said_as_far_as_it_may() {
    let basic = "client_secret_basic";
    let rows = [
        (
            json!({"client_name": "App", "vendor": [1], "token_endpoint_auth_method": "none"}),
            json!({"client_name": "New", "vendor": [1], "token_endpoint_auth_method": "none"}),
            "a member that is left out is deleted (RFC 7592 section 2.2), so what others set stays in",
        ),
        (
            json!({"client_id_issued_at": 1, "client_secret_expires_at": 2}),
            json!({"client_name": "New", "token_endpoint_auth_method": basic}),
            "the five members of the server never; a stale secret would be refused, or taken",
        ),
        (
            json!({"logo_uri": null, "vendor": null}),
            json!({"client_name": "New", "token_endpoint_auth_method": basic}),
            "Canaille shows nulls",
        ),
        (
            json!({"metadata": {}, "jwks": {}, "policy_uri": "", "response_types": []}),
            json!({"client_name": "New", "token_endpoint_auth_method": basic, "response_types": []}),
            "Hydra refuses its own empty objects, others empty strings; an empty list says something",
        ),
        (
            json!({
                "token_endpoint_auth_method": ["client_secret_post"], "scope": ["a", "b"],
                "redirect_uris": "https://a.example/",
            }),
            json!({
                "client_name": "New", "token_endpoint_auth_method": "client_secret_post", "scope": "a b",
                "redirect_uris": ["https://a.example/"],
            }),
            "Glewlwyd shows the method as a list, IBM a list of one as its member: sent as they are taken",
        ),
        (
            json!({
                "token_endpoint_auth_method": ["a", "b"], "client_uri": 7, "contacts": {"x": 1},
                "jwks": "none", "logo_uri": [1],
            }),
            json!({"client_name": "New", "token_endpoint_auth_method": basic}),
            "what cannot be put right is left out, and a method is said as at the registration",
        ),
    ];
    for (said, expected, reason) in rows {
        assert_eq!(update_after(&said, &named("New"), &[]).await, expected, "{reason}");
    }
}

#[tokio::test]
async fn an_update_leaves_no_trace_of_what_was_declared_before() {
    let basic = json!({"token_endpoint_auth_method": "client_secret_basic"});
    let machine = declared([(Field::GrantTypes, json!(["client_credentials"]))]);
    let empty =
        declared([(Field::LogoUri, json!("")), (Field::Scopes, json!([])), (Field::Contacts, json!([]))]);
    let rows = [
        (
            json!({"client_uri": "https://a.example/", "logo_uri": "https://a.example/l"}),
            declared([]),
            vec![Field::ClientUri],
            json!({"logo_uri": "https://a.example/l", "token_endpoint_auth_method": "client_secret_basic"}),
            "a field that left the spec is left out, and no other",
        ),
        (
            json!({"grant_types": ["client_credentials"], "response_types": []}),
            declared([]),
            vec![Field::GrantTypes],
            basic.clone(),
            "response_types go with the grants: the default grant would not agree with none",
        ),
        (
            json!({"token_endpoint_auth_method": "client_secret_post"}),
            declared([]),
            vec![Field::TokenEndpointAuthMethod],
            basic.clone(),
            "a method that left the spec is what a new client would get",
        ),
        (
            json!({"token_endpoint_auth_method": "private_key_jwt", "jwks": {"keys": [{"kty": "EC"}]}}),
            declared([]),
            vec![Field::Jwks],
            basic,
            "without keys nobody can prove itself by them",
        ),
        (
            json!({"response_types": ["code"], "redirect_uris": ["https://a.example/"]}),
            machine,
            vec![Field::RedirectUris],
            json!({
                "grant_types": ["client_credentials"], "response_types": [], "redirect_uris": [],
                "token_endpoint_auth_method": "client_secret_basic",
            }),
            "a machine client looks as it does after a registration",
        ),
        (
            json!({"logo_uri": "https://a.example/l", "scope": "a", "contacts": ["c"]}),
            empty,
            vec![],
            json!({"contacts": [], "token_endpoint_auth_method": "client_secret_basic"}),
            "managed and empty is left out where it would be an empty string",
        ),
    ];
    for (said, declared, reset, expected, reason) in rows {
        assert_eq!(update_after(&said, &declared, &reset).await, expected, "{reason}");
    }
}

/// The client after a read and after an update that were answered with `client_id` and these members. Its secret was said to
/// end at 1900000000.
async fn after_reply(members: &Value) -> Vec<Client> {
    let known = Client {
        client_secret_expires_at: Timestamp::from_second(1_900_000_000).ok(),
        registered_at: Timestamp::from_second(1_700_000_000).ok(),
        ..client()
    };
    let mut body = members.clone();
    body["client_id"] = json!("id-1");
    let world = World::answering(200, body);
    let read = world.observe(&known).await.unwrap().unwrap();
    let updated = world.update(&known, &named("x"), &[]).await.unwrap().unwrap();
    assert_eq!(read.registered_at, known.registered_at);
    vec![read, updated]
}

#[tokio::test]
async fn a_secret_that_a_reply_leaves_out_is_kept_and_one_that_it_changes_is_taken() {
    let rows = [
        (json!({}), SECRET, Some(1_900_000_000), "Hydra and oauth-as never repeat it"),
        (json!({"client_secret": null}), SECRET, Some(1_900_000_000), "null is left out"),
        (json!({"client_secret": ""}), SECRET, Some(1_900_000_000), "nobody's secret is blanked"),
        (json!({"client_secret_expires_at": 2_000_000_000}), SECRET, Some(2_000_000_000), "it lives longer"),
        (json!({"client_secret": SECRET}), SECRET, Some(1_900_000_000), "it still ends when it was said to"),
        (
            json!({"client_secret": SECRET, "client_secret_expires_at": 0}),
            SECRET,
            None,
            "unless it is now said never to",
        ),
        (
            json!({"client_secret": "c4n4ry-2", "client_secret_expires_at": 2_000_000_000}),
            "c4n4ry-2",
            Some(2_000_000_000),
            "a new secret (RFC 7592 section 3) has an end of its own",
        ),
        (json!({"client_secret": "c4n4ry-2"}), "c4n4ry-2", None, "and not the end of the old one"),
    ];
    for (members, expected, end, reason) in rows {
        for found in after_reply(&members).await {
            assert_eq!(secret(&found), Some(expected), "{reason}");
            assert_eq!(found.client_secret_expires_at.map(Timestamp::as_second), end, "{reason}");
            assert_eq!(managed(&found), Ok((MANAGED, TOKEN)), "{reason}");
        }
    }
}

#[tokio::test]
async fn a_token_that_a_reply_leaves_out_is_kept_and_one_that_it_changes_is_taken() {
    let moved = |uri: &str| json!({"registration_access_token": "c4n4ry-2", "registration_client_uri": uri});
    let rows = [
        (json!({}), TOKEN, "Glewlwyd, oauth-as and Rauthy never repeat it"),
        (json!({"registration_access_token": null}), TOKEN, "null is left out"),
        (json!({"registration_access_token": ""}), TOKEN, "so is nothing"),
        (
            json!({"registration_access_token": "c4n4ry-2"}),
            "c4n4ry-2",
            "a new one counts at once (RFC 7592 section 3): Keycloak, Curity, oidc-provider",
        ),
        (
            moved("https://as.example/register/id-2"),
            "c4n4ry-2",
            "the place does not move: at another client's the token would be destroyed",
        ),
        (moved("https://evil.example/"), "c4n4ry-2", "and not to another origin"),
    ];
    for (members, expected, reason) in rows {
        for found in after_reply(&members).await {
            assert_eq!(managed(&found), Ok((MANAGED, expected)), "{reason}");
            assert_eq!(secret(&found), Some(SECRET), "{reason}");
        }
    }
}

#[tokio::test]
async fn a_reply_that_speaks_of_another_client_is_not_believed() {
    let other = information(&json!({"client_id": "id-2", "client_secret": "c4n4ry-of-2"}));
    for (body, reason) in [
        (other, "another client's credentials are not ours"),
        (json!({}), "nobody's"),
        (json!([]), "nothing"),
    ] {
        for operation in [Method::GET, Method::PUT] {
            let world = World::answering(200, body.clone());
            let outcome = world.manage(&operation, &client()).await;
            assert_eq!(outcome, Err(Kind::Protocol), "{operation}: {reason}");
        }
    }
}

#[tokio::test]
async fn reads_teach_what_the_registry_shows_and_whether_they_cost_a_token() {
    let same = information(&json!({"client_name": "App", "logo_uri": null, "vendor": 1}));
    let world = World::answering(200, same);
    world.observe(&client()).await.unwrap();
    {
        let learned = world.session.learned();
        assert_eq!(learned.shown, [Field::ClientName].into(), "a null shows nothing");
        assert!(!learned.reads_rotate, "the same token again");
    }
    let world = World::answering(200, information(&json!({"registration_access_token": "c4n4ry-2"})));
    world.update(&client(), &named("x"), &[]).await.unwrap();
    assert!(!world.session.learned().reads_rotate, "an update that brings a new token says nothing of reads");
    world.observe(&client()).await.unwrap();
    assert!(world.session.learned().reads_rotate, "this one does");
}

/// A client whose document names this method.
fn proving_itself_by(method: &str) -> Client {
    let document = json!({"token_endpoint_auth_method": method}).as_object().unwrap().clone();
    Client { document, ..client() }
}

#[tokio::test]
async fn a_lost_token_and_a_lost_client_are_told_apart_by_a_second_witness() {
    const LOST: Result<bool, Kind> = Err(Kind::ManagementLost);
    const GONE: Result<bool, Kind> = Ok(false);
    let error = |error: &str| json!({"error": error});
    let denied = || Json(400, error("access_denied"));
    let unknown = || Json(401, error("invalid_client"));
    let basic = "client_secret_basic";
    let rows = [
        (Empty(401), basic, unknown(), GONE, "both witnesses agree (RFC 6749 section 5.2)"),
        (Empty(404), basic, unknown(), GONE, "404 alone proves nothing, as a wrong path has it too"),
        (Empty(410), basic, unknown(), GONE, "410 likewise"),
        (denied(), basic, unknown(), GONE, "Canaille answers so to the token of a client that is gone"),
        (Json(400, error("invalid_token")), basic, unknown(), GONE, "the code counts"),
        (Empty(401), basic, Json(400, error("invalid_client")), GONE, "400 is allowed as well"),
        (Empty(401), "client_secret_post", unknown(), GONE, "the secret in the form"),
        (Empty(401), basic, Json(200, json!({"access_token": "c4n4ry"})), LOST, "the client works"),
        (
            Empty(401),
            basic,
            Json(400, error("unauthorized_client")),
            LOST,
            "it is known, if not for this grant",
        ),
        (
            Empty(401),
            basic,
            Json(400, error("unsupported_grant_type")),
            LOST,
            "nothing is said of the client",
        ),
        (Empty(401), basic, Empty(401), LOST, "a proxy's 401 is no word of the server"),
        (Empty(401), basic, Raw(401, b"<html>c4n4ry</html>".to_vec()), LOST, "nor is a page"),
        (Empty(401), basic, Json(403, error("invalid_client")), LOST, "not a status of RFC 6749"),
        (Empty(401), basic, Empty(302), LOST, "not followed"),
        (Empty(401), basic, Json(500, error("invalid_client")), Err(Kind::Unavailable), "cannot tell"),
        (Empty(401), basic, Interrupted, Err(Kind::Unavailable), "cannot tell"),
        (Empty(401), basic, Later(429, "7"), Err(Kind::Throttled(Duration::from_secs(7))), "cannot tell yet"),
    ];
    for (first, method, second, expected, reason) in rows {
        for operation in [Method::GET, Method::PUT, Method::DELETE] {
            // A DELETE that finds nothing is done, if nobody contradicts.
            if operation == Method::DELETE && matches!(first, Empty(404 | 410)) {
                continue;
            }
            let (first, second) = (first.clone(), second.clone());
            let world =
                World::new(move |sent| if sent.url == TOKENS { second.clone() } else { first.clone() });
            let outcome = world.manage(&operation, &proving_itself_by(method)).await;
            assert_eq!(outcome, expected, "{operation}: {reason}");
            assert!(world.urls().contains(&format!("POST {TOKENS}")), "{operation}: it was asked: {reason}");
        }
    }
}

#[tokio::test]
async fn a_client_that_still_authenticates_is_not_gone_because_its_path_is() {
    let error = |error: &str| json!({"error": error});
    let rows = [
        (Json(401, error("invalid_client")), Ok(()), "both agree"),
        (
            Json(200, json!({"access_token": "c4n4ry"})),
            Err(Kind::Unavailable),
            "a proxy without its server says 404 too",
        ),
        (
            Json(400, error("unauthorized_client")),
            Err(Kind::Unavailable),
            "it is known, if not for this grant",
        ),
        (Empty(404), Ok(()), "nobody contradicts"),
        (Empty(503), Err(Kind::Unavailable), "cannot tell yet, and a deletion has time"),
    ];
    for (second, expected, reason) in rows {
        let world = World::new(move |sent| if sent.url == TOKENS { second.clone() } else { Empty(404) });
        let outcome = world.deregister(&proving_itself_by("client_secret_basic")).await;
        assert_eq!(outcome.map_err(|error| error.kind), expected, "{reason}");
    }
}

#[tokio::test]
async fn without_a_second_witness_nothing_is_proven() {
    let rows = [
        (Client { client_secret: None, ..client() }, "a public client has nothing to ask with"),
        (proving_itself_by("none"), "nor has one that does not authenticate"),
        (proving_itself_by("private_key_jwt"), "its key is not ours"),
        (proving_itself_by("client_secret_jwt"), "no JWT is signed just to ask"),
    ];
    for (client, reason) in rows {
        for (operation, status) in
            [(Method::GET, 401), (Method::GET, 404), (Method::PUT, 401), (Method::DELETE, 401)]
        {
            let world = World::answering(status, json!({"error": "invalid_client"}));
            let outcome = world.manage(&operation, &client).await;
            assert_eq!(outcome, Err(Kind::ManagementLost), "{operation} {status}: {reason}");
            assert!(world.sent().iter().all(|sent| sent.url != TOKENS), "{reason}");
        }
    }
    let world = World::open(endpoint(REGISTER), None, |_| Json(401, json!({"error": "invalid_client"})));
    let outcome = world.manage(&Method::GET, &client()).await;
    assert_eq!(outcome, Err(Kind::ManagementLost), "without metadata there is no token endpoint");
}

#[tokio::test]
async fn the_witness_is_asked_with_form_encoded_credentials() {
    let odd = |method: &str| Client { client_id: "id/1:é&".into(), ..proving_itself_by(method) };
    let (id, password) = ("id%2F1%3A%C3%A9%26", "c4n4ry+secret%3A%2F%25%2B%C3%A9");
    let rows = [
        (
            odd("client_secret_basic"),
            Given::Basic(id.into(), password.into()),
            "grant_type=client_credentials".to_owned(),
            "RFC 6749 section 2.3.1: encoded before they are joined",
        ),
        (
            odd("client_secret_post"),
            Given::Nothing,
            format!("grant_type=client_credentials&client_id={id}&client_secret={password}"),
            "in the form",
        ),
        (
            Client { document: Document::new(), ..odd("") },
            Given::Basic(id.into(), password.into()),
            "grant_type=client_credentials".to_owned(),
            "client_secret_basic is the default (RFC 7591 section 2)",
        ),
    ];
    for (client, authorization, body, reason) in rows {
        let world = World::answering(401, json!({"error": "invalid_client"}));
        assert!(world.observe(&client).await.expect(reason).is_none(), "{reason}");
        let sent = world.last();
        let expected = Sent { method: Method::POST, url: TOKENS.into(), authorization, body: body.into() };
        assert_eq!(sent, expected, "{reason}");
    }
}

#[tokio::test]
async fn a_deregistration_ends_with_each_answer_that_means_gone() {
    let rows = [
        (Empty(204), Ok(()), "RFC 7592 section 2.3"),
        (Empty(200), Ok(()), "Glewlwyd"),
        (Raw(200, b"<html>bye</html>".to_vec()), Ok(()), "whatever it says"),
        (Empty(404), Ok(()), "deleted before"),
        (Empty(410), Ok(()), "deleted before"),
        (
            Empty(403),
            Err(Kind::Unavailable),
            "not allowed now; a firewall may answer so too, and a deletion has time",
        ),
        (Empty(405), Err(Kind::Unsupported), "Rauthy has no DELETE"),
        (Empty(501), Err(Kind::Unsupported), "not implemented"),
        (Empty(302), Err(Kind::Protocol), "never followed"),
        (Empty(307), Err(Kind::Protocol), "never followed"),
        (Empty(500), Err(Kind::Unavailable), "again later"),
        (Empty(409), Err(Kind::Unavailable), "again later, within the deletion's time"),
        (Interrupted, Err(Kind::Unavailable), "again: a second DELETE does no harm"),
        (NotSent, Err(Kind::Unavailable), "again"),
    ];
    for (reply, expected, reason) in rows {
        let world = World::always(reply);
        let outcome = world.deregister(&client()).await;
        assert_eq!(outcome.map_err(|error| error.kind), expected, "{reason}");
    }
}

#[tokio::test]
async fn replies_to_reads_and_updates_say_what_happens_next() {
    use Kind::{Protocol, Rejected, Unauthorized, Unavailable, Unsupported};
    let rows = [
        (Empty(500), Unavailable, Unavailable, "Canaille with a new authlib"),
        (Empty(503), Unavailable, Unavailable, "again later"),
        (Empty(408), Unavailable, Unavailable, "a timeout refuses nothing"),
        (Interrupted, Unavailable, Unavailable, "again: an update that is repeated does no harm"),
        (NotSent, Unavailable, Unavailable, "again"),
        (Empty(301), Protocol, Protocol, "never followed"),
        (Empty(307), Protocol, Protocol, "never followed"),
        (Empty(403), Unsupported, Unauthorized, "RFC 7592: not allowed, or not today"),
        (Empty(405), Unsupported, Unsupported, "RFC 7592: not supported"),
        (Empty(501), Unsupported, Unsupported, "not implemented"),
        (Json(400, json!({"error": "invalid_client_metadata"})), Unavailable, Rejected, "refused"),
        (Empty(409), Unavailable, Rejected, "an odd answer to one read is no reason to read no client again"),
        (Raw(200, b"<html>c4n4ry</html>".to_vec()), Protocol, Protocol, "no answer of this protocol"),
    ];
    for (reply, read, update, reason) in rows {
        for (operation, kind) in [(Method::GET, read), (Method::PUT, update)] {
            let world = World::always(reply.clone());
            let outcome = world.manage(&operation, &client()).await;
            assert_eq!(outcome, Err(kind), "{operation}: {reason}");
        }
    }
}
