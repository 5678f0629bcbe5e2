//! A key is rotated once, however often and however fast the call is sent.

use std::sync::Arc;

use axum::{body::Body, http::Request};
use serde_json::Value;

use super::{PATH, call, keys, sent};
use crate::testing::{Answer, TestService, request, send};

const BODY: &str = r#"{"overlap_seconds": 60}"#;

fn rotation(admin: &str, key_id: &str, body: Option<&str>) -> Request<Body> {
    let mut request = call("POST", &format!("{PATH}{key_id}/rotate"), admin, body);
    request.headers_mut().insert("idempotency-key", "one".parse().expect("a value"));
    request
}

async fn rotated(it: &TestService, admin: &str, key_id: &str, body: Option<&str>) -> Answer {
    send(&it.admin, rotation(admin, key_id, body)).await
}

async fn key(it: &TestService) -> String {
    it.issue(request("a")).await.0.key_id.to_string()
}

#[tokio::test]
async fn a_repeated_rotation_is_told_the_successor_and_not_shown_the_key() {
    for body in [Some(BODY), None] {
        let it = TestService::start().await;
        let (_, good) = it.issue_admin().await;
        let id = key(&it).await;
        let first = rotated(&it, &good, &id, body).await;
        assert_eq!(first.status, 201, "{first:?}");
        assert!(first.header("idempotent-replayed").is_none());
        let secret = first.json()["api_key"].as_str().expect("a key").to_owned();
        let log = it.audit().await.len();

        // After the old key's end, too.
        it.clock.advance_ms(70_000);
        let again = rotated(&it, &good, &id, body).await;
        assert_eq!(again.status, 200, "{again:?}");
        assert_eq!(again.header("idempotent-replayed"), Some("true"));
        assert_eq!(again.header("location"), first.header("location"));
        let successor = again.json();
        assert_eq!(successor["key_id"], first.json()["key_id"]);
        assert_eq!((&successor["supersedes"], &successor["api_key"]), (&id.into(), &Value::Null));
        assert!(!String::from_utf8_lossy(&again.body).contains(&secret));
        assert_eq!((keys(&it).await, it.audit().await.len()), (3, log));
    }
}

#[tokio::test]
async fn a_name_of_a_call_that_made_a_key_is_free_for_one_that_rotates_it() {
    let it = TestService::start().await;
    let (_, good) = it.issue_admin().await;
    let made = sent(&it, &good, "one", r#"{"name": "a"}"#).await.json();
    let id = made["key_id"].as_str().expect("an id");
    assert_eq!(rotated(&it, &good, id, None).await.status, 201);
}

#[tokio::test]
async fn a_name_of_one_rotation_is_refused_for_another_body_key_or_condition() {
    let it = TestService::start().await;
    let (_, good) = it.issue_admin().await;
    let (one, other) = (key(&it).await, key(&it).await);
    let with = |tag: &'static str| {
        let mut request = rotation(&good, &one, Some(BODY));
        request.headers_mut().insert("if-match", tag.parse().expect("a value"));
        request
    };
    assert_eq!(send(&it.admin, with("\"1\"")).await.status, 201);
    // The condition is what it was decided on, and not one on what the key has become.
    assert_eq!(send(&it.admin, with("\"1\", \"1\"")).await.status, 200);
    let reused = (422, "idempotency_key_reused".to_owned());
    assert_eq!(send(&it.admin, with("\"2\"")).await.problem(), reused);
    assert_eq!(rotated(&it, &good, &one, Some(BODY)).await.problem(), reused);
    for (key_id, body) in [(&one, None), (&one, Some("{}")), (&other, Some(BODY))] {
        let answer = rotated(&it, &good, key_id, body).await;
        assert_eq!(answer.problem(), reused, "{key_id} {body:?}");
    }
    assert_eq!(keys(&it).await, 4);
}

#[tokio::test]
async fn a_rotation_that_was_refused_may_be_sent_again_under_its_name() {
    let it = TestService::start().await;
    let (admin, good) = it.issue_admin().await;
    let id = admin.key_id.to_string();
    let at_once = Some(r#"{"overlap_seconds": 0}"#);
    let refused = rotated(&it, &good, &id, at_once).await;
    assert_eq!(refused.problem(), (409, "last_admin_key".to_owned()));
    assert_eq!(rotated(&it, &good, &id, Some(BODY)).await.status, 201);
}

/// How twenty calls at once are answered.
async fn twenty(services: [&Arc<TestService>; 2], admin: &str, key_id: &str) -> Vec<Answer> {
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..20 {
        let it = Arc::clone(services[number % 2]);
        let (admin, key_id) = (admin.to_owned(), key_id.to_owned());
        tasks.spawn(async move { rotated(&it, &admin, &key_id, Some(BODY)).await });
    }
    tasks.join_all().await
}

fn one_was_made(answers: &[Answer]) {
    let with = |status| answers.iter().filter(|it| it.status == status).count();
    assert_eq!((with(201), with(201) + with(200) + with(409)), (1, 20), "{answers:?}");
    for busy in answers.iter().filter(|it| it.status == 409) {
        assert_eq!(busy.problem().1, "idempotency_key_in_use");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_rotations_of_one_name_at_once_make_one_successor() {
    let it = Arc::new(TestService::start().await);
    let (_, good) = it.issue_admin().await;
    let id = key(&it).await;
    one_was_made(&twenty([&it, &it], &good, &id).await);
    assert_eq!(keys(&it).await, 3);
    assert_eq!(rotated(&it, &good, &id, Some(BODY)).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_services_make_one_successor_between_them() {
    let one = Arc::new(TestService::start().await);
    let config = crate::testing::config(&one.database, edge_protocol::Deployment::Production);
    let place = one.database.copy_of_place();
    let other = TestService::start_on(place, config, crate::config::TestKeys::Off).await;
    let (_, good) = one.issue_admin().await;
    let id = key(&one).await;
    one_was_made(&twenty([&one, &Arc::new(other)], &good, &id).await);
    assert_eq!(keys(&one).await, 3);
}
