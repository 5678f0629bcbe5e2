//! Asking the control plane about a key: once, in time, and never believing anybody else.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::{
    Answer, Conduct, Connection, EdgeProxy, Gate, GateBuilder, Key, Made, eventually,
    fresh_address, key_hash, unix_ms, unknown_key,
};

const VERIFY: &str = "/edge/v1/verify";
/// How much later than configured an answer may come on a busy machine.
const SLACK: Duration = Duration::from_secs(5);
/// `control_plane.timeout_ms`, as it is by default, where it is what is looked at.
const TIMEOUT: Duration = Duration::from_secs(1);

/// A gate without limits that reaches its control plane through a proxy.
fn behind_proxy(proxy: &EdgeProxy) -> GateBuilder {
    Gate::builder().config(json!({"limits": []})).edit_envoy(proxy.in_between())
}

/// A new key that both workers have heard of: it will have them forget no unknown one any more.
fn announced_key(gate: &Gate) -> Key {
    gate.have_both_follow_the_feed();
    let heard = || gate.stat("wasmcustom.keygate.feed.changes");
    let before = heard();
    let key = gate.admin().key_of_scope("read");
    eventually("both workers have heard of the key", || (heard() >= before + 2).then_some(()));
    key
}

/// The configuration of a filter that waits for no longer than [`TIMEOUT`].
fn impatient() -> Value {
    json!({"control_plane": {"timeout_ms": TIMEOUT.as_millis() as u64}})
}

/// Sends a request and says how long its answer took.
fn timed(gate: &Gate, connection: &mut Connection, key: impl AsRef<[u8]>) -> (Answer, Duration) {
    let start = Instant::now();
    let answer = gate.get("/").key(key).client(fresh_address()).send_on(connection);
    (answer, start.elapsed())
}

#[track_caller]
fn assert_cannot_be_told(answer: &Answer, took: Duration) {
    answer.assert_problem(503, "temporarily_unavailable");
    assert_eq!(answer.number("retry-after"), 1);
    assert!(took < TIMEOUT + SLACK, "it took {took:?}");
}

#[test]
fn concurrent_misses_on_one_key_make_one_call_per_worker() {
    const REQUESTS: u64 = 40;
    let proxy = EdgeProxy::start();
    let gate =
        behind_proxy(&proxy).config(json!({"control_plane": {"timeout_ms": 30_000}})).start();
    let key = gate.admin().key_of_scope("read");
    let before = gate.connections_of_workers();
    proxy.conduct(VERIFY, Conduct::Hold);

    // One connection to each worker for certain, the others as chance has it.
    let mut connections = vec![gate.connect_to_worker(0), gate.connect_to_worker(1)];
    connections.resize_with(usize::try_from(REQUESTS).unwrap(), || gate.connect());
    for connection in &mut connections {
        let request = gate.get("/").key(&key).client(fresh_address());
        connection.write(&request.bytes()).unwrap();
    }
    eventually("all requests wait for an answer about the key", || {
        (gate.stat("wasmcustom.keygate.cache.miss") == REQUESTS).then_some(())
    });
    eventually("each worker has asked", || (proxy.questions_about(&key) == 2).then_some(()));
    assert_eq!(gate.upstream_hits(), 0, "nobody passes before the answer");

    proxy.conduct(VERIFY, Conduct::Forward);
    for connection in &mut connections {
        assert_eq!(connection.read_answer(true).unwrap().status, 200);
    }
    assert_eq!(gate.upstream_hits(), REQUESTS);
    assert_eq!(proxy.questions_about(&key), 2);
    let after = gate.connections_of_workers();
    assert!(after.iter().zip(before).all(|(after, before)| *after > before));
    assert_eq!(gate.stat("wasmcustom.keygate.calls.verify"), 2);
}

#[test]
fn an_answer_is_kept_though_the_client_that_caused_it_has_gone() {
    let proxy = EdgeProxy::start();
    let gate =
        behind_proxy(&proxy).config(json!({"control_plane": {"timeout_ms": 30_000}})).start();
    let health = gate.vm_health();
    let key = announced_key(&gate);
    let unknown = unknown_key();
    proxy.conduct(VERIFY, Conduct::Hold);
    for key in [key.text.as_str(), &unknown] {
        let gone_before = gate.stat("http.gateway.downstream_cx_destroy_remote_active_rq");
        let mut leaving = gate.connect_to_worker(0);
        let request = gate.get("/").key(key).client(fresh_address());
        leaving.write(&request.bytes()).unwrap();
        eventually("the worker asks", || (proxy.questions_about(key) == 1).then_some(()));
        drop(leaving);
        eventually("Envoy sees that the client has gone", || {
            let gone = gate.stat("http.gateway.downstream_cx_destroy_remote_active_rq");
            (gone > gone_before).then_some(())
        });
    }
    proxy.conduct(VERIFY, Conduct::Forward);

    let mut connection = gate.connect_to_worker(0);
    assert_eq!(timed(&gate, &mut connection, &key).0.status, 200);
    timed(&gate, &mut connection, &unknown).0.assert_problem(403, "invalid_api_key");
    assert_eq!(proxy.questions_about(&key), 1);
    assert_eq!(proxy.questions_about(&unknown), 1);
    assert_eq!(gate.upstream_hits(), 1, "the requests of those who left went nowhere");
    assert_eq!(gate.vm_health(), health);
}

#[test]
fn an_unknown_key_is_asked_about_once_per_worker_until_a_key_is_made() {
    let proxy = EdgeProxy::start();
    let gate = behind_proxy(&proxy).start();
    let unknown = unknown_key();
    gate.have_both_follow_the_feed();
    let mut workers = [gate.connect_to_worker(0), gate.connect_to_worker(1)];
    for connection in &mut workers {
        for _ in 0..20 {
            let (answer, _) = timed(&gate, connection, &unknown);
            answer.assert_problem(403, "invalid_api_key");
        }
    }
    assert_eq!(proxy.questions_about(&unknown), 2);
    let hash = key_hash(&unknown);
    gate.audited("INVALID_KEY", |row| {
        row["key_hash"] == hash.as_str() && row["details"] == "reason=unknown cached=true"
    });

    // A key that was asked about too early (by a client faster than its issuer, say) must not
    // stay unknown: what is made drops what was thought unknown.
    let [connection, _] = &mut workers;
    let _ = gate.admin().key_of_scope("read");
    eventually("the unknown key is asked about again", || {
        timed(&gate, connection, &unknown).0.assert_problem(403, "invalid_api_key");
        (proxy.questions_about(&unknown) > 2).then_some(())
    });
}

#[test]
fn an_outage_of_the_control_plane_stops_unknown_keys_only_and_loses_no_event() {
    let mut gate = Gate::builder()
        .config(json!({"limits": [], "cache": {"fresh_seconds": 2}}))
        .config(impatient())
        .start();
    let known = gate.admin().key_of_scope("read");
    let mut workers = [gate.connect_to_worker(0), gate.connect_to_worker(1)];
    for connection in &mut workers {
        assert_eq!(timed(&gate, connection, &known).0.status, 200);
    }
    let learned_at = unix_ms();

    gate.stack.control_plane.process_mut().kill().unwrap();
    let mut events = Vec::new();
    let mut refuse = |gate: &Gate, connection: &mut Connection| {
        let (unknown, address) = (unknown_key(), fresh_address());
        let start = Instant::now();
        let answer = gate.get("/").key(&unknown).client(&address).send_on(connection);
        assert_cannot_be_told(&answer, start.elapsed());
        events.push(("DB_ERROR", address, Some(key_hash(&unknown))));
        let address = fresh_address();
        let answer = gate.get("/").client(&address).send_on(connection);
        answer.assert_problem(403, "missing_api_key");
        events.push(("MISSING_API_KEY", address, None));
    };
    for connection in &mut workers {
        assert_eq!(timed(&gate, connection, &known).0.status, 200);
        refuse(&gate, connection);
    }
    eventually("what is known of the key is no longer fresh", || {
        (unix_ms() > learned_at + 3000).then_some(())
    });
    for _ in 0..20 {
        for connection in &mut workers {
            let (answer, took) = timed(&gate, connection, &known);
            assert_eq!(answer.status, 200, "{answer:?}");
            assert!(took < TIMEOUT + SLACK, "it took {took:?}");
            refuse(&gate, connection);
        }
    }
    assert!(gate.stat("wasmcustom.keygate.refused.db_error") > 0);

    gate.stack.control_plane.restart().unwrap();
    let new = gate.admin().key_of_scope("read");
    for connection in &mut workers {
        eventually("a new key passes", || {
            (timed(&gate, connection, &new).0.status == 200).then_some(())
        });
        assert_eq!(timed(&gate, connection, &known).0.status, 200);
    }
    for (event, address, hash) in &events {
        let is_it = |row: &Value| row["client_ip"] == address.as_str();
        let row = gate.audited(event, is_it);
        assert_eq!(row["key_hash"].as_str(), hash.as_deref());
    }
    // Batches go out in order: once the last of each worker is stored, none of these comes again.
    for connection in &mut workers {
        let last = fresh_address();
        gate.get("/").client(&last).send_on(connection).assert_problem(403, "missing_api_key");
        gate.audited("MISSING_API_KEY", |row| row["client_ip"] == last.as_str());
    }
    let log = gate.admin().audit_log();
    for (event, address, _) in &events {
        let of_address: Vec<_> =
            log.iter().filter(|row| row["client_ip"] == address.as_str()).collect();
        assert_eq!(of_address.len(), 1, "{of_address:?}");
        assert_eq!(of_address[0]["event"], *event);
    }
}

#[test]
fn a_slow_control_plane_keeps_nobody_waiting_beyond_the_timeout() {
    let proxy = EdgeProxy::start();
    let mut gate = behind_proxy(&proxy)
        .config(json!({"cache": {"fresh_seconds": 1}}))
        .config(impatient())
        .start();
    let known = gate.admin().key_of_scope("read");
    let mut connection = gate.connect_to_worker(0);
    assert_eq!(timed(&gate, &mut connection, &known).0.status, 200);

    proxy.conduct(VERIFY, Conduct::Delay(Duration::from_secs(20)));
    // Who comes right after one that waited in vain is told at once.
    let mut waits = Vec::new();
    eventually("three have waited for an answer", || {
        let (answer, took) = timed(&gate, &mut connection, unknown_key());
        assert_cannot_be_told(&answer, took);
        waits.extend((took >= TIMEOUT / 2).then_some(took));
        (waits.len() == 3).then_some(())
    });
    // What a busy machine adds, it does not add each time.
    assert!(waits.iter().min() < Some(&(2 * TIMEOUT)), "{waits:?}");
    let learned_at = unix_ms();
    eventually("what is known of the key is no longer fresh", || {
        (unix_ms() > learned_at + 1500).then_some(())
    });
    let (answer, took) = timed(&gate, &mut connection, &known);
    assert_eq!(answer.status, 200, "an old answer serves: {answer:?}");
    assert!(took < TIMEOUT + SLACK, "it took {took:?}");

    // A control plane that is frozen: connections stay up, nothing is answered at all.
    proxy.conduct(VERIFY, Conduct::Forward);
    gate.stack.control_plane.process_mut().pause().unwrap();
    for _ in 0..3 {
        let (answer, took) = timed(&gate, &mut connection, unknown_key());
        assert_cannot_be_told(&answer, took);
        let (answer, took) = timed(&gate, &mut connection, &known);
        assert_eq!(answer.status, 200, "an old answer serves: {answer:?}");
        assert!(took < TIMEOUT + SLACK, "it took {took:?}");
    }
    gate.stack.control_plane.process_mut().resume().unwrap();
    let unknown = unknown_key();
    eventually("unknown keys can be told again", || {
        let (answer, _) = timed(&gate, &mut connection, &unknown);
        (answer.code() == "invalid_api_key").then_some(())
    });
    eventually("no request is left hanging", || {
        (gate.stat("http.gateway.downstream_rq_active") == 0).then_some(())
    });
}

#[test]
fn nothing_but_a_good_answer_of_the_control_plane_lets_a_key_pass() {
    let proxy = EdgeProxy::start();
    let gate = behind_proxy(&proxy).config(impatient()).start();
    let health = gate.vm_health();
    let good = json!({
        "as_of": {"epoch": "00", "sequence": 0},
        "verdict": "known",
        "record": {"key_id": "3c5588afe5b04bdd", "scope": "admin", "environment": "live", "is_active": true},
    });
    let with_record = |field: &str, value: Value| {
        let mut answer = good.clone();
        answer["record"][field] = value;
        Made::stamped(200, answer.to_string())
    };
    let good = good.to_string();
    let cases = [
        ("nobody's stamp", Made::plain(200, good.clone())),
        ("another stamp", Made::plain(200, good.clone()).header("x-keygate-edge", "2")),
        ("rubbish", Made::stamped(200, "\u{0}\u{1}garbage{{{")),
        ("rubbish without a stamp", Made::plain(200, "<html>Welcome</html>")),
        ("nothing", Made::stamped(200, "")),
        ("half an answer", Made::stamped(200, &good.as_bytes()[..good.len() / 2])),
        ("no JSON object", Made::stamped(200, "true")),
        ("a verdict that does not exist", Made::stamped(200, good.replace("known", "fine"))),
        ("a key id that is none", with_record("key_id", json!("../../admin"))),
        ("an owner with a line break", with_record("owner", json!("a\r\nx-keygate-scope: admin"))),
        (
            "a limit of nothing",
            with_record("rate_limit", json!({"requests": 0, "window_seconds": 0})),
        ),
        ("another success", Made::stamped(201, good.clone())),
        ("no content", Made::stamped(204, "")),
        ("a redirect", Made::stamped(302, good.clone()).header("location", "/edge/v1/verify")),
        ("a redirect away", Made::plain(302, "").header("location", "http://127.0.0.1:1/")),
        ("a refusal", Made::stamped(401, good.clone())),
        ("not found", Made::plain(404, good.clone())),
        ("an error", Made::stamped(500, good.clone())),
        ("a huge answer", Made::stamped(200, vec![b' '; 8 << 20])),
        ("a huge answer around a good one", {
            Made::stamped(200, format!("{good}{}", " ".repeat(4 << 20)))
        }),
    ];
    for (name, answer) in cases {
        proxy.conduct(VERIFY, Conduct::Answer(answer));
        let key = unknown_key();
        // After a failed call the control plane is left alone for half a second.
        eventually(&format!("a worker gets {name}"), || {
            let start = Instant::now();
            let answer = gate.get("/").key(&key).client(fresh_address()).send();
            assert_cannot_be_told(&answer, start.elapsed());
            (proxy.questions_about(&key) > 0).then_some(())
        });
    }
    assert_eq!(gate.upstream_hits(), 0);
    assert_eq!(gate.vm_health(), health);

    // The same for the feed: what it says must not bring anything down.
    proxy.conduct("/edge/v1/changes", Conduct::Answer(Made::stamped(200, "[]")));
    proxy.conduct(VERIFY, Conduct::Forward);
    let key = gate.admin().key_of_scope("read");
    let polls = proxy.calls("/edge/v1/changes").len();
    eventually("the feed is asked and asked", || {
        (proxy.calls("/edge/v1/changes").len() > polls + 3).then_some(())
    });
    eventually("a key can be told again", || {
        (gate.get("/").key(&key).client(fresh_address()).send().status == 200).then_some(())
    });
    assert_eq!(gate.vm_health(), health);
}
