//! The pure crates' tests as WebAssembly: what Envoy runs is not what this machine's compiler
//! makes of them.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::wasm::Toolchain;
use crate::{cache, install, process, progress, workspace};

const PURE: [&str; 4] = ["key-policy", "edge-protocol", "filter-config", "gate"];

pub(super) fn run() -> Result<()> {
    install::program("node", "nodejs")?;
    let runner = runner()?;
    let mut cargo = Toolchain::find()?.cargo("test")?;
    for package in PURE {
        cargo.args(["-p", package]);
    }
    cargo.args(["--tests", "--locked", "--no-fail-fast"]);
    cargo.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER", runner);
    process::run(cargo)
}

/// The program that runs compiled tests in Node. Its version must be that of the library.
fn runner() -> Result<PathBuf> {
    const PROGRAM: &str = "wasm-bindgen-test-runner";
    let version = locked_version("wasm-bindgen")?;
    let cache = cache::folder()?;
    let root = cache.join(format!("wasm-bindgen-{version}"));
    let runner = root.join("bin").join(PROGRAM);
    if runner.is_file() {
        return Ok(runner);
    }
    let _lock = cache::lock(&cache, "wasm-bindgen")?;
    if runner.is_file() {
        return Ok(runner);
    }
    progress::step(&format!("cargo install wasm-bindgen-cli {version} (once)"));
    let mut cargo = workspace::cargo();
    // Not `--locked`: its lock file names versions that not every registry mirror has.
    cargo.args(["install", "wasm-bindgen-cli", "--debug", "--version", &version, "--root"]);
    cargo.arg(&root).args(["--bin", PROGRAM]);
    // It is built once and runs for seconds: half the time to build matters more.
    cargo.env("CARGO_PROFILE_DEV_DEBUG", "0").env("CARGO_INCREMENTAL", "0");
    // A folder of its own: this workspace's one would keep what is never used again.
    cargo.env_remove("CARGO_TARGET_DIR");
    process::run(cargo)?;
    Ok(runner)
}

fn locked_version(package: &str) -> Result<String> {
    let file = workspace::root().join("Cargo.lock");
    let lock =
        fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    version_in(&lock, package).with_context(|| format!("Cargo.lock names no {package}"))
}

fn version_in(lock: &str, package: &str) -> Option<String> {
    let (_, after) = lock.split_once(&format!("name = \"{package}\"\nversion = \""))?;
    after.split('"').next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::version_in;

    #[test]
    fn the_version_is_that_of_the_package_and_not_of_one_that_begins_alike() {
        let lock = "\
[[package]]
name = \"wasm-bindgen-test\"
version = \"0.3.1\"

[[package]]
name = \"wasm-bindgen\"
version = \"0.2.130\"
";
        assert_eq!(version_in(lock, "wasm-bindgen").as_deref(), Some("0.2.130"));
        assert_eq!(version_in(lock, "absent"), None);
    }
}
