//! The store that all workers of a proxy share.

use super::algorithm::sliding_window::SlidingWindow;
use super::bucket::MAX_ENTRIES;
use super::entry::Entry;

/// The most bytes that a slot ever holds.
pub const MAX_SLOT_BYTES: usize = MAX_ENTRIES * <SlidingWindow as Entry>::BYTES;

/// The version of a slot's content, by which a compare-and-swap knows whether it changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version(pub u32);

/// Which of the shared slots.
///
/// What there is no end of (addresses) and what there are only so many of (keys) live in families
/// of their own: a flood of the ones must not crowd out the others. And each algorithm has its own,
/// since a slot holds entries of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SlotName {
    name: [u8; 9],
    number: u16,
}

impl SlotName {
    /// The slot of a family in which `hash` belongs.
    pub(crate) fn new(family: Family, hash: u64) -> Self {
        let [low, high, ..] = hash.to_le_bytes();
        Self::numbered(family.letter(), u16::from_le_bytes([low, high]) % family.slots())
    }

    /// The slot in which the workers that ask this control plane keep how their Envoy stands in
    /// its fleet.
    pub(crate) fn standing(control_plane: u64) -> Self {
        Self::numbered(b'g', u16::try_from(control_plane >> 48).unwrap_or(0))
    }

    fn numbered(letter: u8, number: u16) -> Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut name = *b"kg2.a0000";
        if let Some(place) = name.get_mut(4) {
            *place = letter;
        }
        let mut index = number;
        for digit in name.iter_mut().rev().take(4) {
            *digit = DIGITS.get(usize::from(index & 0xf)).copied().unwrap_or(b'0');
            index >>= 4;
        }
        Self { name, number }
    }

    /// What tells slots of a family apart.
    pub(super) fn number(&self) -> u16 {
        self.number
    }

    /// The name under which the store keeps the slot.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.name
    }
}

/// What a slot counts, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Family {
    /// Whether there is no end of what it counts.
    pub(crate) endless: bool,
    /// What its entries are.
    pub(crate) kind: Kind,
}

/// The kinds of entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    FixedWindow,
    SlidingWindow,
    TokenBucket,
    Lease,
}

impl Family {
    /// How many slots, each with room for 16 entries. With 32 768 slots and 100 000 entries at a
    /// time one slot in thirty-six million overflows, with 300 000 one in eighty. A sliding window
    /// takes five times the room of the others and has half of the slots.
    fn slots(self) -> u16 {
        match self.kind {
            Kind::FixedWindow | Kind::TokenBucket => 32_768,
            Kind::SlidingWindow | Kind::Lease => 16_384,
        }
    }

    fn letter(self) -> u8 {
        match (self.kind, self.endless) {
            (Kind::FixedWindow, true) => b'a',
            (Kind::FixedWindow, false) => b'k',
            (Kind::SlidingWindow, true) => b's',
            (Kind::SlidingWindow, false) => b'S',
            (Kind::TokenBucket, true) => b't',
            (Kind::TokenBucket, false) => b'T',
            (Kind::Lease, true) => b'l',
            (Kind::Lease, false) => b'L',
        }
    }
}

/// The store that all workers of a proxy share: named slots of bytes, changed by
/// compare-and-swap. Versions are numbered upwards over all slots.
pub trait SharedSlots {
    /// Copies a slot's content into `into`, which has room for [`MAX_SLOT_BYTES`], and returns its
    /// length and version; `None` when there is no such slot yet. Content that does not fit counts
    /// as empty.
    fn load(&mut self, slot: &SlotName, into: &mut [u8]) -> Option<(usize, Version)>;

    /// As [`load`](Self::load), without a look: what this worker believes to be in the slot, and the
    /// version without which a store fails. `None`: it has no belief.
    fn recall(&mut self, _slot: &SlotName, _into: &mut [u8]) -> Option<(usize, Version)> {
        None
    }

    /// Replaces a slot's content if its version is still `expected` (`None`: if it does not
    /// exist yet), and says whether it did.
    fn store(&mut self, slot: &SlotName, content: &[u8], expected: Option<Version>) -> bool;
}
