//! How keys are recognised, when that changes under them: another secret key, another cost of
//! the hash. None of it changes what a key may do, so the feed does not hear of it.

use async_trait::async_trait;
use jiff::Timestamp;
use key_policy::KeyId;

use super::StoreError;
use crate::{
    audit::AuditEntry,
    keys::{
        digest::{LookupDigest, SecretName},
        hashing::SecretHash,
    },
};

/// The setting that names the secret key which the deployment looks keys up with.
pub const SECRET_NAME: &str = "lookup_secret_key_check";

/// Where a key is looked up, and the secret key that the digest was made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LookupPlace {
    /// The digest.
    pub digest: LookupDigest,
    /// The secret key's name.
    pub secret: SecretName,
}

/// How many keys are looked up by one secret key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretUse {
    /// The secret key's name.
    pub secret: SecretName,
    /// All keys, revoked and expired ones too.
    pub keys: u64,
    /// Those that are neither revoked nor expired.
    pub usable: u64,
}

/// How keys are recognised.
#[async_trait]
pub trait CredentialStore: Send + Sync {
    /// Moves a key to the digest of another secret key; only while the database still has it where
    /// it was found, and names that secret key as the deployment's. Says whether it was moved.
    async fn move_lookup(
        &self,
        key_id: KeyId,
        from: &LookupDigest,
        to: &LookupPlace,
    ) -> Result<bool, StoreError>;

    /// Puts a dearer hash in the place of one; never a cheaper one. Says whether it did.
    async fn replace_hash(
        &self,
        key_id: KeyId,
        old: &SecretHash,
        new: &SecretHash,
    ) -> Result<bool, StoreError>;

    /// How many keys each secret key is needed for.
    async fn secret_use(&self, now: Timestamp) -> Result<Vec<SecretUse>, StoreError>;

    /// Names another secret key as the deployment's, with the audit entry; only if `from` is
    /// named. Says whether it did.
    async fn rename_secret(
        &self,
        from: &SecretName,
        to: &SecretName,
        audit: &AuditEntry,
    ) -> Result<bool, StoreError>;
}
