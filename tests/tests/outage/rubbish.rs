//! A control plane, or something in its place, that answers rubbish.

use std::time::Duration;

use tests::{Conduct, EdgeProxy, Gate, Line, Made, within};

use super::{CHANGES, EVENTS, Usual, VERIFY, assert_the_promise, gate, until_told_again};

const PATHS: [&str; 3] = [VERIFY, EVENTS, CHANGES];

fn random_bytes() -> Vec<u8> {
    let mut bytes = vec![0; 3000];
    getrandom::fill(&mut bytes).unwrap();
    bytes
}

/// Waits until each of the filters' calls has been answered by what the proxy says now.
fn until_all_have_asked(proxy: &EdgeProxy, gate: &Gate) {
    let before = PATHS.map(|path| proxy.calls(path).len());
    // Polls that the control plane still holds end with news.
    let _ = gate.admin().key_of_scope("read");
    within(Duration::from_secs(20), "each call was made", || {
        let asked = |(path, before)| proxy.calls(path).len() > before + 1;
        PATHS.into_iter().zip(before).all(asked).then_some(())
    });
}

#[test]
fn rubbish_from_the_control_plane_lets_nobody_in_keeps_nobody_out_and_is_no_acknowledgement() {
    let proxy = EdgeProxy::start();
    let gate = gate().edit_envoy(proxy.in_between()).start();
    let usual = Usual::of(&gate);
    let load = usual.start(&gate);
    let vms = gate.vm_health();
    let kinds = [
        ("random bytes", Conduct::Answer(Made::stamped(200, random_bytes()))),
        ("wrong JSON", Conduct::Answer(Made::stamped(200, r#"{"verdict":["known"],"batch":-1}"#))),
        ("somebody else's page", Conduct::Answer(Made::plain(200, "<html>Welcome</html>"))),
        ("answers without the stamp", Conduct::Unstamped),
        ("answers that are cut short", Conduct::CutShort),
    ];
    for (kind, conduct) in kinds {
        for path in PATHS {
            proxy.conduct(path, conduct.clone());
        }
        until_all_have_asked(&proxy, &gate);
        println!("{kind}: {:?} calls so far", PATHS.map(|path| proxy.calls(path).len()));
        for path in PATHS {
            proxy.conduct(path, Conduct::Forward);
        }
        until_told_again(&load);
        until_all_have_asked(&proxy, &gate);
    }
    proxy.line(Line::Noise);
    load.goes_on_for(Duration::from_secs(3));
    proxy.line(Line::Good);
    until_told_again(&load);
    let report = load.stop();

    assert_the_promise(&gate, &report);
    assert_eq!(gate.vm_health(), vms, "no VM has crashed");
    report.told_once(&gate);
    // What came without its stamp, or only in half, had been stored, and was sent again.
    assert!(gate.admin().metric("keygate_edge_event_batches_total", &["repeated"]) >= 1.0);
}
