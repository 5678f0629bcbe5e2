//! The checksum at the end of a key: CRC-32 in base62.
//!
//! CRC-32 finds every error within 32 neighbouring bits, so every mistyped character and every
//! swapped pair, and lets one in four thousand million other texts pass. It guards against
//! accidents, not against forgers: it saves a call for each typo and lets scanners tell a leaked
//! key from a look-alike.

use crate::base62;

/// How many base62 digits hold 32 bits.
pub(crate) const LENGTH: usize = 6;

/// The reversed polynomial of CRC-32/ISO-HDLC (IEEE 802.3).
const POLYNOMIAL: u32 = 0xedb8_8320;

/// The remainder of each byte. One kilobyte; the sixteen tables of a faster implementation would
/// be most of the filter's data, for keys of 57 bytes.
static REMAINDERS: [u32; 256] = remainders();

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, which refuses a bad index")]
const fn remainders() -> [u32; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "below 256")]
        let mut remainder = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            let carry = if remainder & 1 == 1 { POLYNOMIAL } else { 0 };
            remainder = (remainder >> 1) ^ carry;
            bit += 1;
        }
        table[byte] = remainder;
        byte += 1;
    }
    table
}

/// CRC-32 (IEEE 802.3) of `bytes`.
fn crc32(bytes: &[u8]) -> u32 {
    let mut remainder = u32::MAX;
    for &byte in bytes {
        let index = remainder.to_le_bytes()[0] ^ byte;
        let step = REMAINDERS.get(usize::from(index)).copied().unwrap_or_default();
        remainder = (remainder >> 8) ^ step;
    }
    !remainder
}

/// The six base62 digits, most significant first, that end a key which begins with `text`.
#[must_use]
pub fn checksum(text: &[u8]) -> [u8; LENGTH] {
    let mut rest = crc32(text);
    let mut digits = [b'0'; LENGTH];
    for place in digits.iter_mut().rev() {
        *place = base62::digit(rest);
        rest /= 62;
    }
    digits
}

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test;

    use super::*;

    #[wasm_bindgen_test(unsupported = test)]
    fn published_vectors_hold() {
        for (text, expected) in [
            ("", 0),
            ("a", 0xe8b7_be43),
            ("abc", 0x3524_41c2),
            ("123456789", 0xcbf4_3926),
            ("The quick brown fox jumps over the lazy dog", 0x414f_a339),
        ] {
            assert_eq!(crc32(text.as_bytes()), expected, "{text}");
        }
        assert_eq!(crc32(&[0x00; 32]), 0x190a_55ad);
        assert_eq!(crc32(&[0xff; 32]), 0xff6c_ab0b);
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn the_checksum_has_leading_zeros_and_the_most_significant_digit_first() {
        assert_eq!(&checksum(b""), b"000000");
        // 0xcbf43926 = ((((3·62 + 45)·62 + 35)·62 + 27)·62 + 22)·62 + 14
        assert_eq!(&checksum(b"123456789"), b"3jZRME");
    }
}
