//! A key's fields, as they are written on the command line.

use edge_protocol::{Algorithm, OnOutage, Reach};
use jiff::{SignedDuration, Timestamp};

use crate::{
    cli::BadArgument,
    keys::new_key::{FieldError, LimitRequest},
};

/// How a limit is written.
const LIMIT: &str = "requests/seconds such as 100/60, and after a comma each what is not as usual: \
                     sliding_window or token_bucket, fleet, on_outage=allow";

/// Reads a limit: `100/60`, `100/60,sliding_window,fleet`.
pub(super) fn limit(text: &str) -> Result<LimitRequest, String> {
    let expected = || format!("expected {LIMIT}");
    let mut words = text.split(',');
    let quota = words.next().and_then(|quota| quota.split_once('/')).ok_or_else(expected)?;
    let number = |part: &str| part.parse::<u32>().map_err(|_| expected());
    let mut limit = LimitRequest {
        requests: number(quota.0)?,
        window_seconds: number(quota.1)?,
        algorithm: Algorithm::default(),
        reach: Reach::default(),
        on_outage: OnOutage::default(),
    };
    let (mut algorithm, mut reach, mut on_outage) = (None, None, None);
    for word in words {
        // Each kind of word once.
        let again = match word.trim() {
            "fixed_window" => algorithm.replace(Algorithm::FixedWindow).is_some(),
            "sliding_window" => algorithm.replace(Algorithm::SlidingWindow).is_some(),
            "token_bucket" => algorithm.replace(Algorithm::TokenBucket).is_some(),
            "envoy" => reach.replace(Reach::Envoy).is_some(),
            "fleet" => reach.replace(Reach::Fleet).is_some(),
            "on_outage=deny" => on_outage.replace(OnOutage::Deny).is_some(),
            "on_outage=allow" => on_outage.replace(OnOutage::Allow).is_some(),
            _ => true,
        };
        if again {
            return Err(expected());
        }
    }
    limit.algorithm = algorithm.unwrap_or_default();
    limit.reach = reach.unwrap_or_default();
    limit.on_outage = on_outage.unwrap_or_default();
    Ok(limit)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_written_as_it_is_shown() {
        let plain = limit("100/60").expect("a limit");
        assert_eq!((plain.requests, plain.window_seconds), (100, 60));
        assert_eq!((plain.algorithm, plain.reach), (Algorithm::FixedWindow, Reach::Envoy));
        let shared = limit("5/1,token_bucket, fleet,on_outage=allow").expect("a limit");
        assert_eq!((shared.algorithm, shared.reach), (Algorithm::TokenBucket, Reach::Fleet));
        assert_eq!(shared.on_outage, OnOutage::Allow);
        for wrong in
            ["", "100", "100/", "/60", "100/60,leaky", "100/60,", "100/60,fleet,envoy", "-1/60"]
        {
            let error = limit(wrong).expect_err(wrong);
            assert!(error.contains("100/60"), "{error}");
        }
    }
}
