//! Recovery codes: each stands in once for an authenticator that is lost.

use secrecy::SecretString;
use zeroize::Zeroizing;

use super::SECRET_BYTES;
use crate::{
    keys::digest::DigestKey,
    random::{self, Random, RandomError},
};

/// How many there are.
pub const COUNT: usize = 10;
/// Characters of a code, of five bits each: 80 bits are out of reach of guessing.
const CHARS: usize = 16;
/// Crockford's base 32: no letters that look like digits.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const LABEL: &[u8] = b"keygate: totp recovery code, 1";

/// What is kept of a code.
pub type RecoveryDigest = [u8; 32];

/// A code, in the one form that it is digested in.
pub struct RecoveryCode(Zeroizing<String>);

impl RecoveryCode {
    /// Draws one.
    ///
    /// # Errors
    /// Without randomness.
    pub(super) fn draw(random: &dyn Random) -> Result<Self, RandomError> {
        let bytes = Zeroizing::new(random::bytes::<CHARS>(random)?);
        let chars = bytes.iter().filter_map(|byte| ALPHABET.get(usize::from(byte & 31)));
        Ok(Self(Zeroizing::new(chars.map(|byte| char::from(*byte)).collect())))
    }

    /// Reads one that has no separators any more.
    pub(super) fn parse(bare: &str) -> Option<Self> {
        let lower = Zeroizing::new(bare.to_ascii_lowercase());
        let is_code = lower.len() == CHARS && lower.bytes().all(|byte| ALPHABET.contains(&byte));
        is_code.then_some(Self(lower))
    }

    /// As people are shown it: groups of four.
    pub(super) fn shown(&self) -> SecretString {
        let mut text = String::with_capacity(CHARS + CHARS / 4);
        for (at, letter) in self.0.chars().enumerate() {
            if at > 0 && at % 4 == 0 {
                text.push('-');
            }
            text.push(letter);
        }
        SecretString::from(text)
    }

    /// What is kept of it. The key is the factor's own secret, which the database has only sealed:
    /// the digests say nothing to whoever has no more than them, and stay what they are when the
    /// secret key changes.
    pub(super) fn digest(&self, secret: &[u8; SECRET_BYTES]) -> RecoveryDigest {
        let mut key = Zeroizing::new([0; 32]);
        for (to, from) in key.iter_mut().zip(secret) {
            *to = *from;
        }
        let message = Zeroizing::new([LABEL, self.0.as_bytes()].concat());
        DigestKey::new(&key).digest(&message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SystemRandom;
    use secrecy::ExposeSecret;

    #[test]
    fn a_code_is_read_back_as_it_was_shown() {
        let code = RecoveryCode::draw(&SystemRandom).expect("drawn");
        let shown = code.shown().expose_secret().to_owned();
        assert_eq!(shown.len(), 19, "{shown}");
        let read = RecoveryCode::parse(&shown.replace('-', "").to_uppercase()).expect("a code");
        assert_eq!(read.digest(&[7; SECRET_BYTES]), code.digest(&[7; SECRET_BYTES]));
        assert_ne!(read.digest(&[8; SECRET_BYTES]), code.digest(&[7; SECRET_BYTES]));
    }

    #[test]
    fn codes_are_drawn_and_not_counted() {
        let draw = || RecoveryCode::draw(&SystemRandom).expect("drawn").0;
        assert_ne!(draw(), draw());
    }
}
