//! Audit events and usage, as filters ship them: several sources, each batch after the one before.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use edge_protocol::{
    EVENTS_PATH, Event, EventBatch, EventKind, UsageCount, UsageMethod, UsageOutcome,
};
use hyper::body::Bytes;
use tokio::task::JoinSet;

use super::Options;
use super::database::Database;
use super::ground::{Ground, Store};
use super::load::{Bodies, Timings, WARM_UP, closed, of};
use super::report::{Figure, Target};

/// Workers that have something to tell at the same time.
const SOURCES: usize = 8;
/// What a filter sends at once when it has much to tell.
const BATCH: usize = 256;
/// Keys in use, of which usage is told.
const KEYS: u64 = 10_000;

#[expect(clippy::disallowed_methods, reason = "events are of this moment")]
fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or_default()
}

/// Events such as a gate records in a busy minute.
fn events(source: usize, count: usize) -> Vec<Event> {
    let kinds = [
        (EventKind::ValidApiKey, "seen=first"),
        (EventKind::InvalidKey, "reason=unknown"),
        (EventKind::RateLimited, "limit=address-get"),
        (EventKind::ScopeDenied, "reason=scope_not_sufficient"),
    ];
    let at_ms = now_ms();
    let numbers = u64::try_from(source).unwrap_or_default() << 32;
    let event = |(number, (kind, details)): (u64, &(EventKind, &str))| Event {
        at_ms: at_ms + number % 200,
        kind: *kind,
        key_hash: Some(format!("{:016x}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15))),
        key_id: (*kind != EventKind::InvalidKey).then(|| format!("{:016x}", number % KEYS)),
        client_ip: Some(std::net::Ipv4Addr::from_bits(0x0a00_0000 | low(number)).into()),
        details: (*details).to_owned(),
        shadow: false,
    };
    (numbers..).zip(kinds.iter().cycle()).take(count).map(event).collect()
}

fn low(number: u64) -> u32 {
    u32::try_from(number.wrapping_mul(0x9e37_79b9) % 65_536).unwrap_or_default()
}

/// Counts of different keys, in this minute.
fn usage(source: usize, count: usize) -> Vec<UsageCount> {
    let minute_ms = now_ms() / 60_000 * 60_000;
    let first = u64::try_from(source * count).unwrap_or_default();
    let count = |key: u64| UsageCount {
        key_id: format!("{:016x}", key % KEYS),
        minute_ms,
        method: UsageMethod::Get,
        outcome: UsageOutcome::Allowed,
        count: 17,
    };
    (first..).map(count).take(BATCH).collect()
}

/// Each source's batches, written out but for their number.
fn batches(
    run: u32,
    events: impl Fn(usize) -> Vec<Event>,
    usage: impl Fn(usize) -> Vec<UsageCount>,
) -> Result<Bodies> {
    let text = |source: usize| {
        let name = format!("{:032x}", u64::from(run) << 32 | u64::try_from(source)?);
        let (events, usage) = (events(source), usage(source));
        let batch = EventBatch { source: name, batch: u64::MAX, events, usage };
        let text = serde_json::to_string(&batch)?;
        let (before, after) = text.split_once(&u64::MAX.to_string()).unwrap_or_default();
        anyhow::Ok((before.to_owned(), after.to_owned()))
    };
    let texts = (0..SOURCES).map(text).collect::<Result<Vec<_>>>()?;
    Ok(Arc::new(move |source, call| {
        let (before, after) = texts.get(source).map_or(("", ""), |(a, b)| (a, b));
        Bytes::from([before, &(call + 1).to_string(), after].concat())
    }))
}

pub(super) async fn measure(options: &Options, ground: &Ground) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    let post = |bodies| async {
        let watched = ground.with_database()?;
        closed(&ground.edge, EVENTS_PATH, SOURCES, options.span(), watched, bodies).await
    };
    let before = ground.database.number(LOGGED).await?;
    let full = post(batches(1, |it| events(it, BATCH), |_| Vec::new())?).await?;
    let plain = plain_inserts(options, &ground.database, BATCH).await?;
    figures.extend(rows(&full, BATCH, "audit events", plain, ground.store));
    let single = post(batches(2, |it| events(it, 1), |_| Vec::new())?).await?;
    let plain = plain_inserts(options, &ground.database, 1).await?;
    figures.extend(rows(&single, 1, "batches of one event", plain, ground.store));
    once_each(ground, before, &[(&full, BATCH), (&single, 1)]).await?;

    let uses = post(batches(3, |_| Vec::new(), |it| usage(it, BATCH))?).await?;
    let plain = plain_usage(options, &ground.database).await?;
    figures.extend(rows(&uses, BATCH, "usage counts", plain, ground.store));
    Ok(figures)
}

fn rows(it: &Timings, batch: usize, what: &str, plain: f64, store: Store) -> Vec<Figure> {
    let batch = of(u64::try_from(batch).unwrap_or_default());
    let figure = Figure::new(format!("{what} a second"), it.rate() * batch, "/s");
    let figure = figure.on(store).beside("plain inserts", plain);
    let figure =
        if what == "audit events" { figure.to_be(Target::AtLeast(50_000.0)) } else { figure };
    vec![
        figure,
        Figure::new(format!("{what} a second of a core"), it.rate_of_a_core() * batch, "/s")
            .on(store),
        Figure::new(format!("{what}: a batch, p99"), it.percentile_ms(99.0), "ms").on(store),
    ]
}

const LOGGED: &str = "SELECT count(*) FROM api_key_audit_log WHERE source <> 'control-plane'";

/// What was acknowledged is there, once, and the chain is whole.
async fn once_each(ground: &Ground, before: i64, sent: &[(&Timings, usize)]) -> Result<()> {
    let uncounted = WARM_UP * u64::try_from(SOURCES)?;
    let rows = |(it, batch): &(&Timings, usize)| (it.answers + uncounted) * *batch as u64;
    let sent = i64::try_from(sent.iter().map(rows).sum::<u64>())?;
    let stored = ground.database.number(LOGGED).await? - before;
    ensure!(stored == sent, "{sent} events were acknowledged, {stored} are stored");
    ground.keygate().run_json(&["audit", "verify", "--json"]).map(drop)
}

/// The same rows by plain statements, a transaction each, into a table of the same columns and
/// indexes, without chain, order or triggers.
async fn plain_inserts(options: &Options, database: &Database, batch: usize) -> Result<f64> {
    let columns = "id, recorded_at_ms, at_ms, event, key_id, key_hash, client_ip, actor, details,
        shadow, source, batch";
    let rows = events(0, batch);
    let insert = match database {
        Database::Postgres(_) => format!(
            "INSERT INTO plain_log ({columns})
             SELECT $1 + n, $2, $2, e, k, h, c, NULL, d, false, '{:032x}', 1
             FROM unnest($3::bigint[], $4::text[], $5::text[], $6::text[], $7::text[], $8::text[])
                  AS given (n, e, k, h, c, d)",
            7
        ),
        Database::Sqlite(_) => {
            let row = format!("(?, ?, ?, ?, ?, ?, ?, NULL, ?, 0, '{:032x}', 1)", 7);
            format!("INSERT INTO plain_log ({columns}) VALUES {}", vec![row; batch].join(", "))
        }
    };
    plain_table(database, "api_key_audit_log", "plain_log").await?;
    let insert: Arc<str> = insert.into();
    let done = plainly(options, move |database, first| {
        let (insert, rows) = (Arc::clone(&insert), rows.clone());
        async move { insert_plainly(&database, &insert, &rows, first).await }
    });
    done.of(database, batch).await
}

async fn insert_plainly(
    database: &Database,
    insert: &str,
    rows: &[Event],
    first: i64,
) -> Result<()> {
    let insert = sqlx::AssertSqlSafe(insert.to_owned());
    let at_ms = i64::try_from(now_ms())?;
    match database {
        Database::Postgres(pool) => {
            let ids: Vec<_> = (0..).take(rows.len()).collect::<Vec<i64>>();
            sqlx::query(insert)
                .bind(first)
                .bind(at_ms)
                .bind(ids)
                .bind(rows.iter().map(|it| it.kind.as_str()).collect::<Vec<_>>())
                .bind(rows.iter().map(|it| it.key_id.as_deref()).collect::<Vec<_>>())
                .bind(rows.iter().map(|it| it.key_hash.as_deref()).collect::<Vec<_>>())
                .bind(
                    rows.iter().map(|it| it.client_ip.map(|ip| ip.to_string())).collect::<Vec<_>>(),
                )
                .bind(rows.iter().map(|it| it.details.as_str()).collect::<Vec<_>>())
                .execute(pool)
                .await?;
        }
        Database::Sqlite(pool) => {
            let mut query = sqlx::query(insert);
            for (id, row) in (first..).zip(rows) {
                query = query
                    .bind(id)
                    .bind(at_ms)
                    .bind(at_ms)
                    .bind(row.kind.as_str())
                    .bind(row.key_id.as_deref())
                    .bind(row.key_hash.as_deref())
                    .bind(row.client_ip.map(|ip| ip.to_string()))
                    .bind(row.details.as_str());
            }
            query.execute(pool).await?;
        }
    }
    Ok(())
}

/// The same counts by plain statements.
async fn plain_usage(options: &Options, database: &Database) -> Result<f64> {
    plain_table(database, "api_key_usage", "plain_usage").await?;
    let done = plainly(options, |database, first| async move {
        let rows = usage(usize::try_from(first)? / BATCH, BATCH);
        let text = |it: &UsageCount| {
            format!("('{}', {}, 'GET', 'allowed', {})", it.key_id, it.minute_ms, it.count)
        };
        let rows = rows.iter().map(text).collect::<Vec<_>>().join(", ");
        let insert = format!(
            "INSERT INTO plain_usage (key_id, minute_ms, method, outcome, count) VALUES {rows}
             ON CONFLICT (key_id, minute_ms, method, outcome)
             DO UPDATE SET count = plain_usage.count + excluded.count"
        );
        database.run(&insert).await
    });
    done.of(database, BATCH).await
}

/// Makes an empty table with the columns and indexes of another one.
async fn plain_table(database: &Database, like: &str, name: &str) -> Result<()> {
    database.run(&format!("DROP TABLE IF EXISTS {name}")).await?;
    match database {
        Database::Postgres(_) => {
            database.run(&format!("CREATE TABLE {name} (LIKE {like} INCLUDING ALL)")).await
        }
        Database::Sqlite(pool) => {
            let made: Vec<String> = sqlx::query_scalar(
                "SELECT sql FROM sqlite_master
                 WHERE tbl_name = ? AND type IN ('table', 'index') AND sql IS NOT NULL
                 ORDER BY type DESC",
            )
            .bind(like)
            .fetch_all(pool)
            .await?;
            for sql in made {
                // An index has its table's name in its own.
                database.run(&sql.replace(like, name)).await?;
            }
            Ok(())
        }
    }
}

/// Statements one after the other, on as many connections as there are sources; a file has one.
struct Plainly<F> {
    span: Duration,
    insert: F,
}

fn plainly<F, R>(options: &Options, insert: F) -> Plainly<F>
where
    F: Fn(Database, i64) -> R + Clone + Send + 'static,
    R: Future<Output = Result<()>> + Send,
{
    Plainly { span: options.span() / 2, insert }
}

impl<F, R> Plainly<F>
where
    F: Fn(Database, i64) -> R + Clone + Send + 'static,
    R: Future<Output = Result<()>> + Send,
{
    /// Rows a second.
    async fn of(self, database: &Database, batch: usize) -> Result<f64> {
        let Self { span, insert } = self;
        let start = Instant::now();
        let (next, batch) = (Arc::new(AtomicI64::new(1)), i64::try_from(batch)?);
        let mut writers = JoinSet::new();
        for _ in 0..SOURCES {
            let (database, insert, next) = (database.clone(), insert.clone(), Arc::clone(&next));
            writers.spawn(async move {
                while start.elapsed() < span {
                    let first = next.fetch_add(batch, Ordering::Relaxed);
                    insert(database.clone(), first).await?;
                }
                anyhow::Ok(())
            });
        }
        while let Some(done) = writers.join_next().await {
            done??;
        }
        let rows = u64::try_from(next.load(Ordering::Relaxed) - 1)?;
        Ok(of(rows) / start.elapsed().as_secs_f64())
    }
}
