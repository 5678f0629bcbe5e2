//! What is left of a limit that a fleet shares when a part of it fails: never more than the limit.

use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use tests::Replica;

use super::{Fleet, Limit, Seen, Spread, by_window, demand, demand_while, limit, now};

const HUNDRED: Limit = limit("/hundred", "key", 100, 10);

/// No window has more than the limit; gives what passed in the fullest.
#[track_caller]
fn never_too_much(what: &str, seen: &[Seen]) -> u32 {
    let windows = by_window(seen);
    println!("{what}: passed by window {windows:?}");
    assert!(windows.values().all(|passed| *passed <= HUNDRED.requests), "{what}: {windows:?}");
    windows.values().copied().max().unwrap_or(0)
}

/// Demand in one window, with something happening three seconds into it.
fn demand_of_hundred_while(fleet: &Fleet, happens: impl FnOnce() + Send) -> Vec<Seen> {
    let mut seen = demand_while(fleet, &[HUNDRED], Spread::Even, |begins| {
        sleep((begins + Duration::from_secs(3)).saturating_sub(now()));
        happens();
    });
    seen.remove(0)
}

#[test]
fn a_fleet_without_redis_goes_on_from_the_control_planes_memory() {
    let (fleet, mut redis) = Fleet::start(2, &[HUNDRED]);
    let seen = demand_of_hundred_while(&fleet, || redis.process_mut().pause().unwrap());
    assert!(never_too_much("Redis freezes", &seen) >= 95);
    let seen = demand(&fleet, &[HUNDRED], Spread::Even).remove(0);
    assert!(never_too_much("Redis is frozen", &seen) >= 95);
    assert!(fleet.gate.admin().metric("keygate_lease_asks_total", &["memory"]) > 0.0);
    let seen = demand_of_hundred_while(&fleet, || redis.process_mut().resume().unwrap());
    assert!(never_too_much("Redis is back", &seen) >= 95);
}

#[test]
fn a_fleet_without_its_control_plane_divides_its_limit() {
    let (mut fleet, _redis) = Fleet::start(2, &[HUNDRED]);
    fleet.gate.stack.control_plane.process_mut().kill().unwrap();
    // What it lent is good for five seconds; what begins later is divided.
    sleep(Duration::from_secs(6));
    let seen = demand(&fleet, &[HUNDRED], Spread::Even).remove(0);
    assert_eq!(never_too_much("no control plane", &seen), 100);
    assert!(fleet.counter("limits.safe_share") > 0);
    fleet.gate.stack.control_plane.restart().unwrap();
    // The window in which it comes back, and the next, which are counted by all together.
    for what in ["it comes back", "it is back", "it has been back"] {
        let seen = demand(&fleet, &[HUNDRED], Spread::Skewed).remove(0);
        never_too_much(what, &seen);
    }
}

#[test]
fn an_envoy_that_is_killed_or_joins_within_a_window_does_not_loosen_the_limit() {
    let (mut fleet, _redis) = Fleet::start(3, &[HUNDRED]);
    let doomed = fleet.replicas[1].envoy.process().pid().to_string();
    let seen = demand_of_hundred_while(&fleet, || {
        let killed = Command::new("kill").args(["-9", &doomed]).status().unwrap();
        assert!(killed.success());
    });
    never_too_much("an Envoy is killed", &seen);
    drop(fleet.replicas.pop());

    let mut joined = None;
    let seen = demand_of_hundred_while(&fleet, || {
        joined = Some(Replica::start(&fleet.gate, "late", None))
    });
    never_too_much("an Envoy starts", &seen);
    fleet.replicas.extend(joined);
    fleet.introduce_key();
    for what in ["it joins", "it has its share", "it goes on"] {
        let seen = demand(&fleet, &[HUNDRED], Spread::Even).remove(0);
        never_too_much(what, &seen);
    }
    assert!(fleet.gate.admin().metric("keygate_fleet_envoys", &[]) >= 3.0);
}
