//! Whether a policy makes sense.

use core::fmt;

use crate::form::Own;
use crate::kinds;
use crate::policy::Policy;

/// The most characters that a policy may allow: the checks work within buffers of this size.
pub const LONGEST_KEY: usize = 256;

/// The most Shannon entropy that a policy may ask for, in bits.
const MOST_ENTROPY_BITS: f64 = 128.0;

impl Policy {
    /// Whether the fields make sense together and our own keys can meet them.
    ///
    /// # Errors
    /// The first field that does not.
    pub fn validate(&self) -> Result<(), PolicyFault> {
        let own_length = Own::length(&self.prefix);
        if !(own_length..=LONGEST_KEY).contains(&self.max_length) {
            return Err(PolicyFault::MaxLength);
        }
        if self.min_length > own_length {
            return Err(PolicyFault::MinLength);
        }
        if !(0.0..=MOST_ENTROPY_BITS).contains(&self.min_entropy_bits) {
            return Err(PolicyFault::MinEntropyBits);
        }
        if self.min_kinds > kinds::ALL {
            return Err(PolicyFault::MinKinds);
        }
        Ok(())
    }
}

/// The field of a [`Policy`] that makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PolicyFault {
    /// `max_length`
    MaxLength,
    /// `min_length`
    MinLength,
    /// `min_entropy_bits`
    MinEntropyBits,
    /// `min_kinds`
    MinKinds,
}

impl PolicyFault {
    /// The field's name in the configuration.
    #[must_use]
    pub const fn field(self) -> &'static str {
        match self {
            Self::MaxLength => "max_length",
            Self::MinLength => "min_length",
            Self::MinEntropyBits => "min_entropy_bits",
            Self::MinKinds => "min_kinds",
        }
    }

    /// What was expected of it.
    #[must_use]
    pub const fn expected(self) -> &'static str {
        match self {
            Self::MaxLength => {
                "at most 256 and at least the length of the keys issued here (the prefix and 61 more)"
            }
            Self::MinLength => {
                "at most the length of the keys issued here (the prefix and 61 more)"
            }
            Self::MinEntropyBits => "a number from 0 to 128, which the keys issued here can reach",
            Self::MinKinds => "a number from 0 to 4",
        }
    }
}

impl fmt::Display for PolicyFault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: expected {}", self.field(), self.expected())
    }
}

impl core::error::Error for PolicyFault {}

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test;

    use super::*;

    #[wasm_bindgen_test(unsupported = test)]
    fn the_default_policy_is_valid() {
        assert_eq!(Policy::default().validate(), Ok(()));
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn a_policy_that_no_own_key_meets_is_refused_with_the_field() {
        let refused = |change: fn(&mut Policy)| {
            let mut policy = Policy::default();
            change(&mut policy);
            policy.validate().map_err(PolicyFault::field)
        };
        assert_eq!(refused(|policy| policy.max_length = 62), Err("max_length"));
        assert_eq!(refused(|policy| policy.max_length = 63), Ok(()));
        assert_eq!(refused(|policy| policy.max_length = 257), Err("max_length"));
        assert_eq!(refused(|policy| policy.min_length = 64), Err("min_length"));
        assert_eq!(refused(|policy| policy.min_length = 63), Ok(()));
        assert_eq!(refused(|policy| policy.min_entropy_bits = f64::NAN), Err("min_entropy_bits"));
        assert_eq!(refused(|policy| policy.min_entropy_bits = -1.0), Err("min_entropy_bits"));
        assert_eq!(refused(|policy| policy.min_entropy_bits = 128.5), Err("min_entropy_bits"));
        assert_eq!(refused(|policy| policy.min_kinds = 4), Ok(()));
        assert_eq!(refused(|policy| policy.min_kinds = 5), Err("min_kinds"));
    }
}
