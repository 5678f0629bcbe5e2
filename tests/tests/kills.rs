//! Control plane and Envoy are killed in the midst of load and changes, on each store: nothing that
//! was acknowledged is gone, nothing is there twice. `cargo xtask soak kills` does it by the hundred.

use tests::binaries;
use xtask::soak::kills::{self, KillPlan, KillReport};
use xtask::soak::{Given, Store};

/// Each way to end is met once.
const ROUNDS: u32 = 5;

fn killed(store: Store) -> KillReport {
    let plan = KillPlan { store, rounds: ROUNDS, seed: 7, given: Given::default() };
    kills::run(&plan, binaries()).unwrap_or_else(|error| panic!("{error:#}"))
}

#[track_caller]
fn something_was_going_on(report: &KillReport) {
    assert_eq!(report.rounds.len(), 5, "{report}");
    assert!(report.acknowledged_changes > 20 && report.events > 50, "{report}");
    assert!(report.ended_keys_tried > 0 && report.chain_verified > 0, "{report}");
}

#[test]
fn nothing_acknowledged_is_lost_when_parts_are_killed_on_sqlite() {
    something_was_going_on(&killed(Store::Sqlite));
}

#[test]
fn nothing_acknowledged_is_lost_when_parts_are_killed_on_postgres() {
    something_was_going_on(&killed(Store::Postgres));
}
