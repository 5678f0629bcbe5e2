//! The stores' own connections, for what no client of the control plane can do.

use std::time::Duration;

use anyhow::Result;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{AssertSqlSafe, PgPool, SqlitePool, postgres::PgPoolOptions};

/// A database, beside the control plane that uses it.
#[derive(Clone)]
pub(super) enum Database {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

impl Database {
    /// Connects as durably as the control plane does.
    pub(super) async fn open(url: &str) -> Result<Self> {
        let Some(file) = url.strip_prefix("sqlite://") else {
            return Ok(Self::Postgres(PgPoolOptions::new().max_connections(8).connect(url).await?));
        };
        let options = SqliteConnectOptions::new()
            .filename(file)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(30));
        let pool = SqlitePoolOptions::new().max_connections(1).connect_with(options).await?;
        Ok(Self::Sqlite(pool))
    }

    /// Runs statements in the wording that both understand, or of the one that it is.
    pub(super) async fn run(&self, statements: &str) -> Result<()> {
        let sql = sqlx::raw_sql(AssertSqlSafe(statements.to_owned()));
        match self {
            Self::Sqlite(pool) => sql.execute(pool).await.map(drop)?,
            Self::Postgres(pool) => sql.execute(pool).await.map(drop)?,
        }
        Ok(())
    }

    /// The number that a query gives.
    pub(super) async fn number(&self, query: &'static str) -> Result<i64> {
        Ok(match self {
            Self::Sqlite(pool) => sqlx::query_scalar(query).fetch_one(pool).await?,
            Self::Postgres(pool) => sqlx::query_scalar(query).fetch_one(pool).await?,
        })
    }
}
