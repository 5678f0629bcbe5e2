//! What goes on in the background for its own sake.

use metrics_exporter_prometheus::PrometheusHandle;
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

use crate::store::Store;

/// How often changes of other processes are looked for: the command line and other control planes
/// work on the same database.
const FEED_REFRESH: Duration = Duration::from_millis(100);
/// How long after the database has stopped telling of changes it is listened to again.
const LISTEN_AGAIN: Duration = Duration::from_secs(2);
/// How often histograms are tidied up.
const METRICS_UPKEEP: Duration = Duration::from_secs(5);

/// Looks for changes that other processes have made.
pub(super) async fn watch_feed(store: Arc<dyn Store>, stop: CancellationToken) {
    let mut failing = false;
    loop {
        tokio::select! {
            () = tokio::time::sleep(FEED_REFRESH) => {}
            () = stop.cancelled() => return,
        }
        match store.refresh().await {
            Ok(()) => failing = false,
            // Once is enough: the next one comes in a tenth of a second.
            Err(error) if !failing => {
                failing = true;
                tracing::error!(%error, "changes cannot be looked for");
            }
            Err(_) => {}
        }
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

/// Tidies up the metrics' histograms.
pub(super) async fn metrics(prometheus: PrometheusHandle, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(METRICS_UPKEEP) => prometheus.run_upkeep(),
            () = stop.cancelled() => return,
        }
    }
}
