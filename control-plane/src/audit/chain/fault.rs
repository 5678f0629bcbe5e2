//! What can be wrong with a chain.

use serde::Serialize;

use super::{ChainHash, checkpoint::PublicKey};

/// The first thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "fault", rename_all = "snake_case")]
pub enum Fault {
    /// A row does not hold what was recorded.
    #[error("row {row} (batch {batch}) was edited: it does not hold what was recorded")]
    RowEdited {
        /// Which row.
        row: i64,
        /// Its batch.
        batch: u64,
    },
    /// A row holds what was recorded as another one.
    #[error("row {row} (batch {batch}) was swapped: it holds what was recorded as row {with}")]
    RowSwapped {
        /// Which row.
        row: i64,
        /// Whose place its content had.
        with: i64,
        /// Its batch.
        batch: u64,
    },
    /// A row is gone.
    #[error("row {row} (batch {batch}) is missing: it was recorded, and has been deleted")]
    RowMissing {
        /// Which row.
        row: i64,
        /// Its batch.
        batch: u64,
    },
    /// A row that no batch has.
    #[error("row {row} was inserted: no batch recorded it (it stands after batch {after})")]
    RowInserted {
        /// Which row.
        row: i64,
        /// The last batch before it.
        after: u64,
    },
    /// A batch is gone.
    #[error("batch {batch} is missing: later ones are there")]
    BatchMissing {
        /// Which batch.
        batch: u64,
    },
    /// A batch's own record was changed.
    #[error("the record of batch {batch} was edited: {what}")]
    BatchEdited {
        /// Which batch.
        batch: u64,
        /// What about it.
        what: &'static str,
    },
    /// A batch is whole in itself, and another one than its successor was built on.
    #[error(
        "batch {batch} (rows {first_row} to {last_row}), or one before it, was rewritten, and its \
         hash computed anew: the next batch was built on another one"
    )]
    BatchRewritten {
        /// Which batch.
        batch: u64,
        /// Its first row.
        first_row: i64,
        /// Its last row.
        last_row: i64,
    },
    /// The end of the log is gone.
    #[error(
        "the end of the log is missing: it ends with batch {last}, and {witness} knows batch {known}"
    )]
    Truncated {
        /// The last batch that is there.
        last: u64,
        /// A batch that has been there.
        known: u64,
        /// Who knows.
        witness: String,
    },
    /// The head is another one than the last batch.
    #[error("the record of the log's end was edited: it is not what batch {last} says")]
    HeadEdited {
        /// The last batch.
        last: u64,
    },
    /// The chain is another one than a checkpoint says.
    #[error(
        "the log was rewritten, all its hashes with it: {witness} says that batch {batch} had the \
         hash {expected}, and now it has {found}; what was changed is in batches {from} to {batch}"
    )]
    Rewritten {
        /// The batch that the checkpoint is about.
        batch: u64,
        /// The first batch after the last checkpoint that still holds.
        from: u64,
        /// Who says so.
        witness: String,
        /// The hash that was signed.
        expected: ChainHash,
        /// The hash that is there.
        found: ChainHash,
    },
    /// A signature is wrong.
    #[error("checkpoint {number} has a wrong signature: it was forged or edited")]
    WrongSignature {
        /// Which checkpoint.
        number: u64,
    },
    /// A signature is right, and of nobody who is trusted.
    #[error("checkpoint {number} is signed with {public_key}, which is not a key that is trusted")]
    UntrustedKey {
        /// Which checkpoint.
        number: u64,
        /// Whose signature it is.
        public_key: PublicKey,
    },
    /// A checkpoint is gone.
    #[error("checkpoint {number} is missing: later ones are there")]
    CheckpointMissing {
        /// Which checkpoint.
        number: u64,
    },
    /// A checkpoint is about no batch of this chain.
    #[error("checkpoint {number} is not in this chain: {what}")]
    CheckpointElsewhere {
        /// Which checkpoint.
        number: u64,
        /// Why not.
        what: &'static str,
    },
    /// The start is missing, and no checkpoint says that it was retired.
    #[error(
        "the beginning of the log is missing: it begins with batch {first}, and no signed \
         checkpoint says that what was before has been retired"
    )]
    StartMissing {
        /// The first batch.
        first: u64,
    },
    /// A checkpoint from outside is older than what is kept.
    #[error(
        "batch {batch} cannot be compared any more: everything up to batch {retired} has been \
         retired; give a newer checkpoint"
    )]
    Retired {
        /// The batch that was asked for.
        batch: u64,
        /// The last one that is gone.
        retired: u64,
    },
    /// What should be a row, a batch or a checkpoint is not readable as one.
    #[error("{place} cannot be read: {problem}")]
    Unreadable {
        /// Where.
        place: String,
        /// Why.
        problem: String,
    },
}
