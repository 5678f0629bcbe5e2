//! One of many control planes does the work.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::sync::Notify;

use super::{Job, Jobs, LEASE};
use crate::{
    clock::testing::ManualClock,
    store::Changes,
    testing::{Database, START, TestService, on_each_database},
};

const EVERY: Duration = Duration::from_hours(1);
const EVERY_MS: i64 = 3_600_000;
const LEASE_MS: i64 = 60_000;

/// A control plane's part, with one job that does this.
async fn part<F>(
    database: &Database,
    clock: &ManualClock,
    holder: &str,
    work: impl Fn() -> F + Send + Sync + 'static,
) -> Jobs
where
    F: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let job = Job::new("a job", EVERY, work);
    Jobs::new(database.open().await, Arc::new(clock.clone()), holder.to_owned(), vec![job])
}

/// One that only counts.
async fn counting(
    database: &Database,
    clock: &ManualClock,
    holder: &str,
    runs: &Arc<AtomicUsize>,
) -> Jobs {
    let runs = Arc::clone(runs);
    part(database, clock, holder, move || {
        runs.fetch_add(1, Ordering::SeqCst);
        async { Ok(()) }
    })
    .await
}

on_each_database!(
    a_job_is_run_by_one_control_plane_each_time_it_is_due,
    when_the_one_that_runs_it_dies_another_takes_over,
    a_job_that_failed_is_tried_again_before_it_would_be_due,
    a_clock_that_ran_ahead_puts_a_job_off_by_no_more_than_its_period,
    a_lease_from_a_clock_that_ran_ahead_ends_soon,
    the_audit_log_has_a_place_for_the_coming_days,
    what_filters_may_not_ask_for_any_more_is_forgotten,
);

async fn a_job_is_run_by_one_control_plane_each_time_it_is_due(database: Database) {
    let clock = ManualClock::at(START);
    let runs = Arc::new(AtomicUsize::new(0));
    let one = counting(&database, &clock, "one", &runs).await;
    let other = counting(&database, &clock, "other", &runs).await;
    for expected in 1..=3 {
        tokio::join!(one.run_due(), other.run_due());
        one.run_due().await;
        other.run_due().await;
        assert_eq!(runs.load(Ordering::SeqCst), expected);
        clock.advance_ms(EVERY_MS);
    }
}

async fn when_the_one_that_runs_it_dies_another_takes_over(database: Database) {
    let clock = ManualClock::at(START);
    let (begun, runs) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
    let told = Arc::clone(&begun);
    let doomed = part(&database, &clock, "one", move || {
        told.notify_one();
        std::future::pending()
    })
    .await;
    let other = counting(&database, &clock, "other", &runs).await;
    tokio::select! {
        () = doomed.run_due() => panic!("it never ends"),
        () = begun.notified() => {}
    }
    drop(doomed);
    clock.advance_ms(LEASE_MS - 1);
    other.run_due().await;
    assert_eq!(runs.load(Ordering::SeqCst), 0, "its lease goes on for a moment");
    clock.advance_ms(1);
    other.run_due().await;
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    assert_eq!(Duration::from_millis(LEASE_MS.unsigned_abs()), LEASE);
}

async fn a_job_that_failed_is_tried_again_before_it_would_be_due(database: Database) {
    let clock = ManualClock::at(START);
    let runs = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&runs);
    let failing = part(&database, &clock, "one", move || {
        count.fetch_add(1, Ordering::SeqCst);
        async { anyhow::bail!("no luck") }
    })
    .await;
    failing.run_due().await;
    failing.run_due().await;
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    clock.advance_ms(5 * 60_000);
    failing.run_due().await;
    assert_eq!(runs.load(Ordering::SeqCst), 2);
}

async fn a_clock_that_ran_ahead_puts_a_job_off_by_no_more_than_its_period(database: Database) {
    let (clock, ahead) = (ManualClock::at(START), ManualClock::at("2036-11-25T12:00:00Z"));
    let runs = Arc::new(AtomicUsize::new(0));
    counting(&database, &ahead, "one", &runs).await.run_due().await;
    let other = counting(&database, &clock, "other", &runs).await;
    other.run_due().await;
    assert_eq!(runs.load(Ordering::SeqCst), 1, "it may just have been done");
    clock.advance_ms(EVERY_MS + LEASE_MS);
    other.run_due().await;
    assert_eq!(runs.load(Ordering::SeqCst), 2);
    other.run_due().await;
    assert_eq!(runs.load(Ordering::SeqCst), 2, "from then on it is due as always");
}

async fn a_lease_from_a_clock_that_ran_ahead_ends_soon(database: Database) {
    let (clock, ahead) = (ManualClock::at(START), ManualClock::at("2036-11-25T12:00:00Z"));
    let (begun, runs) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
    let told = Arc::clone(&begun);
    let doomed = part(&database, &ahead, "one", move || {
        told.notify_one();
        std::future::pending()
    })
    .await;
    tokio::select! {
        () = doomed.run_due() => panic!("it never ends"),
        () = begun.notified() => {}
    }
    drop(doomed);
    let other = counting(&database, &clock, "other", &runs).await;
    for (wait, expected) in [(0, 0), (2 * LEASE_MS - 1, 0), (EVERY_MS, 1)] {
        clock.advance_ms(wait);
        other.run_due().await;
        assert_eq!(runs.load(Ordering::SeqCst), expected);
    }
}

async fn the_audit_log_has_a_place_for_the_coming_days(database: Database) {
    let it = TestService::start_at(database).await;
    let job = super::audit_partitions(&it.service);
    let jobs = Jobs::new(
        it.database.open().await,
        Arc::new(it.clock.clone()),
        "one".to_owned(),
        vec![job],
    );
    jobs.run_due().await;
    // Nothing is left to be made, today or in the days after it.
    assert_eq!(
        it.service.store.prepare_days(crate::testing::at(START), 7).await.expect("looked"),
        0
    );
    let last = it.service.store.job_last_success("audit_partitions").await.expect("read");
    assert_eq!(last, Some(crate::testing::at(START)));
}

async fn what_filters_may_not_ask_for_any_more_is_forgotten(database: Database) {
    let it = TestService::start_at(database).await;
    for number in 0..3 {
        it.issue(crate::testing::request(&format!("{number}"))).await;
        it.clock.advance_ms(3 * 86_400_000);
    }
    let job = super::feed_retention(&it.service);
    let jobs = Jobs::new(
        it.database.open().await,
        Arc::new(it.clock.clone()),
        "one".to_owned(),
        vec![job],
    );
    jobs.run_due().await;
    // The first is nine days old.
    let (_, changes) = it.service.store.changes(1, 10).await.expect("read");
    assert!(matches!(changes, Changes::Since(changes) if changes.len() == 2));
    assert_eq!(it.service.store.changes(0, 10).await.expect("read").1, Changes::Unknown);
}
