//! Keys: what is read of them, and what can be done with them.

use async_trait::async_trait;
use edge_protocol::{Position, Scope};
use jiff::Timestamp;
use key_policy::KeyId;
use std::collections::HashMap;

use super::{
    StoreError,
    key_filter::KeyQuery,
    once::{Claim, MadeRequest},
    pools::KeyCounts,
};
use crate::{
    audit::AuditEntry,
    keys::{Key, StoredKey, digest::LookupDigest},
};

/// Keys' rows, and where the feed stood when they were read.
#[derive(Clone, Debug)]
pub struct Lookup {
    /// The feed's position, of the same snapshot as the rows: every change up to it is in the rows,
    /// no later one is.
    pub as_of: Position,
    /// The keys that are there. A row that cannot be right keeps nobody from the others.
    pub found: HashMap<LookupDigest, Result<StoredKey, StoreError>>,
}

impl Lookup {
    /// The key of the first of these digests that there is a key of.
    ///
    /// # Errors
    /// When its row cannot be right.
    pub fn first_of(&self, digests: &[LookupDigest]) -> Result<Option<StoredKey>, StoreError> {
        digests.iter().find_map(|digest| self.found.get(digest)).cloned().transpose()
    }
}

/// A condition on whatever may end the use of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RevokeGuard {
    /// None: the caller can make new admin keys by other means.
    Unconditional,
    /// One usable admin key must remain.
    KeepOneAdmin {
        /// Whether keys of the test environment are usable here.
        test_keys: bool,
    },
}

impl RevokeGuard {
    /// Whether another usable admin key must be there for this one to become what it shall be
    /// (nothing: it ends), and, if so, whether test keys count.
    #[must_use]
    pub fn wants_another_admin(
        self,
        before: &Key,
        after: Option<&Key>,
        at: Timestamp,
    ) -> Option<bool> {
        let Self::KeepOneAdmin { test_keys } = self else { return None };
        let is_admin = |key: &Key| key.scope == Scope::Admin && key.is_usable(at);
        (is_admin(before) && !after.is_some_and(is_admin)).then_some(test_keys)
    }
}

/// What came of revoking.
#[derive(Clone, Debug, PartialEq)]
pub enum Revocation {
    /// The key is revoked now.
    Revoked(Key),
    /// It already was; nothing was changed or logged.
    AlreadyRevoked(Key),
    /// There is no such key.
    NotFound,
    /// It is the last usable admin key, and was to be kept.
    LastAdmin,
}

/// What revoking takes.
#[derive(Clone, Debug)]
pub struct RevokeRequest {
    /// Which key.
    pub key_id: KeyId,
    /// When.
    pub at: Timestamp,
    /// Why.
    pub reason: Option<String>,
    /// On what condition.
    pub guard: RevokeGuard,
}

/// What changing a key takes.
#[derive(Clone, Debug)]
pub struct UpdateRequest {
    /// The key as it shall be. `version` is the one that this was decided on; name, description,
    /// owner, scope, addresses, limit, metadata, expiry and whether it is active are set.
    pub key: Key,
    /// When.
    pub at: Timestamp,
    /// On what condition.
    pub guard: RevokeGuard,
}

/// What came of changing a key.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "one at a time, and taken apart where it arrives")]
pub enum Update {
    /// It is changed, and of the next version.
    Updated(Key),
    /// It is of another version by now; nothing was changed or logged.
    Outdated,
    /// It is the last usable admin key, and was to be kept.
    LastAdmin,
}

/// What rotating a key takes.
#[derive(Clone, Debug)]
pub struct RotateRequest {
    /// Whose place is taken.
    pub key_id: KeyId,
    /// The version of it that this was decided on.
    pub version: u64,
    /// The key that takes it; `supersedes` names the other.
    pub successor: StoredKey,
    /// When the other one ends.
    pub ends_at: Timestamp,
    /// On what condition. The successor is no other admin key in that sense: nobody has it yet.
    pub guard: RevokeGuard,
    /// The request that is noted with it, if it is one that is made once.
    pub claim: Option<Claim>,
}

/// What came of rotating.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "one at a time, and taken apart where it arrives")]
pub enum Rotation {
    /// The successor is there; this is the key whose place it has taken.
    Rotated(Key),
    /// The key is of another version by now; nothing was changed or logged.
    Outdated,
    /// It is the last usable admin key and would end at once, and was to be kept.
    LastAdmin,
    /// The request was made before, and made this; nothing was changed or logged.
    MadeBefore(MadeRequest),
}

/// Keys.
#[async_trait]
pub trait KeyStore: Send + Sync {
    /// Adds a key, with its audit entry and its change.
    async fn add_key(&self, key: &StoredKey, audit: &AuditEntry) -> Result<(), StoreError>;

    /// Revokes a key, with its audit entry and its change.
    async fn revoke_key(
        &self,
        request: &RevokeRequest,
        audit: &AuditEntry,
    ) -> Result<Revocation, StoreError>;

    /// Changes a key, with its audit entry and its change, while it is of the version that the
    /// change was decided on, and not revoked.
    async fn update_key(
        &self,
        request: &UpdateRequest,
        audit: &AuditEntry,
    ) -> Result<Update, StoreError>;

    /// Adds a key in the place of another one, which gets an end: with their audit entries and
    /// their changes, while the other one is of the version that this was decided on, and is
    /// neither revoked nor superseded. A claim is noted in the same transaction; if its request was
    /// made before, nothing is done, whatever has become of the key since.
    async fn rotate_key(
        &self,
        request: &RotateRequest,
        audit: &[AuditEntry],
    ) -> Result<Rotation, StoreError>;

    /// The key of that public name.
    async fn key(&self, key_id: KeyId) -> Result<Option<Key>, StoreError>;

    /// The keys of these digests, in one snapshot: one that moves from one digest to another
    /// meanwhile is found all the same. An index look-up each.
    async fn look_up(&self, digests: &[LookupDigest]) -> Result<Lookup, StoreError>;

    /// Keys, newest first.
    async fn keys(&self, query: &KeyQuery) -> Result<Vec<Key>, StoreError>;

    /// How many keys there are of each state at `now`; those that end before `soon` count as ending.
    /// Looks at every key, so it is not for every request.
    async fn count_keys(&self, now: Timestamp, soon: Timestamp) -> Result<KeyCounts, StoreError>;

    /// Sets `last_used_at` where that moves it forward.
    async fn touch(&self, used: &[(KeyId, Timestamp)]) -> Result<(), StoreError>;
}
