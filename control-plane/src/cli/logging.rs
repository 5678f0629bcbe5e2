//! Log lines. They go to standard error: standard output is for what a command answers.

use tracing_subscriber::{EnvFilter, fmt};

use crate::config::{LogFormat, Settings};

/// The filter cannot be read.
#[derive(Debug, thiserror::Error)]
#[error(
    "KEYGATE_LOG: `{filter}` is no filter such as `info` or `keygate=debug,sqlx=warn`: {problem}"
)]
pub(super) struct BadFilter {
    filter: String,
    problem: String,
}

/// What the service says of its work.
const SERVING: &str = "info";
/// What the commands that only do one thing say of it: their answer says the rest. What is written
/// into the audit log is also a line in whatever gathers lines.
const QUIET: &str = "warn,keygate::audit=info";

/// Starts writing log lines. A command other than `serve` says only what is amiss and
/// what changes keys, unless a filter is set.
pub(super) fn start(settings: &Settings, serving: bool) -> Result<(), BadFilter> {
    let usual = if serving { SERVING } else { QUIET };
    let filter = settings.log.as_deref().unwrap_or(usual);
    let filter = EnvFilter::try_new(filter)
        .map_err(|error| BadFilter { filter: filter.to_owned(), problem: error.to_string() })?;
    let lines = fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match settings.log_format {
        LogFormat::Text => lines.with_ansi(false).init(),
        LogFormat::Json => {
            lines.json().flatten_event(true).with_current_span(true).with_span_list(false).init();
        }
    }
    Ok(())
}
