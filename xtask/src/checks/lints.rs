//! Formatting and lints.

use anyhow::Result;

use crate::wasm::{TARGET, Toolchain};
use crate::{process, progress, workspace};

pub(super) fn fmt() -> Result<()> {
    let mut cargo = workspace::cargo();
    cargo.args(["fmt", "--all", "--check"]);
    process::run(cargo)
}

/// The filter is looked at as WebAssembly, all else as it runs here; no warning passes.
pub(super) fn clippy() -> Result<()> {
    let mut cargo = workspace::cargo();
    cargo.args(["clippy", "--workspace", "--exclude", "filter", "--all-targets", "--locked"]);
    cargo.args(["--", "-D", "warnings"]);
    process::run(cargo)?;
    if Toolchain::find()? == Toolchain::Debian {
        progress::note(
            "the filter is not looked at: Debian's compiler for WebAssembly has no clippy",
        );
        return Ok(());
    }
    for features in ["", "trap"] {
        let mut cargo = workspace::cargo();
        cargo.args([
            "clippy",
            "-p",
            "filter",
            "--target",
            TARGET,
            "--features",
            features,
            "--locked",
        ]);
        cargo.args(["--", "-D", "warnings"]);
        process::run(cargo)?;
    }
    Ok(())
}
