//! The audit log's rows, and the batches of filters.

use std::sync::Arc;

use edge_protocol::EventKind;
use jiff::Span;

use super::{at, batch_of, entry, events, key_id};
use crate::{
    audit::{AuditEntry, AuditRow, OWN_SOURCE},
    store::{AuditFilter, BatchOutcome, Store, audit_blocks::FEW},
};

/// A day in milliseconds.
const DAY_MS: i64 = 86_400_000;

pub(crate) async fn the_audit_log_is_read_newest_first_and_by_filter(store: Arc<dyn Store>) {
    let mut full = entry(EventKind::IpDenied, 1);
    full.event.key_hash = Some("0123456789abcdef".to_owned());
    full.event.client_ip = Some("2001:db8::1".parse().expect("an address"));
    full.event.shadow = true;
    let bare = AuditEntry::of(EventKind::MissingApiKey, at(3), "");
    let entries = [full.clone(), bare.clone(), entry(EventKind::IpDenied, 2)];
    store.append(&entries).await.expect("written");

    let read = async |filter: AuditFilter, limit| {
        let rows = store.audit_rows(&filter, limit).await.expect("rows");
        rows.into_iter().map(|row| (row.id, row.entry)).collect::<Vec<_>>()
    };
    let all = read(AuditFilter::default(), 10).await;
    assert_eq!(
        all.iter().map(|(_, entry)| entry).rev().collect::<Vec<_>>(),
        entries.iter().collect::<Vec<_>>()
    );
    assert!(all.is_sorted_by(|one, other| one.0 > other.0));

    let by =
        |event, key_id, before| AuditFilter { event, key_id, before, ..AuditFilter::default() };
    assert_eq!(read(by(Some(EventKind::IpDenied), None, None), 10).await.len(), 2);
    assert_eq!(read(by(None, Some(key_id(1)), None), 10).await, [all[2].clone()]);
    assert_eq!(
        read(by(Some(EventKind::IpDenied), Some(key_id(2)), None), 10).await,
        [all[0].clone()]
    );
    assert_eq!(read(by(None, None, Some(all[0].0)), 1).await, [all[1].clone()]);
    assert_eq!(read(by(Some(EventKind::RateLimited), None, None), 10).await, []);
    let rows = store.audit_rows(&AuditFilter::default(), 1).await.expect("rows");
    assert_eq!(rows[0].source, OWN_SOURCE);

    store.append_batch(&batch_of("f", 1, at(9), &[bare])).await.expect("written");
    let none = AuditFilter::default();
    for (filter, count) in [
        (AuditFilter { client_ip: full.event.client_ip, ..none.clone() }, 1),
        (AuditFilter { client_ip: "192.0.2.9".parse().ok(), ..none.clone() }, 0),
        (AuditFilter { actor: Some("cli".to_owned()), ..none.clone() }, 2),
        (AuditFilter { source: Some("f".to_owned()), ..none.clone() }, 1),
        (AuditFilter { since: Some(at(3)), ..none.clone() }, 2),
        (AuditFilter { until: Some(at(3)), ..none.clone() }, 2),
        (AuditFilter { since: Some(at(1)), until: Some(at(3)), ..none.clone() }, 0),
        (AuditFilter { since: Some(at(0)), until: Some(at(4)), ..none.clone() }, 4),
        (AuditFilter { since: Some(at(3)), source: Some("f".to_owned()), ..none }, 1),
    ] {
        assert_eq!(read(filter.clone(), 10).await.len(), count, "{filter:?}");
    }
}

pub(crate) async fn rows_of_a_key_or_a_client_are_found_wherever_they_are_in_the_log(
    store: Arc<dyn Store>,
) {
    // Some blocks of the indexes, over some days; one key and one client are rare, and of one kind of event
    // there are few.
    let random = &mut fastrand::Rng::with_seed(7);
    let client = |number: usize| Some(format!("192.0.2.{number}").parse().expect("an address"));
    for batch in 0..20 {
        let entries: Vec<_> = (0..1000)
            .map(|place| {
                let kind = if random.u8(..4) == 0 {
                    EventKind::InvalidKey
                } else {
                    EventKind::RateLimited
                };
                let rare = place == 500 && batch % 4 == 0;
                let mut entry = entry(kind, if rare { 9 } else { random.u64(..3) });
                entry.event.at_ms += batch;
                entry.event.client_ip = if rare { client(9) } else { client(random.usize(..3)) };
                entry
            })
            .collect();
        let day = at(DAY_MS * i64::try_from(batch / 2).expect("few"));
        store.append_batch(&batch_of("f", batch + 1, day, &entries)).await.expect("written");
    }
    let mut all = Vec::new();
    while let Ok(rows) = store
        .audit_rows(
            &AuditFilter { before: all.last().map(|row: &AuditRow| row.id), ..Default::default() },
            1000,
        )
        .await
        && !rows.is_empty()
    {
        all.extend(rows);
    }
    assert_eq!(all.len(), 20_000);
    let of = |kind| all.iter().filter(|row| row.entry.event.kind == kind).count();
    let few = usize::try_from(FEW).expect("few");
    assert!(of(EventKind::InvalidKey) <= few && of(EventKind::RateLimited) > few);

    for _ in 0..60 {
        let key_id = [None, Some(key_id(random.u64(..3))), Some(key_id(9)), Some(key_id(4))];
        let mut time = || at(0).checked_add(Span::new().milliseconds(random.i64(0..9))).ok();
        let (since, until) = ([None, time()], [None, time()]);
        let filter = AuditFilter {
            key_id: key_id[random.usize(..4)],
            client_ip: [None, client(random.usize(..3)), client(9)][random.usize(..3)],
            event: [None, Some(EventKind::InvalidKey), Some(EventKind::RateLimited)]
                [random.usize(..3)],
            since: since[random.usize(..2)],
            until: until[random.usize(..2)],
            before: [None, Some(random.i64(1..20_100))][random.usize(..2)],
            ..AuditFilter::default()
        };
        let limit = [1, 10, 1000, 5000][random.usize(..4)];
        let wanted = |row: &&AuditRow| {
            let event = &row.entry.event;
            let at = i64::try_from(event.at_ms).expect("a time");
            filter.before.is_none_or(|before| row.id < before)
                && filter.event.is_none_or(|kind| kind == event.kind)
                && filter.since.is_none_or(|since| at >= since.as_millisecond())
                && filter.until.is_none_or(|until| at < until.as_millisecond())
                && (filter.key_id.is_none()
                    || filter.key_id.map(|key_id| key_id.to_string()) == event.key_id)
                && (filter.client_ip.is_none() || filter.client_ip == event.client_ip)
        };
        let there: Vec<_> = all.iter().filter(wanted).take(limit).map(|row| row.id).collect();
        let limit = u32::try_from(limit).expect("few");
        let rows = store.audit_rows(&filter, limit).await.expect("rows");
        let found: Vec<_> = rows.iter().map(|row| row.id).collect();
        assert_eq!(found, there, "{filter:?}, {limit}");
    }
}

pub(crate) async fn a_batch_is_stored_exactly_once(store: Arc<dyn Store>) {
    let one = [entry(EventKind::InvalidKey, 1), entry(EventKind::InvalidKey, 2)];
    let append = async |source: &str, batch| {
        store.append_batch(&batch_of(source, batch, at(0), &one)).await.expect("taken")
    };
    assert_eq!(append("a", 1).await, BatchOutcome::Stored);
    assert_eq!(append("a", 1).await, BatchOutcome::Repeated);
    assert_eq!(append("b", 1).await, BatchOutcome::Stored);
    assert_eq!(append("a", 3).await, BatchOutcome::Stored);
    assert_eq!(append("a", 2).await, BatchOutcome::Repeated);
    let empty = batch_of("a", 4, at(0), &[]);
    assert_eq!(store.append_batch(&empty).await.expect("taken"), BatchOutcome::Stored);
    assert_eq!(events(&*store).await.len(), 6);
    let rows = store.audit_rows(&AuditFilter::default(), 1).await.expect("rows");
    assert_eq!(rows[0].source, "a");
}

pub(crate) async fn concurrent_repeats_of_a_batch_store_it_once(store: Arc<dyn Store>) {
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let store = Arc::clone(&store);
        tasks.spawn(async move {
            let entries = [entry(EventKind::InvalidKey, 1)];
            store.append_batch(&batch_of("a", 1, at(0), &entries)).await.expect("taken")
        });
    }
    let outcomes = tasks.join_all().await;
    assert_eq!(outcomes.iter().filter(|it| **it == BatchOutcome::Stored).count(), 1);
    assert_eq!(events(&*store).await.len(), 1);
}

pub(crate) async fn a_filter_that_is_gone_is_forgotten(store: Arc<dyn Store>) {
    for (source, time) in [("gone", 10), ("here", 20)] {
        store.append_batch(&batch_of(source, 5, at(time), &[])).await.expect("written");
    }
    assert_eq!(store.forget_sources(at(10)).await.expect("nothing"), 0);
    assert_eq!(store.forget_sources(at(20)).await.expect("forgotten"), 1);
    let again = async |source| {
        store.append_batch(&batch_of(source, 5, at(30), &[])).await.expect("answered")
    };
    assert_eq!(again("here").await, BatchOutcome::Repeated);
    assert_eq!(again("gone").await, BatchOutcome::Stored);
}
