//! The end-to-end tests, and the programs that they test.

use std::fs;

use anyhow::{Context, Result};
use serde_json::json;

use super::native;
use crate::security::Recorder;
use crate::stack::{Binaries, Build, GIVEN_BINARIES};
use crate::wasm::{self, Variant};
use crate::{progress, workspace};

pub(super) fn build_filters() -> Result<()> {
    wasm::build(Variant::Trap)?;
    wasm::build(Variant::Product).map(drop)
}

pub(super) fn run() -> Result<()> {
    // What an earlier run has found says nothing of this one, even if nothing can be built.
    let mut outcomes = Recorder::start("e2e")?;
    // The trapping filter first: the tests also look at the product as the compiler left it.
    let trap = wasm::build(Variant::Trap)?;
    let built = Binaries::build(Build::Debug)?;
    let file = workspace::target_dir()?.join("test-binaries.json");
    let document = json!({
        "envoy": built.envoy,
        "keygate": built.keygate,
        "filter": built.filter,
        "filter_trap": trap,
    });
    fs::write(&file, document.to_string())
        .with_context(|| format!("cannot write {}", file.display()))?;
    progress::step("running the end-to-end tests");
    let mut tests = native::test_command();
    tests.args(["-p", "tests"]).env(GIVEN_BINARIES, file);
    outcomes.run(tests)
}
