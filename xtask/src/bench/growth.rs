//! How the cost of a request grows with what there is: keys, rules, headers, workers.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use serde_json::{Value, json};

use super::figures::Spread;
use super::ground::{Programs, Running, new_keys, stand_in, write_request};
use super::load::{Load, Protocol};
use super::processor;
use super::scenario::{PLENTY, answer_directly};
use crate::edge_config::EdgeConfig;
use crate::progress;
use crate::stack::StackOptions;

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
    processor::keep_to(processor::REST)?;
    let dir = tempfile::Builder::new().prefix("keygate-bench-").tempdir()?;
    let mut options = StackOptions::new(dir.path(), programs.stack.clone())?;
    // Real keys take a control plane a hundredth of a second each; a million would take hours.
    let (_control_plane, edge) = stand_in(programs, dir.path(), &["know-all"], &options)?;
    options.edge = edge;
    let all: u32 = Axis::Keys.points().iter().copied().max().unwrap_or(0);
    progress::step(&format!("making {all} keys"));
    let keys = new_keys(usize::try_from(all)?)?;
    let mut points = Vec::new();
    for axis in Axis::ALL {
        let mut pairs = Vec::new();
        for &at in axis.points() {
            progress::step(&format!("starting with {at} {}", axis.title()));
            let folder = dir.path().join(format!("{axis:?}-{at}"));
            pairs.push(Pair::start(&options, &folder, axis.shape(at), &keys, programs)?);
        }
        let mut added = vec![Vec::new(); pairs.len()];
        for round in 1..=rounds {
            progress::step(&format!("{}: round {round} of {rounds}", axis.title()));
            for (pair, added) in pairs.iter().zip(&mut added) {
                added.push(pair.added(programs, seconds)?);
            }
        }
        let mut first = None;
        for ((pair, added), &at) in pairs.iter().zip(added).zip(axis.points()) {
            let added = Spread::of(added);
            let to_first = added.median / *first.get_or_insert(added.median);
            points.push(Point { axis, at, added, to_first, memory: pair.keygate.memory()? });
        }
    }
    Ok(points)
}

/// An Envoy with the filter and one without.
struct Pair {
    keygate: Running,
    plain: Running,
    request: PathBuf,
    keys: PathBuf,
}

impl Pair {
    fn start(
        options: &StackOptions,
        folder: &Path,
        shape: Shape,
        keys: &[String],
        programs: &Programs,
    ) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let (request, file) = (folder.join("request.json"), folder.join("keys"));
        write_request(&request, "/", usize::try_from(shape.header_bytes)?)?;
        let keys = keys.get(..usize::try_from(shape.keys)?).context("there are too few keys")?;
        fs::write(&file, keys.join("\n"))?;
        let mut options = options.clone();
        options.dir = folder.join("keygate");
        let keygate =
            Running::start(options.clone(), shape.workers, |config| with_filter(config, shape))?;
        options.dir = folder.join("plain");
        let plain = Running::start(options, shape.workers, without_filter)?;
        let pair = Self { keygate, plain, request, keys: file };
        // Every worker has to see every key, and connections land on workers by chance.
        for _ in 0..if shape.workers == 1 { 1 } else { 8 } {
            pair.load(&pair.keygate, Load::once(shape.keys, 16), programs)?;
        }
        Ok(pair)
    }

    fn added(&self, programs: &Programs, seconds: f64) -> Result<f64> {
        let load = Load::full(PROTOCOL, seconds);
        let with = self.load(&self.keygate, load, programs)?;
        Ok(with - self.load(&self.plain, load, programs)?)
    }

    /// Microseconds of processor time for a request.
    fn load(&self, gateway: &Running, load: Load, programs: &Programs) -> Result<f64> {
        let before = gateway.time()?;
        let sent = load.send(programs, gateway.address, &self.request, &self.keys)?;
        let took = gateway.time()?.saturating_sub(before);
        let fine = sent.statuses.keys().all(|status| *status == 200);
        ensure!(fine, "not all answers were 200: {:?}", sent.statuses);
        #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
        Ok(took.as_secs_f64() * 1e6 / sent.answers as f64)
    }
}

fn with_filter(config: &mut EdgeConfig, shape: Shape) -> Result<()> {
    let mut limits = vec![
        json!({"name": "address", "per": "address", "requests": PLENTY, "window_seconds": 60}),
        json!({"name": "key", "per": "key", "requests": PLENTY, "window_seconds": 60}),
    ];
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
    let mut filter = config.filter_configuration()?;
    let fields = filter.as_object_mut().context("the filter's configuration is no object")?;
    let ours = json!({
        "environment": "development",
        "limits": limits,
        "scopes": scopes,
        // A million keys take minutes to go round, and each is to be known when its turn comes again.
        "cache": {"keys": shape.keys.max(100_000), "fresh_seconds": 86_400},
    });
    if let Value::Object(ours) = ours {
        fields.extend(ours);
    }
    config.set_filter_configuration(&filter)?;
    answer_directly(config)
}

fn without_filter(config: &mut EdgeConfig) -> Result<()> {
    answer_directly(config)?;
    let filters = config.connection_manager_mut()?.pointer_mut("/http_filters");
    let filters = filters.and_then(Value::as_array_mut).context("the file has HTTP filters")?;
    let router = filters.pop().context("the file has a router")?;
    *filters = vec![router];
    Ok(())
}
