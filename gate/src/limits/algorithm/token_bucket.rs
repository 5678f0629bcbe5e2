//! A bucket that holds the limit and refills evenly: the generic cell rate algorithm (ATM Forum,
//! Traffic Management 4.0, section 4.4.2).
//!
//! All that is kept is when the bucket will be full again. Over a time `t` at most
//! `limit + limit · t / window` requests pass.

use super::{Counting, Taken, UNSTEADY_SECONDS};
use crate::Now;
use crate::limits::bucket::Bucket;
use crate::limits::entry::{Entry, Fields, FieldsMut, Tag};
use crate::limits::slots::Kind;

const NS_IN_MS: u64 = 1_000_000;
const NS_IN_SECOND: u64 = 1_000_000_000;
const UNSTEADY: u64 = UNSTEADY_SECONDS as u64 * NS_IN_SECOND;

/// A bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::limits) struct TokenBucket {
    tag: Tag,
    /// When it will be full again, in nanoseconds since the Unix epoch.
    full_at: u64,
}

fn nanoseconds(now: Now) -> u64 {
    now.unix_ms().saturating_mul(NS_IN_MS)
}

fn seconds_after(nanoseconds: u64) -> u32 {
    u32::try_from(nanoseconds.div_ceil(NS_IN_SECOND)).unwrap_or(u32::MAX)
}

impl Entry for TokenBucket {
    const KIND: Kind = Kind::TokenBucket;
    const BYTES: usize = 16;

    fn read(bytes: &[u8]) -> Self {
        let mut fields = Fields(bytes);
        Self { tag: Tag::from_number(fields.u64()), full_at: fields.u64() }
    }

    fn write(&self, into: &mut [u8]) {
        let mut fields = FieldsMut(into);
        fields.put(self.tag.number().to_le_bytes());
        fields.put(self.full_at.to_le_bytes());
    }

    fn tag(&self) -> Tag {
        self.tag
    }

    fn is_over(&self, now: Now) -> bool {
        self.full_at <= nanoseconds(now)
    }

    fn weight(&self) -> u64 {
        self.full_at
    }

    fn floor(&self, tag: Tag) -> Option<Self> {
        Some(Self { tag, ..*self })
    }

    fn raise(&mut self, other: &Self) {
        self.full_at = self.full_at.max(other.full_at);
    }
}

impl Counting for TokenBucket {
    fn take(bucket: &Bucket<'_, Self>, tag: Tag, limit: u32, window: u32, now: Now) -> Taken<Self> {
        let now = nanoseconds(now);
        // Rounded up, so that never too much comes back; and the bucket holds just the limit.
        let each = (u64::from(window) * NS_IN_SECOND).div_ceil(u64::from(limit.max(1)));
        let depth = each * u64::from(limit);
        let missing = |entry: &Self| entry.full_at.saturating_sub(now);
        let missing = match bucket.get(tag) {
            // Further ahead than by what may be missing and a window, the clock was set back: nothing of it
            // counts.
            Some(entry) if missing(&entry) > depth + depth.max(UNSTEADY) => 0,
            Some(entry) => missing(&entry).min(depth),
            None => bucket.floor(tag).map_or(0, |floor| missing(&floor).min(depth)),
        };
        let after = missing + each;
        if after > depth {
            return Taken::over(seconds_after(now.saturating_add(after - depth)));
        }
        let full_at = now.saturating_add(after);
        let remaining = u32::try_from((depth - after) / each.max(1)).unwrap_or(u32::MAX);
        Taken::within(remaining, seconds_after(full_at), Self { tag, full_at })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::slots::MAX_SLOT_BYTES;
    use wasm_bindgen_test::wasm_bindgen_test;

    #[wasm_bindgen_test(unsupported = test)]
    fn a_clock_that_is_set_back_empties_a_bucket_for_no_longer_than_a_window() {
        let tag = Tag::new(1 << 48, 7 << 16);
        let at = |ms: u64| Now::from_unix_ms(ms);
        let mut bytes = [0; MAX_SLOT_BYTES];
        let mut bucket = Bucket::open(&mut bytes, 0, at(0));
        // Full again at 1,060 seconds.
        bucket.set(TokenBucket { tag, full_at: 1_060 * NS_IN_SECOND });
        let takes = |ms: u64| TokenBucket::take(&bucket, tag, 10, 60, at(ms)).entry.is_some();
        assert!(!takes(1_000_000));
        assert!(!takes(940_000), "set back by a window");
        assert!(takes(939_999));
        assert!(takes(1_000));
    }
}
