//! One slot: the counts of the few subjects that hash to it.
//!
//! When more subjects come than a bucket has room for, the smallest count gives way, and its
//! value becomes the *floor*: whoever comes new under the same rule starts from there. So a count
//! is never too low, however many addresses flood the gate, and a busy one cannot be pushed out
//! to start afresh; it can be too high only while more than a hundred thousand addresses are
//! active in one window. This is the idea of the Space-Saving sketch (Metwally, Agrawal,
//! El Abbadi, 2005), kept separate for each rule.

use super::slots::MAX_SLOT_BYTES;

const ENTRY_BYTES: usize = 16;
const MAX_ENTRIES: usize = MAX_SLOT_BYTES / ENTRY_BYTES;
/// Room for counts; what is left above it is for floors.
const MAX_COUNTS: usize = 16;
/// Marks a floor, in the top bit of the count.
const FLOOR: u32 = 1 << 31;
/// The rule of the floor that holds for all rules: of those that found no room for their own.
const EVERY_RULE: u16 = 0;

/// Whose count it is: a rule, and a subject under it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tag(u64);

impl Tag {
    /// From a hash of the rule and a hash of rule and subject together. Two rules of one hash
    /// would share their floor, which errs on the safe side.
    pub(super) fn new(rule_hash: u64, subject_hash: u64) -> Self {
        let rule = u16::try_from(rule_hash >> 48).unwrap_or_default().max(EVERY_RULE + 1);
        Self(u64::from(rule) << 48 | subject_hash >> 16)
    }

    fn rule(self) -> u16 {
        u16::try_from(self.0 >> 48).unwrap_or_default()
    }
}

/// A count in one window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    /// Whose count.
    tag: Tag,
    /// When the window ends, in seconds since the Unix epoch; after that the entry is void.
    ends: u32,
    /// The count, and in its top bit whether this is a floor.
    count: u32,
}

impl Entry {
    const VOID: Self = Self { tag: Tag(0), ends: 0, count: 0 };

    #[expect(clippy::cast_possible_truncation, reason = "takes the bits apart again")]
    fn unpack(bytes: [u8; ENTRY_BYTES]) -> Self {
        let bits = u128::from_le_bytes(bytes);
        Self { tag: Tag(bits as u64), ends: (bits >> 64) as u32, count: (bits >> 96) as u32 }
    }

    fn pack(&self) -> [u8; ENTRY_BYTES] {
        let bits =
            u128::from(self.tag.0) | u128::from(self.ends) << 64 | u128::from(self.count) << 96;
        bits.to_le_bytes()
    }

    fn is_floor(&self) -> bool {
        self.count & FLOOR != 0
    }

    fn value(&self) -> u32 {
        self.count & !FLOOR
    }
}

/// What a slot holds, unpacked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    entries: [Entry; MAX_ENTRIES],
    len: usize,
}

impl Bucket {
    /// Reads a slot, leaving out what is over. Bytes that make no whole entry are ignored.
    pub(super) fn read(bytes: &[u8], now_seconds: u32) -> Self {
        let mut bucket = Self { entries: [Entry::VOID; MAX_ENTRIES], len: 0 };
        for chunk in bytes.as_chunks::<ENTRY_BYTES>().0 {
            let entry = Entry::unpack(*chunk);
            if entry.ends > now_seconds {
                bucket.push(entry);
            }
        }
        bucket
    }

    /// Writes the slot, and returns how many bytes it takes.
    pub(super) fn write(&self, into: &mut [u8; MAX_SLOT_BYTES]) -> usize {
        let chunks = into.as_chunks_mut::<ENTRY_BYTES>().0;
        for (chunk, entry) in chunks.iter_mut().zip(self.entries()) {
            *chunk = entry.pack();
        }
        self.len * ENTRY_BYTES
    }

    /// The count of `tag` in the window of `window` seconds that ends at `ends`, and the end that
    /// it really has: a worker whose clock is a hair ahead may have begun the next one already.
    pub(super) fn count(&self, tag: Tag, ends: u32, window: u32) -> (u32, u32) {
        match self.entries().iter().find(|e| e.tag == tag && !e.is_floor()) {
            Some(entry) if entry.ends >= ends && entry.ends - ends <= window => {
                (entry.value(), entry.ends)
            }
            // Of another window: the rule was changed, or the clock set back.
            Some(_) => (0, ends),
            None => (self.floor(tag.rule()), ends),
        }
    }

    /// Whether there is a count of `tag`.
    pub(super) fn has(&self, tag: Tag) -> bool {
        self.entries().iter().any(|e| e.tag == tag && !e.is_floor())
    }

    /// Sets the count of `tag`, making room if there is none.
    pub(super) fn set(&mut self, tag: Tag, ends: u32, count: u32) {
        let entry = Entry { tag, ends, count: count & !FLOOR };
        let counts = self.entries().iter().filter(|e| !e.is_floor()).count();
        if let Some(present) = self.entry_mut(|e| e.tag == tag && !e.is_floor()) {
            *present = entry;
        } else if counts < MAX_COUNTS && self.len < MAX_ENTRIES {
            self.push(entry);
        } else {
            let smallest = self.entries_mut().iter_mut().filter(|e| !e.is_floor());
            if let Some(smallest) = smallest.min_by_key(|e| e.value()) {
                let gone = std::mem::replace(smallest, entry);
                self.raise_floor(gone);
            }
        }
    }

    /// What an unknown subject of `rule` has at least to be taken for having used.
    fn floor(&self, rule: u16) -> u32 {
        let applies = |e: &&Entry| e.is_floor() && [rule, EVERY_RULE].contains(&e.tag.rule());
        self.entries().iter().filter(applies).map(Entry::value).max().unwrap_or(0)
    }

    fn raise_floor(&mut self, gone: Entry) {
        let rule = gone.tag.rule();
        let has_room = self.len + 1 < MAX_ENTRIES;
        let own = self.entry_mut(|e| e.is_floor() && e.tag.rule() == rule).is_some();
        // The last place is kept for the floor of all rules.
        let rule = if own || has_room { rule } else { EVERY_RULE };
        if let Some(floor) = self.entry_mut(|e| e.is_floor() && e.tag.rule() == rule) {
            floor.count = FLOOR | floor.value().max(gone.value());
            floor.ends = floor.ends.max(gone.ends);
        } else {
            let tag = Tag(u64::from(rule) << 48);
            self.push(Entry { tag, ends: gone.ends, count: FLOOR | gone.value() });
        }
    }

    fn entries(&self) -> &[Entry] {
        self.entries.get(..self.len).unwrap_or_default()
    }

    fn entries_mut(&mut self) -> &mut [Entry] {
        self.entries.get_mut(..self.len).unwrap_or_default()
    }

    fn entry_mut(&mut self, is_it: impl Fn(&Entry) -> bool) -> Option<&mut Entry> {
        self.entries_mut().iter_mut().find(|e| is_it(e))
    }

    fn push(&mut self, entry: Entry) {
        if let Some(place) = self.entries.get_mut(self.len) {
            *place = entry;
            self.len += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use wasm_bindgen_test::wasm_bindgen_test;

    fn tag(rule: u16, subject: u64) -> Tag {
        Tag::new(u64::from(rule) << 48, subject << 16)
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn a_bucket_survives_being_written_and_read() {
        let mut bucket = Bucket::read(&[], 0);
        bucket.set(tag(1, 7), 60, 3);
        bucket.set(tag(2, 7), 60, 4);
        let mut bytes = [0; MAX_SLOT_BYTES];
        let len = bucket.write(&mut bytes);
        let again = Bucket::read(&bytes[..len], 59);
        assert_eq!(again.count(tag(1, 7), 60, 60), (3, 60));
        assert_eq!(again.count(tag(2, 7), 60, 60), (4, 60));
        let over = Bucket::read(&bytes[..len], 60);
        assert_eq!(over.count(tag(1, 7), 120, 60), (0, 120));
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn a_worker_behind_the_others_counts_in_the_window_they_are_in() {
        let mut bucket = Bucket::read(&[], 0);
        bucket.set(tag(1, 7), 120, 5);
        assert_eq!(bucket.count(tag(1, 7), 60, 60), (5, 120));
        assert_eq!(bucket.count(tag(1, 7), 30, 30), (0, 30), "another window length");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, rng_seed: proptest::test_runner::RngSeed::Fixed(7), ..ProptestConfig::default() })]

        /// However subjects and rules come and go, nobody's count is ever below the truth, and
        /// the slot never outgrows its bound.
        #[wasm_bindgen_test(unsupported = test)]
        fn a_count_is_never_too_low(arrivals in prop::collection::vec((1u16..40, 0u64..60), 0..600)) {
            let mut truth = std::collections::BTreeMap::new();
            let mut bytes = [0; MAX_SLOT_BYTES];
            let mut len = 0;
            for (rule, subject) in arrivals {
                let mut bucket = Bucket::read(&bytes[..len], 1);
                let (count, ends) = bucket.count(tag(rule, subject), 60, 60);
                let real: &mut u32 = truth.entry((rule, subject)).or_default();
                prop_assert!(count >= *real, "rule {rule}, subject {subject}: {count} < {real}");
                bucket.set(tag(rule, subject), ends, count + 1);
                *real += 1;
                len = bucket.write(&mut bytes);
            }
        }

        #[wasm_bindgen_test(unsupported = test)]
        fn as_long_as_there_is_room_a_count_is_exact(arrivals in prop::collection::vec(0u64..16, 0..200)) {
            let mut truth = [0u32; 16];
            let mut bucket = Bucket::read(&[], 1);
            for subject in arrivals {
                let (count, ends) = bucket.count(tag(1, subject), 60, 60);
                let real = &mut truth[usize::try_from(subject).unwrap()];
                prop_assert_eq!(count, *real);
                bucket.set(tag(1, subject), ends, count + 1);
                *real += 1;
            }
        }

        #[wasm_bindgen_test(unsupported = test)]
        fn no_bytes_in_a_slot_can_break_it(bytes in prop::collection::vec(any::<u8>(), 0..MAX_SLOT_BYTES), now: u32) {
            let mut bucket = Bucket::read(&bytes, now);
            let (count, ends) = bucket.count(tag(1, 1), now.saturating_add(60), 60);
            bucket.set(tag(1, 1), ends, count);
            let mut out = [0; MAX_SLOT_BYTES];
            prop_assert!(bucket.write(&mut out) <= MAX_SLOT_BYTES);
        }
    }
}
