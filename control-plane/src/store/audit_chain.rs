//! The audit log's chain: reading it, vouching for it, retiring its beginning.

use async_trait::async_trait;
use jiff::Timestamp;

use super::StoreError;
use crate::audit::chain::{
    batch::{Batch, ChainHead},
    checkpoint::Checkpoint,
    row::ChainedRow,
};

/// What became of a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckpointOutcome {
    /// It is stored.
    Stored,
    /// Another control plane has just made one of that number; nothing was stored.
    NumberTaken,
}

/// How much was deleted at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Rows of the log; on `PostgreSQL` partitions of it.
    pub rows: u64,
    /// Batches.
    pub batches: u64,
}

/// The chain. Adding to it is a part of adding to the log, [`AuditStore`](super::AuditStore).
#[async_trait]
pub trait AuditChain: Send + Sync {
    /// Where the chain ends.
    async fn chain_head(&self) -> Result<ChainHead, StoreError>;

    /// The end of the chain, and the greatest ids of rows and sequence of batches that there are,
    /// of one snapshot: whatever is after the end was not put there by this program.
    async fn chain_ends(&self) -> Result<ChainEnds, StoreError>;

    /// Batches after `after`, in order.
    async fn chain_batches(&self, after: u64, limit: u32) -> Result<Vec<Batch>, StoreError>;

    /// Rows after the id `after`, in order, also those that no batch has.
    async fn chain_rows(
        &self,
        after: i64,
        limit: u32,
    ) -> Result<Vec<ChainedRow<'static>>, StoreError>;

    /// Checkpoints after `after`, in the order of their numbers.
    async fn checkpoints(&self, after: u64, limit: u32) -> Result<Vec<Checkpoint>, StoreError>;

    /// The last checkpoint.
    async fn last_checkpoint(&self) -> Result<Option<Checkpoint>, StoreError>;

    /// The checkpoint up to which everything is retired.
    async fn retired_mark(&self) -> Result<Option<Checkpoint>, StoreError>;

    /// Stores a checkpoint.
    async fn add_checkpoint(
        &self,
        checkpoint: &Checkpoint,
    ) -> Result<CheckpointOutcome, StoreError>;

    /// The last batch that was recorded before `cutoff`.
    async fn last_batch_before(&self, cutoff: Timestamp) -> Result<Option<Batch>, StoreError>;

    /// Deletes some of what this mark allows to; nothing, when all of it is gone. That the mark is
    /// one to be followed is the caller's to see to. Each call is short, so that those who write
    /// need not wait for long.
    async fn drop_retired(&self, mark: &Checkpoint) -> Result<Dropped, StoreError>;

    /// Makes the places of what is recorded from now on until so many days later, where the log is
    /// kept by the day. Gives how many were missing.
    async fn prepare_days(&self, _now: Timestamp, _days: u32) -> Result<u32, StoreError> {
        Ok(0)
    }
}

/// See [`AuditChain::chain_ends`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChainEnds {
    /// The head.
    pub head: ChainHead,
    /// The greatest id of a row; 0: there are none.
    pub max_id: i64,
    /// The greatest sequence of a batch; 0: there are none.
    pub max_sequence: u64,
}
