//! What it costs to look through a long audit log for one key.

use jiff::Timestamp;
use key_policy::KeyId;
use std::time::Instant;

use super::AuditFilter;
use crate::{config::DatabaseUrl, testing::Database};

/// Rows, a thousand keys in turn, over thirty days; and one key that only the first row is about.
async fn fill(database: &Database, rows: u32) {
    const DAY_MS: u32 = 86_400_000;
    let step = 30 * u64::from(DAY_MS) / u64::from(rows);
    let (numbers, key) = match &database.url {
        DatabaseUrl::Sqlite(_) => (
            format!(
                "(WITH RECURSIVE count(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM count LIMIT {rows})
                 SELECT n FROM count)"
            ),
            "printf('%016x', iif(n = 1, 5000, n * 7919 % 1000))",
        ),
        DatabaseUrl::Postgres(_) => {
            let days = format!("SELECT make_audit_partition(n * {DAY_MS}::bigint) FROM generate_series(0, 30) AS n");
            database.execute(&days).await;
            (
                format!("generate_series(1, {rows}::bigint) AS n"),
                "lpad(to_hex(CASE WHEN n = 1 THEN 5000 ELSE n * 7919 % 1000 END), 16, '0')",
            )
        }
    };
    let added = database
        .execute(&format!(
            "INSERT INTO api_key_audit_log
                (id, recorded_at_ms, at_ms, event, key_id, client_ip, details, source)
             SELECT n, n * {step}, n * {step}, 'RATE_LIMITED', {key}, '192.0.2.1', 'limit=key', 'f'
             FROM {numbers}"
        ))
        .await;
    assert_eq!(added, u64::from(rows));
}

#[expect(clippy::disallowed_methods, reason = "this measures real time")]
fn now() -> Instant {
    Instant::now()
}

/// Prints what docs/storage.md quotes, of logs as long as is said:
/// `KEYGATE_AUDIT_ROWS=1000000 cargo test -p control-plane --lib -- --nocapture long_audit_log`.
#[tokio::test(flavor = "multi_thread")]
async fn all_that_is_asked_for_is_found_in_a_long_audit_log() {
    let rows = std::env::var("KEYGATE_AUDIT_ROWS")
        .map_or(200_000, |rows| rows.parse().expect("KEYGATE_AUDIT_ROWS is no number"));
    for database in [Database::new().await, Database::postgres().await] {
        let store = database.open().await;
        // Behind its back, without the chain, which takes longer.
        fill(&database, rows).await;
        let key = |number| Some(KeyId::from_u64(number));
        let late = Timestamp::from_millisecond(29 * 86_400_000).ok();
        let filters = [
            (
                "the last 100 of a busy key",
                100,
                AuditFilter { key_id: key(1), ..Default::default() },
            ),
            ("all of the rarest key", 1, AuditFilter { key_id: key(5000), ..Default::default() }),
            (
                "none of it on the last day",
                0,
                AuditFilter { key_id: key(5000), since: late, ..Default::default() },
            ),
        ];
        println!("{}, {rows} rows:", database.url);
        for (what, found, filter) in filters {
            let mut times = Vec::new();
            for _ in 0..11 {
                let begun = now();
                let rows = store.audit_rows(&filter, 100).await.expect("rows");
                times.push(begun.elapsed());
                assert_eq!(rows.len(), found);
            }
            times.sort_unstable();
            println!("  {what}: {:.1?}", times[times.len() / 2]);
        }
        store.close().await;
    }
}
