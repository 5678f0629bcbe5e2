//! Shannon entropy of a text.
//!
//! With `n` characters of which each kind `i` occurs `cᵢ` times, entropy per character times
//! length is `n·log₂ n − Σ cᵢ·log₂ cᵢ`: one table, no logarithm at run time.

/// Counts up to this one come from the table: no key is longer.
const TABLE_END: usize = 256;

/// `x·log₂ x` for every count that can occur in a key.
static X_LOG2_X: [f64; TABLE_END + 1] = table();

#[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, which refuses a bad index")]
const fn table() -> [f64; TABLE_END + 1] {
    let mut values = [0.0; TABLE_END + 1];
    let mut count = 0;
    while count <= TABLE_END {
        values[count] = compute_x_log2_x(count);
        count += 1;
    }
    values
}

/// `x·log₂ x`; exact for powers of two, elsewhere within a few units in the last place.
#[expect(clippy::cast_precision_loss, reason = "no text is 2^53 bytes long")]
const fn compute_x_log2_x(x: usize) -> f64 {
    let Some(exponent) = x.checked_ilog2() else {
        return 0.0;
    };
    let power = (1_usize << exponent) as f64;
    // log₂ m = 2/ln 2 · atanh((m−1)/(m+1)), for m in 1..2 a series in z ≤ 1/3: 17 terms are below
    // the precision of f64.
    let mantissa = x as f64 / power;
    let z = (mantissa - 1.0) / (mantissa + 1.0);
    let square = z * z;
    let mut sum = 0.0;
    let mut odd = 35_i32;
    while odd >= 1 {
        sum = sum * square + 1.0 / odd as f64;
        odd -= 2;
    }
    let log2 = exponent as f64 + 2.0 * core::f64::consts::LOG2_E * z * sum;
    x as f64 * log2
}

fn x_log2_x(x: usize) -> f64 {
    X_LOG2_X.get(x).copied().unwrap_or_else(|| compute_x_log2_x(x))
}

/// How often each byte occurs in a text.
pub(crate) struct Histogram {
    counts: [usize; 256],
}

impl Histogram {
    pub(crate) const fn new() -> Self {
        Self { counts: [0; 256] }
    }

    pub(crate) fn add(&mut self, byte: u8) {
        if let Some(count) = self.counts.get_mut(usize::from(byte)) {
            *count += 1;
        }
    }

    /// Entropy per character times length, in bits.
    pub(crate) fn bits(&self) -> f64 {
        let mut length = 0;
        let mut sum = 0.0;
        for &count in &self.counts {
            length += count;
            sum += x_log2_x(count);
        }
        (x_log2_x(length) - sum).max(0.0)
    }
}

/// The Shannon entropy of `key` in bits: entropy per character times length.
#[must_use]
pub fn shannon_bits(key: &[u8]) -> f64 {
    let mut histogram = Histogram::new();
    for &byte in key {
        histogram.add(byte);
    }
    histogram.bits()
}

/// Whether `bits` reach the `minimum`, give or take the rounding of f64: a text of exactly 96
/// bits must not fail for the last binary place. A minimum that is no number is never reached.
pub(crate) fn reaches(bits: f64, minimum: f64) -> bool {
    const ROUNDING: f64 = 1e-9;
    bits + ROUNDING >= minimum
}

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test;

    use super::*;

    #[wasm_bindgen_test(unsupported = test)]
    #[expect(clippy::cast_precision_loss, reason = "small numbers")]
    fn the_table_agrees_with_the_logarithm() {
        for x in (1..=1000).chain([70_000, 1 << 20, 123_456_789]) {
            let expected = x as f64 * (x as f64).log2();
            let error = (x_log2_x(x) - expected).abs();
            assert!(error <= expected * 1e-15, "{x}: off by {error}");
        }
        assert!(x_log2_x(0).abs() < f64::EPSILON);
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn known_texts_have_their_entropy() {
        for (text, bits) in [
            ("", 0.0),
            ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", 0.0),
            ("abababab", 8.0),
            ("0123456789abcdef", 64.0),
        ] {
            assert!((shannon_bits(text.as_bytes()) - bits).abs() < 1e-9, "{text}");
        }
        assert!((shannon_bits(b"qwertyuiopasdfghjklzxcvbnm123456") - 160.0).abs() < 0.5);
        assert!((shannon_bits(b"ThisIsMyCompanyProductionApiKey2024") - 157.0).abs() < 0.5);
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn a_minimum_met_exactly_is_met_whatever_the_rounding() {
        for times in [4, 12, 19, 23] {
            let text = "aB3-".repeat(times);
            #[expect(clippy::cast_precision_loss, reason = "small numbers")]
            let exact = text.len() as f64 * 2.0;
            assert!(reaches(shannon_bits(text.as_bytes()), exact), "{text}");
        }
        assert!(!reaches(95.999, 96.0));
        assert!(!reaches(200.0, f64::NAN));
    }
}
