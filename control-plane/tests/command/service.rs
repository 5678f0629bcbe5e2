//! The running service as those around it meet it.

use crate::process::{KEY, Keygate, Service, TOKEN, http};
use std::{
    net::TcpListener,
    thread,
    time::{Duration, Instant},
};

pub(crate) fn admin(
    service: &Service,
    method: &str,
    path: &str,
    key: &str,
    body: &str,
) -> (u16, serde_json::Value) {
    let headers = format!("x-api-key: {key}\r\ncontent-type: application/json\r\n");
    let (status, body) = http(&service.admin, method, path, &headers, body);
    (status, serde_json::from_str(&body).expect("JSON"))
}

pub(crate) fn edge(
    service: &Service,
    method: &str,
    path: &str,
    body: &str,
) -> (u16, serde_json::Value) {
    let headers = format!("authorization: Bearer {TOKEN}\r\n");
    let (status, body) = http(&service.edge, method, path, &headers, body);
    (status, serde_json::from_str(&body).expect("JSON"))
}

pub(crate) fn verify(service: &Service, key: &str) -> serde_json::Value {
    let body = serde_json::json!({"key": key}).to_string();
    let (status, answer) = edge(service, "POST", "/edge/v1/verify", &body);
    assert_eq!(status, 200, "{answer}");
    answer
}

#[test]
fn it_refuses_a_database_that_is_not_up_to_date_and_migrates_when_told() {
    let it = Keygate::new();
    let refused = it.run(&["serve"]);
    assert_eq!(refused.code, 1);
    assert!(refused.errors.contains("keygate migrate"), "{refused:?}");
    let service = it.serve(&["--migrate"]);
    assert_eq!(http(&service.admin, "GET", "/livez", "", "").0, 200);
}

#[test]
fn a_taken_port_is_named_with_its_setting() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    for setting in ["KEYGATE_LISTEN", "KEYGATE_EDGE_LISTEN"] {
        let mut it = Keygate::migrated();
        it.set(setting, &address);
        let refused = it.run(&["serve"]);
        assert_eq!(refused.code, 2);
        let last = refused.errors.lines().last().expect("a line");
        assert_eq!(
            last,
            format!(
                "keygate: {setting}: cannot listen on {address}: the port is taken by another program"
            )
        );
    }
}

#[test]
fn the_whole_life_of_a_key() {
    let mut it = Keygate::migrated();
    let (_, root) = it.make_key(&["--scope", "admin"]);
    let service = it.serve(&[]);
    let (status, made) =
        admin(&service, "POST", "/api/v1/admin/api-keys/", &root, r#"{"name":"b"}"#);
    assert_eq!(status, 201);
    let key = made["api_key"].as_str().expect("a key");
    let id = made["key_id"].as_str().expect("an id");
    let answer = verify(&service, key);
    assert_eq!((&answer["verdict"], &answer["record"]["key_id"]), (&"known".into(), &id.into()));

    let path = format!("/api/v1/admin/api-keys/{id}");
    assert_eq!(admin(&service, "DELETE", &path, &root, "").0, 200);
    assert_eq!(verify(&service, key)["record"]["is_active"], false);
    // Soon after, the use of the key can be read.
    service.eventually("it was used", || {
        let used = &admin(&service, "GET", &path, &root, "").1["last_used_at"];
        (!used.is_null()).then_some(())
    });
    let metrics = http(&service.admin, "GET", "/metrics", "", "").1;
    for line in [
        r#"keygate_verify_memory_lookups_total{result="hit"} "#,
        "keygate_feed_sequence 3",
        r#"keygate_http_requests_total{listener="edge",route="/edge/v1/verify",method="POST",status="200"} 2"#,
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    // healthcheck finds it at its address.
    it.set("KEYGATE_LISTEN", &service.admin);
    let health = it.run(&["healthcheck"]);
    assert_eq!(health.code, 0, "{health:?}");
    assert_eq!(health.json()["status"], "healthy");
}

/// That a filter's poll is held.
const POLL_IS_HELD: &str = "\nkeygate_feed_long_polls 1";

#[test]
fn a_change_from_the_command_line_reaches_a_waiting_filter() {
    let it = Keygate::migrated();
    let (id, key) = it.make_key(&[]);
    let service = it.serve(&[]);
    assert_eq!(verify(&service, &key)["record"]["is_active"], true);
    let (_, first) = edge(&service, "GET", "/edge/v1/changes", "");
    assert_eq!(first["reset"], true);
    let epoch = first["position"]["epoch"].as_str().expect("an epoch");
    let poll = format!("/edge/v1/changes?epoch={epoch}&since=1&wait_ms=15000");
    thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let answer = edge(&service, "GET", &poll, "").1;
            (answer, Instant::now())
        });
        service.wait_for_metric(POLL_IS_HELD);
        assert_eq!(it.run(&["keys", "revoke", &id]).code, 0);
        let revoked = Instant::now();
        let (answer, told) = waiting.join().expect("no panic");
        assert_eq!(answer["changes"][0]["key_id"], id.as_str());
        assert_eq!(answer["changes"][0]["kind"], "revoked");
        assert!(told.saturating_duration_since(revoked) < Duration::from_secs(2));
    });
    assert_eq!(verify(&service, &key)["record"]["is_active"], false);
}

#[test]
fn it_ends_in_good_order_when_told_to_even_with_a_poll_waiting() {
    for name in ["TERM", "INT"] {
        let it = Keygate::migrated();
        let mut service = it.serve(&[]);
        let (_, first) = edge(&service, "GET", "/edge/v1/changes", "");
        let epoch = first["position"]["epoch"].as_str().expect("an epoch").to_owned();
        let address = service.edge.clone();
        let waiting = thread::spawn(move || {
            let path = format!("/edge/v1/changes?epoch={epoch}&since=0&wait_ms=20000");
            http(&address, "GET", &path, &format!("authorization: Bearer {TOKEN}\r\n"), "")
        });
        service.wait_for_metric(POLL_IS_HELD);
        let started = Instant::now();
        service.signal(name);
        assert_eq!(service.end(), Some(0), "{}", service.log());
        assert!(started.elapsed() < Duration::from_secs(5));
        assert_eq!(waiting.join().expect("no panic").0, 200);
        assert!(service.log().lines().last().expect("a line").contains("ended"));
    }
}

#[test]
fn it_ends_when_told_to_even_before_it_has_started() {
    let it = Keygate::migrated();
    let database = it.folder().join("keygate.db");
    // As another process holds it that brings the database up to date.
    let held = std::fs::File::open(database).expect("a database");
    held.lock().expect("locked");
    let mut service = it.begin_to_serve(&["--migrate"]);
    service.wait_for("connections may be open");
    let started = Instant::now();
    service.signal("TERM");
    assert_eq!(service.end(), Some(0), "{}", service.log());
    assert!(started.elapsed() < Duration::from_secs(4));
    assert!(service.log().contains("ended before it had started"), "{}", service.log());
}

#[test]
fn production_that_asks_for_test_keys_starts_without_them_and_says_so() {
    let mut it = Keygate::migrated();
    it.set("KEYGATE_ENABLE_TEST_API_KEYS", "true");
    let (_, key) = it.make_key(&["--environment", "test"]);
    let mut service = it.serve(&[]);
    let line = service.wait_for("API_KEY_SECURITY_EVENT: SECURITY_VIOLATION");
    assert!(line.contains("| key_hash=- | client_ip=- | timestamp=20"), "{line}");
    assert!(line.contains("test_keys=disabled"), "{line}");
    assert_eq!(verify(&service, &key)["verdict"], "unknown");
    // A slow disk may have them a moment later.
    let listed = || {
        let log = it.run(&["audit", "list", "--event", "SECURITY_VIOLATION", "--json"]).json();
        log.as_array().expect("entries").len()
    };
    service.eventually("both are in the log", || (listed() >= 2).then_some(()));
    assert_eq!(listed(), 2);
}

#[test]
fn without_a_token_every_filter_is_refused_and_told_why() {
    let mut it = Keygate::migrated();
    it.set("KEYGATE_EDGE_TOKEN", "");
    let mut service = it.serve(&[]);
    service.wait_for("KEYGATE_EDGE_TOKEN is not set");
    let (status, answer) = edge(&service, "POST", "/edge/v1/verify", "{}");
    assert_eq!((status, &answer["code"]), (503, &"edge_token_not_set".into()));
}

#[test]
fn no_secret_is_left_in_logs_database_or_answers() {
    let mut it = Keygate::migrated();
    it.set("KEYGATE_LOG", "trace");
    it.set("KEYGATE_LOG_FORMAT", "json");
    let (_, root) = it.make_key(&["--scope", "admin"]);
    let (_, other) = it.make_key(&[]);
    let log = {
        let mut service = it.serve(&[]);
        for key in [&root, &other, &format!("{other}x")] {
            admin(&service, "GET", "/api/v1/admin/api-keys/", key, "");
            admin(&service, "POST", "/api/v1/admin/api-keys/", key, "{");
            verify(&service, key);
        }
        // In places where a key must not be, too.
        admin(&service, "GET", &format!("/api/v1/admin/api-keys/{other}"), &root, "");
        admin(&service, "GET", &format!("/api/v1/admin/api-keys/?api_key={other}"), &root, "");
        admin(&service, "GET", &format!("/api/v1/admin/audit-log?event={other}"), &root, "");
        http(
            &service.edge,
            "GET",
            "/edge/v1/changes",
            &format!("authorization: Bearer {other}\r\n"),
            "",
        );
        edge(&service, "POST", "/edge/v1/verify", &format!(r#"{{"key": {{"{other}": 1}}}}"#));
        service.signal("TERM");
        service.end();
        service.log()
    };
    assert!(log.contains("API_KEY_SECURITY_EVENT: ADMIN_DENIED"));
    for line in log.lines() {
        serde_json::from_str::<serde_json::Value>(line)
            .unwrap_or_else(|_| panic!("no JSON: {line}"));
    }
    // Log, database and what belongs to it are all in one folder.
    for entry in std::fs::read_dir(it.folder()).expect("a folder") {
        let path = entry.expect("an entry").path();
        let bytes = std::fs::read(&path).expect("a file");
        for secret in [&root[25..], &other[25..], TOKEN, KEY] {
            let found = bytes.windows(secret.len()).position(|window| window == secret.as_bytes());
            assert!(found.is_none(), "{} has a secret at {found:?}", path.display());
        }
    }
}
