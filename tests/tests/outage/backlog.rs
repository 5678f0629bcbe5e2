//! The control plane takes no events for so long that there is no room for more.

use std::time::Duration;

use serde_json::json;
use tests::load::{Carries, Load};
use tests::{Conduct, EdgeProxy, Gate, GateBuilder, Made, within};

use super::{EVENTS, NOBODY, WARM, gate};

/// How long it may take to fill the room of a worker, 8192 events.
const FILLED: Duration = Duration::from_secs(90);
/// A loss is told of when the next batch is taken: eight seconds at the latest, and what waits.
const TOLD: Duration = Duration::from_secs(40);

/// One worker, so that there is one backlog.
fn one_worker(proxy: &EdgeProxy, on_backlog_full: &str) -> GateBuilder {
    gate()
        .config(
            json!({"audit": {"on_backlog_full": on_backlog_full}, "cache": {"fresh_seconds": 60}}),
        )
        .concurrency(1)
        .edit_envoy(proxy.in_between())
}

/// Events are not taken; everything else is answered.
fn take_no_events(proxy: &EdgeProxy) {
    proxy.conduct(EVENTS, Conduct::Answer(Made::plain(503, "no healthy upstream")));
}

/// Clients without a key, each of whose requests is an event.
fn flood(gate: &Gate) -> Load {
    (0..4).fold(Load::on(gate), |all, _| all.hurried_client(NOBODY, Carries::Nothing)).start()
}

#[test]
fn in_the_strict_mode_a_full_backlog_refuses_everybody_rather_than_lose_an_event() {
    let proxy = EdgeProxy::start();
    let gate = one_worker(&proxy, "deny").start();
    let warm = gate.admin().key_of_scope("read");
    let mut connection = gate.connect_to_worker(0);
    assert_eq!(gate.get("/").key(&warm).send_on(&mut connection).status, 200);
    take_no_events(&proxy);
    let load = flood(&gate);
    within(FILLED, "there is no room any more", || {
        (gate.stat("wasmcustom.keygate.refused.backlog_full") > 0).then_some(())
    });
    let hits = gate.upstream_hits();
    for _ in 0..10 {
        let answer = gate.get("/").key(&warm).send_on(&mut connection);
        answer.assert_problem(503, "temporarily_unavailable");
        assert!(answer.number("retry-after") >= 1);
    }
    assert_eq!(gate.upstream_hits(), hits);
    let report = load.stop();
    report.only(&[403, 503]).refusals_say_when();

    proxy.conduct(EVENTS, Conduct::Forward);
    within(TOLD, "there is room again", || {
        (gate.get("/").key(&warm).send_on(&mut connection).status == 200).then_some(())
    });
    report.told_once(&gate);
    assert_eq!(gate.stat("wasmcustom.keygate.events.dropped"), 0);
    assert!(gate.admin().audit_events("EVENTS_DROPPED").is_empty());
}

#[test]
fn what_a_full_backlog_drops_is_counted_and_the_count_is_audited() {
    let proxy = EdgeProxy::start();
    let gate = one_worker(&proxy, "drop").start();
    let limit = json!({"requests": 1, "window_seconds": super::DAY});
    tests::wait_for_room_in_window_of(super::DAY, 300);
    let limited = gate.admin().create_key(json!({"scope": "read", "rate_limit": limit}));
    let warm = gate.admin().key_of_scope("read");
    take_no_events(&proxy);
    let load = flood(&gate);
    within(FILLED, "there is no room any more", || {
        (gate.stat("wasmcustom.keygate.events.dropped") > 300).then_some(())
    });
    // Who has a key is served, and what is told of a key still finds room.
    let of_keys = Load::on(&gate).client(WARM, &warm).slow_client("limited", &limited).start();
    within(FILLED, "a key's limit is used up", || {
        (of_keys.so_far().of("limited").count(429) > 5).then_some(())
    });
    let (report, of_keys) = (load.stop(), of_keys.stop());
    report.only(&[403]);
    of_keys.of(WARM).only(&[200]);
    assert!(of_keys.of("limited").count(429) > 5);

    proxy.conduct(EVENTS, Conduct::Forward);
    within(TOLD, "the loss is told of", || {
        (!gate.admin().audit_events("EVENTS_DROPPED").is_empty()).then_some(())
    });
    let untold = report.told_at_most_once(&gate).refusals.len();
    of_keys.told_once(&gate);
    let told = gate.admin().audit_events("EVENTS_DROPPED").into_iter();
    let count = |details: &str| details.strip_prefix("count=").unwrap().parse::<usize>().unwrap();
    let confessed: usize = told.map(|row| count(row["details"].as_str().unwrap())).sum();
    println!("{untold} of {} events found no room", report.seen.len());
    assert_eq!(confessed, untold);
    assert_eq!(gate.stat("wasmcustom.keygate.events.dropped"), u64::try_from(untold).unwrap());
}
