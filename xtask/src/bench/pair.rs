//! An Envoy with the filter beside one without, whose difference is what the filter adds.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::figures::Spread;
use super::ground::{Programs, Running, stand_in, write_request};
use super::load::{Load, Protocol};
use super::processor;
use super::scenario::{PLENTY, answer_directly};
use crate::edge_config::EdgeConfig;
use crate::process::ManagedProcess;
use crate::progress;
use crate::stack::StackOptions;

/// A control plane that knows every key, since real ones take it a hundredth of a second each: a million
/// would take hours. Dropping it ends it.
pub(super) struct KnowsAll {
    dir: TempDir,
    options: StackOptions,
    _server: ManagedProcess,
}

impl KnowsAll {
    pub(super) fn start(programs: &Programs) -> Result<Self> {
        processor::keep_to(processor::REST)?;
        let dir = tempfile::Builder::new().prefix("keygate-bench-").tempdir()?;
        let mut options = StackOptions::new(dir.path(), programs.stack.clone())?;
        let (server, edge) = stand_in(programs, dir.path(), &["know-all"], &options)?;
        options.edge = edge;
        Ok(Self { dir, options, _server: server })
    }
}

/// What is sent, and to how many workers.
#[derive(Clone, Copy)]
pub(super) struct Traffic<'a> {
    /// In turn.
    pub(super) keys: &'a [String],
    /// Beyond those of a small request.
    pub(super) header_bytes: u32,
    pub(super) workers: u32,
}

pub(super) struct Pair {
    keygate: Running,
    plain: Running,
    request: PathBuf,
    keys: PathBuf,
}

impl Pair {
    /// Starts both, and has every worker see every key. These are fields of the filter's configuration
    /// in the place of those that the ready one has.
    pub(super) fn start(
        programs: &Programs,
        control_plane: &KnowsAll,
        name: &str,
        traffic: Traffic<'_>,
        fields: &Value,
    ) -> Result<Self> {
        let Traffic { keys, header_bytes, workers } = traffic;
        let folder = control_plane.dir.path().join(name);
        fs::create_dir_all(&folder)?;
        let (request, file) = (folder.join("request.json"), folder.join("keys"));
        write_request(&request, "/", usize::try_from(header_bytes)?)?;
        fs::write(&file, keys.join("\n"))?;
        let mut options = control_plane.options.clone();
        options.dir = folder.join("keygate");
        let keygate =
            Running::start(options.clone(), workers, |config| with_filter(config, fields))?;
        options.dir = folder.join("plain");
        let plain = Running::start(options, workers, without_filter)?;
        let pair = Self { keygate, plain, request, keys: file };
        let all = u32::try_from(keys.len())?;
        // Connections land on workers by chance.
        for _ in 0..if workers == 1 { 1 } else { 8 } {
            pair.load(&pair.keygate, Load::once(all, 16), programs)?;
        }
        Ok(pair)
    }

    /// Microseconds of processor time for a request that the filter adds.
    fn added(&self, programs: &Programs, protocol: Protocol, seconds: f64) -> Result<f64> {
        let load = Load::full(protocol, seconds);
        let with = self.load(&self.keygate, load, programs)?;
        Ok(with - self.load(&self.plain, load, programs)?)
    }

    /// What the Envoy with the filter has in use, in bytes.
    pub(super) fn memory(&self) -> Result<u64> {
        self.keygate.memory()
    }

    /// How much of it the filter's VM has, in bytes.
    pub(super) fn vm_memory(&self) -> Result<u64> {
        self.keygate.vm_memory()
    }

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

/// What the filter adds in each of some pairs, which take turns in rounds: microseconds of processor time
/// for a request.
pub(super) fn added(
    pairs: &[Pair],
    programs: &Programs,
    protocol: Protocol,
    (rounds, seconds): (usize, f64),
    what: &str,
) -> Result<Vec<Spread>> {
    let mut added = vec![Vec::new(); pairs.len()];
    for round in 1..=rounds {
        progress::step(&format!("{what}: round {round} of {rounds}"));
        for (pair, added) in pairs.iter().zip(&mut added) {
            added.push(pair.added(programs, protocol, seconds)?);
        }
    }
    Ok(added.into_iter().map(Spread::of).collect())
}

/// A limit of each address and one of each key, which count every request and refuse none.
pub(super) fn two_limits() -> Vec<Value> {
    vec![
        json!({"name": "address", "per": "address", "requests": PLENTY, "window_seconds": 60}),
        json!({"name": "key", "per": "key", "requests": PLENTY, "window_seconds": 60}),
    ]
}

fn with_filter(config: &mut EdgeConfig, ours: &Value) -> Result<()> {
    let mut filter = config.filter_configuration()?;
    let fields = filter.as_object_mut().context("the filter's configuration is no object")?;
    fields.extend(ours.as_object().context("fields are an object")?.clone());
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
