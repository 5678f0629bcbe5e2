//! The suite on `SQLite`, and what only `SQLite` has to hold to.

use edge_protocol::EventKind;
use jiff::Timestamp;
use sqlx::{Connection, Executor, SqliteConnection};
use std::{path::Path, sync::Arc};

use super::{SqliteStore, options, schema};
use crate::{
    audit::{Actor, AuditEntry},
    store::{AuditStore, ChangeFeed, OpenError, Store, conformance},
    testing::{Database, START, TestService, at, request, send},
};

async fn fresh() -> (Arc<dyn Store>, Database) {
    let database = Database::new().await;
    (database.open().await, database)
}

conformance::suite!(fresh);

async fn connect(path: &Path) -> SqliteConnection {
    SqliteConnection::connect_with(&options(path)).await.expect("a connection")
}

#[tokio::test]
async fn the_audit_log_can_be_neither_changed_nor_cut() {
    let (store, database) = fresh().await;
    store
        .append(&[AuditEntry::of(EventKind::DbError, Timestamp::UNIX_EPOCH, "x")])
        .await
        .expect("written");
    let mut connection = connect(&database.path).await;
    for statement in [
        "UPDATE api_key_audit_log SET details = 'y'",
        "DELETE FROM api_key_audit_log",
        "INSERT OR REPLACE INTO api_key_audit_log (id, at_ms, event, details, source) VALUES (1, 0, 'X', '', '')",
    ] {
        let refused = connection.execute(statement).await;
        let text = refused.expect_err(statement).to_string();
        assert!(text.contains("append-only"), "{text}");
    }
}

#[tokio::test]
async fn a_change_of_another_process_is_noticed() {
    let (ours, database) = fresh().await;
    let theirs = database.open().await;
    let mut news = ours.watch();
    conformance::adding_a_key_logs_and_publishes_it_or_does_nothing_at_all(theirs).await;
    assert!(!news.has_changed().expect("open"));
    ours.refresh().await.expect("read");
    assert!(news.has_changed().expect("open"));
    assert_eq!(*news.borrow_and_update(), 1);
    ours.refresh().await.expect("read");
    assert!(!news.has_changed().expect("open"));
}

#[tokio::test]
async fn a_transaction_that_sqlite_has_ended_by_itself_does_not_keep_others_from_writing() {
    let database = Database::new().await;
    let store = SqliteStore::open(&database.path).await.expect("open");
    for _ in 0..3 {
        let mut transaction = store.begin().await.expect("begun");
        // As a full disk does it.
        transaction.execute("ROLLBACK").await.expect("ended");
        store.finish(transaction).await.expect_err("there is nothing to end any more");
    }
    store.append(&[AuditEntry::of(EventKind::DbError, at(START), "x")]).await.expect("written");
    let mut readers = Vec::new();
    for _ in 0..2 * super::READERS {
        let mut transaction = store.readers.begin().await.expect("begun");
        transaction.execute("ROLLBACK").await.expect("ended");
        readers.push(transaction.commit().await.is_err());
    }
    assert!(readers.into_iter().all(|failed| failed));
    assert!(store.position().await.is_ok());
}

#[tokio::test]
async fn a_database_without_its_tables_is_refused_and_says_what_to_do() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("k.db");
    let missing = SqliteStore::open(&path).await.err().expect("refused");
    assert!(
        matches!(&missing, OpenError::Missing(_))
            && missing.to_string().contains("keygate migrate")
    );
    assert!(!path.exists());

    std::fs::write(&path, "").expect("written");
    let pending = SqliteStore::open(&path).await.err().expect("refused");
    assert!(pending.to_string().contains("keygate migrate"));
    let OpenError::Pending { pending, .. } = pending else { panic!("{pending}") };
    assert!(pending > 0);
    assert_eq!(schema::migrate(&path).await.expect("migrated"), pending);
    assert_eq!(schema::migrate(&path).await.expect("migrated"), 0);
    assert!(SqliteStore::open(&path).await.is_ok());
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused() {
    let (_store, database) = fresh().await;
    let mut connection = connect(&database.path).await;
    let newer =
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
                 VALUES (9999, 'newer', 1, x'00', 0)";
    connection.execute(newer).await.expect("written");
    let refused = SqliteStore::open(&database.path).await.err().expect("refused");
    assert!(matches!(&refused, OpenError::Foreign { detail, .. } if detail == "9999"), "{refused}");
    assert!(matches!(schema::migrate(&database.path).await, Err(OpenError::Foreign { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_that_migrate_at_the_same_time_all_end_well() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("k.db");
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let path = path.clone();
        tasks.spawn(async move { schema::migrate(&path).await.map(drop) });
    }
    for done in tasks.join_all().await {
        done.expect("migrated");
    }
    SqliteStore::open(&path).await.expect("opened");
}

#[cfg(unix)]
#[tokio::test]
async fn only_its_owner_can_read_the_database() {
    use std::os::unix::fs::PermissionsExt;
    let (store, database) = fresh().await;
    store
        .append(&[AuditEntry::of(EventKind::DbError, Timestamp::UNIX_EPOCH, "x")])
        .await
        .expect("written");
    for entry in std::fs::read_dir(database.folder.path()).expect("a folder") {
        let entry = entry.expect("an entry");
        let mode = entry.metadata().expect("metadata").permissions().mode();
        assert_eq!(mode & 0o077, 0, "{:?}", entry.file_name());
    }
}

#[tokio::test]
async fn two_databases_have_feeds_of_different_epochs() {
    let (one, _alive) = fresh().await;
    let (other, _alive_too) = fresh().await;
    let (one, other) = (one.position().await.expect("read"), other.position().await.expect("read"));
    assert_eq!(one.epoch.len(), 32);
    assert_ne!(one.epoch, other.epoch);
}

/// What an older copy of the file lacks: the changes after `sequence`.
async fn go_back_to(path: &Path, sequence: i64) {
    let mut connection = connect(path).await;
    for statement in [
        "DELETE FROM change_log WHERE sequence > ?",
        "UPDATE sqlite_sequence SET seq = ? WHERE name = 'change_log'",
    ] {
        sqlx::query(statement).bind(sequence).execute(&mut connection).await.expect("done");
    }
}

#[tokio::test]
async fn an_older_copy_in_the_place_of_the_database_begins_a_new_feed_and_news_go_on() {
    let it = TestService::start().await;
    let store = Arc::clone(&it.service.store);
    it.issue(request("one")).await;
    it.issue(request("two")).await;
    let before = store.position().await.expect("read");
    assert_eq!(before.sequence, 2);
    let mut news = store.watch();

    go_back_to(&it.database.path, 1).await;
    store.refresh().await.expect("read");
    assert_eq!(*news.borrow_and_update(), 1);
    let after = store.position().await.expect("read");
    assert_eq!(after.sequence, 1);
    assert_ne!(after.epoch, before.epoch);

    store.refresh().await.expect("read");
    assert_eq!(store.position().await.expect("read"), after);
    assert!(!news.has_changed().expect("open"));
    it.issue(request("three")).await;
    assert_eq!(*news.borrow_and_update(), 2);
}

#[tokio::test]
async fn another_database_under_the_service_is_told_by_its_epoch() {
    let (store, database) = fresh().await;
    let mut news = store.watch();
    let mut connection = connect(&database.path).await;
    connection
        .execute("UPDATE settings SET value = 'other' WHERE name = 'feed_epoch'")
        .await
        .expect("written");
    assert_eq!(store.position().await.expect("read").epoch, "other");
    assert_eq!(store.changes(0, 10).await.expect("read").0.epoch, "other");
    assert_eq!(store.look_up(&[[0; 16]]).await.expect("read").as_of.epoch, "other");
    store.refresh().await.expect("read");
    assert!(news.has_changed().expect("open"));
    news.mark_unchanged();
    assert_eq!(store.position().await.expect("read").epoch, "other");
    store.refresh().await.expect("read");
    assert!(!news.has_changed().expect("open"));
}

#[tokio::test]
async fn a_write_that_fails_is_kept_in_mind_until_one_succeeds() {
    let it = TestService::start().await;
    let (key, _) = it.issue(request("one")).await;
    let health = || async {
        let asked = axum::http::Request::get("/health").body(axum::body::Body::empty());
        send(&it.admin, asked.expect("a request")).await.json()["status"].clone()
    };
    assert_eq!(health().await, "healthy");
    let mut connection = connect(&it.database.path).await;
    connection.execute("ALTER TABLE change_log RENAME TO elsewhere").await.expect("done");
    let new = request("two").check(at(START)).expect("valid");
    it.service.issuer.issue(new, &Actor::CommandLine).await.expect_err("no feed");
    connection.execute("ALTER TABLE elsewhere RENAME TO change_log").await.expect("done");
    assert_eq!(health().await, "degraded");
    it.service.store.touch(&[(key.key_id, at(START))]).await.expect("written");
    it.issue(request("three")).await;
    assert_eq!(health().await, "healthy");
}
