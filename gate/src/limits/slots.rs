//! The store that all workers of a proxy share.

/// The most bytes that a slot ever holds.
pub const MAX_SLOT_BYTES: usize = 24 * 16;

/// How many slots each family has, each with room for 16 counts: with 100 000 counts at a time one
/// slot in a hundred million overflows, with 300 000 one in eighty. Both families together can
/// come to 25 MB of content, for good.
const SLOTS_OF_A_FAMILY: u16 = 32_768;

/// The version of a slot's content, by which a compare-and-swap knows whether it changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version(pub u32);

/// Which of the shared slots.
///
/// Counts of addresses and counts of keys live in families of their own: there is no end of
/// addresses, and a flood of them must not crowd out keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SlotName([u8; 9]);

impl SlotName {
    pub(crate) fn new(family: Family, hash: u64) -> Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let family = match family {
            Family::Addresses => b'a',
            Family::Keys => b'k',
        };
        let mut index = hash % u64::from(SLOTS_OF_A_FAMILY);
        let mut name = *b"kg1.a0000";
        if let Some(letter) = name.get_mut(4) {
            *letter = family;
        }
        for digit in name.iter_mut().rev().take(4) {
            let nibble = usize::try_from(index & 0xf).unwrap_or_default();
            *digit = DIGITS.get(nibble).copied().unwrap_or(b'0');
            index >>= 4;
        }
        Self(name)
    }

    /// The name under which the store keeps the slot.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// What a slot counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Family {
    Addresses,
    Keys,
}

/// The store that all workers of a proxy share: named slots of bytes, changed by
/// compare-and-swap.
pub trait SharedSlots {
    /// Copies a slot's content into `into` and returns its length and version; `None` when there
    /// is no such slot yet. Content that does not fit counts as empty.
    fn load(
        &mut self,
        slot: &SlotName,
        into: &mut [u8; MAX_SLOT_BYTES],
    ) -> Option<(usize, Version)>;

    /// Replaces a slot's content if its version is still `expected` (`None`: if it does not
    /// exist yet), and says whether it did.
    fn store(&mut self, slot: &SlotName, content: &[u8], expected: Option<Version>) -> bool;
}
