//! What each thing that the filter does for a request costs: everything on, then one thing less each
//! time.

use anyhow::Result;
use serde::Serialize;
use serde_json::{Value, json};

use super::figures::Spread;
use super::ground::{Programs, new_keys};
use super::load::Protocol;
use super::pair::{self, KnowsAll, Pair, Traffic, two_limits};
use crate::progress;

const KEYS: usize = 1000;

/// What is left out, and the fields of the configuration that do so.
type LeftOut = (&'static str, fn() -> Value);

/// On top of all that was left out before.
const STEPS: [LeftOut; 7] = [
    ("nothing", || json!({})),
    (
        "the two `RateLimit` headers of the IETF",
        || json!({"rate_limit_headers": {"x_ratelimit": true, "ietf": "off"}}),
    ),
    (
        "the three `X-RateLimit` headers, and with them the entry for the response",
        || json!({"rate_limit_headers": {"x_ratelimit": false, "ietf": "off"}}),
    ),
    (
        "taking the key out of the request",
        || json!({"credential": {"header": "x-api-key", "forward": true}}),
    ),
    ("counting against two limits", || json!({"limits": []})),
    (
        "the key: looking it up, its checks, its usage, three headers of identity",
        || json!({"public": [{"path_prefix": "/"}]}),
    ),
    ("asking for the client's address", || json!({"client_address": {"header": "x-none"}})),
];

/// What is added when something is left out.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Step {
    pub(super) without: &'static str,
    pub(super) protocol: &'static str,
    /// Processor time for a request beyond what it takes without the filter, in microseconds.
    pub(super) added: Spread,
    /// How much less that is than a step before, in the middle.
    pub(super) less: f64,
}

/// Measures every step, in rounds.
pub(super) fn measure(programs: &Programs, rounds: usize, seconds: f64) -> Result<Vec<Step>> {
    let control_plane = KnowsAll::start(programs)?;
    let keys = new_keys(KEYS)?;
    let traffic = Traffic { keys: &keys, header_bytes: 0, workers: 1 };
    let mut fields = json!({
        "environment": "development",
        "limits": two_limits(),
        "cache": {"fresh_seconds": 86_400},
    });
    let mut pairs = Vec::new();
    for (number, (without, less)) in STEPS.into_iter().enumerate() {
        progress::step(&format!("starting without {without}"));
        if let (Value::Object(fields), Value::Object(less)) = (&mut fields, less()) {
            fields.extend(less);
        }
        let name = format!("step-{number}");
        pairs.push(Pair::start(programs, &control_plane, &name, traffic, &fields)?);
    }
    let mut steps = Vec::new();
    for protocol in Protocol::ALL {
        let effort = (rounds, seconds);
        let added = pair::added(&pairs, programs, protocol, effort, protocol.name())?;
        let mut before = None;
        for ((without, _), added) in STEPS.into_iter().zip(added) {
            let less = before.replace(added.median).map_or(0.0, |before| before - added.median);
            steps.push(Step { without, protocol: protocol.name(), added, less });
        }
    }
    Ok(steps)
}
