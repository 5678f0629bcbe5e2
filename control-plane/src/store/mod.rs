//! What must be durable, behind traits.
//!
//! A method is one unit of work: it happens as a whole, with its audit entry and its place in the
//! change feed, or not at all. A backend implements the traits, passes
//! [`conformance`](self::conformance), and is opened by [`open`].

pub mod audit_chain;
mod audit_row;
pub mod backup;
#[cfg(test)]
pub mod conformance;
pub mod credentials;
pub mod cursor;
mod feed_row;
pub mod jobs;
pub mod key_filter;
#[cfg(test)]
mod look_up_tests;
mod news;
pub mod once;
pub mod pools;
pub mod postgres;
mod row;
mod schema;
pub mod sqlite;
pub mod totp;
mod totp_row;
mod usage;
mod write_state;

pub use usage::{FilterBatch, UsageStore};

use async_trait::async_trait;
use edge_protocol::{Change, EventKind, Position, Scope};
use jiff::Timestamp;
use key_policy::KeyId;
use std::{net::IpAddr, sync::Arc};
use tokio::sync::watch;

use crate::{
    audit::{AuditEntry, AuditRow},
    config::DatabaseUrl,
    keys::{Key, StoredKey, digest::LookupDigest},
    metrics,
};
use audit_chain::AuditChain;
use backup::BackupStore;
use credentials::CredentialStore;
use jobs::JobStore;
use key_filter::KeyQuery;
use once::{Claim, MadeRequest, OnceStore};
use pools::{KeyCounts, PoolState};
use totp::TotpStore;

/// The database could not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database's own word.
    #[error("database: {0}")]
    Database(sqlx::Error),
    /// A row that this program could not have written.
    #[error("the database holds a value that cannot be right: {0}")]
    Corrupt(String),
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
        Self::Database(error)
    }
}

impl StoreError {
    /// Whether it is that something is there already that may be there only once.
    #[must_use]
    pub fn is_duplicate(&self) -> bool {
        matches!(self, Self::Database(error)
            if error.as_database_error().is_some_and(sqlx::error::DatabaseError::is_unique_violation))
    }
}

/// A key's row, and where the feed stood when it was read.
#[derive(Clone, Debug)]
pub struct Lookup {
    /// The feed's position, of the same snapshot as the row: every change up to it is in the row,
    /// no later one is.
    pub as_of: Position,
    /// The key, if there is one.
    pub found: Option<StoredKey>,
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

    /// The key of that digest. One index look-up.
    async fn look_up(&self, digest: &LookupDigest) -> Result<Lookup, StoreError>;

    /// Keys, newest first.
    async fn keys(&self, query: &KeyQuery) -> Result<Vec<Key>, StoreError>;

    /// How many keys there are of each state at `now`; those that end before `soon` count as ending.
    /// Looks at every key, so it is not for every request.
    async fn count_keys(&self, now: Timestamp, soon: Timestamp) -> Result<KeyCounts, StoreError>;

    /// Sets `last_used_at` where that moves it forward.
    async fn touch(&self, used: &[(KeyId, Timestamp)]) -> Result<(), StoreError>;
}

/// Which audit rows are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Only this kind.
    pub event: Option<EventKind>,
    /// Only about this key.
    pub key_id: Option<KeyId>,
    /// Only of this client.
    pub client_ip: Option<IpAddr>,
    /// Only what this administrator did.
    pub actor: Option<String>,
    /// Only what was reported by this filter, or by the control plane itself.
    pub source: Option<String>,
    /// Only what happened at this time or later.
    pub since: Option<Timestamp>,
    /// Only what happened before this time.
    pub until: Option<Timestamp>,
    /// Only rows with a smaller id than this.
    pub before: Option<i64>,
    /// The first and the last row of that time, when they have been looked for already: who reads
    /// many pages need not look for each. See [`AuditStore::audit_bounds`].
    pub within: Option<IdRange>,
}

/// Rows from one id to another, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdRange {
    /// The first.
    pub first: i64,
    /// The last; before the first, when there are none.
    pub last: i64,
}

/// What came of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchOutcome {
    /// It is stored now.
    Stored,
    /// It was stored before; nothing was added.
    Repeated,
}

/// The audit log.
#[async_trait]
pub trait AuditStore: Send + Sync {
    /// Adds the control plane's own entries.
    async fn append(&self, entries: &[AuditEntry]) -> Result<(), StoreError>;

    /// Adds a filter's batch, with its usage, once.
    async fn append_batch(&self, batch: &FilterBatch) -> Result<BatchOutcome, StoreError>;

    /// Where the rows of the filter's time are; none, when it asks for no time.
    async fn audit_bounds(&self, filter: &AuditFilter) -> Result<Option<IdRange>, StoreError>;

    /// Rows, newest first.
    async fn audit_rows(
        &self,
        filter: &AuditFilter,
        limit: u32,
    ) -> Result<Vec<AuditRow>, StoreError>;
}

/// Changes after a position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changes {
    /// These, oldest first; empty: none.
    Since(Vec<Change>),
    /// They cannot be told any more, or that position has never been.
    Unknown,
}

/// The change feed.
#[async_trait]
pub trait ChangeFeed: Send + Sync {
    /// Where the feed stands.
    async fn position(&self) -> Result<Position, StoreError>;

    /// At most `limit` changes after `since`, and where the feed stands, of one snapshot.
    async fn changes(&self, since: u64, limit: u32) -> Result<(Position, Changes), StoreError>;

    /// The sequence of the last change that this process knows of. It is told of its own changes
    /// as they are committed, of others' by [`ChangeFeed::refresh`].
    fn watch(&self) -> watch::Receiver<u64>;

    /// Looks for changes that other processes have made, also for another database in the place
    /// of the one before: when the sequence has fallen, the feed gets a new epoch.
    async fn refresh(&self) -> Result<(), StoreError>;

    /// Follows what the database itself tells of changes, for as long as that works; one that
    /// tells nothing is waited for without an end. It is faster than looking again and again, and
    /// nothing depends on it.
    async fn listen(&self) -> Result<(), StoreError> {
        std::future::pending().await
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

/// Why a database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is none.
    #[error(
        "there is no database at {0}; `keygate migrate` (or `keygate serve --migrate`) makes it"
    )]
    Missing(String),
    /// It cannot be reached.
    #[error("the database {url} cannot be opened: {source}")]
    Unreachable {
        /// Where it should be.
        url: String,
        /// Why.
        source: sqlx::Error,
    },
    /// Its tables are older than this program.
    #[error(
        "the database {url} lacks {pending} migration(s); run `keygate migrate`, or `keygate serve --migrate`"
    )]
    Pending {
        /// Where it is.
        url: String,
        /// How many.
        pending: usize,
    },
    /// Its tables are newer than this program, or not its own.
    #[error(
        "the database {url} has migrations that this version does not know ({detail}); use the version that made them"
    )]
    Foreign {
        /// Where it is.
        url: String,
        /// Which.
        detail: String,
    },
    /// A migration failed; the database is as it was before.
    #[error("migrating {url}: {source}")]
    Migration {
        /// Where it is.
        url: String,
        /// Why.
        source: sqlx::migrate::MigrateError,
    },
    /// What it holds cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Opens the database, which must be there and up to date.
///
/// # Errors
/// As [`OpenError`] says.
pub async fn open(url: &DatabaseUrl) -> Result<Arc<dyn Store>, OpenError> {
    match url {
        DatabaseUrl::Sqlite(path) => Ok(Arc::new(sqlite::SqliteStore::open(path).await?)),
        DatabaseUrl::Postgres(config) => Ok(Arc::new(postgres::PostgresStore::open(config).await?)),
    }
}

/// Brings the database's tables up to date, and makes a `SQLite` file if it is not there. Gives the
/// number of migrations that were run.
///
/// # Errors
/// As [`OpenError`] says.
pub async fn migrate(url: &DatabaseUrl) -> Result<usize, OpenError> {
    match url {
        DatabaseUrl::Sqlite(path) => sqlite::schema::migrate(path).await,
        DatabaseUrl::Postgres(config) => postgres::schema::migrate(config).await,
    }
}
