//! The four kinds of characters.

/// How many kinds of characters base62 has: our own secrets cannot have the fourth.
pub(crate) const OF_BASE62: u8 = 3;

/// How many there are at all.
pub(crate) const ALL: u8 = 4;

/// How many of lower case, upper case, digit and other occur in `text`.
pub(crate) fn count(text: &[u8]) -> u8 {
    let mut seen = [false; ALL as usize];
    for byte in text {
        seen[0] |= byte.is_ascii_lowercase();
        seen[1] |= byte.is_ascii_uppercase();
        seen[2] |= byte.is_ascii_digit();
        seen[3] |= !byte.is_ascii_alphanumeric();
    }
    seen.into_iter().map(u8::from).sum()
}

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test;

    use super::*;

    #[wasm_bindgen_test(unsupported = test)]
    fn each_kind_counts_once() {
        for (text, kinds) in
            [("", 0), ("abc", 1), ("aXbY", 2), ("a1B2", 3), ("a-1-B", 4), ("____", 1)]
        {
            assert_eq!(count(text.as_bytes()), kinds, "{text}");
        }
    }
}
