//! Copies of a `SQLite` database.

use sqlx::{
    Connection, Executor, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode},
};
use std::{path::Path, time::Duration};

use super::{SqliteStore, StoreError, audit, options};
use crate::{audit::AuditEntry, store::backup::BackupStore};

/// Copies the database as it is at one moment, while others write to it. `to` must be an empty
/// file, or none.
///
/// # Errors
/// When the database cannot be read, or the copy not written.
pub async fn copy(from: &Path, to: &Path) -> Result<(), StoreError> {
    let mut connection = SqliteConnection::connect_with(&options(from)).await?;
    let to = to.to_str().ok_or_else(|| StoreError::Corrupt("the path is no text".to_owned()))?;
    sqlx::query("VACUUM INTO ?").bind(to).execute(&mut connection).await?;
    connection.close().await?;
    Ok(())
}

/// As one file, without a write-ahead log beside it.
fn single_file(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Delete)
        .busy_timeout(Duration::ZERO)
}

/// Looks at every page and index; says what is wrong. Leaves a single file.
///
/// # Errors
/// When it is no database at all.
pub async fn integrity(path: &Path) -> Result<Option<String>, StoreError> {
    let mut connection = SqliteConnection::connect_with(&single_file(path)).await?;
    let found: Vec<String> =
        sqlx::query_scalar("PRAGMA integrity_check(10)").fetch_all(&mut connection).await?;
    connection.close().await?;
    Ok(if found == ["ok"] { None } else { Some(found.join("; ")) })
}

/// A database that nobody else has open.
pub struct Held(SqliteConnection);

/// Takes the database for itself, as a single file; none, when others have it open. Leaving the
/// write-ahead log behind takes the same lock as every connection has, so nobody can be overlooked.
///
/// # Errors
/// When it cannot be read as a database.
pub async fn hold(path: &Path) -> Result<Option<Held>, StoreError> {
    let opened = async {
        let mut connection = SqliteConnection::connect_with(&single_file(path)).await?;
        connection.execute("BEGIN EXCLUSIVE").await?;
        Ok(Held(connection))
    };
    match opened.await {
        Ok(held) => Ok(Some(held)),
        Err(sqlx::Error::Database(error)) if is_busy(error.code().as_deref()) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// `SQLITE_BUSY` and its kin: the low byte is 5.
fn is_busy(code: Option<&str>) -> bool {
    code.and_then(|code| code.parse::<u32>().ok()).is_some_and(|code| code & 0xff == 5)
}

impl Held {
    /// Whether there is nothing in it that could be missed: no keys, and no audit entries.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn is_empty(&mut self) -> Result<bool, StoreError> {
        let tables: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM sqlite_schema WHERE name IN ('api_keys', 'api_key_audit_log')",
        )
        .fetch_one(&mut self.0)
        .await?;
        if tables < 2 {
            let any: i64 = sqlx::query_scalar("SELECT count(*) FROM sqlite_schema")
                .fetch_one(&mut self.0)
                .await?;
            return Ok(any == 0);
        }
        let rows: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM api_keys) OR EXISTS (SELECT 1 FROM api_key_audit_log)",
        )
        .fetch_one(&mut self.0)
        .await?;
        Ok(!rows)
    }

    /// Lets go of it.
    pub async fn release(self) {
        // It ends with the connection, one way or the other.
        let _ = self.0.close().await;
    }
}

impl SqliteStore {
    async fn try_begin_anew(&self, entry: &AuditEntry) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        sqlx::query(
            "UPDATE settings SET value = lower(hex(randomblob(16))) WHERE name = 'feed_epoch'",
        )
        .execute(&mut *transaction)
        .await?;
        audit::insert(&mut transaction, std::slice::from_ref(entry)).await?;
        self.finish(transaction).await
    }
}

#[async_trait::async_trait]
impl BackupStore for SqliteStore {
    async fn begin_anew(&self, audit: &AuditEntry) -> Result<(), StoreError> {
        self.writes.noted(self.try_begin_anew(audit).await)
    }
}
