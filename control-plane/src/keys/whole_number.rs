//! Whole numbers in JSON: `60.0` is one as much as `60` is, and some languages write all numbers
//! so (JSON Schema 2020-12, section 4.2.3 of the core).

use serde::{Deserializer, de};
use std::fmt;

/// A whole number of 32 bits.
///
/// # Errors
/// When it is another kind of value, has a fraction, or does not fit.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    struct Visitor;

    impl de::Visitor<'_> for Visitor {
        type Value = u32;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("u32")
        }

        fn visit_u64<E: de::Error>(self, value: u64) -> Result<u32, E> {
            u32::try_from(value)
                .map_err(|_| E::invalid_value(de::Unexpected::Unsigned(value), &self))
        }

        fn visit_f64<E: de::Error>(self, value: f64) -> Result<u32, E> {
            let fits = value.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&value);
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "it is whole and fits"
            )]
            let whole = value as u32;
            fits.then_some(whole)
                .ok_or_else(|| E::invalid_value(de::Unexpected::Float(value), &self))
        }
    }

    deserializer.deserialize_any(Visitor)
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    struct Example(#[serde(deserialize_with = "super::deserialize")] u32);

    #[test]
    fn a_number_without_a_fraction_is_whole_however_it_is_written() {
        for (text, number) in [("60", 60), ("60.0", 60), ("6e1", 60), ("4294967295", u32::MAX)] {
            assert_eq!(serde_json::from_str::<Example>(text).expect(text).0, number);
        }
        for text in ["60.5", "-1", "-1.0", "4294967296", "4294967296.0", "1e99", "\"60\"", "null"] {
            serde_json::from_str::<Example>(text).expect_err(text);
        }
    }
}
