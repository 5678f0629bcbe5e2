//! Every metric of the control plane: its name, labels and meaning. `docs/metrics.md` is made of
//! it, and a test compares it with what a service exports.

use super::catalogue::{Kind, Metric, catalogue};

catalogue! {
    /// Requests, by `listener`, `route`, `method` and `status`. A path that is no route, a method
    /// that is not usual and a status that is not counts as `other`.
    HTTP_REQUESTS = Counter "keygate_http_requests_total" ["listener", "route", "method", "status"];
    /// How long requests took, by `listener` and `route`; long polls are left out.
    HTTP_SECONDS = Histogram "keygate_http_request_duration_seconds" ["listener", "route"];
    /// Requests turned away because too many were under way, by `listener`.
    SHED = Counter "keygate_http_requests_shed_total" ["listener"];
    /// Requests whose handling panicked, by `listener`.
    PANICS = Counter "keygate_http_panics_total" ["listener"];
    /// Open connections, by `listener`.
    CONNECTIONS = Gauge "keygate_http_connections" ["listener"];
    /// TLS handshakes, by `listener` and `outcome`.
    TLS_HANDSHAKES = Counter "keygate_tls_handshakes_total" ["listener", "outcome"] only "with TLS";
    /// When a listener's certificate ends, by `listener`.
    TLS_EXPIRES = Gauge "keygate_tls_certificate_expiry_timestamp_seconds" ["listener"] only "with TLS";
    /// 1 while a listener's TLS files have changed to something that cannot be used, by `listener`.
    TLS_UNUSABLE = Gauge "keygate_tls_files_unusable" ["listener"] only "with TLS";

    /// Decisions on keys. `by` tells who decided: `filter` (from the events that filters ship: each
    /// refusal, and the first acceptance of a key), `edge` (this service, asked by a filter) or
    /// `admin` (this service, on a call to the admin API). `layer` is the layer of the gate that
    /// decided, `event` the audit log's word for it, `reason` why; `shadow` is `true` where it was
    /// only counted and the request passed.
    DECISIONS = Counter "keygate_decisions_total" ["by", "layer", "event", "reason", "shadow"];
    /// How long verifications took, by `outcome` (`known`, `unknown`, `test_key_refused`,
    /// `database_error`, `overloaded`) and `hash`: `computed`, `remembered` (the key had been found
    /// right before) or `none` (there was nothing to compare with).
    VERIFY_SECONDS = Histogram "keygate_verify_duration_seconds" ["outcome", "hash"];
    /// Look-ups among the keys that were found right before, by `result`: `hit` or `miss`.
    VERIFY_MEMORY_LOOKUPS = Counter "keygate_verify_memory_lookups_total" ["result"];
    /// Keys that are remembered as right; at most 100,000, each for five minutes.
    VERIFY_MEMORY_KEYS = Gauge "keygate_verify_memory_keys" [];

    /// Keys that were hashed.
    HASHES = Counter "keygate_hashes_total" [];
    /// How long one hash took.
    HASH_DURATION = Histogram "keygate_hash_duration_seconds" [];
    /// How long keys waited for a hashing thread.
    HASH_WAIT = Histogram "keygate_hash_wait_duration_seconds" [];
    /// Keys that were not hashed for want of time, by `reason`: `queue_full`, or `deadline` (no
    /// thread was free within 200 ms of its arrival). Who asked got 503.
    HASH_SHED = Counter "keygate_hash_shed_total" ["reason"];
    /// Keys waiting for a hashing thread.
    HASH_QUEUE_DEPTH = Gauge "keygate_hash_queue_depth" [];
    /// Hashing threads.
    HASH_THREADS = Gauge "keygate_hash_threads" [];
    /// What one hash cost at start.
    HASH_SECONDS = Gauge "keygate_hash_seconds" [];
    /// Keys that were hashed anew because hashes have become dearer.
    KEYS_REHASHED = Counter "keygate_keys_rehashed_total" [];
    /// Keys that were moved from the previous secret key to the current one.
    KEYS_MOVED = Counter "keygate_keys_moved_to_current_secret_total" [];
    /// Keys in the database, by `state`: `active`, `inactive`, `expired` or `revoked`. Counted every
    /// five minutes.
    KEYS = Gauge "keygate_keys" ["state"];
    /// Active keys that end within seven days. Counted every five minutes.
    KEYS_ENDING = Gauge "keygate_keys_expiring_soon" [];

    /// The sequence of the last change.
    FEED_SEQUENCE = Gauge "keygate_feed_sequence" [];
    /// Filters that wait for changes just now.
    LONG_POLLS = Gauge "keygate_feed_long_polls" [];
    /// Filters that follow the change feed: those that wait, and those that were answered within
    /// the last 15 s. Each worker of an Envoy is one.
    FEED_FILTERS = Gauge "keygate_feed_filters" [];
    /// How many changes the slowest of them has not been told of.
    FEED_BEHIND = Gauge "keygate_feed_slowest_filter_lag_changes" [];
    /// From when a change was made to when a filter was told of it, by `kind` (`created`, `updated`,
    /// `revoked`); one observation for each filter and change.
    FEED_LAG = Histogram "keygate_feed_delivery_lag_seconds" ["kind"];
    /// Audit events taken in from filters.
    EVENTS_INGESTED = Counter "keygate_edge_events_total" [];
    /// Batches of them, by `outcome`: `stored`, or `repeated` (it was stored before).
    EVENT_BATCHES = Counter "keygate_edge_event_batches_total" ["outcome"];
    /// Requests with keys of ours that filters have counted, by `outcome`: `allowed`,
    /// `rate_limited`, `ip_denied`, `scope_denied`, `expired`, `revoked` or `test_key`.
    USAGE = Counter "keygate_usage_requests_total" ["outcome"];
    /// How far behind usage is: for how long the oldest minute was over that the last batch with
    /// usage was about.
    USAGE_AGE = Gauge "keygate_usage_age_seconds" [];

    /// Own audit events that are not written yet.
    AUDIT_BACKLOG = Gauge "keygate_audit_backlog_events" [];
    /// For how long the oldest of them has waited.
    AUDIT_BACKLOG_AGE = Gauge "keygate_audit_backlog_age_seconds" [];
    /// Own audit events that found no room.
    AUDIT_DROPPED = Counter "keygate_audit_events_dropped_total" [];
    /// Checkpoints of the audit log, by `reason`.
    AUDIT_CHECKPOINTS = Counter "keygate_audit_checkpoints_total" ["reason"];
    /// Until when everything in the audit log is signed for. A log without news stays signed for.
    AUDIT_VOUCHED_FOR = Gauge "keygate_audit_vouched_for_timestamp_seconds" [];
    /// Audit rows that were deleted because they were older than they are kept.
    AUDIT_RETIRED = Counter "keygate_audit_rows_retired_total" [];
    /// Times that old audit rows could not be retired.
    AUDIT_RETIRE_FAILURES = Counter "keygate_audit_retire_failures_total" [];

    /// Open connections to the database, by `pool` and `state`: `in_use` or `idle`.
    DATABASE_CONNECTIONS = Gauge "keygate_database_connections" ["pool", "state"];
    /// How many connections there may be, by `pool`.
    DATABASE_CONNECTIONS_MAX = Gauge "keygate_database_connections_max" ["pool"];
    /// How long it took until a transaction that writes could begin: the wait for a connection, and
    /// on `SQLite` for whoever writes.
    DATABASE_BEGIN = Histogram "keygate_database_begin_duration_seconds" [];
    /// Statements that failed, by `kind`: `pool_timeout` (no connection was free in time),
    /// `connection`, `constraint`, `statement`, `value` (it cannot be read) or `other`.
    DATABASE_ERRORS = Counter "keygate_database_errors_total" ["kind"];

    /// Whether there is a connection to Redis (1) or not (0).
    REDIS_UP = Gauge "keygate_redis_up" [] only "with Redis";
    /// 1 while Redis is left alone because calls to it failed too often.
    REDIS_BREAKER_OPEN = Gauge "keygate_redis_breaker_open" [] only "with Redis";
    /// Calls to Redis, by `outcome`: `ok`, `error`, `timeout`; and those that were not made:
    /// `not_connected`, `left_alone`, `busy`.
    REDIS_CALLS = Counter "keygate_redis_calls_total" ["outcome"] only "with Redis";
    /// How long those calls took that were made.
    REDIS_SECONDS = Histogram "keygate_redis_call_duration_seconds" [] only "with Redis";
    /// Attempts to connect to Redis, by `outcome`: `ok` or `failed`.
    REDIS_CONNECTS = Counter "keygate_redis_connects_total" ["outcome"] only "with Redis";
    /// Decisions on limits, by the `authority` that counted: `redis`, or `memory` when that gave no
    /// answer.
    LIMITER_DECISIONS = Counter "keygate_limiter_decisions_total" ["authority"] only "with Redis";
    /// What counts for limits now, by `mode`: 1 for `redis` (all control planes count together) or
    /// for `memory` (each by itself), 0 for the other.
    LIMITER_MODE = Gauge "keygate_limiter_mode" ["mode"];

    /// Asks for more of a limit that a fleet shares, by the `authority` that answered (`redis` or
    /// `memory`) and `outcome`: `granted`, `enough` (what was granted before is not spent yet),
    /// `no_room` (the limit is used up), `closed` (the slice of time is over), `clock` (it is too far
    /// from now) or `full` (there is no room to keep it).
    LEASE_ASKS = Counter "keygate_lease_asks_total" ["authority", "outcome"];
    /// Requests that were granted so, by the `authority` that answered.
    LEASE_GRANTED = Counter "keygate_lease_granted_requests_total" ["authority"];
    /// Pools of such limits, one for each limit and whom it counts, that this process remembers; at
    /// most 100,000.
    LEASE_POOLS = Gauge "keygate_lease_pools" [];
    /// Envoys that live: as Redis tells; without it, those that say so here.
    FLEET_ENVOYS = Gauge "keygate_fleet_envoys" [];
    /// Control planes that live, as Redis last told; 1 without it.
    FLEET_CONTROL_PLANES = Gauge "keygate_fleet_control_planes" [];
    /// Times that an Envoy said that it lives, by the `authority` that took it in and `outcome`: `ok`,
    /// or `clock` (its clock is more than a second off, so it gets no part of limits that a fleet
    /// shares).
    FLEET_PRESENCES = Counter "keygate_fleet_presences_total" ["authority", "outcome"];

    /// When each job of all control planes last succeeded, by `work` (`job` is Prometheus'
    /// own word), whoever ran it; 0: never yet.
    JOB_LAST_SUCCESS = Gauge "keygate_job_last_success_timestamp_seconds" ["work"];
    /// Runs of jobs by this control plane, by `work` and `outcome`: `done`, `failed`, or `lost`
    /// (another one has taken it over).
    JOB_RUNS = Counter "keygate_job_runs_total" ["work", "outcome"];

    /// Spans of traces, by `outcome`: `sent`, or `lost` (the collector did not take them).
    TRACE_SPANS = Counter "keygate_trace_spans_total" ["outcome"] only "with `KEYGATE_OTLP_ENDPOINT`";
    /// Errors and panics that were to be reported, by `outcome`: `sent`, or `dropped` (there were
    /// more than 30 in a minute).
    ERROR_REPORTS = Counter "keygate_error_reports_total" ["outcome"] only "with `KEYGATE_SENTRY_DSN`";

    /// Whether each background task runs (1) or not (0), by `task`.
    TASK_UP = Gauge "keygate_task_up" ["task"];
    /// Background tasks that died and were started again, by `task`.
    TASK_RESTARTS = Counter "keygate_task_restarts_total" ["task"];
    /// 1, with the `version` of the program.
    BUILD_INFO = Gauge "keygate_build_info" ["version"];
}
