//! Which part of the audit log a statement looks through for a key or a client.
//!
//! The log's rows are indexed by key and by client within *blocks* of ids that follow one another. What
//! is stored together goes into few pages of such an index, whichever keys it is about, and storing is
//! what the log does most. Who looks for a key has to look into each block: newest first, into
//! many with one statement, and into more with each, since what is wanted is mostly near the end.

use key_policy::KeyId;
use std::net::IpAddr;

use super::{AuditFilter, IdRange};

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

/// The blocks that ids are in, newest first, some at a time.
#[derive(Debug)]
pub(super) struct Walk {
    oldest: i64,
    /// The newest that is still to come.
    newest: i64,
    width: i64,
}

impl Walk {
    /// Through the blocks of these ids.
    pub(super) fn through(ids: IdRange) -> Self {
        if ids.first > ids.last {
            return Self { oldest: 0, newest: -1, width: 1 };
        }
        Self { oldest: ids.first >> BITS, newest: ids.last >> BITS, width: 1 }
    }
}

impl Iterator for Walk {
    type Item = Blocks;

    fn next(&mut self) -> Option<Blocks> {
        if self.newest < self.oldest {
            return None;
        }
        let last = self.newest;
        let first = last.saturating_sub(self.width - 1).max(self.oldest);
        self.newest = first - 1;
        self.width = (self.width * GROWTH).min(MOST);
        Some(Blocks { first, last })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, rng_seed: proptest::test_runner::RngSeed::Fixed(5), ..ProptestConfig::default() })]

        #[test]
        fn each_block_of_the_ids_comes_once_and_the_newest_first(first in 0..20_000_000_i64, more in -1..50_000_000_i64) {
            let ids = IdRange { first, last: first + more };
            let mut above = (ids.last >> BITS) + 1;
            for Blocks { first, last } in Walk::through(ids) {
                prop_assert_eq!(last, above - 1);
                prop_assert!(first <= last && last - first < MOST);
                above = first;
            }
            prop_assert_eq!(above, if more < 0 { (ids.last >> BITS) + 1 } else { first >> BITS });
        }
    }
}
