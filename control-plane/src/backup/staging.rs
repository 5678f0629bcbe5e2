//! Where something is made ready before it gets its name: a folder beside it, for nobody else's
//! eyes, that goes away with everything that did not get so far.

use std::{
    ffi::OsString,
    fs::{self, File},
    path::{Path, PathBuf},
};

use super::{BackupError, error::InFile};
use crate::random::{self, Random};

/// The folder.
pub(super) struct Staging {
    folder: PathBuf,
}

impl Staging {
    /// Makes it beside `target`, on the same file system, so that a rename is all that is left.
    pub(super) fn beside(target: &Path, random: &dyn Random) -> Result<Self, BackupError> {
        let unusable = || BackupError::Path(target.to_owned());
        let name = target.file_name().ok_or_else(unusable)?;
        let tag = random::bytes::<4>(random).map_err(|_| unusable())?;
        let mut hidden = OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".unfinished-{}", hex::encode(tag)));
        let folder = target.with_file_name(hidden);
        let mut builder = fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&folder).in_file("making", &folder)?;
        Ok(Self { folder })
    }

    /// A file in it.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Gives a file in it the name that it was made for, and sees to it that this is on the disk.
    pub(super) fn publish(&self, name: &str, target: &Path) -> Result<(), BackupError> {
        fs::rename(self.file(name), target).in_file("renaming to", target)?;
        sync_folder(target)
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            tracing::warn!(folder = %self.folder.display(), %error, "an unfinished copy stays behind");
        }
    }
}

/// A name in a folder is on the disk when the folder is.
pub(super) fn sync_folder(file: &Path) -> Result<(), BackupError> {
    let folder = file.parent().filter(|it| !it.as_os_str().is_empty());
    let folder = folder.unwrap_or_else(|| Path::new("."));
    File::open(folder).and_then(|it| it.sync_all()).in_file("writing", folder)
}
