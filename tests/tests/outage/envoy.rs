//! Envoy, or the filter's VM in it, ends and begins anew.

use std::time::{Duration, Instant};

use tests::load::{Load, Report};
use tests::{Gate, fresh_address, trap_filter, within};

use super::{ENDING, LIMITED, NOBODY, SLACK, UNKNOWN, Usual, WARM, gate};

/// How long a worker gathers counts (1 s) and events (0.2 s), how often it looks whether it is time,
/// and how long a batch takes to be stored on a busy machine.
const UNTOLD: Duration = Duration::from_secs(6);

/// What is told of nowhere was decided right before one of these moments.
#[track_caller]
fn assert_only_the_last_is_lost(report: &Report, gate: &Gate, ends: &[Instant]) {
    let untold = report.told_at_most_once(gate);
    let is_last = |begun: Instant| ends.iter().any(|end| begun + UNTOLD >= *end && begun <= *end);
    for seen in &untold.refusals {
        assert!(is_last(seen.begun), "lost for no reason: {seen:?}");
    }
    let last = report.seen.iter().filter(|it| is_last(it.begun) || it.status == 0).count();
    println!("not told: {} refusals, {} uses", untold.refusals.len(), untold.uses);
    assert!(untold.uses <= u64::try_from(last).unwrap(), "{} uses are lost", untold.uses);
}

#[test]
fn an_envoy_that_is_killed_comes_back_with_no_revoked_key_and_doubles_nothing() {
    let mut gate = gate().start();
    let usual = Usual::of(&gate);
    let [before, meanwhile] = [(); 2].map(|()| gate.admin().key_of_scope("read"));
    let load = usual.start(&gate);
    let of_ending = Load::on(&gate)
        .slow_client(ENDING, &before)
        .slow_client(ENDING, &before)
        .slow_client(ENDING, &meanwhile)
        .slow_client(ENDING, &meanwhile)
        .start();
    gate.admin().revoke(&before.id);
    gate.stack.envoy.process_mut().kill().unwrap();
    let killed = Instant::now();
    gate.admin().revoke(&meanwhile.id);
    gate.stack.envoy.restart().unwrap();
    let back = Instant::now();
    until_served(&load);
    println!("served again {:?} after Envoy is ready", back.elapsed());
    of_ending.until_each_was_answered();
    let (report, of_ending) = (load.stop(), of_ending.stop());

    // Nobody has an answer from the time between, and nobody waits for one that is lost.
    report.each_within(Duration::from_secs(1) + SLACK);
    report.of(WARM).answered().print(WARM).only(&[200]);
    report.of(UNKNOWN).answered().only(&[403]);
    report.of(NOBODY).answered().only(&[403]);
    of_ending.answered().begun_after(killed).only(&[403]);
    let mut all = report;
    all.seen.extend(of_ending.seen);
    assert_only_the_last_is_lost(&all, &gate, &[killed]);
}

fn until_served(load: &Load) {
    let since = Instant::now();
    within(Duration::from_secs(20), "warm keys are served", || {
        let report = load.so_far().begun_after(since);
        (report.of(WARM).count(200) > 20 && report.of(UNKNOWN).count(403) > 5).then_some(())
    });
}

#[test]
fn a_vm_that_crashes_under_load_lets_nothing_pass_unchecked_and_serves_again_at_once() {
    let gate = gate().filter(trap_filter()).start();
    let usual = Usual::of(&gate);
    let ending = gate.admin().key_of_scope("read");
    let traps = [0, 1].map(|worker| gate.connect_to_worker(worker));
    let load = usual.start(&gate);
    let of_ending =
        Load::on(&gate).slow_client(ENDING, &ending).slow_client(ENDING, &ending).start();
    gate.admin().revoke(&ending.id);
    within(3 * SLACK, "the key is refused", || {
        of_ending.until_each_was_answered();
        let last = of_ending.so_far().seen;
        last.iter().rev().take(4).all(|it| it.status == 403).then_some(())
    });
    let refused = Instant::now();
    let mut crashes = Vec::new();
    for mut connection in traps {
        let request = gate.get("/").client(fresh_address()).header("x-keygate-trap", "1");
        let request = request.key(&usual.warm);
        assert_eq!(request.send_on(&mut connection).status, 503);
        crashes.push(Instant::now());
        until_served(&load);
        println!("served again {:?} after the crash", crashes[crashes.len() - 1].elapsed());
    }
    of_ending.until_each_was_answered();
    let (report, of_ending) = (load.stop(), of_ending.stop());

    of_ending.begun_after(refused).only(&[403, 503]);
    report.of(WARM).print(WARM).only(&[200, 503]);
    report.of(UNKNOWN).only(&[403, 503]);
    report.of(NOBODY).only(&[403, 503]);
    // Envoy's backoff before a VM is loaded anew, and the other worker that never noticed.
    let refusals = report.of(WARM).count(503);
    assert!(refusals < report.of(WARM).count(200) / 4, "{refusals} were refused");
    let mut all = report;
    all.seen.extend(of_ending.seen);
    // A request that had been let through before its VM crashed reaches the upstream, and its response
    // finds nobody any more: its client is told 503.
    let (reached, passed) = (gate.upstream_hits(), u64::try_from(all.count(200)).unwrap());
    let on_their_way = [WARM, LIMITED].map(|keys| all.of(keys).count(503)).iter().sum::<usize>();
    let on_their_way = u64::try_from(on_their_way).unwrap();
    assert!((passed..=passed + on_their_way).contains(&reached), "{reached} for {passed}");
    assert_only_the_last_is_lost(&all, &gate, &crashes);
}
