//! The change feed on `SQLite`.

use async_trait::async_trait;
use edge_protocol::{ChangeKind, Position};
use jiff::Timestamp;
use key_policy::KeyId;
use sqlx::{SqliteConnection, SqlitePool};
use tokio::sync::watch;

use super::{SqliteStore, StoreError};
use crate::store::{
    ChangeFeed, Changes,
    feed_row::{self, CHANGES_DROPPED_AT_ONCE, FeedRow},
    row::{self, signed, unsigned},
};

/// Gives the change its place, within the transaction that makes it: a change that is rolled back
/// takes its number with it, so the feed has no holes.
pub(super) async fn append(
    connection: &mut SqliteConnection,
    key_id: KeyId,
    kind: ChangeKind,
    at: Timestamp,
) -> Result<u64, StoreError> {
    let sequence: i64 = sqlx::query_scalar(
        "INSERT INTO change_log (key_id, kind, at_ms) VALUES (?, ?, ?) RETURNING sequence",
    )
    .bind(key_id.to_string())
    .bind(feed_row::name(kind))
    .bind(at.as_millisecond())
    .fetch_one(connection)
    .await?;
    unsigned(sequence, "sequence")
}

/// Where the feed stands. Epoch and sequence are of one snapshot, so that another database under
/// a running service is told apart.
pub(super) async fn position(pool: &SqlitePool) -> Result<Position, StoreError> {
    let (epoch, sequence) = sqlx::query_as(
        "SELECT (SELECT value FROM settings WHERE name = 'feed_epoch'),
                (SELECT coalesce(max(sequence), 0) FROM change_log)",
    )
    .fetch_one(pool)
    .await?;
    row::position(epoch, sequence)
}

impl SqliteStore {
    /// Gives the feed a new epoch, unless another process has. Gives the epoch it has then.
    async fn rotate_epoch(&self, old: &str) -> Result<String, StoreError> {
        let written = sqlx::query_scalar(
            "UPDATE settings SET value = iif(value = ?, lower(hex(randomblob(16))), value)
             WHERE name = 'feed_epoch' RETURNING value",
        )
        .bind(old)
        .fetch_one(&self.writer)
        .await;
        self.writes.noted(written.map_err(StoreError::from))
    }
}

#[async_trait]
impl ChangeFeed for SqliteStore {
    async fn position(&self) -> Result<Position, StoreError> {
        position(&self.readers).await
    }

    async fn changes(&self, since: u64, limit: u32) -> Result<(Position, Changes), StoreError> {
        let Ok(after) = signed(since, "since") else {
            return Ok((self.position().await?, Changes::Unknown));
        };
        // One statement is one snapshot. It gives at least one row, with the bounds.
        let rows: Vec<FeedRow> = sqlx::query_as(
            "SELECT (SELECT value FROM settings WHERE name = 'feed_epoch'), bounds.oldest, bounds.newest,
                    news.sequence, news.key_id, news.kind, news.at_ms
             FROM (SELECT coalesce((SELECT min(sequence) FROM change_log), 1) AS oldest,
                          coalesce((SELECT max(sequence) FROM change_log), 0) AS newest) AS bounds
             LEFT JOIN (SELECT * FROM change_log WHERE sequence > ? ORDER BY sequence LIMIT ?) AS news
             ORDER BY news.sequence",
        )
        .bind(after)
        .bind(limit)
        .fetch_all(&self.readers)
        .await?;

        feed_row::changes(since, rows)
    }

    async fn drop_changes(&self, before: Timestamp, most: u32) -> Result<u64, StoreError> {
        // Only a beginning goes: a change in the middle whose clock was behind would leave a hole.
        let dropped = sqlx::query(
            "WITH bounds AS (SELECT min(sequence) AS oldest, max(sequence) AS newest FROM change_log)
             DELETE FROM change_log WHERE sequence < (
                 SELECT min(newest, oldest + ?3, max(newest - ?2 + 1, coalesce(
                     (SELECT sequence FROM change_log WHERE at_ms >= ?1 ORDER BY sequence LIMIT 1),
                     newest)))
                 FROM bounds)",
        )
        .bind(before.as_millisecond())
        .bind(most)
        .bind(CHANGES_DROPPED_AT_ONCE)
        .execute(&self.writer)
        .await;
        self.writes.settled(dropped.map(|done| done.rows_affected()))
    }

    fn watch(&self) -> watch::Receiver<u64> {
        self.news.watch()
    }

    async fn refresh(&self) -> Result<(), StoreError> {
        let known = self.news.known();
        let position = self.position().await?;
        if let Some(old) = self.news.take(known, &position) {
            let epoch = self.rotate_epoch(&old).await?;
            self.news.begin_anew(Position { epoch, ..position });
        }
        Ok(())
    }
}
