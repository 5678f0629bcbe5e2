//! The fuzzer: where it comes from, and how it is called.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::{cache, install, process, progress};

/// The fuzzer with all that it depends on, each in one version.
const REQUIREMENTS: &str = include_str!("requirements.txt");
const HOOKS: &str = include_str!("hooks.py");
/// Cases for each call and phase: enough to come back to a fault, for a run of a minute or two.
const CASES: &str = "250";
/// The same cases each time; another seed tries others.
const SEED: &str = "1";
/// Names another seed, for those who want to try others.
const SEED_VARIABLE: &str = "KEYGATE_API_SEED";
/// Revoking answers to DELETE, and a revoked key stays in the list, so this does not apply.
const NOT_OURS: &str = "use_after_free";

/// What is fuzzed.
pub(super) struct Target {
    /// Where it is.
    pub(super) url: String,
    /// The name of the key it is called with.
    pub(super) key_id: String,
    /// The key.
    pub(super) api_key: String,
}

/// Makes a Python environment with the fuzzer in the folder of downloads, unless it is there.
/// Returns the program.
pub(super) fn install() -> Result<PathBuf> {
    let cache = cache::folder()?;
    let digest: [u8; 32] = Sha256::digest(REQUIREMENTS).into();
    let name = format!("schemathesis-{}", hex::encode(digest.get(..6).unwrap_or(&digest)));
    let folder = cache.join(&name);
    let program = folder.join("bin/schemathesis");
    let complete = folder.join("complete");
    if complete.is_file() {
        return Ok(program);
    }
    let _lock = cache::lock(&cache, "schemathesis")?;
    if complete.is_file() {
        return Ok(program);
    }
    progress::step("installing schemathesis (once)");
    // Half an environment is none. Programs in it know where they are, so it is made where it
    // stays, and marked when it is whole.
    let _ = fs::remove_dir_all(&folder);
    let requirements = cache.join(format!("{name}.txt"));
    fs::write(&requirements, REQUIREMENTS)
        .with_context(|| format!("cannot write {}", requirements.display()))?;
    make_environment(&folder)?;
    let mut pip = Command::new(folder.join("bin/pip"));
    pip.args(["install", "--quiet", "--disable-pip-version-check", "--no-deps", "--requirement"]);
    pip.arg(&requirements);
    process::run(pip)?;
    fs::write(&complete, "").with_context(|| format!("cannot write {}", complete.display()))?;
    Ok(program)
}

fn make_environment(folder: &Path) -> Result<()> {
    let python = install::program("python3", "python3")?;
    let venv = || {
        let mut command = Command::new(&python);
        command.args(["-m", "venv", "--clear"]).arg(folder);
        process::capture(command)
    };
    // Debian keeps what this needs in a package of its own.
    if venv().is_err() {
        install::debian_packages(&["python3-venv"])?;
        venv().context("python3 -m venv (Debian: apt-get install python3-venv)")?;
    }
    Ok(())
}

/// Fuzzes, and fails at the first run with a failure in it.
pub(super) fn run(program: &Path, folder: &Path, target: &Target) -> Result<()> {
    let hooks = folder.join("hooks.py");
    fs::write(&hooks, HOOKS).with_context(|| format!("cannot write {}", hooks.display()))?;
    let seed = std::env::var(SEED_VARIABLE).unwrap_or_else(|_| SEED.to_owned());
    progress::note(&format!("seed {seed} ({SEED_VARIABLE} sets another)"));
    let mut command = Command::new(program);
    command.current_dir(folder);
    command.env("SCHEMATHESIS_HOOKS", &hooks).env("KEYGATE_FUZZ_KEY_ID", &target.key_id);
    command.arg("run").arg(format!("{}/openapi.json", target.url));
    command.args(["--header", &format!("X-API-Key: {}", target.api_key)]);
    command.args(["--checks", "all", "--exclude-checks", NOT_OURS, "--continue-on-failure"]);
    command.args(["--max-examples", CASES, "--seed", &seed, "--generation-database", "none"]);
    command.arg("--no-color");
    process::run(command)
}
