//! The suite of tampering on `PostgreSQL`, and what only `PostgreSQL` has to hold to.

use async_trait::async_trait;
use sqlx::{AssertSqlSafe, Executor};
use std::sync::Arc;

use crate::{
    audit::{
        AuditEntry,
        chain::{
            check::{Anchors, Trust},
            fault::Fault,
        },
        verify::{Scope, verify},
    },
    store::{
        Store,
        conformance::tampering::{self, Attacker},
    },
    testing::Database,
};

struct WithTheServer(Database);

#[async_trait]
impl Attacker for WithTheServer {
    async fn try_run(&self, statement: &str) -> Result<u64, sqlx::Error> {
        self.0.try_execute(statement).await
    }

    async fn disarm(&self) {
        let mut connection = self.0.connect_to_postgres().await;
        // Those of partitions go with those of their table; a partition's own are named by no other.
        let rules: Vec<(String, String)> = sqlx::query_as(
            "SELECT tgname, tgrelid::regclass::text FROM pg_trigger
             WHERE NOT tgisinternal AND tgparentid = 0",
        )
        .fetch_all(&mut connection)
        .await
        .expect("names");
        assert!(rules.len() >= 12, "{rules:?}");
        for (rule, table) in rules {
            let drop = AssertSqlSafe(format!("DROP TRIGGER {rule} ON {table}"));
            connection.execute(drop).await.expect("dropped");
        }
    }

    fn blob(&self, bytes: &[u8]) -> String {
        format!("'\\x{}'::bytea", hex::encode(bytes))
    }
}

async fn fresh() -> (Arc<dyn Store>, WithTheServer) {
    let database = Database::postgres().await;
    (database.open().await, WithTheServer(database))
}

tampering::suite!(fresh);

async fn look(store: &Arc<dyn Store>) -> Result<u64, Fault> {
    let scope = Scope { trust: Trust::Anyone, anchors: Anchors::new(), up_to: None };
    verify(&**store, &scope, &mut |_| {}).await.expect("read").map(|found| found.rows)
}

async fn with_three_rows() -> (Arc<dyn Store>, WithTheServer) {
    let (store, attacker) = fresh().await;
    let entry = AuditEntry::of(edge_protocol::EventKind::DbError, jiff::Timestamp::UNIX_EPOCH, "x");
    store.append(&[entry.clone(), entry.clone(), entry]).await.expect("written");
    (store, attacker)
}

#[tokio::test]
async fn no_table_of_the_log_can_be_emptied_nor_a_partition_of_it() {
    let (store, attacker) = with_three_rows().await;
    for statement in [
        "TRUNCATE api_key_audit_log",
        "TRUNCATE api_key_audit_log_19700101",
        "TRUNCATE audit_head",
        "TRUNCATE audit_batches",
        "TRUNCATE audit_checkpoints",
        "DELETE FROM api_key_audit_log_19700101",
        "UPDATE api_key_audit_log_19700101 SET details = 'y'",
        "INSERT INTO api_key_audit_log_19700101 (id, recorded_at_ms, at_ms, event, details, source)
         SELECT id, recorded_at_ms + 1, at_ms, event, details, source
         FROM api_key_audit_log_19700101",
        "INSERT INTO api_key_audit_log (id, recorded_at_ms, at_ms, event, details, source)
         VALUES (4, 1, 0, 'DB_ERROR', 'y', 'z'), (2, 1, 0, 'DB_ERROR', 'y', 'z')",
        "INSERT INTO audit_head SELECT * FROM audit_head",
        "INSERT INTO audit_batches SELECT * FROM audit_batches ON CONFLICT (sequence)
         DO UPDATE SET hash = excluded.hash",
    ] {
        let refused = attacker.try_run(statement).await.expect_err(statement).to_string();
        assert!(refused.contains("append-only"), "{statement}: {refused}");
    }
    assert_eq!(look(&store).await, Ok(3));
}

#[tokio::test]
async fn a_row_with_the_id_of_another_one_is_found_wherever_it_hides() {
    for id in [1, 3] {
        let (store, attacker) = with_three_rows().await;
        attacker.disarm().await;
        attacker
            .run(&format!(
                "INSERT INTO api_key_audit_log (id, recorded_at_ms, at_ms, event, details, source)
                 VALUES ({id}, 1, 0, 'DB_ERROR', 'y', 'control-plane')"
            ))
            .await;
        assert!(look(&store).await.is_err(), "the second row {id} was not seen");
    }
}

#[tokio::test]
async fn a_partition_that_is_taken_away_is_missed() {
    let (store, attacker) = with_three_rows().await;
    attacker
        .0
        .execute("ALTER TABLE api_key_audit_log DETACH PARTITION api_key_audit_log_19700101")
        .await;
    assert_eq!(look(&store).await, Err(Fault::RowMissing { row: 1, batch: 1 }));
}
