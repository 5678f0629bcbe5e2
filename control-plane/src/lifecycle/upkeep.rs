//! What goes on in the background for its own sake.

use jiff::{SignedDuration, Timestamp};
use metrics_exporter_prometheus::PrometheusHandle;
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

use super::tasks::Tasks;
use crate::{clock::Clock, metrics, redis::Redis, service::Service, store::Store};

/// How often changes of other processes are looked for: the command line and other control planes
/// work on the same database.
const FEED_REFRESH: Duration = Duration::from_millis(100);
/// How long one such look may take. It takes a millisecond, unless the network swallows it: then the
/// next one is made on another connection.
const FEED_PATIENCE: Duration = Duration::from_secs(2);
/// How long after the database has stopped telling of changes it is listened to again.
const LISTEN_AGAIN: Duration = Duration::from_secs(2);
/// How often refusals that were only counted are written down.
const TELL_DENIALS: Duration = Duration::from_secs(5);
/// How often histograms are tidied up.
const METRICS_UPKEEP: Duration = Duration::from_secs(5);
/// How often the keys are counted. It takes a look at each of them.
const COUNT_KEYS: Duration = Duration::from_mins(5);
/// Keys that end within this time are shown on their own.
const SOON: SignedDuration = SignedDuration::from_hours(7 * 24);

/// How long the service waits for Redis before it begins without it.
const REDIS_AT_START: Duration = Duration::from_secs(2);

/// Starts what keeps the connection to Redis, and gives it a moment, so that a service that is
/// ready counts together with the others from its first request on.
pub(super) async fn start_redis(redis: &Arc<Redis>, tasks: &mut Tasks, stop: &CancellationToken) {
    let (it, told) = (Arc::clone(redis), stop.clone());
    tasks.spawn_again_and_again("redis keeper", move || {
        let (it, told) = (Arc::clone(&it), told.clone());
        async move { it.run(told).await }
    });
    if tokio::time::timeout(REDIS_AT_START, redis.tried()).await.is_err() {
        tracing::warn!("Redis does not answer; the service begins without it");
    }
}

/// Looks for changes that other processes have made.
pub(super) async fn watch_feed(store: Arc<dyn Store>, stop: CancellationToken) {
    let mut failing = false;
    loop {
        tokio::select! {
            () = tokio::time::sleep(FEED_REFRESH) => {}
            () = stop.cancelled() => return,
        }
        let looked = tokio::time::timeout(FEED_PATIENCE, store.refresh()).await;
        let error = match looked {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(elapsed) => Some(elapsed.to_string()),
        };
        // Once is enough: the next one comes in a tenth of a second.
        if let (Some(error), false) = (&error, failing) {
            tracing::error!(error, "changes cannot be looked for");
        }
        failing = error.is_some();
    }
}

/// Follows what the database itself tells of changes: sooner than [`watch_feed`] finds them, which
/// goes on beside it.
pub(super) async fn hear_feed(store: Arc<dyn Store>, stop: CancellationToken) {
    let listen = async {
        loop {
            if let Err(error) = store.listen().await {
                tracing::warn!(%error, "the database cannot be listened to; it is asked instead");
            }
            tokio::time::sleep(LISTEN_AGAIN).await;
        }
    };
    tokio::select! {
        () = listen => {}
        () = stop.cancelled() => {}
    }
}

/// Writes down how many admin calls were refused without an entry of their own.
pub(super) async fn tell_denials(service: Arc<Service>, stop: CancellationToken) {
    let ends = loop {
        let ends = tokio::select! {
            () = tokio::time::sleep(TELL_DENIALS) => false,
            () = stop.cancelled() => true,
        };
        if ends {
            break service.admin_denials.rest(service.clock.now());
        }
        for entry in service.admin_denials.due(service.clock.now()) {
            service.recorder.record(entry).await;
        }
    };
    for entry in ends {
        service.recorder.record(entry).await;
    }
}

/// Tidies up the metrics' histograms, and counts the keys now and then.
pub(super) async fn metrics(
    prometheus: PrometheusHandle,
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
) {
    let mut until_counting = Duration::ZERO;
    loop {
        if until_counting.is_zero() {
            until_counting = COUNT_KEYS;
            count_keys(&*store, clock.now()).await;
        }
        tokio::select! {
            () = tokio::time::sleep(METRICS_UPKEEP) => prometheus.run_upkeep(),
            () = stop.cancelled() => return,
        }
        until_counting = until_counting.saturating_sub(METRICS_UPKEEP);
    }
}

async fn count_keys(store: &dyn Store, now: Timestamp) {
    let soon = now.checked_add(SOON).unwrap_or(Timestamp::MAX);
    match store.count_keys(now, soon).await {
        Ok(counts) => metrics::snapshot::show_keys(&counts),
        Err(error) => tracing::warn!(%error, "the keys cannot be counted"),
    }
}
