//! The audit log on `SQLite`.

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::{QueryBuilder, Sqlite, SqliteConnection};
use std::collections::HashSet;

use super::{SqliteStore, StoreError, chain, usage};
use crate::{
    audit::{
        AuditEntry, AuditRow, OWN_SOURCE,
        chain::{batch::Report, row::ChainedRow},
    },
    store::{
        AuditFilter, AuditStore, BATCHES_LOST_AFTER, BatchOutcome, FilterBatch, IdRange,
        audit_blocks::{self, Blocks, FEW, Sought, Walk, block_of_row},
        audit_row::{self, log_columns},
        ended_after,
        new_batches::NewBatches,
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
    let own = Report { source: OWN_SOURCE, batch: None, entries };
    insert_at(connection, signed(now, "at_ms")?, &[own]).await
}

/// Adds what was reported at `now_ms`, in order, as one batch of the chain.
async fn insert_at(
    connection: &mut SqliteConnection,
    now_ms: i64,
    reports: &[Report<'_>],
) -> Result<(), StoreError> {
    if reports.iter().all(|report| report.entries.is_empty()) {
        return Ok(());
    }
    let head = chain::head(connection).await?;
    let sealed = head.seal(now_ms, reports.iter().copied());
    let sealed = sealed.ok_or_else(|| StoreError::Corrupt("the time of an audit entry".into()))?;
    chain::add(connection, sealed).await
}

/// How many rows a statement adds, the most first. Few different ones, so that each stays prepared.
const ROWS_OF_A_STATEMENT: [usize; 4] = [256, 32, 4, 1];

/// Adds rows, many with a statement: one by one they would take several times as long, and handed
/// over as JSON a quarter longer.
pub(super) async fn insert_rows(
    connection: &mut SqliteConnection,
    mut rows: &[ChainedRow<'_>],
) -> Result<(), StoreError> {
    for count in ROWS_OF_A_STATEMENT {
        while let Some((now, later)) = rows.split_at_checked(count) {
            insert_at_once(connection, now).await?;
            rows = later;
        }
    }
    Ok(())
}

async fn insert_at_once(
    connection: &mut SqliteConnection,
    rows: &[ChainedRow<'_>],
) -> Result<(), StoreError> {
    let mut query = QueryBuilder::<Sqlite>::new(concat!(
        "INSERT INTO api_key_audit_log (",
        log_columns!(),
        ") "
    ));
    query.push_values(rows, |mut cells, row| {
        cells
            .push_bind(row.id)
            .push_bind(row.recorded_at_ms)
            .push_bind(row.at_ms)
            .push_bind(&*row.event)
            .push_bind(row.key_id.as_deref())
            .push_bind(row.key_hash.as_deref())
            .push_bind(row.client_ip.as_deref())
            .push_bind(row.actor.as_deref())
            .push_bind(&*row.details)
            .push_bind(row.shadow)
            .push_bind(&*row.source)
            .push_bind(row.batch);
    });
    query.build().execute(connection).await?;
    Ok(())
}

impl SqliteStore {
    async fn try_append(&self, entries: &[AuditEntry]) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        insert(&mut transaction, entries).await?;
        self.finish(transaction).await
    }

    async fn try_append_batches(
        &self,
        group: &[&FilterBatch],
    ) -> Result<Vec<BatchOutcome>, StoreError> {
        let numbers = group.iter().map(|it| signed(it.batch, "batch"));
        let numbers = numbers.collect::<Result<Vec<_>, _>>()?;
        let mut transaction = self.begin().await?;
        // Only those come back whose batch is newer than the last one stored.
        let sources: Vec<_> = group
            .iter()
            .zip(&numbers)
            .map(|(it, number)| (&it.source, number, it.at.as_millisecond()))
            .collect();
        let new: HashSet<String> = sqlx::query_scalar(
            "INSERT INTO edge_sources (source, last_batch, last_seen_ms)
             SELECT value ->> 0, value ->> 1, value ->> 2 FROM json_each(?) WHERE true
             ON CONFLICT (source) DO UPDATE
             SET last_batch = excluded.last_batch, last_seen_ms = excluded.last_seen_ms
             WHERE excluded.last_batch > last_batch
             RETURNING source",
        )
        .bind(to_json(&sources)?)
        .fetch_all(&mut *transaction)
        .await?
        .into_iter()
        .collect();
        let Some(news) = NewBatches::of(group, &new)? else {
            transaction.rollback().await?;
            return Ok(vec![BatchOutcome::Repeated; group.len()]);
        };
        usage::add(&mut transaction, &news.usage).await?;
        insert_at(&mut transaction, news.at_ms, &news.reports).await?;
        self.finish(transaction).await?;
        Ok(news.outcomes)
    }

    /// The ids among which the rows of a filter are.
    async fn ids_of(
        &self,
        filter: &AuditFilter,
        within: Option<IdRange>,
    ) -> Result<IdRange, StoreError> {
        let all = if let Some(within) = within {
            within
        } else {
            let (first, last) = sqlx::query_as(
                "SELECT coalesce((SELECT min(id) FROM api_key_audit_log), 1),
                        coalesce((SELECT max(id) FROM api_key_audit_log), 0)",
            )
            .fetch_one(&self.readers)
            .await?;
            IdRange { first, last }
        };
        Ok(all.before(filter.before))
    }

    /// Rows, newest first; with something that is sought, only those in some blocks.
    async fn rows_of(
        &self,
        filter: &AuditFilter,
        within: Option<IdRange>,
        by: Option<(&Sought, Blocks)>,
        limit: u32,
    ) -> Result<Vec<AuditRow>, StoreError> {
        let mut query = QueryBuilder::<Sqlite>::new("SELECT * FROM ");
        if let Some((sought, Blocks { first, last })) = by {
            query.push("(SELECT * FROM api_key_audit_log INDEXED BY ").push(sought.index);
            query.push(" WHERE ").push(sought.column).push(" = ").push_bind(&sought.value);
            query.push(concat!(
                " AND ",
                block_of_row!(),
                " IN (WITH RECURSIVE block(number) AS (SELECT "
            ));
            query.push_bind(first);
            query.push(" UNION ALL SELECT number + 1 FROM block WHERE number < ").push_bind(last);
            query.push(") SELECT number FROM block))");
        } else {
            query.push("api_key_audit_log");
        }
        filter.push_to(&mut query, within, limit);
        query.build().fetch_all(&self.readers).await?.iter().map(audit_row::read).collect()
    }
}

#[async_trait]
impl AuditStore for SqliteStore {
    async fn append(&self, entries: &[AuditEntry]) -> Result<(), StoreError> {
        self.writes.noted(self.try_append(entries).await)
    }

    async fn append_batches(
        &self,
        batches: &[&FilterBatch],
    ) -> Result<Vec<BatchOutcome>, StoreError> {
        self.writes.noted(ended_after(BATCHES_LOST_AFTER, self.try_append_batches(batches)).await)
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
        let Some(sought) = Sought::by(filter) else {
            return self.rows_of(filter, within, None, limit).await;
        };
        let ids = within.unwrap_or(IdRange::ALL).before(filter.before);
        for (column, value) in audit_blocks::beside(filter) {
            let mut count = audit_blocks::count_to_few::<Sqlite>(column, value, ids);
            if count.build_query_scalar::<i64>().fetch_one(&self.readers).await? <= FEW {
                return self.rows_of(filter, within, None, limit).await;
            }
        }
        let mut walk = Walk::through(self.ids_of(filter, within).await?, limit);
        while let Some((blocks, most)) = walk.next() {
            let found = self.rows_of(filter, within, Some((&sought, blocks)), most).await?;
            if walk.take(blocks, found) {
                let next = sqlx::query_scalar("SELECT max(id) FROM api_key_audit_log WHERE id < ?");
                walk.jump(next.bind(blocks.ids().first).fetch_one(&self.readers).await?);
            }
        }
        Ok(walk.rows())
    }
}
