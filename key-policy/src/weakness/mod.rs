//! Weak patterns: what a person, and so a guesser, would think of.
//!
//! Entropy by itself is no judge: `ThisIsMyCompanyProductionApiKey2024` scores 157 bits. So
//! sequences, repeats and common words are found as fragments. A long sequence or repeat is
//! refused outright; otherwise each fragment counts as one character, and what is left must still
//! have the entropy that the policy asks for. A good key loses a few bits by a chance fragment
//! and has plenty.

mod dictionary;
mod fragments;
mod repeat;
mod runs;
mod sequence;
mod words;

use crate::entropy::reaches;
use crate::fault::Weakness;
use crate::report::{Fragment, FragmentKind};
use crate::validate::LONGEST_KEY;
use fragments::Remainder;
use runs::Runs;

/// Fewer characters than this are no fragment: chance makes them too often.
const SHORTEST_FRAGMENT: usize = 3;

/// A sequence or repeat of this length is refused outright: among random base62 texts
/// of 40 characters one in 40,000 has one, nearly always a repeat such as `Ab1cAb1C`.
const LONG_RUN: usize = 8;

/// Finds the weak patterns in what is judged of a key.
///
/// Only the first [`LONGEST_KEY`] bytes are looked at, and these must have entropy enough: a
/// bound on the work, for policies that were not validated.
pub(crate) fn check(judged: &[u8], min_entropy_bits: f64) -> Result<(), Weakness> {
    let text = judged.get(..LONGEST_KEY).unwrap_or(judged);
    let mut runs = Runs::default();
    if sequence::find(text, &mut runs) >= LONG_RUN {
        return Err(Weakness::Sequence);
    }
    if repeat::find(text, &mut runs) >= LONG_RUN {
        return Err(Weakness::Repeat);
    }
    let left = Remainder::of(text, &runs);
    if left.is_only_fragments() {
        return Err(Weakness::OnlyFragments);
    }
    if !reaches(left.bits(), min_entropy_bits) {
        return Err(Weakness::TooLittleLeft);
    }
    Ok(())
}

/// The fragments that count as one character each, and what is left besides them, in bits.
pub(crate) fn fragments(judged: &[u8]) -> (Vec<Fragment>, f64) {
    let text = judged.get(..LONGEST_KEY).unwrap_or(judged);
    let (mut sequences, mut repeats, mut all) = (Runs::default(), Runs::default(), Runs::default());
    for runs in [&mut sequences, &mut all] {
        sequence::find(text, runs);
    }
    for runs in [&mut repeats, &mut all] {
        repeat::find(text, runs);
    }
    let kind = |start, length| {
        if sequences.longest_at(start) >= length {
            FragmentKind::Sequence
        } else if repeats.longest_at(start) >= length {
            FragmentKind::Repeat
        } else {
            FragmentKind::Word
        }
    };
    let found = fragments::places(text, &all)
        .into_iter()
        .map(|(start, length)| Fragment { start, length, kind: kind(start, length) })
        .collect();
    (found, Remainder::of(text, &all).bits())
}
