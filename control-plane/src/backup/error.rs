//! Why a backup was not made, or not restored.

use std::{io, path::PathBuf};

use crate::{
    audit::chain::fault::Fault,
    secret_key::SecretKeyFault,
    store::{OpenError, StoreError, postgres::backup::ToolError},
};

/// Why a backup was not made, or not restored.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The name is taken.
    #[error("{0} is there already; a backup is never overwritten, so name another file")]
    Exists(PathBuf),
    /// There is no such file.
    #[error("there is no backup {0}")]
    Missing(PathBuf),
    /// The path cannot be used.
    #[error("{0} is no file's path that can be used here")]
    Path(PathBuf),
    /// A file could not be read or written.
    #[error("{what} {path}: {source}")]
    File {
        /// What was tried.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is not a backup of this program, or of a version that this one does not know.
    #[error("this is no backup that this version of keygate can read: {0}")]
    Foreign(String),
    /// It is not as it was written.
    #[error("the backup is damaged, and nothing was restored: {0}")]
    Damaged(String),
    /// It was made with another secret key.
    #[error(
        "KEYGATE_SECRET_KEY: the backup was made with the secret key that goes by {wanted}, and \
         neither this one nor KEYGATE_SECRET_KEY_PREVIOUS does; none of its keys would be recognised"
    )]
    SecretKey {
        /// The name of the right one.
        wanted: String,
    },
    /// Whoever wrote its manifest did not have the secret key.
    #[error(
        "the backup's manifest was not written by a holder of this secret key: it was changed, and \
         nothing was restored"
    )]
    Forged,
    /// The copy's audit log is not whole.
    #[error("the audit log in the copy is broken: {0}")]
    Audit(#[from] Fault),
    /// It is a copy of another kind of database.
    #[error("this is a copy of a {made} database, and KEYGATE_DATABASE_URL names a {wanted} one")]
    OtherBackend {
        /// What it was made from.
        made: &'static str,
        /// What is to be restored.
        wanted: &'static str,
    },
    /// Something is there that a restore would take the place of.
    #[error("{0}")]
    Occupied(String),
    /// The service runs on the database that is to be replaced.
    #[error(
        "the database {0} is in use; stop the service (and other keygate commands) on it, then try \
         again"
    )]
    InUse(String),
    /// A program of the database's own is missing or has failed.
    #[error(transparent)]
    Tool(#[from] ToolError),
    /// The secret key is missing.
    #[error(transparent)]
    Secret(#[from] SecretKeyFault),
    /// The database cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl BackupError {
    /// Whether a setting or an argument is what is wrong.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::SecretKey { .. }
                | Self::OtherBackend { .. }
                | Self::Path(_)
                | Self::Secret(SecretKeyFault::Missing | SecretKeyFault::Another)
        )
    }
}

/// Says what was tried with which file.
pub(super) trait InFile<T> {
    /// Says so.
    fn in_file(self, what: &'static str, path: &std::path::Path) -> Result<T, BackupError>;
}

impl<T> InFile<T> for io::Result<T> {
    fn in_file(self, what: &'static str, path: &std::path::Path) -> Result<T, BackupError> {
        self.map_err(|source| BackupError::File { what, path: path.to_owned(), source })
    }
}
