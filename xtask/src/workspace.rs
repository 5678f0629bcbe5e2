//! Where the workspace is, where cargo builds to, and the cargo that builds it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, bail};
use serde_json::Value;

/// The workspace's root folder.
#[must_use]
pub fn root() -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    package.parent().unwrap_or(package).to_path_buf()
}

/// A `cargo` command that runs in the workspace, by the cargo that started this tool.
#[must_use]
pub fn cargo() -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.current_dir(root());
    command
}

/// The folder that cargo builds to: `target`, unless `CARGO_TARGET_DIR` or a cargo
/// configuration says otherwise.
///
/// # Errors
/// When cargo cannot be run or does not say.
pub fn target_dir() -> Result<PathBuf> {
    static TARGET: OnceLock<PathBuf> = OnceLock::new();
    if let Some(known) = TARGET.get() {
        return Ok(known.clone());
    }
    let output = cargo()
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .output()
        .context("cargo cannot be run: install Rust first")?;
    if !output.status.success() {
        bail!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let metadata: Value =
        serde_json::from_slice(&output.stdout).context("cargo metadata printed no JSON")?;
    let folder = metadata
        .get("target_directory")
        .and_then(Value::as_str)
        .context("cargo metadata names no target_directory")?;
    Ok(TARGET.get_or_init(|| PathBuf::from(folder)).clone())
}
