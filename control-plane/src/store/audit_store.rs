//! The audit log's rows.

use async_trait::async_trait;
use edge_protocol::EventKind;
use jiff::Timestamp;
use key_policy::KeyId;
use sqlx::{Database, Encode, QueryBuilder, Type};
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

impl AuditFilter {
    /// Writes what follows the name of the table: the conditions, and the order.
    ///
    /// Only the conditions that there are: a planner takes no index for `? IS NULL OR event = ?`.
    pub(super) fn push_to<DB: Database>(
        &self,
        query: &mut QueryBuilder<DB>,
        within: Option<IdRange>,
        limit: u32,
    ) where
        i64: Encode<'static, DB> + Type<DB>,
        String: Encode<'static, DB> + Type<DB>,
    {
        let IdRange { first, last } = within.unwrap_or(IdRange::ALL).before(self.before);
        query.push(" WHERE id BETWEEN ").push_bind(first).push(" AND ").push_bind(last);
        let mut equal = |column: &str, value: String| {
            query.push(" AND ").push(column).push(" = ").push_bind(value);
        };
        if let Some(event) = self.event {
            equal("event", event.as_str().to_owned());
        }
        if let Some(key_id) = self.key_id {
            equal("key_id", key_id.to_string());
        }
        if let Some(client_ip) = self.client_ip {
            equal("client_ip", client_ip.to_string());
        }
        if let Some(actor) = &self.actor {
            equal("actor", actor.clone());
        }
        if let Some(source) = &self.source {
            equal("source", source.clone());
        }
        // With a sum, so that the index of times is left alone: the order is that of ids.
        if let Some(since) = self.since {
            query.push(" AND at_ms + 0 >= ").push_bind(since.as_millisecond());
        }
        if let Some(until) = self.until {
            query.push(" AND at_ms + 0 < ").push_bind(until.as_millisecond());
        }
        query.push(" ORDER BY id DESC LIMIT ").push_bind(i64::from(limit));
    }
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
    /// All that there can be.
    pub(super) const ALL: Self = Self { first: i64::MIN, last: i64::MAX };

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
    /// so that two who write the same do not wait for each other. What takes longer than five
    /// seconds is given up; nobody knows then whether it is stored.
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
