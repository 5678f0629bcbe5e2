//! The change feed on `PostgreSQL`.

use async_trait::async_trait;
use edge_protocol::{ChangeKind, Position};
use jiff::Timestamp;
use key_policy::KeyId;
use sqlx::{PgConnection, postgres::PgListener};
use tokio::sync::watch;

use super::{PostgresStore, StoreError};
use crate::store::{
    ChangeFeed, Changes,
    feed_row::{self, CHANGES_DROPPED_AT_ONCE, FeedRow},
    row::{self, signed, unsigned},
};

/// Where the database tells of changes. What it tells is the sequence, and only a hint: the feed
/// itself is read from its table.
const CHANNEL: &str = "keygate_changes";

/// Gives the change its place, within the transaction that makes it, which holds the feed's end
/// from here on: a change that is rolled back takes its number with it, so the feed has no holes.
/// Others are told when the transaction is committed.
pub(super) async fn append(
    connection: &mut PgConnection,
    key_id: KeyId,
    kind: ChangeKind,
    at: Timestamp,
) -> Result<u64, StoreError> {
    let sequence: i64 = sqlx::query_scalar(
        "WITH head AS (UPDATE feed_head SET sequence = sequence + 1 RETURNING sequence),
              change AS (INSERT INTO change_log (sequence, key_id, kind, at_ms)
                         SELECT sequence, $1, $2, $3 FROM head RETURNING sequence),
              told AS (SELECT pg_notify($4, sequence::text) FROM change)
         SELECT change.sequence FROM change, told",
    )
    .bind(key_id.to_string())
    .bind(feed_row::name(kind))
    .bind(at.as_millisecond())
    .bind(CHANNEL)
    .fetch_one(connection)
    .await?;
    unsigned(sequence, "sequence")
}

/// Where the feed stands. Epoch and sequence are of one snapshot, so that another database under
/// a running service is told apart.
pub(super) async fn position(connection: &mut PgConnection) -> Result<Position, StoreError> {
    let (epoch, sequence) = sqlx::query_as(
        "SELECT (SELECT value FROM settings WHERE name = 'feed_epoch'), sequence FROM feed_head",
    )
    .fetch_one(connection)
    .await?;
    row::position(epoch, sequence)
}

impl PostgresStore {
    /// Gives the feed a new epoch, unless another process has. Gives the epoch it has then.
    async fn rotate_epoch(&self, old: &str) -> Result<String, StoreError> {
        let written = sqlx::query_scalar(
            "UPDATE settings SET value = CASE value
                WHEN $1 THEN replace(gen_random_uuid()::text, '-', '') ELSE value END
             WHERE name = 'feed_epoch' RETURNING value",
        )
        .bind(old)
        .fetch_one(&self.writers)
        .await;
        self.writes.noted(written.map_err(StoreError::from))
    }
}

#[async_trait]
impl ChangeFeed for PostgresStore {
    async fn position(&self) -> Result<Position, StoreError> {
        position(&mut *self.pool.acquire().await?).await
    }

    async fn changes(&self, since: u64, limit: u32) -> Result<(Position, Changes), StoreError> {
        let Ok(after) = signed(since, "since") else {
            return Ok((self.position().await?, Changes::Unknown));
        };
        // One statement is one snapshot. It gives at least one row, with the bounds.
        let rows: Vec<FeedRow> = sqlx::query_as(
            "SELECT (SELECT value FROM settings WHERE name = 'feed_epoch'),
                    coalesce((SELECT min(sequence) FROM change_log), head.sequence + 1), head.sequence,
                    news.sequence, news.key_id, news.kind, news.at_ms
             FROM feed_head AS head
             LEFT JOIN (SELECT sequence, key_id, kind, at_ms FROM change_log WHERE sequence > $1 ORDER BY sequence LIMIT $2)
                AS news ON true
             ORDER BY news.sequence",
        )
        .bind(after)
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await?;
        feed_row::changes(since, rows)
    }

    async fn drop_changes(&self, before: Timestamp, most: u32) -> Result<u64, StoreError> {
        // Only a beginning goes: a change in the middle whose clock was behind would leave a hole.
        let dropped = sqlx::query(
            "WITH bounds AS (SELECT min(sequence) AS oldest, max(sequence) AS newest FROM change_log)
             DELETE FROM change_log WHERE sequence < (
                 SELECT least(newest, oldest + $3, greatest(newest - $2 + 1, coalesce(
                     (SELECT sequence FROM change_log WHERE at_ms >= $1 ORDER BY sequence LIMIT 1),
                     newest)))
                 FROM bounds)",
        )
        .bind(before.as_millisecond())
        .bind(i64::from(most))
        .bind(i64::from(CHANGES_DROPPED_AT_ONCE))
        .execute(&self.writers)
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

    async fn listen(&self) -> Result<(), StoreError> {
        let mut listener = PgListener::connect_with(&self.ears).await?;
        listener.listen(CHANNEL).await?;
        loop {
            // At first, and after a connection was lost: for what was told to nobody.
            self.refresh().await?;
            while let Some(told) = listener.try_recv().await? {
                // What this process did itself it knows.
                if told.payload().parse().is_ok_and(|sequence: u64| sequence <= self.news.known()) {
                    continue;
                }
                self.refresh().await?;
            }
        }
    }
}
