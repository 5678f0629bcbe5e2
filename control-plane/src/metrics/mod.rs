//! What is measured, under which names. Labels take few values, never a key, an address or a
//! path that a client chose.

pub mod catalogue;
pub mod decisions;
pub mod names;
pub mod process;
pub mod snapshot;

pub use names::*;

use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use catalogue::Kind;

/// From a tenth of a millisecond, where a remembered key is, to where callers have given up.
const SECONDS: &[f64] = &[
    0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0,
];
/// From a millisecond, where a waiting filter is told, over the 0.1 s that a revocation may take
/// and the 12 s after which a filter trusts its cache no more, to one that was away for long.
const LAG_SECONDS: &[f64] =
    &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 12.0, 60.0, 600.0];

/// Installs the recorder of this process.
///
/// # Errors
/// When there is one already.
pub fn install() -> Result<PrometheusHandle, BuildError> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_duration_seconds".to_owned()), SECONDS)?
        .set_buckets_for_metric(Matcher::Suffix("_lag_seconds".to_owned()), LAG_SECONDS)?
        .install_recorder()?;
    describe();
    begin();
    Ok(handle)
}

/// Tables of everything that `/metrics` shows.
#[must_use]
pub fn page() -> String {
    let (own, process) = (catalogue::table(ALL), catalogue::table(process::ALL));
    format!("## The control plane\n\n{own}\n## Its process\n\n{process}")
}

/// Counts begin at zero, or the first increase would be none: a series that is born with a value
/// has not risen.
fn begin() {
    for metric in ALL.iter().filter(|metric| metric.labels.is_empty() && metric.only.is_none()) {
        match metric.kind {
            Kind::Counter => metrics::counter!(metric.name).increment(0),
            Kind::Histogram => drop(metrics::histogram!(metric.name)),
            // What is not known yet is not zero.
            Kind::Gauge => {}
        }
    }
    for listener in ["admin", "edge"] {
        for name in [SHED, PANICS] {
            metrics::counter!(name, "listener" => listener).increment(0);
        }
    }
    for reason in ["queue_full", "deadline"] {
        metrics::counter!(HASH_SHED, "reason" => reason).increment(0);
    }
    for kind in ["pool_timeout", "connection"] {
        metrics::counter!(DATABASE_ERRORS, "kind" => kind).increment(0);
    }
    metrics::gauge!(LONG_POLLS).set(0.0);
    metrics::gauge!(HASH_QUEUE_DEPTH).set(0.0);
    metrics::gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
}

fn describe() {
    for metric in ALL {
        let meaning = metric.meaning.trim();
        match metric.kind {
            Kind::Counter => metrics::describe_counter!(metric.name, meaning),
            Kind::Gauge => metrics::describe_gauge!(metric.name, meaning),
            Kind::Histogram => metrics::describe_histogram!(metric.name, meaning),
        }
    }
}

/// Shows what counts for limits: Redis, or the memory of this process.
pub fn show_limiter_mode(redis: bool) {
    for (mode, counts) in [("redis", redis), ("memory", !redis)] {
        metrics::gauge!(LIMITER_MODE, "mode" => mode).set(f64::from(u8::from(counts)));
    }
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
