//! Rows that were edited, deleted, inserted or swapped; and logs that are whole.

use edge_protocol::EventKind;
use std::{sync::Arc, time::Duration};

use super::{Attacker, append, checkpoint, clock, filled, keeper, look};
use crate::{
    audit::{
        AuditEntry,
        chain::{checkpoint::Reason, fault::Fault},
    },
    store::{
        AuditFilter, Store,
        conformance::{at, batch_of},
    },
};

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
    assert_eq!(look(&store, None).await, Err(Fault::BatchMissing { batch: 2 }));
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
                let when = at(1000 * (writer % 3));
                let batch = batch_of(&source, batch, when, &[entry.clone(), entry]);
                store.append_batch(&batch).await.expect("written");
            }
        });
    }
    tasks.join_all().await;
    let found = look(&store, None).await.expect("whole");
    assert_eq!((found.batches, found.rows), (80, 160));
}

/// Whoever asks for a key or a client still gets the rows that are there, and an answer.
pub(crate) async fn what_was_slipped_in_hides_no_rows(
    store: Arc<dyn Store>,
    attacker: &dyn Attacker,
) {
    filled(&store).await;
    append(&*store, 5, 86_400_000, &["d"]).await;
    let early = at(0).as_millisecond() + 5;
    let slip_in = async |id: i64| {
        attacker
            .run(&format!(
                "INSERT INTO api_key_audit_log
                    (id, recorded_at_ms, at_ms, event, client_ip, details, source, shadow)
                 VALUES ({id}, {early}, 0, 'DB_ERROR', '192.0.2.7', 'x', 'control-plane', false)"
            ))
            .await;
    };
    let ids = async |client: &str, event| {
        let client_ip = Some(client.parse().expect("an address"));
        let filter = AuditFilter { event, client_ip, ..AuditFilter::default() };
        let rows = tokio::time::timeout(Duration::from_mins(1), store.audit_rows(&filter, 100));
        let rows = rows.await.expect("it ends").expect("rows");
        rows.iter().map(|row| row.id).collect::<Vec<_>>()
    };
    // Behind the end of the chain no rule keeps anybody from it; before it they have to go.
    slip_in(4000).await;
    slip_in(i64::MAX).await;
    attacker.disarm().await;
    slip_in(i64::MIN + 1).await;
    let all: Vec<i64> = (1..=13).rev().collect();
    assert_eq!(ids("192.0.2.1", None).await, all);
    assert_eq!(ids("192.0.2.1", Some(EventKind::InvalidKey)).await, all);
    assert_eq!(ids("192.0.2.7", None).await, [i64::MAX, 4000, i64::MIN + 1]);
    assert!(ids("192.0.2.9", None).await.is_empty());
    assert!(look(&store, None).await.is_err());
}

/// How fast is printed and not judged: machines differ, and are shared.
#[expect(clippy::disallowed_methods, reason = "this measures real time")]
pub(crate) async fn many_events_are_stored_and_looked_through_whole(
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
        store.append_batch(&batch_of("filter", batch, at(0), &entries)).await.expect("written");
    }
    let written = rate(started);
    let started = std::time::Instant::now();
    assert_eq!(look(&store, None).await.expect("whole").rows, 256 * BATCHES);
    let verified = rate(started);
    println!("events a second: {written:.0} written, {verified:.0} looked through");
}
