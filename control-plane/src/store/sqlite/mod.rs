//! `SQLite`: one file, one writer.
//!
//! Writes go through one connection, in `BEGIN IMMEDIATE` transactions: they queue here instead
//! of failing with `SQLITE_BUSY`, and a transaction that reads before it writes cannot be
//! overtaken. Reads have connections of their own and, with the write-ahead log, wait for nobody.

mod audit;
mod chain;
mod credentials;
mod feed;
mod keys;
pub mod schema;
mod settings;

#[cfg(test)]
mod tampering_tests;
#[cfg(test)]
mod tests;

use edge_protocol::Position;
use sqlx::{
    Sqlite, SqlitePool, Transaction,
    error::DatabaseError,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use std::{
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::sync::watch;

use super::{OpenError, StoreError};

/// How long to wait for another process that writes to the same file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Reads take some 50 µs each; a few connections are plenty.
const READERS: u32 = 4;
/// How long a read may wait for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);

/// The store on a `SQLite` file.
pub struct SqliteStore {
    writer: SqlitePool,
    readers: SqlitePool,
    /// The feed's epoch when it was last looked at; answers take it from their own snapshot.
    epoch: Mutex<String>,
    writes_fail: AtomicBool,
    news: watch::Sender<u64>,
}

pub(super) fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        // An acknowledged change survives a power cut.
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
}

pub(super) fn display(path: &Path) -> String {
    format!("sqlite://{}", path.display())
}

impl SqliteStore {
    /// Opens the file, which must be there with its tables up to date.
    ///
    /// # Errors
    /// As [`OpenError`] says.
    pub async fn open(path: &Path) -> Result<Self, OpenError> {
        let url = display(path);
        if !path.exists() {
            return Err(OpenError::Missing(url));
        }
        let unreachable = |source| OpenError::Unreachable { url: url.clone(), source };
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .min_connections(1)
            .acquire_timeout(BUSY_TIMEOUT)
            .connect_with(options(path))
            .await
            .map_err(unreachable)?;
        schema::require_current(&writer, &url).await?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .min_connections(1)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_with(options(path).pragma("query_only", "ON"))
            .await
            .map_err(unreachable)?;

        let Position { epoch, sequence } = feed::position(&readers).await?;
        let (news, _) = watch::channel(sequence);
        let epoch = Mutex::new(epoch);
        Ok(Self { writer, readers, epoch, writes_fail: AtomicBool::new(false), news })
    }

    async fn begin(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        Ok(self.writer.begin_with("BEGIN IMMEDIATE").await?)
    }

    /// Ends a unit of work; what was written is durable then.
    async fn finish(&self, transaction: Transaction<'static, Sqlite>) -> Result<(), StoreError> {
        transaction.commit().await?;
        self.writes_fail.store(false, Ordering::Relaxed);
        Ok(())
    }

    /// Keeps in mind that a write failed. That a key is already there is no failure of the
    /// database.
    fn noted<T>(&self, written: Result<T, StoreError>) -> Result<T, StoreError> {
        if let Err(StoreError::Database(error)) = &written
            && !error.as_database_error().is_some_and(DatabaseError::is_unique_violation)
        {
            self.writes_fail.store(true, Ordering::Relaxed);
        }
        written
    }

    /// Tells those who watch, after a commit.
    fn publish(&self, sequence: u64) {
        self.news.send_if_modified(|known| {
            let news = sequence > *known;
            if news {
                *known = sequence;
            }
            news
        });
    }
}
