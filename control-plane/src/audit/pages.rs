//! The log's rows, newest first, a page at a time: for whoever wants all of them.

use super::AuditRow;
use crate::store::{AuditFilter, Store, StoreError};

const ROWS: u32 = 1000;

/// The rows that a filter lets through.
pub struct Pages {
    filter: AuditFilter,
    left: u64,
    ended: bool,
}

impl Pages {
    /// At most `limit` of them.
    #[must_use]
    pub fn new(filter: AuditFilter, limit: Option<u64>) -> Self {
        Self { filter, left: limit.unwrap_or(u64::MAX), ended: false }
    }

    /// The next page; none after the last.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn next(&mut self, store: &dyn Store) -> Result<Option<Vec<AuditRow>>, StoreError> {
        if self.ended || self.left == 0 {
            return Ok(None);
        }
        if self.filter.within.is_none() {
            self.filter.within = store.audit_bounds(&self.filter).await?;
        }
        let size = u32::try_from(self.left).unwrap_or(ROWS).min(ROWS);
        let rows = store.audit_rows(&self.filter, size).await?;
        let count = u64::try_from(rows.len()).unwrap_or(u64::MAX);
        self.ended = count < u64::from(size);
        self.left -= count;
        self.filter.before = rows.last().map(|row| row.id);
        Ok(Some(rows).filter(|rows| !rows.is_empty()))
    }
}
