//! How often known keys are used, counted until it is delivered.

use edge_protocol::{UsageCount, UsageMethod, UsageOutcome};
use hashbrown::HashTable;
use key_policy::KeyId;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::Now;

/// How many kinds are counted at a time at most: what a hash table of 16 384 places holds. At 25
/// bytes a place that is 410 KB, taken when the first key is used.
const MAX_ROWS: usize = 14_336;
/// How many go in one batch; as JSON some 100 bytes each.
const BATCH: usize = 2048;
/// How long counts gather before they are sent, in milliseconds, unless events go out before. A
/// worker that is killed takes as much with it.
const GATHER_MS: u64 = 1_000;
const MINUTE_MS: u64 = 60_000;

/// What requests are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    /// In minutes since the Unix epoch.
    minute: u32,
    key_id: KeyId,
    method: UsageMethod,
    outcome: UsageOutcome,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    kind: Kind,
    count: u32,
}

impl Row {
    fn hash(&self) -> u64 {
        self.kind.hash()
    }
}

impl Kind {
    /// The control plane draws key ids at random, so they are good hashes as they are; the rest
    /// only has to tell a key's own rows apart.
    fn hash(&self) -> u64 {
        let own = u64::from(self.minute) << 8 | (self.method as u64) << 4 | self.outcome as u64;
        self.key_id.as_u64() ^ own.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

/// The uses of this worker that are in no batch yet.
pub(crate) struct Usage {
    rows: HashTable<Row>,
    /// When the first of them was counted.
    since_ms: u64,
    dropped: u64,
}

impl Usage {
    /// Nothing was used yet.
    pub(crate) fn new() -> Self {
        Self { rows: HashTable::new(), since_ms: 0, dropped: 0 }
    }

    /// Counts a request. Returns whether there was room; without, it only counts as lost.
    pub(crate) fn count(
        &mut self,
        key_id: KeyId,
        method: UsageMethod,
        outcome: UsageOutcome,
        now: Now,
    ) -> bool {
        let minute = u32::try_from(now.unix_ms() / MINUTE_MS).unwrap_or(u32::MAX);
        let kind = Kind { minute, key_id, method, outcome };
        let counted = match self.rows.find_mut(kind.hash(), |row| row.kind == kind) {
            Some(row) => row.count.checked_add(1).map(|more| row.count = more).is_some(),
            None => self.add(kind, now),
        };
        if !counted {
            self.dropped += 1;
        }
        counted
    }

    fn add(&mut self, kind: Kind, now: Now) -> bool {
        if self.rows.len() >= MAX_ROWS {
            return false;
        }
        if self.rows.is_empty() {
            // Once and for all: the first use of a key follows an answer about it, and what
            // follows that allocates nothing.
            self.rows.reserve(MAX_ROWS, Row::hash);
            self.since_ms = now.unix_ms();
        }
        self.rows.insert_unique(kind.hash(), Row { kind, count: 1 }, Row::hash);
        true
    }

    /// From when on a batch is worth sending; none: there is nothing to send.
    pub(crate) fn due_at_ms(&self) -> Option<u64> {
        match (self.rows.len(), self.dropped) {
            (0, 0) => None,
            (rows, 0) if rows < BATCH => Some(self.since_ms + GATHER_MS),
            _ => Some(0),
        }
    }

    /// Takes out what goes in the next batch, oldest first.
    pub(crate) fn take_batch(&mut self) -> Vec<UsageCount> {
        let mut rows: BinaryHeap<_> = self.rows.drain().map(Reverse).collect();
        let batch = std::iter::from_fn(|| rows.pop()).take(BATCH);
        let batch = batch.map(|Reverse(row)| UsageCount::from(row)).collect();
        // The table is empty now, so these leave no gaps that it would have to grow for.
        for Reverse(row) in rows {
            self.rows.insert_unique(row.hash(), row, Row::hash);
        }
        batch
    }

    /// Uses that were taken out are lost.
    pub(crate) fn lose(&mut self, uses: u64) {
        self.dropped += uses;
    }

    /// How many were lost, to be told of by the caller.
    pub(crate) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    /// The clock was set back by so many milliseconds.
    pub(crate) fn set_back(&mut self, by_ms: u64) {
        self.since_ms = self.since_ms.saturating_sub(by_ms);
    }
}

impl From<Row> for UsageCount {
    fn from(row: Row) -> Self {
        let Row { kind, count } = row;
        Self {
            key_id: kind.key_id.to_string(),
            minute_ms: u64::from(kind.minute) * MINUTE_MS,
            method: kind.method,
            outcome: kind.outcome,
            count,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasm_bindgen_test::wasm_bindgen_test;

    const START_MS: u64 = 1_790_000_040_000;

    fn count(usage: &mut Usage, key: u64, ms: u64) -> bool {
        let now = Now::from_unix_ms(START_MS + ms);
        // As spread as those that the control plane draws.
        let key_id = KeyId::from_u64(key.wrapping_mul(0x2545_f491_4f6c_dd1d));
        usage.count(key_id, UsageMethod::Get, UsageOutcome::Allowed, now)
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn requests_of_a_kind_share_a_row_and_wait_for_each_other() {
        let mut usage = Usage::new();
        assert_eq!(usage.due_at_ms(), None);
        for ms in [59_998, 59_999, 60_000] {
            assert!(count(&mut usage, 1, ms));
        }
        assert_eq!(usage.due_at_ms(), Some(START_MS + 59_998 + GATHER_MS));
        let batch = usage.take_batch();
        let counts: Vec<_> = batch.iter().map(|it| (it.minute_ms, it.count)).collect();
        assert_eq!(counts, [(START_MS, 2), (START_MS + 60_000, 1)]);
        assert_eq!(usage.due_at_ms(), None);
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn a_full_table_loses_only_new_kinds_and_counts_what_it_loses() {
        let mut usage = Usage::new();
        let most = u64::try_from(MAX_ROWS).unwrap();
        for key in 0..most {
            assert!(count(&mut usage, key, 0));
        }
        let places = usage.rows.capacity();
        assert!(!count(&mut usage, most, 0) && !count(&mut usage, most + 1, 0));
        assert!(count(&mut usage, 0, 0));
        assert_eq!(usage.take_dropped(), 2);
        // Emptied by and by and filled again, it keeps its size.
        let mut sum = 0;
        for round in 0..20 {
            let batch = usage.take_batch();
            assert_eq!(batch.len(), BATCH);
            sum += batch.iter().map(|it| u64::from(it.count)).sum::<u64>();
            for key in 0..u64::try_from(BATCH).unwrap() {
                assert!(count(&mut usage, most * (round + 2) + key, 60_000));
            }
            assert_eq!(usage.rows.capacity(), places);
        }
        assert_eq!(sum, 1 + 20 * u64::try_from(BATCH).unwrap());
    }
}
