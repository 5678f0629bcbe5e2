//! Every call that the API's description has leaves what it came to in the audit log, once.

use axum::{
    body::{Body, Bytes},
    http::Request,
};
use edge_protocol::Scope;
use hyper::body::Frame;
use key_policy::KeyId;
use serde_json::Value;
use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::sync::Notify;

use crate::{
    admin::tests::call,
    clock::Clock,
    health,
    keys::new_key::NewKeyRequest,
    store::AuditFilter,
    testing::{Database, TestService, on_each_database, request, send},
    totp::code_at,
};

const BASE: &str = "/api/v1/admin/";
const IMPORTED: &str = "p9X-mQ2v_Lr7Tz4Wk8Hc3Yb6Nf1Js5Dg0";

/// A call of the description: what it is named, its method and its path.
struct Described {
    operation: String,
    method: String,
    path: String,
}

/// All calls for administrators. What else there is needs no key.
fn described() -> Vec<Described> {
    let text = crate::openapi::text().expect("a description");
    let document: Value = serde_json::from_str(&text).expect("JSON");
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        if health::ROUTES.contains(&path.as_str()) {
            continue;
        }
        assert!(path.starts_with(BASE), "is {path} for administrators?");
        for (method, call) in item.as_object().expect("an item") {
            let operation = call["operationId"].as_str().expect("a name").to_owned();
            all.push(Described { operation, method: method.to_uppercase(), path: path.clone() });
        }
    }
    assert!(all.len() >= 13, "{}", all.len());
    all
}

impl Described {
    fn request(&self, about: KeyId, query: &str, key: &str, body: Option<&str>) -> Request<Body> {
        let path = self.path.replace("{key_id}", &about.to_string());
        call(&self.method, &format!("{path}{query}"), key, body)
    }
}

/// What of the log came after what was there.
async fn since(it: &TestService, before: usize) -> Vec<(String, String)> {
    it.whole_audit().await.split_off(before)
}

async fn totp_secret(it: &TestService, key: &str) -> String {
    let shown = send(&it.admin, call("POST", &format!("{BASE}totp/enrol"), key, None)).await;
    shown.json()["secret"].as_str().expect("a secret").to_owned()
}

on_each_database!(
    every_call_that_is_made_leaves_its_entry_once,
    every_call_that_is_refused_leaves_its_entry_once,
    what_fails_leaves_its_entry_when_the_database_is_back,
);

async fn every_call_that_is_made_leaves_its_entry_once(database: Database) {
    let it = TestService::start_at(database).await;
    for described in described() {
        let (_, key) = it.issue_admin().await;
        let (about, _) = it.issue(request("a")).await;
        let (mut body, mut expected) = (None, vec!["ADMIN_READ"]);
        // An operation that is new here says what it needs, and what it leaves.
        match described.operation.as_str() {
            "list_keys" | "get_key" | "get_key_usage" | "list_audit_log" | "get_totp" => {}
            "check_policy" => body = Some(r#"{"api_key": "x"}"#.to_owned()),
            "create_key" => {
                (body, expected) = (Some(r#"{"name": "b"}"#.to_owned()), vec!["KEY_CREATED"]);
            }
            "import_key" => {
                body = Some(format!(r#"{{"api_key": "{IMPORTED}", "name": "b"}}"#));
                expected = vec!["KEY_CREATED"];
            }
            "update_key" => {
                (body, expected) = (Some(r#"{"name": "c"}"#.to_owned()), vec!["KEY_UPDATED"]);
            }
            "rotate_key" => expected = vec!["KEY_ROTATED", "KEY_CREATED"],
            "revoke_key" => expected = vec!["KEY_REVOKED"],
            "enrol_totp" => expected = vec!["TOTP_ISSUED"],
            "verify_totp" => {
                let code = code_at(&totp_secret(&it, &key).await, it.clock.now());
                body = Some(format!(r#"{{"code": "{code}"}}"#));
                expected = vec!["TOTP_ENROLLED"];
            }
            "disable_totp" => {
                totp_secret(&it, &key).await;
                expected = vec!["TOTP_DISABLED"];
            }
            new => panic!("what does {new} need, and what does it leave in the log?"),
        }
        let before = it.whole_audit().await.len();
        let mut request = described.request(about.key_id, "", &key, body.as_deref());
        request.headers_mut().insert("if-match", "*".parse().expect("a value"));
        let answer = send(&it.admin, request).await;
        assert!(answer.status.is_success(), "{}: {answer:?}", described.operation);
        let left = since(&it, before).await;
        let kinds: Vec<_> = left.iter().map(|(kind, _)| kind.as_str()).collect();
        assert_eq!(kinds, expected, "{}: {left:?}", described.operation);
        if let [(kind, details)] = left.as_slice()
            && kind == "ADMIN_READ"
        {
            let Described { method, path, .. } = &described;
            let said = format!(" method={method} route={path} status=200");
            assert!(details.ends_with(&said), "{details}");
        }
    }
}

async fn every_call_that_is_refused_leaves_its_entry_once(database: Database) {
    let it = TestService::start_at(database).await;
    let (about, _) = it.issue(request("a")).await;
    for described in described() {
        let (admin, key) = it.issue_admin().await;
        let (_, reader) = it.issue(NewKeyRequest { scope: Scope::Read, ..request("r") }).await;
        for (with, query, status, kind) in [
            (key.as_str(), "?nonsense=1", 400, "ADMIN_REFUSED"),
            (&reader, "", 403, "ADMIN_DENIED"),
            ("nobody", "", 401, "ADMIN_DENIED"),
            (&key, "?api_key=x", 400, "ADMIN_DENIED"),
        ] {
            // Each call is its caller's first: none of them is too many.
            it.clock.advance_ms(60_000);
            let before = it.whole_audit().await.len();
            let request = described.request(about.key_id, query, with, Some("{}"));
            let answer = send(&it.admin, request).await;
            let place = format!("{} {query}", described.operation);
            assert_eq!(answer.status.as_u16(), status, "{place}: {answer:?}");
            // It is there before the answer is: nothing is waited for.
            let rows = it.service.store.audit_rows(&AuditFilter::default(), 1000).await;
            assert_eq!(rows.expect("rows").len(), before + 1, "{place}");
            let left = since(&it, before).await;
            assert_eq!(left.len(), 1, "{place}: {left:?}");
            assert_eq!(left[0].0, kind, "{place}: {left:?}");
            assert!(!left[0].1.contains("nonsense"), "{left:?}");
            if kind == "ADMIN_REFUSED" {
                let Described { method, path, .. } = &described;
                let expected = format!(
                    "actor={} client_ip=192.0.2.7 method={method} route={path} status=400 \
                     code=invalid_query",
                    admin.key_id
                );
                assert_eq!(left[0].1, expected);
            }
        }
    }
}

async fn what_fails_leaves_its_entry_when_the_database_is_back(database: Database) {
    let it = TestService::start_at(database).await;
    let (admin, key) = it.issue_admin().await;
    let list = || call("GET", &format!("{BASE}api-keys/"), &key, None);
    assert_eq!(send(&it.admin, list()).await.status, 200);
    let before = it.whole_audit().await.len();
    // Whose call it is cannot be told without the keys: the first of a minute has an entry, and the
    // others are counted.
    it.database.execute("ALTER TABLE api_keys RENAME TO elsewhere").await;
    for _ in 0..3 {
        assert_eq!(send(&it.admin, list()).await.status, 503);
    }
    it.database.execute("ALTER TABLE elsewhere RENAME TO api_keys").await;
    it.clock.advance_ms(60_000);
    for entry in it.service.admin_denials.due(it.clock.now()) {
        it.service.recorder.note(entry);
    }
    // Here it can, and what is asked for is gone.
    it.database.execute("ALTER TABLE api_key_usage RENAME TO elsewhere").await;
    let usage = format!("{BASE}api-keys/{}/usage", admin.key_id);
    assert_eq!(send(&it.admin, call("GET", &usage, &key, None)).await.status, 503);
    it.database.execute("ALTER TABLE elsewhere RENAME TO api_key_usage").await;

    let left = since(&it, before).await;
    assert!(left.iter().all(|(kind, _)| kind == "ADMIN_FAILED"), "{left:?}");
    let details: Vec<_> = left.iter().map(|(_, details)| details.as_str()).collect();
    let unknown = format!(
        "reason=not_verified method=GET route={BASE}api-keys/ status=503 code=database_unavailable"
    );
    let known = format!(
        "actor={} client_ip=192.0.2.7 method=GET route={BASE}api-keys/{{key_id}}/usage status=503 \
         code=database_unavailable",
        admin.key_id
    );
    let more = "reason=not_verified more_in_that_minute=2".to_owned();
    assert_eq!(details, [unknown, more, known]);
}

#[tokio::test]
async fn what_is_refused_for_what_it_asks_names_the_key_and_the_code() {
    let it = TestService::start().await;
    let (_, good) = it.issue_admin().await;
    let (key, _) = it.issue(request("a")).await;
    let path = format!("{BASE}api-keys/{}", key.key_id);
    let keys = format!("{BASE}api-keys/");
    let import = format!("{keys}import");
    let put = |if_match: &str| {
        let mut request = call("PUT", &path, &good, Some(r#"{"name": "b"}"#));
        request.headers_mut().insert("if-match", if_match.parse().expect("a value"));
        request
    };
    let missing = format!("{keys}0123456789abcdef");
    for (request, status, code) in [
        (call("PUT", &path, &good, Some("{}")), 428, "precondition_required"),
        (put("\"7\""), 412, "precondition_failed"),
        (call("POST", &keys, &good, Some("{")), 400, "malformed_body"),
        (call("POST", &keys, &good, Some(r#"{"name": ""}"#)), 422, "invalid_fields"),
        (
            call("POST", &import, &good, Some(r#"{"api_key": "password", "name": "a"}"#)),
            422,
            "policy_refused",
        ),
        (call("GET", &missing, &good, None), 404, "not_found"),
    ] {
        let before = it.whole_audit().await.len();
        assert_eq!(send(&it.admin, request).await.problem(), (status, code.to_owned()));
        let left = since(&it, before).await;
        assert_eq!(left.len(), 1, "{left:?}");
        assert_eq!(left[0].0, "ADMIN_REFUSED");
        assert!(left[0].1.ends_with(&format!("status={status} code={code}")), "{left:?}");
    }
    // What concerns a key is found by it.
    let filter = AuditFilter { key_id: Some(key.key_id), ..AuditFilter::default() };
    let rows = it.service.store.audit_rows(&filter, 10).await.expect("rows");
    assert_eq!(rows.len(), 3, "{rows:?}");
}

#[tokio::test]
async fn a_change_that_changes_nothing_and_a_repetition_leave_an_entry_each() {
    let it = TestService::start().await;
    let (_, good) = it.issue_admin().await;
    let (key, _) = it.issue(request("a")).await;
    let path = format!("{BASE}api-keys/{}", key.key_id);
    let revoke = || call("DELETE", &path, &good, None);
    let create = || {
        let mut request = call("POST", &format!("{BASE}api-keys/"), &good, Some(r#"{"name":"b"}"#));
        request.headers_mut().insert("idempotency-key", "once".parse().expect("a value"));
        request
    };
    for request in [revoke(), revoke(), create(), create()] {
        assert!(send(&it.admin, request).await.status.is_success());
    }
    let kinds: Vec<_> = it.whole_audit().await.into_iter().map(|(kind, _)| kind).collect();
    let expected = ["KEY_REVOKED", "ADMIN_READ", "KEY_CREATED", "ADMIN_READ"];
    assert_eq!(kinds[2..], expected);
}

/// A body that never comes, and tells when it is waited for.
struct Never(Arc<Notify>);

impl hyper::body::Body for Never {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0.notify_one();
        Poll::Pending
    }
}

#[tokio::test]
async fn a_call_whose_caller_goes_away_leaves_an_entry() {
    let it = TestService::start().await;
    let (_, good) = it.issue_admin().await;
    let waited_for = Arc::new(Notify::new());
    let mut request = call("POST", &format!("{BASE}api-keys/"), &good, Some(""));
    *request.body_mut() = Body::new(Never(Arc::clone(&waited_for)));
    tokio::select! {
        answer = send(&it.admin, request) => panic!("{answer:?}"),
        () = waited_for.notified() => {}
    }
    let (kind, details) = it.whole_audit().await.pop().expect("an entry");
    assert_eq!(kind, "ADMIN_FAILED");
    assert!(
        details.ends_with("method=POST route=/api/v1/admin/api-keys/ status=none"),
        "{details}"
    );
}

#[tokio::test]
async fn a_log_that_cannot_be_written_keeps_neither_reads_nor_health_from_their_answers() {
    let it = TestService::start().await;
    let (_, good) = it.issue_admin().await;
    it.database.execute("ALTER TABLE api_key_audit_log RENAME TO elsewhere").await;
    for _ in 0..3 {
        let answer = send(&it.admin, call("GET", &format!("{BASE}api-keys/"), &good, None)).await;
        assert_eq!(answer.status, 200);
        assert_eq!(send(&it.admin, call("GET", "/health", "", None)).await.status, 200);
    }
    it.database.execute("ALTER TABLE elsewhere RENAME TO api_key_audit_log").await;
    let reads = async || {
        let audit = it.whole_audit().await;
        audit.iter().filter(|(kind, _)| kind == "ADMIN_READ").count()
    };
    assert_eq!(reads().await, 3, "they were kept until it could");
}
