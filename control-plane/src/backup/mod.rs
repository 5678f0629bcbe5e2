//! Backups: a copy of the database in one file that says what it is, and that can be told from one
//! that was damaged or forged.
//!
//! A backup is made while the service runs, and is looked through before it gets its name: pages,
//! checksums, the audit log's chain. A restore looks through it again, all of it, before it touches
//! what is there; and never deletes what was.

mod container;
mod error;
mod make;
mod manifest;
mod on_postgres;
mod restore;
mod staging;

#[cfg(test)]
mod tests;

pub use error::BackupError;
pub use make::{Made, make};
pub use manifest::{AuditEnd, Backend, Manifest};
pub use restore::{Checked, Occupied, Restored, check, restore};

/// How far it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The database is being copied: so many bytes of about so many.
    Copying {
        /// Done.
        bytes: u64,
        /// In all, if that is known.
        of: Option<u64>,
    },
    /// Rows of the audit log that were looked through.
    Verifying {
        /// So many.
        rows: u64,
    },
}

/// Who is told.
pub type Watcher<'a> = dyn FnMut(Progress) + Send + 'a;
