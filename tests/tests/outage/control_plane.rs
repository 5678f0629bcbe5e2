//! The control plane is away, frozen, slow, or comes and goes.

use std::time::{Duration, Instant};

use serde_json::json;
use tests::load::{Carries, Load};
use tests::{Conduct, EdgeProxy, within};

use super::{
    CHANGES, ENDING, EVENTS, SLACK, TIMEOUT, UNKNOWN, Usual, VERIFY, WARM, assert_the_promise,
    gate, until_told_again,
};

/// Long enough for everything in it to happen: what is remembered is not fresh any more after two
/// seconds, and a batch that was not taken is tried again after 0.5, 1, 2 and 4 s.
const OUTAGE: Duration = Duration::from_secs(8);

#[test]
fn without_a_control_plane_warm_keys_are_served_and_limited_and_all_is_told_once_on_its_return() {
    without_the_control_plane(OUTAGE);
}

#[test]
fn a_minute_without_a_control_plane_is_as_good_as_some_seconds() {
    without_the_control_plane(Duration::from_secs(60));
}

fn without_the_control_plane(time: Duration) {
    let mut gate = gate().start();
    let usual = Usual::of(&gate);
    let load = usual.start(&gate);

    gate.stack.control_plane.process_mut().kill().unwrap();
    let killed = Instant::now();
    load.goes_on_for(time);
    let outage = load.so_far().begun_after(killed);
    gate.stack.control_plane.restart().unwrap();
    let back = Instant::now();
    let told_again = until_told_again(&load);
    load.until_each_was_answered();
    let report = load.stop();
    println!("unknown keys are told {:?} after the control plane is ready", told_again - back);

    assert_the_promise(&gate, &report);
    outage.of(UNKNOWN).print("unknown, in the outage").only(&[503]);
    outage.of(WARM).print("warm, in the outage");
    assert!(gate.stat("wasmcustom.keygate.cache.stale") > 0, "the outage was too short");
    assert!(gate.stat("wasmcustom.keygate.refused.db_error") > 0);
    report.told_once(&gate);
    assert_eq!(gate.stat("wasmcustom.keygate.events.dropped"), 0);
    assert_eq!(gate.stat("wasmcustom.keygate.usage.dropped"), 0);
}

#[test]
fn a_frozen_control_plane_costs_nobody_more_than_the_timeout_and_all_is_told_once() {
    let mut gate = gate().start();
    let usual = Usual::of(&gate);
    let load = usual.start(&gate);
    gate.stack.control_plane.process_mut().pause().unwrap();
    let stopped = Instant::now();
    load.goes_on_for(OUTAGE);
    let outage = load.so_far().begun_after(stopped + Duration::from_millis(100));
    gate.stack.control_plane.process_mut().resume().unwrap();
    until_told_again(&load);
    let report = load.stop();

    assert_the_promise(&gate, &report);
    outage.of(UNKNOWN).print("unknown, in the outage").only(&[503]);
    assert!(outage.of(UNKNOWN).usual_wait_beyond(TIMEOUT / 2) < TIMEOUT * 2);
    report.told_once(&gate);
}

#[test]
fn answers_that_take_ten_seconds_keep_nobody_waiting_for_them_and_all_is_told_once() {
    let proxy = EdgeProxy::start();
    let gate = gate().edit_envoy(proxy.in_between()).start();
    let usual = Usual::of(&gate);
    let load = usual.start(&gate);
    for path in [VERIFY, EVENTS, CHANGES] {
        proxy.conduct(path, Conduct::Delay(Duration::from_secs(10)));
    }
    let slow = Instant::now();
    load.goes_on_for(OUTAGE);
    let outage = load.so_far().begun_after(slow);
    let batches = proxy.calls(EVENTS).len();
    for path in [VERIFY, EVENTS, CHANGES] {
        proxy.conduct(path, Conduct::Forward);
    }
    until_told_again(&load);
    let report = load.stop();

    assert_the_promise(&gate, &report);
    outage.of(UNKNOWN).print("unknown, in the outage").only(&[503]);
    assert!(outage.of(UNKNOWN).usual_wait_beyond(TIMEOUT / 2) < TIMEOUT * 2);
    assert!(batches > 0);
    report.told_once(&gate);
    // What the slow answers were about had been stored, and came again.
    assert!(gate.admin().metric("keygate_edge_event_batches_total", &["repeated"]) >= 1.0);
}

#[test]
fn an_outage_beyond_the_bound_ends_warm_keys_and_the_return_brings_back_all_but_the_revoked() {
    const FRESH: Duration = Duration::from_secs(1);
    const STALE: Duration = Duration::from_secs(10);
    // An answer may have been so old when it was killed, and on a busy machine a second older.
    const EARLY: Duration = FRESH.saturating_add(Duration::from_secs(1));
    // What was answered before the end is taken in later by a worker that was stopped meanwhile.
    const STALL: Duration = Duration::from_millis(500);
    let cache =
        json!({"fresh_seconds": FRESH.as_secs(), "stale_if_error_seconds": STALE.as_secs()});
    let mut gate = gate().config(json!({"cache": cache})).start();
    let [warm, ending] = [(); 2].map(|()| gate.admin().key_of_scope("read"));
    let load = Load::on(&gate)
        .client(WARM, &warm)
        .client(WARM, &warm)
        .slow_client(ENDING, &ending)
        .slow_client(ENDING, &ending)
        .start();
    gate.stack.control_plane.process_mut().kill().unwrap();
    let killed = Instant::now();
    let keygate = gate.stack.control_plane.keygate();
    keygate.run(&["keys", "revoke", &ending.id]).unwrap();
    let revoked = Instant::now();
    let bound = killed + FRESH + STALE;
    // Nothing is known of its loss, and nothing can be: this is what the bound is for.
    within(FRESH + STALE + SLACK, "no key is served any more", || {
        let late = load.so_far().begun_after(bound + STALL);
        (late.of(WARM).count(503) > 20 && late.of(ENDING).count(503) > 5).then_some(())
    });
    let outage = load.so_far();
    outage.begun_after(revoked).begun_before(bound - EARLY).of(WARM).only(&[200]);
    outage.begun_after(bound + STALL).only(&[503]).refusals_say_when();

    gate.stack.control_plane.restart().unwrap();
    within(Duration::from_secs(20), "both keys can be told", || {
        let report = load.so_far();
        (report.of(ENDING).count(403) > 5
            && report.begun_after(bound + SLACK).of(WARM).count(200) > 20)
            .then_some(())
    });
    let report = load.stop();
    report.each_within(TIMEOUT + SLACK);
    report.of(ENDING).begun_after(bound + STALL).never(200);
    report.told_once(&gate);
}

#[test]
fn a_control_plane_that_is_killed_again_and_again_loses_no_revocation_and_doubles_nothing() {
    let mut gate = gate().start();
    let usual = Usual::of(&gate);
    let ending: Vec<_> = (0..3).map(|_| gate.admin().key_of_scope("read")).collect();
    let load = usual.start(&gate);
    let of_ending = ending.iter().fold(Load::on(&gate), |clients, key| {
        clients.slow_client(ENDING, key).slow_client(ENDING, key)
    });
    let of_ending = of_ending.start();
    for (round, key) in ending.iter().enumerate() {
        if round % 2 == 0 {
            gate.stack.control_plane.process_mut().kill().unwrap();
            // While it is away, its database is changed from the command line.
            gate.stack.control_plane.keygate().run(&["keys", "revoke", &key.id]).unwrap();
        } else {
            gate.admin().revoke(&key.id);
            gate.stack.control_plane.process_mut().kill().unwrap();
        }
        gate.stack.control_plane.restart().unwrap();
        let back = Instant::now();
        let is_it = |carried: &Carries| matches!(carried, Carries::Key(it) if it.id == key.id);
        within(3 * SLACK, "both workers refuse the key", || {
            of_ending.until_each_was_answered();
            let mut late = of_ending.so_far().begun_after(back).seen;
            late.retain(|it| is_it(&it.carried));
            let refused = late.iter().rev().take(4).all(|it| it.status == 403);
            (late.len() >= 4 && refused).then_some(())
        });
        println!("refused by both {:?} after the control plane is ready", back.elapsed());
    }
    until_told_again(&load);
    let (report, of_ending) = (load.stop(), of_ending.stop());
    // What is known of a revoked key is forgotten: while nobody can be asked, it is an unknown one.
    of_ending.each_within(TIMEOUT + SLACK).only(&[200, 403, 503]);
    let mut all = report.clone();
    all.seen.extend(of_ending.seen);
    all.of(WARM).print(WARM).only(&[200]);
    all.each_within(TIMEOUT + SLACK).refusals_say_when();
    super::assert_nothing_unchecked(&gate, &all);
    all.told_once(&gate);
}
