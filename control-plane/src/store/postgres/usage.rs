//! Usage on `PostgreSQL`: a partition for each day.

use async_trait::async_trait;
use jiff::Timestamp;
use key_policy::KeyId;
use sqlx::{AssertSqlSafe, PgConnection};
use std::collections::BTreeSet;

use super::{PostgresStore, StoreError};
use crate::{
    store::{UsageStore, row::signed, usage::read_sum},
    usage::{UsageSum, Uses, period::Period},
};

const DAY_MS: i64 = 24 * 3_600_000;

/// Adds counts with one statement, in the transaction of the batch that brought them. They come in
/// order, so writers take the rows that they share in the same one.
pub(super) async fn add(connection: &mut PgConnection, usage: &[Uses]) -> Result<(), StoreError> {
    if usage.is_empty() {
        return Ok(());
    }
    let minute = |it: &Uses| signed(it.of.minute.start_ms(), "minute_ms");
    let minutes = usage.iter().map(minute).collect::<Result<Vec<_>, _>>()?;
    let counts = usage.iter().map(|it| signed(it.count, "count")).collect::<Result<Vec<_>, _>>()?;
    // Before any row: who waits for another that makes the same one holds none that it needs.
    make_partitions(connection, &minutes).await?;
    sqlx::query(
        "INSERT INTO api_key_usage AS known (key_id, minute_ms, method, outcome, count)
         SELECT * FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::bigint[])
         ON CONFLICT (key_id, minute_ms, method, outcome)
         DO UPDATE SET count = known.count + excluded.count",
    )
    .bind(usage.iter().map(|it| it.of.key_id.to_string()).collect::<Vec<_>>())
    .bind(minutes)
    .bind(usage.iter().map(|it| it.of.method.as_str()).collect::<Vec<_>>())
    .bind(usage.iter().map(|it| it.of.outcome.as_str()).collect::<Vec<_>>())
    .bind(counts)
    .execute(connection)
    .await?;
    Ok(())
}

async fn make_partitions(connection: &mut PgConnection, minutes: &[i64]) -> Result<(), StoreError> {
    let days: BTreeSet<_> = minutes.iter().map(|minute| minute - minute % DAY_MS).collect();
    sqlx::query("SELECT make_day_partition('api_key_usage', ms) FROM unnest($1::bigint[]) AS ms")
        .bind(days.into_iter().collect::<Vec<_>>())
        .execute(connection)
        .await?;
    Ok(())
}

impl PostgresStore {
    /// Drops the oldest day, if it is before that time.
    async fn try_drop_usage(&self, before: Timestamp) -> Result<u64, StoreError> {
        let mut transaction = self.begin().await?;
        let partition: Option<String> = sqlx::query_scalar(
            "SELECT partition FROM day_partitions('api_key_usage') WHERE until_ms <= $1
             ORDER BY until_ms LIMIT 1",
        )
        .bind(before.as_millisecond())
        .fetch_optional(&mut *transaction)
        .await?;
        let Some(partition) = partition else { return Ok(0) };
        // Another control plane may have been faster. The name is the database's own.
        sqlx::query(super::chain::SOON_OR_NOT_NOW).execute(&mut *transaction).await?;
        let drop = AssertSqlSafe(format!("DROP TABLE IF EXISTS \"{partition}\""));
        sqlx::query(drop).execute(&mut *transaction).await?;
        self.finish(transaction).await?;
        Ok(1)
    }
}

#[async_trait]
impl UsageStore for PostgresStore {
    async fn usage(&self, key_id: KeyId, period: &Period) -> Result<Vec<UsageSum>, StoreError> {
        sqlx::query(
            "SELECT minute_ms - minute_ms % $1 AS start_ms, method, outcome,
                    sum(count)::bigint AS requests
             FROM api_key_usage WHERE key_id = $2 AND minute_ms >= $3 AND minute_ms < $4
             GROUP BY 1, 2, 3 ORDER BY 1, 2, 3",
        )
        .bind(period.interval().ms())
        .bind(key_id.to_string())
        .bind(period.since_ms())
        .bind(period.until_ms())
        .fetch_all(&self.pool)
        .await?
        .iter()
        .map(read_sum)
        .collect()
    }

    async fn drop_usage_before(&self, before: Timestamp) -> Result<u64, StoreError> {
        self.writes.noted(self.try_drop_usage(before).await)
    }
}
