//! Signing in, once for all; again when the session is over; and not again and again when that is refused.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use futures::future::join_all;
use http::HeaderMap;
use tokio::time::{Instant, advance};

use serde_json::json;

use super::*;
use crate::registry::{Retry, teable::sign_in::cookie};

const SIGN_IN: &str = "POST /api/auth/signin";
const LIST: &str = "GET /api/oauth/client";

async fn list(driver: &Teable) -> Result<usize, Error> {
    searched(driver.list().await).map(|list| list.len())
}

#[tokio::test(start_paused = true)]
async fn a_thousand_clients_sign_in_once() {
    let world = World::with(by_password(PASSWORD));
    let drivers: Vec<_> = (0..1000).map(|_| driver(&world.session, by_password(PASSWORD))).collect();
    let outcomes = join_all(drivers.iter().map(list)).await;
    assert!(outcomes.iter().all(Result::is_ok));
    assert_eq!((world.fake.count(SIGN_IN), world.fake.count(LIST)), (1, 1000));

    world.fake.at(Server::end_sessions);
    world.fake.forget_calls();
    let outcomes = join_all(drivers.iter().map(list)).await;
    assert!(outcomes.iter().all(Result::is_ok), "the server has forgotten its sessions");
    assert_eq!(world.fake.count(SIGN_IN), 1, "again, once");
    assert!(world.fake.count(LIST) <= 2000, "each asked twice at most");
    world.fake.assert_contract_held();
}

#[tokio::test(start_paused = true)]
async fn a_refused_session_is_renewed_also_for_what_is_sent_once() {
    let world = World::new().await;
    let client = world.register(least()).await;
    let path = format!("/api/oauth/client/{}", client.client_id);
    world.log.take();
    world.fake.at(Server::end_sessions);
    world.issue(&client).await.unwrap();
    let issue = format!("POST {path}/secret");
    assert_eq!(world.log.lines(), [issue.clone(), SIGN_IN.into(), issue], "a 401 says that nothing was done");
    assert_eq!(world.fake.at(|server| server.live_secrets(&client.client_id)), 1);

    world.fake.at(Server::end_sessions);
    world.driver.update(&client, &least(), &[]).await.unwrap();
    world.fake.at(Server::end_sessions);
    world.driver.deregister(&client).await.unwrap();
    world.fake.at(Server::end_sessions);
    assert_eq!(world.driver.prepare().await, Ok(()), "a ticket is not tried in vain");
}

#[tokio::test(start_paused = true)]
async fn a_session_is_used_for_a_bounded_time() {
    let rows = [
        (3600, 3599, 1),
        (3600, 3601, 2),
        (7 * 24 * 3600, 24 * 3600 - 1, 1),
        (7 * 24 * 3600, 24 * 3600 + 1, 2),
    ];
    for (life, later, sign_ins) in rows {
        let world = World::with(by_password(PASSWORD));
        world.fake.at(|server| server.session_life = Duration::from_secs(life));
        list(&world.driver).await.unwrap();
        advance(Duration::from_secs(later)).await;
        list(&world.driver).await.unwrap();
        let refused = world.fake.calls().iter().filter(|call| call.status == 401).count();
        assert_eq!((world.fake.count(SIGN_IN), refused), (sign_ins, 0), "{later} s of a session of {life} s");
    }
}

#[test]
fn a_cookie_is_read_as_browsers_read_it() {
    const DAY: u64 = 24 * 3600;
    let date = ("date", "Sat, 21 Nov 2026 12:00:00 GMT");
    let rows = [
        (
            vec![("set-cookie", "auth_session=s%3Aa.b%2F")],
            Some(("auth_session=s%3Aa.b%2F", DAY)),
            "for a session",
        ),
        (vec![("set-cookie", "auth_session=v; max-age=60; Path=/")], Some(("auth_session=v", 60)), "Max-Age"),
        (vec![("set-cookie", "auth_session=v; Max-Age=9999999")], Some(("auth_session=v", DAY)), "bounded"),
        (
            vec![date, ("set-cookie", "auth_session=v; Expires=Sat, 21 Nov 2026 12:05:00 GMT")],
            Some(("auth_session=v", 300)),
            "Expires, by the server's clock",
        ),
        (
            vec![date, ("set-cookie", "auth_session=v; Max-Age=60; Expires=Sat, 21 Nov 2026 12:05:00 GMT")],
            Some(("auth_session=v", 60)),
            "Max-Age goes before Expires (RFC 6265 section 4.1.2.2)",
        ),
        (
            vec![("set-cookie", "auth_session=v; Expires=tomorrow")],
            Some(("auth_session=v", DAY)),
            "what cannot be read bounds nothing",
        ),
        (vec![("set-cookie", "auth_session=v; Max-Age=0")], None, "over already"),
        (
            vec![date, ("set-cookie", "auth_session=v; Expires=Thu, 01 Jan 1970 00:00:00 GMT")],
            None,
            "removed",
        ),
        (vec![("set-cookie", "auth_session=; Path=/")], None, "empty"),
        (
            vec![("set-cookie", "balancer=a"), ("set-cookie", "auth_session=v")],
            Some(("auth_session=v", DAY)),
            "second",
        ),
        (vec![("set-cookie", "x-auth_session=v")], None, "another one"),
        (vec![], None, "none"),
    ];
    for (given, expected, reason) in rows {
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            headers.append(name, value.parse().unwrap());
        }
        let read = cookie(&headers);
        let read = read.as_ref().map(|(cookie, life)| (cookie.expose_secret(), life.as_secs()));
        assert_eq!(read, expected, "{reason}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_wrong_password_is_tried_less_and_less_often() {
    let world = World::with(by_password("CANARY-wrong"));
    world.fake.at(|server| server.lock_out_after(5, Duration::from_hours(1)));
    let drivers: Vec<_> = (0..100).map(|_| driver(&world.session, by_password("CANARY-wrong"))).collect();
    let tries = || world.fake.count(SIGN_IN);
    for outcome in join_all(drivers.iter().map(list)).await {
        let error = outcome.unwrap_err();
        assert_eq!((error.kind, error.kind.retry()), (Kind::Unauthorized, Retry::Slowly));
        assert!(error.summary.contains("e-mail address or password is wrong"), "{error}");
    }
    assert_eq!(tries(), 1, "for all");
    for (after, expected) in [(59, 1), (2, 2), (61, 2), (60, 3), (200, 3), (41, 4)] {
        advance(Duration::from_secs(after)).await;
        assert_eq!(list(&world.driver).await.unwrap_err().kind, Kind::Unauthorized);
        assert_eq!(tries(), expected, "after {after} s more");
    }
    world.session.keep_credentials(by_password(PASSWORD));
    assert!(
        list(&driver(&world.session, by_password(PASSWORD))).await.is_ok(),
        "other ones are tried at once"
    );
    assert!(list(&world.driver).await.is_ok(), "and a session is a session");
}

#[tokio::test(start_paused = true)]
async fn a_locked_account_is_left_alone() {
    let world = World::with(by_password("CANARY-wrong"));
    world.fake.at(|server| server.lock_out_after(1, Duration::from_mins(10)));
    assert_eq!(list(&world.driver).await.unwrap_err().kind, Kind::Unauthorized, "this locks it");
    let right = driver(&world.session, by_password(PASSWORD));
    let error = list(&right).await.unwrap_err();
    assert!(matches!(error.kind, Kind::Throttled(_)), "{error}");
    assert!(error.summary.contains("locked the account"), "{error}");
    advance(Duration::from_secs(40)).await;
    let tries = world.fake.count(SIGN_IN);
    let error = list(&right).await.unwrap_err();
    assert_eq!(error.kind, Kind::Throttled(Duration::from_secs(20)), "the rest of a minute");
    assert_eq!(world.fake.count(SIGN_IN), tries);
    advance(Duration::from_mins(15)).await;
    assert!(list(&right).await.is_ok(), "over");
}

#[tokio::test(start_paused = true)]
async fn a_sign_in_that_cannot_be_says_why() {
    let refused = |status: u16, code: &str| {
        Reply::json(status, &json!({"message": "No", "status": status, "code": code}))
    };
    let html = Reply { body: "<html>".into(), ..Reply::empty(404) };
    let rows = [
        (refused(400, "invalid_captcha"), Kind::Unauthorized, "demands a captcha", 1),
        (refused(400, "validation_error"), Kind::Unauthorized, "credentialsSecretRef", 1),
        (refused(403, "restricted_resource"), Kind::Unauthorized, "credentialsSecretRef", 1),
        (html, Kind::Protocol, "check the url", 1),
        (Reply::empty(302), Kind::Protocol, "redirect", 1),
        (Reply::json(200, &json!({})), Kind::Protocol, "no cookie auth_session", 1),
        (refused(500, "internal_server_error"), Kind::Unavailable, "500", 2),
    ];
    for (reply, kind, says, tries) in rows {
        let log = Log::default();
        let noting = log.clone();
        let session = session_answering(&spec("Password"), move |request| {
            noting.note(request);
            Some(reply.clone())
        });
        let driver = driver(&session, by_password(PASSWORD));
        let error = searched(driver.prepare().await).unwrap_err();
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.summary.contains(says), "{says}: {error}");
        assert_eq!(
            searched(driver.register(&wanted(least(), "n1")).await).unwrap_err().kind,
            kind,
            "not unknown"
        );
        assert_eq!(log.lines(), vec![SIGN_IN; tries], "{says}: what says nothing is tried again");
    }
    let world = World::at(Switch::Captcha).await;
    world.fake.at(Server::end_sessions);
    let error = list(&world.driver).await.unwrap_err();
    assert!(error.kind == Kind::Unauthorized && error.summary.contains("captcha"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_sign_in_without_an_answer_is_tried_again() {
    let world = World::with(by_password(PASSWORD));
    world.fake.disturb(SIGN_IN, Fault::ReplyLost);
    assert_eq!(
        searched(world.driver.prepare().await).unwrap_err().kind,
        Kind::Unavailable,
        "a session more is no harm"
    );
    assert_eq!(world.driver.prepare().await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn sessions_that_are_never_accepted_are_not_made_by_the_hundred() {
    for fresh in [true, false] {
        let made = Arc::new(AtomicUsize::new(0));
        let counting = made.clone();
        let session = session_answering(&spec("Password"), move |request| {
            Some(if request.path == "/api/auth/signin" {
                let number = counting.fetch_add(1, Ordering::Relaxed);
                let number = if fresh { number } else { 0 };
                Reply::json(200, &json!({})).with("set-cookie", format!("auth_session=CANARY-{number}"))
            } else {
                Reply::json(401, &json!({"message": "No", "status": 401, "code": "unauthorized"}))
            })
        });
        let drivers: Vec<_> = (0..100).map(|_| driver(&session, by_password(PASSWORD))).collect();
        for outcome in join_all(drivers.iter().map(list)).await {
            assert_eq!(outcome.unwrap_err().kind, Kind::Unauthorized);
        }
        let sign_ins = made.load(Ordering::Relaxed);
        assert_eq!(sign_ins, 2, "another cookie each time: {fresh}");
    }
}

#[tokio::test(start_paused = true)]
async fn our_own_pace_is_no_refusal() {
    let mut slow = spec("Password");
    slow.rate_limit = Some(crate::api::RateLimit { requests_per_second: 1, burst: 1 });
    let fake = Fake::new(Server::new());
    let answering = fake.clone();
    let session = session_answering(&slow, move |request| answering.exchange(request));
    let driver = driver(&session, by_password(PASSWORD));
    let began = Instant::now();
    assert_eq!(list(&driver).await, Ok(0));
    assert!(began.elapsed() >= Duration::from_millis(900), "a sign-in counts like any request");

    fake.at(Server::end_sessions);
    driver.prepare().await.unwrap();
    let began = Instant::now();
    driver.register(&wanted(least(), "n1")).await.unwrap();
    assert!(began.elapsed() >= Duration::from_millis(1900), "so do a sign-in and a registration after a 401");
}

#[tokio::test(start_paused = true)]
async fn a_session_of_other_credentials_is_not_kept() {
    let world = World::new().await;
    world.fake.at(|server| server.add_user("other@example.com", PASSWORD, "teable_CANARY-other"));
    world.session.keep_credentials(by_password(PASSWORD));
    let other = Credentials::Password { user: "other@example.com".into(), password: PASSWORD.into() };
    world.session.keep_credentials(other.clone());
    assert!(world.session.learned().ticket.is_none(), "another account, though with the same password");
    world.driver.prepare().await.unwrap();
    assert!(world.session.learned().ticket.is_none(), "a pass with the old ones leaves nothing behind");
    driver(&world.session, other).prepare().await.unwrap();
    assert!(world.session.learned().ticket.is_some());
}
