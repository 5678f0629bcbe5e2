//! The suite of tampering on `SQLite`, and what only `SQLite` has to hold to.

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, Connection, SqliteConnection};
use std::sync::Arc;

use super::options;
use crate::{
    store::{
        Store,
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
