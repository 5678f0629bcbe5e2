//! The ways to count.
//!
//! Each is exact: over any stretch of time, never more is let through than the limit says.

pub(super) mod fixed_window;
pub(super) mod sliding_window;
pub(super) mod token_bucket;

use super::bucket::Bucket;
use super::entry::{Entry, Tag};
use super::{Outcome, Verdict};
use crate::Now;

/// An entry that counts requests.
pub(super) trait Counting: Entry {
    /// Counts one request of `tag` against `limit` (at least 1) in `window` seconds.
    fn take(bucket: &Bucket<'_, Self>, tag: Tag, limit: u32, window: u32, now: Now) -> Taken<Self>;
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taken<E> {
    pub(super) outcome: Outcome,
    /// What is to be put into the bucket; nothing, when there was no room.
    pub(super) entry: Option<E>,
}

impl<E> Taken<E> {
    fn within(remaining: u32, ends: u32, entry: E) -> Self {
        let outcome = Outcome { verdict: Verdict::Within, remaining, ends };
        Self { outcome, entry: Some(entry) }
    }

    fn over(ends: u32) -> Self {
        Self { outcome: Outcome { verdict: Verdict::Over, remaining: 0, ends }, entry: None }
    }
}

/// A clock that goes back by no more than this, in seconds, is only unsteady: what has begun goes on, or
/// what was counted in it would be forgotten.
pub(super) const UNSTEADY_SECONDS: u32 = 2;

/// The last bits of a slice's number, as slots keep them.
#[expect(clippy::cast_possible_truncation, reason = "the last bits are what is wanted")]
pub(super) fn last_bits(slice: u64) -> u32 {
    slice as u32
}

/// Seconds since the Unix epoch, as slots keep them.
pub(crate) fn seconds(now: Now) -> u32 {
    u32::try_from(now.unix_seconds()).unwrap_or(u32::MAX)
}

/// The whole second in which a moment has passed.
pub(crate) fn seconds_after(unix_ms: u64) -> u32 {
    u32::try_from(unix_ms.div_ceil(1000)).unwrap_or(u32::MAX)
}
