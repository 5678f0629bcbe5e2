//! The public name of a key.

use core::fmt;
use core::str::FromStr;

const HEX: [u8; 16] = *b"0123456789abcdef";

/// The public name of a key: 64 bits, written as 16 lower-case hex digits.
///
/// It may be logged and shown; it says nothing about the secret.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(u64);

impl KeyId {
    /// How many characters a key id takes.
    pub const LENGTH: usize = 16;

    /// The key id with this number.
    #[must_use]
    pub const fn from_u64(value: u64) -> Self {
        Self(value)
    }

    /// The number of this key id.
    #[must_use]
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// Reads exactly 16 lower-case hex digits.
    ///
    /// # Errors
    /// [`KeyIdFault`] for anything else; upper case too, so that one key has one spelling.
    pub fn parse(text: &[u8]) -> Result<Self, KeyIdFault> {
        if text.len() != Self::LENGTH {
            return Err(KeyIdFault);
        }
        let mut value = 0;
        for &byte in text {
            let digit = match byte {
                b'0'..=b'9' => byte - b'0',
                b'a'..=b'f' => byte - b'a' + 10,
                _ => return Err(KeyIdFault),
            };
            value = (value << 4) | u64::from(digit);
        }
        Ok(Self(value))
    }

    /// The 16 hex digits as ASCII, without allocating.
    #[must_use]
    pub fn to_hex(self) -> [u8; Self::LENGTH] {
        let mut rest = self.0;
        let mut text = [b'0'; Self::LENGTH];
        for place in text.iter_mut().rev() {
            let digit = usize::from((rest & 0xf) as u8);
            *place = HEX.get(digit).copied().unwrap_or(b'0');
            rest >>= 4;
        }
        text
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:016x}", self.0)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl FromStr for KeyId {
    type Err = KeyIdFault;

    fn from_str(text: &str) -> Result<Self, KeyIdFault> {
        Self::parse(text.as_bytes())
    }
}

/// A text is no [`KeyId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyIdFault;

impl fmt::Display for KeyIdFault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a key id is exactly 16 lower-case hex digits")
    }
}

impl core::error::Error for KeyIdFault {}

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test;

    use super::*;

    #[wasm_bindgen_test(unsupported = test)]
    fn a_key_id_is_written_with_all_its_zeros() {
        let key_id = KeyId::from_u64(0xbdd);
        assert_eq!(key_id.to_string(), "0000000000000bdd");
        assert_eq!(format!("{key_id:?}"), "0000000000000bdd");
        assert_eq!(&key_id.to_hex(), b"0000000000000bdd");
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn a_key_id_has_one_spelling_only() {
        assert_eq!("3c5588afe5b04bdd".parse(), Ok(KeyId::from_u64(0x3c55_88af_e5b0_4bdd)));
        for text in [
            "",
            "3c5588afe5b04bd",
            "3c5588afe5b04bdd0",
            "3C5588AFE5B04BDD",
            "3c5588afe5b04bdg",
            "+c5588afe5b04bdd",
            "0x5588afe5b04bdd",
            "3c5588afe5b04b\u{e9}",
        ] {
            assert_eq!(text.parse::<KeyId>(), Err(KeyIdFault), "{text}");
        }
    }
}
