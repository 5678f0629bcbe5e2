//! What a key must be like, and the checks in the order of the layers.

use crate::entropy::{reaches, shannon_bits};
use crate::environment::Environment;
use crate::fault::{Fault, FormatFault, Weakness};
use crate::form::{self, Form, Own};
use crate::kinds;
use crate::prefix::Prefix;
use crate::weakness;

/// What a key must be like.
///
/// The fields are the configuration's; [`Policy::validate`] says whether they make sense together.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// The word that our own keys begin with.
    pub prefix: Prefix,
    /// Fewest characters.
    pub min_length: usize,
    /// Most characters.
    pub max_length: usize,
    /// Least Shannon entropy in bits: entropy per character times length.
    pub min_entropy_bits: f64,
    /// How many of lower case, upper case, digit and other there must be.
    pub min_kinds: u8,
    /// Whether weak patterns are looked for.
    pub weak_patterns: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            prefix: Prefix::default(),
            min_length: 32,
            max_length: 256,
            min_entropy_bits: 96.0,
            min_kinds: 3,
            weak_patterns: true,
        }
    }
}

impl Policy {
    /// Layer 0: at most `max_length` printable ASCII characters without space or comma. Nothing
    /// at all is fine here: presence is another layer's question.
    ///
    /// # Errors
    /// [`FormatFault::TooLong`], or what the first bad byte is: [`FormatFault::NotPrintable`] or
    /// [`FormatFault::Comma`].
    pub fn check_bytes(&self, key: &[u8]) -> Result<(), FormatFault> {
        if key.len() > self.max_length {
            return Err(FormatFault::TooLong);
        }
        match key.iter().find(|&&byte| byte == b',' || !byte.is_ascii_graphic()) {
            None => Ok(()),
            Some(b',') => Err(FormatFault::Comma),
            Some(_) => Err(FormatFault::NotPrintable),
        }
    }

    /// Layer 2, by text alone: what `<prefix>_test_` or `<prefix>_live_` at the beginning says.
    /// Malformed keys say it too.
    #[must_use]
    pub fn environment_of(&self, key: &[u8]) -> Option<Environment> {
        form::split_environment(&self.prefix, key).map(|(environment, _)| environment)
    }

    /// Layer 3: length; structure and checksum of what begins with `<prefix>_` (and the checksum
    /// of what ends like a Keygate's key); kinds and entropy of what is judged.
    ///
    /// # Errors
    /// The first rule broken, in that order.
    pub fn check_format(&self, key: &[u8]) -> Result<Form, FormatFault> {
        if key.len() > self.max_length {
            return Err(FormatFault::TooLong);
        }
        if key.len() < self.min_length {
            return Err(FormatFault::TooShort);
        }
        let (form, judged, min_kinds) = match form::check(&self.prefix, key)? {
            Some(Own { environment, key_id, secret }) => {
                let min_kinds = self.min_kinds.min(kinds::OF_BASE62);
                (Form::Own { environment, key_id }, secret, min_kinds)
            }
            None => (Form::Foreign, key, self.min_kinds),
        };
        if kinds::count(judged) < min_kinds {
            return Err(FormatFault::TooFewKinds);
        }
        if !reaches(shannon_bits(judged), self.min_entropy_bits) {
            return Err(FormatFault::TooLittleEntropy);
        }
        Ok(form)
    }

    /// Layer 4: sequences, repeats and common words; all is well when `weak_patterns` is off.
    ///
    /// # Errors
    /// The pattern found.
    pub fn check_weakness(&self, key: &[u8]) -> Result<(), Weakness> {
        if !self.weak_patterns {
            return Ok(());
        }
        let judged = Own::parse(&self.prefix, key).map_or(key, |own| own.secret);
        weakness::check(judged, self.min_entropy_bits)
    }

    /// Layers 0, 3 and 4: what issuing and importing a key ask.
    ///
    /// # Errors
    /// The first layer's fault.
    pub fn check(&self, key: &[u8]) -> Result<Form, Fault> {
        self.check_bytes(key)?;
        let form = self.check_format(key)?;
        self.check_weakness(key)?;
        Ok(form)
    }
}
