//! `cargo xtask wasm`: the filter as the module that Envoy loads.

mod finish;
mod names;
mod toolchain;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

pub use finish::finish;
pub use toolchain::{TARGET, Toolchain};

use crate::{cache, process, progress, workspace};

/// The profile of the workspace's manifest that is made for the filter.
const PROFILE: &str = "wasm";

/// The most bytes that a module may have: a service mesh sends it to every proxy, and each compiles
/// all of it before it serves.
pub const MAX_BYTES: usize = 400_000;

/// Which filter to build.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Variant {
    /// The filter.
    #[default]
    Product,
    /// One that traps when told to, for the tests of the failure policy.
    Trap,
}

impl Variant {
    fn file_name(self) -> &'static str {
        match self {
            Self::Product => "keygate_filter.wasm",
            Self::Trap => "keygate_filter_trap.wasm",
        }
    }
}

/// Where the built module is.
///
/// # Errors
/// When cargo does not tell its target folder.
pub fn path(variant: Variant) -> Result<PathBuf> {
    Ok(workspace::target_dir()?.join(variant.file_name()))
}

/// Builds the module and returns its path. Cargo skips what has not changed.
///
/// # Errors
/// When there is no compiler for WebAssembly, the build fails, or the module is not one that
/// Envoy could run.
pub fn build(variant: Variant) -> Result<PathBuf> {
    let toolchain = Toolchain::find()?;
    let target = workspace::target_dir()?;
    fs::create_dir_all(&target)?;
    // Both variants leave cargo under one name.
    let _lock = cache::lock(&target, "keygate_filter")?;
    progress::step(match variant {
        Variant::Product => "building the filter (WebAssembly)",
        Variant::Trap => "building the filter that traps (WebAssembly)",
    });
    let mut cargo = toolchain.cargo("build")?;
    cargo.args(["-p", "filter", "--profile", PROFILE]);
    if variant == Variant::Trap {
        cargo.args(["--features", "trap"]);
    }
    process::run(cargo)?;

    let compiled = toolchain.target_dir()?.join(TARGET).join(PROFILE).join("keygate_filter.wasm");
    let bytes =
        fs::read(&compiled).with_context(|| format!("cannot read {}", compiled.display()))?;
    let finished = finish(&bytes)?;
    check_size(finished.len())?;
    let path = path(variant)?;
    write_if_new(&path, &finished)?;
    progress::note(&format!(
        "{} ({} bytes of {MAX_BYTES}; {} as compiled)",
        path.display(),
        finished.len(),
        bytes.len()
    ));
    Ok(path)
}

/// Builds the filter that does nothing, for the benchmarks, and returns its path.
///
/// # Errors
/// When there is no compiler for WebAssembly, or the build fails.
pub(crate) fn build_noop() -> Result<PathBuf> {
    progress::step("building a filter that does nothing (WebAssembly)");
    let toolchain = Toolchain::find()?;
    let mut cargo = toolchain.cargo("build")?;
    cargo.args(["-p", "filter", "--example", "noop_filter", "--profile", PROFILE]);
    process::run(cargo)?;
    Ok(toolchain.target_dir()?.join(TARGET).join(PROFILE).join("examples/noop_filter.wasm"))
}

fn check_size(bytes: usize) -> Result<()> {
    ensure!(
        bytes <= MAX_BYTES,
        "the finished filter has {bytes} bytes, {} more than it may (MAX_BYTES in {}); \
         `twiggy top` tells which functions they are in",
        bytes.saturating_sub(MAX_BYTES),
        file!()
    );
    Ok(())
}

/// A running Envoy may have the file open: never half a file, and no new one without need.
fn write_if_new(path: &Path, bytes: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    let part = path.with_extension(format!("part-{}", std::process::id()));
    fs::write(&part, bytes).with_context(|| format!("cannot write {}", part.display()))?;
    fs::rename(&part, path).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::{MAX_BYTES, check_size};

    #[test]
    fn a_module_that_is_too_large_is_not_made() {
        assert!(check_size(MAX_BYTES).is_ok());
        let error = check_size(MAX_BYTES + 1).unwrap_err().to_string();
        assert!(error.contains("400001 bytes, 1 more than it may"), "{error}");
    }
}
