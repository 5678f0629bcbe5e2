//! The second factor of admin keys: a time-based one-time code (TOTP, RFC 6238), or a recovery
//! code in its place. A key that has one needs it for every change.
//!
//! The factor's secret must be readable again to check a code, so it is sealed under the
//! deployment's secret key; recovery codes are kept as keyed digests. Each code is good once.

pub mod attempts;
mod code;
mod recovery;
mod time_code;

pub use code::PresentedCode;
pub use recovery::{COUNT as RECOVERY_CODES, RecoveryDigest};
#[cfg(test)]
pub(crate) use time_code::code_at;

use edge_protocol::EventKind;
use jiff::SignedDuration;
use key_policy::KeyId;
use secrecy::SecretString;
use std::sync::Arc;
use zeroize::Zeroizing;

use crate::{
    audit::{Actor, AuditEntry},
    clock::Clock,
    random::{self, Random, RandomError},
    secret_key::{SealError, Secrets},
    store::{
        Store, StoreError,
        totp::{Attempt, FactorId, NewFactor, Removal, RemovalEntries, SealedSecret, StoredFactor},
    },
};
use attempts::TooMany;
use recovery::RecoveryCode;

/// Bytes of a factor's secret: RFC 4226, section 4, recommends 160 bits.
pub const SECRET_BYTES: usize = 20;
/// What a factor's secret is sealed for; its id follows.
const PURPOSE: &[u8] = b"keygate: totp secret, 1";
/// What authenticators show before the key's name.
const ISSUER: &str = "Keygate";

/// Why a second factor was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial {
    /// The key has one, and no code came.
    NoCode,
    /// Changes need one here, and the key has none.
    NotEnrolled,
    /// What came is no code, by its form.
    Malformed,
    /// It is not the code of this time, nor a recovery code.
    Wrong,
    /// It was accepted before.
    Used,
    /// Too many were wrong: only a recovery code is taken.
    Locked,
    /// Too many were tried within a minute.
    TooMany {
        /// How long to wait.
        wait: SignedDuration,
    },
}

impl Denial {
    /// As the audit log has it.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::NoCode => "missing_code",
            Self::NotEnrolled => "not_enrolled",
            Self::Malformed => "malformed_code",
            Self::Wrong => "wrong_code",
            Self::Used => "used_code",
            Self::Locked => "locked",
            Self::TooMany { .. } => "too_many_attempts",
        }
    }
}

/// Why it cannot be told whether a second factor is right.
#[derive(Debug, thiserror::Error)]
pub enum TotpError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No randomness.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// The factor's secret cannot be read.
    #[error(
        "the second factor of key {0} was sealed with a secret key that is not set any more; set \
         that one as KEYGATE_SECRET_KEY_PREVIOUS, or take the factor away: `keygate totp reset {0}`"
    )]
    Unreadable(KeyId),
}

/// Whether a second factor was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// It was.
    Shown,
    /// It was not needed: the key has none that counts.
    NotNeeded,
}

/// What is shown once, to whoever enrols.
pub struct Enrolment {
    /// The secret, in base 32.
    pub secret: SecretString,
    /// The same for a QR code.
    pub uri: SecretString,
    /// The codes that stand in for the authenticator.
    pub recovery_codes: Vec<SecretString>,
}

/// What came of confirming an enrolment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confirmation {
    /// The factor is in force.
    Done,
    /// There is nothing to confirm.
    NothingPending,
    /// The code was not accepted.
    Denied(Denial),
}

/// Enrols, checks and removes second factors.
pub struct SecondFactor {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    secrets: Secrets,
    /// Whether every change needs one.
    pub required: bool,
}

impl SecondFactor {
    /// All that it takes.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        secrets: Secrets,
        required: bool,
    ) -> Self {
        Self { store, clock, random, secrets, required }
    }

    /// Whether this key may change something, given what was presented as its second factor. An
    /// accepted code is used up, whatever becomes of the change.
    ///
    /// # Errors
    /// When it cannot be told.
    pub async fn check(
        &self,
        by: &Actor,
        key_id: KeyId,
        presented: Option<&str>,
    ) -> Result<Result<Proof, Denial>, TotpError> {
        let confirmed = self.store.factor(key_id).await?.filter(StoredFactor::is_confirmed);
        if confirmed.is_none() {
            let needed =
                if self.required { Err(Denial::NotEnrolled) } else { Ok(Proof::NotNeeded) };
            return Ok(needed);
        }
        let Some(presented) = presented else { return Ok(Err(Denial::NoCode)) };
        let Some(code) = PresentedCode::parse(presented) else {
            return Ok(Err(Denial::Malformed));
        };
        let factor = match self.store.take_attempt(key_id, self.clock.now()).await? {
            Attempt::Counted(factor) => factor,
            Attempt::TooMany(TooMany { wait }) => return Ok(Err(Denial::TooMany { wait })),
            // It was taken away a moment ago; the caller may ask again.
            Attempt::NoFactor => return Ok(Err(Denial::Wrong)),
        };
        let secret = self.open(key_id, &factor)?;
        let accepted = match code {
            PresentedCode::Time(code) => self.accept_step(&factor, &secret, &code).await?,
            PresentedCode::Recovery(code) => {
                let entry =
                    self.entry(by, EventKind::TotpRecoveryUsed, key_id, factor.recovery_codes);
                let digest = code.digest(&secret);
                let used = self.store.accept_recovery(&factor.factor_id, &digest, &entry).await?;
                used.then(|| entry.log()).ok_or(Denial::Wrong)
            }
        };
        Ok(accepted.map(|()| Proof::Shown))
    }

    async fn accept_step(
        &self,
        factor: &StoredFactor,
        secret: &[u8; SECRET_BYTES],
        code: &str,
    ) -> Result<Result<(), Denial>, TotpError> {
        if factor.attempts.is_locked() {
            return Ok(Err(Denial::Locked));
        }
        let Some(step) = time_code::step_of(secret, code, self.clock.now()) else {
            return Ok(Err(Denial::Wrong));
        };
        let fresh = self.store.accept_step(&factor.factor_id, step).await?;
        Ok(if fresh { Ok(()) } else { Err(Denial::Used) })
    }

    /// Draws a factor that waits to be confirmed, in the place of one that waits already. None:
    /// the key has one in force.
    ///
    /// # Errors
    /// When the database or the random source fails.
    pub async fn enrol(&self, by: &Actor, key_id: KeyId) -> Result<Option<Enrolment>, TotpError> {
        let random = &*self.random;
        let secret = Zeroizing::new(random::bytes::<SECRET_BYTES>(random)?);
        let factor_id = random::bytes(random)?;
        let codes = (0..RECOVERY_CODES).map(|_| RecoveryCode::draw(random));
        let codes = codes.collect::<Result<Vec<_>, _>>()?;
        let new = NewFactor {
            factor_id,
            sealed: self.seal(key_id, &factor_id, &secret)?,
            enrolled_at: self.clock.now(),
            recovery: codes.iter().map(|code| code.digest(&secret)).collect(),
        };
        let codes_drawn = u32::try_from(new.recovery.len()).unwrap_or(u32::MAX);
        let entry = self.entry(by, EventKind::TotpIssued, key_id, codes_drawn);
        if !self.store.begin_factor(key_id, &new, &entry).await? {
            return Ok(None);
        }
        entry.log();
        let base32 = time_code::base32(&secret);
        // The Key URI Format of authenticators; nothing in it needs escaping.
        let uri = format!(
            "otpauth://totp/{ISSUER}:{key_id}?secret={base32}&issuer={ISSUER}&algorithm=SHA1&digits=6&period={}",
            time_code::STEP_SECONDS
        );
        Ok(Some(Enrolment {
            secret: SecretString::from(base32),
            uri: SecretString::from(uri),
            recovery_codes: codes.iter().map(RecoveryCode::shown).collect(),
        }))
    }

    /// Puts the factor in force that waits, once its holder shows that they have it.
    ///
    /// # Errors
    /// When the database fails, or the secret cannot be read.
    pub async fn confirm(
        &self,
        by: &Actor,
        key_id: KeyId,
        code: &str,
    ) -> Result<Confirmation, TotpError> {
        let waits = self.store.factor(key_id).await?.is_some_and(|it| !it.is_confirmed());
        if !waits {
            return Ok(Confirmation::NothingPending);
        }
        let factor = match self.store.take_attempt(key_id, self.clock.now()).await? {
            Attempt::Counted(factor) if !factor.is_confirmed() => factor,
            Attempt::TooMany(TooMany { wait }) => {
                return Ok(Confirmation::Denied(Denial::TooMany { wait }));
            }
            Attempt::Counted(_) | Attempt::NoFactor => return Ok(Confirmation::NothingPending),
        };
        if factor.attempts.is_locked() {
            return Ok(Confirmation::Denied(Denial::Locked));
        }
        let secret = self.open(key_id, &factor)?;
        let Some(step) = time_code::step_of(&secret, code, self.clock.now()) else {
            return Ok(Confirmation::Denied(Denial::Wrong));
        };
        let entry = self.entry(by, EventKind::TotpEnrolled, key_id, factor.recovery_codes);
        let at = self.clock.now();
        if !self.store.confirm_factor(&factor.factor_id, step, at, &entry).await? {
            return Ok(Confirmation::NothingPending);
        }
        entry.log();
        Ok(Confirmation::Done)
    }

    /// Takes the key's factor away, with that of the keys that share it; without a proof only one
    /// that waits to be confirmed.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn remove(
        &self,
        by: &Actor,
        key_id: KeyId,
        proof: Proof,
    ) -> Result<Removal, StoreError> {
        remove(&*self.store, &*self.clock, by, key_id, proof).await
    }

    /// Seals anew what was sealed under the previous secret key, so that the previous one can be
    /// taken away.
    ///
    /// # Errors
    /// When the database or the random source fails.
    pub async fn reseal(&self) -> Result<(), TotpError> {
        let current = self.secrets.current.name;
        for (key_id, factor) in self.store.factors_sealed_otherwise(&current).await? {
            match self.open(key_id, &factor) {
                Ok(secret) => {
                    let fresh = self.seal(key_id, &factor.factor_id, &secret)?;
                    self.store.reseal_factor(&factor.factor_id, &factor.sealed, &fresh).await?;
                    tracing::info!(%key_id, "its second factor is sealed with the current secret key now");
                }
                Err(error) => tracing::warn!(%error, "a second factor cannot be read"),
            }
        }
        Ok(())
    }

    fn open(
        &self,
        key_id: KeyId,
        factor: &StoredFactor,
    ) -> Result<Zeroizing<[u8; SECRET_BYTES]>, TotpError> {
        let SealedSecret { sealed, with } = &factor.sealed;
        let secret = self.secrets.named(with).ok_or(TotpError::Unreadable(key_id))?;
        let plain = secret.seal.open(&purpose(&factor.factor_id), sealed);
        let plain = plain.map_err(|_| TotpError::Unreadable(key_id))?;
        let secret = plain.as_slice().try_into().map_err(|_| TotpError::Unreadable(key_id))?;
        Ok(Zeroizing::new(secret))
    }

    fn seal(
        &self,
        key_id: KeyId,
        factor_id: &FactorId,
        secret: &[u8; SECRET_BYTES],
    ) -> Result<SealedSecret, TotpError> {
        let current = &self.secrets.current;
        let sealed = current.seal.seal(&purpose(factor_id), secret, &*self.random);
        let sealed = sealed.map_err(|error| match error {
            SealError::Random(error) => TotpError::Random(error),
            SealError::Unreadable => TotpError::Unreadable(key_id),
        })?;
        Ok(SealedSecret { sealed, with: current.name })
    }

    fn entry(&self, by: &Actor, kind: EventKind, key_id: KeyId, codes: u32) -> AuditEntry {
        let left =
            if kind == EventKind::TotpRecoveryUsed { codes.saturating_sub(1) } else { codes };
        let details = format!("recovery_codes={left}");
        AuditEntry::by(by, kind, key_id, self.clock.now(), &details)
    }
}

fn purpose(factor_id: &FactorId) -> Vec<u8> {
    [PURPOSE, factor_id].concat()
}

/// Takes a key's factor away; see [`SecondFactor::remove`]. At the command line no secret key is
/// needed for it.
///
/// # Errors
/// When the database fails.
pub async fn remove(
    store: &dyn Store,
    clock: &dyn Clock,
    by: &Actor,
    key_id: KeyId,
    proof: Proof,
) -> Result<Removal, StoreError> {
    let entry = |details| AuditEntry::by(by, EventKind::TotpDisabled, key_id, clock.now(), details);
    let entries = RemovalEntries { in_force: entry(""), pending: entry("state=pending") };
    let only_pending = proof == Proof::NotNeeded;
    let removal = store.remove_factor(key_id, only_pending, &entries).await?;
    if let Some(entry) = entries.of(removal) {
        entry.log();
    }
    Ok(removal)
}
