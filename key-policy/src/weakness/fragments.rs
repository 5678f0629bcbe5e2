//! What is left of a text once its fragments count as one character each.

use super::SHORTEST_FRAGMENT;
use super::runs::Runs;
use super::words::Words;
use crate::entropy::Histogram;
use crate::validate::LONGEST_KEY;

/// What every fragment counts as: one and the same character, which no key contains.
const FRAGMENT: u8 = 0;

/// A text with its fragments taken out.
pub(super) struct Remainder {
    histogram: Histogram,
    characters: usize,
}

impl Remainder {
    /// Takes out the sequences and repeats of `runs` and all common words of `text`, overlapping
    /// ones so that the fewest single characters are left.
    pub(super) fn of(text: &[u8], runs: &Runs) -> Self {
        let cut = Cut::cheapest(text, runs);
        let mut left = Self { histogram: Histogram::new(), characters: 0 };
        let mut rest = text;
        while let Some(&character) = rest.first() {
            let length = cut.length_at(text.len() - rest.len());
            if length == 1 {
                left.histogram.add(character);
                left.characters += 1;
            } else {
                left.histogram.add(FRAGMENT);
            }
            rest = rest.get(length..).unwrap_or_default();
        }
        left
    }

    pub(super) fn is_only_fragments(&self) -> bool {
        self.characters == 0
    }

    /// The Shannon entropy of what is left, in bits.
    pub(super) fn bits(&self) -> f64 {
        self.histogram.bits()
    }
}

/// Where the fragments of `text` are that [`Remainder::of`] takes out: start and length, from the
/// first to the last.
pub(super) fn places(text: &[u8], runs: &Runs) -> Vec<(usize, usize)> {
    let cut = Cut::cheapest(text, runs);
    let mut places = Vec::new();
    let mut start = 0;
    while start < text.len() {
        let length = cut.length_at(start);
        if length > 1 {
            places.push((start, length));
        }
        start += length;
    }
    places
}

/// Single characters, then fragments: what a cut leaves.
type Cost = (u16, u16);

/// How to cut a text into single characters and fragments.
struct Cut {
    /// How long the piece is that begins at each character.
    lengths: [u8; LONGEST_KEY],
}

impl Cut {
    /// The cut with the fewest single characters, and among those with the fewest fragments. Goes
    /// from the end of the text, where the best cut of every rest is known already.
    fn cheapest(text: &[u8], runs: &Runs) -> Self {
        let words = Words::of(text);
        let mut lengths = [1; LONGEST_KEY];
        let mut costs: [Cost; LONGEST_KEY + 1] = [(0, 0); LONGEST_KEY + 1];
        for start in (0..text.len()).rev() {
            let cost_after = |length| costs.get(start + length).copied();
            let (characters, fragments) = cost_after(1).unwrap_or_default();
            let mut best = ((characters + 1, fragments), 1);
            let mut consider = |length| {
                if let Some((characters, fragments)) = cost_after(length) {
                    best = best.min(((characters, fragments + 1), length));
                }
            };
            (SHORTEST_FRAGMENT..=runs.longest_at(start)).for_each(&mut consider);
            words.lengths_at(start).for_each(&mut consider);
            let (cost, length) = best;
            if let (Some(cost_here), Some(length_here)) =
                (costs.get_mut(start), lengths.get_mut(start))
            {
                *cost_here = cost;
                *length_here = u8::try_from(length).unwrap_or(1);
            }
        }
        Self { lengths }
    }

    fn length_at(&self, start: usize) -> usize {
        self.lengths.get(start).copied().map_or(1, usize::from)
    }
}

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test;

    use super::super::{repeat, sequence};
    use super::*;

    /// How many single characters are left.
    fn characters(text: &str) -> usize {
        let mut runs = Runs::default();
        sequence::find(text.as_bytes(), &mut runs);
        repeat::find(text.as_bytes(), &mut runs);
        Remainder::of(text.as_bytes(), &runs).characters
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn fragments_of_all_sorts_are_taken_out() {
        assert_eq!(characters("k9XvQ"), 5);
        assert_eq!(characters("k9-password-XvQ"), 7);
        assert_eq!(characters("k9-abcd-XvQ"), 7);
        assert_eq!(characters("k9-7777-XvQ"), 7);
        assert_eq!(characters("PasswordAdmin1234zzzz"), 0);
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn overlapping_fragments_leave_as_little_as_possible() {
        // `nop` is a sequence, but taking it leaves `assword`.
        assert_eq!(characters("nopassword"), 2);
        // `defg` would leave `od`: the word takes its beginning, `def` before it stays.
        assert_eq!(characters("defgood"), 0);
        assert_eq!(characters("administrators"), 1);
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn a_fragment_counts_as_one_character() {
        let text = b"passwordA";
        let left = Remainder::of(text, &Runs::default());
        assert!((left.bits() - 2.0).abs() < 1e-9);
    }
}
