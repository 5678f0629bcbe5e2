//! How the cost of a request grows with what there is: keys, rules, headers, workers.

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::{Value, json};

use super::figures::Spread;
use super::ground::{Programs, new_keys};
use super::load::Protocol;
use super::pair::{self, KnowsAll, Pair, Traffic, two_limits};
use super::scenario::PLENTY;
use crate::progress;

/// The load is given over HTTP/1.1.
const PROTOCOL: Protocol = Protocol::Http1;

/// What grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Axis {
    /// Keys in turn, all of them in the worker's memory.
    Keys,
    /// Rules about limits and as many about scopes, of which none but two limits concern the requests.
    Rules,
    /// Bytes of headers beyond those of a small request.
    HeaderBytes,
    /// Workers of one Envoy, that count in the same slots.
    Workers,
}

/// A point of a chart.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Point {
    pub(super) axis: Axis,
    pub(super) at: u32,
    /// Processor time for a request beyond what it takes without the filter, in microseconds.
    pub(super) added: Spread,
    /// The same, as many times that of the axis's first point.
    pub(super) to_first: f64,
    /// What Envoy has in use afterwards, in bytes.
    pub(super) memory: u64,
    /// What of it is the filter's VM on a worker.
    pub(super) vm_memory: u64,
}

#[derive(Clone, Copy)]
struct Shape {
    keys: u32,
    rules: u32,
    header_bytes: u32,
    workers: u32,
}

impl Axis {
    pub(super) const ALL: [Self; 4] = [Self::Keys, Self::Rules, Self::HeaderBytes, Self::Workers];

    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Keys => "keys in turn",
            Self::Rules => "rules",
            Self::HeaderBytes => "bytes of headers",
            Self::Workers => "workers",
        }
    }

    fn points(self) -> &'static [u32] {
        match self {
            Self::Keys => &[1_000, 10_000, 100_000, 1_000_000],
            Self::Rules => &[2, 10, 50],
            Self::HeaderBytes => &[0, 1024, 4096, 16_384],
            Self::Workers => &[1, 2],
        }
    }

    fn shape(self, at: u32) -> Shape {
        let usual = Shape { keys: 1000, rules: 2, header_bytes: 0, workers: 1 };
        match self {
            Self::Keys => Shape { keys: at, ..usual },
            Self::Rules => Shape { rules: at, ..usual },
            Self::HeaderBytes => Shape { header_bytes: at, ..usual },
            Self::Workers => Shape { workers: at, ..usual },
        }
    }
}

/// Measures every point, in rounds along each axis.
pub(super) fn measure(programs: &Programs, rounds: usize, seconds: f64) -> Result<Vec<Point>> {
    let control_plane = KnowsAll::start(programs)?;
    let all: u32 = Axis::Keys.points().iter().copied().max().unwrap_or(0);
    progress::step(&format!("making {all} keys"));
    let keys = new_keys(usize::try_from(all)?)?;
    let mut points = Vec::new();
    for axis in Axis::ALL {
        let mut pairs = Vec::new();
        for &at in axis.points() {
            progress::step(&format!("starting with {at} {}", axis.title()));
            let name = format!("{axis:?}-{at}");
            let shape = axis.shape(at);
            let keys =
                keys.get(..usize::try_from(shape.keys)?).context("there are too few keys")?;
            let Shape { header_bytes, workers, .. } = shape;
            let traffic = Traffic { keys, header_bytes, workers };
            pairs.push(Pair::start(programs, &control_plane, &name, traffic, &fields(shape))?);
        }
        let effort = (rounds, seconds);
        let added = pair::added(&pairs, programs, PROTOCOL, effort, axis.title())?;
        let mut first = None;
        for ((pair, added), &at) in pairs.iter().zip(added).zip(axis.points()) {
            let to_first = added.median / *first.get_or_insert(added.median);
            let (memory, vm_memory) = (pair.memory()?, pair.vm_memory()?);
            points.push(Point { axis, at, added, to_first, memory, vm_memory });
        }
    }
    Ok(points)
}

/// The filter's configuration.
fn fields(shape: Shape) -> Value {
    let mut limits = two_limits();
    let mut scopes = Vec::new();
    for number in 2..shape.rules {
        let path = format!("/service-{number}/v1");
        scopes.push(json!({"path_prefix": path, "scope": "write"}));
        limits.push(
            json!({"name": format!("service-{number}"), "per": "address", "path_prefix": path,
            "requests": PLENTY, "window_seconds": 60}),
        );
    }
    scopes.push(json!({"path_prefix": "/", "scope": "read"}));
    json!({
        "environment": "development",
        "limits": limits,
        "scopes": scopes,
        // A million keys take minutes to go round, and each is to be known when its turn comes again.
        "cache": {"keys": shape.keys.max(100_000), "fresh_seconds": 86_400},
    })
}
