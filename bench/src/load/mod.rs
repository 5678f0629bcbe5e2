//! Requests over HTTP/1.1 or HTTP/2, as fast as they are answered or at a steady rate.
//!
//! | file | what it holds |
//! |---|---|
//! | here | what is to be sent, and what came of it |
//! | `connection` | one connection of either protocol |
//! | `run` | the slots that send, and the schedule that they keep |
//! | `stretch` | what each stretch between two pauses was like |

mod connection;
mod run;
mod stretch;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use clap::ValueEnum;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

pub use run::run;

/// What is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// HTTP/1.1, one request at a time on a connection.
    Http1,
    /// HTTP/2 in clear text, as many at a time as there are streams.
    Http2,
}

/// A request. They are sent one after the other, and again from the first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Template {
    /// The method.
    pub method: String,
    /// The path with its query.
    pub path: String,
    /// Its headers, but for `host`.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
}

/// What is to be sent.
#[derive(Clone, Debug)]
pub struct Plan {
    /// To whom.
    pub address: SocketAddr,
    /// How.
    pub protocol: Protocol,
    /// Over how many connections.
    pub connections: usize,
    /// How many requests at a time on each; 1 with HTTP/1.1.
    pub streams: usize,
    /// For how long.
    pub duration: Duration,
    /// How many at most.
    pub most: Option<u32>,
    /// Requests a second, whether or not those before are answered. None: each slot sends its next
    /// request when it has its answer.
    pub rate: Option<f64>,
    /// When to send nothing for a moment; none: never.
    pub pauses: Option<Pauses>,
    /// What.
    pub requests: Vec<Template>,
    /// Keys, one of which goes with each request, in turn.
    pub keys: Vec<String>,
}

/// Moments without load at a steady rate, in which others have the core: what they do then delays no
/// request. Requests that are under way end in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pauses {
    /// After so long under load.
    pub after: Duration,
    /// For how long.
    pub lasts: Duration,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Answers that came.
    pub answers: u64,
    /// How many of each status.
    pub statuses: BTreeMap<u16, u64>,
    /// How long it took, in seconds.
    pub seconds: f64,
    /// Latencies in nanoseconds and how many had them. At a rate they count from the moment at which a
    /// request was due, so one that had to wait for its turn has waited; those of the first moments after
    /// a pause are left out.
    pub latencies: Vec<(u64, u64)>,
    /// With pauses: what 99 in 100 requests of each stretch between two of them took at most, in
    /// nanoseconds. What happens now and then (the machine is stopped for a moment, say) spoils some
    /// stretches and not all.
    pub stretches: Vec<u64>,
}

impl Outcome {
    /// Answers a second.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
    pub fn rate(&self) -> f64 {
        self.answers as f64 / self.seconds
    }
}

/// Latencies up to a minute, to three digits.
#[must_use]
pub fn histogram() -> Histogram<u64> {
    let mut histogram = Histogram::new_with_max(60_000_000_000, 3)
        .unwrap_or_else(|_| unreachable!("the bounds are constants that it takes"));
    histogram.auto(true);
    histogram
}
