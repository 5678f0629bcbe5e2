//! Second factors of admin keys.

use async_trait::async_trait;
use jiff::Timestamp;
use key_policy::KeyId;

use super::StoreError;
use crate::{
    audit::AuditEntry,
    keys::digest::SecretName,
    totp::{
        RecoveryDigest,
        attempts::{Attempts, TooMany},
    },
};

/// A factor's own name, by which keys share it.
pub type FactorId = [u8; 16];

/// A factor's secret as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedSecret {
    /// What it was sealed to.
    pub sealed: Vec<u8>,
    /// The secret key that it was sealed under.
    pub with: SecretName,
}

/// A factor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredFactor {
    /// Its name.
    pub factor_id: FactorId,
    /// Its secret.
    pub sealed: SealedSecret,
    /// When it was drawn.
    pub enrolled_at: Timestamp,
    /// Since when it is in force.
    pub confirmed_at: Option<Timestamp>,
    /// The codes that were tried.
    pub attempts: Attempts,
    /// Recovery codes that are left.
    pub recovery_codes: u32,
}

impl StoredFactor {
    /// Whether it is in force.
    #[must_use]
    pub fn is_confirmed(&self) -> bool {
        self.confirmed_at.is_some()
    }
}

/// A factor that is to wait until it is confirmed.
#[derive(Clone, Debug)]
pub struct NewFactor {
    /// Its name.
    pub factor_id: FactorId,
    /// Its secret.
    pub sealed: SealedSecret,
    /// When it was drawn.
    pub enrolled_at: Timestamp,
    /// Its recovery codes.
    pub recovery: Vec<RecoveryDigest>,
}

/// What came of trying a code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// It may be looked at; it is counted.
    Counted(StoredFactor),
    /// Not before some time has passed.
    TooMany(TooMany),
    /// The key has no factor.
    NoFactor,
}

/// What was taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// A factor that was in force.
    InForce,
    /// One that waited to be confirmed.
    Pending,
    /// Nothing.
    Nothing,
}

/// The audit entries of a removal: which one is written is found out in its transaction.
#[derive(Clone, Debug)]
pub struct RemovalEntries {
    /// Where the factor was in force.
    pub in_force: AuditEntry,
    /// Where it waited to be confirmed.
    pub pending: AuditEntry,
}

impl RemovalEntries {
    /// The one of what was taken away.
    #[must_use]
    pub fn of(&self, removal: Removal) -> Option<&AuditEntry> {
        match removal {
            Removal::InForce => Some(&self.in_force),
            Removal::Pending => Some(&self.pending),
            Removal::Nothing => None,
        }
    }
}

/// Second factors.
#[async_trait]
pub trait TotpStore: Send + Sync {
    /// The key's factor.
    async fn factor(&self, key_id: KeyId) -> Result<Option<StoredFactor>, StoreError>;

    /// Every key that has one, with it, in the order of the keys.
    async fn factors(&self) -> Result<Vec<(KeyId, StoredFactor)>, StoreError>;

    /// Gives the key a factor that waits to be confirmed, in the place of one that waits, with the
    /// audit entry. Says whether it did: one in force stays.
    async fn begin_factor(
        &self,
        key_id: KeyId,
        new: &NewFactor,
        audit: &AuditEntry,
    ) -> Result<bool, StoreError>;

    /// Counts a code that is about to be looked at, as [`Attempts::take`] says.
    async fn take_attempt(&self, key_id: KeyId, now: Timestamp) -> Result<Attempt, StoreError>;

    /// Puts a factor in force that waits, with the audit entry; the code of `step` is used up.
    /// Says whether it waited.
    async fn confirm_factor(
        &self,
        factor_id: &FactorId,
        step: u64,
        at: Timestamp,
        audit: &AuditEntry,
    ) -> Result<bool, StoreError>;

    /// Uses up the code of a step, and forgets the wrong ones. Says whether it was good still:
    /// only steps later than the last one are.
    async fn accept_step(&self, factor_id: &FactorId, step: u64) -> Result<bool, StoreError>;

    /// Uses up a recovery code, with the audit entry, and forgets the wrong ones. Says whether
    /// there was such a code.
    async fn accept_recovery(
        &self,
        factor_id: &FactorId,
        digest: &RecoveryDigest,
        audit: &AuditEntry,
    ) -> Result<bool, StoreError>;

    /// Takes the key's factor away, also from the keys that share it, with the audit entry; one in
    /// force not if `only_pending`.
    async fn remove_factor(
        &self,
        key_id: KeyId,
        only_pending: bool,
        audit: &RemovalEntries,
    ) -> Result<Removal, StoreError>;

    /// Factors that are sealed under another secret key, each with one of its keys.
    async fn factors_sealed_otherwise(
        &self,
        current: &SecretName,
    ) -> Result<Vec<(KeyId, StoredFactor)>, StoreError>;

    /// Seals a factor's secret anew, if it is still sealed as it was. Says whether it was.
    async fn reseal_factor(
        &self,
        factor_id: &FactorId,
        from: &SealedSecret,
        to: &SealedSecret,
    ) -> Result<bool, StoreError>;
}
