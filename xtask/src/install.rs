//! Programs that a task needs, installed from Debian where that can be done.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Result, bail};

use crate::envoy::on_path;
use crate::{cache, process, progress};

/// The path of a program; when it is missing, its Debian package is installed first.
///
/// # Errors
/// When it is missing and cannot be installed here; the message says what to install.
pub fn program(name: &str, package: &str) -> Result<PathBuf> {
    if let Some(found) = on_path(name) {
        return Ok(found);
    }
    debian_packages(&[package])?;
    match on_path(name) {
        Some(found) => Ok(found),
        None => bail!("{name} is missing (Debian: apt-get install {package})"),
    }
}

/// Installs Debian packages, if this is Debian and we may. That it could not is only noted, since
/// the caller looks again for what it needs and knows what to say.
///
/// # Errors
/// When the folder of downloads cannot be locked.
pub fn debian_packages(packages: &[&str]) -> Result<()> {
    if on_path("apt-get").is_none() || !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    // Two installations at once would meet at the package manager's own lock, and one would fail.
    let _lock = cache::lock(&cache::folder()?, "apt-get")?;
    progress::step(&format!("apt-get install {}", packages.join(" ")));
    let apt = |args: &[&str]| {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").args(args);
        process::capture(command)
    };
    let mut install = vec!["install", "-y", "-q", "--no-install-recommends"];
    install.extend(packages);
    // A machine that has never updated its lists does not know the packages.
    let installed = apt(&install).or_else(|_| apt(&["update", "-q"]).and_then(|_| apt(&install)));
    if let Err(error) = installed {
        progress::note(&format!("{error:#}"));
    }
    Ok(())
}
