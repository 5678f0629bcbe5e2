//! Whether the last attempt to write failed.

use sqlx::error::DatabaseError;
use std::sync::atomic::{AtomicBool, Ordering};

use super::StoreError;

/// What became of the last write.
#[derive(Debug, Default)]
pub(super) struct WriteState(AtomicBool);

impl WriteState {
    /// A write is durable.
    pub(super) fn succeeded(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// Keeps in mind that a write failed. That a key is already there is no failure of the
    /// database.
    pub(super) fn noted<T>(&self, written: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Err(StoreError::Database(error)) = &written
            && !error.as_database_error().is_some_and(DatabaseError::is_unique_violation)
        {
            self.0.store(true, Ordering::Relaxed);
        }
        written
    }

    /// Whether it failed.
    pub(super) fn is_failing(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
