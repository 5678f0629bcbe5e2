//! Layers 0 to 4: what can be told from the credential alone.

use edge_protocol::EventKind;
use filter_config::Layer;
use key_policy::Environment;

use super::{Decision, Facts, Gate};
use crate::Now;
use crate::audit::About;
use crate::cache::KeyFingerprint;
use crate::limits::SharedSlots;
use crate::problem::Problem;

impl Gate {
    /// Layer 1.
    pub(super) fn without_key(
        &mut self,
        facts: Facts,
        now: Now,
        slots: &mut impl SharedSlots,
    ) -> Decision {
        let about = About { client: facts.client, ..About::default() };
        let details = "reason=no_api_key_header";
        if self.finds_against(Layer::Presence, EventKind::MissingApiKey, about, details, now) {
            return Decision::Refuse(self.refusal(Problem::Missing));
        }
        self.limit(facts, now, slots)
    }

    /// Layer 0: no telling which one is meant.
    pub(super) fn with_several_keys(
        &mut self,
        facts: Facts,
        now: Now,
        slots: &mut impl SharedSlots,
    ) -> Decision {
        let about = About { client: facts.client, ..About::default() };
        let details = "reason=several_api_key_headers";
        self.bad_credential(about, details, facts, now, slots)
    }

    /// Layer 0: a value of bytes or of a length that no key has.
    pub(super) fn with_bad_key(
        &mut self,
        key: &[u8],
        facts: Facts,
        now: Now,
        slots: &mut impl SharedSlots,
    ) -> Decision {
        let reason = match self.config.policy.check_bytes(key) {
            Err(fault) => fault.as_str(),
            Ok(()) => "too_long",
        };
        // Only what could be a key is hashed: a header of 60 KB is not worth 0.2 ms.
        let fingerprint = (key.len() <= self.config.policy.max_length).then(|| fingerprint(key));
        let about = About { fingerprint, client: facts.client, key_id: None };
        self.bad_credential(about, &format!("reason={reason}"), facts, now, slots)
    }

    fn bad_credential(
        &mut self,
        about: About<'_>,
        details: &str,
        facts: Facts,
        now: Now,
        slots: &mut impl SharedSlots,
    ) -> Decision {
        if self.finds_against(Layer::Credential, EventKind::InvalidFormat, about, details, now) {
            return Decision::Refuse(self.refusal(Problem::BadCredential));
        }
        // What cannot be read as one key identifies nobody.
        self.limit(facts, now, slots)
    }

    /// Layers 2 to 4, on a key of sane bytes.
    pub(super) fn examine(
        &mut self,
        key: &[u8],
        fingerprint: KeyFingerprint,
        facts: Facts,
        now: Now,
    ) -> Result<(), Problem> {
        let about = About { fingerprint: Some(fingerprint), client: facts.client, key_id: None };
        let is_test = self.config.policy.environment_of(key) == Some(Environment::Test);
        if is_test && !self.config.deployment.allows_test_keys() {
            let details = "reason=test_key_in_production";
            let kind = EventKind::SecurityViolation;
            if self.finds_against(Layer::Environment, kind, about, details, now) {
                return Err(Problem::TestKey);
            }
        }
        let kind = EventKind::InvalidFormat;
        if let Err(fault) = self.config.policy.check_format(key) {
            let details = format!("reason={}", fault.as_str());
            if self.finds_against(Layer::Format, kind, about, &details, now) {
                return Err(Problem::Malformed);
            }
        }
        if let Err(weakness) = self.config.policy.check_weakness(key) {
            let details = format!("reason=weak_{}", weakness.as_str());
            if self.finds_against(Layer::WeakPatterns, kind, about, &details, now) {
                return Err(Problem::Malformed);
            }
        }
        Ok(())
    }
}

/// The first 16 hex digits of the SHA-256 of a key.
pub(super) fn fingerprint(key: &[u8]) -> KeyFingerprint {
    use sha2::Digest as _;
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digest = sha2::Sha256::digest(key);
    let mut hex = [b'0'; 16];
    for (pair, byte) in hex.as_chunks_mut::<2>().0.iter_mut().zip(digest) {
        let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'0');
        *pair = [digit(byte >> 4), digit(byte & 0xf)];
    }
    hex
}

#[cfg(test)]
mod tests {
    use wasm_bindgen_test::wasm_bindgen_test;

    #[wasm_bindgen_test(unsupported = test)]
    fn a_fingerprint_is_the_start_of_the_sha_256() {
        // FIPS 180-2, appendix B.1.
        assert_eq!(&super::fingerprint(b"abc"), b"ba7816bf8f01cfea");
    }
}
