//! The programs under test, made once for a whole run of the tests.

use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use xtask::stack::{Binaries, Build, GIVEN_BINARIES};
use xtask::wasm::{self, Variant};
use xtask::{cache, workspace};

/// nextest's name for one run, the same in all of its test processes.
const RUN: &str = "NEXTEST_RUN_ID";

/// The programs under test.
///
/// Taken from the file that `KEYGATE_TEST_BINARIES` names; else whoever of the test processes of a
/// run comes first builds them, and the others wait for it.
#[must_use]
pub fn binaries() -> Binaries {
    let all = all();
    let path = |name: &str| PathBuf::from(all[name].as_str().unwrap());
    Binaries { envoy: path("envoy"), keygate: path("keygate"), filter: path("filter") }
}

/// The filter that traps when a request carries `x-keygate-trap`.
#[must_use]
pub fn trap_filter() -> PathBuf {
    match all()["filter_trap"].as_str() {
        Some(path) => path.into(),
        None => wasm::build(Variant::Trap).expect("the filter that traps cannot be built"),
    }
}

/// The filter as the compiler leaves it, before `cargo xtask wasm` has finished it.
#[must_use]
pub fn unfinished_filter() -> PathBuf {
    let _ = all();
    let target = wasm::Toolchain::find().and_then(wasm::Toolchain::target_dir).unwrap();
    target.join(wasm::TARGET).join("wasm/keygate_filter.wasm")
}

fn all() -> &'static Value {
    static ALL: OnceLock<Value> = OnceLock::new();
    ALL.get_or_init(|| match std::env::var_os(GIVEN_BINARIES) {
        Some(file) => {
            let text = fs::read(&file).unwrap_or_else(|error| panic!("{GIVEN_BINARIES}: {error}"));
            serde_json::from_slice(&text)
                .unwrap_or_else(|error| panic!("{GIVEN_BINARIES}: {error}"))
        }
        None => build().unwrap_or_else(|error| panic!("nothing to test: {error:#}")),
    })
}

fn build() -> Result<Value> {
    let target = workspace::target_dir()?;
    fs::create_dir_all(&target)?;
    let _lock = cache::lock(&target, "e2e-binaries")?;
    let done = target.join("e2e-binaries.json");
    let run = std::env::var(RUN).unwrap_or_default();
    if !run.is_empty()
        && let Ok(text) = fs::read(&done)
        && let Ok(built) = serde_json::from_slice::<Value>(&text)
        && built["run"] == run.as_str()
    {
        return Ok(built);
    }
    let Binaries { envoy, keygate, filter } = Binaries::build(Build::Debug)?;
    let built = json!({"run": run, "envoy": envoy, "keygate": keygate, "filter": filter});
    fs::write(&done, built.to_string()).context("cannot note what was built")?;
    Ok(built)
}
