//! Where sequences and repeats are.

use super::SHORTEST_FRAGMENT;
use crate::validate::LONGEST_KEY;

/// For each character of a text, how long the longest sequence or repeat is that begins there.
pub(super) struct Runs {
    lengths: [u8; LONGEST_KEY],
}

impl Default for Runs {
    fn default() -> Self {
        Self { lengths: [0; LONGEST_KEY] }
    }
}

impl Runs {
    /// Notes a run that begins at `start`.
    pub(super) fn note(&mut self, start: usize, length: usize) {
        let length = u8::try_from(length).unwrap_or(u8::MAX);
        if let Some(longest) = self.lengths.get_mut(start) {
            *longest = (*longest).max(length);
        }
    }

    /// Notes a run and the shorter ones within it, which begin later: a word may take its
    /// beginning.
    pub(super) fn note_with_rests(&mut self, start: usize, length: usize) {
        for skipped in 0..=length.saturating_sub(SHORTEST_FRAGMENT) {
            self.note(start + skipped, length - skipped);
        }
    }

    /// The longest run that begins at `start`; 0 when none does.
    pub(super) fn longest_at(&self, start: usize) -> usize {
        self.lengths.get(start).copied().map_or(0, usize::from)
    }
}
