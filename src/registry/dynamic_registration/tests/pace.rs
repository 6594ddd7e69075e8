use super::*;

const WINDOW: Duration = Duration::from_secs(30);

fn throttled(outcome: Result<impl Debug, Error>) -> Duration {
    match outcome.expect_err("throttled").kind {
        Kind::Throttled(wait) => wait,
        kind => panic!("{kind:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_429_no_request_leaves_until_its_window_ends() {
    let rows = [
        (Some("40"), Duration::from_secs(40), "Retry-After in seconds"),
        (None, WINDOW, "none: a pause of our own"),
        (Some("Sun, 06 Nov 1994 08:49:37 GMT"), WINDOW, "a date that is past likewise"),
        (Some("999999999"), Duration::from_hours(24), "bounded"),
    ];
    for (header, window, reason) in rows {
        let world = World::always(header.map_or(Empty(429), |header| Later(429, header)));
        world.prepare().await.unwrap();
        assert_eq!(throttled(world.register(&named("x")).await), window, "{reason}");
        world.sent();
        tokio::time::advance(window / 2).await;
        for operation in [Method::GET, Method::PUT, Method::DELETE] {
            let outcome = world.manage(&operation, &client()).await;
            assert_eq!(outcome, Err(Kind::Throttled(window / 2)), "{operation}: {reason}");
        }
        assert_eq!(throttled(world.prepare().await), window / 2, "{reason}");
        assert_eq!(throttled(world.register(&named("x")).await), window / 2, "a turn from before: {reason}");
        assert_eq!(world.urls(), [""; 0], "{reason}");
        tokio::time::advance(window / 2).await;
        assert_eq!(throttled(world.register(&named("x")).await), window, "asked again after it: {reason}");
        assert_eq!(world.last().method, Method::POST, "{reason}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_short_window_is_slept_by_a_turn_that_was_taken_before_it() {
    let world = World::new(|sent| match sent.method {
        Method::GET => Later(429, "1"),
        _ => Json(201, information(&json!({}))),
    });
    world.prepare().await.unwrap();
    throttled(world.observe(&client()).await);
    let began = Instant::now();
    world.register(&named("x")).await.unwrap();
    assert!(began.elapsed() >= Duration::from_secs(1), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_503_closes_the_lane_only_if_it_says_for_how_long() {
    let world = World::always(Later(503, "30"));
    assert_eq!(world.observe(&client()).await.unwrap_err().kind, Kind::Unavailable);
    world.sent();
    assert_eq!(throttled(world.observe(&client()).await), WINDOW);
    assert_eq!(world.urls(), [""; 0]);
    let world = World::always(Empty(503));
    for _ in 0..2 {
        assert_eq!(world.observe(&client()).await.unwrap_err().kind, Kind::Unavailable);
    }
    assert_eq!(world.urls().len(), 2, "backoff is the object's own");
}

#[tokio::test(start_paused = true)]
async fn a_registry_that_asks_for_patience_has_not_failed() {
    let world = World::always(Later(429, "1"));
    for _ in 0..20 {
        throttled(world.observe(&client()).await);
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    assert_eq!(world.urls().len(), 20, "429 is an answer: the breaker stays closed");

    let world = World::always(Empty(500));
    for _ in 0..20 {
        drop(world.observe(&client()).await);
    }
    assert_eq!(world.urls().len(), 5, "5xx is none: the breaker opens after five");
}

#[tokio::test(start_paused = true)]
async fn the_breakers_one_trial_is_not_spent_on_a_request_that_may_not_go() {
    let world = World::always(Later(503, "25"));
    for _ in 0..5 {
        assert_eq!(world.observe(&client()).await.unwrap_err().kind, Kind::Unavailable);
        tokio::time::advance(Duration::from_secs(25)).await;
    }
    assert_eq!(world.observe(&client()).await.unwrap_err().kind, Kind::Unavailable, "the trial");
    world.sent();
    // It closes the breaker for 10 seconds and the lane for 25, in which others keep asking.
    for _ in 0..22 {
        throttled(world.observe(&client()).await);
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    assert_eq!(world.urls(), [""; 0]);
    tokio::time::advance(Duration::from_secs(3)).await;
    assert_eq!(world.observe(&client()).await.unwrap_err().kind, Kind::Unavailable, "the next trial");
}

#[tokio::test(start_paused = true)]
async fn waits_for_our_own_rate_are_slept() {
    let rate = |requests_per_second, burst| Some(RateLimit { requests_per_second, burst });
    let world = World::open(endpoint(REGISTER), rate(1, 1), |_| Json(200, information(&json!({}))));
    let began = Instant::now();
    for _ in 0..3 {
        world.observe(&client()).await.unwrap();
    }
    assert!(began.elapsed() >= Duration::from_secs(2), "one a second: {:?}", began.elapsed());
    assert_eq!(world.urls().len(), 3);
}
