//! Requests that are made once, however often they are sent (`Idempotency-Key`).
//!
//! What is kept of one is the name of the key that it made, never the key: a repetition can be
//! told what was done, and not what was shown.

use async_trait::async_trait;
use jiff::Timestamp;
use key_policy::KeyId;

use super::StoreError;
use crate::{audit::AuditEntry, keys::StoredKey};

/// A request by name: a digest of who sent it, where to, and what they call it.
pub type RequestName = [u8; 32];

/// A digest of what was asked for.
pub type BodyDigest = [u8; 32];

/// A request that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MadeRequest {
    /// What was asked for.
    pub body: BodyDigest,
    /// The key that it made.
    pub key_id: KeyId,
}

/// A request that is to be made, unless it was made before.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    /// Its name.
    pub name: RequestName,
    /// What is asked for.
    pub body: BodyDigest,
    /// When it is made.
    pub at: Timestamp,
    /// One of the same name that was made before this has been forgotten.
    pub forgotten_before: Timestamp,
}

/// Requests that are made once.
#[async_trait]
pub trait OnceStore: Send + Sync {
    /// The request of that name, if it was made since then.
    async fn made_request(
        &self,
        name: &RequestName,
        since: Timestamp,
    ) -> Result<Option<MadeRequest>, StoreError>;

    /// Adds a key as [`KeyStore::add_key`](super::KeyStore::add_key) does, with the note that this
    /// request made it. If the request was made before, nothing is done, and what it made is told.
    async fn add_key_once(
        &self,
        key: &StoredKey,
        audit: &AuditEntry,
        claim: &Claim,
    ) -> Result<Option<MadeRequest>, StoreError>;

    /// Forgets requests that were made before then; says how many.
    async fn forget_requests(&self, before: Timestamp) -> Result<u64, StoreError>;
}
