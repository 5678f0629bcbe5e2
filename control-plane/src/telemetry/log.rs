//! Log lines. They go to standard error: standard output is for what a command answers.

use tracing::Subscriber;
use tracing_subscriber::{EnvFilter, Layer, filter::Directive, fmt, registry::LookupSpan};

use super::spans;
use crate::config::{LogFormat, Settings};

/// The filter cannot be read.
#[derive(Debug, thiserror::Error)]
#[error(
    "KEYGATE_LOG: `{filter}` is no filter such as `info` or `keygate=debug,sqlx=warn`: {problem}"
)]
pub struct BadFilter {
    filter: String,
    problem: String,
}

/// What the service says of its work.
const SERVING: &str = "info";
/// What the commands that only do one thing say of it: their answer says the rest. What is written
/// into the audit log is also a line in whatever gathers lines.
const QUIET: &str = "warn,keygate::audit=info";

/// Which lines are written.
pub(super) fn filter(settings: &Settings, serving: bool) -> Result<EnvFilter, BadFilter> {
    let usual = if serving { SERVING } else { QUIET };
    let filter = settings.log.as_deref().unwrap_or(usual);
    let bad = |problem: &dyn std::fmt::Display| BadFilter {
        filter: filter.to_owned(),
        problem: problem.to_string(),
    };
    // The spans of traces would only hide the one that names the request.
    let no_traces: Directive =
        format!("{}=off", spans::TARGET).parse().map_err(|error| bad(&error))?;
    let filter = EnvFilter::try_new(filter).map_err(|error| bad(&error))?;
    Ok(filter.add_directive(no_traces))
}

/// Writes them.
pub(super) fn layer<S>(format: LogFormat, filter: EnvFilter) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let lines = fmt::layer().with_writer(std::io::stderr);
    match format {
        LogFormat::Text => lines.with_ansi(false).with_filter(filter).boxed(),
        LogFormat::Json => {
            let lines =
                lines.json().flatten_event(true).with_current_span(true).with_span_list(false);
            lines.with_filter(filter).boxed()
        }
    }
}
