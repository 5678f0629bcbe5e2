//! Making a key.

use core::fmt;

use crate::base62;
use crate::checksum::checksum;
use crate::environment::Environment;
use crate::form::{Own, SECRET_LENGTH};
use crate::id::KeyId;
use crate::policy::Policy;

/// How many random bytes are asked for at a time: one in 32 is thrown away, so that these give
/// the secret at once but for once in 10¹² times.
const POOL: usize = 48;

/// A key that was just made: the only time that its text is known.
#[derive(Clone, PartialEq, Eq)]
pub struct NewKey {
    /// The public name.
    pub key_id: KeyId,
    /// The whole key. Show it once, store its digests.
    pub text: String,
}

impl fmt::Debug for NewKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("NewKey")
            .field("key_id", &self.key_id)
            .field("text", &"[redacted]")
            .finish()
    }
}

impl Policy {
    /// Draws a key until it passes this policy: one first draw in 260 does not, nearly all
    /// of them because the secret has no digit.
    ///
    /// `fill` fills its buffer with random bytes that nobody can predict. A source that gives
    /// the same bytes for ever is asked for ever: no weak key is ever returned. A policy that no
    /// own key can meet ([`Policy::validate`] refuses it) gets a key that meets the default one.
    ///
    /// # Errors
    /// Those of `fill`.
    pub fn generate<E>(
        &self,
        environment: Environment,
        fill: &mut dyn FnMut(&mut [u8]) -> Result<(), E>,
    ) -> Result<NewKey, E> {
        let attainable = if self.validate().is_ok() {
            self.clone()
        } else {
            Self { prefix: self.prefix, ..Self::default() }
        };
        loop {
            let key = attainable.draw(environment, fill)?;
            if attainable.check(key.text.as_bytes()).is_ok() {
                return Ok(key);
            }
        }
    }

    fn draw<E>(
        &self,
        environment: Environment,
        fill: &mut dyn FnMut(&mut [u8]) -> Result<(), E>,
    ) -> Result<NewKey, E> {
        let mut id = [0; 8];
        fill(&mut id)?;
        let key_id = KeyId::from_u64(u64::from_le_bytes(id));

        let mut text = String::with_capacity(Own::length(&self.prefix));
        text.push_str(self.prefix.as_str());
        text.push('_');
        text.push_str(environment.as_str());
        text.push('_');
        text.extend(key_id.to_hex().map(char::from));
        text.push('_');
        let end = text.len() + SECRET_LENGTH;
        while text.len() < end {
            let mut pool = [0; POOL];
            fill(&mut pool)?;
            let digits = pool.into_iter().filter_map(base62::fair_digit);
            text.extend(digits.map(char::from).take(end - text.len()));
        }
        let digits = checksum(text.as_bytes());
        text.extend(digits.map(char::from));
        Ok(NewKey { key_id, text })
    }
}
