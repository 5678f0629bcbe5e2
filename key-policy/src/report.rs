//! All that there is to say about a key, for whoever wants to know why it is refused.

use crate::entropy::{reaches, shannon_bits};
use crate::fault::{Fault, FormatFault};
use crate::form::{self, Form, Own};
use crate::kinds;
use crate::policy::Policy;
use crate::validate::LONGEST_KEY;
use crate::weakness;

/// What a fragment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FragmentKind {
    /// Characters in alphabetical, numerical or keyboard order.
    Sequence,
    /// Characters that repeat others.
    Repeat,
    /// A common word, in any case and in leet spelling.
    Word,
}

impl FragmentKind {
    /// A stable name for answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sequence => "sequence",
            Self::Repeat => "repeat",
            Self::Word => "word",
        }
    }
}

/// A part of a key that is easy to guess, by its place: the text itself is not repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Fragment {
    /// The place of its first character in the key, from 0.
    pub start: usize,
    /// How many characters it has.
    pub length: usize,
    /// What it is.
    pub kind: FragmentKind,
}

/// A key, judged by everything at once. Nothing in it tells the key.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Every rule that is broken; of layer 4 the first.
    pub faults: Vec<Fault>,
    /// What the key is, when its form is in order.
    pub form: Option<Form>,
    /// How many characters it has.
    pub length: usize,
    /// How many of lower case, upper case, digit and other occur in what is judged.
    pub kinds: u8,
    /// The Shannon entropy of what is judged, in bits.
    pub entropy_bits: f64,
    /// The same, with each fragment counted as one character.
    pub remaining_bits: f64,
    /// Sequences, repeats and common words, from the first to the last.
    pub fragments: Vec<Fragment>,
}

impl Report {
    /// Whether [`Policy::check`] lets the key pass.
    #[must_use]
    pub fn passes(&self) -> bool {
        self.faults.is_empty()
    }
}

impl Policy {
    /// Judges a key by all rules, where [`Policy::check`] stops at the first that is broken. Of a
    /// key of more than 256 bytes only the first 256 are looked at.
    #[must_use]
    pub fn report(&self, key: &[u8]) -> Report {
        let text = key.get(..LONGEST_KEY).unwrap_or(key);
        let own = Own::parse(&self.prefix, text);
        let is_own = own.is_some();
        let judged = own.map_or(text, |own| own.secret);
        let judged_at =
            if is_own { key.len().saturating_sub(Own::AFTER_SECRET + judged.len()) } else { 0 };

        let mut faults: Vec<Fault> = Vec::new();
        faults.extend(self.check_bytes(key).err().map(Fault::from));
        if key.len() < self.min_length {
            faults.push(FormatFault::TooShort.into());
        }
        faults.extend(form::check(&self.prefix, text).err().map(Fault::from));
        let kinds = kinds::count(judged);
        let min_kinds = if is_own { self.min_kinds.min(kinds::OF_BASE62) } else { self.min_kinds };
        if kinds < min_kinds {
            faults.push(FormatFault::TooFewKinds.into());
        }
        let entropy_bits = shannon_bits(judged);
        if !reaches(entropy_bits, self.min_entropy_bits) {
            faults.push(FormatFault::TooLittleEntropy.into());
        }
        faults.extend(self.check_weakness(text).err().map(Fault::from));

        let (mut fragments, remaining_bits) = weakness::fragments(judged);
        for fragment in &mut fragments {
            fragment.start += judged_at;
        }
        Report {
            faults,
            form: self.check(key).ok(),
            length: key.len(),
            kinds,
            entropy_bits,
            remaining_bits,
            fragments,
        }
    }
}
