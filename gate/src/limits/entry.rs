//! What a slot holds entries of.

use super::slots::Kind;
use crate::Now;

/// Whose entry it is: a rule, and a subject under it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tag(u64);

/// The rule of the floor that holds for all rules: of those that found no room for their own.
const EVERY_RULE: u64 = 0;
const SUBJECT_BITS: u32 = 48;
/// The subject that stands for "whoever comes new".
const FLOOR: u64 = 0;

impl Tag {
    /// From a hash of the rule and a hash of rule and subject together. Two rules of one hash
    /// would share their floor, which errs on the safe side.
    pub(super) fn new(rule_hash: u64, subject_hash: u64) -> Self {
        let rule = (rule_hash >> SUBJECT_BITS).max(EVERY_RULE + 1);
        let subject = (subject_hash >> (u64::BITS - SUBJECT_BITS)).max(FLOOR + 1);
        Self(rule << SUBJECT_BITS | subject)
    }

    /// From the number that [`Tag::number`] gave.
    pub(super) const fn from_number(number: u64) -> Self {
        Self(number)
    }

    pub(super) fn number(self) -> u64 {
        self.0
    }

    /// The floor of this one's rule.
    pub(super) fn floor(self) -> Self {
        Self(self.0 >> SUBJECT_BITS << SUBJECT_BITS)
    }

    /// The floor of those rules that have none of their own.
    pub(super) fn floor_of_every_rule() -> Self {
        Self(EVERY_RULE << SUBJECT_BITS | FLOOR)
    }

    pub(super) fn is_floor(self) -> bool {
        self == self.floor()
    }
}

/// An entry of a slot. Its bytes are written by one worker and read by the others.
pub(super) trait Entry: Copy {
    /// Which kind it is.
    const KIND: Kind;
    /// How many bytes it takes.
    const BYTES: usize;

    /// Reads `BYTES` bytes, whatever they are.
    fn read(bytes: &[u8]) -> Self;
    /// Writes `BYTES` bytes.
    fn write(&self, into: &mut [u8]);

    fn tag(&self) -> Tag;
    /// Whether it says nothing any more.
    fn is_over(&self, now: Now) -> bool;
    /// How much would be forgotten with it: the least gives way to one that comes new.
    fn weight(&self) -> u64;
    /// What is known of whoever comes new once this one has given way: at least as much as of this
    /// one. `None` where nothing has to be.
    fn floor(&self, tag: Tag) -> Option<Self>;
    /// Makes a floor at least as high as another.
    fn raise(&mut self, other: &Self);
}

/// Takes the next number off the bytes of an entry.
pub(crate) struct Fields<'a>(pub(crate) &'a [u8]);

impl Fields<'_> {
    pub(crate) fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take())
    }

    pub(crate) fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take())
    }

    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.take())
    }

    fn take<const N: usize>(&mut self) -> [u8; N] {
        let Some((bytes, rest)) = self.0.split_first_chunk::<N>() else {
            return [0; N];
        };
        self.0 = rest;
        *bytes
    }
}

/// Appends numbers to the bytes of an entry; what does not fit is left out.
pub(crate) struct FieldsMut<'a>(pub(crate) &'a mut [u8]);

impl FieldsMut<'_> {
    pub(crate) fn put<const N: usize>(&mut self, bytes: [u8; N]) {
        let place = std::mem::take(&mut self.0);
        if let Some((field, rest)) = place.split_first_chunk_mut::<N>() {
            *field = bytes;
            self.0 = rest;
        }
    }
}
