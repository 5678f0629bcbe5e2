//! Who is let in, and how the API as a whole answers.

use axum::{
    body::Body,
    http::{Request, StatusCode},
};
use edge_protocol::{KeyEnvironment, Scope};

use crate::{
    config::TestKeys,
    keys::new_key::NewKeyRequest,
    testing::{Answer, Database, TestService, config, request, send},
};

const LIST: &str = "/api/v1/admin/api-keys/";

pub(crate) fn call(method: &str, path: &str, key: &str, body: Option<&str>) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path).header("x-api-key", key);
    if body.is_some() {
        request = request.header("content-type", "application/json");
    }
    request.body(Body::from(body.unwrap_or_default().to_owned())).expect("a request")
}

async fn list_as(it: &TestService, key: &str) -> Answer {
    send(&it.admin, call("GET", LIST, key, None)).await
}

#[tokio::test]
async fn every_credential_that_is_not_good_gets_the_same_answer() {
    let it = TestService::start().await;
    let (_, good) = it.issue_admin().await;
    let (revoked, revoked_text) = it.issue_admin().await;
    send(&it.admin, call("DELETE", &format!("{LIST}{}", revoked.key_id), &good, None)).await;
    let soon = Some("2026-11-25T12:00:01Z".to_owned());
    let (_, expired) =
        it.issue(NewKeyRequest { scope: Scope::Admin, expires_at: soon, ..request("a") }).await;
    let test =
        NewKeyRequest { scope: Scope::Admin, environment: KeyEnvironment::Test, ..request("a") };
    let (_, for_tests) = it.issue(test).await;
    it.clock.advance_ms(1000);

    let without = Request::builder().uri(LIST).body(Body::empty()).expect("a request");
    let mut answers = vec![send(&it.admin, without).await];
    let long = "x".repeat(300);
    for key in ["", "unknown", &good.to_lowercase(), &revoked_text, &expired, &for_tests, &long] {
        answers.push(list_as(&it, key).await);
    }
    for mut answer in answers {
        assert_eq!(answer.problem(), (401, "invalid_credential".to_owned()));
        assert!(answer.header("www-authenticate").is_some_and(|it| it.starts_with("ApiKey ")));
        answer.headers.remove("x-request-id");
        let mut body = answer.json();
        body.as_object_mut().expect("an object").remove("instance");
        assert_eq!(
            body,
            serde_json::json!({
                "type": "urn:keygate:problem:invalid_credential",
                "title": "A valid API key is needed",
                "status": 401,
                "code": "invalid_credential",
            })
        );
        assert_eq!(answer.headers.len(), 4, "{:?}", answer.headers);
    }
    assert_eq!(list_as(&it, &good).await.status, StatusCode::OK);

    // Only the audit log tells them apart.
    let denials: Vec<_> = it
        .audit()
        .await
        .into_iter()
        .filter(|(event, _)| event != "KEY_CREATED" && event != "KEY_REVOKED")
        .map(|(event, details)| {
            let reason = details.split(' ').next().expect("a reason").to_owned();
            (event, reason)
        })
        .collect();
    let expected = [
        ("ADMIN_DENIED", "reason=missing_key"),
        ("ADMIN_DENIED", "reason=invalid_format"),
        ("ADMIN_DENIED", "reason=unknown_key"),
        ("ADMIN_DENIED", "reason=unknown_key"),
        ("ADMIN_DENIED", "reason=revoked_key"),
        ("ADMIN_DENIED", "reason=expired_key"),
        ("SECURITY_VIOLATION", "reason=test_key"),
        ("ADMIN_DENIED", "reason=invalid_format"),
    ]
    .map(|(event, reason)| (event.to_owned(), reason.to_owned()));
    assert_eq!(denials, expected);
}

#[tokio::test]
async fn a_good_key_without_the_scope_is_told_so() {
    let it = TestService::start().await;
    for scope in [Scope::Read, Scope::Write] {
        let (_, text) = it.issue(NewKeyRequest { scope, ..request("a") }).await;
        assert_eq!(list_as(&it, &text).await.problem(), (403, "scope_denied".to_owned()));
    }
    let audit = it.audit().await;
    let (event, details) = audit.last().expect("an entry");
    assert_eq!(event, "ADMIN_DENIED");
    assert_eq!(details, "reason=scope method=GET route=/api/v1/admin/api-keys/");
}

#[tokio::test]
async fn an_admin_key_is_bound_to_its_addresses() {
    let it = TestService::start().await;
    let from = |net: &str| NewKeyRequest {
        scope: Scope::Admin,
        allowed_ips: Some(vec![net.to_owned()]),
        ..request("a")
    };
    let (_, here) = it.issue(from("192.0.2.0/24")).await;
    let (_, elsewhere) = it.issue(from("198.51.100.0/24")).await;
    assert_eq!(list_as(&it, &here).await.status, StatusCode::OK);
    assert_eq!(list_as(&it, &elsewhere).await.problem(), (403, "address_denied".to_owned()));
}

#[tokio::test]
async fn more_than_one_credential_is_refused_even_if_one_is_good() {
    let it = TestService::start().await;
    let (_, good) = it.issue_admin().await;
    let mut twice = call("GET", LIST, &good, None);
    twice.headers_mut().append("x-api-key", good.parse().expect("a value"));
    let joined = call("GET", LIST, &format!("{good},{good}"), None);
    let query = call("GET", &format!("{LIST}?api_key=x"), &good, None);
    let spelt = call("GET", &format!("{LIST}?limit=1&X-API-Key=x"), &good, None);
    for request in [twice, joined, query, spelt] {
        assert_eq!(
            send(&it.admin, request).await.problem(),
            (400, "ambiguous_credential".to_owned())
        );
    }
}

#[tokio::test]
async fn a_refusal_is_in_the_audit_log_before_its_answer_leaves_even_under_a_flood() {
    let database = Database::new().await;
    let mut config = config(&database, edge_protocol::Deployment::Production);
    config.admin_limits.failures = std::num::NonZeroU32::new(1000).expect("not zero");
    let it = TestService::start_on(database, config, TestKeys::Off).await;
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..100 {
        let admin = it.admin.clone();
        tasks.spawn(async move {
            send(&admin, call("GET", LIST, &format!("nobody-{number}"), None)).await
        });
    }
    for answer in tasks.join_all().await {
        assert_eq!(answer.problem().0, 401);
    }
    assert_eq!(it.audit().await.len(), 100);
}

#[tokio::test]
async fn test_keys_work_for_administrators_where_they_are_on() {
    let it = TestService::start_with(TestKeys::On).await;
    let test =
        NewKeyRequest { scope: Scope::Admin, environment: KeyEnvironment::Test, ..request("a") };
    let (_, key) = it.issue(test).await;
    assert_eq!(list_as(&it, &key).await.status, StatusCode::OK);
}

#[tokio::test]
async fn test_keys_asked_for_in_production_are_a_violation_and_stay_off() {
    let it = TestService::start_with(TestKeys::RefusedInProduction).await;
    assert!(!it.service.test_keys);
    let audit = it.audit().await;
    assert_eq!(audit.len(), 1);
    assert_eq!(audit[0].0, "SECURITY_VIOLATION");
    assert!(audit[0].1.contains("KEYGATE_ENABLE_TEST_API_KEYS"));
}

#[tokio::test]
async fn unknown_paths_and_methods_are_problems_too() {
    let it = TestService::start().await;
    let (_, good) = it.issue_admin().await;
    for path in [
        "/",
        "/api/v1/admin/api-keys/0123456789abcdef",
        "/api/v1/admin/api-keys/nonsense",
        "/api/v1/admin/api-keys/%ff",
    ] {
        assert_eq!(
            send(&it.admin, call("GET", path, &good, None)).await.problem(),
            (404, "not_found".to_owned())
        );
    }
    let answer = send(&it.admin, call("PATCH", LIST, &good, None)).await;
    assert_eq!(answer.problem(), (405, "method_not_allowed".to_owned()));
    assert_eq!(answer.header("allow"), Some("GET,HEAD,POST"));
}

#[tokio::test]
async fn a_request_keeps_its_name() {
    let it = TestService::start().await;
    let mut request = call("GET", "/nowhere", "", None);
    request.headers_mut().insert("x-request-id", "abc-1".parse().expect("a value"));
    let answer = send(&it.admin, request).await;
    assert_eq!(answer.header("x-request-id"), Some("abc-1"));
    assert_eq!(answer.json()["instance"], "urn:keygate:request:abc-1");
}

#[tokio::test]
async fn a_database_that_is_gone_is_said_so() {
    let it = TestService::start().await;
    let (_, good) = it.issue_admin().await;
    let health = send(&it.admin, call("GET", "/health", "", None)).await;
    assert_eq!(health.status, StatusCode::OK);
    let body = health.json();
    assert_eq!(body["status"], "healthy");
    assert_eq!(body["database"], "connected");
    assert_eq!(body["redis"], "disabled");
    assert_eq!(body["environment"], "production");
    assert_eq!(body["timestamp"], "2026-11-25T12:00:00Z");

    it.service.store.close().await;
    let answer = list_as(&it, &good).await;
    assert_eq!(answer.problem(), (503, "database_unavailable".to_owned()));
    assert_eq!(answer.header("retry-after"), Some("1"));
    let health = send(&it.admin, call("GET", "/health", "", None)).await;
    assert_eq!(health.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(health.json()["status"], "unhealthy");
    assert_eq!(health.json()["database"], "disconnected");
    let ready = send(&it.admin, call("GET", "/readyz", "", None)).await;
    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
    let alive = send(&it.admin, call("GET", "/livez", "", None)).await;
    assert_eq!(alive.status, StatusCode::OK);
}

#[tokio::test]
async fn a_service_that_is_ending_is_not_ready() {
    let it = TestService::start().await;
    let ready = send(&it.admin, call("GET", "/readyz", "", None)).await;
    assert_eq!(ready.status, StatusCode::OK);
    it.service.stop.cancel();
    let ready = send(&it.admin, call("GET", "/readyz", "", None)).await;
    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn a_key_is_shown_once_and_stored_nowhere() {
    let it = TestService::start().await;
    let (_, good) = it.issue_admin().await;
    let created = send(&it.admin, call("POST", LIST, &good, Some(r#"{"name":"a"}"#))).await.json();
    let canary = created["api_key"].as_str().expect("a key").to_owned();
    let path = format!("{LIST}{}", created["key_id"].as_str().expect("an id"));
    // It is used, refused and revoked: on none of these ways may it stay behind.
    for (method, path) in
        [("GET", LIST), ("GET", &path), ("DELETE", &path), ("GET", "/api/v1/admin/audit-log")]
    {
        let answer = send(&it.admin, call(method, path, &good, None)).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert!(!String::from_utf8_lossy(&answer.body).contains("api_key\""));
    }
    assert_eq!(list_as(&it, &canary).await.problem().0, 401);
    let folder = it.stop().await.folder;
    let mut files = 0;
    for entry in std::fs::read_dir(folder.path()).expect("a folder") {
        let bytes = std::fs::read(entry.expect("an entry").path()).expect("a file");
        let secret = &canary.as_bytes()[25..];
        for secret in [secret, &good.as_bytes()[25..]] {
            assert!(!bytes.windows(secret.len()).any(|window| window == secret));
        }
        files += 1;
    }
    assert!(files > 0);
}
