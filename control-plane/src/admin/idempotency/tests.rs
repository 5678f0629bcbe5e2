//! A request is made once, however often and however fast it is sent.

use std::sync::Arc;

use axum::{body::Body, http::Request};
use serde_json::Value;

mod rotation;

use super::unquoted;
use crate::{
    admin::tests::call,
    store::key_filter::{KeyFilter, KeyQuery},
    testing::{Answer, TestService, send},
};

const PATH: &str = "/api/v1/admin/api-keys/";
const BODY: &str = r#"{"name": "billing"}"#;

fn create(admin: &str, word: &str, body: &str) -> Request<Body> {
    let mut request = call("POST", PATH, admin, Some(body));
    request.headers_mut().insert("idempotency-key", word.parse().expect("a value"));
    request
}

async fn sent(it: &TestService, admin: &str, word: &str, body: &str) -> Answer {
    send(&it.admin, create(admin, word, body)).await
}

async fn keys(it: &TestService) -> usize {
    let filter = KeyFilter::default();
    let query = KeyQuery { filter, now: it.service.clock.now(), after: None, limit: 1000 };
    it.service.store.keys(&query).await.expect("keys").len()
}

#[tokio::test]
async fn a_repetition_is_told_what_was_made_and_not_shown_the_key() {
    let it = TestService::start().await;
    let (_, good) = it.issue_admin().await;
    let first = sent(&it, &good, "\"one\"", BODY).await;
    assert_eq!(first.status, 201);
    assert!(first.header("idempotent-replayed").is_none());
    let secret = first.json()["api_key"].as_str().expect("a key").to_owned();

    // With or without quotes it is the same name.
    for word in ["\"one\"", "one"] {
        let again = sent(&it, &good, word, BODY).await;
        assert_eq!(again.status, 200);
        assert_eq!(again.header("idempotent-replayed"), Some("true"));
        assert_eq!(again.header("location"), first.header("location"));
        assert_eq!(again.header("cache-control"), Some("no-store"));
        let key = again.json();
        assert_eq!((&key["key_id"], &key["api_key"]), (&first.json()["key_id"], &Value::Null));
        assert!(!String::from_utf8_lossy(&again.body).contains(&secret));
    }
    assert_eq!((keys(&it).await, it.audit().await.len()), (2, 2));
}

#[tokio::test]
async fn a_name_that_was_used_for_something_else_is_refused() {
    let it = TestService::start().await;
    let (_, good) = it.issue_admin().await;
    sent(&it, &good, "one", BODY).await;
    let other = sent(&it, &good, "one", r#"{"name": "other"}"#).await;
    assert_eq!(other.problem(), (422, "idempotency_key_reused".to_owned()));
    assert_eq!(keys(&it).await, 2);
}

#[tokio::test]
async fn everybody_has_names_of_their_own() {
    let it = TestService::start().await;
    let (_, one) = it.issue_admin().await;
    let (_, other) = it.issue_admin().await;
    assert_eq!(sent(&it, &one, "one", BODY).await.status, 201);
    assert_eq!(sent(&it, &other, "one", BODY).await.status, 201);
}

#[tokio::test]
async fn a_call_that_failed_may_be_made_again_under_its_name() {
    let it = TestService::start().await;
    let (_, good) = it.issue_admin().await;
    let bad = sent(&it, &good, "one", r#"{"name": ""}"#).await;
    assert_eq!(bad.problem(), (422, "invalid_fields".to_owned()));
    assert_eq!(sent(&it, &good, "one", BODY).await.status, 201);
}

#[tokio::test]
async fn a_name_is_forgotten_after_a_day() {
    let it = TestService::start().await;
    let (_, good) = it.issue_admin().await;
    sent(&it, &good, "one", BODY).await;
    it.clock.advance_ms(86_400_000);
    assert_eq!(sent(&it, &good, "one", BODY).await.status, 200);
    assert_eq!(it.service.once.forget().await.expect("deleted"), 0);
    it.clock.advance_ms(1);
    assert_eq!(sent(&it, &good, "one", BODY).await.status, 201);
    it.clock.advance_ms(86_400_001);
    assert_eq!(it.service.once.forget().await.expect("deleted"), 1);
}

#[tokio::test]
async fn what_is_no_name_is_refused() {
    let it = TestService::start().await;
    let (_, good) = it.issue_admin().await;
    let long = "x".repeat(256);
    for word in ["", "\"", "\"\"", "two words", "\"a", "a\"", "\"a\\\"b\"", "a,b", &long] {
        let answer = sent(&it, &good, word, BODY).await;
        assert_eq!(answer.problem(), (400, "invalid_idempotency_key".to_owned()), "{word}");
    }
    let mut twice = create(&good, "one", BODY);
    twice.headers_mut().append("idempotency-key", "two".parse().expect("a value"));
    assert_eq!(send(&it.admin, twice).await.problem().0, 400);
    assert_eq!(unquoted("\"two words\""), Some("two words"));
    assert_eq!(unquoted("8e03978e-40d5-43e8-bc93-6894a57f9324").map(str::len), Some(36));
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_calls_of_one_name_at_once_make_one_key() {
    let it = Arc::new(TestService::start().await);
    let (_, good) = it.issue_admin().await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let (it, good) = (Arc::clone(&it), good.clone());
        tasks.spawn(async move { sent(&it, &good, "one", BODY).await });
    }
    let answers = tasks.join_all().await;
    let with = |status| answers.iter().filter(|it| it.status == status).count();
    assert_eq!((with(201), with(201) + with(200) + with(409)), (1, 20), "{answers:?}");
    for busy in answers.iter().filter(|it| it.status == 409) {
        assert_eq!(busy.problem().1, "idempotency_key_in_use");
        assert_eq!(busy.header("retry-after"), Some("1"));
    }
    assert_eq!(keys(&it).await, 2);
    assert_eq!(sent(&it, &good, "one", BODY).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_services_make_one_key_between_them() {
    let one = Arc::new(TestService::start().await);
    let config = crate::testing::config(&one.database, edge_protocol::Deployment::Production);
    let place = one.database.copy_of_place();
    let other = TestService::start_on(place, config, crate::config::TestKeys::Off).await;
    let other = Arc::new(other);
    let (_, good) = one.issue_admin().await;
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..10 {
        let it = Arc::clone(if number % 2 == 0 { &one } else { &other });
        let good = good.clone();
        tasks.spawn(async move { sent(&it, &good, "one", BODY).await.status.as_u16() });
    }
    let statuses = tasks.join_all().await;
    assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 1, "{statuses:?}");
    assert_eq!(keys(&one).await, 2);
}
