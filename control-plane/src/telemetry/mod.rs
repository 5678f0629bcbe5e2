//! What the service says of itself beside its metrics: log lines, traces, reports of errors.
//!
//! All three are fed by the `tracing` facade. Traces and reports are off unless they are
//! configured; a collector that is slow or away costs a request nothing, since both have a bounded
//! queue and a thread of their own.

mod log;
mod panics;
mod redact;
mod reports;
pub mod spans;
mod traces;

pub use log::BadFilter;

use std::{sync::mpsc, thread, time::Duration};
use tracing_subscriber::{layer::SubscriberExt, util::SubscriberInitExt};

use crate::config::{Settings, TelemetryConfig};
use reports::Reports;
use traces::Traces;

/// How long the last traces and reports may take to leave when the process ends.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What has to be ended before the process ends, or what was said last is lost.
#[must_use]
pub struct Telemetry {
    traces: Option<Traces>,
    reports: Option<Reports>,
}

/// Starts it. A command other than `serve` has only log lines, and only says what is amiss and
/// what changes keys, unless a filter is set.
///
/// To be called outside an asynchronous runtime: the exporter's client blocks.
///
/// # Errors
/// When a setting cannot be used.
pub fn start(settings: &Settings, serving: bool) -> anyhow::Result<Telemetry> {
    let filter = log::filter(settings, serving)?;
    let config = TelemetryConfig::new(settings)?;
    let traces = config.traces.filter(|_| serving).map(|it| Traces::start(&it)).transpose()?;
    let reports = config.sentry_dsn.filter(|_| serving);
    let reports = reports.map(|dsn| Reports::start(dsn, settings.environment));
    tracing_subscriber::registry()
        .with(log::layer(settings.log_format, filter))
        .with(traces.as_ref().map(Traces::layer))
        .with(reports.as_ref().map(|_| reports::layer()))
        .init();
    if serving {
        panics::into_the_log();
    }
    Ok(Telemetry { traces, reports })
}

impl Telemetry {
    /// Sends what is left, but waits no longer than two seconds for it.
    pub fn end(self) {
        let Self { traces, reports } = self;
        let traces = traces.map(|it| aside("last traces", move || it.end(LAST_WORDS)));
        let reports = reports.map(|it| aside("last reports", move || it.end(LAST_WORDS)));
        for ended in [traces, reports].into_iter().flatten() {
            // Who is not done by then is left behind: the process ends.
            let _ = ended.recv_timeout(LAST_WORDS);
        }
    }
}

/// Does something on a thread of its own, since its own time limits cannot be relied on.
fn aside(name: &str, work: impl FnOnce() + Send + 'static) -> mpsc::Receiver<()> {
    let (done, ended) = mpsc::channel();
    let thread = thread::Builder::new().name(name.to_owned()).spawn(move || {
        work();
        let _ = done.send(());
    });
    if let Err(error) = thread {
        tracing::warn!(%error, "{name} cannot be sent: there is no thread for it");
    }
    ended
}
