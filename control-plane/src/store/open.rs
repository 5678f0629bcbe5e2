//! Opening a database, and bringing its tables up to date.

use std::sync::Arc;

use super::{Store, StoreError, postgres, sqlite};
use crate::config::DatabaseUrl;

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
