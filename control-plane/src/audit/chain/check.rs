//! Follows a chain from its start to its end, and says what the first thing is that is wrong.
//!
//! Rows come in the order of their ids, each batch before its rows, each checkpoint in the order
//! of its number and as soon as its batch has gone by. Nothing of what has gone by is kept.

use serde::Serialize;
use std::collections::BTreeMap;

use super::{
    ChainHash,
    batch::{Batch, BatchHasher, ChainHead},
    checkpoint::{Checkpoint, PublicKey, Reason},
    fault::Fault,
    row::{ChainedRow, DIGEST_BYTES, digest},
};

/// Whose checkpoints are believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Those of these keys.
    Keys(Vec<PublicKey>),
    /// Anyone's, as long as the signature is right. It finds what was changed by someone who has
    /// not thought of the checkpoints, and no more.
    Anyone,
}

/// Checkpoints that are known from outside: batch and hash, as the log stream has them.
pub type Anchors = BTreeMap<u64, ChainHash>;

/// What was looked through, and found whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// Batches that were looked through.
    pub batches: u64,
    /// Rows that were looked through.
    pub rows: u64,
    /// The batch up to which everything has been retired; 0: nothing has.
    pub retired: u64,
    /// The last batch.
    pub sequence: u64,
    /// The last row.
    pub last_id: i64,
    /// The last batch's hash.
    pub hash: ChainHash,
    /// Checkpoints whose signature is right.
    pub checkpoints: u64,
    /// The last batch that a signed checkpoint, or one from outside, vouches for; 0: none does.
    pub vouched_for: u64,
    /// Rows after it: they are chained, and nobody has signed for them yet.
    pub rows_since: u64,
}

/// The chain up to a batch.
struct Place {
    sequence: u64,
    first_id: i64,
    last_id: i64,
    hash: ChainHash,
    recorded_at_ms: i64,
}

/// A batch whose rows are going by.
struct Open {
    batch: Batch,
    hasher: BatchHasher,
    /// The first row that is not what was recorded, as far as the digests tell.
    suspect: Option<Fault>,
}

/// A chain that is being followed.
pub struct ChainCheck {
    database_id: String,
    trust: Trust,
    anchors: Anchors,
    place: Place,
    open: Option<Open>,
    /// The batch up to which everything is gone; 0: nothing is.
    retired: u64,
    last_number: u64,
    found: Verified,
}

impl ChainCheck {
    /// Begins at the start of that database's chain.
    #[must_use]
    pub fn new(database_id: &str, trust: Trust, anchors: Anchors) -> Self {
        let hash = ChainHash::genesis(database_id);
        Self {
            database_id: database_id.to_owned(),
            trust,
            anchors,
            place: Place { sequence: 0, first_id: 0, last_id: 0, hash, recorded_at_ms: i64::MIN },
            open: None,
            retired: 0,
            last_number: 0,
            found: Verified {
                batches: 0,
                rows: 0,
                retired: 0,
                sequence: 0,
                last_id: 0,
                hash,
                checkpoints: 0,
                vouched_for: 0,
                rows_since: 0,
            },
        }
    }

    /// Begins after a checkpoint that retired what was before it.
    ///
    /// # Errors
    /// When it is not signed by whom we trust, or retires nothing.
    pub fn start_after(&mut self, mark: &Checkpoint) -> Result<(), Fault> {
        self.signature(mark)?;
        let it = &mark.statement;
        if it.reason != Reason::Retention {
            return Err(Fault::CheckpointElsewhere {
                number: it.number,
                what: "it does not retire anything",
            });
        }
        self.retired = it.sequence;
        self.place = Place {
            sequence: it.sequence,
            first_id: it.last_id,
            last_id: it.last_id,
            hash: it.hash,
            recorded_at_ms: i64::MIN,
        };
        self.found.retired = it.sequence;
        self.found.vouched_for = it.sequence;
        let retired = self.anchors.extract_if(..=it.sequence, |_, _| true).collect::<Vec<_>>();
        for (batch, hash) in retired {
            self.compare(batch, hash, it.sequence, "the checkpoint from outside")?;
        }
        Ok(())
    }

    fn compare(
        &self,
        batch: u64,
        hash: ChainHash,
        retired: u64,
        witness: &str,
    ) -> Result<(), Fault> {
        if batch != retired {
            return Err(Fault::Retired { batch, retired });
        }
        if hash == self.place.hash { Ok(()) } else { Err(self.rewritten(hash, witness)) }
    }

    fn rewritten(&self, expected: ChainHash, witness: &str) -> Fault {
        Fault::Rewritten {
            batch: self.place.sequence,
            from: self.found.vouched_for + 1,
            witness: witness.to_owned(),
            expected,
            found: self.place.hash,
        }
    }

    /// The rows that have gone by.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.found.rows
    }

    /// The next batch; its rows follow.
    ///
    /// # Errors
    /// When it is not what follows.
    pub fn batch(&mut self, batch: Batch) -> Result<(), Fault> {
        self.close()?;
        let next = self.place.sequence + 1;
        if batch.sequence != next {
            return Err(if self.place.sequence == 0 {
                Fault::StartMissing { first: batch.sequence }
            } else {
                Fault::BatchMissing { batch: next }
            });
        }
        let edited = |what| Err(Fault::BatchEdited { batch: next, what });
        let count = i64::from(batch.count);
        if count == 0 || batch.last_id.checked_sub(batch.first_id) != Some(count - 1) {
            return edited("its count is not that of its rows");
        }
        if batch.first_id <= self.place.last_id {
            return edited("it begins before the batch before it ends");
        }
        if batch.recorded_at_ms < self.place.recorded_at_ms {
            return edited("it was recorded before the batch before it");
        }
        if batch.digests.len() != usize::try_from(batch.count).unwrap_or(0) * DIGEST_BYTES {
            return edited("its digests are not as many as its rows");
        }
        self.open = Some(Open { batch, hasher: BatchHasher::new(), suspect: None });
        Ok(())
    }

    /// The next row.
    ///
    /// # Errors
    /// When it is not the one that was recorded there.
    pub fn row(&mut self, row: &ChainedRow<'_>) -> Result<(), Fault> {
        let Some(open) = &mut self.open else {
            return Err(Fault::RowInserted { row: row.id, after: self.place.sequence });
        };
        let Open { batch, hasher, suspect } = open;
        let expected = batch.first_id + i64::from(hasher.count());
        if row.id < expected || expected > batch.last_id {
            let after = if row.id < batch.first_id { self.place.sequence } else { batch.sequence };
            return Err(Fault::RowInserted { row: row.id, after });
        }
        if row.id > expected {
            return Err(Fault::RowMissing { row: expected, batch: batch.sequence });
        }
        let hash = row.hash();
        let at = usize::try_from(hasher.count()).unwrap_or(usize::MAX);
        if suspect.is_none()
            && batch.digests.chunks_exact(DIGEST_BYTES).nth(at) != Some(&digest(&hash))
        {
            *suspect = Some(what_happened(row, batch));
        }
        // All rows of a batch were recorded at its time.
        if suspect.is_none() && row.recorded_at_ms != batch.recorded_at_ms {
            *suspect = Some(Fault::RowEdited { row: row.id, batch: batch.sequence });
        }
        hasher.row(&hash);
        self.found.rows += 1;
        self.found.rows_since += 1;
        Ok(())
    }

    /// Ends the batch that is under way, if there is one.
    ///
    /// # Errors
    /// When rows of it are missing, or its hash is another one.
    fn close(&mut self) -> Result<(), Fault> {
        let Some(Open { batch, hasher, suspect }) = self.open.take() else { return Ok(()) };
        let sequence = batch.sequence;
        if hasher.count() < batch.count {
            let row = batch.first_id + i64::from(hasher.count());
            return Err(Fault::RowMissing { row, batch: sequence });
        }
        let edited = |what| Err(Fault::BatchEdited { batch: sequence, what });
        let follows = hasher.finish(&batch, &self.place.hash);
        let is_previous = batch.previous_hash == self.place.hash;
        if follows == batch.hash {
            // The rows and the link are whole.
            if suspect.is_some() {
                return edited("its digests are not those of its rows");
            }
            if !is_previous {
                return edited("it names another hash of the batch before it");
            }
        } else if !is_previous && hasher.finish(&batch, &batch.previous_hash) == batch.hash {
            return Err(if self.place.sequence == self.retired {
                Fault::BatchEdited { batch: sequence, what: "it does not follow what was before" }
            } else {
                Fault::BatchRewritten {
                    batch: self.place.sequence,
                    first_row: self.place.first_id,
                    last_row: self.place.last_id,
                }
            });
        } else {
            return suspect.map_or_else(|| edited("its hash is not that of its rows"), Err);
        }
        self.place = Place {
            sequence,
            first_id: batch.first_id,
            last_id: batch.last_id,
            hash: batch.hash,
            recorded_at_ms: batch.recorded_at_ms,
        };
        self.found.batches += 1;
        if let Some(expected) = self.anchors.remove(&sequence) {
            if expected != batch.hash {
                return Err(self.rewritten(expected, "the checkpoint from outside"));
            }
            self.vouched_for();
        }
        Ok(())
    }

    fn vouched_for(&mut self) {
        self.found.vouched_for = self.place.sequence;
        self.found.rows_since = 0;
    }

    fn signature(&self, checkpoint: &Checkpoint) -> Result<(), Fault> {
        let number = checkpoint.statement.number;
        if !checkpoint.is_signed() {
            return Err(Fault::WrongSignature { number });
        }
        if checkpoint.statement.database_id != self.database_id {
            return Err(Fault::CheckpointElsewhere {
                number,
                what: "it is about another database",
            });
        }
        match &self.trust {
            Trust::Keys(keys) if !keys.contains(&checkpoint.public_key) => {
                Err(Fault::UntrustedKey { number, public_key: checkpoint.public_key })
            }
            _ => Ok(()),
        }
    }

    /// The next checkpoint, once its batch has gone by.
    ///
    /// # Errors
    /// When one is missing, its signature is wrong, or it is not about this chain.
    pub fn checkpoint(&mut self, checkpoint: &Checkpoint) -> Result<(), Fault> {
        self.close()?;
        let it = &checkpoint.statement;
        if it.number != self.last_number + 1 {
            return Err(Fault::CheckpointMissing { number: self.last_number + 1 });
        }
        self.last_number = it.number;
        // Whoever signed for what is gone by now need not be known any more: the mark of
        // retention, which is signed by whom we trust, speaks for it.
        if it.sequence <= self.retired {
            let signed = checkpoint.is_signed();
            return if signed { Ok(()) } else { Err(Fault::WrongSignature { number: it.number }) };
        }
        self.signature(checkpoint)?;
        self.found.checkpoints += 1;
        if it.sequence > self.place.sequence {
            return Err(Fault::Truncated {
                last: self.place.sequence,
                known: it.sequence,
                witness: format!("checkpoint {}", it.number),
            });
        }
        if it.sequence < self.place.sequence {
            // A mark of retention looks back; the others come in the order of what they are about.
            return if it.reason == Reason::Retention {
                Ok(())
            } else {
                Err(Fault::CheckpointElsewhere {
                    number: it.number,
                    what: "an earlier one is about a later batch",
                })
            };
        }
        if it.hash != self.place.hash {
            return Err(self.rewritten(it.hash, &format!("checkpoint {}", it.number)));
        }
        if it.last_id != self.place.last_id {
            return Err(Fault::CheckpointElsewhere {
                number: it.number,
                what: "its batch ends with another row",
            });
        }
        self.vouched_for();
        Ok(())
    }

    /// As [`Self::finish`], of the part of the chain up to a batch.
    ///
    /// # Errors
    /// When that batch was not reached.
    pub fn finish_at(mut self, up_to: u64) -> Result<Verified, Fault> {
        self.close()?;
        if self.place.sequence < up_to {
            return Err(Fault::Truncated {
                last: self.place.sequence,
                known: up_to,
                witness: "the record of what is old".to_owned(),
            });
        }
        Ok(self.verified())
    }

    fn verified(self) -> Verified {
        let Place { sequence, last_id, hash, .. } = self.place;
        Verified { sequence, last_id, hash, ..self.found }
    }

    /// The chain's end, as the head says it.
    ///
    /// # Errors
    /// When the chain ends elsewhere, or before a batch that is known from outside.
    pub fn finish(mut self, head: &ChainHead) -> Result<Verified, Fault> {
        self.close()?;
        let last = self.place.sequence;
        let truncated =
            |known, witness: &str| Fault::Truncated { last, known, witness: witness.to_owned() };
        if head.sequence > last {
            return Err(truncated(head.sequence, "the record of the log's end"));
        }
        if let Some((&known, _)) = self.anchors.last_key_value() {
            return Err(truncated(known, "the checkpoint from outside"));
        }
        let is_ours = head.database_id == self.database_id
            && (head.sequence, head.hash) == (last, self.place.hash)
            && head.last_id == self.place.last_id;
        if !is_ours {
            return Err(Fault::HeadEdited { last });
        }
        Ok(self.verified())
    }
}

/// Whether a row that is not what was recorded is another row of its batch.
fn what_happened(row: &ChainedRow<'_>, batch: &Batch) -> Fault {
    let mut elsewhere = row.clone();
    for (id, recorded) in (batch.first_id..).zip(batch.digests.chunks_exact(DIGEST_BYTES)) {
        elsewhere.id = id;
        if id != row.id && digest(&elsewhere.hash()) == recorded {
            return Fault::RowSwapped { row: row.id, with: id, batch: batch.sequence };
        }
    }
    Fault::RowEdited { row: row.id, batch: batch.sequence }
}
