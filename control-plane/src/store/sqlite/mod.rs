//! `SQLite`: one file, one writer.
//!
//! Writes go through one connection, in `BEGIN IMMEDIATE` transactions: they queue here instead
//! of failing with `SQLITE_BUSY`, and a transaction that reads before it writes cannot be
//! overtaken. Reads have connections of their own and, with the write-ahead log, wait for nobody.

mod audit;
pub mod backup;
mod chain;
mod credentials;
mod feed;
mod jobs;
mod keys;
mod once;
pub mod schema;
mod settings;
mod totp;
mod usage;

#[cfg(test)]
mod tampering_tests;
#[cfg(test)]
mod tests;

#[cfg(test)]
pub(super) use keys::LOOK_UP;

use sqlx::{
    Connection, Sqlite, SqlitePool, Transaction,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use std::{path::Path, time::Duration};
use tokio::time::Instant;

use super::{OpenError, StoreError, news::News, write_state::WriteState};
use crate::metrics;

/// How long to wait for another process that writes to the same file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Pages in the write-ahead log (16 MB) before they are moved to the file, which waits for the disk
/// once more. `SQLite`'s own 1000 are less than two of the largest transactions; with more of them a
/// page of an index that several have changed is moved once. What is acknowledged is in the log in
/// any case.
const PAGES_BEFORE_CHECKPOINT: &str = "4000";
/// Reads take some 50 µs each; a few connections are plenty.
const READERS: u32 = 4;
/// How long a read may wait for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);

/// The store on a `SQLite` file.
pub struct SqliteStore {
    writer: SqlitePool,
    readers: SqlitePool,
    writes: WriteState,
    news: News,
}

pub(crate) fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        // An acknowledged change survives a power cut.
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
}

/// Connections that can be given out. `SQLite` ends a transaction by itself when the disk is full, say;
/// sqlx then still counts it as open, and would begin no other one on this connection, ever.
///
/// One that comes back has been asked by sqlx, after the rollback of what was dropped; a file needs not
/// be asked again when it is next given out.
fn pool_options() -> SqlitePoolOptions {
    SqlitePoolOptions::new().min_connections(1).test_before_acquire(false).before_acquire(
        |connection, _| Box::pin(std::future::ready(Ok(!connection.is_in_transaction()))),
    )
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
        let writer = pool_options()
            .max_connections(1)
            .acquire_timeout(BUSY_TIMEOUT)
            .connect_with(options(path).pragma("wal_autocheckpoint", PAGES_BEFORE_CHECKPOINT))
            .await
            .map_err(unreachable)?;
        schema::require_current(&writer, &url).await?;
        let readers = pool_options()
            .max_connections(READERS)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_with(options(path).pragma("query_only", "ON"))
            .await
            .map_err(unreachable)?;

        let news = News::new(feed::position(&readers).await?);
        Ok(Self { writer, readers, writes: WriteState::default(), news })
    }

    async fn begin(&self) -> Result<Transaction<'static, Sqlite>, StoreError> {
        let asked = Instant::now();
        let transaction = self.writer.begin_with("BEGIN IMMEDIATE").await?;
        ::metrics::histogram!(metrics::DATABASE_BEGIN).record(asked.elapsed());
        Ok(transaction)
    }

    /// Ends a unit of work; what was written is durable then.
    async fn finish(&self, transaction: Transaction<'static, Sqlite>) -> Result<(), StoreError> {
        transaction.commit().await?;
        self.writes.succeeded();
        Ok(())
    }
}
