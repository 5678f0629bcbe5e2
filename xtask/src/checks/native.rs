//! Tests on this machine.

use std::process::Command;

use anyhow::Result;

use crate::security::Recorder;
use crate::servers::postgres::{self, PostgresOptions, PostgresServer, SHARED};
use crate::{process, workspace};

/// The end-to-end tests are a step of their own, and the filter has no tests outside Envoy.
const OTHERS: [&str; 4] = ["--exclude", "tests", "--exclude", "filter"];

pub(super) fn run() -> Result<()> {
    let mut tests = test_command();
    tests.arg("--workspace").args(OTHERS);
    let mut recorder = Recorder::start("native")?;
    if !has_nextest() {
        let done = recorder.run(tests);
        // The server that tests of a process share ends with it, and leaves its folder.
        postgres::sweep();
        return done;
    }
    // Each test is a process of its own there, and would start a server of its own.
    let server = PostgresServer::start(PostgresOptions::default())?;
    tests.env(SHARED, server.url("postgres"));
    recorder.run(tests)?;
    drop(server);
    // nextest knows no documentation tests.
    let mut doc = workspace::cargo();
    doc.args(["test", "--doc", "--locked", "--workspace"]).args(OTHERS);
    process::run(doc)
}

/// `cargo nextest run` where it is installed, else `cargo test`; each goes on after a failure.
pub(super) fn test_command() -> Command {
    let mut cargo = workspace::cargo();
    if has_nextest() {
        cargo.args(["nextest", "run", "--no-fail-fast", "--locked"]);
    } else {
        cargo.args(["test", "--no-fail-fast", "--locked"]);
    }
    cargo
}

fn has_nextest() -> bool {
    let mut cargo = workspace::cargo();
    cargo.args(["nextest", "--version"]);
    process::succeeds(cargo)
}
