//! Client secrets: several at once, masked later.

use serde_json::json;

use super::*;

#[tokio::test(start_paused = true)]
async fn a_new_secret_works_beside_the_old_one_until_that_is_revoked() {
    let world = World::new().await;
    let client = world.register(least()).await;
    let (old, new) = (world.issue(&client).await.unwrap(), world.issue(&client).await.unwrap());
    let works = |issued: &IssuedSecret| {
        let secret = issued.secret.expose_secret();
        world.fake.at(|server| server.authenticates(&client.client_id, secret))
    };
    assert_eq!((works(&old), works(&new)), (true, true), "both");

    let shown = world.read(&client).await.secrets.unwrap();
    let ids: Vec<_> = shown.iter().map(|secret| Some(secret.id.clone())).collect();
    assert_eq!(ids, [new.id.clone(), old.id.clone()], "newest first");
    for (shown, issued) in shown.iter().zip([&new, &old]) {
        assert_eq!(Some(&shown.tail), issued.hint.as_ref(), "the hint is what is shown later");
        assert!(issued.secret.expose_secret().ends_with(&shown.tail));
        assert_eq!(shown.tail.len(), 10);
    }

    world.log.take();
    let id = old.id.clone().unwrap();
    world.driver.revoke_secret(&client, &id).await.unwrap();
    assert_eq!((works(&old), works(&new)), (false, true));
    world.driver.revoke_secret(&client, &id).await.expect("gone already is as good");
    let path = format!("/api/oauth/client/{}", client.client_id);
    let delete = format!("DELETE {path}/secret/{id}");
    assert_eq!(world.log.lines(), [delete.clone(), delete, format!("GET {path}")], "a 500 is looked into");
    world.fake.assert_contract_held();
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_a_registration_shows_is_taken() {
    let world = World::at(Switch::SecretOnCreate).await;
    let client = world.register(least()).await;
    let issued = secret(&client).expect("a secret").to_owned();
    assert!(world.fake.at(|server| server.authenticates(&client.client_id, &issued)));
    let listed = world.read(&client).await.secrets.unwrap();
    assert_eq!(client.secret_id.as_ref(), Some(&listed[0].id));
    assert_eq!(client.secret_hint.as_ref(), Some(&listed[0].tail));

    let masked = told(&json!({"secrets": [{"id": "sec1", "secret": "******0123456789"}]}));
    let driver = answering(move |_| Reply::json(201, &masked));
    let client = driver.register(&wanted(least(), "n1")).await.unwrap();
    assert_eq!((secret(&client), &client.secret_id), (None, &None), "a mask is no secret");
}

#[tokio::test(start_paused = true)]
async fn secrets_that_others_made_show() {
    let world = World::new().await;
    let client = world.register(least()).await;
    let by_hand = world.fake.at(|server| server.add_secret(&client.client_id));
    let shown = world.read(&client).await.secrets.unwrap();
    assert_eq!((shown.len(), &shown[0].id), (1, &by_hand.id));
}

#[tokio::test(start_paused = true)]
async fn a_client_without_a_row_has_no_secrets_to_issue_or_revoke() {
    for switch in [None, Some(Switch::UnknownIsNotFound)] {
        let world = World::new().await;
        if let Some(switch) = switch {
            world.fake.at(|server| server.switches.insert(switch));
        }
        let gone = Client::named("clt0000000000000000", Management::Registry);
        let error = world.issue(&gone).await.unwrap_err();
        assert_eq!(error.kind, Kind::Unavailable, "nothing happened, for certain: {switch:?}");
        assert!(error.summary.contains("does not exist there any more"), "{error}");
        world.driver.revoke_secret(&gone, "sec0").await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_nobody_saw_is_unknown_and_not_asked_for_again() {
    let world = World::new().await;
    let client = world.register(least()).await;
    world.fake.forget_calls();
    let issue = "POST /api/oauth/client/{clientId}/secret";
    world.fake.disturb(issue, Fault::ReplyLost);
    assert_eq!(world.issue(&client).await.unwrap_err().kind, Kind::Ambiguous, "lost");
    world.fake.disturb(issue, Fault::Answered(502));
    assert_eq!(world.issue(&client).await.unwrap_err().kind, Kind::Ambiguous, "a gateway knows nothing");
    assert_eq!(
        (world.fake.count(issue), world.fake.at(|server| server.live_secrets(&client.client_id))),
        (2, 1)
    );
    let body = json!({"id": "sec1", "secret": ""});
    let broken = answering(move |_| Reply::json(201, &body));
    assert_eq!(broken.issue_secret(&super::client()).await.unwrap_err().kind, Kind::Ambiguous, "unreadable");
}
