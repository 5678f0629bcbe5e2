//! Second factors on `SQLite`.

use async_trait::async_trait;
use jiff::Timestamp;
use key_policy::KeyId;
use sqlx::SqliteConnection;

use super::{SqliteStore, StoreError, audit};
use crate::{
    audit::AuditEntry,
    keys::digest::SecretName,
    store::{
        row::signed,
        totp::{
            Attempt, FactorId, NewFactor, Removal, RemovalEntries, SealedSecret, StoredFactor,
            TotpStore,
        },
        totp_row::{factors, read, read_with_key},
    },
    totp::RecoveryDigest,
};

async fn find(
    connection: &mut SqliteConnection,
    key_id: KeyId,
) -> Result<Option<StoredFactor>, StoreError> {
    sqlx::query(concat!(factors!(), "WHERE totp_keys.key_id = ?"))
        .bind(key_id.to_string())
        .fetch_optional(connection)
        .await?
        .as_ref()
        .map(read)
        .transpose()
}

/// With its recovery codes, and from the keys that share it.
async fn delete(connection: &mut SqliteConnection, id: &FactorId) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM totp_factors WHERE factor_id = ?")
        .bind(id.as_slice())
        .execute(connection)
        .await?;
    Ok(())
}

/// Lets the key that takes the place of another share its factor, in the transaction in which it
/// does. One that waits to be confirmed is not shared: whoever drew it has shown no code yet.
pub(super) async fn share(
    connection: &mut SqliteConnection,
    from: KeyId,
    to: KeyId,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO totp_keys (key_id, factor_id)
         SELECT ?, totp_keys.factor_id FROM totp_keys
         JOIN totp_factors ON totp_factors.factor_id = totp_keys.factor_id
         WHERE totp_keys.key_id = ? AND totp_factors.confirmed_at_ms IS NOT NULL",
    )
    .bind(to.to_string())
    .bind(from.to_string())
    .execute(connection)
    .await?;
    Ok(())
}

async fn insert(
    connection: &mut SqliteConnection,
    key_id: KeyId,
    new: &NewFactor,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO totp_factors (factor_id, sealed, sealed_with, enrolled_at_ms)
         VALUES (?, ?, ?, ?)",
    )
    .bind(new.factor_id.as_slice())
    .bind(&new.sealed.sealed)
    .bind(new.sealed.with.to_string())
    .bind(new.enrolled_at.as_millisecond())
    .execute(&mut *connection)
    .await?;
    sqlx::query("INSERT INTO totp_keys (key_id, factor_id) VALUES (?, ?)")
        .bind(key_id.to_string())
        .bind(new.factor_id.as_slice())
        .execute(&mut *connection)
        .await?;
    for digest in &new.recovery {
        sqlx::query("INSERT INTO totp_recovery_codes (factor_id, digest) VALUES (?, ?)")
            .bind(new.factor_id.as_slice())
            .bind(digest.as_slice())
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

impl SqliteStore {
    async fn try_begin(
        &self,
        key_id: KeyId,
        new: &NewFactor,
        entry: &AuditEntry,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.begin().await?;
        if let Some(old) = find(&mut transaction, key_id).await? {
            if old.is_confirmed() {
                return Ok(false);
            }
            delete(&mut transaction, &old.factor_id).await?;
        }
        insert(&mut transaction, key_id, new).await?;
        audit::insert(&mut transaction, std::slice::from_ref(entry)).await?;
        self.finish(transaction).await?;
        Ok(true)
    }

    async fn try_take(&self, key_id: KeyId, now: Timestamp) -> Result<Attempt, StoreError> {
        let mut transaction = self.begin().await?;
        let Some(mut factor) = find(&mut transaction, key_id).await? else {
            return Ok(Attempt::NoFactor);
        };
        factor.attempts = match factor.attempts.take(now) {
            Ok(attempts) => attempts,
            Err(too_many) => return Ok(Attempt::TooMany(too_many)),
        };
        sqlx::query(
            "UPDATE totp_factors SET attempts_from_ms = ?, attempts = ?, failed_in_a_row = ?
             WHERE factor_id = ?",
        )
        .bind(factor.attempts.from.as_millisecond())
        .bind(factor.attempts.in_window)
        .bind(factor.attempts.in_a_row)
        .bind(factor.factor_id.as_slice())
        .execute(&mut *transaction)
        .await?;
        self.finish(transaction).await?;
        Ok(Attempt::Counted(factor))
    }

    async fn try_confirm(
        &self,
        factor_id: &FactorId,
        step: u64,
        at: Timestamp,
        entry: &AuditEntry,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.begin().await?;
        let done = sqlx::query(
            "UPDATE totp_factors
             SET confirmed_at_ms = ?, last_step = ?, attempts = 0, failed_in_a_row = 0
             WHERE factor_id = ? AND confirmed_at_ms IS NULL",
        )
        .bind(at.as_millisecond())
        .bind(signed(step, "step")?)
        .bind(factor_id.as_slice())
        .execute(&mut *transaction)
        .await?;
        if done.rows_affected() == 0 {
            return Ok(false);
        }
        audit::insert(&mut transaction, std::slice::from_ref(entry)).await?;
        self.finish(transaction).await?;
        Ok(true)
    }

    async fn try_accept_step(&self, factor_id: &FactorId, step: u64) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "UPDATE totp_factors SET last_step = ?1, attempts = 0, failed_in_a_row = 0
             WHERE factor_id = ?2 AND confirmed_at_ms IS NOT NULL AND last_step < ?1",
        )
        .bind(signed(step, "step")?)
        .bind(factor_id.as_slice())
        .execute(&self.writer)
        .await;
        Ok(self.writes.settled(done.map(|done| done.rows_affected()))? == 1)
    }

    async fn try_accept_recovery(
        &self,
        factor_id: &FactorId,
        digest: &RecoveryDigest,
        entry: &AuditEntry,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.begin().await?;
        let used = sqlx::query(
            "DELETE FROM totp_recovery_codes WHERE factor_id = ?1 AND digest = ?2 AND EXISTS
                 (SELECT 1 FROM totp_factors WHERE factor_id = ?1 AND confirmed_at_ms IS NOT NULL)",
        )
        .bind(factor_id.as_slice())
        .bind(digest.as_slice())
        .execute(&mut *transaction)
        .await?;
        if used.rows_affected() == 0 {
            return Ok(false);
        }
        sqlx::query(
            "UPDATE totp_factors SET attempts = 0, failed_in_a_row = 0 WHERE factor_id = ?",
        )
        .bind(factor_id.as_slice())
        .execute(&mut *transaction)
        .await?;
        audit::insert(&mut transaction, std::slice::from_ref(entry)).await?;
        self.finish(transaction).await?;
        Ok(true)
    }

    async fn try_remove(
        &self,
        key_id: KeyId,
        only_pending: bool,
        entries: &RemovalEntries,
    ) -> Result<Removal, StoreError> {
        let mut transaction = self.begin().await?;
        let Some(factor) = find(&mut transaction, key_id).await? else {
            return Ok(Removal::Nothing);
        };
        let in_force = factor.is_confirmed();
        if in_force && only_pending {
            return Ok(Removal::Nothing);
        }
        delete(&mut transaction, &factor.factor_id).await?;
        let removal = if in_force { Removal::InForce } else { Removal::Pending };
        if let Some(entry) = entries.of(removal) {
            audit::insert(&mut transaction, std::slice::from_ref(entry)).await?;
        }
        self.finish(transaction).await?;
        Ok(removal)
    }

    async fn try_reseal(
        &self,
        factor_id: &FactorId,
        from: &SealedSecret,
        to: &SealedSecret,
    ) -> Result<bool, StoreError> {
        let done = sqlx::query(
            "UPDATE totp_factors SET sealed = ?, sealed_with = ? WHERE factor_id = ? AND sealed = ?",
        )
        .bind(&to.sealed)
        .bind(to.with.to_string())
        .bind(factor_id.as_slice())
        .bind(&from.sealed)
        .execute(&self.writer)
        .await;
        Ok(self.writes.settled(done.map(|done| done.rows_affected()))? == 1)
    }
}

#[async_trait]
impl TotpStore for SqliteStore {
    async fn factor(&self, key_id: KeyId) -> Result<Option<StoredFactor>, StoreError> {
        find(&mut *self.readers.acquire().await?, key_id).await
    }

    async fn factors(&self) -> Result<Vec<(KeyId, StoredFactor)>, StoreError> {
        let rows = sqlx::query(concat!(factors!(), "ORDER BY totp_keys.key_id"));
        rows.fetch_all(&self.readers).await?.iter().map(read_with_key).collect()
    }

    async fn begin_factor(
        &self,
        key_id: KeyId,
        new: &NewFactor,
        audit: &AuditEntry,
    ) -> Result<bool, StoreError> {
        self.writes.noted(self.try_begin(key_id, new, audit).await)
    }

    async fn take_attempt(&self, key_id: KeyId, now: Timestamp) -> Result<Attempt, StoreError> {
        self.writes.noted(self.try_take(key_id, now).await)
    }

    async fn confirm_factor(
        &self,
        factor_id: &FactorId,
        step: u64,
        at: Timestamp,
        audit: &AuditEntry,
    ) -> Result<bool, StoreError> {
        self.writes.noted(self.try_confirm(factor_id, step, at, audit).await)
    }

    async fn accept_step(&self, factor_id: &FactorId, step: u64) -> Result<bool, StoreError> {
        self.try_accept_step(factor_id, step).await
    }

    async fn accept_recovery(
        &self,
        factor_id: &FactorId,
        digest: &RecoveryDigest,
        audit: &AuditEntry,
    ) -> Result<bool, StoreError> {
        self.writes.noted(self.try_accept_recovery(factor_id, digest, audit).await)
    }

    async fn remove_factor(
        &self,
        key_id: KeyId,
        only_pending: bool,
        audit: &RemovalEntries,
    ) -> Result<Removal, StoreError> {
        self.writes.noted(self.try_remove(key_id, only_pending, audit).await)
    }

    async fn factors_sealed_otherwise(
        &self,
        current: &SecretName,
    ) -> Result<Vec<(KeyId, StoredFactor)>, StoreError> {
        let rows = sqlx::query(concat!(
            factors!(),
            "WHERE totp_factors.sealed_with <> ? AND totp_keys.key_id =
                 (SELECT min(key_id) FROM totp_keys AS all_keys
                  WHERE all_keys.factor_id = totp_factors.factor_id)"
        ));
        let rows = rows.bind(current.to_string()).fetch_all(&self.readers).await?;
        rows.iter().map(read_with_key).collect()
    }

    async fn reseal_factor(
        &self,
        factor_id: &FactorId,
        from: &SealedSecret,
        to: &SealedSecret,
    ) -> Result<bool, StoreError> {
        self.try_reseal(factor_id, from, to).await
    }
}
