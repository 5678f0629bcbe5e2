//! The audit log's rows.

use async_trait::async_trait;
use edge_protocol::EventKind;
use jiff::Timestamp;
use key_policy::KeyId;
use std::{net::IpAddr, time::Duration};

use super::{FilterBatch, StoreError};
use crate::audit::{AuditEntry, AuditRow};

/// Batches that take longer to store have lost their connection on the network. Filters wait no longer
/// than this, and bring the same batch again.
pub(super) const BATCHES_LOST_AFTER: Duration = Duration::from_secs(5);

/// Which audit rows are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Only this kind.
    pub event: Option<EventKind>,
    /// Only about this key.
    pub key_id: Option<KeyId>,
    /// Only of this client.
    pub client_ip: Option<IpAddr>,
    /// Only what this administrator did.
    pub actor: Option<String>,
    /// Only what was reported by this filter, or by the control plane itself.
    pub source: Option<String>,
    /// Only what happened at this time or later.
    pub since: Option<Timestamp>,
    /// Only what happened before this time.
    pub until: Option<Timestamp>,
    /// Only rows with a smaller id than this.
    pub before: Option<i64>,
    /// The first and the last row of that time, when they have been looked for already: who reads
    /// many pages need not look for each. See [`AuditStore::audit_bounds`].
    pub within: Option<IdRange>,
}

/// Rows from one id to another, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdRange {
    /// The first.
    pub first: i64,
    /// The last; before the first, when there are none.
    pub last: i64,
}

impl IdRange {
    /// Those of them that are smaller than this, if it is said.
    pub(super) fn before(self, before: Option<i64>) -> Self {
        let last = before.map_or(self.last, |before| self.last.min(before.saturating_sub(1)));
        Self { last, ..self }
    }
}

/// What came of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchOutcome {
    /// It is stored now.
    Stored,
    /// It was stored before; nothing was added.
    Repeated,
}

/// The audit log.
#[async_trait]
pub trait AuditStore: Send + Sync {
    /// Adds the control plane's own entries.
    async fn append(&self, entries: &[AuditEntry]) -> Result<(), StoreError>;

    /// Adds filters' batches, with their usage, each once: all of them or, should one of them not be
    /// fit to be stored, none. They are of no source two, and in the order of the sources' names,
    /// so that two who write the same do not wait for each other. What takes longer than
    /// [`BATCHES_LOST_AFTER`] is given up; nobody knows then whether it is stored.
    async fn append_batches(
        &self,
        batches: &[&FilterBatch],
    ) -> Result<Vec<BatchOutcome>, StoreError>;

    /// Adds one alone.
    #[cfg(test)]
    async fn append_batch(&self, batch: &FilterBatch) -> Result<BatchOutcome, StoreError> {
        self.append_batches(&[batch]).await.map(|outcomes| outcomes[0])
    }

    /// Forgets the last batches of filters that have brought none since then; says how many.
    async fn forget_sources(&self, before: Timestamp) -> Result<u64, StoreError>;

    /// Where the rows of the filter's time are; none, when it asks for no time.
    async fn audit_bounds(&self, filter: &AuditFilter) -> Result<Option<IdRange>, StoreError>;

    /// Rows, newest first.
    async fn audit_rows(
        &self,
        filter: &AuditFilter,
        limit: u32,
    ) -> Result<Vec<AuditRow>, StoreError>;
}
