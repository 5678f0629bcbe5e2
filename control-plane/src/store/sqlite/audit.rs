//! The audit log on `SQLite`.

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

use super::{SqliteStore, StoreError, chain, usage};
use crate::{
    audit::{AuditEntry, AuditRow, OWN_SOURCE, chain::row::ChainedRow},
    store::{
        AuditFilter, AuditStore, BatchOutcome, FilterBatch, IdRange, audit_row,
        row::{signed, to_json},
    },
};

/// Adds the control plane's own entries, in order, as one batch of the chain. They are recorded
/// when they happen.
pub(super) async fn insert(
    connection: &mut SqliteConnection,
    entries: &[AuditEntry],
) -> Result<(), StoreError> {
    let now = entries.iter().map(|entry| entry.event.at_ms).max().unwrap_or(0);
    insert_at(connection, OWN_SOURCE, None, signed(now, "at_ms")?, entries).await
}

/// Adds entries that were reported at `now_ms`, in order, as one batch of the chain.
async fn insert_at(
    connection: &mut SqliteConnection,
    source: &str,
    batch: Option<i64>,
    now_ms: i64,
    entries: &[AuditEntry],
) -> Result<(), StoreError> {
    if entries.is_empty() {
        return Ok(());
    }
    let head = chain::head(connection).await?;
    let sealed = head.seal(source, batch, now_ms, entries);
    let sealed = sealed.ok_or_else(|| StoreError::Corrupt("the time of an audit entry".into()))?;
    chain::add(connection, sealed).await
}

/// Adds rows with one statement: one by one they would take several times as long.
pub(super) async fn insert_rows(
    connection: &mut SqliteConnection,
    rows: &[ChainedRow<'_>],
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO api_key_audit_log
            (id, recorded_at_ms, at_ms, event, key_id, key_hash, client_ip, actor, details, shadow,
             source, batch)
         SELECT value ->> 'id', value ->> 'recorded_at_ms', value ->> 'at_ms', value ->> 'event',
                value ->> 'key_id', value ->> 'key_hash', value ->> 'client_ip', value ->> 'actor',
                value ->> 'details', value ->> 'shadow', value ->> 'source', value ->> 'batch'
         FROM json_each(?) ORDER BY key",
    )
    .bind(to_json(&rows)?)
    .execute(connection)
    .await?;
    Ok(())
}

impl SqliteStore {
    async fn try_append(&self, entries: &[AuditEntry]) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        insert(&mut transaction, entries).await?;
        self.finish(transaction).await
    }

    async fn try_append_batch(&self, it: &FilterBatch) -> Result<BatchOutcome, StoreError> {
        let FilterBatch { source, batch, at, entries, usage } = it;
        let batch = signed(*batch, "batch")?;
        let mut transaction = self.begin().await?;
        // No row comes back when the batch is not newer than the last one stored.
        let is_new = sqlx::query(
            "INSERT INTO edge_sources (source, last_batch, last_seen_ms) VALUES (?, ?, ?)
             ON CONFLICT (source) DO UPDATE
             SET last_batch = excluded.last_batch, last_seen_ms = excluded.last_seen_ms
             WHERE excluded.last_batch > last_batch
             RETURNING 1",
        )
        .bind(source)
        .bind(batch)
        .bind(at.as_millisecond())
        .fetch_optional(&mut *transaction)
        .await?
        .is_some();
        if !is_new {
            return Ok(BatchOutcome::Repeated);
        }
        usage::add(&mut transaction, usage).await?;
        insert_at(&mut transaction, source, Some(batch), at.as_millisecond(), entries).await?;
        self.finish(transaction).await?;
        Ok(BatchOutcome::Stored)
    }
}

#[async_trait]
impl AuditStore for SqliteStore {
    async fn append(&self, entries: &[AuditEntry]) -> Result<(), StoreError> {
        self.writes.noted(self.try_append(entries).await)
    }

    async fn append_batch(&self, batch: &FilterBatch) -> Result<BatchOutcome, StoreError> {
        self.writes.noted(self.try_append_batch(batch).await)
    }

    async fn forget_sources(&self, before: Timestamp) -> Result<u64, StoreError> {
        let forgotten = sqlx::query("DELETE FROM edge_sources WHERE last_seen_ms < ?")
            .bind(before.as_millisecond())
            .execute(&self.writer)
            .await;
        self.writes.settled(forgotten.map(|done| done.rows_affected()))
    }

    async fn audit_bounds(&self, filter: &AuditFilter) -> Result<Option<IdRange>, StoreError> {
        if filter.since.is_none() && filter.until.is_none() {
            return Ok(None);
        }
        let millis = |time: Option<Timestamp>, or| time.map_or(or, Timestamp::as_millisecond);
        let (first, last) = sqlx::query_as(
            "SELECT coalesce(min(id), 1), coalesce(max(id), 0)
             FROM api_key_audit_log INDEXED BY api_key_audit_log_by_time
             WHERE at_ms >= ? AND at_ms < ?",
        )
        .bind(millis(filter.since, i64::MIN))
        .bind(millis(filter.until, i64::MAX))
        .fetch_one(&self.readers)
        .await?;
        Ok(Some(IdRange { first, last }))
    }

    async fn audit_rows(
        &self,
        filter: &AuditFilter,
        limit: u32,
    ) -> Result<Vec<AuditRow>, StoreError> {
        let within = match filter.within {
            Some(within) => Some(within),
            None => self.audit_bounds(filter).await?,
        };
        let mut query = QueryBuilder::<Sqlite>::new("SELECT * FROM api_key_audit_log WHERE id < ");
        query.push_bind(filter.before.unwrap_or(i64::MAX));
        if let Some(IdRange { first, last }) = within {
            query.push(" AND id BETWEEN ").push_bind(first).push(" AND ").push_bind(last);
        }
        // Only the conditions that there are: `? IS NULL OR event = ?` would keep the planner from
        // the indexes.
        if let Some(event) = filter.event {
            query.push(" AND event = ").push_bind(event.as_str());
        }
        if let Some(key_id) = filter.key_id {
            query.push(" AND key_id = ").push_bind(key_id.to_string());
        }
        if let Some(client_ip) = filter.client_ip {
            query.push(" AND client_ip = ").push_bind(client_ip.to_string());
        }
        if let Some(actor) = &filter.actor {
            query.push(" AND actor = ").push_bind(actor.as_str());
        }
        if let Some(source) = &filter.source {
            query.push(" AND source = ").push_bind(source.as_str());
        }
        // With a sign, so that the index of times is left alone: the order is that of ids.
        if let Some(since) = filter.since {
            query.push(" AND +at_ms >= ").push_bind(since.as_millisecond());
        }
        if let Some(until) = filter.until {
            query.push(" AND +at_ms < ").push_bind(until.as_millisecond());
        }
        query.push(" ORDER BY id DESC LIMIT ").push_bind(limit);
        query.build().fetch_all(&self.readers).await?.iter().map(audit_row::read).collect()
    }
}
