//! Ends cut off, hashes computed anew, checkpoints forged.

use metrics_exporter_prometheus::PrometheusBuilder;
use std::sync::Arc;

use super::{Attacker, append, checkpoint, clock, filled, keeper, look, signer};
use crate::{
    audit::chain::{batch::ChainHead, checkpoint::Reason, fault::Fault},
    metrics,
    store::Store,
};

/// Computes all hashes from batch `from` on anew, and sets the head.
async fn rewrite(store: &Arc<dyn Store>, attacker: &dyn Attacker, from: u64, with_later: bool) {
    let head = store.chain_head().await.expect("read");
    let batches = store.chain_batches(from - 1, 1000).await.expect("read");
    let first = batches.first().expect("a batch");
    let mut end = ChainHead {
        sequence: from - 1,
        last_id: first.first_id - 1,
        hash: first.previous_hash,
        recorded_at_ms: 0,
        ..head
    };
    for batch in batches.iter().take(if with_later { 1000 } else { 1 }) {
        let rows = store.chain_rows(batch.first_id - 1, batch.count).await.expect("read");
        let sealed = end.seal_rows(batch.recorded_at_ms, rows, batch.first_id).expect("some rows");
        let made = sealed.batch;
        attacker
            .run(&format!(
                "UPDATE audit_batches SET previous_hash = {}, hash = {}, digests = {} WHERE sequence = {}",
                attacker.blob(made.previous_hash.as_bytes()),
                attacker.blob(made.hash.as_bytes()),
                attacker.blob(&made.digests),
                made.sequence,
            ))
            .await;
        end = sealed.head;
    }
    if with_later {
        let hash = attacker.blob(end.hash.as_bytes());
        attacker.run(&format!("UPDATE audit_head SET hash = {hash}")).await;
    }
}

pub(crate) async fn a_cut_off_end_is_found_though_the_head_is_set_back(
    store: Arc<dyn Store>,
    attacker: &dyn Attacker,
) {
    let made = filled(&store).await;
    let third = store.chain_batches(2, 1).await.expect("read").remove(0);
    attacker.disarm().await;
    attacker.run("DELETE FROM api_key_audit_log WHERE id > 6").await;
    assert_eq!(look(&store, None).await, Err(Fault::RowMissing { row: 7, batch: 3 }));
    attacker.run("DELETE FROM audit_batches WHERE sequence > 2").await;
    let Err(Fault::Truncated { last: 2, .. }) = look(&store, None).await else {
        panic!("not found")
    };
    let hash = attacker.blob(third.previous_hash.as_bytes());
    attacker
        .run(&format!(
            "UPDATE audit_head SET sequence = 2, last_id = 6, hash = {hash}, recorded_at_ms = 0"
        ))
        .await;
    let Err(Fault::Truncated { last: 2, known: 3, witness }) = look(&store, None).await else {
        panic!("not found")
    };
    assert_eq!(witness, "checkpoint 1");
    // Without the checkpoint nothing in the database tells any more. The log stream does.
    attacker.run("DELETE FROM audit_checkpoints").await;
    look(&store, None).await.expect("nothing to see");
    let Err(Fault::Truncated { last: 2, known: 3, .. }) = look(&store, Some(&made)).await else {
        panic!("not found")
    };
}

pub(crate) async fn an_edited_end_and_a_checkpoint_of_what_is_not_kept_are_told_apart(
    store: Arc<dyn Store>,
    attacker: &dyn Attacker,
) {
    let first = filled(&store).await;
    attacker.disarm().await;
    attacker.run("UPDATE audit_head SET last_id = 99").await;
    assert_eq!(look(&store, None).await, Err(Fault::HeadEdited { last: 4 }));
    attacker.run("UPDATE audit_head SET last_id = 12").await;
    let clock = clock();
    clock.advance_ms(91 * 24 * 3_600_000);
    keeper(&store, &clock, 1).retire().await.expect("retired");
    let known = look(&store, Some(&first)).await;
    assert_eq!(known, Err(Fault::Retired { batch: 3, retired: 4 }));
}

pub(crate) async fn a_cut_off_beginning_is_found(store: Arc<dyn Store>, attacker: &dyn Attacker) {
    filled(&store).await;
    attacker.disarm().await;
    attacker.run("DELETE FROM api_key_audit_log WHERE id <= 3").await;
    attacker.run("DELETE FROM audit_batches WHERE sequence = 1").await;
    assert_eq!(look(&store, None).await, Err(Fault::StartMissing { first: 2 }));
    // As if it had been retired: the attacker signs, and nobody believes it.
    let (first, last) = (store.chain_batches(1, 1).await, store.last_checkpoint().await);
    let second = first.expect("read").remove(0);
    let mut statement = last.expect("read").expect("one").statement;
    statement.number = 2;
    statement.sequence = 1;
    statement.last_id = 3;
    statement.hash = second.previous_hash;
    statement.reason = Reason::Retention;
    let forged = signer(9).sign(statement);
    store.add_checkpoint(&forged).await.expect("stored");
    let public_key = signer(9).public_key();
    assert_eq!(look(&store, None).await, Err(Fault::UntrustedKey { number: 2, public_key }));
}

pub(crate) async fn a_rewritten_batch_does_not_fit_the_next_one(
    store: Arc<dyn Store>,
    attacker: &dyn Attacker,
) {
    filled(&store).await;
    attacker.disarm().await;
    attacker.run("UPDATE api_key_audit_log SET details = 'x' WHERE id = 5").await;
    rewrite(&store, attacker, 2, false).await;
    assert_eq!(
        look(&store, None).await,
        Err(Fault::BatchRewritten { batch: 2, first_row: 4, last_row: 6 })
    );
}

pub(crate) async fn a_log_rewritten_to_its_end_contradicts_the_checkpoint(
    store: Arc<dyn Store>,
    attacker: &dyn Attacker,
) {
    let made = filled(&store).await;
    attacker.disarm().await;
    attacker.run("UPDATE api_key_audit_log SET details = 'x' WHERE id = 5").await;
    rewrite(&store, attacker, 2, true).await;
    let Err(Fault::Rewritten { batch: 3, from: 1, witness, expected, .. }) =
        look(&store, None).await
    else {
        panic!("not found")
    };
    assert_eq!((witness.as_str(), expected), ("checkpoint 1", made.statement.hash));
    attacker.run("DELETE FROM audit_checkpoints").await;
    look(&store, None).await.expect("nothing to see");
    let Err(Fault::Rewritten { batch: 3, .. }) = look(&store, Some(&made)).await else {
        panic!("not found")
    };
}

pub(crate) async fn forged_edited_and_deleted_checkpoints_are_found(
    store: Arc<dyn Store>,
    attacker: &dyn Attacker,
) {
    let first = filled(&store).await;
    checkpoint(&store).await;
    append(&*store, 5, 10, &["a"]).await;
    checkpoint(&store).await;
    attacker.disarm().await;
    attacker.run("UPDATE audit_checkpoints SET at_ms = at_ms + 1 WHERE number = 2").await;
    assert_eq!(look(&store, None).await, Err(Fault::WrongSignature { number: 2 }));
    attacker.run("DELETE FROM audit_checkpoints WHERE number = 2").await;
    assert_eq!(look(&store, None).await, Err(Fault::CheckpointMissing { number: 2 }));

    attacker.run("DELETE FROM audit_checkpoints").await;
    let made = keeper(&store, &clock(), 9).checkpoint(Reason::Periodic).await.expect("made");
    let public_key = made.expect("news").public_key;
    assert_eq!(look(&store, None).await, Err(Fault::UntrustedKey { number: 1, public_key }));
    // A real one of the same batch, of another log.
    attacker.run("DELETE FROM audit_checkpoints").await;
    let mut statement = first.statement;
    statement.database_id = "another".to_owned();
    store.add_checkpoint(&signer(1).sign(statement)).await.expect("stored");
    let Err(Fault::CheckpointElsewhere { number: 1, .. }) = look(&store, None).await else {
        panic!("not found")
    };
}

pub(crate) async fn a_forged_checkpoint_does_not_keep_the_log_from_being_signed(
    store: Arc<dyn Store>,
    _: &dyn Attacker,
) {
    let first = filled(&store).await;
    let head = store.chain_head().await.expect("read");
    // Under our name, about the very end, made in the future: and not signed by us.
    let mut forged = first.clone();
    forged.statement.number = 2;
    (forged.statement.sequence, forged.statement.last_id, forged.statement.hash) =
        (head.sequence, head.last_id, head.hash);
    forged.statement.at_ms = i64::MAX;
    store.add_checkpoint(&forged).await.expect("stored");

    let recorder = PrometheusBuilder::new().build_recorder();
    let _measured = ::metrics::set_default_local_recorder(&recorder);
    let clock = clock();
    keeper(&store, &clock, 1).checkpoint_if_due().await.expect("looked");
    let made = store.last_checkpoint().await.expect("read").expect("one");
    assert_eq!((made.statement.number, made.statement.sequence), (3, head.sequence));
    assert!(made.is_signed() && made.public_key == signer(1).public_key());
    // Until when all is signed for; a log without news stays so, and one with news does not.
    let shown = || {
        let text = recorder.handle().render();
        let line = text.lines().find(|line| line.starts_with(metrics::AUDIT_VOUCHED_FOR));
        let value = line.and_then(|line| line.rsplit(' ').next()).expect("shown");
        value.parse::<u64>().expect("whole seconds")
    };
    let start = shown();
    clock.advance_ms(240_000);
    keeper(&store, &clock, 1).checkpoint_if_due().await.expect("looked");
    assert_eq!(shown() - start, 240);
    append(&*store, 5, 10, &["d"]).await;
    clock.advance_ms(30_000);
    keeper(&store, &clock, 1).checkpoint_if_due().await.expect("looked");
    assert_eq!(shown(), start);
}
