//! The audit log's chain on `SQLite`.

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::{SqliteConnection, SqlitePool};

use super::{SqliteStore, StoreError, audit::insert_rows};
use crate::{
    audit::chain::{
        batch::{Batch, ChainHead, Sealed},
        checkpoint::{Checkpoint, Statement},
        row::ChainedRow,
    },
    store::{
        audit_chain::{AuditChain, ChainEnds, CheckpointOutcome, Dropped},
        audit_row,
        row::{Cells, signed, unsigned},
    },
};

/// Rows in a batch of those that were there before the chain was; batches deleted at once.
const CHUNK: u32 = 1000;
/// Rows deleted at once; meanwhile nobody else can write.
const ROWS_DROPPED_AT_ONCE: u32 = 5000;

const HEAD: &str = "SELECT database_id, sequence, last_id, hash, recorded_at_ms FROM audit_head";

/// Where the chain ends. Within a transaction that writes nobody else can move it.
pub(super) async fn head(connection: &mut SqliteConnection) -> Result<ChainHead, StoreError> {
    audit_row::head(&sqlx::query(HEAD).fetch_one(connection).await?)
}

/// Adds a batch to the chain and moves its end, in the transaction that adds its rows.
pub(super) async fn link(
    connection: &mut SqliteConnection,
    batch: &Batch,
    head: &ChainHead,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO audit_batches
            (sequence, first_id, last_id, count, recorded_at_ms, previous_hash, hash, digests)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(signed(batch.sequence, "sequence")?)
    .bind(batch.first_id)
    .bind(batch.last_id)
    .bind(batch.count)
    .bind(batch.recorded_at_ms)
    .bind(batch.previous_hash.as_bytes().as_slice())
    .bind(batch.hash.as_bytes().as_slice())
    .bind(batch.digests.as_slice())
    .execute(&mut *connection)
    .await?;
    sqlx::query("UPDATE audit_head SET sequence = ?, last_id = ?, hash = ?, recorded_at_ms = ?")
        .bind(signed(head.sequence, "sequence")?)
        .bind(head.last_id)
        .bind(head.hash.as_bytes().as_slice())
        .bind(head.recorded_at_ms)
        .execute(connection)
        .await?;
    Ok(())
}

/// Adds rows, and the batch that has them.
pub(super) async fn add(
    connection: &mut SqliteConnection,
    sealed: Sealed<'_>,
) -> Result<(), StoreError> {
    let Sealed { batch, rows, head } = sealed;
    insert_rows(connection, &rows).await?;
    link(connection, &batch, &head).await
}

/// Whether the rows that were there before the chain, if any, are in it.
pub(super) async fn is_adopted(pool: &SqlitePool) -> Result<bool, StoreError> {
    let waiting: bool = sqlx::query_scalar(
        "SELECT sequence = 0 AND EXISTS (SELECT 1 FROM api_key_audit_log) FROM audit_head",
    )
    .fetch_one(pool)
    .await?;
    Ok(!waiting)
}

/// Begins the chain with the rows that were there before it, when there are any.
pub(super) async fn adopt(connection: &mut SqliteConnection) -> Result<u64, StoreError> {
    let mut head = head(connection).await?;
    let mut adopted = 0;
    if head.sequence > 0 {
        return Ok(adopted);
    }
    loop {
        let rows = rows_after(connection, head.last_id, CHUNK).await?;
        let Some(first) = rows.first() else { return Ok(adopted) };
        let (first_id, recorded_at_ms) = (first.id, first.recorded_at_ms);
        // A batch is of rows whose ids follow one another; a hole in them begins another one.
        let unbroken = rows.into_iter().zip(first_id..).take_while(|(row, id)| row.id == *id);
        let rows: Vec<_> = unbroken.map(|(row, _)| row).collect();
        let Some(Sealed { batch, head: next, .. }) = head.seal_rows(recorded_at_ms, rows, first_id)
        else {
            return Ok(adopted);
        };
        link(connection, &batch, &next).await?;
        adopted += u64::from(batch.count);
        head = next;
    }
}

async fn rows_after(
    connection: &mut SqliteConnection,
    after: i64,
    limit: u32,
) -> Result<Vec<ChainedRow<'static>>, StoreError> {
    sqlx::query("SELECT * FROM api_key_audit_log WHERE id > ? ORDER BY id LIMIT ?")
        .bind(after)
        .bind(limit)
        .fetch_all(connection)
        .await?
        .iter()
        .map(audit_row::chained)
        .collect()
}

impl SqliteStore {
    async fn try_add_checkpoint(
        &self,
        checkpoint: &Checkpoint,
    ) -> Result<CheckpointOutcome, StoreError> {
        let Checkpoint { statement, public_key, signature } = checkpoint;
        let mut transaction = self.begin().await?;
        let done = sqlx::query(
            "INSERT INTO audit_checkpoints
                (number, sequence, last_id, hash, at_ms, reason, database_id, public_key, signature)
             SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9
             WHERE ?1 > (SELECT coalesce(max(number), 0) FROM audit_checkpoints)",
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

    async fn try_drop_retired(&self, mark: &Statement) -> Result<Dropped, StoreError> {
        let mut transaction = self.begin().await?;
        let rows = sqlx::query(
            "DELETE FROM api_key_audit_log WHERE id IN
                (SELECT id FROM api_key_audit_log WHERE id <= ? ORDER BY id LIMIT ?)",
        )
        .bind(mark.last_id)
        .bind(ROWS_DROPPED_AT_ONCE)
        .execute(&mut *transaction)
        .await?
        .rows_affected();
        let batches = sqlx::query(
            "DELETE FROM audit_batches WHERE sequence IN
                (SELECT sequence FROM audit_batches WHERE sequence <= ? ORDER BY sequence LIMIT ?)",
        )
        .bind(signed(mark.sequence, "sequence")?)
        .bind(CHUNK)
        .execute(&mut *transaction)
        .await?
        .rows_affected();
        self.finish(transaction).await?;
        Ok(Dropped { rows, batches })
    }
}

#[async_trait]
impl AuditChain for SqliteStore {
    async fn chain_head(&self) -> Result<ChainHead, StoreError> {
        head(&mut *self.readers.acquire().await?).await
    }

    async fn chain_ends(&self) -> Result<ChainEnds, StoreError> {
        let row = sqlx::query(
            "SELECT audit_head.*,
                    (SELECT coalesce(max(id), 0) FROM api_key_audit_log) AS max_id,
                    (SELECT coalesce(max(sequence), 0) FROM audit_batches) AS max_sequence
             FROM audit_head",
        )
        .fetch_one(&self.readers)
        .await?;
        Ok(ChainEnds {
            head: audit_row::head(&row)?,
            max_id: row.integer("max_id")?,
            max_sequence: unsigned(row.integer("max_sequence")?, "audit_batches.sequence")?,
        })
    }

    async fn chain_batches(&self, after: u64, limit: u32) -> Result<Vec<Batch>, StoreError> {
        sqlx::query("SELECT * FROM audit_batches WHERE sequence > ? ORDER BY sequence LIMIT ?")
            .bind(signed(after, "sequence")?)
            .bind(limit)
            .fetch_all(&self.readers)
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
        rows_after(&mut *self.readers.acquire().await?, after, limit).await
    }

    async fn checkpoints(&self, after: u64, limit: u32) -> Result<Vec<Checkpoint>, StoreError> {
        sqlx::query("SELECT * FROM audit_checkpoints WHERE number > ? ORDER BY number LIMIT ?")
            .bind(signed(after, "number")?)
            .bind(limit)
            .fetch_all(&self.readers)
            .await?
            .iter()
            .map(audit_row::checkpoint)
            .collect()
    }

    async fn last_checkpoint(&self) -> Result<Option<Checkpoint>, StoreError> {
        sqlx::query("SELECT * FROM audit_checkpoints ORDER BY number DESC LIMIT 1")
            .fetch_optional(&self.readers)
            .await?
            .as_ref()
            .map(audit_row::checkpoint)
            .transpose()
    }

    async fn retired_mark(&self) -> Result<Option<Checkpoint>, StoreError> {
        sqlx::query(
            "SELECT * FROM audit_checkpoints WHERE reason = 'retention'
             ORDER BY sequence DESC LIMIT 1",
        )
        .fetch_optional(&self.readers)
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
        sqlx::query(
            "SELECT * FROM audit_batches WHERE recorded_at_ms < ?
             ORDER BY recorded_at_ms DESC, sequence DESC LIMIT 1",
        )
        .bind(cutoff.as_millisecond())
        .fetch_optional(&self.readers)
        .await?
        .as_ref()
        .map(audit_row::batch)
        .transpose()
    }

    async fn drop_retired(&self, mark: &Checkpoint) -> Result<Dropped, StoreError> {
        self.writes.noted(self.try_drop_retired(&mark.statement).await)
    }
}
