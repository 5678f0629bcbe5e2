//! Two control planes behind one cluster, as `envoy/two-control-planes.yaml` sets it up: one of them
//! dies, freezes or is replaced under load, and nobody is refused for it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tests::{
    Admin, Gate, Key, another_control_plane, control_planes_of, eventually, free_address,
    fresh_address, within,
};
use xtask::servers::postgres::{PostgresOptions, PostgresServer};
use xtask::stack::ControlPlaneProcess;

const CLUSTER: &str = "cluster.keygate_control_plane";
/// Keys that no worker has seen, for each part of the story.
const NEW_KEYS: usize = 40;
/// The filter's timeout, as it is by default.
const TIMEOUT: Duration = Duration::from_secs(1);
/// What a busy machine may take for an answer that takes some 20 ms on an idle one.
const BUSY: Duration = Duration::from_secs(3);

/// A worker whose last question failed asks nothing for half a second, and on a busy machine longer.
const RESTED: Duration = Duration::from_secs(5);

struct Fleet {
    gate: Gate,
    _other: ControlPlaneProcess,
    admin_of_other: Admin,
    _postgres: PostgresServer,
}

impl Fleet {
    /// The filter waits so long for an answer.
    fn start(timeout: Duration) -> Self {
        let timeout_ms = u64::try_from(timeout.as_millis()).unwrap();
        let postgres = PostgresServer::start(PostgresOptions::default()).unwrap();
        let edge = free_address();
        let gate = Gate::builder()
            .config(json!({
                "limits": [], "cache": {"fresh_seconds": 3600},
                "control_plane": {"timeout_ms": timeout_ms},
            }))
            .env("KEYGATE_DATABASE_URL", &postgres.create_database("fleet").unwrap())
            .edit_envoy(control_planes_of("two-control-planes.yaml", &[edge]))
            .start();
        let (other, admin_of_other) = another_control_plane(&gate, edge);
        let fleet = Self { gate, _other: other, admin_of_other, _postgres: postgres };
        fleet.wait_for_healthy(2);
        fleet.gate.have_both_follow_the_feed();
        fleet
    }

    fn wait_for_healthy(&self, healthy: u64) {
        eventually(&format!("{healthy} control planes are well"), || {
            (self.gate.stat(&format!("{CLUSTER}.membership_healthy")) == healthy).then_some(())
        });
    }

    /// Keys that the gate has never seen.
    fn keys(&self, count: usize) -> Vec<Key> {
        (0..count).map(|_| self.admin_of_other.key_of_scope("read")).collect()
    }

    /// Whether it does; 503 is no answer to that.
    fn passes(&self, key: &Key) -> bool {
        let status = self.ask(key);
        assert!([200, 503].contains(&status), "{status}");
        status == 200
    }

    fn ask(&self, key: &Key) -> u16 {
        self.gate.get("/").key(key).client(fresh_address()).send().status
    }

    /// Sends requests with a warm key and, one by one, with new ones, while `meanwhile` happens;
    /// returns the new keys' statuses, how many requests with the warm one were refused, and how
    /// long the slowest request with a new one took.
    fn under_load(&self, warm: &Key, new: &[Key], meanwhile: impl FnOnce()) -> Load {
        let (done, sent, refused) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    sent.fetch_add(1, Ordering::Relaxed);
                    if self.ask(warm) != 200 {
                        refused.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
            let asking = scope.spawn(|| {
                let ask = |key| {
                    let start = Instant::now();
                    (self.ask(key), start.elapsed())
                };
                new.iter().map(ask).collect::<Vec<_>>()
            });
            eventually("the load has begun", || (sent.load(Ordering::Relaxed) > 10).then_some(()));
            meanwhile();
            let answers = asking.join();
            done.store(true, Ordering::Relaxed);
            let answers = answers.unwrap();
            Load {
                warm_refused: refused.load(Ordering::Relaxed),
                new_refused: answers.iter().filter(|(status, _)| *status != 200).count(),
                slowest: answers.iter().map(|(_, took)| *took).max().unwrap(),
            }
        })
    }

    /// Revoked through the control plane that is left, and refused.
    fn assert_revocations_arrive(&self, key: &Key) {
        within(RESTED, "it passes", || self.passes(key).then_some(()));
        self.admin_of_other.revoke(&key.id);
        within(Duration::from_secs(5), "it is refused", || {
            (0..8).all(|_| self.ask(key) == 403).then_some(())
        });
    }
}

#[derive(Debug)]
struct Load {
    warm_refused: u64,
    new_refused: usize,
    /// Of those with a new key.
    slowest: Duration,
}

impl Load {
    /// A call that fails at both has the filter leave them alone for half a second, in which new keys
    /// are told to come back; keys that are known are not concerned.
    #[track_caller]
    fn assert_known_keys_unharmed(&self, when: &str) {
        println!("{when}: {self:?}");
        assert_eq!(self.warm_refused, 0, "{when}: {self:?}");
        assert!(self.slowest < BUSY, "{when}: {self:?}");
    }

    #[track_caller]
    fn assert_unharmed(&self, when: &str) {
        println!("{when}: {self:?}");
        assert_eq!((self.warm_refused, self.new_refused), (0, 0), "{when}: {self:?}");
        assert!(self.slowest < BUSY, "{when}: {self:?}");
    }
}

#[test]
fn a_control_plane_that_is_killed_or_stopped_under_load_costs_no_request_with_a_known_key() {
    let mut fleet = Fleet::start(BUSY);
    let [warm, first, second] = <[Key; 3]>::try_from(fleet.keys(3)).unwrap();
    for _ in 0..20 {
        assert_eq!(fleet.ask(&warm), 200);
    }
    eventually("both control planes are asked", || {
        let asked = |admin: &Admin| {
            admin.metric("keygate_http_requests_total", &["listener=\"edge\"", "/edge/v1/"]) > 0.0
        };
        (asked(&fleet.gate.admin()) && asked(&fleet.admin_of_other)).then_some(())
    });

    // Killed: what was under way at it is asked again at the other.
    let new = fleet.keys(NEW_KEYS);
    let pid = fleet.gate.stack.control_plane.process().pid();
    let load = fleet.under_load(&warm, &new, || signal(pid, Signal::KILL));
    load.assert_known_keys_unharmed("killed");
    fleet.assert_revocations_arrive(&first);
    fleet.wait_for_healthy(1);
    let load = fleet.under_load(&warm, &fleet.keys(NEW_KEYS / 3), || {});
    load.assert_unharmed("with one alone");

    // It comes back and is used again; then it is stopped, as an upgrade does it.
    fleet.gate.stack.control_plane.restart().unwrap();
    fleet.wait_for_healthy(2);
    let asked = |fleet: &Fleet| fleet.gate.admin().verify_calls();
    within(RESTED, "the one that is back is asked", || {
        let pass = fleet.keys(2).iter().all(|key| fleet.passes(key));
        (pass && asked(&fleet) > 0).then_some(())
    });
    let new = fleet.keys(NEW_KEYS);
    let pid = fleet.gate.stack.control_plane.process().pid();
    let load = fleet.under_load(&warm, &new, || signal(pid, Signal::TERM));
    load.assert_known_keys_unharmed("stopped");
    fleet.assert_revocations_arrive(&second);

    // No event was stored twice for having been sent twice.
    let retries = fleet.gate.stat(&format!("{CLUSTER}.upstream_rq_retry"));
    println!("calls that were made again: {retries}");
    let accepted = fleet.admin_of_other.audit_events("VALID_API_KEY");
    let mut ids: Vec<_> = accepted.iter().map(|row| row["id"].to_string()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), accepted.len());
}

#[test]
fn a_control_plane_that_freezes_is_left_alone_within_seconds_and_taken_back() {
    let mut fleet = Fleet::start(TIMEOUT);
    let [warm, key] = <[Key; 2]>::try_from(fleet.keys(2)).unwrap();
    for _ in 0..20 {
        assert_eq!(fleet.ask(&warm), 200);
    }
    // Frozen in the midst of a transaction it would keep the other from writing, for some seconds.
    eventually("all is told", || {
        (fleet.admin_of_other.usage(&warm.id)["requests"].as_u64() >= Some(20)).then_some(())
    });
    fleet.gate.stack.control_plane.process_mut().pause().unwrap();
    let frozen = Instant::now();
    // Known keys do not notice. An unknown one may have to wait for the filter's own time-out.
    let load = fleet.under_load(&warm, &fleet.keys(8), || {});
    println!("frozen: {load:?}");
    assert_eq!(load.warm_refused, 0, "{load:?}");
    fleet.wait_for_healthy(1);
    println!("left alone after {:?}", frozen.elapsed());
    let load = fleet.under_load(&warm, &fleet.keys(NEW_KEYS), || {});
    load.assert_known_keys_unharmed("left alone");
    fleet.assert_revocations_arrive(&key);

    fleet.gate.stack.control_plane.process_mut().resume().unwrap();
    fleet.wait_for_healthy(2);
    let load = fleet.under_load(&warm, &fleet.keys(NEW_KEYS / 3), || {});
    load.assert_known_keys_unharmed("taken back");
}

/// Sends a signal to the gate's own control plane, which other threads have in hand.
fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), signal).unwrap();
}
