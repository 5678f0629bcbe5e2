//! The change feed is lost, and nobody says so.

use std::time::{Duration, Instant};

use serde_json::json;
use tests::load::{Load, Report};
use tests::{Conduct, EdgeProxy, Gate, Key, Line, within};

use super::{CHANGES, ENDING, SILENT, SLACK, TIMEOUT, WARM, assert_nothing_unchecked, gate};

/// Revokes the key in mid-load and waits until both workers have refused it.
fn revoked_under_load(
    gate: &Gate,
    [warm, ending]: [&Key; 2],
    lose: impl FnOnce(),
) -> (Instant, Report) {
    let load = Load::on(gate)
        .client(WARM, warm)
        .client(WARM, warm)
        .slow_client(ENDING, ending)
        .slow_client(ENDING, ending)
        .start();
    lose();
    gate.admin().revoke(&ending.id);
    let revoked = Instant::now();
    within(SILENT + SLACK, "both workers refuse the key", || {
        let mut of_ending = load.so_far().begun_after(revoked).of(ENDING).seen;
        let last = of_ending.split_off(of_ending.len().saturating_sub(10));
        (last.len() == 10 && last.iter().all(|it| it.status == 403)).then_some(())
    });
    let report = load.stop();
    report.each_within(TIMEOUT + SLACK);
    report.of(WARM).print(WARM).only(&[200]);
    report.of(ENDING).only(&[200, 403]);
    assert_nothing_unchecked(gate, &report);
    let last = report.of(ENDING).last_begun(200).unwrap();
    println!("accepted for {:?} after it was revoked", last.saturating_duration_since(revoked));
    (revoked, report)
}

/// A gate that would believe what it remembers for as long as by default.
fn with_fresh_memory(proxy: &EdgeProxy) -> Gate {
    gate().config(json!({"cache": {"fresh_seconds": 60}})).edit_envoy(proxy.in_between()).start()
}

#[test]
fn a_feed_that_says_nothing_is_not_believed_for_longer_than_the_silence_rule() {
    let proxy = EdgeProxy::start();
    let gate = with_fresh_memory(&proxy);
    let [warm, ending] = [(); 2].map(|()| gate.admin().key_of_scope("read"));
    let (revoked, report) = revoked_under_load(&gate, [&warm, &ending], || {
        proxy.conduct(CHANGES, Conduct::Hold);
        // Polls that were under way end with news; the next ones are kept back.
        let polls = proxy.calls(CHANGES).len();
        let _ = gate.admin().key_of_scope("read");
        within(Duration::from_secs(10), "both workers poll again", || {
            (proxy.calls(CHANGES).len() >= polls + 2).then_some(())
        });
    });
    let last = report.of(ENDING).last_begun(200).unwrap();
    assert!(last > revoked + SILENT / 2, "the feed was not lost");
    assert!(last < revoked + SILENT + TIMEOUT + SLACK, "the silence rule came too late");
    report.told_once(&gate);
}

#[test]
fn a_connection_that_dies_without_a_word_is_replaced_and_the_revocation_heard() {
    let proxy = EdgeProxy::start();
    let gate = with_fresh_memory(&proxy);
    let [warm, ending] = [(); 2].map(|()| gate.admin().key_of_scope("read"));
    let (revoked, report) = revoked_under_load(&gate, [&warm, &ending], || proxy.line(Line::Good));
    let last = report.of(ENDING).last_begun(200).unwrap();
    assert!(last < revoked + SILENT + TIMEOUT + SLACK, "it was noticed too late");
    report.told_once(&gate);
}
