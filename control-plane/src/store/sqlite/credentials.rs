//! How keys are recognised, on `SQLite`.

use async_trait::async_trait;
use jiff::Timestamp;
use key_policy::KeyId;

use super::{SqliteStore, StoreError, audit};
use crate::{
    audit::AuditEntry,
    keys::{
        digest::{LookupDigest, SecretName},
        hashing::SecretHash,
    },
    store::{
        credentials::{CredentialStore, LookupPlace, SECRET_NAME, SecretUse},
        row::unsigned,
    },
};

impl SqliteStore {
    async fn try_rename(
        &self,
        from: &SecretName,
        to: &SecretName,
        entry: &AuditEntry,
    ) -> Result<bool, StoreError> {
        let mut transaction = self.begin().await?;
        let done = sqlx::query("UPDATE settings SET value = ? WHERE name = ? AND value = ?")
            .bind(to.to_string())
            .bind(SECRET_NAME)
            .bind(from.to_string())
            .execute(&mut *transaction)
            .await?;
        if done.rows_affected() == 0 {
            return Ok(false);
        }
        audit::insert(&mut transaction, std::slice::from_ref(entry)).await?;
        self.finish(transaction).await?;
        Ok(true)
    }
}

#[async_trait]
impl CredentialStore for SqliteStore {
    async fn move_lookup(
        &self,
        key_id: KeyId,
        from: &LookupDigest,
        to: &LookupPlace,
    ) -> Result<bool, StoreError> {
        let secret = to.secret.to_string();
        let written = sqlx::query(
            "UPDATE api_keys SET lookup = ?, lookup_secret = ?
             WHERE key_id = ? AND lookup = ?
               AND EXISTS (SELECT 1 FROM settings WHERE name = ? AND value = ?)",
        )
        .bind(to.digest.as_slice())
        .bind(&secret)
        .bind(key_id.to_string())
        .bind(from.as_slice())
        .bind(SECRET_NAME)
        .bind(&secret)
        .execute(&self.writer)
        .await;
        Ok(self.writes.settled(written.map(|done| done.rows_affected()))? == 1)
    }

    async fn replace_hash(
        &self,
        key_id: KeyId,
        old: &SecretHash,
        new: &SecretHash,
    ) -> Result<bool, StoreError> {
        let written = sqlx::query(
            "UPDATE api_keys SET hash_algorithm = ?1, hash_iterations = ?2, hash_salt = ?3, hash = ?4
             WHERE key_id = ?5 AND hash = ?6 AND hash_iterations < ?2",
        )
        .bind(new.recipe.algorithm().as_str())
        .bind(new.recipe.iterations())
        .bind(new.recipe.salt().as_slice())
        .bind(new.digest.as_slice())
        .bind(key_id.to_string())
        .bind(old.digest.as_slice())
        .execute(&self.writer)
        .await;
        Ok(self.writes.settled(written.map(|done| done.rows_affected()))? == 1)
    }

    async fn secret_use(&self, now: Timestamp) -> Result<Vec<SecretUse>, StoreError> {
        let rows: Vec<(String, i64, i64)> = sqlx::query_as(
            "SELECT lookup_secret, count(*),
                    count(*) FILTER (WHERE is_active = 1
                                       AND (expires_at_ms IS NULL OR expires_at_ms > ?))
             FROM api_keys GROUP BY lookup_secret ORDER BY lookup_secret",
        )
        .bind(now.as_millisecond())
        .fetch_all(&self.readers)
        .await?;
        rows.into_iter()
            .map(|(secret, keys, usable)| {
                let (keys, usable) = (unsigned(keys, "count")?, unsigned(usable, "count")?);
                Ok(SecretUse { secret: SecretName::from_stored(&secret), keys, usable })
            })
            .collect()
    }

    async fn rename_secret(
        &self,
        from: &SecretName,
        to: &SecretName,
        audit: &AuditEntry,
    ) -> Result<bool, StoreError> {
        self.writes.noted(self.try_rename(from, to, audit).await)
    }
}
