//! The suite on `SQLite`, and what only `SQLite` has to hold to.

use edge_protocol::EventKind;
use jiff::Timestamp;
use sqlx::{Connection, Executor, SqliteConnection};
use std::{path::Path, sync::Arc};

use super::{SqliteStore, options, schema};
use crate::{
    audit::AuditEntry,
    store::{OpenError, Store, conformance},
    testing::Database,
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
    assert!(matches!(pending, OpenError::Pending { pending: 1, .. }), "{pending}");
    assert!(pending.to_string().contains("keygate migrate"));
    assert_eq!(schema::migrate(&path).await.expect("migrated"), 1);
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
