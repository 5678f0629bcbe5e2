//! The edge API as filters meet it.

use axum::{
    body::Body,
    http::{Request, StatusCode},
};
use edge_protocol::{
    ChangeKind, ChangesAnswer, Event, EventBatch, EventKind, KeyEnvironment, Position, UsageCount,
    UsageMethod, UsageOutcome, Verdict, VerifyAnswer,
};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;
use tower::ServiceExt;

use crate::{
    audit::Actor,
    config::TestKeys,
    http::Trusted,
    keys::{new_key::NewKeyRequest, revoke::revoke},
    store::RevokeGuard,
    testing::{Answer, EDGE_TOKEN, TestService, request, send},
};

fn call(method: &str, path: &str, token: Option<&str>, body: String) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path);
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    request.body(Body::from(body)).expect("a request")
}

async fn post(it: &TestService, path: &str, body: impl Into<String>) -> Answer {
    let answer = send(&it.edge, call("POST", path, Some(EDGE_TOKEN), body.into())).await;
    assert_eq!(answer.header("x-keygate-edge"), Some("1"));
    answer
}

async fn verify(it: &TestService, key: &str) -> VerifyAnswer {
    let answer = post(it, "/edge/v1/verify", serde_json::json!({"key": key}).to_string()).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    serde_json::from_slice(&answer.body).expect("an answer")
}

async fn changes(it: &TestService, query: &str) -> ChangesAnswer {
    let path = format!("/edge/v1/changes{query}");
    let answer = send(&it.edge, call("GET", &path, Some(EDGE_TOKEN), String::new())).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(answer.header("x-keygate-edge"), Some("1"));
    serde_json::from_slice(&answer.body).expect("an answer")
}

async fn end(it: &TestService, key: &crate::keys::Key) {
    let by = Actor::CommandLine;
    let guard = RevokeGuard::Unconditional;
    revoke(&*it.service.store, &*it.service.clock, key.key_id, None, guard, &by)
        .await
        .expect("revoked");
}

#[tokio::test]
async fn nobody_is_let_in_without_the_token_and_every_answer_is_stamped() {
    let it = TestService::start().await;
    let paths = [
        ("POST", "/edge/v1/verify"),
        ("GET", "/edge/v1/changes"),
        ("POST", "/edge/v1/events"),
        ("POST", "/edge/v1/leases"),
        ("GET", "/x"),
    ];
    for (method, path) in paths {
        for token in [None, Some(""), Some("wrong"), Some(&EDGE_TOKEN[1..])] {
            let answer = send(&it.edge, call(method, path, token, String::new())).await;
            assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
            assert_eq!(answer.header("x-keygate-edge"), Some("1"));
            assert_eq!(answer.json()["code"], "wrong_token");
        }
    }
    let mut twice = call("GET", "/edge/v1/changes", Some(EDGE_TOKEN), String::new());
    twice
        .headers_mut()
        .append("authorization", format!("Bearer {EDGE_TOKEN}").parse().expect("a value"));
    assert_eq!(send(&it.edge, twice).await.status, StatusCode::UNAUTHORIZED);

    for (method, path, status) in [
        ("GET", "/x", StatusCode::NOT_FOUND),
        ("PUT", "/edge/v1/verify", StatusCode::METHOD_NOT_ALLOWED),
        ("POST", "/edge/v1/verify", StatusCode::BAD_REQUEST),
    ] {
        let answer = send(&it.edge, call(method, path, Some(EDGE_TOKEN), String::new())).await;
        assert_eq!(answer.status, status);
        assert_eq!(answer.header("x-keygate-edge"), Some("1"));
        assert!(answer.json()["detail"].is_string());
    }
}

#[tokio::test]
async fn an_envoy_learns_without_a_token_whether_to_call_here() {
    let it = TestService::start().await;
    let ready = async || send(&it.edge, call("GET", "/readyz", None, String::new())).await;
    let answer = ready().await;
    assert_eq!((answer.status, &*answer.body), (StatusCode::OK, b"ready\n".as_slice()));
    assert_eq!(answer.header("x-keygate-edge"), Some("1"));
    let posted = send(&it.edge, call("POST", "/readyz", None, String::new())).await;
    assert_eq!(posted.status, StatusCode::METHOD_NOT_ALLOWED);
    it.service.stop.cancel();
    assert_eq!(ready().await.status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn a_known_key_is_answered_with_its_record_whatever_its_state() {
    let it = TestService::start().await;
    let asked = NewKeyRequest {
        owner: Some("Team A".to_owned()),
        allowed_ips: Some(vec!["10.0.0.0/8".to_owned()]),
        expires_at: Some("2026-11-25T12:00:05Z".to_owned()),
        ..request("a")
    };
    let (key, text) = it.issue(asked).await;
    let answer = verify(&it, &text).await;
    assert_eq!(answer.as_of, it.service.store.position().await.expect("read"));
    assert_eq!(answer.verdict, Verdict::Known { record: key.record() });
    assert_eq!(key.record().expires_at_ms, Some(1_795_608_005_000));

    it.clock.advance_ms(10_000);
    end(&it, &key).await;
    let Verdict::Known { record } = verify(&it, &text).await.verdict else { panic!("unknown") };
    assert!(!record.is_active);
    for unknown in ["", "x", &text[1..], &"x".repeat(1000), "\u{0}é"] {
        assert_eq!(verify(&it, unknown).await.verdict, Verdict::Unknown);
    }
}

#[tokio::test]
async fn a_use_of_a_key_is_noted() {
    let it = TestService::start().await;
    let (key, text) = it.issue(request("a")).await;
    verify(&it, &text).await;
    it.service.last_used.flush(&*it.service.store).await.expect("written");
    let key = it.service.store.key(key.key_id).await.expect("read").expect("there");
    assert_eq!(key.last_used_at, Some(crate::testing::at(crate::testing::START)));
}

#[tokio::test]
async fn a_test_key_where_these_are_off_is_unknown_and_a_violation() {
    let it = TestService::start_with(TestKeys::Off).await;
    let asked = NewKeyRequest { environment: KeyEnvironment::Test, ..request("a") };
    let (_, text) = it.issue(asked).await;
    assert_eq!(verify(&it, &text).await.verdict, Verdict::Unknown);
    let audit = it.audit().await;
    let (event, details) = audit.last().expect("an entry");
    assert_eq!(
        (event.as_str(), details.as_str()),
        ("SECURITY_VIOLATION", "reason=test_key_while_disabled by=edge")
    );
}

#[tokio::test]
async fn a_database_that_is_gone_is_a_503_that_says_when_to_come_back() {
    let it = TestService::start().await;
    let (_, text) = it.issue(request("a")).await;
    it.service.store.close().await;
    let body = serde_json::json!({"key": text}).to_string();
    let answer = post(&it, "/edge/v1/verify", body).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(answer.json()["code"], "database_unavailable");
}

#[tokio::test]
async fn the_first_poll_says_where_the_feed_stands_at_once() {
    let it = TestService::start().await;
    it.issue(request("a")).await;
    let started = Instant::now();
    let answer = changes(&it, "?wait_ms=20000").await;
    assert!(answer.reset && answer.changes.is_empty());
    assert_eq!(answer.position.sequence, 1);
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_poll_tells_what_followed_its_position() {
    let it = TestService::start().await;
    let Position { epoch, sequence } = changes(&it, "").await.position;
    let (key, _) = it.issue(request("a")).await;
    end(&it, &key).await;
    let answer = changes(&it, &format!("?epoch={epoch}&since={sequence}&wait_ms=20000")).await;
    assert!(!answer.reset);
    assert_eq!(answer.position, Position { epoch: epoch.clone(), sequence: 2 });
    let told: Vec<_> =
        answer.changes.iter().map(|it| (it.sequence, it.kind, it.key_id.clone())).collect();
    let id = key.key_id.to_string();
    assert_eq!(told, [(1, ChangeKind::Created, id.clone()), (2, ChangeKind::Revoked, id)]);

    // Another epoch, or a place that has never been: all over again.
    for query in [
        "?epoch=ffff&since=1".to_owned(),
        format!("?epoch={epoch}&since=3"),
        format!("?epoch={epoch}&since=99999999999999999999"),
    ] {
        let path = format!("/edge/v1/changes{query}");
        let answer = send(&it.edge, call("GET", &path, Some(EDGE_TOKEN), String::new())).await;
        if answer.status == StatusCode::OK {
            let answer: ChangesAnswer = serde_json::from_slice(&answer.body).expect("an answer");
            assert!(answer.reset && answer.changes.is_empty());
            assert_eq!(answer.position.sequence, 2);
        } else {
            assert_eq!(answer.status, StatusCode::BAD_REQUEST);
        }
    }
}

#[tokio::test]
async fn a_poll_without_news_waits_as_long_as_it_was_told() {
    let it = TestService::start().await;
    let Position { epoch, .. } = changes(&it, "").await.position;
    let started = Instant::now();
    let answer = changes(&it, &format!("?epoch={epoch}&since=0&wait_ms=150")).await;
    assert!(started.elapsed() >= Duration::from_millis(150));
    assert!(!answer.reset && answer.changes.is_empty());
    assert_eq!(answer.position, Position { epoch, sequence: 0 });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiting_poll_is_answered_as_soon_as_a_change_is_committed() {
    let it = Arc::new(TestService::start().await);
    let (key, _) = it.issue(request("a")).await;
    let Position { epoch, sequence } = changes(&it, "").await.position;
    let mut polls = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let (it, epoch) = (Arc::clone(&it), epoch.clone());
        polls.spawn(async move {
            let answer =
                changes(&it, &format!("?epoch={epoch}&since={sequence}&wait_ms=20000")).await;
            (answer, Instant::now())
        });
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    end(&it, &key).await;
    let committed = Instant::now();
    while let Some(poll) = polls.join_next().await {
        let (answer, at) = poll.expect("no panic");
        assert_eq!(answer.changes.len(), 1);
        assert_eq!(answer.changes[0].kind, ChangeKind::Revoked);
        let late = at.saturating_duration_since(committed);
        assert!(late < Duration::from_millis(500), "{late:?} on a machine that may be busy");
    }
}

#[tokio::test]
async fn waiting_polls_are_answered_when_the_service_ends() {
    let it = Arc::new(TestService::start().await);
    let Position { epoch, .. } = changes(&it, "").await.position;
    let polling = Arc::clone(&it);
    let mut polls = tokio::task::JoinSet::new();
    polls.spawn(async move {
        changes(&polling, &format!("?epoch={epoch}&since=0&wait_ms=20000")).await
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    it.service.stop.cancel();
    let answer = tokio::time::timeout(Duration::from_secs(2), polls.join_next()).await;
    assert!(answer.expect("in time").expect("a poll").expect("no panic").changes.is_empty());
}

fn event(kind: EventKind) -> Event {
    Event {
        at_ms: 1_795_608_000_123,
        kind,
        key_hash: Some("0123456789abcdef".to_owned()),
        key_id: None,
        client_ip: Some("192.0.2.1".parse().expect("an address")),
        details: "reason=unknown method=GET path=/".to_owned(),
        shadow: false,
    }
}

fn batch(number: u64, events: Vec<Event>) -> EventBatch {
    EventBatch {
        source: "0123456789abcdef0123456789abcdef".to_owned(),
        batch: number,
        events,
        usage: Vec::new(),
    }
}

async fn deliver(it: &TestService, batch: &EventBatch) -> Answer {
    post(it, "/edge/v1/events", serde_json::to_string(batch).expect("JSON")).await
}

#[tokio::test]
async fn a_batch_is_acknowledged_each_time_and_stored_once() {
    let it = TestService::start().await;
    let first = batch(1, vec![event(EventKind::InvalidKey), event(EventKind::RateLimited)]);
    for _ in 0..3 {
        let answer = deliver(&it, &first).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(answer.json(), serde_json::json!({"batch": 1}));
    }
    assert_eq!(deliver(&it, &batch(2, vec![event(EventKind::IpDenied)])).await.json()["batch"], 2);
    let events: Vec<_> = it.audit().await.into_iter().map(|(event, _)| event).collect();
    assert_eq!(events, ["INVALID_KEY", "RATE_LIMITED", "IP_DENIED"]);
}

fn used(key: &crate::keys::Key, outcome: UsageOutcome, time: &str, count: u32) -> UsageCount {
    let minute_ms = crate::clock::unix_ms(crate::testing::at(time));
    let key_id = key.key_id.to_string();
    UsageCount { key_id, minute_ms, method: UsageMethod::Get, outcome, count }
}

#[tokio::test]
async fn usage_comes_with_a_batch_is_counted_once_and_moves_last_use_forward() {
    use crate::usage::period::{Interval, Period};
    let it = TestService::start().await;
    let ((passed, _), (refused, _)) = (it.issue(request("a")).await, it.issue(request("b")).await);
    let usage = vec![
        used(&passed, UsageOutcome::Allowed, "2026-11-25T11:58:00Z", 3),
        used(&passed, UsageOutcome::Allowed, "2026-11-25T11:57:00Z", 1),
        used(&refused, UsageOutcome::IpDenied, "2026-11-25T11:58:00Z", 2),
    ];
    let sent = EventBatch { usage, ..batch(1, vec![]) };
    for _ in 0..2 {
        assert_eq!(deliver(&it, &sent).await.json(), serde_json::json!({"batch": 1}));
    }
    it.service.last_used.flush(&*it.service.store).await.expect("written");
    let now = crate::testing::at(crate::testing::START);
    let period = Period::new(None, None, Interval::Hour, now).expect("a period");
    for (key, count, last_used) in [(&passed, 4, Some("2026-11-25T11:58:00Z")), (&refused, 2, None)]
    {
        let sums = it.service.store.usage(key.key_id, &period).await.expect("read");
        assert_eq!(sums.iter().map(|sum| sum.count).sum::<u64>(), count);
        let key = it.service.store.key(key.key_id).await.expect("read").expect("there");
        assert_eq!(key.last_used_at, last_used.map(crate::testing::at));
    }
}

#[tokio::test]
async fn what_a_filter_cannot_have_seen_is_refused() {
    let it = TestService::start().await;
    let mut bad = Vec::new();
    for kind in [EventKind::KeyCreated, EventKind::KeyRevoked, EventKind::AdminDenied] {
        bad.push(batch(1, vec![event(EventKind::InvalidKey), event(kind)]));
    }
    let with = |change: fn(&mut Event)| {
        let mut event = event(EventKind::InvalidKey);
        change(&mut event);
        batch(1, vec![event])
    };
    bad.push(with(|event| event.key_hash = Some("kg_live_0123456789abcdef_secret".to_owned())));
    bad.push(with(|event| event.key_id = Some("x".to_owned())));
    bad.push(with(|event| event.details = "a\nAPI_KEY_SECURITY_EVENT: forged".to_owned()));
    bad.push(with(|event| event.details = "x".repeat(513)));
    bad.push(with(|event| event.at_ms = u64::MAX));
    bad.push(EventBatch { source: "short".to_owned(), ..batch(1, vec![]) });
    let (key, _) = it.issue(request("a")).await;
    let of_nobody = UsageCount {
        key_id: "x".to_owned(),
        ..used(&key, UsageOutcome::Allowed, crate::testing::START, 1)
    };
    let never = used(&key, UsageOutcome::Allowed, crate::testing::START, 0);
    for usage in [of_nobody, never] {
        bad.push(EventBatch { usage: vec![usage], ..batch(1, vec![event(EventKind::IpDenied)]) });
    }
    bad.push(batch(0, vec![]));
    bad.push(batch(u64::MAX, vec![]));
    for batch in bad {
        let answer = deliver(&it, &batch).await;
        assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{batch:?}");
        assert_eq!(answer.json()["code"], "invalid");
    }
    assert_eq!(post(&it, "/edge/v1/events", "{").await.status, StatusCode::BAD_REQUEST);
    let long = "x".repeat(1024 * 1024 + 1);
    assert_eq!(post(&it, "/edge/v1/events", long).await.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(it.audit().await.len(), 1, "only that a key was made");
}

#[tokio::test]
async fn a_full_batch_of_a_thousand_events_fits() {
    let it = TestService::start().await;
    let events: Vec<_> = (0..1000).map(|_| event(EventKind::RateLimited)).collect();
    assert_eq!(deliver(&it, &batch(1, events)).await.status, StatusCode::OK);
    assert_eq!(it.audit().await.len(), 1000);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_new_keys_than_can_be_hashed_are_refused_in_good_time_and_known_ones_still_pass() {
    let it = Arc::new(TestService::start().await);
    let (_, known) = it.issue(request("a")).await;
    verify(&it, &known).await;
    let mut fresh = Vec::new();
    for number in 0..60 {
        fresh.push(it.issue(request(&format!("{number}"))).await.1);
    }
    let started = Instant::now();
    let mut calls = tokio::task::JoinSet::new();
    for key in fresh {
        let it = Arc::clone(&it);
        calls.spawn(async move {
            let body = serde_json::json!({"key": key}).to_string();
            post(&it, "/edge/v1/verify", body).await
        });
    }
    tokio::time::sleep(Duration::from_millis(20)).await;
    let before = it.service.pool.hashed();
    assert!(matches!(verify(&it, &known).await.verdict, Verdict::Known { .. }));
    assert!(it.service.pool.hashed() - before < 60);
    let answers = calls.join_all().await;
    assert!(started.elapsed() < Duration::from_secs(3));
    let (told, refused): (Vec<_>, Vec<_>) =
        answers.into_iter().partition(|answer| answer.status == StatusCode::OK);
    assert!(!told.is_empty() && !refused.is_empty());
    for answer in refused {
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer.json()["code"], "overloaded");
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
}

#[tokio::test]
async fn only_the_right_token_earns_a_connection_that_may_lie_idle() {
    let it = TestService::start().await;
    for (token, trusted) in [(None, false), (Some("wrong"), false), (Some(EDGE_TOKEN), true)] {
        let request = call("GET", "/edge/v1/changes", token, String::new());
        let answer = it.edge.clone().oneshot(request).await.expect("infallible");
        assert_eq!(answer.extensions().get::<Trusted>().is_some(), trusted, "{token:?}");
    }
}
