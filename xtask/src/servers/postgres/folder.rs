//! The folder of a server's data. It is swept away with its owner, or, when that was killed, by the
//! next one.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::program;
use crate::private_file;

const PREFIX: &str = "keygate-postgres-";

/// A folder of the server's own. Dropping it removes it.
#[derive(Debug)]
pub(super) struct DataFolder {
    path: PathBuf,
    /// Locked for as long as the folder is in use; the system lets go of it whatever happens.
    _in_use: File,
}

impl DataFolder {
    /// Makes one where the server's user can get at it.
    pub(super) fn make() -> Result<Self> {
        let place = std::env::temp_dir();
        let _turn = turn(&place)?;
        sweep_in(&place);
        let mut random = [0; 8];
        getrandom::fill(&mut random)?;
        let path = place.join(format!("{PREFIX}{}", hex::encode(random)));
        fs::create_dir(&path).with_context(|| format!("cannot make {}", path.display()))?;
        let in_use = File::create(path.join("in-use"))?;
        in_use.lock()?;
        let data = path.join("data");
        fs::create_dir(&data)?;
        fs::set_permissions(&data, Permissions::from_mode(0o700))?;
        program::hand_over(&data)?;
        Ok(Self { path, _in_use: in_use })
    }

    /// What the server keeps.
    pub(super) fn data(&self) -> PathBuf {
        self.path.join("data")
    }

    /// Writes the superuser's password where only the server's user can read it.
    pub(super) fn password_file(&self, password: &str) -> Result<PathBuf> {
        let path = self.path.join("password");
        private_file::write(&path, password)?;
        program::hand_over(&path)?;
        Ok(path)
    }

    /// Where it says what it does.
    pub(super) fn log(&self) -> PathBuf {
        self.path.join("postgres.log")
    }
}

impl Drop for DataFolder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Removes what was left behind by owners that were killed, or that never let go of a server.
pub fn sweep() {
    let place = std::env::temp_dir();
    if let Ok(_turn) = turn(&place) {
        sweep_in(&place);
    }
}

/// Keeps others from making or removing folders. Two at once must not take each other's new folder,
/// not locked yet, for one left behind.
fn turn(place: &Path) -> Result<File> {
    let turn = File::create(place.join(format!("{PREFIX}lock")))?;
    turn.lock()?;
    Ok(turn)
}

/// Removes what nobody uses any more. What cannot be removed is another user's.
fn sweep_in(place: &Path) {
    let entries = fs::read_dir(place).into_iter().flatten().flatten();
    for path in entries.map(|entry| entry.path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !name.starts_with(PREFIX) || !path.is_dir() {
            continue;
        }
        let unused = File::open(path.join("in-use")).is_ok_and(|file| file.try_lock().is_ok());
        if unused {
            let _ = fs::remove_dir_all(&path);
        }
    }
}
