//! A key's fields, as they are written on the command line.

use edge_protocol::{Algorithm, OnOutage, Reach};
use jiff::{SignedDuration, Timestamp};

use crate::{
    cli::BadArgument,
    keys::new_key::{FieldError, LimitRequest},
};

/// Reads a limit: `100/60`.
pub(super) fn limit(text: &str) -> Result<LimitRequest, String> {
    let parse = |part: &str| part.parse::<u32>().ok();
    match text.split_once('/').map(|(requests, seconds)| (parse(requests), parse(seconds))) {
        Some((Some(requests), Some(window_seconds))) => Ok(LimitRequest {
            requests,
            window_seconds,
            algorithm: Algorithm::default(),
            reach: Reach::default(),
            on_outage: OnOutage::default(),
        }),
        _ => Err("expected requests/seconds, such as 100/60".to_owned()),
    }
}

/// Reads `--metadata`.
pub(super) fn metadata(
    text: &str,
) -> Result<serde_json::Map<String, serde_json::Value>, BadArgument> {
    serde_json::from_str(text)
        .map_err(|error| BadArgument(format!("--metadata is no JSON object: {error}")))
}

/// When `--expires-in` is over.
pub(super) fn end(now: Timestamp, length: SignedDuration) -> Result<Timestamp, BadArgument> {
    now.checked_add(length).map_err(|_| BadArgument("--expires-in is too long".to_owned()))
}

/// Everything that is wrong with the fields, a line each.
pub(super) fn refused(errors: &[FieldError]) -> BadArgument {
    let lines: Vec<_> =
        errors.iter().map(|error| format!("{}: {}", error.field, error.message)).collect();
    BadArgument(lines.join("\n         "))
}
