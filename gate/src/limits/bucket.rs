//! One slot: the entries of the few subjects that hash to it.
//!
//! When more subjects come than a bucket has room for, the least entry gives way, and becomes the
//! *floor*: whoever comes new under the same rule starts from there. So a count is never too low,
//! however many addresses flood the gate, and a busy one cannot be pushed out to start afresh; it
//! can be too high only while more than a hundred thousand addresses (half as many for sliding
//! windows) are active in one window. This
//! is the idea of the Space-Saving sketch (Metwally, Agrawal, El Abbadi, 2005), kept separate for
//! each rule.

use super::entry::{Entry, Tag};
use crate::Now;

/// Room for subjects.
const MAX_SUBJECTS: usize = 16;
/// Room for them and for floors.
pub(super) const MAX_ENTRIES: usize = 24;

/// What a slot holds, unpacked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket<E> {
    entries: [E; MAX_ENTRIES],
    len: usize,
}

impl<E: Entry> Bucket<E> {
    /// Reads a slot, leaving out what is over. Bytes that make no whole entry are ignored.
    pub(super) fn read(bytes: &[u8], now: Now) -> Self {
        let mut bucket = Self { entries: [E::VOID; MAX_ENTRIES], len: 0 };
        for chunk in bytes.chunks_exact(E::BYTES) {
            let entry = E::read(chunk);
            if !entry.is_over(now) {
                bucket.push(entry);
            }
        }
        bucket
    }

    /// Writes the slot, and returns how many bytes it takes.
    pub(super) fn write(&self, into: &mut [u8]) -> usize {
        for (chunk, entry) in into.chunks_exact_mut(E::BYTES).zip(self.entries()) {
            entry.write(chunk);
        }
        self.len * E::BYTES
    }

    /// The entry of `tag`.
    pub(super) fn get(&self, tag: Tag) -> Option<&E> {
        self.entries().iter().find(|entry| entry.tag() == tag)
    }

    /// The highest floor for a subject that has no entry.
    pub(super) fn floor(&self, tag: Tag) -> Option<E> {
        let mut floors = [tag.floor(), Tag::floor_of_every_rule()]
            .into_iter()
            .filter_map(|floor| self.get(floor).copied());
        let mut highest = floors.next()?;
        for other in floors {
            highest.raise(&other);
        }
        Some(highest)
    }

    /// Puts an entry in the place of the one with its tag, making room if there is none.
    pub(super) fn set(&mut self, entry: E) {
        let tag = entry.tag();
        let subjects = self.entries().iter().filter(|e| !e.tag().is_floor()).count();
        if let Some(present) = self.entry_mut(tag) {
            *present = entry;
        } else if subjects < MAX_SUBJECTS && self.len < MAX_ENTRIES {
            self.push(entry);
        } else {
            let subjects = self.entries_mut().iter_mut().filter(|e| !e.tag().is_floor());
            if let Some(least) = subjects.min_by_key(|e| e.weight()) {
                let gone = std::mem::replace(least, entry);
                self.raise_floor(&gone);
            }
        }
    }

    fn raise_floor(&mut self, gone: &E) {
        let has_room = self.len + 1 < MAX_ENTRIES;
        let own = gone.tag().floor();
        // The last place is kept for the floor of all rules.
        let tag =
            if has_room || self.get(own).is_some() { own } else { Tag::floor_of_every_rule() };
        let Some(floor) = gone.floor(tag) else { return };
        match self.entry_mut(tag) {
            Some(present) => present.raise(&floor),
            None => self.push(floor),
        }
    }

    fn entries(&self) -> &[E] {
        self.entries.get(..self.len).unwrap_or_default()
    }

    fn entries_mut(&mut self) -> &mut [E] {
        self.entries.get_mut(..self.len).unwrap_or_default()
    }

    fn entry_mut(&mut self, tag: Tag) -> Option<&mut E> {
        self.entries_mut().iter_mut().find(|entry| entry.tag() == tag)
    }

    fn push(&mut self, entry: E) {
        if let Some(place) = self.entries.get_mut(self.len) {
            *place = entry;
            self.len += 1;
        }
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
        let mut bytes = vec![0; MAX_SLOT_BYTES];
        let mut len = 0;
        for (rule, subject) in arrivals {
            let mut bucket = Bucket::<E>::read(&bytes[..len], now);
            let Taken { outcome, entry } = E::take(&bucket, tag(rule, subject), limit, 60, now);
            let real: &mut u32 = truth.entry((rule, subject)).or_default();
            *real += 1;
            let used = limit - outcome.remaining;
            prop_assert!(used >= *real, "rule {rule}, subject {subject}: {used} < {real}");
            bucket.set(entry.expect("there is room"));
            len = bucket.write(&mut bytes);
            prop_assert!(len <= MAX_SLOT_BYTES);
        }
        Ok(())
    }

    fn exact_while_there_is_room<E: Counting>(arrivals: Vec<u64>) -> Result<(), TestCaseError> {
        let now = Now::from_unix_ms(1_000);
        let mut truth = [0; 16];
        let mut bucket = Bucket::<E>::read(&[], now);
        for subject in arrivals {
            let Taken { outcome, entry } = E::take(&bucket, tag(1, subject), 1000, 60, now);
            let real = &mut truth[usize::try_from(subject).unwrap()];
            *real += 1;
            prop_assert_eq!(1000 - outcome.remaining, *real);
            bucket.set(entry.expect("there is room"));
        }
        Ok(())
    }

    fn unbreakable<E: Entry>(bytes: &[u8], now: u64) {
        let now = Now::from_unix_ms(now);
        let mut bucket = Bucket::<E>::read(bytes, now);
        let some = bucket.entries().to_vec();
        for entry in some {
            bucket.set(entry);
        }
        let mut out = vec![0; MAX_SLOT_BYTES];
        assert!(bucket.write(&mut out) <= MAX_SLOT_BYTES);
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

        #[wasm_bindgen_test(unsupported = test)]
        fn no_bytes_in_a_slot_can_break_it(bytes in prop::collection::vec(any::<u8>(), 0..MAX_SLOT_BYTES), now: u64, limit: u32, window in 1u32..3_000_000) {
            let at = Now::from_unix_ms(now);
            unbreakable::<FixedWindow>(&bytes, now);
            unbreakable::<SlidingWindow>(&bytes, now);
            unbreakable::<TokenBucket>(&bytes, now);
            unbreakable::<Lease>(&bytes, now);
            FixedWindow::take(&Bucket::read(&bytes, at), tag(1, 1), limit, window, at);
            SlidingWindow::take(&Bucket::read(&bytes, at), tag(1, 1), limit, window, at);
            TokenBucket::take(&Bucket::read(&bytes, at), tag(1, 1), limit, window, at);
        }
    }
}
