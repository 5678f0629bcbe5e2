//! How often a key was used is told exactly, whatever happens on the way.

use serde_json::{Value, json};
use tests::{Conduct, Connection, EdgeProxy, Gate, Key, eventually, fresh_address};

const EVENTS: &str = "/edge/v1/events";
const DAY: u64 = 86_400;
const ROUNDS: u64 = 5;
const WORKERS: u64 = 2;

/// Sends requests of every outcome to a worker.
fn round(gate: &Gate, worker: &mut Connection, [good, elsewhere, ended]: [&Key; 3]) {
    let mut ask = |method: &str, path: &str, key: &Key, status: u16| {
        // From an address of its own, so that failures do not add up.
        let mut request = gate.request(method, path).key(key).client(fresh_address());
        if method != "GET" {
            request = request.header("Content-Length", "0");
        }
        let answer = request.send_on(worker);
        assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
    };
    for _ in 0..10 {
        ask("GET", "/", good, 200);
    }
    ask("POST", "/", good, 200);
    ask("PURGE", "/", good, 200);
    ask("DELETE", "/admin", good, 403);
    ask("GET", "/", elsewhere, 403);
    ask("GET", "/", ended, 403);
}

fn usage(gate: &Gate, key: &Key, interval: &str) -> Value {
    let path = format!("/api/v1/admin/api-keys/{}/usage?interval={interval}", key.id);
    let answer = gate.admin().call("GET", &path, None);
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

#[test]
fn every_request_of_both_workers_is_counted_once_through_lost_answers_and_restarts() {
    let proxy = EdgeProxy::start();
    let mut gate = Gate::builder()
        .config(json!({
            "limits": [{
                "name": "one", "per": "key", "path_prefix": "/limited",
                "requests": 1, "window_seconds": DAY,
            }],
            "scopes": [{"path_prefix": "/admin", "scope": "admin"},
                       {"path_prefix": "/", "scope": "write"}],
        }))
        .edit_envoy(proxy.in_between())
        .start();
    let admin = gate.admin();
    let good = admin.key_of_scope("write");
    let elsewhere = admin.create_key(json!({"scope": "write", "allowed_ips": ["2001:db8::/32"]}));
    let ended = admin.key_of_scope("write");
    admin.revoke(&ended.id);
    let keys = [&good, &elsewhere, &ended];
    let mut workers = [gate.connect_to_worker(0), gate.connect_to_worker(1)];
    let mut all = |gate: &Gate| {
        for worker in &mut workers {
            round(gate, worker, keys);
        }
    };

    all(&gate);
    proxy.conduct(EVENTS, Conduct::LoseAnswer);
    let before = proxy.calls(EVENTS).len();
    all(&gate);
    eventually("batches are repeated", || (proxy.calls(EVENTS).len() >= before + 4).then_some(()));
    gate.stack.control_plane.process_mut().kill().unwrap();
    all(&gate);
    gate.stack.control_plane.restart().unwrap();
    all(&gate);
    proxy.conduct(EVENTS, Conduct::Forward);
    gate.stack.control_plane.restart().unwrap();
    all(&gate);
    // One passes, whichever worker gets it; that it is one is told by both.
    for (worker, status) in workers.iter_mut().zip([200, 429]) {
        let answer = gate.get("/limited").key(&good).client(fresh_address()).send_on(worker);
        assert_eq!(answer.status, status, "{answer:?}");
    }
    // Batches go out in order: once the last of each worker is stored, none of these comes again.
    for worker in &mut workers {
        let last = fresh_address();
        gate.get("/").client(&last).send_on(worker).assert_problem(403, "missing_api_key");
        gate.audited("MISSING_API_KEY", |row| row["client_ip"] == last.as_str());
    }
    let rounds = ROUNDS * WORKERS;
    let expected = json!({
        "requests": 13 * rounds + 2,
        "by_method": {"GET": 10 * rounds + 2, "POST": rounds, "OTHER": rounds, "DELETE": rounds},
        "by_outcome": {"allowed": 12 * rounds + 1, "rate_limited": 1, "scope_denied": rounds},
    });
    eventually("all is counted", || {
        let counted = usage(&gate, &good, "hour")["total"]["requests"].as_u64();
        (counted >= Some(13 * rounds + 2)).then_some(())
    });
    for interval in ["minute", "hour", "day"] {
        let told = usage(&gate, &good, interval);
        assert_eq!(told["total"], expected, "{told}");
        let series = told["series"].as_array().unwrap();
        let sum: u64 = series.iter().map(|point| point["requests"].as_u64().unwrap()).sum();
        assert_eq!(sum, 13 * rounds + 2, "{told}");
    }
    let only = |outcome: &str| json!({"requests": rounds, "by_method": {"GET": rounds}, "by_outcome": {outcome: rounds}});
    eventually("the others are counted too", || {
        let totals = [&elsewhere, &ended].map(|key| usage(&gate, key, "hour")["total"].clone());
        (totals == [only("ip_denied"), only("revoked")]).then_some(())
    });

    let keygate = gate.stack.control_plane.keygate();
    let by_hour = ["keys", "usage", &good.id, "--json"];
    assert_eq!(keygate.run_json(&by_hour).unwrap()["total"], expected);
    let table = keygate.run(&["keys", "usage", &good.id, "--interval", "day"]).unwrap();
    let total = table.lines().last().unwrap().split_whitespace().collect::<Vec<_>>();
    assert_eq!(total, ["total", "132", "121", "1", "10"], "{table}");
    // It was let through, and that was noted: to the minute, or when it was verified.
    eventually("the last use is written down", || {
        gate.admin().get_key(&good.id)["last_used_at"].is_string().then_some(())
    });
    assert_eq!(gate.stat("wasmcustom.keygate.usage.dropped"), 0);
}
