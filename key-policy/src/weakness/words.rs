//! Common words, in any case and in leet spelling.

use super::SHORTEST_FRAGMENT;
use super::dictionary::WORDS;
use crate::validate::LONGEST_KEY;

/// The letters that words are compared in, numbered from 0; see [`letter`].
const LETTERS: usize = 26;

/// No letter, and nothing that is written for one.
const NO_LETTER: u8 = u8::MAX;

/// Letters and what stands for them, as numbers: case and leet spelling make no difference. `1`
/// and `!` stand for `i` as well as for `l`, so these two are one.
static FOLDED: [u8; 256] = folded();

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, which refuses a bad index")]
const fn folded() -> [u8; 256] {
    const LEET: [&[u8]; 11] =
        [b"a4@", b"b8", b"c(", b"e3", b"g69", b"il1!|", b"o0", b"s5$", b"t7+", b"z2", b"x%"];
    let mut table = [NO_LETTER; 256];
    let mut letter = b'a';
    while letter <= b'z' {
        table[letter as usize] = letter - b'a';
        table[letter.to_ascii_uppercase() as usize] = letter - b'a';
        letter += 1;
    }
    let mut class = 0;
    while class < LEET.len() {
        let mut index = 1;
        while index < LEET[class].len() {
            let other = LEET[class][index];
            table[other as usize] = LEET[class][0] - b'a';
            table[other.to_ascii_uppercase() as usize] = LEET[class][0] - b'a';
            index += 1;
        }
        class += 1;
    }
    table
}

/// Words that begin with the same two letters stand together in [`INDEX`].
const GROUPS: usize = LETTERS * LETTERS;

/// The dictionary as the search needs it: made by the compiler.
struct Index {
    /// Each word as its length and its folded letters but for the first two, group by group.
    entries: [u8; Index::SIZE],
    /// Where each group begins, and at last where the last ends.
    starts: [u16; GROUPS + 1],
}

static INDEX: Index = Index::new();

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, which refuses a bad index")]
impl Index {
    const SIZE: usize = {
        let mut size = 0;
        let mut word = 0;
        while word < WORDS.len() {
            size += Self::entry_size(WORDS[word]);
            word += 1;
        }
        size
    };

    const fn entry_size(word: &[u8]) -> usize {
        assert!(word.len() >= SHORTEST_FRAGMENT, "a word of the dictionary is too short");
        word.len() - 1
    }

    const fn group(word: &[u8]) -> usize {
        FOLDED[word[0] as usize] as usize * LETTERS + FOLDED[word[1] as usize] as usize
    }

    #[expect(clippy::cast_possible_truncation, reason = "asserted")]
    const fn new() -> Self {
        assert!(Self::SIZE <= u16::MAX as usize, "the dictionary is too large for its index");
        let mut starts = [0_u16; GROUPS + 1];
        let mut word = 0;
        while word < WORDS.len() {
            starts[Self::group(WORDS[word]) + 1] += Self::entry_size(WORDS[word]) as u16;
            word += 1;
        }
        let mut group = 0;
        while group < GROUPS {
            starts[group + 1] += starts[group];
            group += 1;
        }
        let mut entries = [0; Self::SIZE];
        let mut ends = starts;
        word = 0;
        while word < WORDS.len() {
            let letters = WORDS[word];
            let group = Self::group(letters);
            let mut place = ends[group] as usize;
            entries[place] = letters.len() as u8;
            let mut letter = 2;
            while letter < letters.len() {
                place += 1;
                entries[place] = FOLDED[letters[letter] as usize];
                letter += 1;
            }
            ends[group] = place as u16 + 1;
            word += 1;
        }
        Self { entries, starts }
    }
}

impl Index {
    /// The entries of the words that begin with these two folded letters.
    fn group_of(&self, first: u8, second: u8) -> &[u8] {
        if first == NO_LETTER || second == NO_LETTER {
            return &[];
        }
        let group = usize::from(first) * LETTERS + usize::from(second);
        let bound = |group: usize| self.starts.get(group).copied().map_or(0, usize::from);
        self.entries.get(bound(group)..bound(group + 1)).unwrap_or_default()
    }
}

/// A text in which words are looked for.
pub(super) struct Words {
    letters: [u8; LONGEST_KEY],
}

impl Words {
    pub(super) fn of(text: &[u8]) -> Self {
        let mut letters = [NO_LETTER; LONGEST_KEY];
        for (letter, &byte) in letters.iter_mut().zip(text) {
            *letter = FOLDED.get(usize::from(byte)).copied().unwrap_or(NO_LETTER);
        }
        Self { letters }
    }

    /// The lengths of all words that begin at `start`.
    pub(super) fn lengths_at(&self, start: usize) -> impl Iterator<Item = usize> {
        let (mut group, rest) = match self.letters.get(start..) {
            Some([first, second, rest @ ..]) => (INDEX.group_of(*first, *second), rest),
            _ => (&[][..], &[][..]),
        };
        core::iter::from_fn(move || {
            while let Some((&length, entries)) = group.split_first() {
                let (word, others) =
                    entries.split_at_checked(usize::from(length).saturating_sub(2))?;
                group = others;
                if rest.starts_with(word) {
                    return Some(usize::from(length));
                }
            }
            None
        })
    }
}

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test;

    use super::*;

    fn lengths(text: &str) -> Vec<usize> {
        let mut lengths: Vec<_> = Words::of(text.as_bytes()).lengths_at(0).collect();
        lengths.sort_unstable();
        lengths
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn every_word_is_found_in_any_case() {
        for word in WORDS {
            let word = str::from_utf8(word).unwrap();
            assert!(lengths(word).contains(&word.len()), "{word}");
            assert!(lengths(&word.to_uppercase()).contains(&word.len()), "{word}");
        }
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn every_word_is_lower_case_and_stands_there_once() {
        let mut words = WORDS.to_vec();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), WORDS.len());
        assert!(words.iter().all(|word| word.iter().all(u8::is_ascii_lowercase)));
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn leet_spelling_hides_no_word() {
        for text in [
            "p4ssw0rd",
            "P@$$W0RD",
            "s3cr3t",
            "4dm1n",
            "@dm!n",
            "l3tm31n",
            "1etme1n",
            "70k3n",
            "pr0duc+10n",
            "9009l3",
        ] {
            assert!(lengths(text).contains(&text.len()), "{text}");
        }
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn all_words_that_begin_at_a_place_are_found() {
        assert_eq!(lengths("administrator"), [5, 13]);
        assert_eq!(lengths("testing!"), [4, 7]);
        assert_eq!(Words::of(b"MyCompany").lengths_at(2).collect::<Vec<_>>(), [7]);
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn no_word_reaches_past_the_end() {
        for text in ["", "p", "pa", "admi", "adm-in", "-", "adm\u{ed}n"] {
            assert!(lengths(text).is_empty(), "{text}");
        }
        assert_eq!(Words::of(b"admin").lengths_at(LONGEST_KEY + 1).count(), 0);
    }
}
