//! Repeats: characters that say again what was said shortly before.

use super::SHORTEST_FRAGMENT;
use super::runs::Runs;

/// The longest distance at which a repetition is looked for. 17 random characters have the 96
/// bits of the default policy by themselves, so a key of those twice over is not weak.
const FARTHEST: usize = 16;

/// Notes every repeat in `text`, in either case, and tells how long the longest is.
///
/// A repeat is a stretch with the same characters as the one a few places before: with it, if the
/// two touch (`abcabcabc` is one of nine), by itself otherwise (`abc-abc` has one of three).
pub(super) fn find(text: &[u8], runs: &mut Runs) -> usize {
    let mut longest = 0;
    for distance in 1..=FARTHEST.min(text.len()) {
        let later = text.get(distance..).unwrap_or_default();
        let mut copied = 0;
        for (index, (before, here)) in text.iter().zip(later).enumerate() {
            if before.eq_ignore_ascii_case(here) {
                copied += 1;
            } else if copied > 0 {
                longest = longest.max(note(index + distance, copied, distance, runs));
                copied = 0;
            }
        }
        longest = longest.max(note(text.len(), copied, distance, runs));
    }
    longest
}

/// Notes the `copied` characters before `end`, and tells how long a repeat they make; 0 for none.
fn note(end: usize, copied: usize, distance: usize, runs: &mut Runs) -> usize {
    let length = if copied >= distance { copied + distance } else { copied };
    if length < SHORTEST_FRAGMENT {
        return 0;
    }
    runs.note_with_rests(end.saturating_sub(length), length);
    length
}

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test;

    use super::*;

    fn longest(text: &str) -> usize {
        find(text.as_bytes(), &mut Runs::default())
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn the_same_again_is_a_repeat() {
        for text in [
            "aaa",
            "aaaa",
            "aAaA",
            "abab",
            "abcabcabc",
            "abcabcab",
            "xYz9XyZ9",
            "0123456789ABCDEF0123456789abcdef",
        ] {
            assert_eq!(longest(text), text.len(), "{text}");
        }
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn a_copy_at_some_distance_is_a_repeat_by_itself() {
        assert_eq!(longest("Xk9#mP2$1Xk9#mP2$2"), 8);
        assert_eq!(longest("one-two-one"), 3);
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn little_again_or_far_away_is_none() {
        for text in ["", "a", "aa", "abac", "ab12ab", "abcdefghijklmnopq-abcdefghijklmnopq"] {
            assert_eq!(longest(text), 0, "{text}");
        }
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn a_repeat_is_noted_where_it_begins_for_the_first_time() {
        let mut runs = Runs::default();
        assert_eq!(find(b"x-abab-x", &mut runs), 4);
        let noted: Vec<_> = (0..8).map(|start| runs.longest_at(start)).collect();
        assert_eq!(noted, [0, 0, 4, 3, 0, 0, 0, 0]);
    }
}
