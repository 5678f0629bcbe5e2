//! What must be durable, behind traits.
//!
//! A method is one unit of work: it happens as a whole, with its audit entry and its place in the
//! change feed, or not at all. A backend implements the traits, passes
//! [`conformance`](self::conformance), and is opened by [`open`].

mod audit_blocks;
pub mod audit_chain;
#[cfg(test)]
mod audit_query_tests;
mod audit_row;
mod audit_store;
pub mod backup;
mod change_feed;
#[cfg(test)]
pub mod conformance;
pub mod credentials;
pub mod cursor;
mod feed_row;
pub mod jobs;
pub mod key_filter;
mod key_store;
#[cfg(test)]
mod look_up_tests;
mod new_batches;
mod news;
pub mod once;
mod open;
pub mod pools;
pub mod postgres;
mod row;
mod schema;
pub mod sqlite;
pub mod totp;
mod totp_row;
mod usage;
mod write_state;

pub use audit_store::{AuditFilter, AuditStore, BatchOutcome, IdRange};
pub use change_feed::{ChangeFeed, Changes};
pub use key_store::{
    KeyStore, Lookup, Revocation, RevokeGuard, RevokeRequest, RotateRequest, Rotation, Update,
    UpdateRequest,
};
pub use open::{OpenError, migrate, open};
pub use usage::{FilterBatch, UsageStore};

use async_trait::async_trait;
use std::{sync::Arc, time::Duration};

use crate::{gather::GivenUp, metrics};
use audit_chain::AuditChain;
use audit_store::BATCHES_LOST_AFTER;
use backup::BackupStore;
use credentials::CredentialStore;
use jobs::JobStore;
use once::OnceStore;
use pools::PoolState;
use totp::TotpStore;

/// The database could not do it. It may be told to several who waited for the same.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The database's own word.
    #[error("database: {0}")]
    Database(Arc<sqlx::Error>),
    /// A row that this program could not have written.
    #[error("the database holds a value that cannot be right: {0}")]
    Corrupt(String),
    /// Whoever was to ask it for several at once has failed.
    #[error("the database was not asked to the end: {0}")]
    GivenUp(#[from] GivenUp),
}

impl From<sqlx::Error> for StoreError {
    /// Every failure of a database goes through here, so it is counted here.
    fn from(error: sqlx::Error) -> Self {
        let kind = match &error {
            sqlx::Error::PoolTimedOut => "pool_timeout",
            sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) => "connection",
            sqlx::Error::Database(error) if error.is_unique_violation() => "constraint",
            sqlx::Error::Database(_) => "statement",
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => "value",
            _ => "other",
        };
        ::metrics::counter!(metrics::DATABASE_ERRORS, "kind" => kind).increment(1);
        Self::Database(Arc::new(error))
    }
}

/// A unit of work, unless it takes longer than this: then its connection is lost.
async fn ended_after<T>(
    patience: Duration,
    unit: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    tokio::time::timeout(patience, unit).await.unwrap_or_else(|_| Err(StoreError::lost()))
}

impl StoreError {
    /// There was no answer in time.
    #[must_use]
    pub fn lost() -> Self {
        sqlx::Error::Io(std::io::ErrorKind::TimedOut.into()).into()
    }

    /// Whether the database was well, and refused what it was given: SQL's classes 22 and 23, and
    /// what `SQLite` calls a constraint.
    #[must_use]
    pub fn is_about_values(&self) -> bool {
        const SQLITE_CONSTRAINT: u32 = 19;
        let error = match self {
            Self::Database(error) => error,
            Self::Corrupt(_) => return true,
            Self::GivenUp(_) => return false,
        };
        let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
        code.is_some_and(|code| match code.len() {
            5 => code.starts_with("22") || code.starts_with("23"),
            _ => code.parse::<u32>().is_ok_and(|code| code & 0xff == SQLITE_CONSTRAINT),
        })
    }

    /// Whether it is that something is there already that may be there only once.
    #[must_use]
    pub fn is_duplicate(&self) -> bool {
        matches!(self, Self::Database(error)
            if error.as_database_error().is_some_and(sqlx::error::DatabaseError::is_unique_violation))
    }
}

/// Small facts about the database.
#[async_trait]
pub trait SettingsStore: Send + Sync {
    /// The setting's value.
    async fn setting(&self, name: &str) -> Result<Option<String>, StoreError>;

    /// Sets it if it has no value yet; gives the value it has then.
    async fn setting_or_insert(&self, name: &str, value: &str) -> Result<String, StoreError>;

    /// Whether the last attempt to write failed.
    fn writes_fail(&self) -> bool;

    /// How its connections are used.
    fn pools(&self) -> Vec<PoolState>;

    /// Whether the database answers.
    async fn ping(&self) -> Result<(), StoreError>;

    /// Ends all connections, when what is under way is done.
    async fn close(&self);
}

/// All that a backend does.
pub trait Store:
    KeyStore
    + CredentialStore
    + OnceStore
    + AuditStore
    + AuditChain
    + UsageStore
    + ChangeFeed
    + JobStore
    + TotpStore
    + SettingsStore
    + BackupStore
    + 'static
{
}

impl<T> Store for T where
    T: KeyStore
        + CredentialStore
        + OnceStore
        + AuditStore
        + AuditChain
        + UsageStore
        + ChangeFeed
        + JobStore
        + TotpStore
        + SettingsStore
        + BackupStore
        + 'static
{
}
