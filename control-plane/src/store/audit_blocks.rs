//! Which part of the audit log a statement looks through for a key or a client.
//!
//! The log's rows are indexed by key and by client within *blocks* of ids that follow one another. What
//! is stored together goes into few pages of such an index, whichever keys it is about, and storing is
//! what the log does most. Who looks for a key has to look into each block: newest first, into
//! many with one statement, and into more with each, since what is wanted is mostly near the end.

use key_policy::KeyId;
use sqlx::{Database, Encode, QueryBuilder, Type};
use std::net::IpAddr;

use super::{AuditFilter, IdRange};
use crate::audit::AuditRow;

/// A block is of so many ids, as a power of two.
const BITS: u32 = 12;
/// The block of a row, as the migrations that make the indexes write it.
macro_rules! block_of_row {
    () => {
        "(id >> 12)"
    };
}
pub(super) use block_of_row;

/// How many times as many blocks the next statement looks into, and how many at most.
const GROWTH: i64 = 4;
const MOST: i64 = 1024;
/// Of what there are no more rows than this, all are read sooner than those of a key, of which nobody
/// knows how many there are.
pub(super) const FEW: i64 = 10_000;

/// What there is such an index for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sought {
    pub(super) index: &'static str,
    pub(super) column: &'static str,
    pub(super) value: String,
}

impl Sought {
    /// What is to be looked for block by block, if a filter asks for it: a key rather than a client.
    pub(super) fn by(filter: &AuditFilter) -> Option<Self> {
        let key = |key_id: KeyId| Self {
            index: "api_key_audit_log_by_key",
            column: "key_id",
            value: key_id.to_string(),
        };
        let client = |client_ip: IpAddr| Self {
            index: "api_key_audit_log_by_client",
            column: "client_ip",
            value: client_ip.to_string(),
        };
        filter.key_id.map(key).or_else(|| filter.client_ip.map(client))
    }
}

/// What else a filter asks for that has an index, by its column: there may be few such rows.
pub(super) fn beside(filter: &AuditFilter) -> impl Iterator<Item = (&'static str, &str)> {
    let event = filter.event.map(|event| ("event", event.as_str()));
    let actor = filter.actor.as_deref().map(|actor| ("actor", actor));
    let source = filter.source.as_deref().map(|source| ("source", source));
    [event, actor, source].into_iter().flatten()
}

/// Counts the rows among some ids that have this value in a column with an index of its own; of more than
/// [`FEW`], one more than that.
pub(super) fn count_to_few<DB: Database>(
    column: &'static str,
    value: &str,
    ids: IdRange,
) -> QueryBuilder<DB>
where
    i64: Encode<'static, DB> + Type<DB>,
    String: Encode<'static, DB> + Type<DB>,
{
    let mut query =
        QueryBuilder::new("SELECT count(*) FROM (SELECT 1 FROM api_key_audit_log WHERE ");
    query.push(column).push(" = ").push_bind(value.to_owned());
    query.push(" AND id BETWEEN ").push_bind(ids.first).push(" AND ").push_bind(ids.last);
    query.push(" ORDER BY id DESC LIMIT ").push_bind(FEW + 1).push(") AS found");
    query
}

/// Numbers of blocks, from one to another, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Blocks {
    pub(super) first: i64,
    pub(super) last: i64,
}

impl Blocks {
    /// The ids that there may be in them.
    pub(super) fn ids(self) -> IdRange {
        IdRange { first: self.first << BITS, last: (self.last << BITS) | ((1 << BITS) - 1) }
    }
}

/// A search through the blocks that ids are in, newest first, for so many rows.
#[derive(Debug)]
pub(super) struct Walk {
    oldest: i64,
    /// The newest that is still to come.
    newest: i64,
    width: i64,
    /// How many rows are still wanted.
    left: usize,
    rows: Vec<AuditRow>,
}

impl Walk {
    pub(super) fn through(ids: IdRange, limit: u32) -> Self {
        let (oldest, newest) =
            if ids.first > ids.last { (0, -1) } else { (ids.first >> BITS, ids.last >> BITS) };
        let left = usize::try_from(limit).unwrap_or(usize::MAX);
        Self { oldest, newest, width: 1, left, rows: Vec::new() }
    }

    /// The blocks to look into next, and for how many rows at most; none: it is over.
    pub(super) fn next(&mut self) -> Option<(Blocks, u32)> {
        if self.newest < self.oldest || self.left == 0 {
            return None;
        }
        let last = self.newest;
        let first = last.saturating_sub(self.width - 1).max(self.oldest);
        self.newest = first - 1;
        self.width = (self.width * GROWTH).min(MOST);
        Some((Blocks { first, last }, u32::try_from(self.left).unwrap_or(u32::MAX)))
    }

    /// Takes in what was found there. True when it was nothing in as many blocks as are looked into at
    /// once: there may be a hole in the ids, which is best [jumped over](Self::jump).
    pub(super) fn take(&mut self, blocks: Blocks, found: Vec<AuditRow>) -> bool {
        self.left = self.left.saturating_sub(found.len());
        let is_hole = found.is_empty() && blocks.last - blocks.first + 1 >= MOST;
        self.rows.extend(found);
        is_hole
    }

    /// Goes on with the block of this id, the next that there is; none: there is none.
    pub(super) fn jump(&mut self, to: Option<i64>) {
        self.newest = to.map_or(self.oldest - 1, |id| self.newest.min(id >> BITS));
    }

    /// All that was found.
    pub(super) fn rows(self) -> Vec<AuditRow> {
        self.rows
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, rng_seed: proptest::test_runner::RngSeed::Fixed(5), ..ProptestConfig::default() })]

        #[test]
        fn each_block_of_the_ids_comes_once_and_the_newest_first(first in -10_000_000..20_000_000_i64, more in -1..50_000_000_i64) {
            let ids = IdRange { first, last: first + more };
            let mut above = (ids.last >> BITS) + 1;
            let mut walk = Walk::through(ids, 1);
            while let Some((Blocks { first, last }, _)) = walk.next() {
                prop_assert_eq!(last, above - 1);
                prop_assert!(first <= last && last - first < MOST);
                above = first;
            }
            prop_assert_eq!(above, if more < 0 { (ids.last >> BITS) + 1 } else { first >> BITS });
        }
    }

    #[test]
    fn holes_are_jumped_over_and_the_ends_of_all_ids_are_blocks_too() {
        let all = IdRange { first: i64::MIN, last: i64::MAX };
        let mut walk = Walk::through(all, 1);
        let mut runs = std::iter::from_fn(|| walk.next().map(|(blocks, _)| blocks));
        let first = runs.next().expect("the first");
        assert_eq!(first.ids(), IdRange { first: i64::MAX - 4095, last: i64::MAX });
        let [fifth, sixth] = [runs.nth(3), runs.next()].map(|run| run.expect("more"));
        assert!(!walk.take(fifth, Vec::new()) && walk.take(sixth, Vec::new()));
        walk.jump(Some(5000));
        assert_eq!(walk.next().map(|(blocks, _)| blocks.last), Some(1));
        walk.jump(Some(i64::MIN));
        let (last, _) = walk.next().expect("the last");
        assert_eq!(last.ids(), IdRange { first: i64::MIN, last: i64::MIN + 4095 });
        assert_eq!(walk.next(), None);
        let mut walk = Walk::through(all, 1);
        walk.jump(None);
        assert_eq!(walk.next(), None);
    }
}
