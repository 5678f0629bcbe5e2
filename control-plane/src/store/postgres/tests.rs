//! The suite on `PostgreSQL`, and what only `PostgreSQL` has to hold to.

use sqlx::Executor;
use std::{sync::Arc, time::Duration};
use tokio::task::JoinSet;

use super::{PostgresStore, schema};
use crate::{
    audit::{
        Actor, AuditEntry,
        chain::checkpoint::{Reason, Statement},
        signer::AuditSigner,
    },
    config::{DatabaseUrl, PostgresConfig},
    store::{OpenError, Revocation, RevokeGuard, RevokeRequest, Store, conformance},
    testing::{Database, START, TestService, at, postgres::Scratch, request},
};
use edge_protocol::EventKind;

/// Far more than a test needs, on a machine that does other things too.
const PATIENCE: Duration = Duration::from_secs(20);

async fn fresh() -> (Arc<dyn Store>, Database) {
    let database = Database::postgres().await;
    (database.open().await, database)
}

conformance::suite!(fresh);

fn config(scratch: &Scratch) -> PostgresConfig {
    let DatabaseUrl::Postgres(config) = &scratch.url else { panic!("another database") };
    (**config).clone()
}

#[tokio::test]
async fn a_database_without_its_tables_is_refused_and_says_what_to_do() {
    let scratch = Scratch::empty().await;
    let config = config(&scratch);
    let pending = PostgresStore::open(&config).await.err().expect("refused");
    assert!(pending.to_string().contains("keygate migrate"), "{pending}");
    let OpenError::Pending { pending, .. } = pending else { panic!("{pending}") };
    assert_eq!(schema::migrate(&config).await.expect("migrated"), pending);
    assert_eq!(schema::migrate(&config).await.expect("migrated"), 0);
    assert!(PostgresStore::open(&config).await.is_ok());
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused() {
    let (_store, database) = fresh().await;
    database
        .execute(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
             VALUES (9999, 'newer', true, '\\x00', 0)",
        )
        .await;
    let DatabaseUrl::Postgres(config) = &database.url else { panic!("another database") };
    let refused = PostgresStore::open(config).await.err().expect("refused");
    assert!(matches!(&refused, OpenError::Foreign { detail, .. } if detail == "9999"), "{refused}");
    assert!(matches!(schema::migrate(config).await, Err(OpenError::Foreign { .. })));
}

#[tokio::test]
async fn processes_that_migrate_at_the_same_time_all_end_well() {
    let scratch = Scratch::empty().await;
    let mut tasks = JoinSet::new();
    for _ in 0..4 {
        let config = config(&scratch);
        tasks.spawn(async move { schema::migrate(&config).await.map(drop) });
    }
    for done in tasks.join_all().await {
        done.expect("migrated");
    }
    PostgresStore::open(&config(&scratch)).await.expect("opened");
}

#[tokio::test]
async fn a_database_that_is_not_there_is_named_without_its_password() {
    let url = crate::testing::postgres::url("nowhere").to_string();
    let url = url.replace("postgres@", "postgres:hush-hush@");
    let database: DatabaseUrl = url.parse().expect("a URL");
    let refused = crate::store::open(&database).await.err().expect("refused").to_string();
    assert!(refused.contains("/nowhere") && refused.contains("does not exist"), "{refused}");
    assert!(!refused.contains("hush"), "{refused}");
}

#[tokio::test]
async fn two_databases_have_feeds_of_different_epochs() {
    let mut epochs = Vec::new();
    for _ in 0..2 {
        let scratch = Scratch::empty().await;
        schema::migrate(&config(&scratch)).await.expect("migrated");
        let store: Arc<dyn Store> =
            Arc::new(PostgresStore::open(&config(&scratch)).await.expect("opened"));
        epochs.push(store.position().await.expect("read").epoch);
    }
    assert_eq!(epochs[0].len(), 32);
    assert_ne!(epochs[0], epochs[1]);
}

#[tokio::test]
async fn what_one_changes_another_is_told_by_the_database_itself() {
    let it = TestService::start_at(Database::postgres().await).await;
    let theirs = it.database.open().await;
    let mut news = theirs.watch();
    // Nobody looks: what is noticed is what was heard.
    let mut listening = JoinSet::new();
    let ears = Arc::clone(&theirs);
    listening.spawn(async move { ears.listen().await });
    for expected in 1..=3 {
        it.issue(request("a")).await;
        tokio::time::timeout(PATIENCE, news.wait_for(|known| *known == expected))
            .await
            .expect("in time")
            .expect("open");
    }
    // Its connection is lost, and what happened meanwhile is noticed with the next one.
    let mut administrator = it.database.connect_to_postgres().await;
    let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
               WHERE query LIKE 'LISTEN%' AND datname = current_database()";
    assert_eq!(administrator.execute(cut).await.expect("done").rows_affected(), 1);
    it.issue(request("b")).await;
    tokio::time::timeout(PATIENCE, news.wait_for(|known| *known == 4))
        .await
        .expect("in time")
        .expect("open");
    theirs.close().await;
    let ended = tokio::time::timeout(PATIENCE, listening.join_next()).await.expect("in time");
    assert!(ended.expect("one").expect("no panic").is_err());
}

#[tokio::test]
async fn a_change_of_another_process_is_noticed_when_it_is_looked_for() {
    let (ours, database) = fresh().await;
    let theirs = database.open().await;
    let mut news = ours.watch();
    conformance::adding_a_key_logs_and_publishes_it_or_does_nothing_at_all(theirs).await;
    assert!(!news.has_changed().expect("open"));
    ours.refresh().await.expect("read");
    assert_eq!(*news.borrow_and_update(), 1);
    ours.refresh().await.expect("read");
    assert!(!news.has_changed().expect("open"));
}

#[tokio::test]
async fn an_older_copy_in_the_place_of_the_database_begins_a_new_feed_and_news_go_on() {
    let it = TestService::start_at(Database::postgres().await).await;
    let store = Arc::clone(&it.service.store);
    it.issue(request("one")).await;
    it.issue(request("two")).await;
    let before = store.position().await.expect("read");
    assert_eq!(before.sequence, 2);
    let mut news = store.watch();

    it.database.execute("DELETE FROM change_log WHERE sequence > 1").await;
    it.database.execute("UPDATE feed_head SET sequence = 1").await;
    store.refresh().await.expect("read");
    assert_eq!(*news.borrow_and_update(), 1);
    let after = store.position().await.expect("read");
    assert_eq!(after.sequence, 1);
    assert_ne!(after.epoch, before.epoch);
    it.issue(request("three")).await;
    assert_eq!(*news.borrow_and_update(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_admin_keys_that_are_revoked_at_the_same_time_by_two_control_planes_leave_one() {
    let it = TestService::start_at(Database::postgres().await).await;
    let stores = [it.database.open().await, it.database.open().await];
    for _ in 0..5 {
        let keys = [it.issue_admin().await.0.key_id, it.issue_admin().await.0.key_id];
        let mut tasks = JoinSet::new();
        for (store, key_id) in stores.iter().cloned().zip(keys) {
            tasks.spawn(async move {
                let guard = RevokeGuard::KeepOneAdmin { test_keys: false };
                let request = RevokeRequest { key_id, at: at(START), reason: None, guard };
                let entry = AuditEntry::by(
                    &Actor::CommandLine,
                    EventKind::KeyRevoked,
                    key_id,
                    at(START),
                    "",
                );
                store.revoke_key(&request, &entry).await.expect("answered")
            });
        }
        let done = tasks.join_all().await;
        let revoked = done.iter().filter(|it| matches!(it, Revocation::Revoked(_))).count();
        let kept = done.iter().filter(|it| matches!(it, Revocation::LastAdmin)).count();
        assert_eq!((revoked, kept), (1, 1), "{done:?}");
        it.database.execute("UPDATE api_keys SET is_active = false WHERE is_active").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn control_planes_that_note_the_same_keys_at_the_same_time_do_not_wait_for_each_other() {
    let it = TestService::start_at(Database::postgres().await).await;
    let mut keys = Vec::new();
    for _ in 0..20 {
        keys.push(it.issue(request("a")).await.0.key_id);
    }
    let mut tasks = JoinSet::new();
    for round in 0..20_i64 {
        let store = it.database.open().await;
        let mut used: Vec<_> = keys
            .iter()
            .map(|key| (*key, at(START) + jiff::SignedDuration::from_millis(round)))
            .collect();
        if round % 2 == 0 {
            used.reverse();
        }
        tasks.spawn(async move {
            for _ in 0..5 {
                store.touch(&used).await.expect("written");
            }
            store.close().await;
        });
    }
    tasks.join_all().await;
}

#[tokio::test]
async fn rows_go_into_the_partition_of_their_day_and_go_with_it() {
    const DAY_MS: i64 = 86_400_000;
    let (store, database) = fresh().await;
    for (batch, day) in (1..).zip([0, 0, 1, 3]) {
        let at = jiff::Timestamp::from_millisecond(day * DAY_MS + 5).expect("in range");
        let entry = AuditEntry::of(EventKind::DbError, at, "x");
        let batch = conformance::batch_of("f", batch, at, &[entry]);
        store.append_batch(&batch).await.expect("written");
    }
    let partitions = async || {
        let mut connection = database.connect_to_postgres().await;
        let names = "SELECT partition FROM day_partitions('api_key_audit_log')";
        let names: Vec<String> =
            sqlx::query_scalar(names).fetch_all(&mut connection).await.expect("names");
        names
            .iter()
            .map(|name| name.trim_start_matches("api_key_audit_log_").to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(partitions().await, ["19700101", "19700102", "19700104"]);
    // A mark in the middle of a day takes what is before that day, and leaves the day whole.
    let batches = store.chain_batches(0, 10).await.expect("read");
    let retired = async |index: usize, number: u64| {
        let batch = &batches[index];
        let mark = Statement {
            database_id: store.chain_head().await.expect("read").database_id,
            number,
            sequence: batch.sequence,
            last_id: batch.last_id,
            hash: batch.hash,
            at_ms: 0,
            reason: Reason::Retention,
        };
        let mark = AuditSigner::from_seed([1; 32]).sign(mark);
        store.add_checkpoint(&mark).await.expect("stored");
        let mut rows = 0;
        loop {
            let dropped = store.drop_retired(&mark).await.expect("dropped");
            if dropped.rows + dropped.batches == 0 {
                return rows;
            }
            rows += dropped.rows;
        }
    };
    assert_eq!(retired(0, 1).await, 0);
    assert_eq!(partitions().await, ["19700101", "19700102", "19700104"]);
    assert_eq!(retired(2, 2).await, 2);
    assert_eq!(partitions().await, ["19700104"]);
    // Days that have not come are kept, though nothing is in them.
    let at = jiff::Timestamp::from_millisecond(3 * DAY_MS).expect("in range");
    // The log has one for today already; usage has none yet.
    assert_eq!(store.prepare_days(at, 7).await.expect("made"), 7 + 8);
    assert_eq!(retired(3, 3).await, 1);
    assert_eq!(partitions().await.len(), 7);
}
