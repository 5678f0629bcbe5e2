//! `PostgreSQL`: many control planes on one database.
//!
//! Three pools: one that reads, one that writes, and one connection that hears of changes. A unit of
//! work is a transaction at `READ COMMITTED`, which takes row locks in one order, so that two of them
//! never wait for each other: rows of keys, or those of filters (by name) and of usage (by key and
//! minute), then the end of the audit log, then the end of the feed. What has to be true of other rows
//! (that an admin key is left) is looked at after the end of the log was taken: whoever changes those
//! rows has to come by there too.

mod audit;
pub mod backup;
mod chain;
mod credentials;
mod feed;
mod jobs;
mod kept;
mod keys;
mod once;
pub mod schema;
mod settings;
mod totp;
mod usage;

#[cfg(test)]
mod network_tests;
#[cfg(test)]
mod tampering_tests;
#[cfg(test)]
mod tests;

#[cfg(test)]
pub(super) use keys::LOOK_UP;

use sqlx::{
    Connection, PgConnection, PgPool, Postgres, Transaction,
    pool::PoolConnectionMetadata,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use std::time::Duration;
use tokio::time::Instant;

use self::kept::KeptConnections;
use super::{OpenError, StoreError, ended_after, news::News, write_state::WriteState};
use crate::{config::PostgresConfig, metrics};

/// How long opening the database may take before that counts as failed.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a unit of work waits for a connection. Shorter than the second that `/health` and
/// filters wait for an answer: what is refused in time can be answered.
const ACQUIRE_TIMEOUT: Duration = Duration::from_millis(750);
const _: () = assert!(ACQUIRE_TIMEOUT.as_millis() < 1000, "a filter waits a second");
/// A statement that takes longer is given up by the server. The longest of ours take milliseconds.
const STATEMENT_TIMEOUT: &str = "5s";
/// So does one that waits this long for a lock: whoever has it has stopped.
const LOCK_TIMEOUT: &str = "4s";
/// A transaction of a process that has stopped lets go of its locks after this.
const IDLE_IN_TRANSACTION_TIMEOUT: &str = "10s";
/// A connection is replaced in time, so that addresses and certificates that change are noticed.
const MAX_LIFETIME: Duration = Duration::from_mins(30);
/// One that was let go of in the middle of a statement, since nobody waits for it any more, may take
/// this long to be ready again. A network that swallows what is sent tells nobody, and the system gives
/// up after a quarter of an hour: until then the pool would be without it.
const READY_AGAIN_TIMEOUT: Duration = Duration::from_secs(2);
/// Longer than the server lets any of our units of work take: one that is not over then got lost on its
/// way.
const LOST_AFTER: Duration = Duration::from_secs(15);
/// One that was idle for so long is asked whether it still is there before it is used.
const DOUBT_AFTER: Duration = Duration::from_secs(2);

/// The store on a `PostgreSQL` database.
pub struct PostgresStore {
    /// For what only reads.
    pool: PgPool,
    /// Those of them that look keys up.
    lookups: KeptConnections,
    /// For what writes.
    writers: PgPool,
    /// For the one connection that hears of changes: it must not wait for those that work.
    ears: PgPool,
    writes: WriteState,
    news: News,
}

/// How to connect for work: nothing waits without an end.
fn working(config: &PostgresConfig) -> PgConnectOptions {
    config.connect_options().options([
        ("statement_timeout", STATEMENT_TIMEOUT),
        ("lock_timeout", LOCK_TIMEOUT),
        ("idle_in_transaction_session_timeout", IDLE_IN_TRANSACTION_TIMEOUT),
    ])
}

/// Opens a connection, or says why there is none. A pool would try until its time is up, and then
/// say only that.
async fn connect(
    config: &PostgresConfig,
    options: &PgConnectOptions,
) -> Result<PgConnection, OpenError> {
    let unreachable = |source| OpenError::Unreachable { url: config.to_string(), source };
    match tokio::time::timeout(CONNECT_TIMEOUT, PgConnection::connect_with(options)).await {
        Ok(connected) => connected.map_err(unreachable),
        Err(_) => Err(unreachable(sqlx::Error::PoolTimedOut)),
    }
}

/// Whether a connection has been idle for so little time that it is used without asking.
fn is_fresh(metadata: &PoolConnectionMetadata) -> bool {
    metadata.idle_for < DOUBT_AFTER
}

/// A unit of work that is made again and again until it succeeds, and must not wait for the system to
/// give a dead connection up.
async fn unless_lost<T>(
    unit: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    ended_after(LOST_AFTER, unit).await
}

/// Whether a connection that comes back is alive. sqlx asks once more after this, without an end to its
/// patience: that cannot be turned off, and is the price of an end to ours.
async fn is_alive(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    match tokio::time::timeout(READY_AGAIN_TIMEOUT, connection.ping()).await {
        Ok(answered) => answered.map(|()| true),
        // As an error it is dropped without a farewell, which would wait likewise.
        Err(_) => Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())),
    }
}

/// Connections for work: at most so many.
fn pool_of(connections: u32) -> PgPoolOptions {
    PgPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .max_lifetime(MAX_LIFETIME)
        .test_before_acquire(false)
        .after_release(|connection, _| Box::pin(is_alive(connection)))
        .before_acquire(|connection, metadata| {
            Box::pin(async move {
                if !is_fresh(&metadata) {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
}

impl PostgresStore {
    /// Opens the database, which must be there with its tables up to date.
    ///
    /// # Errors
    /// As [`OpenError`] says.
    pub async fn open(config: &PostgresConfig) -> Result<Self, OpenError> {
        let options = working(config);
        let mut connection = connect(config, &options).await?;
        schema::require_current(&mut connection, &config.to_string()).await?;
        let position = feed::position(&mut connection).await?;
        // Whether it ends well does not matter: it has told what it was asked.
        let _ = connection.close().await;

        // Whoever writes waits for the end of the log, one after the other; keys are looked up by
        // connections that no writer holds.
        let readers = (config.connections() / 2).max(1);
        let writers = config.connections().saturating_sub(readers).max(1);
        let pool = pool_of(readers).connect_lazy_with(options.clone());
        let writers = pool_of(writers).connect_lazy_with(options);
        let ears = PgPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(CONNECT_TIMEOUT)
            .max_lifetime(None)
            .idle_timeout(None)
            .connect_lazy_with(config.connect_options());
        let lookups = KeptConnections::of(pool.clone());
        let news = News::new(position);
        Ok(Self { pool, lookups, writers, ears, writes: WriteState::default(), news })
    }

    async fn begin(&self) -> Result<Transaction<'static, Postgres>, StoreError> {
        let asked = Instant::now();
        let transaction = self.writers.begin_with("BEGIN ISOLATION LEVEL READ COMMITTED").await?;
        ::metrics::histogram!(metrics::DATABASE_BEGIN).record(asked.elapsed());
        Ok(transaction)
    }

    /// Ends a unit of work; what was written is durable then.
    async fn finish(&self, transaction: Transaction<'static, Postgres>) -> Result<(), StoreError> {
        transaction.commit().await?;
        self.writes.succeeded();
        Ok(())
    }
}
