//! What happens at the gate is written down: in the logs at once, in the database once.

use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use tests::{
    Conduct, Connection, EdgeProxy, Gate, Key, binaries, eventually, fresh_address, key_hash,
    unknown_key, unknown_test_key,
};
use xtask::stack::{free_port, new_secret};

const DAY: u64 = 86_400;
const EVENTS: &str = "/edge/v1/events";

/// A log line of the promised form, taken apart.
#[derive(Debug, PartialEq, Eq)]
struct Line<'a> {
    event: &'a str,
    key_hash: &'a str,
    client_ip: &'a str,
    timestamp: &'a str,
    details: &'a str,
}

impl<'a> Line<'a> {
    /// Reads what stands in a line of a log after the log's own words; none, when the line is of
    /// something else. Fails the test when it is of the wrong form.
    #[track_caller]
    fn read(line: &'a str) -> Option<Self> {
        const START: &str = "API_KEY_SECURITY_EVENT: ";
        let text = &line[line.find(START)? + START.len()..];
        let parts: Vec<_> = text.splitn(5, " | ").collect();
        let [event, key_hash, client_ip, timestamp, details] = parts[..] else {
            panic!("not five parts: {line}");
        };
        let value = |part: &'a str, name: &str| {
            part.strip_prefix(name).unwrap_or_else(|| panic!("{name} is missing: {line}"))
        };
        let read = Self {
            event,
            key_hash: value(key_hash, "key_hash="),
            client_ip: value(client_ip, "client_ip="),
            timestamp: value(timestamp, "timestamp="),
            // The log has the request's id as well, which is not for the audit log: a client may
            // have chosen it.
            details: value(details, "details=").split(" request_id=").next().unwrap_or_default(),
        };
        let is_hash = read.key_hash.len() == 16
            && read.key_hash.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        assert!(read.key_hash == "-" || is_hash, "{line}");
        assert!(
            read.client_ip == "-" || read.client_ip.parse::<std::net::IpAddr>().is_ok(),
            "{line}"
        );
        assert!(event.bytes().all(|b| b.is_ascii_uppercase() || b == b'_'), "{line}");
        assert!(is_iso_8601_with_zone(read.timestamp), "{line}");
        assert!(!read.details.is_empty(), "{line}");
        Some(read)
    }
}

/// `2026-11-25T12:00:00Z`, with or without a fraction, or with an offset.
fn is_iso_8601_with_zone(text: &str) -> bool {
    let shape: String = text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    let Some(rest) = shape.strip_prefix("0000-00-00T00:00:00") else { return false };
    let zone = rest.strip_prefix('.').map_or(rest, |rest| rest.trim_start_matches('0'));
    matches!(zone, "Z" | "+00:00" | "-00:00")
}

/// The same time, however many zeros stand at its end.
fn time(text: &str) -> &str {
    let text = text.trim_end_matches('Z');
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { text }
}

/// An event that was caused, by a client of an address of its own.
#[derive(Debug)]
struct Caused {
    event: &'static str,
    client: String,
    key_hash: Option<String>,
    key_id: Option<String>,
    details: &'static str,
}

/// The keys with which every layer is reached.
struct Keys {
    good: Key,
    revoked: Key,
    expired: Key,
    elsewhere: Key,
    unknown: String,
}

impl Keys {
    fn make(gate: &Gate) -> Self {
        let admin = gate.admin();
        let keys = Self {
            good: admin.key_of_scope("read"),
            revoked: admin.key_of_scope("read"),
            expired: admin.expired_key(json!({"scope": "read"})),
            elsewhere: admin.create_key(
                json!({"scope": "read", "allowed_ips": ["192.0.2.0/24", "2001:db8::/32"]}),
            ),
            unknown: unknown_key(),
        };
        admin.revoke(&keys.revoked.id);
        keys
    }

    /// Has a worker see each key once, so that it can tell them without a call.
    fn warm(&self, gate: &Gate, connection: &mut Connection) {
        let texts = [&self.good, &self.revoked, &self.expired, &self.elsewhere].map(|k| &k.text);
        for key in texts.into_iter().chain([&self.unknown]) {
            let answer = gate.get("/").key(key).client(fresh_address()).send_on(connection);
            assert_ne!(answer.status, 503, "{answer:?}");
        }
    }

    /// Causes an event of each layer that needs no call to the control plane, at a worker.
    fn cause(&self, gate: &Gate, worker: usize, connection: &mut Connection) -> Vec<Caused> {
        let mut caused = Vec::new();
        let mut cause =
            |event, details, status, method: &str, path: &str, keys: &[&str], id: Option<&Key>| {
                let client = fresh_address();
                let mut request = gate.request(method, path).client(&client);
                if method == "POST" {
                    request = request.header("Content-Length", "0");
                }
                for key in keys {
                    request = request.key(key);
                }
                if event == "RATE_LIMITED" {
                    assert_eq!(
                        request.send_on(connection).status,
                        200,
                        "the first is within the limit"
                    );
                }
                let answer = request.send_on(connection);
                assert_eq!(answer.status, status, "{event} {details}: {answer:?}");
                let key_hash = if let [key] = keys { Some(key_hash(key)) } else { None };
                if answer.header("connection").is_some_and(|value| value == "close") {
                    *connection = gate.connect_to_worker(worker);
                }
                let key_id = id.map(|key| key.id.clone());
                caused.push(Caused { event, client, key_hash, key_id, details });
            };
        let Self { good, revoked, expired, elsewhere, unknown } = self;
        let test_key = unknown_test_key();
        let several = [good.text.as_str(), revoked.text.as_str()];
        cause("INVALID_FORMAT", "reason=several_api_key_headers", 400, "GET", "/", &several, None);
        cause("MISSING_API_KEY", "reason=no_api_key_header", 403, "GET", "/", &[], None);
        cause(
            "SECURITY_VIOLATION",
            "reason=test_key_in_production",
            403,
            "GET",
            "/",
            &[&test_key],
            None,
        );
        cause("INVALID_FORMAT", "reason=", 403, "GET", "/", &["tooShort1"], None);
        let weak = "qwertyuiopasdfghjklzxcvbnm123456Q";
        cause("INVALID_FORMAT", "reason=weak_", 403, "GET", "/", &[weak], None);
        cause("INVALID_KEY", "reason=unknown", 403, "GET", "/", &[unknown], None);
        cause("REVOKED_KEY", "reason=revoked", 403, "GET", "/", &[&revoked.text], Some(revoked));
        cause("EXPIRED_KEY", "reason=expired", 403, "GET", "/", &[&expired.text], Some(expired));
        let foreign = "reason=address_not_in_allowed_ips";
        cause("IP_DENIED", foreign, 403, "GET", "/", &[&elsewhere.text], Some(elsewhere));
        let beyond = "reason=scope_not_sufficient";
        cause("SCOPE_DENIED", beyond, 403, "POST", "/", &[&good.text], Some(good));
        cause("RATE_LIMITED", "limit=one", 429, "GET", "/limited", &[&good.text], Some(good));
        caused
    }
}

/// Causes an event that takes a call to the control plane.
fn cause_by_call(gate: &Gate, connection: &mut Connection, outage: bool) -> Caused {
    let client = fresh_address();
    let (event, details, key, key_id) = if outage {
        ("DB_ERROR", "reason=", unknown_key(), None)
    } else {
        let key = gate.admin().key_of_scope("read");
        ("VALID_API_KEY", "seen=first", key.text, Some(key.id))
    };
    let answer = gate.get("/").key(&key).client(&client).send_on(connection);
    assert_eq!(answer.status, if outage { 503 } else { 200 }, "{answer:?}");
    Caused { event, client, key_hash: Some(key_hash(&key)), key_id, details }
}

#[test]
fn every_event_of_the_filter_is_logged_and_stored_exactly_once_whatever_happens_in_between() {
    let proxy = EdgeProxy::start();
    let mut gate = Gate::builder()
        .config(json!({
            "environment": "production",
            "limits": [{
                "name": "one", "per": "address", "path_prefix": "/limited",
                "requests": 1, "window_seconds": DAY,
            }],
        }))
        .edit_envoy(proxy.in_between())
        .start();
    let keys = Keys::make(&gate);
    let mut workers = [gate.connect_to_worker(0), gate.connect_to_worker(1)];
    let mut caused = Vec::new();
    let mut round = |gate: &Gate, outage: bool| {
        for (worker, connection) in workers.iter_mut().enumerate() {
            caused.extend(keys.cause(gate, worker, connection));
            if outage {
                caused.push(cause_by_call(gate, connection, outage));
            }
        }
    };
    for worker in [0, 1] {
        keys.warm(&gate, &mut gate.connect_to_worker(worker));
    }
    round(&gate, false);
    // The control plane stores events, and the filter does not hear of it.
    proxy.conduct(EVENTS, Conduct::LoseAnswer);
    let before = proxy.calls(EVENTS).len();
    round(&gate, false);
    eventually("batches are repeated", || (proxy.calls(EVENTS).len() >= before + 4).then_some(()));
    // It dies in the middle, comes back, and is asked to end in the middle of the next.
    gate.stack.control_plane.process_mut().kill().unwrap();
    round(&gate, true);
    gate.stack.control_plane.restart().unwrap();
    round(&gate, false);
    proxy.conduct(EVENTS, Conduct::Forward);
    gate.stack.control_plane.restart().unwrap();
    round(&gate, false);
    for worker in &mut workers {
        eventually("keys can be told again", || {
            let unknown = unknown_key();
            let answer = gate.get("/").key(&unknown).client(fresh_address()).send_on(worker);
            (answer.status == 403).then_some(())
        });
        caused.push(cause_by_call(&gate, worker, false));
    }

    // Batches go out in order: once the last of each worker is stored, none of these comes again.
    for worker in &mut workers {
        let last = fresh_address();
        gate.get("/").client(&last).send_on(worker).assert_problem(403, "missing_api_key");
        gate.audited("MISSING_API_KEY", |row| row["client_ip"] == last.as_str());
    }
    let rows = gate.admin().audit_log();
    let log = gate.envoy_log();
    let lines: Vec<_> = log.lines().filter_map(Line::read).collect();
    for caused in &caused {
        let of_client: Vec<_> =
            rows.iter().filter(|row| row["client_ip"] == caused.client.as_str()).collect();
        let [row] = of_client[..] else { panic!("{caused:?} is stored so: {of_client:?}") };
        assert_eq!(row["event"], caused.event, "{row}");
        assert_eq!(row["key_hash"].as_str(), caused.key_hash.as_deref(), "{row}");
        assert_eq!(row["key_id"].as_str(), caused.key_id.as_deref(), "{row}");
        assert!(row["details"].as_str().unwrap().starts_with(caused.details), "{row}");
        assert_eq!((&row["shadow"], &row["actor"]), (&json!(false), &Value::Null), "{row}");
        assert!(is_iso_8601_with_zone(row["timestamp"].as_str().unwrap()), "{row}");

        let of_client: Vec<_> =
            lines.iter().filter(|line| line.client_ip == caused.client).collect();
        let [line] = of_client[..] else { panic!("{caused:?} is logged so: {of_client:?}") };
        assert_eq!(line.event, caused.event);
        assert_eq!(line.key_hash, caused.key_hash.as_deref().unwrap_or("-"));
        assert_eq!(row["details"], line.details);
        assert_eq!(time(row["timestamp"].as_str().unwrap()), time(line.timestamp));
    }
    assert_eq!(gate.stat("wasmcustom.keygate.events.dropped"), 0);
    let repeated = "keygate_edge_event_batches_total";
    assert!(gate.admin().metric(repeated, &["outcome=\"repeated\""]) > 0.0, "nothing was repeated");
}

#[test]
fn production_starts_with_test_keys_switched_off_and_writes_down_what_administrators_do() {
    let gate = Gate::builder()
        .env("KEYGATE_ENVIRONMENT", "production")
        .env("KEYGATE_PBKDF2_ITERATIONS", "100000")
        .env("KEYGATE_ENABLE_TEST_API_KEYS", "true")
        // The control plane must refuse by itself, whatever a filter was told.
        .config(json!({"environment": "development", "limits": []}))
        .start();
    let admin = gate.admin();
    let health = admin.request("GET", "/health").send().json();
    assert_eq!(health["environment"], "production", "{health}");
    let started = gate.audited("SECURITY_VIOLATION", |row| row["source"] == "control-plane");
    let details = started["details"].as_str().unwrap();
    assert!(details.contains("KEYGATE_ENABLE_TEST_API_KEYS"), "{started}");
    assert!(details.contains("disabled"), "{started}");

    let keygate = gate.stack.control_plane.keygate();
    let create = ["keys", "create", "--name", "t", "--scope", "admin", "--json"];
    let test_key = keygate.run_json(&[&create[..], &["--environment", "test"]].concat()).unwrap();
    let text = test_key["api_key"].as_str().unwrap();
    let client = fresh_address();
    gate.get("/").key(text).client(&client).send().assert_problem(403, "invalid_api_key");
    assert_eq!(admin.request("GET", "/api/v1/admin/api-keys/").key(text).send().status, 401);
    let hash = key_hash(text);
    for by in ["by=edge", "test_key"] {
        gate.audited("SECURITY_VIOLATION", |row| {
            row["key_hash"] == hash.as_str() && row["details"].as_str().unwrap().contains(by)
        });
    }
    let live = admin.key_of_scope("read");
    assert_eq!(gate.get("/").key(&live).client(&client).send().status, 200);

    // What administrators do: made by the API, ended by the API and by the command line.
    let of_cli = admin.key_of_scope("read");
    admin.revoke(&live.id);
    admin.revoke(&live.id);
    keygate.run(&["keys", "revoke", &of_cli.id]).unwrap();
    let rows = admin.audit_log();
    let of = |event: &str, id: &str| -> Vec<Value> {
        let is_it = |row: &&Value| row["event"] == event && row["key_id"] == id;
        rows.iter().filter(is_it).cloned().collect()
    };
    let first_created = rows.iter().rev().find(|row| row["event"] == "KEY_CREATED").unwrap();
    let admin_id = first_created["key_id"].as_str().unwrap();
    assert_eq!(first_created["actor"], "cli");
    for (event, id, actor) in [
        ("KEY_CREATED", test_key["key_id"].as_str().unwrap(), "cli"),
        ("KEY_CREATED", live.id.as_str(), admin_id),
        ("KEY_REVOKED", live.id.as_str(), admin_id),
        ("KEY_CREATED", of_cli.id.as_str(), admin_id),
        ("KEY_REVOKED", of_cli.id.as_str(), "cli"),
    ] {
        let found = of(event, id);
        let [row] = &found[..] else { panic!("{event} of {id}: {found:?}") };
        assert_eq!(row["actor"], actor, "{row}");
        assert_eq!(row["source"], "control-plane", "{row}");
        let client_ip = if actor == "cli" { Value::Null } else { json!("127.0.0.1") };
        assert_eq!(row["client_ip"], client_ip, "{row}");
    }
    admin.request("GET", "/api/v1/admin/api-keys/").key(unknown_key()).send();
    let denied = gate.audited("ADMIN_DENIED", |_| true);
    assert_eq!(denied["client_ip"], "127.0.0.1");

    // The same in the control plane's log, in the same form; the command line has none.
    let log = gate.control_plane_log();
    let lines: Vec<_> = log.lines().filter_map(Line::read).collect();
    for row in admin.audit_log() {
        if row["source"] != "control-plane" || row["actor"] == "cli" {
            continue;
        }
        let is_it = |line: &&Line<'_>| {
            row["event"] == line.event
                && row["details"] == line.details
                && time(row["timestamp"].as_str().unwrap()) == time(line.timestamp)
                && row["key_hash"].as_str().unwrap_or("-") == line.key_hash
                && row["client_ip"].as_str().unwrap_or("-") == line.client_ip
        };
        assert!(lines.iter().any(|line| is_it(&line)), "{row} is not logged: {lines:#?}");
    }
}

/// Runs `keygate serve` in production with this secret key, which must not start.
fn serve(secret_key: Option<&str>) -> Output {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(binaries().keygate);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("KEYGATE_") {
            command.env_remove(name);
        }
    }
    let listen = || format!("127.0.0.1:{}", free_port().unwrap());
    command
        .args(["serve", "--migrate"])
        .env("KEYGATE_DATABASE_URL", format!("sqlite://{}", dir.path().join("k.db").display()))
        .env("KEYGATE_EDGE_TOKEN", new_secret().unwrap())
        .env("KEYGATE_LISTEN", listen())
        .env("KEYGATE_EDGE_LISTEN", listen())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    if let Some(secret_key) = secret_key {
        command.env("KEYGATE_SECRET_KEY", secret_key);
    }
    let mut child = command.spawn().unwrap();
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        eventually("keygate refuses to start", || child.try_wait().unwrap())
    }));
    if let Err(panic) = ended {
        child.kill().unwrap();
        std::panic::resume_unwind(panic);
    }
    child.wait_with_output().unwrap()
}

#[test]
fn production_does_not_start_without_a_strong_secret_key_and_says_why() {
    let zeros = "0".repeat(64);
    let pattern = "deadbeef".repeat(8);
    let text: String =
        b"correct horse battery staple 123".iter().map(|b| format!("{b:02x}")).collect();
    let short = "3f9a1c77e0d25b8846f1029c6be87d145aa3c2e9178f604db35e7891f2ac0d";
    for (secret_key, why) in [
        (None, "is not set"),
        (Some(""), "is not set"),
        (Some(zeros.as_str()), "the same"),
        (Some(pattern.as_str()), "pattern"),
        (Some(text.as_str()), "text"),
        (Some("mySuperSecretKeyForKeygateThatNobodyGuesses"), "word"),
        (Some(short), "31"),
        (Some("changeme"), "32 bytes"),
    ] {
        let output = serve(secret_key);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{secret_key:?}: {said}");
        assert!(
            said.contains("KEYGATE_SECRET_KEY") && said.contains(why),
            "{secret_key:?}: {said}"
        );
        assert!(said.contains("openssl rand -hex 32"), "it does not say what to do: {said}");
        if let Some(secret_key) = secret_key.filter(|key| !key.is_empty()) {
            assert!(!said.contains(secret_key), "{said}");
        }
    }
}
