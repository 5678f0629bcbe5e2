//! A crash in the filter's VM never lets a request pass unchecked. The filter of these tests traps
//! when a request has `x-keygate-trap`.

use std::time::{Duration, Instant};

use serde_json::json;
use tests::{
    Answer, Conduct, Connection, EdgeProxy, Gate, GateBuilder, eventually, fresh_address,
    trap_filter, unknown_key,
};

/// How long nothing may move on a stream before Envoy ends it.
const IDLE: Duration = Duration::from_secs(2);
const DAY: u64 = 86_400;

fn gate() -> GateBuilder {
    Gate::builder().filter(trap_filter()).edit_envoy(|config| {
        let manager = config.connection_manager_mut()?;
        manager["stream_idle_timeout"] = format!("{}s", IDLE.as_secs()).into();
        Ok(())
    })
}

/// Traps the VM of a worker, by a request that would otherwise pass if its key is good.
#[track_caller]
fn trap(gate: &Gate, worker: usize, key: Option<&str>) {
    let mut request = gate.get("/").client(fresh_address()).header("x-keygate-trap", "1");
    if let Some(key) = key {
        request = request.key(key);
    }
    let answer = request.send_on(&mut gate.connect_to_worker(worker));
    assert_eq!(answer.status, 503, "{answer:?}");
}

/// The answer that a VM gives, once there is one: until then Envoy says 503.
fn decided(gate: &Gate, worker: usize, key: Option<&str>) -> Answer {
    eventually("the worker decides again", || {
        let mut request = gate.get("/").client(fresh_address());
        if let Some(key) = key {
            request = request.key(key);
        }
        let answer = request.send_on(&mut gate.connect_to_worker(worker));
        (answer.status != 503).then_some(answer)
    })
}

fn reloads(gate: &Gate) -> u64 {
    let is_it = |name: &str| name.starts_with("wasm.") && name.ends_with("vm_reload_success");
    gate.stats().iter().filter(|(name, _)| is_it(name)).map(|(_, value)| value).sum()
}

#[test]
fn a_request_that_crashes_the_vm_is_refused_and_a_fresh_vm_takes_over() {
    let gate = gate().config(json!({"limits": []})).start();
    gate.have_both_follow_the_feed();
    let key = gate.admin().key_of_scope("read").text;
    let mut other = gate.connect_to_worker(1);
    for worker in [0, 1] {
        assert_eq!(decided(&gate, worker, Some(&key)).status, 200);
    }
    let (hits, calls) = (gate.upstream_hits(), gate.admin().verify_calls());

    trap(&gate, 0, Some(&key));
    assert_eq!(gate.upstream_hits(), hits, "the request that crashed the VM went through");
    // The other worker does not notice.
    let mut ask_other = |key: Option<&str>| {
        let request = gate.get("/").client(fresh_address());
        key.map_or(request.clone(), |key| request.key(key)).send_on(&mut other)
    };
    assert_eq!(ask_other(Some(&key)).status, 200);
    ask_other(None).assert_problem(403, "missing_api_key");
    assert_eq!(gate.admin().verify_calls(), calls, "its cache is gone");

    decided(&gate, 0, None).assert_problem(403, "missing_api_key");
    decided(&gate, 0, Some(&unknown_key())).assert_problem(403, "invalid_api_key");
    assert_eq!(decided(&gate, 0, Some(&key)).status, 200);
    assert_eq!(gate.admin().verify_calls(), calls + 2, "a fresh VM knows no key");
    assert!(reloads(&gate) >= 1);
    gate.logged(&["[error][wasm]", "proxy_on_request_headers failed"]);

    // The fresh VM follows the feed as the first one did.
    let revoked = gate.admin().key_of_scope("read");
    assert_eq!(decided(&gate, 0, Some(&revoked.text)).status, 200);
    gate.admin().revoke(&revoked.id);
    eventually("the fresh VM hears of a revocation", || {
        (decided(&gate, 0, Some(&revoked.text)).status == 403).then_some(())
    });
}

#[test]
fn no_request_passes_unchecked_however_often_the_vm_crashes() {
    let gate = gate().config(json!({"limits": []})).start();
    let key = gate.admin().key_of_scope("read").text;
    let unknown = unknown_key();
    for round in 0..15 {
        let with = [None, Some(key.as_str()), Some(unknown.as_str())][round % 3];
        let hits = gate.upstream_hits();
        let mut connections = [0, 1].map(|worker| gate.connect_to_worker(worker));
        trap(&gate, round % 2, with);
        // At once, within the backoff: nobody decides, so nobody passes.
        for connection in &mut connections {
            for key in [None, Some(&unknown)] {
                let request = gate.get("/").client(fresh_address());
                let request = key.map_or(request.clone(), |key| request.key(key));
                let answer = request.send_on(connection);
                assert!(matches!(answer.status, 403 | 503), "{answer:?}");
            }
        }
        assert_eq!(gate.upstream_hits(), hits);
    }
    for worker in [0, 1] {
        assert_eq!(decided(&gate, worker, Some(&key)).status, 200);
        decided(&gate, worker, None).assert_problem(403, "missing_api_key");
    }
}

#[test]
fn requests_that_waited_in_a_crashed_vm_end_and_never_reach_the_upstream() {
    let proxy = EdgeProxy::start();
    let gate = gate()
        .config(json!({"limits": [], "control_plane": {"timeout_ms": 30_000}}))
        .edit_envoy(proxy.in_between())
        .start();
    let keys = [(); 2].map(|()| gate.admin().key_of_scope("read").text);
    proxy.conduct("/edge/v1/verify", Conduct::Hold);
    let mut waiting: Vec<Connection> = keys
        .iter()
        .map(|key| {
            let mut connection = gate.connect_to_worker(0);
            let request = gate.get("/").key(key).client(fresh_address());
            connection.write(&request.bytes()).unwrap();
            eventually("the worker asks", || (proxy.questions_about(key) == 1).then_some(()));
            connection
        })
        .collect();
    let start = Instant::now();
    trap(&gate, 0, None);

    // One answer comes while its request still hangs, the other never: neither lets it through.
    proxy.conduct("/edge/v1/verify", Conduct::Forward);
    for connection in &mut waiting {
        // An error of Envoy's, or the end of the connection.
        if let Ok(answer) = connection.read_answer(true) {
            assert!(matches!(answer.status, 408 | 503 | 504), "{answer:?}");
        }
        let took = start.elapsed();
        assert!(took < IDLE + Duration::from_secs(15), "it hung for {took:?}");
    }
    assert_eq!(gate.upstream_hits(), 0);
    for key in &keys {
        assert_eq!(decided(&gate, 0, Some(key)).status, 200);
    }
    assert_eq!(gate.upstream_hits(), 2);
    eventually("no request is left hanging", || {
        (gate.stat("http.gateway.downstream_rq_active") == 0).then_some(())
    });
}

#[test]
fn what_was_counted_before_a_crash_is_still_counted_after() {
    let limit = json!([
        {"name": "day", "per": "address", "requests": 5, "window_seconds": DAY}
    ]);
    let failures = json!({"requests": 3, "window_seconds": DAY});
    let gate = gate().config(json!({"limits": limit, "failed_attempts": failures})).start();
    let key = gate.admin().key_of_scope("read").text;
    let (busy, failing) = (fresh_address(), fresh_address());
    let ask = |worker: usize, key: &str, client: &str| {
        eventually("the worker decides", || {
            let request = gate.get("/").key(key).client(client);
            let answer = request.send_on(&mut gate.connect_to_worker(worker));
            (answer.status != 503).then_some(answer)
        })
    };
    for left in [4, 3, 2] {
        assert_eq!(ask(0, &key, &busy).number("x-ratelimit-remaining"), left);
    }
    for _ in 0..2 {
        ask(0, &unknown_key(), &failing).assert_problem(403, "invalid_api_key");
    }
    for worker in [0, 1] {
        trap(&gate, worker, Some(&key));
    }
    for (worker, left) in [(0, 1), (1, 0)] {
        assert_eq!(ask(worker, &key, &busy).number("x-ratelimit-remaining"), left);
    }
    ask(1, &unknown_key(), &failing).assert_problem(403, "invalid_api_key");
    for worker in [0, 1] {
        ask(worker, &key, &busy).assert_problem(429, "rate_limited");
        ask(worker, &unknown_key(), &failing).assert_problem(429, "too_many_failed_attempts");
        assert_eq!(ask(worker, &key, &failing).status, 200, "a good key still passes");
    }
}
