//! Redis is away, frozen, or another one. Requests do not need it; administrators' calls are counted
//! with it, and without it by each control plane itself.

use std::time::{Duration, Instant};

use tests::load::Load;
use tests::{Gate, eventually, patient};
use xtask::servers::redis::{RedisOptions, RedisSentinels, RedisServer};

use super::{UNKNOWN, Usual, assert_the_promise, gate};

/// How long an administrator usually waits for an answer at most, of which Redis has 50 ms; and at the very
/// most, on a busy machine.
const USUAL: Duration = Duration::from_millis(300);
const BUSY: Duration = Duration::from_secs(3);

/// An administrator who asks all the time, for so long; and keys that the gate does not know are told
/// all the time.
#[track_caller]
fn nobody_notices(gate: &Gate, load: &Load, time: Duration) {
    let start = Instant::now();
    let mut took = Vec::new();
    while start.elapsed() < time {
        let asked = Instant::now();
        let answer = gate.admin().call("GET", "/api/v1/admin/api-keys/?limit=1", None);
        assert_eq!(answer.status, 200, "{answer:?}");
        took.push(asked.elapsed());
    }
    took.sort_unstable();
    let (middle, longest) = (took[took.len() / 2], took[took.len() - 1]);
    println!("{} calls of an administrator: p50 {middle:?}, longest {longest:?}", took.len());
    assert!(middle < USUAL && longest < BUSY, "an administrator waited: {took:?}");
    load.until_each_was_answered();
    load.so_far().begun_after(start).of(UNKNOWN).only(&[403]);
}

fn shows(gate: &Gate, redis: &str) {
    eventually(&format!("Redis is {redis}"), || {
        let health = gate.admin().request("GET", "/health").send();
        assert_eq!(health.status, 200, "{health:?}");
        (health.json()["redis"] == redis).then_some(())
    });
}

#[test]
fn without_redis_or_with_a_frozen_one_no_request_is_refused_or_slow() {
    let mut server = RedisServer::start(RedisOptions::default()).unwrap();
    let gate = gate().config(patient()).env("KEYGATE_REDIS_URL", &server.url()).start();
    let usual = Usual::of(&gate);
    shows(&gate, "connected");
    let load = usual.start(&gate);

    server.process_mut().pause().unwrap();
    nobody_notices(&gate, &load, Duration::from_secs(2));
    shows(&gate, "disconnected");
    assert!(gate.admin().metric("keygate_limiter_decisions_total", &["memory"]) > 0.0);
    server.process_mut().resume().unwrap();
    shows(&gate, "connected");

    server.process_mut().kill().unwrap();
    nobody_notices(&gate, &load, Duration::from_secs(2));
    shows(&gate, "disconnected");
    server.restart().unwrap();
    shows(&gate, "connected");
    let report = load.stop();
    assert_the_promise(&gate, &report);
    report.of(UNKNOWN).only(&[403]);
    report.told_once(&gate);
}

#[test]
fn a_fail_over_of_redis_is_followed_and_no_request_is_refused_or_slow() {
    let mut sentinels = RedisSentinels::start(None).unwrap();
    let gate = gate().config(patient()).env("KEYGATE_REDIS_URL", &sentinels.url()).start();
    let usual = Usual::of(&gate);
    shows(&gate, "connected");
    let load = usual.start(&gate);
    let before = sentinels.primary_port().unwrap();
    sentinels.primary_mut().unwrap().process_mut().kill().unwrap();
    nobody_notices(&gate, &load, Duration::from_secs(2));
    sentinels.wait_for_another_primary(before).unwrap();
    shows(&gate, "connected");
    nobody_notices(&gate, &load, Duration::from_millis(500));
    let report = load.stop();
    assert_the_promise(&gate, &report);
    report.of(UNKNOWN).only(&[403]);
    report.told_once(&gate);
}
