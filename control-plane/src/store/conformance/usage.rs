//! How often keys were used.

use edge_protocol::{EventKind, UsageMethod, UsageOutcome};
use jiff::Timestamp;
use std::sync::Arc;

use super::{at, batch_of, entry, events, key_id};
use crate::{
    clock::unix_ms,
    store::{BatchOutcome, FilterBatch, Store},
    usage::{
        Minute, Use, Uses,
        period::{Interval, Period},
    },
};

const DAY_MS: i64 = 86_400_000;

/// Uses of a key at a time, with a method and an outcome.
fn uses(key: u64, time: Timestamp, kind: (UsageMethod, UsageOutcome), count: u64) -> Uses {
    let (method, outcome) = kind;
    let of = Use { key_id: key_id(key), minute: Minute::of(unix_ms(time)), method, outcome };
    Uses { of, count }
}

const READ: (UsageMethod, UsageOutcome) = (UsageMethod::Get, UsageOutcome::Allowed);
const WRITTEN: (UsageMethod, UsageOutcome) = (UsageMethod::Post, UsageOutcome::Allowed);
const LIMITED: (UsageMethod, UsageOutcome) = (UsageMethod::Get, UsageOutcome::RateLimited);

fn counted(source: &str, batch: u64, usage: &[Uses]) -> FilterBatch {
    FilterBatch { usage: usage.to_vec(), ..batch_of(source, batch, at(0), &[]) }
}

async fn add(store: &dyn Store, source: &str, batch: u64, usage: &[Uses]) -> BatchOutcome {
    store.append_batch(&counted(source, batch, usage)).await.expect("taken")
}

/// A key's usage from a time on, as start, method, outcome and count.
async fn told(
    store: &dyn Store,
    key: u64,
    (since, until): (Timestamp, Timestamp),
    interval: Interval,
) -> Vec<(Timestamp, UsageMethod, UsageOutcome, u64)> {
    let period = Period::new(Some(since), Some(until), interval, until).expect("a period");
    let sums = store.usage(key_id(key), &period).await.expect("read");
    sums.into_iter().map(|it| (it.start, it.method, it.outcome, it.count)).collect()
}

/// All that was ever counted of a key.
async fn total(store: &dyn Store, key: u64) -> u64 {
    let period = (at(-700 * DAY_MS), at(700 * DAY_MS));
    told(store, key, period, Interval::Day).await.into_iter().map(|(.., count)| count).sum()
}

pub(crate) async fn usage_adds_up_by_interval_method_and_outcome(store: Arc<dyn Store>) {
    // 2027-01-15T08:00:00Z
    let (first, second, later) = (at(0), at(60_000), at(3_600_000));
    let usage = [
        uses(1, first, READ, 1),
        uses(1, first, LIMITED, 2),
        uses(1, second, READ, 4),
        uses(1, second, WRITTEN, 8),
        uses(1, later, READ, 16),
        uses(2, first, READ, 100),
    ];
    add(&*store, "a", 1, &usage).await;
    add(&*store, "b", 1, &[uses(1, first, READ, 32)]).await;

    let (read, written, limited) = (
        |start, count| (start, READ.0, READ.1, count),
        |start, count| (start, WRITTEN.0, WRITTEN.1, count),
        |start, count| (start, LIMITED.0, LIMITED.1, count),
    );
    let hours = (first, at(2 * 3_600_000));
    assert_eq!(
        told(&*store, 1, hours, Interval::Minute).await,
        [read(first, 33), limited(first, 2), read(second, 4), written(second, 8), read(later, 16)]
    );
    assert_eq!(
        told(&*store, 1, hours, Interval::Hour).await,
        [read(first, 37), limited(first, 2), written(first, 8), read(later, 16)]
    );
    let midnight = at(-8 * 3_600_000);
    assert_eq!(
        told(&*store, 1, hours, Interval::Day).await,
        [read(midnight, 53), limited(midnight, 2), written(midnight, 8)]
    );
    // From a time on, and until before one.
    assert_eq!(
        told(&*store, 1, (second, later), Interval::Minute).await,
        [read(second, 4), written(second, 8)]
    );
    assert_eq!(told(&*store, 3, hours, Interval::Hour).await, []);
}

pub(crate) async fn a_batch_counts_its_usage_once_however_often_it_comes(store: Arc<dyn Store>) {
    let usage = [uses(1, at(0), READ, 5)];
    for outcome in [BatchOutcome::Stored, BatchOutcome::Repeated, BatchOutcome::Repeated] {
        assert_eq!(add(&*store, "a", 1, &usage).await, outcome);
    }
    assert_eq!(add(&*store, "a", 2, &usage).await, BatchOutcome::Stored);
    assert_eq!(add(&*store, "b", 1, &usage).await, BatchOutcome::Stored);
    assert_eq!(add(&*store, "a", 1, &usage).await, BatchOutcome::Repeated);
    assert_eq!(total(&*store, 1).await, 15);
}

pub(crate) async fn filters_that_count_the_same_at_the_same_time_lose_nothing(
    store: Arc<dyn Store>,
) {
    let usage: Vec<_> = (1..=20).map(|key| uses(key, at(0), READ, 1)).collect();
    let mut tasks = tokio::task::JoinSet::new();
    for source in ["a", "b", "c", "d"] {
        for batch in 1..=5 {
            // Each twice, as when an answer is lost. A batch that is overtaken by a later one of
            // its source would count as stored before, so every batch has a source of its own.
            for _ in 0..2 {
                let (store, usage) = (Arc::clone(&store), usage.clone());
                tasks.spawn(async move {
                    add(&*store, &format!("{source}{batch}"), 1, &usage).await;
                });
            }
        }
    }
    tasks.join_all().await;
    for key in [1, 20] {
        assert_eq!(total(&*store, key).await, 20);
    }
}

pub(crate) async fn a_batch_that_cannot_be_stored_leaves_neither_events_nor_usage(
    store: Arc<dyn Store>,
) {
    let entries = [entry(EventKind::IpDenied, 1)];
    let usage = [uses(1, at(0), READ, 1), uses(2, at(0), READ, u64::MAX)];
    let broken = FilterBatch { usage: usage.to_vec(), ..batch_of("a", 1, at(0), &entries) };
    store.append_batch(&broken).await.expect_err("no such number can be stored");
    assert_eq!((total(&*store, 1).await, events(&*store).await.len()), (0, 0));
    let mended = FilterBatch { usage: usage[..1].to_vec(), ..broken };
    assert_eq!(store.append_batch(&mended).await.expect("taken"), BatchOutcome::Stored);
    assert_eq!((total(&*store, 1).await, events(&*store).await.len()), (1, 1));
}

pub(crate) async fn old_usage_goes_by_whole_days_and_the_rest_stays(store: Arc<dyn Store>) {
    // Midnight, so that minutes are before and after it.
    let midnight = at(-8 * 3_600_000);
    let around =
        |ms: i64| Timestamp::from_millisecond(midnight.as_millisecond() + ms).expect("one");
    let kept = [around(0), around(60_000), around(DAY_MS)];
    let old = [around(-60_000), around(-DAY_MS), around(-100 * DAY_MS)];
    let of = |times: &[Timestamp]| -> Vec<_> {
        times.iter().map(|time| uses(1, *time, READ, 1)).collect()
    };
    let mut usage = of(&kept);
    usage.extend(of(&old));
    add(&*store, "a", 1, &usage).await;
    assert_eq!(total(&*store, 1).await, 6);
    while store.drop_usage_before(midnight).await.expect("done") > 0 {}
    let left = told(&*store, 1, (around(-500 * DAY_MS), around(2 * DAY_MS)), Interval::Day).await;
    assert_eq!(left, [(around(0), READ.0, READ.1, 2), (around(DAY_MS), READ.0, READ.1, 1)]);
    // What comes late for a day that is gone is no failure.
    add(&*store, "a", 2, &of(&old)).await;
    assert_eq!(total(&*store, 1).await, 6);
}
