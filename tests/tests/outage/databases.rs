//! The control plane is there and its database is not, or cannot be written.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tests::load::Load;
use tests::{Gate, Line, Wire, binaries, eventually, patient, within};
use xtask::servers::postgres::{PostgresOptions, PostgresServer};

use super::{
    ENDING, SLACK, TIMEOUT, UNKNOWN, Usual, WARM, assert_the_promise, gate, until_told_again,
};

const OUTAGE: Duration = Duration::from_secs(6);
/// Far longer than the control plane takes to notice that its database is back.
const HEARD_OF: Duration = Duration::from_secs(15);

fn shows(gate: &Gate, status: &str) {
    eventually(&format!("the service is {status}"), || {
        let health = gate.admin().request("GET", "/health").send();
        (health.json()["status"] == status).then_some(())
    });
}

#[test]
fn without_postgresql_warm_keys_are_served_at_once_and_all_is_told_once_on_its_return() {
    let mut server = PostgresServer::start(PostgresOptions::default()).unwrap();
    let url = server.create_database("keygate").unwrap();
    let gate = gate().env("KEYGATE_DATABASE_URL", &url).start();
    let usual = Usual::of(&gate);
    let load = usual.start(&gate);

    server.stop().unwrap();
    let stopped = Instant::now();
    load.goes_on_for(OUTAGE);
    let outage = load.so_far().begun_after(stopped);
    server.start_again().unwrap();
    let back = Instant::now();
    let told_again = until_told_again(&load);
    println!("unknown keys are told {:?} after PostgreSQL is ready", told_again - back);
    let report = load.stop();

    assert_the_promise(&gate, &report);
    outage.of(UNKNOWN).print("unknown, in the outage").only(&[503]);
    // The control plane needs most of a second to say that it cannot tell. Whoever comes first
    // with a key that is not fresh waits for that; those who come after do not. At each worker it is
    // one, and another one after the last answer of the feed.
    let waited = outage.of(WARM).print("warm, in the outage").slower_than(TIMEOUT / 2);
    // A machine that is busy may let some of each wait.
    assert!(waited <= 12, "{waited} requests with a warm key have waited");
    report.told_once(&gate);
}

#[test]
fn a_network_that_swallows_postgresql_is_got_over_and_changes_of_others_are_heard_of_again() {
    let server = PostgresServer::start(PostgresOptions::default()).unwrap();
    let wire = Wire::to(SocketAddr::from(([127, 0, 0, 1], server.port())));
    let url = server.create_database("keygate").unwrap();
    let url = url.replace(&format!(":{}/", server.port()), &format!(":{}/", wire.address().port()));
    let gate = gate()
        .env("KEYGATE_DATABASE_URL", &url)
        // So few that losing some for good would be noticed.
        .env("KEYGATE_DATABASE_CONNECTIONS", "4")
        .start();
    let usual = Usual::of(&gate);
    let ending = gate.admin().key_of_scope("read");
    let load = usual.start(&gate);
    let of_ending =
        Load::on(&gate).slow_client(ENDING, &ending).slow_client(ENDING, &ending).start();

    wire.line(Line::Dead);
    let cut = Instant::now();
    load.goes_on_for(OUTAGE);
    let outage = load.so_far().begun_after(cut);
    wire.line(Line::Good);
    let back = Instant::now();
    let told_again = until_told_again(&load);
    println!("unknown keys are told {:?} after the network is back", told_again - back);
    // Another control plane, or the command line, changes the database: this one looks for it.
    gate.stack.control_plane.keygate().run(&["keys", "revoke", &ending.id]).unwrap();
    let revoked = Instant::now();
    within(HEARD_OF, "both workers refuse the key", || {
        of_ending.until_each_was_answered();
        let late = of_ending.so_far().begun_after(revoked).seen;
        let refused = late.iter().rev().take(4).all(|it| it.status == 403);
        (late.len() >= 4 && refused).then_some(())
    });
    println!("a revocation by another process is heard of after {:?}", revoked.elapsed());
    let (mut report, of_ending) = (load.stop(), of_ending.stop());
    outage.of(UNKNOWN).print("unknown, in the outage").only(&[503]);
    outage.of(WARM).print("warm, in the outage");
    of_ending.only(&[200, 403]);
    report.seen.extend(of_ending.seen);
    assert_the_promise(&gate, &report);
    report.told_once(&gate);
}

/// The control plane as a program that is told of a full disk and not ended for it: a limit on the
/// size of files ends whoever goes beyond it, unless that signal is ignored.
fn that_ignores_its_limit(folder: &std::path::Path) -> PathBuf {
    let script = folder.join("keygate");
    let program = binaries().keygate;
    let lines = format!("#!/bin/sh\ntrap '' XFSZ\nexec '{}' \"$@\"\n", program.display());
    fs::write(&script, lines).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    script
}

/// From now on the control plane cannot write a byte, into whatever file; or it can again.
fn fill_its_disk(gate: &Gate, full: bool) {
    let pid = i32::try_from(gate.stack.control_plane.process().pid()).unwrap();
    let current = if full { Some(1) } else { None };
    prlimit(Pid::from_raw(pid), Resource::Fsize, Rlimit { current, maximum: None }).unwrap();
}

#[test]
fn a_full_disk_stops_neither_warm_nor_new_keys_and_all_is_told_once_when_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let gate = gate().config(patient()).keygate(that_ignores_its_limit(folder.path())).start();
    let usual = Usual::of(&gate);
    let new = gate.admin().key_of_scope("read");
    let load = usual.start(&gate);

    fill_its_disk(&gate, true);
    let full = Instant::now();
    load.goes_on_for(OUTAGE);
    // Keys are read and told as before.
    let answer = gate.get("/").key(&new).send();
    assert_eq!(answer.status, 200, "{answer:?}");
    let outage = load.so_far().begun_after(full);
    outage.of(WARM).print("warm, with a full disk");
    outage.of(UNKNOWN).print("unknown, with a full disk").only(&[403]);
    // Changes are refused, none is half made.
    let keys = gate.admin().keys().len();
    let body = serde_json::json!({"name": "too late"});
    let refused = gate.admin().call("POST", "/api/v1/admin/api-keys/", Some(&body));
    assert_eq!(refused.status, 503, "{refused:?}");
    assert_eq!(gate.admin().keys().len(), keys);
    shows(&gate, "degraded");
    assert!(gate.admin().metric("keygate_http_panics_total", &[]) < 1.0);

    fill_its_disk(&gate, false);
    within(HEARD_OF, "keys can be made", || {
        let made = gate.admin().call("POST", "/api/v1/admin/api-keys/", Some(&body));
        (made.status == 201).then_some(())
    });
    shows(&gate, "healthy");
    load.until_each_was_answered();
    let mut report = load.stop();
    assert_eq!(gate.upstream_hits(), u64::try_from(report.count(200)).unwrap() + 1);
    report.seen.retain(|it| it.status != 0);
    report.of(WARM).only(&[200]);
    report.each_within(TIMEOUT + SLACK).refusals_say_when();
    report.told_once(&gate);
    gate.stack.control_plane.keygate().run(&["audit", "verify"]).unwrap();
}
