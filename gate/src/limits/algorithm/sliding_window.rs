//! So many in any window, wherever it begins.
//!
//! The window is cut into 32 slices. What came in the slice at hand and in the 32 before it is never
//! more than the limit; since those always cover a whole window, neither is what came in any
//! window. The price is that a request is forgotten up to a slice late: of a demand without end,
//! 32 in 33 of the limit get through.

use super::{Counting, Taken, UNSTEADY_SECONDS, last_bits, seconds, seconds_after};
use crate::Now;
use crate::limits::bucket::Bucket;
use crate::limits::entry::{Entry, Fields, FieldsMut, Tag};
use crate::limits::slots::Kind;

/// Slices in a window.
const SLICES: u16 = 32;
const PAST: usize = SLICES as usize;

/// The counts of the slices in and before the one at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::limits) struct SlidingWindow {
    tag: Tag,
    /// When all of it has slid out, in seconds since the Unix epoch.
    ends: u32,
    /// The last bits of the number of the newest slice, and its count.
    newest: u32,
    count: u32,
    /// The counts of those before it, the latest first, rounded up.
    past: [Rounded; PAST],
}

/// A count with 11 significant bits, and how often it is to be doubled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rounded(u16);

const DIGITS: u32 = 11;

impl Rounded {
    const ZERO: Self = Self(0);

    fn up(count: u32) -> Self {
        let mut doublings = (u32::BITS - count.leading_zeros()).saturating_sub(DIGITS);
        let mut digits = count.div_ceil(1 << doublings);
        if digits >> DIGITS != 0 {
            doublings += 1;
            digits = digits.div_ceil(2);
        }
        Self(u16::try_from(doublings << DIGITS | digits).unwrap_or(u16::MAX))
    }

    fn count(self) -> u64 {
        u64::from(self.0 & ((1 << DIGITS) - 1)) << (self.0 >> DIGITS)
    }
}

/// The slices of a window.
#[derive(Clone, Copy)]
struct Slices {
    window_ms: u64,
}

impl Slices {
    fn at(self, now: Now) -> u64 {
        now.unix_ms().saturating_mul(SLICES.into()) / self.window_ms
    }

    /// By so many the clock may go back: a window, or what an unsteady one does.
    fn unsteady(self) -> u64 {
        let slices = u64::from(SLICES);
        slices.max(u64::from(UNSTEADY_SECONDS) * 1000 * slices / self.window_ms)
    }

    /// The first whole second in a slice or after it has begun.
    fn begins(self, slice: u64) -> u32 {
        let ms = u128::from(slice) * u128::from(self.window_ms);
        seconds_after(u64::try_from(ms.div_ceil(SLICES.into())).unwrap_or(u64::MAX))
    }
}

impl SlidingWindow {
    /// Nothing has come.
    const VOID: Self = Self {
        tag: Tag::from_number(0),
        ends: 0,
        newest: 0,
        count: 0,
        past: [Rounded::ZERO; PAST],
    };

    /// Moves on to a slice, and returns its number: a later one if another worker is there already.
    fn move_to(&mut self, slices: Slices, slice: u64) -> u64 {
        let ahead = u64::from(self.newest.wrapping_sub(last_bits(slice)));
        // Further ahead than a window, the clock was set back: nothing of it counts.
        if ahead <= slices.unsteady() {
            return slice.saturating_add(ahead);
        }
        let behind = last_bits(slice).wrapping_sub(self.newest);
        let behind = usize::try_from(behind).unwrap_or(PAST);
        let mut past = [Rounded::ZERO; PAST];
        for (at, count) in [Rounded::up(self.count)].iter().chain(&self.past).enumerate() {
            if let Some(place) = past.get_mut(at.saturating_add(behind - 1)) {
                *place = *count;
            }
        }
        *self = Self { newest: last_bits(slice), count: 0, past, ..*self };
        slice
    }

    fn total(&self) -> u64 {
        u64::from(self.count) + self.past.iter().map(|count| count.count()).sum::<u64>()
    }

    /// How many slices it takes until one more may come.
    fn until_room(&self, limit: u32) -> u64 {
        let mut total = self.total();
        let mut slices = 0;
        for count in self.past.iter().rev() {
            slices += 1;
            total -= count.count();
            if total < u64::from(limit) {
                return slices;
            }
        }
        slices + 1
    }
}

impl Entry for SlidingWindow {
    const KIND: Kind = Kind::SlidingWindow;
    const BYTES: usize = 20 + 2 * PAST;

    fn read(bytes: &[u8]) -> Self {
        let mut fields = Fields(bytes);
        Self {
            tag: Tag::from_number(fields.u64()),
            ends: fields.u32(),
            newest: fields.u32(),
            count: fields.u32(),
            past: std::array::from_fn(|_| Rounded(fields.u16())),
        }
    }

    fn write(&self, into: &mut [u8]) {
        let mut fields = FieldsMut(into);
        fields.put(self.tag.number().to_le_bytes());
        fields.put(self.ends.to_le_bytes());
        fields.put(self.newest.to_le_bytes());
        fields.put(self.count.to_le_bytes());
        for Rounded(count) in self.past {
            fields.put(count.to_le_bytes());
        }
    }

    fn tag(&self) -> Tag {
        self.tag
    }

    fn is_over(&self, now: Now) -> bool {
        self.ends <= seconds(now)
    }

    fn weight(&self) -> u64 {
        self.total()
    }

    /// All of it, as if it had only just come.
    fn floor(&self, tag: Tag) -> Option<Self> {
        let count = u32::try_from(self.total()).unwrap_or(u32::MAX);
        Some(Self { tag, count, past: [Rounded::ZERO; PAST], ..*self })
    }

    fn raise(&mut self, other: &Self) {
        self.ends = self.ends.max(other.ends);
        self.count = self.count.max(other.count);
    }
}

impl Counting for SlidingWindow {
    fn take(bucket: &Bucket<'_, Self>, tag: Tag, limit: u32, window: u32, now: Now) -> Taken<Self> {
        let slices = Slices { window_ms: u64::from(window.max(1)) * 1000 };
        let slice = slices.at(now);
        let mut entry = bucket.get(tag).unwrap_or_else(|| {
            let count = bucket.floor(tag).map_or(0, |floor| floor.count);
            Self { tag, newest: last_bits(slice), count, ..Self::VOID }
        });
        let slice = entry.move_to(slices, slice);
        let total = entry.total();
        if total >= u64::from(limit) {
            return Taken::over(slices.begins(slice + entry.until_room(limit)));
        }
        entry.count += 1;
        entry.ends = slices.begins(slice + u64::from(SLICES) + 1);
        let remaining = u32::try_from(u64::from(limit) - total - 1).unwrap_or(0);
        Taken::within(remaining, entry.ends, entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::slots::MAX_SLOT_BYTES;
    use proptest::prelude::*;
    use wasm_bindgen_test::wasm_bindgen_test;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, rng_seed: proptest::test_runner::RngSeed::Fixed(7), ..ProptestConfig::default() })]

        #[wasm_bindgen_test(unsupported = test)]
        fn a_rounded_count_is_never_less_and_hardly_more(count: u32) {
            let rounded = Rounded::up(count).count();
            prop_assert!(rounded >= count.into());
            prop_assert!(rounded - u64::from(count) <= u64::from(count) >> 10);
        }
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn what_came_slides_out_a_window_later() {
        let tag = Tag::new(1 << 48, 7 << 16);
        let mut bytes = [0; MAX_SLOT_BYTES];
        let mut bucket = Bucket::open(&mut bytes, 0, Now::from_unix_ms(0));
        let mut take = |at_ms| {
            let taken = SlidingWindow::take(&bucket, tag, 2, 32, Now::from_unix_ms(at_ms));
            taken.entry.inspect(|entry| bucket.set(*entry));
            (taken.outcome.verdict == crate::limits::Verdict::Within, taken.outcome.ends)
        };
        assert_eq!(take(100_999), (true, 133));
        assert_eq!(take(110_000), (true, 143));
        assert_eq!(take(120_000), (false, 133));
        assert_eq!(take(132_999), (false, 133));
        assert_eq!(take(133_000), (true, 166));
        assert_eq!(take(133_000), (false, 143));
    }
}
