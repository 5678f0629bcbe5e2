//! What goes on in the background for its own sake.

use metrics_exporter_prometheus::PrometheusHandle;
use std::{sync::Arc, time::Duration};
use tokio_util::sync::CancellationToken;

use crate::store::Store;

/// How often changes of other processes are looked for: the command line works on the same file.
const FEED_REFRESH: Duration = Duration::from_millis(100);
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

/// Tidies up the metrics' histograms.
pub(super) async fn metrics(prometheus: PrometheusHandle, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(METRICS_UPKEEP) => prometheus.run_upkeep(),
            () = stop.cancelled() => return,
        }
    }
}
