//! How often keys are used: taken in from filters, added up by the minute, told to administrators.
//!
//! | file | what |
//! |---|---|
//! | `ingest` | reading what a filter has counted |
//! | `period` | the time that is asked about, and its parts |
//! | `report` | the answer |
//! | `keeper` | how long it is kept |

pub mod ingest;
pub mod keeper;
pub mod period;
pub mod report;

use edge_protocol::{UsageMethod, UsageOutcome};
use jiff::Timestamp;
use key_policy::KeyId;
use std::collections::BTreeMap;

use crate::clock::from_unix_ms;

/// A minute (UTC), by when it began. Usage is kept no finer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Minute(u64);

impl Minute {
    /// Its length in milliseconds.
    pub const MS: u64 = 60_000;

    /// The minute that this time is in, in milliseconds since the Unix epoch.
    #[must_use]
    pub fn of(unix_ms: u64) -> Self {
        Self(unix_ms - unix_ms % Self::MS)
    }

    /// When it began, in milliseconds since the Unix epoch.
    #[must_use]
    pub fn start_ms(self) -> u64 {
        self.0
    }

    /// When it began.
    #[must_use]
    pub fn start(self) -> Timestamp {
        from_unix_ms(self.0)
    }
}

/// What requests are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Use {
    /// The key that they came with.
    pub key_id: KeyId,
    /// When.
    pub minute: Minute,
    /// Their method.
    pub method: UsageMethod,
    /// What became of them.
    pub outcome: UsageOutcome,
}

/// So many requests of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uses {
    /// The kind.
    pub of: Use,
    /// How many.
    pub count: u64,
}

/// A key's requests of one method and with one outcome, in one part of a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UsageSum {
    /// When the part began.
    pub start: Timestamp,
    /// Their method.
    pub method: UsageMethod,
    /// What became of them.
    pub outcome: UsageOutcome,
    /// How many.
    pub count: u64,
}

/// Adds up the uses of several batches, each of which has them in order: in that order, each kind
/// once.
#[must_use]
pub fn sum_up<'a>(all: impl IntoIterator<Item = &'a [Uses]>) -> Vec<Uses> {
    let mut sums = BTreeMap::<Use, u64>::new();
    for Uses { of, count } in all.into_iter().flatten() {
        let sum = sums.entry(*of).or_default();
        *sum = sum.saturating_add(*count);
    }
    sums.into_iter().map(|(of, count)| Uses { of, count }).collect()
}
