//! What is measured, under which names. Labels take few values, never a key, an address or a
//! path that a client chose.

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

/// Requests, by `listener`, `route`, `method` and `status`.
pub const HTTP_REQUESTS: &str = "keygate_http_requests_total";
/// How long they took, by `listener` and `route`; long polls are left out.
pub const HTTP_SECONDS: &str = "keygate_http_request_duration_seconds";
/// Verifications, by `outcome`.
pub const VERIFY_SECONDS: &str = "keygate_verify_duration_seconds";
/// Verifications that needed no hash, because the key had been found right before.
pub const VERIFY_REMEMBERED: &str = "keygate_verify_remembered_total";
/// Keys that were hashed.
pub const HASHES: &str = "keygate_hashes_total";
/// Keys that were hashed anew because hashes have become dearer.
pub const KEYS_REHASHED: &str = "keygate_keys_rehashed_total";
/// Keys that were moved from the previous secret key to the current one.
pub const KEYS_MOVED: &str = "keygate_keys_moved_to_current_secret_total";
/// Keys waiting for a hashing thread.
pub const HASH_QUEUE_DEPTH: &str = "keygate_hash_queue_depth";
/// What one hash cost at start.
pub const HASH_SECONDS: &str = "keygate_hash_seconds";
/// The sequence of the last change.
pub const FEED_SEQUENCE: &str = "keygate_feed_sequence";
/// Filters that wait for changes.
pub const LONG_POLLS: &str = "keygate_feed_long_polls";
/// Audit events taken in from filters.
pub const EVENTS_INGESTED: &str = "keygate_edge_events_total";
/// Batches of them, by `outcome`.
pub const EVENT_BATCHES: &str = "keygate_edge_event_batches_total";
/// The control plane's own audit events that found no room.
pub const AUDIT_DROPPED: &str = "keygate_audit_events_dropped_total";
/// Checkpoints of the audit log, by `reason`.
pub const AUDIT_CHECKPOINTS: &str = "keygate_audit_checkpoints_total";
/// Until when everything in the audit log is signed for, in seconds since the Unix epoch. A log
/// without news stays signed for.
pub const AUDIT_VOUCHED_FOR: &str = "keygate_audit_vouched_for_timestamp_seconds";
/// Audit rows that were deleted because they were older than they are kept.
pub const AUDIT_RETIRED: &str = "keygate_audit_rows_retired_total";
/// Times that old audit rows could not be retired.
pub const AUDIT_RETIRE_FAILURES: &str = "keygate_audit_retire_failures_total";
/// Requests turned away because too many were under way, by `listener`.
pub const SHED: &str = "keygate_http_requests_shed_total";
/// Open connections, by `listener`.
pub const CONNECTIONS: &str = "keygate_http_connections";
/// TLS handshakes, by `listener` and `outcome`.
pub const TLS_HANDSHAKES: &str = "keygate_tls_handshakes_total";
/// When a listener's certificate ends, in seconds since the Unix epoch, by `listener`.
pub const TLS_EXPIRES: &str = "keygate_tls_certificate_expiry_timestamp_seconds";
/// 1 while a listener's TLS files have changed to something that cannot be used, by `listener`.
pub const TLS_UNUSABLE: &str = "keygate_tls_files_unusable";
/// Whether each background task runs (1) or not (0), by `task`.
pub const TASK_UP: &str = "keygate_task_up";
/// Background tasks that died and were started again, by `task`.
pub const TASK_RESTARTS: &str = "keygate_task_restarts_total";
/// Requests whose handling panicked, by `listener`.
pub const PANICS: &str = "keygate_http_panics_total";

/// From a tenth of a millisecond, where a remembered key is, to where callers have given up.
const SECONDS: &[f64] = &[
    0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0,
];

/// Installs the recorder of this process.
///
/// # Errors
/// When there is one already.
pub fn install() -> Result<PrometheusHandle, BuildError> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_duration_seconds".to_owned()), SECONDS)?
        .install_recorder()?;
    describe();
    begin();
    Ok(handle)
}

/// Counts that alerts look at begin at zero, or the first increase would be none: a series that is
/// born with a value has not risen.
fn begin() {
    for name in [AUDIT_DROPPED, AUDIT_RETIRE_FAILURES] {
        metrics::counter!(name).increment(0);
    }
    for listener in ["admin", "edge"] {
        for name in [SHED, PANICS] {
            metrics::counter!(name, "listener" => listener).increment(0);
        }
    }
}

fn describe() {
    use metrics::{describe_counter, describe_gauge, describe_histogram};
    describe_counter!(HTTP_REQUESTS, "Requests by listener, route, method and status");
    describe_histogram!(HTTP_SECONDS, "Duration of requests, long polls left out");
    describe_histogram!(VERIFY_SECONDS, "Duration of verifications by outcome");
    describe_counter!(VERIFY_REMEMBERED, "Verifications that needed no hash");
    describe_counter!(HASHES, "Keys that were hashed");
    describe_counter!(KEYS_REHASHED, "Keys that were hashed anew because hashes became dearer");
    describe_counter!(KEYS_MOVED, "Keys moved from the previous secret key to the current one");
    describe_gauge!(HASH_QUEUE_DEPTH, "Keys waiting for a hashing thread");
    describe_gauge!(HASH_SECONDS, "Cost of one hash, measured at start");
    describe_gauge!(FEED_SEQUENCE, "Sequence of the last change");
    describe_gauge!(LONG_POLLS, "Filters waiting for changes");
    describe_counter!(EVENTS_INGESTED, "Audit events taken in from filters");
    describe_counter!(EVENT_BATCHES, "Batches of audit events by outcome");
    describe_counter!(AUDIT_CHECKPOINTS, "Checkpoints of the audit log by reason");
    describe_gauge!(AUDIT_VOUCHED_FOR, "Until when everything in the audit log is signed for");
    describe_counter!(AUDIT_RETIRED, "Audit rows deleted for their age");
    describe_counter!(AUDIT_RETIRE_FAILURES, "Times that old audit rows could not be retired");
    describe_counter!(AUDIT_DROPPED, "Own audit events that found no room");
    describe_counter!(SHED, "Requests turned away because too many were under way");
    describe_gauge!(CONNECTIONS, "Open connections by listener");
    describe_gauge!(TASK_UP, "Whether a background task runs (1) or not (0)");
    describe_counter!(TASK_RESTARTS, "Background tasks that died and were started again");
    describe_counter!(PANICS, "Requests whose handling panicked");
    describe_counter!(TLS_HANDSHAKES, "TLS handshakes by listener and outcome");
    describe_gauge!(TLS_EXPIRES, "When a listener's certificate ends, by listener");
    describe_gauge!(TLS_UNUSABLE, "1 while a listener's new TLS files cannot be used, by listener");
}

/// Counts up a gauge while it lives.
pub struct InFlight(metrics::Gauge);

impl InFlight {
    /// One more.
    #[must_use]
    pub fn enter(gauge: metrics::Gauge) -> Self {
        gauge.increment(1.0);
        Self(gauge)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}
