//! The fast digests of a key: where it is looked up, how it is remembered, how the audit log
//! names it.

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use std::fmt;
use zeroize::Zeroizing;

/// A key as a client presented it. It is wiped from memory when dropped, and has no `Debug`.
pub struct PresentedKey(Zeroizing<Vec<u8>>);

/// Longer credentials cannot be keys under any policy; they are not even digested.
pub const MAX_PRESENTED_BYTES: usize = 256;

impl PresentedKey {
    /// Takes what was presented; `None` when it is empty or longer than any key.
    #[must_use]
    pub fn new(bytes: impl Into<Vec<u8>>) -> Option<Self> {
        let bytes = Zeroizing::new(bytes.into());
        (1..=MAX_PRESENTED_BYTES).contains(&bytes.len()).then_some(Self(bytes))
    }

    /// The key's bytes.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

/// HMAC-SHA256 under the deployment's secret key, truncated to 16 bytes.
pub type LookupDigest = [u8; 16];

/// The name of a secret key: half of an HMAC of a fixed text. It tells keys apart, and nothing
/// about them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SecretName([u8; 16]);

impl SecretName {
    /// As it is stored; what is no name stands for a secret key that nobody has.
    #[must_use]
    pub fn from_stored(text: &str) -> Self {
        let mut name = [0; 16];
        if hex::decode_to_slice(text, &mut name).is_err() {
            return Self([0; 16]);
        }
        Self(name)
    }
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// An HMAC key from which digests of API keys are made.
#[derive(Clone)]
pub struct DigestKey(Hmac<Sha256>);

impl DigestKey {
    /// Takes 32 bytes of key.
    #[must_use]
    pub fn new(key: &[u8; 32]) -> Self {
        // The block-sized constructor cannot fail: a short key is padded with zeros, as RFC 2104
        // section 2 says.
        let mut block = Zeroizing::new([0_u8; 64]);
        for (to, from) in block.iter_mut().zip(key) {
            *to = *from;
        }
        Self(Hmac::new((&*block).into()))
    }

    /// The whole digest.
    #[must_use]
    pub fn digest(&self, message: &[u8]) -> [u8; 32] {
        self.0.clone().chain_update(message).finalize().into_bytes().into()
    }

    /// The name that this key goes by where it must not be shown itself.
    #[must_use]
    pub fn name(&self) -> SecretName {
        SecretName(self.lookup(b"keygate: which secret key is this?"))
    }

    /// The first half of the digest.
    #[must_use]
    pub fn lookup(&self, message: &[u8]) -> LookupDigest {
        let mut short = [0; 16];
        for (to, from) in short.iter_mut().zip(self.digest(message)) {
            *to = from;
        }
        short
    }
}

/// How the audit log names a presented key: the first 16 hex digits of its SHA-256.
#[must_use]
pub fn audit_hash(key: &[u8]) -> String {
    let mut text = hex::encode(Sha256::digest(key));
    text.truncate(16);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_hmac_sha256() {
        // Python: hmac.new(bytes(range(32)), b"what do ya want for nothing?", "sha256")
        let key = DigestKey::new(&std::array::from_fn(|i| u8::try_from(i).expect("small")));
        assert_eq!(
            hex::encode(key.digest(b"what do ya want for nothing?")),
            "099805f4ac310786968565c098db515cc50862b420ae31e20238312344bed36a"
        );
        assert_eq!(hex::encode(key.lookup(b"x")), &hex::encode(key.digest(b"x"))[..32]);
    }

    #[test]
    fn the_audit_log_names_a_key_by_its_sha256() {
        // FIPS 180-2, appendix B.1.
        assert_eq!(audit_hash(b"abc"), "ba7816bf8f01cfea");
    }

    #[test]
    fn an_empty_or_over_long_credential_is_no_key() {
        assert!(PresentedKey::new(b"".as_slice()).is_none());
        assert!(PresentedKey::new(vec![b'a'; 256]).is_some());
        assert!(PresentedKey::new(vec![b'a'; 257]).is_none());
    }
}
