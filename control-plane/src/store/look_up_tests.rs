//! The look-up of a key by its digest, on which every first verification depends: by the index,
//! however many keys there are.

use sqlx::{AssertSqlSafe, Connection, Row, SqliteConnection};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

use super::{Store, postgres, sqlite};
use crate::{
    config::DatabaseUrl,
    keys::digest::LookupDigest,
    testing::{Database, on_each_database, postgres::Scratch},
};

on_each_database!(a_look_up_takes_the_index_and_reads_no_other_key);

async fn a_look_up_takes_the_index_and_reads_no_other_key(database: Database) {
    fill(&database, 5_000).await;
    let plan = plan(&database).await;
    let (index, scan) = match &database.url {
        DatabaseUrl::Sqlite(_) => {
            ("SEARCH api_keys USING INDEX sqlite_autoindex_api_keys_2 (lookup=?)", "SCAN api_keys")
        }
        // By a bitmap or without one, as there are fewer keys or more.
        DatabaseUrl::Postgres(_) => ("api_keys_lookup_key", "Seq Scan on api_keys"),
    };
    assert!(plan.contains(index) && !plan.contains(scan), "{plan}");
}

/// Puts so many keys there, with digests as they are: like random bytes.
async fn fill(database: &Database, keys: u32) {
    let (rows, name, lookup, salt, hash, yes) = match &database.url {
        DatabaseUrl::Sqlite(_) => (
            "(WITH RECURSIVE count(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM count LIMIT {keys}) SELECT n FROM count)",
            "printf('%016x', n)",
            "randomblob(16)",
            "randomblob(16)",
            "randomblob(32)",
            "1",
        ),
        DatabaseUrl::Postgres(_) => (
            "generate_series(1, {keys}) AS n",
            "lpad(to_hex(n), 16, '0')",
            "substr(sha256(n::text::bytea), 1, 16)",
            "substr(sha256(n::text::bytea), 17)",
            "sha256(n::text::bytea)",
            "true",
        ),
    };
    let rows = rows.replace("{keys}", &keys.to_string());
    let added = database
        .execute(&format!(
            "INSERT INTO api_keys (key_id, lookup, hash_algorithm, hash_iterations, hash_salt, hash,
                name, owner, scope, environment, is_active, allowed_ips, metadata, created_at_ms)
             SELECT {name}, {lookup}, 'pbkdf2-hmac-sha256', 100000, {salt}, {hash},
                'key of a service', 'team', 'read', 'live', {yes}, '[\"10.0.0.0/8\"]', '{{}}', n
             FROM {rows}"
        ))
        .await;
    assert_eq!(added, u64::from(keys));
    database.execute("ANALYZE").await;
}

/// What the database says about how it finds the key.
async fn plan(database: &Database) -> String {
    match &database.url {
        DatabaseUrl::Sqlite(path) => {
            let mut connection =
                SqliteConnection::connect_with(&sqlite::options(path)).await.expect("a connection");
            let explain = format!("EXPLAIN QUERY PLAN {}", sqlite::LOOK_UP);
            let digests = format!("[\"{}\"]", "07".repeat(16));
            let rows = sqlx::query(AssertSqlSafe(explain)).bind(digests).fetch_all(&mut connection);
            let rows = rows.await.expect("a plan");
            rows.iter().map(|row| row.get::<String, _>("detail") + "\n").collect()
        }
        DatabaseUrl::Postgres(_) => {
            let mut connection = database.connect_to_postgres().await;
            // As a statement is planned that is asked again and again, whatever for.
            let generic = sqlx::query("SET plan_cache_mode = force_generic_plan");
            generic.execute(&mut connection).await.expect("set");
            let explain = format!("EXPLAIN (ANALYZE, BUFFERS, COSTS OFF) {}", postgres::LOOK_UP);
            let digests = vec![[7_u8; 16]; 2];
            let rows = sqlx::query(AssertSqlSafe(explain)).bind(digests).fetch_all(&mut connection);
            let rows = rows.await.expect("a plan");
            rows.iter().map(|row| row.get::<String, _>(0) + "\n").collect()
        }
    }
}

/// Digests of keys that are there, from all over the table.
async fn digests(database: &Database, count: u32) -> Vec<LookupDigest> {
    let select = AssertSqlSafe(format!("SELECT lookup FROM api_keys ORDER BY hash LIMIT {count}"));
    let found: Vec<Vec<u8>> = match &database.url {
        DatabaseUrl::Sqlite(path) => {
            let mut connection =
                SqliteConnection::connect_with(&sqlite::options(path)).await.expect("a connection");
            sqlx::query_scalar(select).fetch_all(&mut connection).await.expect("digests")
        }
        DatabaseUrl::Postgres(_) => {
            let mut connection = database.connect_to_postgres().await;
            sqlx::query_scalar(select).fetch_all(&mut connection).await.expect("digests")
        }
    };
    found.into_iter().map(|digest| digest.try_into().expect("16 bytes")).collect()
}

/// Times each of these look-ups, one after the other; gives how long half of them took, and all but
/// one in a hundred.
async fn times(store: &dyn Store, digests: &[LookupDigest], known: bool) -> (Duration, Duration) {
    let mut times = Vec::with_capacity(digests.len());
    for digest in digests {
        let started = now();
        let found = store.look_up(&[*digest]).await.expect("read").found;
        times.push(started.elapsed());
        assert_eq!(!found.is_empty(), known);
    }
    times.sort_unstable();
    (times[times.len() / 2], times[times.len() * 99 / 100])
}

#[expect(clippy::disallowed_methods, reason = "this measures real time")]
fn now() -> Instant {
    Instant::now()
}

/// How many a second, asked for by so many at once.
async fn rate(store: &Arc<dyn Store>, digests: &[LookupDigest], askers: usize) -> f64 {
    let started = now();
    let mut tasks = JoinSet::new();
    for part in digests.chunks(digests.len() / askers) {
        let (store, part) = (Arc::clone(store), part.to_vec());
        tasks.spawn(async move {
            for digest in part {
                store.look_up(&[digest]).await.expect("read");
            }
        });
    }
    tasks.join_all().await;
    f64::from(u32::try_from(digests.len()).expect("few")) / started.elapsed().as_secs_f64()
}

/// Migrates a new database, fills it with keys, looks some of them up, and prints what docs/storage.md
/// quotes, of as many as is said:
/// `KEYGATE_STORED_KEYS=1000000 cargo test -p control-plane --lib -- --nocapture among_many`.
#[tokio::test(flavor = "multi_thread")]
async fn every_key_is_found_among_many_and_no_other() {
    const MOST_ASKED: u32 = 20_000;
    let keys = std::env::var("KEYGATE_STORED_KEYS")
        .map_or(20_000, |keys| keys.parse().expect("KEYGATE_STORED_KEYS is no number"));
    let asked = MOST_ASKED.min(keys / 20);
    let scratch = Scratch::empty().await;
    let folder = tempfile::tempdir().expect("a folder");
    for url in [DatabaseUrl::Sqlite(folder.path().join("k.db")), scratch.url.clone()] {
        let begun = now();
        let done = super::migrate(&url).await.expect("migrated");
        println!("{url}: {done} migrations in {:.0?}", begun.elapsed());
    }
    for database in [Database::new().await, Database::postgres().await] {
        let begun = now();
        fill(&database, keys).await;
        println!("\n{}: {keys} keys in {:.1?}", database.url, begun.elapsed());
        println!("{}", plan(&database).await.trim_end());
        let store = database.open().await;
        let known = digests(&database, asked).await;
        let unknown: Vec<LookupDigest> =
            known.iter().map(|digest| digest.map(|byte| byte.wrapping_add(1))).collect();
        times(&*store, &known, true).await;
        let (half, most) = times(&*store, &known, true).await;
        println!("known:   p50 {half:.0?}, p99 {most:.0?}");
        let (half, most) = times(&*store, &unknown, false).await;
        println!("unknown: p50 {half:.0?}, p99 {most:.0?}");
        println!("16 at once: {:.0} a second", rate(&store, &known, 16).await);
        store.close().await;
    }
}
