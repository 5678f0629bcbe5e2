//! The alphabet of secrets and checksums.

/// Digits, upper case, lower case: the order of ASCII.
const ALPHABET: [u8; 62] = *b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The largest multiple of 62 that a byte can count to: a random byte below it gives each digit
/// with the same probability, one at or above it is thrown away.
const FAIR_BYTES: u8 = 248;

/// The digit for `value` modulo 62.
pub(crate) fn digit(value: u32) -> u8 {
    ALPHABET.get((value % 62) as usize).copied().unwrap_or(b'0')
}

/// An unbiased digit from a random byte; none for the bytes that would favour the first digits.
pub(crate) fn fair_digit(random: u8) -> Option<u8> {
    (random < FAIR_BYTES).then(|| digit(u32::from(random)))
}

/// Whether all of `text` is base62.
pub(crate) fn is_base62(text: &[u8]) -> bool {
    text.iter().all(u8::is_ascii_alphanumeric)
}

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test;

    use super::*;

    #[wasm_bindgen_test(unsupported = test)]
    fn every_digit_comes_from_equally_many_bytes() {
        let mut bytes_of = [0; 256];
        for digit in (0..=u8::MAX).filter_map(fair_digit) {
            bytes_of[usize::from(digit)] += 1;
        }
        for (byte, count) in (0..=u8::MAX).zip(bytes_of) {
            assert_eq!(count, if is_base62(&[byte]) { 4 } else { 0 });
        }
    }
}
