//! The key that checkpoints are signed with.

use ed25519_dalek::SigningKey;

use super::chain::checkpoint::{Checkpoint, PublicKey, Statement};
use crate::{
    config::Config,
    keys::digest::DigestKey,
    secret_key::{Secret, Secrets},
};

const LABEL: &[u8] = b"keygate: audit checkpoint signing key, 1";

/// Signs checkpoints.
pub struct AuditSigner(SigningKey);

impl AuditSigner {
    /// The configured key, or the one that follows from the secret key.
    #[must_use]
    pub fn new(config: &Config, secrets: &Secrets) -> Self {
        match &config.audit.signing_key {
            Some(seed) => Self(SigningKey::from_bytes(seed.expose())),
            None => Self::derive(&secrets.current.lookup),
        }
    }

    /// The key that follows from a secret key. Neither tells anything about the other.
    fn derive(secret: &DigestKey) -> Self {
        Self(SigningKey::from_bytes(&secret.digest(LABEL)))
    }

    /// The key of that seed.
    #[cfg(test)]
    pub(crate) fn from_seed(seed: [u8; 32]) -> Self {
        Self(SigningKey::from_bytes(&seed))
    }

    /// Whose signature it is.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        PublicKey::from(self.0.verifying_key().to_bytes())
    }

    /// Signs.
    #[must_use]
    pub fn sign(&self, statement: Statement) -> Checkpoint {
        Checkpoint::sign(statement, &self.0)
    }
}

/// The public keys that follow from the configuration alone: of the key in use, of what the secret
/// keys give as long as those are configured, and those that are named because they signed before.
#[must_use]
pub fn configured_keys(config: &Config) -> Vec<PublicKey> {
    let given = config.audit.signing_key.as_ref().map(|seed| SigningKey::from_bytes(seed.expose()));
    let derived = [&config.secret_key, &config.previous_secret_key]
        .into_iter()
        .flatten()
        .map(|key| AuditSigner::derive(&Secret::new(key).lookup));
    let own = given.map(AuditSigner).into_iter().chain(derived).map(|it| it.public_key());
    own.chain(config.audit.trusted_keys.iter().copied()).collect()
}
