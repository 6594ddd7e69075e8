//! What is sent, and what becomes of what is shown.

use serde_json::json;

use super::*;

const WHOLE: &str = "PUT /api/oauth/client/clt1";

/// What the driver sends for a client with this document, and this mark.
async fn replacement(document: Value, mark: Option<&str>, wanted: ClientMetadata, reset: &[Field]) -> Value {
    let log = Log::default();
    let noting = log.clone();
    let session = session_answering(&spec("Bearer"), move |request| {
        noting.note(request);
        Some(Reply::json(200, &told(&json!({}))))
    });
    let Value::Object(document) = document else { panic!("a document") };
    let client = Client { document, mark: mark.and_then(ShownMark::read), ..client() };
    driver(&session, by_token()).update(&client, &wanted, reset).await.unwrap();
    let (line, body) = log.take().pop().unwrap();
    assert_eq!(line, WHOLE);
    body
}

#[tokio::test(start_paused = true)]
async fn a_registration_says_what_is_declared_and_whose_it_is() {
    let world = World::new().await;
    let all = but(
        least(),
        [
            (Field::AllowDeviceFlow, json!(true)),
            (Field::DefaultRedirectUri, json!("https://app.example/b")),
            (Field::Description, json!("Books\nrooms")),
            (Field::LogoUri, json!("https://app.example/logo.png")),
            (Field::RedirectUris, json!(["https://app.example/a", "https://app.example/b"])),
            (Field::Scopes, json!(["table|read", "view|read"])),
        ],
    );
    let rows = [
        (
            least(),
            json!({"name": "App", "homepage": "https://app.example", "redirectUris": [REDIRECT], "description": MARK}),
            "the least",
        ),
        (
            all,
            json!({
                "name": "App", "homepage": "https://app.example", "allowDeviceFlow": true,
                "redirectUris": ["https://app.example/b", "https://app.example/a"],
                "description": format!("Books\nrooms\n{MARK}"), "logo": "https://app.example/logo.png",
                "scopes": ["table|read", "view|read"],
            }),
            "everything: the default redirect URI comes first, the mark last",
        ),
    ];
    for (metadata, body, reason) in rows {
        world.register(metadata).await;
        assert_eq!(world.log.last_body(), body, "{reason}");
    }
    world.fake.assert_contract_held();
}

#[tokio::test(start_paused = true)]
async fn an_update_repeats_everything_that_would_be_lost() {
    let shown = json!({
        "client_name": "Shown", "client_uri": "https://shown.example", "redirect_uris": ["https://shown.example/cb"],
        "scope": ["table|read"], "logo_uri": "https://shown.example/logo", "teable.description": "Shown",
        "teable.allowDeviceFlow": true,
    });
    let sent = |members: Value| {
        let mut body = json!({
            "name": "App", "homepage": "https://app.example", "redirectUris": [REDIRECT], "scopes": ["table|read"],
            "logo": "https://shown.example/logo", "description": format!("Shown\n{MARK}"), "allowDeviceFlow": true,
        });
        body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        body
    };
    let rows = [
        (least(), vec![], sent(json!({})), "what is not declared stays, scopes above all"),
        (
            but(least(), [(Field::Scopes, json!([]))]),
            vec![],
            sent(json!({"scopes": []})),
            "declared to be none",
        ),
        (
            but(least(), [(Field::Description, json!("")), (Field::LogoUri, json!(""))]),
            vec![],
            sent(json!({"description": MARK, "logo": ""})),
            "an empty string clears; null would be refused",
        ),
        (
            least(),
            vec![Field::Scopes, Field::LogoUri, Field::Description, Field::AllowDeviceFlow],
            sent(json!({"scopes": [], "logo": "", "description": MARK, "allowDeviceFlow": false})),
            "what left the spec is as at a new client",
        ),
        (
            but(least(), [(Field::Description, json!(format!("a\n{MARK}\n")))]),
            vec![],
            sent(json!({"description": format!("a\n{MARK}\n\n{MARK}")})),
            "what is declared is sent as it is, even if it looks like a mark",
        ),
    ];
    for (wanted, reset, body, reason) in rows {
        assert_eq!(replacement(shown.clone(), Some(MARK), wanted, &reset).await, body, "{reason}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_update_needs_nothing_that_was_shown() {
    let bare = json!({
        "name": "App", "homepage": "https://app.example", "redirectUris": [REDIRECT], "scopes": [], "logo": "",
        "description": "",
    });
    assert_eq!(
        replacement(json!({}), None, least(), &[]).await,
        bare,
        "a client of which only the id is known"
    );
    let nulls =
        json!({"scope": null, "logo_uri": null, "teable.description": null, "teable.allowDeviceFlow": false});
    assert_eq!(
        replacement(nulls, None, least(), &[]).await,
        bare,
        "nor that servers of 2025 know a device flow"
    );
    let written = json!({"teable.description": format!("Ours\n{MARK}\nAsk Ann about it")});
    assert_eq!(
        replacement(written, Some(MARK), least(), &[]).await["description"],
        format!("Ours\nAsk Ann about it\n{MARK}"),
        "words that somebody wrote behind the mark stay, and the mark comes last again"
    );
}

#[tokio::test(start_paused = true)]
async fn the_mark_is_the_last_line_and_no_part_of_what_is_declared() {
    let rows = [
        (MARK.to_owned(), json!(null), true, "nothing else"),
        (format!("Ours\n{MARK}"), json!("Ours"), true, "behind one line"),
        (format!("Ours\n\n{MARK}"), json!("Ours\n"), true, "an empty line is declared too"),
        (format!("Ours\n{MARK} "), json!("Ours"), true, "a form may add blanks"),
        (format!("{MARK}x\n{MARK}"), json!(format!("{MARK}x")), true, "what stands before is anybody's"),
        (format!("{MARK}\nmore"), json!(format!("{MARK}\nmore")), false, "not last: edited by somebody"),
        (format!("Ours {MARK}"), json!(format!("Ours {MARK}")), false, "not a line of its own"),
        (String::new(), json!(null), false, "cleared by somebody"),
    ];
    for (description, declared, marked, reason) in rows {
        let body = told(&json!({"description": description}));
        let read = answering(move |_| Reply::json(200, &body)).observe(&client()).await.unwrap().unwrap();
        assert_eq!(*shown(&read, Field::Description), declared, "{reason}");
        assert_eq!(read.mark, ShownMark::read(MARK).filter(|_| marked), "{reason}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_mark_that_somebody_took_away_comes_back() {
    let world = World::new().await;
    let ours = world.register(least()).await;
    world.fake.at(|server| server.edit(&ours.client_id, |client| client.description = None));
    let edited = world.read(&ours).await;
    assert_eq!(edited.mark, None);
    let known = Client { mark: ours.mark.clone(), ..edited };
    let updated = world.driver.update(&known, &least(), &[]).await.unwrap().unwrap();
    assert_eq!(updated.mark, ours.mark);
    assert_eq!(world.read(&ours).await.mark, ours.mark);
}

#[tokio::test(start_paused = true)]
async fn what_was_declared_is_shown_and_compares_equal() {
    let rows = [
        (least(), vec![], "the least"),
        (
            but(least(), [(Field::LogoUri, json!("")), (Field::Scopes, json!([]))]),
            vec![],
            "declared to be empty",
        ),
        (
            but(least(), [(Field::RedirectUris, json!(["https://app.example/b", "https://app.example/a"]))]),
            vec![],
            "two redirect URIs",
        ),
        (
            but(least(), [(Field::AllowDeviceFlow, json!(false))]),
            vec![],
            "a server that has none does not do it",
        ),
        (
            but(least(), [(Field::AllowDeviceFlow, json!(true))]),
            vec![Field::AllowDeviceFlow],
            "a server of 2025 drops it, which must show",
        ),
    ];
    for (metadata, differing, reason) in rows {
        let world = World::new().await;
        let client = world.register(metadata.clone()).await;
        let normal = world.driver.normalised(metadata);
        assert_eq!(normal.differing(&world.read(&client).await.document), differing, "{reason}");
        let updated = world.driver.update(&client, &normal, &[]).await.unwrap().unwrap();
        assert_eq!(normal.differing(&updated.document), differing, "after an update: {reason}");
        world.fake.assert_contract_held();
    }
}

#[tokio::test(start_paused = true)]
async fn the_device_flow_is_switched_on_and_off_where_the_server_knows_it() {
    let world = World::at(Switch::DeviceFlow).await;
    let client = world.register(but(least(), [(Field::AllowDeviceFlow, json!(true))])).await;
    assert_eq!(*shown(&client, Field::AllowDeviceFlow), json!(true));
    let kept = world.driver.update(&client, &least(), &[]).await.unwrap().unwrap();
    assert_eq!(*shown(&kept, Field::AllowDeviceFlow), json!(true), "not managed any more");
    let reset = world.driver.update(&kept, &least(), &[Field::AllowDeviceFlow]).await.unwrap().unwrap();
    assert_eq!(*shown(&reset, Field::AllowDeviceFlow), json!(false), "as at a new client");
    world.fake.assert_contract_held();
}

#[tokio::test(start_paused = true)]
async fn the_first_redirect_uri_is_the_default_and_changes_by_others_show() {
    let world = World::new().await;
    let (a, b) = ("https://app.example/a", "https://app.example/b");
    let metadata = world.driver.normalised(but(least(), [(Field::RedirectUris, json!([a, b]))]));
    assert_eq!(metadata.get(Field::DefaultRedirectUri), Some(&json!(a)));
    let client = world.register(metadata.clone()).await;
    world.fake.at(|server| server.edit(&client.client_id, |client| client.redirect_uris.reverse()));
    let read = world.read(&client).await;
    assert_eq!(
        metadata.differing(&read.document),
        [Field::DefaultRedirectUri],
        "the same set, another first one"
    );
    world.driver.update(&read, &metadata, &[]).await.unwrap();
    let uris = world.fake.at(|server| server.client(&client.client_id)).unwrap().redirect_uris;
    assert_eq!(uris, [a, b], "put right");
    let other = but(metadata, [(Field::DefaultRedirectUri, json!(b))]);
    world.driver.update(&read, &other, &[]).await.unwrap();
    let uris = world.fake.at(|server| server.client(&client.client_id)).unwrap().redirect_uris;
    assert_eq!(uris, [b, a], "the declared one first, the others as declared");
}

#[test]
fn what_no_user_declared_is_not_made_up() {
    let driver = answering(|_| Reply::empty(500));
    let empty = declared([(Field::RedirectUris, json!([]))]);
    assert_eq!(driver.normalised(empty.clone()), empty, "no redirect URI, no default");
    let both = but(least(), [(Field::DefaultRedirectUri, json!("https://app.example/b"))]);
    assert_eq!(driver.normalised(both.clone()), both, "declared");
}
