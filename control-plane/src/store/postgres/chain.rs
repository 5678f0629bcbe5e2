//! The audit log's chain on `PostgreSQL`.

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::{AssertSqlSafe, PgConnection};

use super::{PostgresStore, StoreError, audit::insert_rows};
use crate::{
    audit::chain::{
        batch::{Batch, ChainHead, Sealed},
        checkpoint::{Checkpoint, Statement},
        row::ChainedRow,
    },
    store::{
        audit_chain::{AuditChain, ChainEnds, CheckpointOutcome, Dropped},
        audit_row::{self, batch_columns, checkpoint_columns, head_columns, log_columns},
        row::{Cells, signed, unsigned},
    },
};

/// Batches deleted at once.
const BATCHES_DROPPED_AT_ONCE: i64 = 1000;
const DAY_MS: i64 = 86_400_000;
/// Takes the end of the log, for who does not need to know where it is.
const TAKE_HEAD: &str = "SELECT 1 FROM audit_head FOR UPDATE";

/// Takes the end of the log until the transaction ends, for who has to come by it and adds nothing
/// yet.
pub(super) async fn take_head(connection: &mut PgConnection) -> Result<(), StoreError> {
    sqlx::query(TAKE_HEAD).execute(connection).await?;
    Ok(())
}

/// Takes the end of the log until the transaction ends: nobody else adds to the log meanwhile. The
/// partition for what is recorded now is there then.
pub(super) async fn lock_head(
    connection: &mut PgConnection,
    now_ms: i64,
) -> Result<ChainHead, StoreError> {
    let row = sqlx::query(concat!(
        "SELECT ",
        head_columns!(),
        ", greatest(recorded_at_ms, $1) AS next_ms,
                to_regclass(day_partition_name('api_key_audit_log', greatest(recorded_at_ms, $1)))
                    IS NULL AS partition_missing
         FROM audit_head FOR UPDATE"
    ))
    .bind(now_ms)
    .fetch_one(&mut *connection)
    .await?;
    if row.flag("partition_missing")? {
        make_partition(connection, row.integer("next_ms")?).await?;
    }
    audit_row::head(&row)
}

/// Makes the log's partition for a time, unless it is there; says whether it did. Only who holds the end of the log may:
/// otherwise one who has rows in the log could wait here for one who waits for those rows.
async fn make_partition(connection: &mut PgConnection, ms: i64) -> Result<bool, StoreError> {
    let made = sqlx::query_scalar("SELECT make_audit_partition($1)").bind(ms);
    Ok(made.fetch_one(connection).await?)
}

/// Adds rows, and the batch that has them, and moves the chain's end, which the transaction has
/// taken.
pub(super) async fn add(
    connection: &mut PgConnection,
    sealed: Sealed<'_>,
) -> Result<(), StoreError> {
    let Sealed { batch, rows, head } = sealed;
    insert_rows(connection, &rows).await?;
    sqlx::query(
        "INSERT INTO audit_batches
            (sequence, first_id, last_id, count, recorded_at_ms, previous_hash, hash, digests)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(signed(batch.sequence, "sequence")?)
    .bind(batch.first_id)
    .bind(batch.last_id)
    .bind(i64::from(batch.count))
    .bind(batch.recorded_at_ms)
    .bind(batch.previous_hash.as_bytes().as_slice())
    .bind(batch.hash.as_bytes().as_slice())
    .bind(batch.digests.as_slice())
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "UPDATE audit_head SET sequence = $1, last_id = $2, hash = $3, recorded_at_ms = $4",
    )
    .bind(signed(head.sequence, "sequence")?)
    .bind(head.last_id)
    .bind(head.hash.as_bytes().as_slice())
    .bind(head.recorded_at_ms)
    .execute(connection)
    .await?;
    Ok(())
}

impl PostgresStore {
    async fn try_add_checkpoint(
        &self,
        checkpoint: &Checkpoint,
    ) -> Result<CheckpointOutcome, StoreError> {
        let Checkpoint { statement, public_key, signature } = checkpoint;
        let mut transaction = self.begin().await?;
        let done = sqlx::query(
            "INSERT INTO audit_checkpoints
                (number, sequence, last_id, hash, at_ms, reason, database_id, public_key, signature)
             SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9
             WHERE $1 > (SELECT coalesce(max(number), 0) FROM audit_checkpoints)
             ON CONFLICT (number) DO NOTHING",
        )
        .bind(signed(statement.number, "number")?)
        .bind(signed(statement.sequence, "sequence")?)
        .bind(statement.last_id)
        .bind(statement.hash.as_bytes().as_slice())
        .bind(statement.at_ms)
        .bind(statement.reason.as_str())
        .bind(&statement.database_id)
        .bind(public_key.as_bytes().as_slice())
        .bind(signature.as_slice())
        .execute(&mut *transaction)
        .await?;
        self.finish(transaction).await?;
        Ok(match done.rows_affected() {
            0 => CheckpointOutcome::NumberTaken,
            _ => CheckpointOutcome::Stored,
        })
    }

    async fn try_prepare_days(&self, now: Timestamp, days: u32) -> Result<u32, StoreError> {
        let mut made = 0;
        for day in 0..=i64::from(days) {
            let ms = now.as_millisecond().saturating_add(day * DAY_MS);
            // One by one: those who write need not wait for all of them.
            let mut transaction = self.begin().await?;
            take_head(&mut transaction).await?;
            made += u32::from(make_partition(&mut transaction, ms).await?);
            self.finish(transaction).await?;

            let mut transaction = self.begin().await?;
            let usage: bool = sqlx::query_scalar("SELECT make_day_partition('api_key_usage', $1)")
                .bind(ms)
                .fetch_one(&mut *transaction)
                .await?;
            made += u32::from(usage);
            self.finish(transaction).await?;
        }
        Ok(made)
    }

    async fn try_drop_retired(&self, mark: &Statement) -> Result<Dropped, StoreError> {
        let mut transaction = self.begin().await?;
        // Whoever writes waits for as long as this takes; so nothing is added to what is dropped.
        take_head(&mut transaction).await?;
        let partition = retired_partition(&mut transaction, mark.last_id).await?;
        if let Some(partition) = &partition {
            sqlx::query(SOON_OR_NOT_NOW).execute(&mut *transaction).await?;
            let drop = AssertSqlSafe(format!("DROP TABLE \"{partition}\""));
            sqlx::query(drop).execute(&mut *transaction).await?;
        }
        let batches = sqlx::query(
            "DELETE FROM audit_batches WHERE sequence IN
                (SELECT sequence FROM audit_batches WHERE sequence <= $1 ORDER BY sequence LIMIT $2)",
        )
        .bind(signed(mark.sequence, "sequence")?)
        .bind(BATCHES_DROPPED_AT_ONCE)
        .execute(&mut *transaction)
        .await?
        .rows_affected();
        self.finish(transaction).await?;
        Ok(Dropped { rows: u64::from(partition.is_some()), batches })
    }
}

/// Dropping a partition takes the whole table from everybody. While somebody reads all of it, as a
/// backup does, those who write must not wait behind us for long: the job is tried again.
pub(super) const SOON_OR_NOT_NOW: &str = "SET LOCAL lock_timeout = '200ms'";

/// The oldest partition of which every row is retired. One that also has later rows stays as a
/// whole, and so does an empty one into which rows can still be written.
async fn retired_partition(
    connection: &mut PgConnection,
    last_id: i64,
) -> Result<Option<String>, StoreError> {
    let partitions: Vec<(String, bool)> = sqlx::query_as(
        "SELECT partition, until_ms <= recorded_at_ms
         FROM day_partitions('api_key_audit_log'), audit_head ORDER BY partition",
    )
    .fetch_all(&mut *connection)
    .await?;
    for (partition, is_past) in partitions {
        let newest = AssertSqlSafe(format!("SELECT max(id) FROM \"{partition}\""));
        let newest: Option<i64> = sqlx::query_scalar(newest).fetch_one(&mut *connection).await?;
        if newest.map_or(is_past, |newest| newest <= last_id) {
            return Ok(Some(partition));
        }
        // Later ones have later rows, or none yet.
        if newest.is_some() {
            break;
        }
    }
    Ok(None)
}

#[async_trait]
impl AuditChain for PostgresStore {
    async fn chain_head(&self) -> Result<ChainHead, StoreError> {
        let head = sqlx::query(concat!("SELECT ", head_columns!(), " FROM audit_head"));
        audit_row::head(&head.fetch_one(&self.pool).await?)
    }

    async fn chain_ends(&self) -> Result<ChainEnds, StoreError> {
        let row = sqlx::query(concat!(
            "SELECT ",
            head_columns!(),
            ", (SELECT coalesce(max(id), 0) FROM api_key_audit_log) AS max_id,
               (SELECT coalesce(max(sequence), 0) FROM audit_batches) AS max_sequence
             FROM audit_head"
        ))
        .fetch_one(&self.pool)
        .await?;
        Ok(ChainEnds {
            head: audit_row::head(&row)?,
            max_id: row.integer("max_id")?,
            max_sequence: unsigned(row.integer("max_sequence")?, "audit_batches.sequence")?,
        })
    }

    async fn chain_batches(&self, after: u64, limit: u32) -> Result<Vec<Batch>, StoreError> {
        sqlx::query(concat!(
            "SELECT ",
            batch_columns!(),
            " FROM audit_batches WHERE sequence > $1 ORDER BY sequence LIMIT $2"
        ))
        .bind(signed(after, "sequence")?)
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await?
        .iter()
        .map(audit_row::batch)
        .collect()
    }

    async fn chain_rows(
        &self,
        after: i64,
        limit: u32,
    ) -> Result<Vec<ChainedRow<'static>>, StoreError> {
        // An id is unique within a partition only. With its ties, a second row of the last id of
        // a page is seen too: it would hide between two pages.
        sqlx::query(concat!(
            "SELECT ",
            log_columns!(),
            " FROM api_key_audit_log WHERE id > $1 ORDER BY id FETCH FIRST $2 ROWS WITH TIES"
        ))
        .bind(after)
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await?
        .iter()
        .map(audit_row::chained)
        .collect()
    }

    async fn checkpoints(&self, after: u64, limit: u32) -> Result<Vec<Checkpoint>, StoreError> {
        sqlx::query(concat!(
            "SELECT ",
            checkpoint_columns!(),
            " FROM audit_checkpoints WHERE number > $1 ORDER BY number LIMIT $2"
        ))
        .bind(signed(after, "number")?)
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await?
        .iter()
        .map(audit_row::checkpoint)
        .collect()
    }

    async fn last_checkpoint(&self) -> Result<Option<Checkpoint>, StoreError> {
        sqlx::query(concat!(
            "SELECT ",
            checkpoint_columns!(),
            " FROM audit_checkpoints ORDER BY number DESC LIMIT 1"
        ))
        .fetch_optional(&self.pool)
        .await?
        .as_ref()
        .map(audit_row::checkpoint)
        .transpose()
    }

    async fn retired_mark(&self) -> Result<Option<Checkpoint>, StoreError> {
        sqlx::query(concat!(
            "SELECT ",
            checkpoint_columns!(),
            " FROM audit_checkpoints WHERE reason = 'retention' ORDER BY sequence DESC LIMIT 1"
        ))
        .fetch_optional(&self.pool)
        .await?
        .as_ref()
        .map(audit_row::checkpoint)
        .transpose()
    }

    async fn add_checkpoint(
        &self,
        checkpoint: &Checkpoint,
    ) -> Result<CheckpointOutcome, StoreError> {
        self.writes.noted(self.try_add_checkpoint(checkpoint).await)
    }

    async fn last_batch_before(&self, cutoff: Timestamp) -> Result<Option<Batch>, StoreError> {
        sqlx::query(concat!(
            "SELECT ",
            batch_columns!(),
            " FROM audit_batches WHERE recorded_at_ms < $1
             ORDER BY recorded_at_ms DESC, sequence DESC LIMIT 1"
        ))
        .bind(cutoff.as_millisecond())
        .fetch_optional(&self.pool)
        .await?
        .as_ref()
        .map(audit_row::batch)
        .transpose()
    }

    async fn prepare_days(&self, now: Timestamp, days: u32) -> Result<u32, StoreError> {
        self.writes.noted(self.try_prepare_days(now, days).await)
    }

    async fn drop_retired(&self, mark: &Checkpoint) -> Result<Dropped, StoreError> {
        self.writes.noted(self.try_drop_retired(&mark.statement).await)
    }
}
