//! What must be readable again, and by nobody who has only the database.

use chacha20poly1305::{
    ChaCha20Poly1305, KeyInit,
    aead::{Aead, Nonce, Payload},
};
use zeroize::Zeroizing;

use crate::{
    keys::digest::DigestKey,
    random::{self, Random, RandomError},
};

/// Bytes of the nonce, which stands before what is sealed.
const NONCE: usize = 12;
/// What the key is derived for: HMAC-SHA256 of this text under the secret key.
const LABEL: &[u8] = b"keygate: seal, ChaCha20-Poly1305, version 1";

/// Why something was not sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// It was sealed with another key, for another purpose, or was changed since.
    #[error("it was sealed with another secret key, or has been changed since")]
    Unreadable,
    /// No randomness.
    #[error(transparent)]
    Random(#[from] RandomError),
}

/// Seals and opens.
#[derive(Clone)]
pub struct SealKey(ChaCha20Poly1305);

impl SealKey {
    /// The one that belongs to a secret key.
    #[must_use]
    pub fn derive(secret: &DigestKey) -> Self {
        let key = Zeroizing::new(secret.digest(LABEL));
        Self(ChaCha20Poly1305::new((&*key).into()))
    }

    /// Seals `plain` for a purpose; it can be opened for no other.
    ///
    /// # Errors
    /// Without randomness.
    pub fn seal(
        &self,
        purpose: &[u8],
        plain: &[u8],
        random: &dyn Random,
    ) -> Result<Vec<u8>, SealError> {
        let nonce = random::bytes::<NONCE>(random)?;
        let payload = Payload { msg: plain, aad: purpose };
        let sealed = self.0.encrypt(&Nonce::<ChaCha20Poly1305>::from(nonce), payload);
        let sealed = sealed.map_err(|_| SealError::Unreadable)?;
        Ok([nonce.as_slice(), &sealed].concat())
    }

    /// Opens what was sealed.
    ///
    /// # Errors
    /// [`SealError::Unreadable`].
    pub fn open(&self, purpose: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE>().ok_or(SealError::Unreadable)?;
        let payload = Payload { msg: sealed, aad: purpose };
        let plain = self.0.decrypt(&Nonce::<ChaCha20Poly1305>::from(*nonce), payload);
        plain.map(Zeroizing::new).map_err(|_| SealError::Unreadable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SystemRandom;

    fn key(byte: u8) -> SealKey {
        SealKey::derive(&DigestKey::new(&[byte; 32]))
    }

    #[test]
    fn what_is_sealed_opens_with_its_own_key_and_purpose_only() {
        let sealed = key(1).seal(b"a", b"secret", &SystemRandom).expect("sealed");
        assert_eq!(&**key(1).open(b"a", &sealed).expect("opened"), b"secret");
        assert!(key(2).open(b"a", &sealed).is_err());
        assert!(key(1).open(b"b", &sealed).is_err());
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(key(1).open(b"a", &changed).is_err());
            assert!(key(1).open(b"a", &sealed[..at]).is_err());
        }
    }

    #[test]
    fn nothing_is_sealed_twice_in_the_same_way() {
        let seal = || key(1).seal(b"a", b"secret", &SystemRandom).expect("sealed");
        assert_ne!(seal(), seal());
    }
}
