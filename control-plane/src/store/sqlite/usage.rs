//! Usage on `SQLite`.

use async_trait::async_trait;
use jiff::Timestamp;
use key_policy::KeyId;
use sqlx::SqliteConnection;

use super::{SqliteStore, StoreError};
use crate::{
    store::{UsageStore, row::to_json, usage::read_sum},
    usage::{UsageSum, Uses, period::Period},
};

/// Rows deleted at once; meanwhile nobody else can write.
const ROWS_DROPPED_AT_ONCE: u32 = 5000;

/// Adds counts with one statement, in the transaction of the batch that brought them.
pub(super) async fn add(
    connection: &mut SqliteConnection,
    usage: &[Uses],
) -> Result<(), StoreError> {
    if usage.is_empty() {
        return Ok(());
    }
    let rows: Vec<_> = usage
        .iter()
        .map(|Uses { of, count }| {
            let key_id = of.key_id.to_string();
            (key_id, of.minute.start_ms(), of.method.as_str(), of.outcome.as_str(), count)
        })
        .collect();
    // `WHERE true`: without it `ON` would be read as the condition of a join.
    sqlx::query(
        "INSERT INTO api_key_usage (key_id, minute_ms, method, outcome, count)
         SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4
         FROM json_each(?) WHERE true
         ON CONFLICT (key_id, minute_ms, method, outcome)
         DO UPDATE SET count = count + excluded.count",
    )
    .bind(to_json(&rows)?)
    .execute(connection)
    .await?;
    Ok(())
}

#[async_trait]
impl UsageStore for SqliteStore {
    async fn usage(&self, key_id: KeyId, period: &Period) -> Result<Vec<UsageSum>, StoreError> {
        sqlx::query(
            "SELECT minute_ms - minute_ms % ? AS start_ms, method, outcome, sum(count) AS requests
             FROM api_key_usage WHERE key_id = ? AND minute_ms >= ? AND minute_ms < ?
             GROUP BY 1, 2, 3 ORDER BY 1, 2, 3",
        )
        .bind(period.interval().ms())
        .bind(key_id.to_string())
        .bind(period.since_ms())
        .bind(period.until_ms())
        .fetch_all(&self.readers)
        .await?
        .iter()
        .map(read_sum)
        .collect()
    }

    async fn drop_usage_before(&self, before: Timestamp) -> Result<u64, StoreError> {
        let dropped = sqlx::query(
            "DELETE FROM api_key_usage WHERE (key_id, minute_ms, method, outcome) IN
                (SELECT key_id, minute_ms, method, outcome FROM api_key_usage
                 WHERE minute_ms < ? LIMIT ?)",
        )
        .bind(before.as_millisecond())
        .bind(ROWS_DROPPED_AT_ONCE)
        .execute(&self.writer)
        .await;
        self.writes.noted(dropped.map_err(StoreError::from)).map(|done| done.rows_affected())
    }
}
