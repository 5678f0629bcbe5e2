//! The tables: whether they are up to date, and bringing them there.

use sqlx::{SqlitePool, migrate::Migrator, sqlite::SqlitePoolOptions};
use std::{collections::HashMap, fs::File, path::Path};

use super::{OpenError, StoreError, chain, display, options};
use crate::{private_file, store::schema};

static MIGRATIONS: Migrator = sqlx::migrate!("../migrations/sqlite");

/// Makes the file if it is not there, and runs the migrations that it lacks.
///
/// # Errors
/// As [`OpenError`] says.
pub async fn migrate(path: &Path) -> Result<usize, OpenError> {
    let url = display(path);
    let _turn = wait_for_turn(path)
        .await
        .map_err(|source| OpenError::Unreachable { url: url.clone(), source: source.into() })?;
    let pool = SqlitePoolOptions::new()
        .max_connections(1)
        .connect_with(options(path))
        .await
        .map_err(|source| OpenError::Unreachable { url: url.clone(), source })?;
    let missing = pending(&pool, &url).await?;
    if missing > 0
        && let Err(source) = MIGRATIONS.run(&pool).await
        // Another process may have run the same ones between our look and our work.
        && pending(&pool, &url).await? > 0
    {
        return Err(OpenError::Migration { url, source });
    }
    let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await.map_err(StoreError::from)?;
    let adopted = chain::adopt(&mut transaction).await?;
    transaction.commit().await.map_err(StoreError::from)?;
    if adopted > 0 {
        tracing::info!(rows = adopted, "the audit log's chain begins with the rows there were");
    }
    pool.close().await;
    Ok(missing)
}

/// Refuses a database that lacks migrations or has others.
pub(super) async fn require_current(pool: &SqlitePool, url: &str) -> Result<(), OpenError> {
    match pending(pool, url).await? {
        0 if chain::is_adopted(pool).await? => Ok(()),
        // The last migration is finished in code; `migrate` does it again.
        0 => Err(OpenError::Pending { url: url.to_owned(), pending: 1 }),
        pending => Err(OpenError::Pending { url: url.to_owned(), pending }),
    }
}

async fn pending(pool: &SqlitePool, url: &str) -> Result<usize, OpenError> {
    schema::pending(&MIGRATIONS, applied(pool).await?, url)
}

async fn applied(pool: &SqlitePool) -> Result<HashMap<i64, Vec<u8>>, StoreError> {
    let tables: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = '_sqlx_migrations'",
    )
    .fetch_one(pool)
    .await?;
    if tables == 0 {
        return Ok(HashMap::new());
    }
    let rows: Vec<(i64, Vec<u8>)> =
        sqlx::query_as("SELECT version, checksum FROM _sqlx_migrations WHERE success")
            .fetch_all(pool)
            .await?;
    Ok(rows.into_iter().collect())
}

/// Makes the file if it is not there, and waits until no other process brings it up to date. A
/// new file's first change of journal mode fails when another process does the same: `SQLite` does
/// not wait there, whatever the busy timeout. The lock ends with the file handle.
async fn wait_for_turn(path: &Path) -> std::io::Result<File> {
    // `SQLite` gives its companions the same mode.
    let file = private_file::open_or_create(path)?;
    let locked = tokio::task::spawn_blocking(move || file.lock().map(|()| file));
    locked.await.map_err(std::io::Error::other)?
}
