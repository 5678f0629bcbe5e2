//! The suite of tampering on `SQLite`, and what only `SQLite` has to hold to.

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, Connection, SqliteConnection};
use std::sync::Arc;

use super::options;
use crate::{
    audit::{
        chain::{
            check::{Anchors, Trust},
            fault::Fault,
        },
        verify::{Scope, verify},
    },
    config::DatabaseUrl,
    store::{
        self, Store,
        conformance::tampering::{self, Attacker},
    },
    testing::Database,
};

struct WithTheFile(Database);

impl WithTheFile {
    async fn connect(&self) -> SqliteConnection {
        SqliteConnection::connect_with(&options(&self.0.path)).await.expect("a connection")
    }
}

#[async_trait]
impl Attacker for WithTheFile {
    async fn try_run(&self, statement: &str) -> Result<u64, sqlx::Error> {
        let mut connection = self.connect().await;
        let done = sqlx::query(AssertSqlSafe(statement)).execute(&mut connection).await?;
        Ok(done.rows_affected())
    }

    async fn disarm(&self) {
        let mut connection = self.connect().await;
        let rules: Vec<String> =
            sqlx::query_scalar("SELECT name FROM sqlite_schema WHERE type = 'trigger'")
                .fetch_all(&mut connection)
                .await
                .expect("names");
        assert!(rules.len() >= 12, "{rules:?}");
        for rule in rules {
            let drop = AssertSqlSafe(format!("DROP TRIGGER {rule}"));
            sqlx::query(drop).execute(&mut connection).await.expect("dropped");
        }
    }

    fn blob(&self, bytes: &[u8]) -> String {
        format!("x'{}'", hex::encode(bytes))
    }
}

async fn fresh() -> (Arc<dyn Store>, WithTheFile) {
    let database = Database::new().await;
    (database.open().await, WithTheFile(database))
}

tampering::suite!(fresh);

#[tokio::test]
async fn nothing_is_replaced_by_inserting_it_again() {
    let (store, attacker) = fresh().await;
    let entry = crate::audit::AuditEntry::of(
        edge_protocol::EventKind::DbError,
        jiff::Timestamp::UNIX_EPOCH,
        "x",
    );
    store.append(&[entry]).await.expect("written");
    for statement in [
        "INSERT OR REPLACE INTO audit_batches SELECT * FROM audit_batches",
        "INSERT OR REPLACE INTO audit_head SELECT * FROM audit_head",
    ] {
        let refused = attacker.try_run(statement).await.expect_err(statement).to_string();
        assert!(refused.contains("append-only"), "{refused}");
    }
}

#[tokio::test]
async fn rows_from_before_the_chain_become_its_beginning() {
    let (store, attacker) = fresh().await;
    let path = attacker.0.path.clone();
    attacker.disarm().await;
    // As the first migration left a log; a hole in the ids is where a transaction was given up.
    for id in [1, 2, 5] {
        attacker
            .run(&format!(
                "INSERT INTO api_key_audit_log (id, recorded_at_ms, at_ms, event, details, source)
                 VALUES ({id}, 7, 5, 'DB_ERROR', 'x', 'control-plane')"
            ))
            .await;
    }
    for _ in 0..2 {
        store::migrate(&DatabaseUrl::Sqlite(path.clone())).await.expect("migrated");
    }
    let scope = Scope { trust: Trust::Anyone, anchors: Anchors::new(), up_to: None };
    let look = async || verify(&*store, &scope, &mut |_| {}).await.expect("read");
    let found = look().await.expect("whole");
    assert_eq!((found.batches, found.rows, found.last_id), (2, 3, 5));
    attacker.run("UPDATE api_key_audit_log SET details = 'y' WHERE id = 2").await;
    assert_eq!(look().await, Err(Fault::RowEdited { row: 2, batch: 1 }));
}
