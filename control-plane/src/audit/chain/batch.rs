//! Batches: the chain's links.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{
    ChainHash,
    row::{ChainedRow, digest},
};
use crate::audit::AuditEntry;

/// Where a chain ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainHead {
    /// The name of this database's chain, drawn when it was made.
    pub database_id: String,
    /// The last batch; 0 before the first.
    pub sequence: u64,
    /// The last row.
    pub last_id: i64,
    /// The last batch's hash.
    pub hash: ChainHash,
    /// When it was stored, in milliseconds since the Unix epoch.
    pub recorded_at_ms: i64,
}

/// A link of the chain: rows that were stored together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// Its place, counted up from 1 without holes.
    pub sequence: u64,
    /// Its first row.
    pub first_id: i64,
    /// Its last row.
    pub last_id: i64,
    /// How many rows it has.
    pub count: u32,
    /// When it was stored, in milliseconds since the Unix epoch; never before the batch before.
    pub recorded_at_ms: i64,
    /// The hash of the batch before.
    pub previous_hash: ChainHash,
    /// The hash of all of it.
    pub hash: ChainHash,
    /// The beginnings of its rows' hashes, in their order.
    #[serde(with = "super::hex_text")]
    pub digests: Vec<u8>,
}

/// The hash of a batch while its rows go by.
pub(super) struct BatchHasher {
    rows: Sha256,
    count: u32,
}

impl BatchHasher {
    pub(super) fn new() -> Self {
        Self { rows: Sha256::new(), count: 0 }
    }

    pub(super) fn row(&mut self, hash: &ChainHash) {
        self.rows.update(hash.as_bytes());
        self.count = self.count.saturating_add(1);
    }

    pub(super) fn count(&self) -> u32 {
        self.count
    }

    /// The hash of the batch with these rows, after `previous`.
    pub(super) fn finish(&self, batch: &Batch, previous: &ChainHash) -> ChainHash {
        let mut hasher = Sha256::new();
        hasher.update(b"keygate audit batch 1\0");
        hasher.update(previous.as_bytes());
        hasher.update(batch.sequence.to_be_bytes());
        for number in [batch.recorded_at_ms, batch.first_id, batch.last_id] {
            hasher.update(number.to_be_bytes());
        }
        hasher.update(self.count.to_be_bytes());
        hasher.update(self.rows.clone().finalize());
        ChainHash(hasher.finalize().into())
    }
}

/// Entries that came together, in order.
#[derive(Clone, Copy, Debug)]
pub struct Report<'a> {
    /// Who reports them.
    pub source: &'a str,
    /// In which of the reporter's batches.
    pub batch: Option<i64>,
    /// What happened.
    pub entries: &'a [AuditEntry],
}

/// A batch, its rows, and the chain's new end.
pub struct Sealed<'a> {
    /// The link.
    pub batch: Batch,
    /// What it holds, in order.
    pub rows: Vec<ChainedRow<'a>>,
    /// Where the chain ends with it.
    pub head: ChainHead,
}

impl ChainHead {
    /// Makes the next batch of what was reported, recorded at `now_ms` or, should the clock have been
    /// set back, at the time of the batch before. None when there are no entries, or when one has
    /// a time that cannot be stored.
    #[must_use]
    pub fn seal<'a>(
        &self,
        now_ms: i64,
        reports: impl IntoIterator<Item = Report<'a>>,
    ) -> Option<Sealed<'a>> {
        let rows = reports.into_iter().flat_map(|Report { source, batch, entries }| {
            entries.iter().map(move |entry| ChainedRow::new(entry, source, batch))
        });
        self.seal_rows(now_ms, rows.collect::<Option<Vec<_>>>()?, self.last_id + 1)
    }

    /// The same of rows, which get the places from `first_id` on.
    #[must_use]
    pub fn seal_rows<'a>(
        &self,
        now_ms: i64,
        mut rows: Vec<ChainedRow<'a>>,
        first_id: i64,
    ) -> Option<Sealed<'a>> {
        let recorded_at_ms = now_ms.max(self.recorded_at_ms);
        let mut hasher = BatchHasher::new();
        let mut digests = Vec::new();
        let mut last_id = None;
        for (id, row) in (first_id..).zip(&mut rows) {
            row.id = id;
            row.recorded_at_ms = recorded_at_ms;
            let hash = row.hash();
            hasher.row(&hash);
            digests.extend_from_slice(&digest(&hash));
            last_id = Some(id);
        }
        let last_id = last_id?;
        let mut batch = Batch {
            sequence: self.sequence + 1,
            first_id,
            last_id,
            count: hasher.count(),
            recorded_at_ms,
            previous_hash: self.hash,
            hash: self.hash,
            digests,
        };
        batch.hash = hasher.finish(&batch, &self.hash);
        let head = ChainHead {
            database_id: self.database_id.clone(),
            sequence: batch.sequence,
            last_id,
            hash: batch.hash,
            recorded_at_ms,
        };
        Some(Sealed { batch, rows, head })
    }
}
