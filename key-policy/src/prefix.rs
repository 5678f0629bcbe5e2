//! The word that our own keys begin with.

use core::fmt;
use core::str::FromStr;

/// The word that our own keys begin with: 1 to 16 lower-case letters and digits, first a letter.
///
/// Scanners find leaked keys by it, so a brand should have its own.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Prefix {
    bytes: [u8; Self::MAX_LENGTH],
    length: usize,
}

impl Prefix {
    /// The longest prefix, in characters.
    pub const MAX_LENGTH: usize = 16;

    /// Reads a prefix.
    ///
    /// # Errors
    /// Says which rule the text breaks.
    pub fn parse(text: &str) -> Result<Self, PrefixFault> {
        let first = text.bytes().next().ok_or(PrefixFault::Empty)?;
        if !text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()) {
            return Err(PrefixFault::Character);
        }
        if !first.is_ascii_lowercase() {
            return Err(PrefixFault::FirstNoLetter);
        }
        let mut bytes = [0; Self::MAX_LENGTH];
        bytes.get_mut(..text.len()).ok_or(PrefixFault::TooLong)?.copy_from_slice(text.as_bytes());
        Ok(Self { bytes, length: text.len() })
    }

    /// How many characters it has.
    pub(crate) const fn length(&self) -> usize {
        self.length
    }

    /// The prefix as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(self.as_bytes()).unwrap_or_default()
    }

    /// The prefix as ASCII bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

impl Default for Prefix {
    /// `kg`
    fn default() -> Self {
        let mut bytes = [0; Self::MAX_LENGTH];
        bytes[0] = b'k';
        bytes[1] = b'g';
        Self { bytes, length: 2 }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Prefix({})", self.as_str())
    }
}

impl FromStr for Prefix {
    type Err = PrefixFault;

    fn from_str(text: &str) -> Result<Self, PrefixFault> {
        Self::parse(text)
    }
}

/// Why a text is no [`Prefix`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PrefixFault {
    /// Nothing at all.
    Empty,
    /// More than 16 characters.
    TooLong,
    /// Something else than a lower-case letter or a digit.
    Character,
    /// The first character is a digit.
    FirstNoLetter,
}

impl fmt::Display for PrefixFault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Empty => "a prefix has at least one character",
            Self::TooLong => "a prefix has at most 16 characters",
            Self::Character => "a prefix consists of lower-case letters and digits",
            Self::FirstNoLetter => "a prefix begins with a letter",
        })
    }
}

impl core::error::Error for PrefixFault {}

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test;

    use super::*;

    #[wasm_bindgen_test(unsupported = test)]
    fn a_prefix_is_read_as_it_is_written() {
        for text in ["k", "kg", "acme2", "abcdefghijklmnop"] {
            assert_eq!(Prefix::parse(text).unwrap().as_str(), text);
        }
        assert_eq!(Prefix::parse("kg"), Ok(Prefix::default()));
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn a_bad_prefix_is_refused_with_the_reason() {
        assert_eq!(Prefix::parse(""), Err(PrefixFault::Empty));
        assert_eq!(Prefix::parse("abcdefghijklmnopq"), Err(PrefixFault::TooLong));
        assert_eq!(Prefix::parse("Kg"), Err(PrefixFault::Character));
        assert_eq!(Prefix::parse("k_g"), Err(PrefixFault::Character));
        assert_eq!(Prefix::parse("k\u{e9}"), Err(PrefixFault::Character));
        assert_eq!(Prefix::parse("4kg"), Err(PrefixFault::FirstNoLetter));
    }
}
