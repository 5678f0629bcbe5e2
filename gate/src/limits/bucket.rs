//! One slot: the entries of the few subjects that hash to it.
//!
//! When more subjects come than a bucket has room for, the least entry gives way, and becomes the
//! *floor*: whoever comes new under the same rule starts from there. So a count is never too low,
//! however many addresses flood the gate, and a busy one cannot be pushed out to start afresh; it
//! can be too high only while more than a hundred thousand addresses (half as many for sliding
//! windows) are active in one window. This
//! is the idea of the Space-Saving sketch (Metwally, Agrawal, El Abbadi, 2005), kept separate for
//! each rule.

use std::marker::PhantomData;

use super::entry::{Entry, Tag};
use super::slots::MAX_SLOT_BYTES;
use crate::Now;

/// Room for subjects.
const MAX_SUBJECTS: usize = 16;
/// Room for them and for floors.
pub(super) const MAX_ENTRIES: usize = 24;

/// What a slot holds. Its entries stay bytes, and are changed in place: of the many that there may
/// be, a request is about one.
#[derive(Debug)]
pub(super) struct Bucket<'b, E> {
    bytes: &'b mut [u8; MAX_SLOT_BYTES],
    /// How many bytes of whole entries.
    len: usize,
    kind: PhantomData<E>,
}

impl<'b, E: Entry> Bucket<'b, E> {
    /// The slot of which `len` bytes were read, without what is over. Bytes that make no whole entry
    /// are ignored.
    pub(super) fn open(bytes: &'b mut [u8; MAX_SLOT_BYTES], len: usize, now: Now) -> Self {
        let whole = len.min(MAX_ENTRIES * E::BYTES) / E::BYTES * E::BYTES;
        let mut bucket = Self { bytes, len: whole, kind: PhantomData };
        if bucket.entries().any(|entry| entry.is_over(now)) {
            bucket.leave_out_what_is_over(now);
        }
        bucket
    }

    #[cold]
    fn leave_out_what_is_over(&mut self, now: Now) {
        let mut kept = 0;
        for at in (0..self.len).step_by(E::BYTES) {
            let entry = at..at + E::BYTES;
            if self.bytes.get(entry.clone()).is_some_and(|bytes| !E::read(bytes).is_over(now)) {
                self.bytes.copy_within(entry, kept);
                kept += E::BYTES;
            }
        }
        self.len = kept;
    }

    /// What the slot is to hold.
    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// The entry of `tag`.
    pub(super) fn get(&self, tag: Tag) -> Option<E> {
        self.entries().find(|entry| entry.tag() == tag)
    }

    /// The highest floor for a subject that has no entry.
    pub(super) fn floor(&self, tag: Tag) -> Option<E> {
        let mut floors = [tag.floor(), Tag::floor_of_every_rule()]
            .into_iter()
            .filter_map(|floor| self.get(floor));
        let mut highest = floors.next()?;
        for other in floors {
            highest.raise(&other);
        }
        Some(highest)
    }

    /// Puts an entry in the place of the one with its tag, making room if there is none.
    pub(super) fn set(&mut self, entry: E) {
        if self.replace(entry.tag(), entry) {
            return;
        }
        let subjects = || self.entries().filter(|entry| !entry.tag().is_floor());
        if subjects().count() < MAX_SUBJECTS && self.len < MAX_ENTRIES * E::BYTES {
            self.push(entry);
        } else if let Some(least) = subjects().min_by_key(Entry::weight) {
            self.replace(least.tag(), entry);
            self.raise_floor(&least);
        }
    }

    fn raise_floor(&mut self, gone: &E) {
        let has_room = self.len + E::BYTES < MAX_ENTRIES * E::BYTES;
        let own = gone.tag().floor();
        // The last place is kept for the floor of all rules.
        let tag =
            if has_room || self.get(own).is_some() { own } else { Tag::floor_of_every_rule() };
        let Some(floor) = gone.floor(tag) else { return };
        match self.get(tag) {
            Some(mut present) => {
                present.raise(&floor);
                self.replace(tag, present);
            }
            None => self.push(floor),
        }
    }

    fn entries(&self) -> impl Iterator<Item = E> {
        self.bytes().chunks_exact(E::BYTES).map(E::read)
    }

    /// Writes an entry over the one of `tag`; false when there is none.
    fn replace(&mut self, tag: Tag, entry: E) -> bool {
        let place = self.entries().position(|entry| entry.tag() == tag);
        place.is_some_and(|place| self.write(place * E::BYTES, entry))
    }

    fn push(&mut self, entry: E) {
        if self.len < MAX_ENTRIES * E::BYTES && self.write(self.len, entry) {
            self.len += E::BYTES;
        }
    }

    fn write(&mut self, at: usize, entry: E) -> bool {
        let place = self.bytes.get_mut(at..at + E::BYTES);
        place.map(|place| entry.write(place)).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::algorithm::fixed_window::FixedWindow;
    use crate::limits::algorithm::sliding_window::SlidingWindow;
    use crate::limits::algorithm::token_bucket::TokenBucket;
    use crate::limits::algorithm::{Counting, Taken};
    use crate::limits::lease::Lease;
    use crate::limits::slots::MAX_SLOT_BYTES;
    use proptest::prelude::*;
    use wasm_bindgen_test::wasm_bindgen_test;

    fn tag(rule: u16, subject: u64) -> Tag {
        Tag::new(u64::from(rule) << 48, (subject + 1) << 16)
    }

    /// Takes one for each arrival in a single moment, and compares with the truth.
    fn never_too_low<E: Counting>(arrivals: Vec<(u16, u64)>) -> Result<(), TestCaseError> {
        let now = Now::from_unix_ms(1_000);
        let limit = 1_000_000;
        let mut truth = std::collections::BTreeMap::new();
        let mut bytes = [0; MAX_SLOT_BYTES];
        let mut len = 0;
        for (rule, subject) in arrivals {
            let mut bucket = Bucket::<E>::open(&mut bytes, len, now);
            let Taken { outcome, entry } = E::take(&bucket, tag(rule, subject), limit, 60, now);
            let real: &mut u32 = truth.entry((rule, subject)).or_default();
            *real += 1;
            let used = limit - outcome.remaining;
            prop_assert!(used >= *real, "rule {rule}, subject {subject}: {used} < {real}");
            bucket.set(entry.expect("there is room"));
            len = bucket.bytes().len();
        }
        Ok(())
    }

    fn exact_while_there_is_room<E: Counting>(arrivals: Vec<u64>) -> Result<(), TestCaseError> {
        let now = Now::from_unix_ms(1_000);
        let mut truth = [0; 16];
        let mut bytes = [0; MAX_SLOT_BYTES];
        let mut bucket = Bucket::<E>::open(&mut bytes, 0, now);
        for subject in arrivals {
            let Taken { outcome, entry } = E::take(&bucket, tag(1, subject), 1000, 60, now);
            let real = &mut truth[usize::try_from(subject).unwrap()];
            *real += 1;
            prop_assert_eq!(1000 - outcome.remaining, *real);
            bucket.set(entry.expect("there is room"));
        }
        Ok(())
    }

    fn unbreakable<E: Entry>(content: &[u8], now: u64) {
        let mut bytes = slot(content);
        let mut bucket = Bucket::<E>::open(&mut bytes, content.len(), Now::from_unix_ms(now));
        let some: Vec<_> = bucket.entries().collect();
        for entry in some {
            bucket.set(entry);
        }
        assert!(bucket.bytes().len() <= MAX_ENTRIES * E::BYTES);
    }

    fn slot(content: &[u8]) -> [u8; MAX_SLOT_BYTES] {
        let mut bytes = [0; MAX_SLOT_BYTES];
        bytes[..content.len()].copy_from_slice(content);
        bytes
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, rng_seed: proptest::test_runner::RngSeed::Fixed(7), ..ProptestConfig::default() })]

        /// However subjects and rules come and go, nobody's count is ever below the truth, and
        /// the slot never outgrows its bound.
        #[wasm_bindgen_test(unsupported = test)]
        fn a_count_is_never_too_low(arrivals in prop::collection::vec((1u16..40, 0u64..60), 0..400)) {
            never_too_low::<FixedWindow>(arrivals.clone())?;
            never_too_low::<SlidingWindow>(arrivals.clone())?;
            never_too_low::<TokenBucket>(arrivals)?;
        }

        #[wasm_bindgen_test(unsupported = test)]
        fn as_long_as_there_is_room_a_count_is_exact(arrivals in prop::collection::vec(0u64..16, 0..200)) {
            exact_while_there_is_room::<FixedWindow>(arrivals.clone())?;
            exact_while_there_is_room::<SlidingWindow>(arrivals.clone())?;
            exact_while_there_is_room::<TokenBucket>(arrivals)?;
        }

        /// What is over goes, whatever stands before and after it, and the rest stays as it was.
        #[wasm_bindgen_test(unsupported = test)]
        fn what_is_over_is_left_out_and_the_rest_keeps_its_order(ends in prop::collection::vec(1u32..5, 0..MAX_ENTRIES), now in 0u32..6, more: bool) {
            let entry = |(at, &ends): (usize, &u32)| FixedWindow::until(tag(1, at as u64), ends, 7 + ends);
            let all: Vec<_> = ends.iter().enumerate().map(entry).collect();
            let mut bytes = [0; MAX_SLOT_BYTES];
            for (chunk, entry) in bytes.chunks_exact_mut(FixedWindow::BYTES).zip(&all) {
                entry.write(chunk);
            }
            // Bytes beyond whole entries do not count.
            let len = all.len() * FixedWindow::BYTES + usize::from(more) * 3;
            let mut bucket = Bucket::open(&mut bytes, len, Now::from_unix_ms(u64::from(now) * 1000));
            let mut kept: Vec<_> = all.into_iter().filter(|entry| !entry.is_over(Now::from_unix_ms(u64::from(now) * 1000))).collect();
            prop_assert_eq!(bucket.entries().collect::<Vec<_>>(), kept.clone());
            if let Some(last) = kept.last_mut() {
                *last = FixedWindow::until(last.tag(), 9, 99);
                bucket.set(*last);
                prop_assert_eq!(bucket.bytes().len(), kept.len() * FixedWindow::BYTES);
                prop_assert_eq!(bucket.entries().collect::<Vec<_>>(), kept);
            }
        }

        #[wasm_bindgen_test(unsupported = test)]
        fn no_bytes_in_a_slot_can_break_it(bytes in prop::collection::vec(any::<u8>(), 0..MAX_SLOT_BYTES), now: u64, limit: u32, window in 1u32..3_000_000) {
            let at = Now::from_unix_ms(now);
            unbreakable::<FixedWindow>(&bytes, now);
            unbreakable::<SlidingWindow>(&bytes, now);
            unbreakable::<TokenBucket>(&bytes, now);
            unbreakable::<Lease>(&bytes, now);
            FixedWindow::take(&Bucket::open(&mut slot(&bytes), bytes.len(), at), tag(1, 1), limit, window, at);
            SlidingWindow::take(&Bucket::open(&mut slot(&bytes), bytes.len(), at), tag(1, 1), limit, window, at);
            TokenBucket::take(&Bucket::open(&mut slot(&bytes), bytes.len(), at), tag(1, 1), limit, window, at);
        }
    }
}
