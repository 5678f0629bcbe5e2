//! The folder in which downloaded tools are kept between runs.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::{interrupt, progress, wait};

/// `KEYGATE_CACHE`, else `$XDG_CACHE_HOME/keygate`, else `~/.cache/keygate`; made if need be.
///
/// # Errors
/// When there is no home folder, or it cannot be written.
pub fn folder() -> Result<PathBuf> {
    let from = |variable: &str| std::env::var_os(variable).filter(|value| !value.is_empty());
    let folder = from("KEYGATE_CACHE")
        .map(PathBuf::from)
        .or_else(|| from("XDG_CACHE_HOME").map(|cache| Path::new(&cache).join("keygate")))
        .or_else(|| from("HOME").map(|home| Path::new(&home).join(".cache/keygate")))
        .context("no folder to keep downloads in: set KEYGATE_CACHE")?;
    fs::create_dir_all(&folder)
        .with_context(|| format!("cannot make the cache folder {}", folder.display()))?;
    Ok(folder)
}

/// Waits until no other run of the tool puts `what` into `folder`; the lock ends with the returned
/// file.
///
/// # Errors
/// When the lock file cannot be made, or the tool is interrupted.
pub fn lock(folder: &Path, what: &str) -> Result<File> {
    let path = folder.join(format!("{what}.lock"));
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    let mut told = false;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(fs::TryLockError::WouldBlock) => {}
            Err(fs::TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("cannot lock {}", path.display()));
            }
        }
        if !told {
            progress::note(&format!("waiting for another run that makes {what}"));
            told = true;
        }
        interrupt::check()?;
        wait::pause();
    }
}
