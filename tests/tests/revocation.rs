//! A key that is over is over at every worker, soon and for good.

use std::time::{Duration, Instant};

use serde_json::json;
use tests::{Connection, Gate, Key, eventually, fresh_address, rfc3339, unix_ms, within};

/// How long it takes at most on a busy machine. The middle one is below [`USUAL`], which a poll of the feed
/// that no change wakes (5 s) would not keep. How long it takes is printed.
const BOUND: Duration = Duration::from_secs(10);
const USUAL: Duration = Duration::from_secs(1);
const KEYS: usize = 60;
const KEYS_OF_CLI: usize = 15;

fn gate() -> Gate {
    Gate::builder().config(json!({"limits": []})).start()
}

/// The answer's status and code to a request with a key; from an address of its own, so that
/// failures do not add up.
fn ask(gate: &Gate, connection: &mut Connection, key: &Key) -> (u16, String) {
    let answer = gate.get("/").key(key).client(fresh_address()).send_on(connection);
    (answer.status, answer.code())
}

fn passes(gate: &Gate, connection: &mut Connection, key: &Key) -> bool {
    match ask(gate, connection, key) {
        (200, _) => true,
        (403, code) if code == "invalid_api_key" => false,
        other => panic!("neither passed nor refused as a bad key: {other:?}"),
    }
}

/// How long after `start` each worker first refuses the key.
fn refused_after(
    gate: &Gate,
    workers: &mut [Connection],
    key: &Key,
    start: Instant,
) -> Vec<Duration> {
    let mut after: Vec<Option<Duration>> = vec![None; workers.len()];
    within(Duration::from_secs(20), "every worker refuses the key", || {
        // Close to each other: the pause between two looks must not be what is measured.
        let deadline = Instant::now() + Duration::from_millis(500);
        while after.contains(&None) && Instant::now() < deadline {
            for (after, worker) in after.iter_mut().zip(&mut *workers) {
                if after.is_none() && !passes(gate, worker, key) {
                    *after = Some(start.elapsed());
                }
            }
        }
        after.iter().copied().collect()
    })
}

/// Says how long it took: the middle one, and the longest.
fn print(what: &str, mut took: Vec<Duration>) -> [Duration; 2] {
    took.sort();
    let at = |share: usize| took[(took.len() - 1) * share / 100];
    println!(
        "{what}: {} measured, p50 {:?}, p99 {:?}, longest {:?}",
        took.len(),
        at(50),
        at(99),
        at(100)
    );
    [at(50), at(100)]
}

#[test]
fn a_revoked_key_is_refused_by_every_worker() {
    let gate = gate();
    let mut workers = vec![gate.connect_to_worker(0), gate.connect_to_worker(1)];
    let keys: Vec<_> = (0..KEYS + KEYS_OF_CLI).map(|_| gate.admin().key_of_scope("read")).collect();
    for key in &keys {
        for worker in &mut workers {
            // Twice: the second time from the cache.
            assert!(passes(&gate, worker, key) && passes(&gate, worker, key));
        }
    }
    let (by_api, by_cli) = keys.split_at(KEYS);

    let mut took = Vec::new();
    for key in by_api {
        gate.admin().revoke(&key.id);
        took.extend(refused_after(&gate, &mut workers, key, Instant::now()));
    }
    let [middle, longest] = print("from the admin API's answer to a worker's refusal", took);
    assert!(middle < USUAL && longest < BOUND, "{middle:?} {longest:?}");

    let mut took = Vec::new();
    let keygate = gate.stack.control_plane.keygate();
    for key in by_cli {
        keygate.run(&["keys", "revoke", &key.id]).unwrap();
        took.extend(refused_after(&gate, &mut workers, key, Instant::now()));
    }
    let [middle, longest] =
        print("from the end of `keygate keys revoke` to a worker's refusal", took);
    assert!(middle < USUAL && longest < BOUND, "{middle:?} {longest:?}");

    // Nothing brings one back, on no connection of any worker.
    for key in &keys {
        assert!(!passes(&gate, &mut gate.connect(), key));
        for worker in &mut workers {
            assert!(!passes(&gate, worker, key));
        }
    }
    let first = &keys[0];
    let row = gate.audited("REVOKED_KEY", |row| row["key_id"] == first.id.as_str());
    assert_eq!(row["details"], "reason=revoked");
}

#[test]
fn a_revocation_outlasts_restarts_and_is_caught_up_with_after_an_outage() {
    let mut gate = gate();
    let mut workers = vec![gate.connect_to_worker(0), gate.connect_to_worker(1)];
    let [revoked, meanwhile, good] = [(); 3].map(|()| gate.admin().key_of_scope("read"));
    for worker in &mut workers {
        for key in [&revoked, &meanwhile, &good] {
            assert!(passes(&gate, worker, key));
        }
    }
    gate.admin().revoke(&revoked.id);
    refused_after(&gate, &mut workers, &revoked, Instant::now());

    // While the control plane is down, its database is changed from the command line.
    gate.stack.control_plane.process_mut().stop().unwrap();
    let keygate = gate.stack.control_plane.keygate();
    keygate.run(&["keys", "revoke", &meanwhile.id]).unwrap();
    for worker in &mut workers {
        // Nothing is known of its loss; what was revoked before stays so.
        assert!(passes(&gate, worker, &meanwhile) && passes(&gate, worker, &good));
        assert!(!passes(&gate, worker, &revoked));
    }
    gate.stack.control_plane.restart().unwrap();
    let start = Instant::now();
    let took = refused_after(&gate, &mut workers, &meanwhile, start);
    print("from the control plane's return to a worker's refusal", took);
    for worker in &mut workers {
        assert!(!passes(&gate, worker, &revoked));
        assert!(passes(&gate, worker, &good));
    }

    gate.stack.envoy.restart().unwrap();
    for worker in [0, 1] {
        let mut connection = gate.connect_to_worker(worker);
        for key in [&revoked, &meanwhile] {
            assert!(!passes(&gate, &mut connection, key));
        }
        assert!(passes(&gate, &mut connection, &good));
    }
}

#[test]
fn a_key_expires_at_its_time_without_a_call() {
    let gate = gate();
    gate.have_both_follow_the_feed();
    let mut workers = vec![gate.connect_to_worker(0), gate.connect_to_worker(1)];
    let ends_at = unix_ms() + 8000;
    let key = gate.admin().create_key(json!({"scope": "read", "expires_at": rfc3339(ends_at)}));
    for worker in &mut workers {
        assert!(passes(&gate, worker, &key));
    }
    assert!(unix_ms() < ends_at, "the machine is too slow for this test");
    let calls = gate.admin().verify_calls();
    let mut last_passed = [0; 2];
    let mut first_refused = [0; 2];
    eventually("every worker refuses the key", || {
        for (n, worker) in workers.iter_mut().enumerate() {
            let (before, passed, after) = (unix_ms(), passes(&gate, worker, &key), unix_ms());
            if passed {
                last_passed[n] = before;
                assert_eq!(first_refused[n], 0, "it came back to life");
            } else if first_refused[n] == 0 {
                first_refused[n] = after;
            }
        }
        first_refused.iter().all(|at| *at > 0).then_some(())
    });
    for (last_passed, first_refused) in last_passed.into_iter().zip(first_refused) {
        assert!(last_passed <= ends_at, "it passed {} ms late", last_passed - ends_at);
        assert!(first_refused >= ends_at, "it was over {} ms early", ends_at - first_refused);
    }
    assert_eq!(gate.admin().verify_calls(), calls);
    let row = gate.audited("EXPIRED_KEY", |row| row["key_id"] == key.id.as_str());
    assert_eq!(row["details"], "reason=expired");
}
