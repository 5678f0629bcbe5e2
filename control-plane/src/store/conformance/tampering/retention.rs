//! What is old goes, and only that.

use std::sync::Arc;

use super::{Attacker, append, clock, filled, keeper, look, signer};
use crate::{
    audit::{
        chain::{
            checkpoint::{Reason, Statement},
            fault::Fault,
        },
        keeper::Keeper,
    },
    config::AuditConfig,
    store::Store,
};

const DAY_MS: i64 = 24 * 3_600_000;

pub(crate) async fn what_is_retired_goes_and_the_rest_still_verifies(
    store: Arc<dyn Store>,
    attacker: &dyn Attacker,
) {
    filled(&store).await;
    // Two days later than the rest.
    append(&*store, 5, 2 * DAY_MS, &["d", "e"]).await;
    let clock = clock();
    let keeper = keeper(&store, &clock, 1);
    assert_eq!(keeper.retire().await.expect("looked").batches, 0);
    clock.advance_ms(91 * DAY_MS);
    assert_eq!(keeper.retire().await.expect("retired").batches, 4);
    assert_eq!(keeper.retire().await.expect("retired").batches, 0);

    let found = look(&store, None).await.expect("whole");
    assert_eq!((found.retired, found.batches, found.rows), (4, 1, 2));
    assert_eq!(found.vouched_for, 5, "a checkpoint was made before the rows went");
    let mark = store.retired_mark().await.expect("read").expect("one");
    look(&store, Some(&mark)).await.expect("whole");
    assert_eq!(store.chain_rows(0, 100).await.expect("read").len(), 2);
    // The rules still hold for what is kept.
    for table in ["api_key_audit_log", "audit_batches", "audit_checkpoints"] {
        attacker.try_run(&format!("DELETE FROM {table}")).await.expect_err("kept");
    }
    append(&*store, 6, 2 * DAY_MS + 1, &["f"]).await;
    assert_eq!(look(&store, None).await.expect("whole").rows, 3);
    attacker.disarm().await;
    attacker.run("UPDATE api_key_audit_log SET details = 'x' WHERE id = 13").await;
    assert_eq!(look(&store, None).await, Err(Fault::RowEdited { row: 13, batch: 5 }));
    attacker.run("DELETE FROM audit_checkpoints WHERE reason = 'retention'").await;
    assert_eq!(look(&store, None).await, Err(Fault::StartMissing { first: 5 }));
}

pub(crate) async fn nothing_is_retired_that_was_tampered_with(
    store: Arc<dyn Store>,
    attacker: &dyn Attacker,
) {
    filled(&store).await;
    attacker.disarm().await;
    attacker.run("UPDATE api_key_audit_log SET details = 'x' WHERE id = 5").await;
    let clock = clock();
    clock.advance_ms(200 * DAY_MS);
    let refused = keeper(&store, &clock, 1).retire().await.expect_err("refused").to_string();
    assert!(refused.contains("row 5"), "{refused}");
    assert_eq!(store.chain_rows(0, 100).await.expect("read").len(), 12);
}

pub(crate) async fn nothing_goes_because_of_a_mark_that_is_not_ours(
    store: Arc<dyn Store>,
    attacker: &dyn Attacker,
) {
    let made = filled(&store).await;
    let second = store.chain_batches(1, 1).await.expect("read").remove(0);
    let mark = |number, by| {
        let mut statement = Statement { number, ..made.statement.clone() };
        (statement.sequence, statement.last_id, statement.hash) =
            (second.sequence, second.last_id, second.hash);
        statement.reason = Reason::Retention;
        signer(by).sign(statement)
    };
    attacker.disarm().await;
    // The forger wants this row to go unseen, with all that is older than three months.
    attacker.run("UPDATE api_key_audit_log SET details = 'x' WHERE id = 5").await;
    store.add_checkpoint(&mark(2, 9)).await.expect("stored");
    let clock = clock();
    clock.advance_ms(200 * DAY_MS);
    let refused =
        async || keeper(&store, &clock, 1).retire().await.expect_err("refused").to_string();
    assert!(refused().await.contains("checkpoint 2 is signed with"));
    // One that only looks as if it were ours, and one of ours that is about another database.
    let ours = attacker.blob(signer(1).public_key().as_bytes());
    attacker
        .run(&format!("UPDATE audit_checkpoints SET public_key = {ours} WHERE number = 2"))
        .await;
    assert!(refused().await.contains("checkpoint 2 has a wrong signature"));
    assert_eq!(look(&store, None).await, Err(Fault::WrongSignature { number: 2 }));
    attacker.run("DELETE FROM audit_checkpoints WHERE number = 2").await;
    let mut elsewhere = mark(2, 1).statement;
    elsewhere.database_id = "another".to_owned();
    store.add_checkpoint(&signer(1).sign(elsewhere)).await.expect("stored");
    assert!(refused().await.contains("it is about another database"));
    assert_eq!(store.chain_rows(0, 100).await.expect("read").len(), 12);
}

pub(crate) async fn keys_that_signed_before_are_believed_when_they_are_named(
    store: Arc<dyn Store>,
    _: &dyn Attacker,
) {
    filled(&store).await;
    let clock = clock();
    clock.advance_ms(91 * DAY_MS);
    let renewed = |others| {
        let clock = Arc::new(clock.clone());
        Keeper::new(Arc::clone(&store), clock, signer(2), others, AuditConfig::default())
    };
    let refused = renewed(Vec::new()).retire().await.expect_err("refused").to_string();
    assert!(refused.contains("not a key that is trusted"), "{refused}");
    let dropped = renewed(vec![signer(1).public_key()]).retire().await.expect("retired");
    assert_eq!(dropped.batches, 4);
    // What is gone has been signed for by the new key: the former one may be forgotten.
    append(&*store, 5, 100 * DAY_MS, &["d"]).await;
    clock.advance_ms(101 * DAY_MS);
    assert_eq!(renewed(Vec::new()).retire().await.expect("retired").batches, 1);
}

pub(crate) async fn nothing_is_put_where_something_was_retired(
    store: Arc<dyn Store>,
    attacker: &dyn Attacker,
) {
    filled(&store).await;
    append(&*store, 5, 2 * DAY_MS, &["d"]).await;
    let clock = clock();
    clock.advance_ms(91 * DAY_MS);
    assert_eq!(keeper(&store, &clock, 1).retire().await.expect("retired").batches, 4);
    // Where rows are kept by the day, this day's place is there.
    // A moment later than the row that is there, or it could be the primary key that refuses.
    let kept = store.chain_head().await.expect("read").recorded_at_ms + 1;
    for id in [-7, 2, 13] {
        let insert = format!(
            "INSERT INTO api_key_audit_log (id, recorded_at_ms, at_ms, event, details, source, shadow)
             VALUES ({id}, {kept}, 0, 'DB_ERROR', 'x', 'control-plane', false)"
        );
        let refused = attacker.try_run(&insert).await.expect_err(&insert).to_string();
        assert!(refused.contains("append-only"), "{id}: {refused}");
    }
    // Nor can someone say that more was retired than there is.
    let made = store.last_checkpoint().await.expect("read").expect("one");
    let beyond = Statement {
        number: made.statement.number + 1,
        last_id: i64::MAX,
        reason: Reason::Retention,
        ..made.statement
    };
    store.add_checkpoint(&signer(9).sign(beyond)).await.expect_err("refused");
    look(&store, None).await.expect("whole");
}
