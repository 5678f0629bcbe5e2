//! The end-to-end tests, and the programs that they test.

use std::fs;

use anyhow::{Context, Result};
use serde_json::json;

use super::native;
use crate::stack::{Binaries, Build};
use crate::wasm::{self, Variant};
use crate::{process, progress, workspace};

/// The file that tells the tests where the programs are.
const BINARIES: &str = "KEYGATE_TEST_BINARIES";

pub(super) fn build_filters() -> Result<()> {
    wasm::build(Variant::Trap)?;
    wasm::build(Variant::Product).map(drop)
}

pub(super) fn run() -> Result<()> {
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
    tests.args(["-p", "tests"]).env(BINARIES, file);
    process::run(tests)
}
