//! The figures of a run, and whether they are within their bounds.

use std::fmt;
use std::time::Duration;

use anyhow::{Result, bail};
use serde::Serialize;

use super::LoadPlan;
use super::gauges::Gauges;
use super::trend::Series;

/// The first part of a run, in which caches fill and tables find their size, is not judged.
const WARM_UP: f64 = 0.25;
/// What memory may grow by in the rest, however long that is: allocators are never quite still.
const MEMORY_MIB: f64 = 8.0;
const MEMORY_PART: f64 = 0.05;
/// What the number of open files may grow by.
const FILES: f64 = 8.0;
/// What a queue may grow by, and hold at most.
const QUEUE: f64 = 20.0;
const DEEPEST: f64 = 500.0;
const MIB: f64 = 1_048_576.0;
/// What an event may cost in the database, with its part of indexes, chain and usage.
const BYTES_PER_EVENT: f64 = 4096.0;

/// One line of the table.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// What is measured.
    pub name: &'static str,
    /// The value in the middle of the judged part.
    pub middle: f64,
    /// The highest value of the whole run.
    pub most: f64,
    /// By how much it grew over the judged part, by its slope.
    pub growth: f64,
    /// By how much it may.
    pub bound: f64,
    /// Whether it did not grow by more.
    pub holds: bool,
}

/// What a run has come to.
#[derive(Clone, Debug, Serialize)]
pub struct LoadReport {
    /// The store.
    pub store: String,
    /// What everything was drawn from.
    pub seed: u64,
    /// How long it was, in seconds.
    pub seconds: f64,
    /// Requests that the gate answered.
    pub requests: u64,
    /// Events that were stored.
    pub events: f64,
    /// What was measured.
    pub lines: Vec<Line>,
    #[serde(skip)]
    series: Vec<(&'static str, Kind, Series)>,
}

/// By what something is judged.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Memory,
    Files,
    Queue,
    /// None may be lost.
    Lost,
    /// The database's size for each event, in bytes: what the later half of events cost, compared
    /// with the bound.
    PerEvent,
}

impl LoadReport {
    pub(super) fn new(plan: &LoadPlan) -> Self {
        Self {
            store: plan.store.to_string(),
            seed: plan.seed,
            seconds: 0.0,
            requests: 0,
            events: 0.0,
            lines: Vec::new(),
            series: Vec::new(),
        }
    }

    /// Takes in what was measured, and gives a line of progress.
    pub(super) fn add(&mut self, at: Duration, requests: u64, gauges: &Gauges) -> String {
        let Gauges { envoy, control_plane, audit_backlog, hash_queue, feed_lag, .. } = *gauges;
        self.seconds = at.as_secs_f64();
        (self.requests, self.events) = (requests, gauges.events);
        let values = [
            ("Envoy: memory, MiB", Kind::Memory, envoy.memory),
            ("Envoy: open files", Kind::Files, envoy.files),
            ("control plane: memory, MiB", Kind::Memory, control_plane.memory),
            ("control plane: open files", Kind::Files, control_plane.files),
            ("audit events not written", Kind::Queue, audit_backlog),
            ("keys waiting to be hashed", Kind::Queue, hash_queue),
            ("changes a filter is behind", Kind::Queue, feed_lag),
            ("events without room in a filter", Kind::Lost, gauges.dropped),
        ];
        for (name, kind, value) in values {
            self.point(name, kind, self.seconds, value);
        }
        if let Some(bytes) = gauges.database {
            // Over events and not over time: the slope is what one costs.
            self.point("database, MiB; bytes an event", Kind::PerEvent, gauges.events, bytes);
        }
        format!(
            "{:5.0} s  {requests} requests, {} events; Envoy {:.0} MiB, {} files; control plane {:.0} MiB, {} files; queues {audit_backlog}/{hash_queue}/{feed_lag}; database {:.1} MiB",
            self.seconds,
            gauges.events,
            envoy.memory,
            envoy.files,
            control_plane.memory,
            control_plane.files,
            gauges.database.unwrap_or_default() / MIB,
        )
    }

    fn point(&mut self, name: &'static str, kind: Kind, at: f64, value: f64) {
        let known = self.series.iter_mut().find(|(known, ..)| *known == name);
        if let Some((.., series)) = known {
            series.add(at, value);
        } else {
            let mut series = Series::default();
            series.add(at, value);
            self.series.push((name, kind, series));
        }
        self.lines = self.series.iter().map(|it| judge(it, self.seconds)).collect();
    }

    /// Fails when something has grown beyond its bound.
    ///
    /// # Errors
    /// With the names of what has.
    pub fn verdict(&self) -> Result<()> {
        let broken: Vec<_> =
            self.lines.iter().filter(|line| !line.holds).map(|line| line.name).collect();
        if !broken.is_empty() {
            bail!("grown beyond its bound: {}", broken.join("; "));
        }
        Ok(())
    }
}

fn judge((name, kind, series): &(&'static str, Kind, Series), seconds: f64) -> Line {
    let judged = match kind {
        Kind::PerEvent => series.from(series.length() * WARM_UP),
        _ => series.from(seconds * WARM_UP),
    };
    let unit = if matches!(kind, Kind::PerEvent) { MIB } else { 1.0 };
    let (middle, most) = (judged.middle() / unit, series.most() / unit);
    let (growth, bound) = match kind {
        Kind::Memory => (judged.slope() * judged.length(), MEMORY_MIB + middle * MEMORY_PART),
        Kind::Files => (judged.slope() * judged.length(), FILES),
        Kind::Queue => (judged.slope() * judged.length(), QUEUE),
        Kind::Lost => (most, 0.0),
        Kind::PerEvent => (judged.slope(), BYTES_PER_EVENT),
    };
    let deep = matches!(kind, Kind::Queue) && most > DEEPEST;
    Line { name, middle, most, growth, bound, holds: growth <= bound && !deep }
}

impl fmt::Display for LoadReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { store, seed, seconds, requests, events, .. } = self;
        writeln!(f, "{store}, seed {seed}, {seconds:.0} s, {requests} requests, {events} events")?;
        writeln!(f, "  {:33}{:>12}{:>12}{:>12}{:>12}", "", "median", "most", "growth", "bound")?;
        for Line { name, middle, most, growth, bound, holds } in &self.lines {
            let verdict = if *holds { "" } else { "  BROKEN" };
            writeln!(f, "  {name:33}{middle:12.1}{most:12.1}{growth:12.1}{bound:12.1}{verdict}")?;
        }
        Ok(())
    }
}
