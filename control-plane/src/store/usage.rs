//! How often keys were used.

use async_trait::async_trait;
use jiff::Timestamp;
use key_policy::KeyId;

use super::{
    StoreError,
    row::{self, Cells},
};
use crate::{
    audit::AuditEntry,
    usage::{UsageSum, Uses, period::Period},
};

/// What a filter delivers at once. It is stored as a whole and once, or not at all.
#[derive(Clone, Debug)]
pub struct FilterBatch {
    /// The filter's name for its own life.
    pub source: String,
    /// The batch's number; a source's batches come in order.
    pub batch: u64,
    /// When it came.
    pub at: Timestamp,
    /// What happened, oldest first.
    pub entries: Vec<AuditEntry>,
    /// How often keys were used: each kind at most once, in order. They add to what is stored.
    pub usage: Vec<Uses>,
}

/// Usage. It comes in with [`AuditStore::append_batches`](super::AuditStore::append_batches).
#[async_trait]
pub trait UsageStore: Send + Sync {
    /// A key's usage in each part of the period, oldest first; parts without are left out.
    async fn usage(&self, key_id: KeyId, period: &Period) -> Result<Vec<UsageSum>, StoreError>;

    /// Drops some of the usage of before that time, the beginning of a day; gives how much, of
    /// whatever the database counts it in, and 0 when there is none left. Each call is short.
    async fn drop_usage_before(&self, before: Timestamp) -> Result<u64, StoreError>;
}

/// Reads a row of what [`UsageStore::usage`] asks for.
pub(super) fn read_sum(row: &impl Cells) -> Result<UsageSum, StoreError> {
    Ok(UsageSum {
        start: row::time(row.integer("start_ms")?, "minute_ms")?,
        method: row::parse(row.text("method")?, "method")?,
        outcome: row::parse(row.text("outcome")?, "outcome")?,
        count: row::unsigned(row.integer("requests")?, "count")?,
    })
}
