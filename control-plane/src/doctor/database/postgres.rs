//! What only a server can suffer from: its version, what the role may do, how safe a commit is.

use jiff::Timestamp;
use sqlx::{Connection, PgConnection, Row, postgres::PgRow};
use std::time::Duration;
use tokio::time::timeout;

use super::{Check, Finding, Reading};
use crate::{clock::Clock, config::PostgresConfig};

/// All that is asked for is in the server's memory.
const PATIENCE: Duration = Duration::from_secs(5);
/// The oldest version that the tests run on.
const OLDEST: i64 = 150_000;

/// How many queries over every day there should be room for at once: a console, an export, the
/// check of the chain, and one to spare.
const QUERIES_OF_ALL_DAYS: i64 = 4;

/// What is asked of the server, in one statement.
const FACTS: &str = "
    SELECT current_setting('server_version_num')::bigint AS version,
           current_setting('server_version') AS shown,
           (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) AS superuser,
           current_setting('transaction_read_only')::boolean OR pg_is_in_recovery() AS read_only,
           current_setting('fsync')::boolean AS fsync,
           current_setting('full_page_writes')::boolean AS full_page_writes,
           current_setting('synchronous_commit') <> 'off' AS synchronous,
           current_setting('max_connections')::bigint
             - current_setting('superuser_reserved_connections')::bigint AS connections,
           current_setting('max_locks_per_transaction')::bigint
             * (current_setting('max_connections')::bigint
                + current_setting('max_prepared_transactions')::bigint) AS lock_room,
           (SELECT coalesce(max(locks), 0)::bigint FROM (
              SELECT count(*) + sum((SELECT count(*) FROM pg_index WHERE indrelid = inhrelid)) AS locks
              FROM pg_inherits
              WHERE inhparent IN (to_regclass('api_key_audit_log'), to_regclass('api_key_usage'))
              GROUP BY inhparent) AS tables) AS locks_of_all_days,
           (SELECT min(guarded::regclass::text) FROM (
              SELECT to_regclass(name)::oid AS guarded, rule FROM (VALUES
                ('audit_head', 'audit_head_only_moves_forward'),
                ('audit_head', 'audit_head_is_the_only_one'),
                ('audit_head', 'audit_head_is_never_truncated'),
                ('audit_batches', 'audit_batches_are_never_updated'),
                ('audit_batches', 'audit_batches_go_when_they_are_retired'),
                ('audit_batches', 'audit_batches_are_never_truncated'),
                ('audit_batches', 'audit_batches_only_grow'),
                ('audit_checkpoints', 'audit_checkpoints_are_never_changed'),
                ('audit_checkpoints', 'audit_checkpoints_are_never_truncated'),
                ('audit_checkpoints', 'audit_checkpoints_retire_what_is_there')) AS rules (name, rule)
              UNION ALL
              SELECT part, rule FROM (
                SELECT to_regclass('api_key_audit_log')::oid
                UNION ALL
                SELECT inhrelid FROM pg_inherits WHERE inhparent = to_regclass('api_key_audit_log')
              ) AS log (part), (VALUES
                ('api_key_audit_log_only_grows'),
                ('api_key_audit_log_is_never_changed'),
                ('api_key_audit_log_is_never_truncated')) AS rules (rule)) AS guards
            WHERE guarded IS NOT NULL AND NOT EXISTS (SELECT 1 FROM pg_trigger
              WHERE tgrelid = guarded AND tgname = rule AND tgenabled IN ('O', 'A'))) AS unguarded,
           (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS now_ms";

/// What becomes of a committed change when the power goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Durability {
    /// It is there.
    Durable,
    /// The last moments are lost.
    LosesTheLast,
    /// All of it can be damaged.
    None,
}

struct Facts {
    version: i64,
    shown: String,
    superuser: bool,
    read_only: bool,
    durability: Durability,
    /// How many connections it takes from those who are no superuser.
    connections: i64,
    /// How many locks the server has room for, of all who are connected.
    lock_room: i64,
    /// How many a query takes that looks at every day of a table: one for each partition and index.
    locks_of_all_days: i64,
    /// A table of the audit log in which rows can be changed, or put before its end.
    unguarded: Option<String>,
    now: Option<Timestamp>,
}

pub(super) async fn examine(
    config: &PostgresConfig,
    clock: &dyn Clock,
) -> (Vec<Finding>, Option<Reading>) {
    match timeout(PATIENCE, ask(config)).await {
        Ok(Ok(facts)) => {
            let reading = facts.now.map(|theirs| Reading {
                of: "PostgreSQL".to_owned(),
                theirs,
                ours: clock.now(),
            });
            (judge(&facts, config), reading)
        }
        Ok(Err(error)) => {
            let what = format!("it cannot be asked how it is set up: {error}");
            (vec![Finding::warning(Check::Database, what, "see the database's own log")], None)
        }
        Err(_) => {
            let what = format!("it does not say within {} s how it is set up", PATIENCE.as_secs());
            (vec![Finding::warning(Check::Database, what, "see what keeps it busy")], None)
        }
    }
}

async fn ask(config: &PostgresConfig) -> Result<Facts, sqlx::Error> {
    let mut connection = PgConnection::connect_with(&config.connect_options()).await?;
    let row = sqlx::query(FACTS).fetch_one(&mut connection).await?;
    connection.close().await?;
    facts(&row)
}

fn facts(row: &PgRow) -> Result<Facts, sqlx::Error> {
    let yes = |column: &str| row.try_get::<bool, _>(column);
    Ok(Facts {
        version: row.try_get("version")?,
        shown: row.try_get("shown")?,
        superuser: yes("superuser")?,
        read_only: yes("read_only")?,
        durability: match (yes("fsync")? && yes("full_page_writes")?, yes("synchronous")?) {
            (false, _) => Durability::None,
            (true, false) => Durability::LosesTheLast,
            (true, true) => Durability::Durable,
        },
        connections: row.try_get("connections")?,
        lock_room: row.try_get("lock_room")?,
        locks_of_all_days: row.try_get("locks_of_all_days")?,
        unguarded: row.try_get("unguarded")?,
        now: Timestamp::from_millisecond(row.try_get("now_ms")?).ok(),
    })
}

fn judge(facts: &Facts, config: &PostgresConfig) -> Vec<Finding> {
    let mut findings = Vec::new();
    if facts.read_only {
        findings.push(Finding::failed(
            Check::Database,
            "it can only be read: it is a standby, or its role may not write",
            "name the primary in KEYGATE_DATABASE_URL (several hosts need a proxy that finds it)",
        ));
    }
    if facts.durability == Durability::None {
        findings.push(Finding::failed(
            Check::Database,
            "fsync or full_page_writes is off: a loss of power can destroy it",
            "switch both on in postgresql.conf",
        ));
    }
    let mut warn = |what: String, mend: &str| {
        findings.push(Finding::warning(Check::Database, what, mend));
    };
    if facts.durability == Durability::LosesTheLast {
        warn(
            "synchronous_commit is off: what was acknowledged can be lost".to_owned(),
            "switch it on, for this role at least: ALTER ROLE keygate SET synchronous_commit = on",
        );
    }
    if facts.superuser {
        warn(
            "the role is a superuser, and could switch off the rules that protect the audit log"
                .to_owned(),
            "use a role that owns its database and nothing else (docs/setup.md)",
        );
    }
    if facts.version < OLDEST {
        warn(
            format!("it is PostgreSQL {}; the oldest that is tested is 15", facts.shown),
            "update PostgreSQL",
        );
    }
    // A second pool of as many is open while one service takes the place of another.
    let needed = 2 * (i64::from(config.connections()) + 1);
    if facts.connections < needed {
        warn(
            format!(
                "it takes {} connections; with {} for each control plane, two would not have room",
                facts.connections,
                config.connections()
            ),
            "raise max_connections, or lower KEYGATE_DATABASE_CONNECTIONS",
        );
    }
    if facts.lock_room < facts.locks_of_all_days.saturating_mul(QUERIES_OF_ALL_DAYS) {
        warn(
            format!(
                "a query over every day takes {} locks, and it has room for {}: with \
                 {QUERIES_OF_ALL_DAYS} at once it would run out of shared memory",
                facts.locks_of_all_days, facts.lock_room
            ),
            "raise max_locks_per_transaction, or keep fewer days (KEYGATE_AUDIT_RETENTION_DAYS, \
             KEYGATE_USAGE_RETENTION_DAYS)",
        );
    }
    if let Some(table) = &facts.unguarded {
        warn(
            format!(
                "{table} lacks a rule that protects the audit log (its triggers), or it is switched off"
            ),
            "find out who did that, and keygate audit verify; a table that was made by hand gives way \
             to one of make_audit_partition, others get their triggers back as in migrations/postgres",
        );
    }
    if config.is_exposed() {
        warn(
            "what goes to the database and comes back can be read or changed on the way".to_owned(),
            "sslmode=verify-full in KEYGATE_DATABASE_URL, or a network that nobody else is in",
        );
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::SystemClock,
        config::DatabaseUrl,
        doctor::finding::Status,
        testing::{Database, at},
    };

    fn config(url: &str) -> PostgresConfig {
        match url.parse().expect("a URL") {
            DatabaseUrl::Postgres(config) => *config,
            DatabaseUrl::Sqlite(_) => panic!("another database"),
        }
    }

    fn worst(change: impl FnOnce(&mut Facts)) -> Option<Status> {
        let mut facts = Facts {
            version: 170_006,
            shown: "17.6".to_owned(),
            superuser: false,
            read_only: false,
            durability: Durability::Durable,
            connections: 97,
            lock_room: 6400,
            locks_of_all_days: 800,
            unguarded: None,
            now: Some(at("2026-11-26T12:00:00Z")),
        };
        change(&mut facts);
        let found = judge(&facts, &config("postgres://keygate@localhost/keygate"));
        found.iter().map(|it| it.status).max()
    }

    #[test]
    fn a_server_that_is_set_up_well_gives_no_word() {
        assert_eq!(worst(|_| ()), None);
    }

    #[test]
    fn each_thing_that_endangers_what_is_stored_is_told() {
        assert_eq!(worst(|it| it.read_only = true), Some(Status::Failed));
        assert_eq!(worst(|it| it.durability = Durability::None), Some(Status::Failed));
        assert_eq!(worst(|it| it.durability = Durability::LosesTheLast), Some(Status::Warning));
        assert_eq!(worst(|it| it.superuser = true), Some(Status::Warning));
        assert_eq!(worst(|it| it.version = 140_010), Some(Status::Warning));
        assert_eq!(worst(|it| it.connections = 30), Some(Status::Warning));
        assert_eq!(worst(|it| it.locks_of_all_days = 1700), Some(Status::Warning));
        assert_eq!(worst(|it| it.unguarded = Some("t".to_owned())), Some(Status::Warning));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_real_server_says_how_it_is_set_up() {
        let database = Database::postgres().await;
        let DatabaseUrl::Postgres(config) = &database.url else { panic!("another database") };
        let facts = ask(config).await.expect("facts");
        assert!(facts.version >= OLDEST && !facts.read_only, "{}", facts.shown);
        assert_eq!(facts.unguarded, None);
        let (_, reading) = examine(config, &SystemClock).await;
        let reading = reading.expect("a time");
        assert!(reading.theirs.duration_since(reading.ours).abs().as_secs() < 5, "{reading:?}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_part_of_the_audit_log_without_its_rules_is_named() {
        let database = Database::postgres().await;
        let DatabaseUrl::Postgres(config) = &database.url else { panic!("another database") };
        let unguarded = async || ask(config).await.expect("facts").unguarded;
        database.execute("SELECT make_audit_partition(0)").await;
        assert_eq!(unguarded().await, None);
        database.execute("SELECT make_day_partition('api_key_audit_log', 86400000)").await;
        assert_eq!(unguarded().await.as_deref(), Some("api_key_audit_log_19700102"));
        database.execute("DROP TABLE api_key_audit_log_19700102").await;
        let off = "ALTER TABLE api_key_audit_log DISABLE TRIGGER api_key_audit_log_only_grows";
        database.execute(off).await;
        assert_eq!(unguarded().await.as_deref(), Some("api_key_audit_log"));
        database.execute(&off.replace("DISABLE", "ENABLE")).await;
        assert_eq!(unguarded().await, None);
        database.execute("DROP TRIGGER audit_batches_only_grow ON audit_batches").await;
        assert_eq!(unguarded().await.as_deref(), Some("audit_batches"));
    }
}
