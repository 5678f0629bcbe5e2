//! The tables: whether they are up to date, and bringing them there.

use sqlx::{Connection, PgConnection, migrate::Migrator, postgres::PgPoolOptions};
use std::collections::HashMap;

use super::{OpenError, StoreError, connect};
use crate::{config::PostgresConfig, store::schema};

static MIGRATIONS: Migrator = sqlx::migrate!("../migrations/postgres");

/// Runs the migrations that the database lacks. Others who do the same at that time wait for their
/// turn.
///
/// # Errors
/// As [`OpenError`] says.
pub async fn migrate(config: &PostgresConfig) -> Result<usize, OpenError> {
    let url = config.to_string();
    // A migration takes as long as it takes: the time limits of work are not for it.
    let options = config.connect_options();
    let mut connection = connect(config, &options).await?;
    let missing = pending(&mut connection, &url).await?;
    let _ = connection.close().await;
    if missing > 0 {
        let pool = PgPoolOptions::new().max_connections(1).connect_lazy_with(options);
        let done = MIGRATIONS.run(&pool).await;
        pool.close().await;
        done.map_err(|source| OpenError::Migration { url, source })?;
    }
    Ok(missing)
}

/// Refuses a database that lacks migrations or has others.
pub(super) async fn require_current(
    connection: &mut PgConnection,
    url: &str,
) -> Result<(), OpenError> {
    match pending(connection, url).await? {
        0 => Ok(()),
        pending => Err(OpenError::Pending { url: url.to_owned(), pending }),
    }
}

async fn pending(connection: &mut PgConnection, url: &str) -> Result<usize, OpenError> {
    schema::pending(&MIGRATIONS, applied(connection).await?, url)
}

async fn applied(connection: &mut PgConnection) -> Result<HashMap<i64, Vec<u8>>, StoreError> {
    let begun: bool = sqlx::query_scalar("SELECT to_regclass('_sqlx_migrations') IS NOT NULL")
        .fetch_one(&mut *connection)
        .await?;
    if !begun {
        return Ok(HashMap::new());
    }
    let rows: Vec<(i64, Vec<u8>)> =
        sqlx::query_as("SELECT version, checksum FROM _sqlx_migrations WHERE success")
            .fetch_all(connection)
            .await?;
    Ok(rows.into_iter().collect())
}
