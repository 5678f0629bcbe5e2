//! The audit log on `PostgreSQL`.

use async_trait::async_trait;
use jiff::Timestamp;
use sqlx::{PgConnection, Postgres, QueryBuilder};
use std::collections::HashSet;

use super::{PostgresStore, StoreError, chain, unless_lost, usage};
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
        row::signed,
    },
};

/// Adds the control plane's own entries, in order, as one batch of the chain. They are recorded
/// when they happen. From here on the transaction holds the end of the log.
pub(super) async fn insert(
    connection: &mut PgConnection,
    entries: &[AuditEntry],
) -> Result<(), StoreError> {
    let now = entries.iter().map(|entry| entry.event.at_ms).max().unwrap_or(0);
    let own = Report { source: OWN_SOURCE, batch: None, entries };
    insert_at(connection, signed(now, "at_ms")?, &[own]).await
}

/// Adds what was reported at `now_ms`, in order, as one batch of the chain.
async fn insert_at(
    connection: &mut PgConnection,
    now_ms: i64,
    reports: &[Report<'_>],
) -> Result<(), StoreError> {
    if reports.iter().all(|report| report.entries.is_empty()) {
        return Ok(());
    }
    let head = chain::lock_head(connection, now_ms).await?;
    let sealed = head.seal(now_ms, reports.iter().copied());
    let sealed = sealed.ok_or_else(|| StoreError::Corrupt("the time of an audit entry".into()))?;
    chain::add(connection, sealed).await
}

/// Adds rows with one statement: one by one they would take several times as long.
pub(super) async fn insert_rows(
    connection: &mut PgConnection,
    rows: &[ChainedRow<'_>],
) -> Result<(), StoreError> {
    fn column<'a, T>(rows: &'a [ChainedRow<'_>], cell: impl Fn(&'a ChainedRow<'_>) -> T) -> Vec<T> {
        rows.iter().map(cell).collect()
    }
    sqlx::query(
        "INSERT INTO api_key_audit_log
            (id, recorded_at_ms, at_ms, event, key_id, key_hash, client_ip, actor, details, shadow,
             source, batch)
         SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[], $5::text[],
            $6::text[], $7::text[], $8::text[], $9::text[], $10::boolean[], $11::text[],
            $12::bigint[])",
    )
    .bind(column(rows, |row| row.id))
    .bind(column(rows, |row| row.recorded_at_ms))
    .bind(column(rows, |row| row.at_ms))
    .bind(column(rows, |row| &*row.event))
    .bind(column(rows, |row| row.key_id.as_deref()))
    .bind(column(rows, |row| row.key_hash.as_deref()))
    .bind(column(rows, |row| row.client_ip.as_deref()))
    .bind(column(rows, |row| row.actor.as_deref()))
    .bind(column(rows, |row| &*row.details))
    .bind(column(rows, |row| row.shadow))
    .bind(column(rows, |row| &*row.source))
    .bind(column(rows, |row| row.batch))
    .execute(connection)
    .await?;
    Ok(())
}

/// A day of the log, and the ids of its rows. A row whose time is false is in the day of that time: it
/// makes that day's ids more than they are, so it hides nothing.
#[derive(Clone, Copy, Debug)]
struct Day {
    from_ms: i64,
    until_ms: i64,
    ids: IdRange,
}

impl Day {
    /// The ids of all of them.
    fn ids_of(days: &[Self]) -> IdRange {
        IdRange {
            first: days.iter().map(|day| day.ids.first).min().unwrap_or(1),
            last: days.iter().map(|day| day.ids.last).max().unwrap_or(0),
        }
    }

    /// From and until when the rows in some blocks were recorded; none: there are no such rows.
    fn time_of(days: &[Self], blocks: Blocks) -> Option<(i64, i64)> {
        let IdRange { first, last } = blocks.ids();
        let has_some = |day: &&Self| day.ids.first <= last && first <= day.ids.last;
        let from = days.iter().filter(has_some).map(|day| day.from_ms).min()?;
        let until = days.iter().filter(has_some).map(|day| day.until_ms).max()?;
        Some((from, until))
    }
}

/// Where rows are looked for.
struct Place<'a> {
    sought: &'a Sought,
    blocks: Blocks,
    time: (i64, i64),
}

/// Whether a text can be in a column at all: `PostgreSQL` refuses the character NUL, even in what
/// is only asked for.
fn can_be_stored(text: Option<&String>) -> bool {
    !text.is_some_and(|text| text.contains('\0'))
}

impl PostgresStore {
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
        // Only those come back whose batch is newer than the last one stored. Another one of the same
        // source waits here until this one is stored.
        let new: HashSet<String> = sqlx::query_scalar(
            "INSERT INTO edge_sources AS known (source, last_batch, last_seen_ms)
             SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[])
             ON CONFLICT (source) DO UPDATE
             SET last_batch = excluded.last_batch, last_seen_ms = excluded.last_seen_ms
             WHERE excluded.last_batch > known.last_batch
             RETURNING source",
        )
        .bind(group.iter().map(|it| it.source.as_str()).collect::<Vec<_>>())
        .bind(numbers.as_slice())
        .bind(group.iter().map(|it| it.at.as_millisecond()).collect::<Vec<_>>())
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

    /// The days of the log that have rows.
    async fn days(&self) -> Result<Vec<Day>, StoreError> {
        let days: Vec<(i64, i64, i64, i64)> =
            sqlx::query_as("SELECT from_ms, until_ms, first_id, last_id FROM audit_days()")
                .fetch_all(&self.pool)
                .await?;
        let day = |(from_ms, until_ms, first, last)| Day {
            from_ms,
            until_ms,
            ids: IdRange { first, last },
        };
        Ok(days.into_iter().map(day).collect())
    }

    /// Rows, newest first; with a place, only those there.
    async fn rows_of(
        &self,
        filter: &AuditFilter,
        within: Option<IdRange>,
        place: Option<Place<'_>>,
        limit: u32,
    ) -> Result<Vec<AuditRow>, StoreError> {
        let mut query = QueryBuilder::<Postgres>::new(concat!("SELECT ", log_columns!(), " FROM "));
        match place {
            None => query.push("api_key_audit_log"),
            Some(Place { sought, blocks, time: (from_ms, until_ms) }) => {
                // So that days without any of these rows are left out.
                query.push("(SELECT * FROM api_key_audit_log WHERE recorded_at_ms >= ");
                query.push_bind(from_ms).push(" AND recorded_at_ms < ").push_bind(until_ms);
                query.push(concat!(
                    " AND ",
                    block_of_row!(),
                    " = ANY (ARRAY(SELECT generate_series("
                ));
                query.push_bind(blocks.first).push(", ").push_bind(blocks.last).push(")))");
                query.push(" AND ").push(sought.column).push(" = ").push_bind(&sought.value);
                // No other condition is to draw another index into it, which may have many more rows: of those
                // that have few none gets here.
                query.push(" OFFSET 0) AS in_blocks")
            }
        };
        filter.push_to(&mut query, within, limit);
        query.build().fetch_all(&self.pool).await?.iter().map(audit_row::read).collect()
    }
}

#[async_trait]
impl AuditStore for PostgresStore {
    async fn append(&self, entries: &[AuditEntry]) -> Result<(), StoreError> {
        self.writes.noted(unless_lost(self.try_append(entries)).await)
    }

    async fn append_batches(
        &self,
        batches: &[&FilterBatch],
    ) -> Result<Vec<BatchOutcome>, StoreError> {
        self.writes.noted(ended_after(BATCHES_LOST_AFTER, self.try_append_batches(batches)).await)
    }

    async fn forget_sources(&self, before: Timestamp) -> Result<u64, StoreError> {
        // Not those of which a batch is just being stored, and in the order in which batches are.
        let forgotten = sqlx::query(
            "DELETE FROM edge_sources WHERE source IN
                (SELECT source FROM edge_sources WHERE last_seen_ms < $1
                 ORDER BY source FOR UPDATE SKIP LOCKED)",
        )
        .bind(before.as_millisecond())
        .execute(&self.writers)
        .await;
        self.writes.settled(forgotten.map(|done| done.rows_affected()))
    }

    async fn audit_bounds(&self, filter: &AuditFilter) -> Result<Option<IdRange>, StoreError> {
        if filter.since.is_none() && filter.until.is_none() {
            return Ok(None);
        }
        let millis = |time: Option<Timestamp>, or| time.map_or(or, Timestamp::as_millisecond);
        let (first, last) = sqlx::query_as(
            // `+ 0`: or the planner walks the ids from either end until the time fits, through
            // all that is older or younger.
            "SELECT coalesce(min(id + 0), 1), coalesce(max(id + 0), 0) FROM api_key_audit_log
             WHERE at_ms >= $1 AND at_ms < $2",
        )
        .bind(millis(filter.since, i64::MIN))
        .bind(millis(filter.until, i64::MAX))
        .fetch_one(&self.pool)
        .await?;
        Ok(Some(IdRange { first, last }))
    }

    async fn audit_rows(
        &self,
        filter: &AuditFilter,
        limit: u32,
    ) -> Result<Vec<AuditRow>, StoreError> {
        if !can_be_stored(filter.actor.as_ref()) || !can_be_stored(filter.source.as_ref()) {
            return Ok(Vec::new());
        }
        let within = match filter.within {
            Some(within) => Some(within),
            None => self.audit_bounds(filter).await?,
        };
        let Some(sought) = Sought::by(filter) else {
            return self.rows_of(filter, within, None, limit).await;
        };
        let ids = within.unwrap_or(IdRange::ALL).before(filter.before);
        for (column, value) in audit_blocks::beside(filter) {
            let mut count = audit_blocks::count_to_few::<Postgres>(column, value, ids);
            if count.build_query_scalar::<i64>().fetch_one(&self.pool).await? <= FEW {
                return self.rows_of(filter, within, None, limit).await;
            }
        }
        let days = self.days().await?;
        let all = within.unwrap_or_else(|| Day::ids_of(&days)).before(filter.before);
        let mut walk = Walk::through(all, limit);
        while let Some((blocks, most)) = walk.next() {
            let found = match Day::time_of(&days, blocks) {
                None => Vec::new(),
                Some(time) => {
                    let place = Place { sought: &sought, blocks, time };
                    self.rows_of(filter, within, Some(place), most).await?
                }
            };
            if walk.take(blocks, found) {
                let next =
                    sqlx::query_scalar("SELECT max(id) FROM api_key_audit_log WHERE id < $1");
                walk.jump(next.bind(blocks.ids().first).fetch_one(&self.pool).await?);
            }
        }
        Ok(walk.rows())
    }
}
