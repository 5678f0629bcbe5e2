//! The change feed on `SQLite`.

use async_trait::async_trait;
use edge_protocol::{Change, ChangeKind, Position};
use jiff::Timestamp;
use key_policy::KeyId;
use sqlx::SqliteConnection;
use tokio::sync::watch;

use super::{
    SqliteStore, StoreError,
    row::{signed, unsigned},
};
use crate::store::{ChangeFeed, Changes};

fn name(kind: ChangeKind) -> &'static str {
    match kind {
        ChangeKind::Created => "created",
        ChangeKind::Updated => "updated",
        ChangeKind::Revoked => "revoked",
    }
}

fn kind(name: &str) -> Result<ChangeKind, StoreError> {
    [ChangeKind::Created, ChangeKind::Updated, ChangeKind::Revoked]
        .into_iter()
        .find(|kind| self::name(*kind) == name)
        .ok_or_else(|| StoreError::Corrupt(format!("change_log.kind = {name}")))
}

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
    .bind(name(kind))
    .bind(at.as_millisecond())
    .fetch_one(connection)
    .await?;
    unsigned(sequence, "sequence")
}

/// The feed's bounds, and a change if there is one.
type Row = (i64, i64, Option<i64>, Option<String>, Option<String>, Option<i64>);

#[async_trait]
impl ChangeFeed for SqliteStore {
    async fn position(&self) -> Result<Position, StoreError> {
        let sequence: i64 = sqlx::query_scalar("SELECT coalesce(max(sequence), 0) FROM change_log")
            .fetch_one(&self.readers)
            .await?;
        Ok(self.position_at(unsigned(sequence, "sequence")?))
    }

    async fn changes(&self, since: u64, limit: u32) -> Result<(Position, Changes), StoreError> {
        let Ok(after) = signed(since, "since") else {
            return Ok((self.position().await?, Changes::Unknown));
        };
        // One statement is one snapshot. It gives at least one row, with the bounds.
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT bounds.oldest, bounds.newest, news.sequence, news.key_id, news.kind, news.at_ms
             FROM (SELECT coalesce((SELECT min(sequence) FROM change_log), 1) AS oldest,
                          coalesce((SELECT max(sequence) FROM change_log), 0) AS newest) AS bounds
             LEFT JOIN (SELECT * FROM change_log WHERE sequence > ? ORDER BY sequence LIMIT ?) AS news
             ORDER BY news.sequence",
        )
        .bind(after)
        .bind(limit)
        .fetch_all(&self.readers)
        .await?;

        let (oldest, newest) = rows.first().map_or((1, 0), |row| (row.0, row.1));
        if after > newest || after < oldest - 1 {
            return Ok((self.position_at(unsigned(newest, "sequence")?), Changes::Unknown));
        }
        let mut changes = Vec::with_capacity(rows.len());
        for row in rows {
            if let (_, _, Some(sequence), Some(key_id), Some(name), Some(at_ms)) = row {
                changes.push(Change {
                    sequence: unsigned(sequence, "sequence")?,
                    key_id,
                    kind: kind(&name)?,
                    at_ms: unsigned(at_ms, "at_ms")?,
                });
            }
        }
        // "Where the feed stands after these changes": a full page ends before the newest.
        let end = changes.last().map_or(since, |change| change.sequence);
        Ok((self.position_at(end), Changes::Since(changes)))
    }

    fn watch(&self) -> watch::Receiver<u64> {
        self.news.subscribe()
    }

    async fn refresh(&self) -> Result<(), StoreError> {
        let sequence = self.position().await?.sequence;
        self.publish(sequence);
        Ok(())
    }
}
