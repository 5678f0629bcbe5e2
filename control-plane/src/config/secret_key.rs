//! The deployment's secret key: what keys are looked up by is made with it.

use base64::{
    Engine,
    prelude::{BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE_NO_PAD},
};
use std::{collections::HashSet, fmt};
use zeroize::Zeroizing;

/// The text holds no 32 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretKeyError {
    /// Neither hex nor base64.
    #[error("must be 32 bytes in hex (64 digits) or base64 (43 or 44 characters)")]
    Encoding,
    /// Another length.
    #[error("must be 32 bytes; it holds {0}")]
    Length(usize),
}

/// 32 bytes that must not be guessed.
#[derive(Clone)]
pub struct SecretKey {
    bytes: Zeroizing<[u8; 32]>,
    /// What was written, lower case, when it was base64: words in it show only there.
    text: Zeroizing<String>,
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey([redacted])")
    }
}

/// Of 32 random bytes some 30 are different; fewer than 20 are in less than one key in 10^12.
const MIN_DIFFERENT_BYTES: usize = 20;
/// The same for the 31 steps from byte to byte: a count or a ladder takes few.
const MIN_DIFFERENT_STEPS: usize = 16;
/// What people write where they should have drawn lots.
const WORDS: &[&str] = &[
    "password",
    "passwort",
    "secret",
    "changeme",
    "change",
    "keygate",
    "example",
    "admin",
    "qwerty",
    "letmein",
    "default",
    "production",
    "abcdef",
    "123456",
];

/// By chance a word of this length is in one drawn key in 10^10; "secret" alone is in one in 10^7.
const MIN_COVERED: usize = 8;

/// How many characters of the text belong to words.
fn covered_by_words(text: &str) -> usize {
    let mut covered = HashSet::new();
    for word in WORDS {
        for (start, _) in text.match_indices(word) {
            covered.extend(start..start + word.len());
        }
    }
    covered.len()
}

impl SecretKey {
    /// Takes 32 bytes that were drawn by lot.
    #[must_use]
    pub fn from_random(bytes: [u8; 32]) -> Self {
        Self { bytes: Zeroizing::new(bytes), text: Zeroizing::default() }
    }

    /// Reads hex or base64, with the alphabet of URLs or the other, padded or not.
    ///
    /// # Errors
    /// When that does not give 32 bytes. The text is not repeated.
    pub fn parse(text: &str) -> Result<Self, SecretKeyError> {
        let text = text.trim();
        let is_hex =
            text.len().is_multiple_of(2) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let (bytes, text) = if is_hex && text.len() >= 48 {
            (hex::decode(text).ok(), Zeroizing::default())
        } else {
            let bare = text.trim_end_matches('=');
            let bytes = BASE64_STANDARD_NO_PAD
                .decode(bare)
                .or_else(|_| BASE64_URL_SAFE_NO_PAD.decode(bare));
            (bytes.ok(), Zeroizing::new(text.to_ascii_lowercase()))
        };
        let bytes = Zeroizing::new(bytes.ok_or(SecretKeyError::Encoding)?);
        let bytes: [u8; 32] =
            bytes.as_slice().try_into().map_err(|_| SecretKeyError::Length(bytes.len()))?;
        Ok(Self { bytes: Zeroizing::new(bytes), text })
    }

    /// The bytes.
    #[must_use]
    pub fn expose(&self) -> &[u8; 32] {
        &self.bytes
    }

    /// What shows that it was not drawn by lot; a drawn key has such a trait less than once in
    /// 10^9 times.
    #[must_use]
    pub fn weakness(&self) -> Option<&'static str> {
        let bytes = self.bytes.as_slice();
        let repeats =
            |period| bytes.iter().zip(bytes.iter().skip(period)).all(|(one, other)| one == other);
        if repeats(1) {
            return Some("all its bytes are the same");
        }
        if (2..=16).any(repeats) {
            return Some("it repeats a short pattern");
        }
        if bytes.iter().all(|byte| (b' '..=b'~').contains(byte)) {
            return Some("it is text, not random bytes");
        }
        if covered_by_words(&self.text) >= MIN_COVERED {
            return Some("it has a word in it");
        }
        let steps: HashSet<u8> = bytes
            .iter()
            .zip(bytes.iter().skip(1))
            .map(|(one, other)| other.wrapping_sub(*one))
            .collect();
        if steps.len() < MIN_DIFFERENT_STEPS {
            return Some("it is a sequence");
        }
        if bytes.iter().collect::<HashSet<_>>().len() < MIN_DIFFERENT_BYTES {
            return Some("it has too few different bytes");
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOOD: &str = "3f9a1c77e0d25b8846f1029c6be87d145aa3c2e9178f604db35e7891f2ac0d66";

    fn weakness(text: &str) -> Option<&'static str> {
        SecretKey::parse(text).expect("32 bytes").weakness()
    }

    #[test]
    fn hex_and_every_base64_give_the_same_key() {
        let key = SecretKey::parse(GOOD).expect("good");
        let bytes = hex::decode(GOOD).expect("hex");
        let padded = base64::prelude::BASE64_STANDARD.encode(&bytes);
        for text in [
            GOOD.to_uppercase(),
            padded.clone(),
            padded.trim_end_matches('=').to_owned(),
            BASE64_URL_SAFE_NO_PAD.encode(&bytes),
            format!(" {GOOD}\n"),
        ] {
            assert_eq!(SecretKey::parse(&text).expect("good").expose(), key.expose());
        }
        assert_eq!(key.weakness(), None);
    }

    #[test]
    fn another_length_is_refused_with_the_length_found() {
        assert_eq!(SecretKey::parse(&GOOD[..62]).err(), Some(SecretKeyError::Length(31)));
        assert_eq!(SecretKey::parse(&format!("{GOOD}00")).err(), Some(SecretKeyError::Length(33)));
        assert_eq!(SecretKey::parse("not a key!").err(), Some(SecretKeyError::Encoding));
        assert_eq!(SecretKey::parse("").err(), Some(SecretKeyError::Length(0)));
    }

    #[test]
    fn a_key_that_was_made_up_is_found_weak() {
        let text = |bytes: &[u8]| hex::encode(bytes);
        for (key, why) in [
            (text(&[0; 32]), "same"),
            (text(&[0xab; 32]), "same"),
            ("0123456789abcdef".repeat(4), "pattern"),
            ("deadbeef".repeat(8), "pattern"),
            (text(b"correct horse battery staple 123"), "text"),
            (
                text(&std::array::from_fn::<u8, 32, _>(|i| u8::try_from(i).expect("small"))),
                "sequence",
            ),
            (
                text(&std::array::from_fn::<u8, 32, _>(|i| {
                    255 - 3 * u8::try_from(i).expect("small")
                })),
                "sequence",
            ),
            ("mySuperSecretKeyForKeygateThatNobodyGuesses".to_owned(), "word"),
        ] {
            let found = weakness(&key);
            assert!(found.is_some_and(|found| found.contains(why)), "{key}: {found:?}");
        }
    }

    #[test]
    fn a_drawn_key_is_not_refused_for_a_short_word_that_it_has_by_chance() {
        let drawn = BASE64_URL_SAFE_NO_PAD.encode(hex::decode(GOOD).expect("hex"));
        let with = |word: &str| format!("{}{}", &drawn[..20], word) + &drawn[20 + word.len()..];
        for word in ["Admin", "secRet", "change", "default"] {
            assert_eq!(weakness(&with(word)), None, "{word}");
        }
        for words in ["changeme", "Password", "secretadmin"] {
            assert_eq!(weakness(&with(words)), Some("it has a word in it"), "{words}");
        }
    }

    #[test]
    fn a_key_never_shows_in_debug_output() {
        assert_eq!(format!("{:?}", SecretKey::parse(GOOD).expect("good")), "SecretKey([redacted])");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn a_random_key_is_never_found_weak(bytes in prop::array::uniform32(any::<u8>())) {
            // proptest draws uniformly here; shrinking, which does not, begins after a failure.
            let text = base64::prelude::BASE64_STANDARD.encode(bytes);
            prop_assert_eq!(SecretKey::parse(&hex::encode(bytes)).expect("32 bytes").weakness(), None);
            prop_assert_eq!(SecretKey::parse(&text).expect("32 bytes").weakness(), None);
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in ".{0,100}") {
            let _ = SecretKey::parse(&text);
        }
    }
}
