//! Whoever changes the audit log behind the service's back is found out.
//!
//! A backend runs all of it with `tampering::suite!(fresh)`, where `fresh().await` gives an empty
//! store and an [`Attacker`] who has its database.

use async_trait::async_trait;
use edge_protocol::EventKind;
use std::sync::Arc;

use super::at;
use crate::{
    audit::{
        AuditEntry,
        chain::{
            batch::ChainHead,
            check::{Anchors, Trust, Verified},
            checkpoint::{Checkpoint, Reason},
            fault::Fault,
        },
        keeper::Keeper,
        signer::AuditSigner,
        verify::{Scope, verify},
    },
    clock::testing::ManualClock,
    config::AuditConfig,
    store::Store,
};

/// Someone with all rights on the database.
#[async_trait]
pub(crate) trait Attacker: Send + Sync {
    /// Runs a statement under the rules that everybody is under.
    async fn try_run(&self, statement: &str) -> Result<u64, sqlx::Error>;

    /// Takes the rules away.
    async fn disarm(&self);

    /// Bytes as a literal.
    fn blob(&self, bytes: &[u8]) -> String;

    /// Runs a statement, which must change something.
    async fn run(&self, statement: &str) {
        let changed = self.try_run(statement).await;
        assert!(changed.as_ref().is_ok_and(|rows| *rows > 0), "{statement}: {changed:?}");
    }
}

/// Makes a test of each guarantee.
macro_rules! suite {
    ($fresh:path) => {
        $crate::store::conformance::tampering::suite!(@ $fresh:
            an_untouched_log_is_found_whole,
            an_edited_row_is_named_whichever_column_it_is,
            a_deleted_row_is_named,
            an_inserted_row_is_named,
            swapped_rows_are_named,
            a_cut_off_end_is_found_though_the_head_is_set_back,
            a_cut_off_beginning_is_found,
            a_rewritten_batch_does_not_fit_the_next_one,
            a_log_rewritten_to_its_end_contradicts_the_checkpoint,
            forged_edited_and_deleted_checkpoints_are_found,
            the_rules_forbid_changes_to_log_batches_and_checkpoints,
            what_is_retired_goes_and_the_rest_still_verifies,
            nothing_is_retired_that_was_tampered_with,
            writers_at_the_same_time_make_one_chain,
            events_come_in_faster_than_filters_send_them,
        );
    };
    (@ $fresh:path: $($name:ident),+ $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                let (store, attacker) = $fresh().await;
                $crate::store::conformance::tampering::$name(store, &attacker).await;
            }
        )+
    };
}
pub(crate) use suite;

const DAY_MS: i64 = 24 * 3_600_000;

fn clock() -> ManualClock {
    ManualClock::at("2027-01-15T12:00:00Z")
}

fn signer(seed: u8) -> AuditSigner {
    AuditSigner::from_seed([seed; 32])
}

fn keeper(store: &Arc<dyn Store>, clock: &ManualClock, seed: u8) -> Keeper {
    let clock = Arc::new(clock.clone());
    Keeper::new(Arc::clone(store), clock, signer(seed), AuditConfig::default())
}

async fn checkpoint(store: &Arc<dyn Store>) -> Checkpoint {
    let made = keeper(store, &clock(), 1).checkpoint(Reason::Periodic).await.expect("made");
    made.expect("news")
}

async fn append(store: &dyn Store, batch: u64, millis: i64, details: &[&str]) {
    let entry = |details: &&str| {
        let mut entry = AuditEntry::of(EventKind::InvalidKey, at(millis), *details);
        entry.event.client_ip = Some("192.0.2.1".parse().expect("an address"));
        entry
    };
    let entries: Vec<_> = details.iter().map(entry).collect();
    store.append_batch("filter", batch, at(millis), &entries).await.expect("written");
}

/// Batches 1 to 4 of three rows each, and a checkpoint after the third.
async fn filled(store: &Arc<dyn Store>) -> Checkpoint {
    for (number, millis) in (1..=3).zip(0..) {
        append(&**store, number, millis, &["a", "b", "c"]).await;
    }
    let made = checkpoint(store).await;
    append(&**store, 4, 9, &["a", "b", "c"]).await;
    made
}

async fn look(store: &Arc<dyn Store>, anchor: Option<&Checkpoint>) -> Result<Verified, Fault> {
    let known = anchor.map(|it| (it.statement.sequence, it.statement.hash));
    let scope = Scope {
        trust: Trust::Keys(vec![signer(1).public_key()]),
        anchors: known.into_iter().collect::<Anchors>(),
        up_to: None,
    };
    verify(&**store, &scope, &mut |_| {}).await.expect("it can be read")
}

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

pub(crate) async fn an_untouched_log_is_found_whole(store: Arc<dyn Store>, _: &dyn Attacker) {
    let empty = look(&store, None).await.expect("whole");
    assert_eq!((empty.batches, empty.rows, empty.checkpoints), (0, 0, 0));
    let made = filled(&store).await;
    let found = look(&store, Some(&made)).await.expect("whole");
    assert_eq!((found.batches, found.rows, found.sequence, found.last_id), (4, 12, 4, 12));
    assert_eq!((found.checkpoints, found.vouched_for, found.rows_since), (1, 3, 3));
    // Nothing new, no new checkpoint; something new, the next number.
    let second = checkpoint(&store).await;
    assert_eq!((second.statement.number, second.statement.sequence), (2, 4));
    let again = keeper(&store, &clock(), 1).checkpoint(Reason::Manual).await.expect("looked");
    assert_eq!(again, None);
    assert_eq!(look(&store, Some(&second)).await.expect("whole").rows_since, 0);
}

pub(crate) async fn an_edited_row_is_named_whichever_column_it_is(
    store: Arc<dyn Store>,
    attacker: &dyn Attacker,
) {
    filled(&store).await;
    attacker.disarm().await;
    for (column, edited, original) in [
        ("details", "'x'", "'b'"),
        ("event", "'VALID_API_KEY'", "'INVALID_KEY'"),
        ("client_ip", "NULL", "'192.0.2.1'"),
        ("actor", "'cli'", "NULL"),
        ("key_id", "''", "NULL"),
        ("at_ms", "1", "1800000000001"),
        ("source", "'control-plane'", "'filter'"),
        ("batch", "NULL", "2"),
    ] {
        let set = async |value: &str| {
            let set = format!("UPDATE api_key_audit_log SET {column} = {value} WHERE id = 5");
            attacker.run(&set).await;
        };
        set(edited).await;
        let found = look(&store, None).await;
        assert_eq!(found, Err(Fault::RowEdited { row: 5, batch: 2 }), "{column}");
        set(original).await;
        look(&store, None).await.expect("whole");
    }
}

pub(crate) async fn a_deleted_row_is_named(store: Arc<dyn Store>, attacker: &dyn Attacker) {
    filled(&store).await;
    attacker.disarm().await;
    // The last of the log, the last of a batch, one in a batch's middle, a batch's first.
    for (row, batch) in [(12, 4), (9, 3), (5, 2), (4, 2)] {
        attacker.run(&format!("DELETE FROM api_key_audit_log WHERE id = {row}")).await;
        assert_eq!(look(&store, None).await, Err(Fault::RowMissing { row, batch }));
    }
    attacker.run("DELETE FROM audit_batches WHERE sequence = 2").await;
    assert!(matches!(
        look(&store, None).await,
        Err(Fault::BatchMissing { batch: 2 } | Fault::RowInserted { row: 6, after: 1 })
    ));
}

pub(crate) async fn an_inserted_row_is_named(store: Arc<dyn Store>, attacker: &dyn Attacker) {
    filled(&store).await;
    attacker.disarm().await;
    let insert = async |id: i64| {
        let columns = "recorded_at_ms, at_ms, event, key_id, key_hash, client_ip, actor, details, shadow, source, batch";
        attacker
            .run(&format!(
                "INSERT INTO api_key_audit_log (id, {columns})
                 SELECT {id}, {columns} FROM api_key_audit_log WHERE id = 1"
            ))
            .await;
    };
    insert(-5).await;
    let before_the_start = look(&store, None).await;
    assert_eq!(before_the_start, Err(Fault::RowInserted { row: -5, after: 0 }));
    attacker.run("DELETE FROM api_key_audit_log WHERE id = -5").await;
    insert(13).await;
    let after_the_end = look(&store, None).await;
    assert_eq!(after_the_end, Err(Fault::RowInserted { row: 13, after: 4 }));
}

pub(crate) async fn swapped_rows_are_named(store: Arc<dyn Store>, attacker: &dyn Attacker) {
    filled(&store).await;
    attacker.disarm().await;
    let set = async |id: i64, details: &str| {
        let set = format!("UPDATE api_key_audit_log SET details = '{details}' WHERE id = {id}");
        attacker.run(&set).await;
    };
    set(4, "c").await;
    set(6, "a").await;
    let within = look(&store, None).await;
    assert_eq!(within, Err(Fault::RowSwapped { row: 4, with: 6, batch: 2 }));
    set(4, "a").await;
    set(6, "c").await;
    look(&store, None).await.expect("whole");
    // Of different batches.
    for (id, to) in [(2, 1000), (8, 2), (1000, 8)] {
        attacker.run(&format!("UPDATE api_key_audit_log SET id = {to} WHERE id = {id}")).await;
    }
    assert_eq!(look(&store, None).await, Err(Fault::RowEdited { row: 2, batch: 1 }));
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

pub(crate) async fn the_rules_forbid_changes_to_log_batches_and_checkpoints(
    store: Arc<dyn Store>,
    attacker: &dyn Attacker,
) {
    filled(&store).await;
    for (table, column) in [
        ("api_key_audit_log", "details = 'x'"),
        ("audit_batches", "recorded_at_ms = 0"),
        ("audit_checkpoints", "at_ms = 0"),
        ("audit_head", "last_id = 1"),
    ] {
        for statement in [format!("UPDATE {table} SET {column}"), format!("DELETE FROM {table}")] {
            let refused = attacker.try_run(&statement).await.expect_err(&statement).to_string();
            assert!(refused.contains("append-only"), "{statement}: {refused}");
        }
    }
    look(&store, None).await.expect("whole");
}

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

pub(crate) async fn writers_at_the_same_time_make_one_chain(
    store: Arc<dyn Store>,
    _: &dyn Attacker,
) {
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..16 {
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            for batch in 1..=5 {
                let entry = AuditEntry::of(EventKind::InvalidKey, at(writer), "x");
                let source = format!("filter {writer}");
                // Their clocks differ; the log's never goes back.
                store
                    .append_batch(&source, batch, at(1000 * (writer % 3)), &[entry.clone(), entry])
                    .await
                    .expect("written");
            }
        });
    }
    tasks.join_all().await;
    let found = look(&store, None).await.expect("whole");
    assert_eq!((found.batches, found.rows), (80, 160));
}

/// What a fleet of filters may send, in events a second. Far less than what is reached: a machine
/// under load must not fail.
const ENOUGH_A_SECOND: f64 = 1000.0;

#[expect(clippy::disallowed_methods, reason = "this measures real time")]
pub(crate) async fn events_come_in_faster_than_filters_send_them(
    store: Arc<dyn Store>,
    _: &dyn Attacker,
) {
    const BATCHES: u64 = 200;
    let entry = || {
        let mut entry =
            AuditEntry::of(EventKind::RateLimited, at(0), "limit=x count=100 window=60");
        entry.event.key_hash = Some("0123456789abcdef".to_owned());
        entry.event.key_id = Some("0123456789abcdef".to_owned());
        entry.event.client_ip = Some("192.0.2.1".parse().expect("an address"));
        entry
    };
    let entries: Vec<_> = std::iter::repeat_with(entry).take(256).collect();
    let rate = |started: std::time::Instant| {
        let events = u32::try_from(256 * BATCHES).expect("small");
        f64::from(events) / started.elapsed().as_secs_f64()
    };
    let started = std::time::Instant::now();
    for batch in 1..=BATCHES {
        store.append_batch("filter", batch, at(0), &entries).await.expect("written");
    }
    let written = rate(started);
    let started = std::time::Instant::now();
    assert_eq!(look(&store, None).await.expect("whole").rows, 256 * BATCHES);
    let verified = rate(started);
    println!("events a second: {written:.0} written, {verified:.0} looked through");
    assert!(written > ENOUGH_A_SECOND, "{written:.0} events a second");
}
