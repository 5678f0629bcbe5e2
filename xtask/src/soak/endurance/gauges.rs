//! What is measured at one moment.

use std::fs;

use anyhow::{Context, Result};

use crate::probe;
use crate::soak::ground::Ground;

const AUDIT_BACKLOG: &str = "keygate_audit_backlog_events";
const HASH_QUEUE: &str = "keygate_hash_queue_depth";
const FEED_LAG: &str = "keygate_feed_slowest_filter_lag_changes";
const EVENTS: &str = "keygate_edge_events_total";

/// What is measured at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gauges {
    pub(super) envoy: Process,
    pub(super) control_plane: Process,
    /// Own audit events of the control plane that are not written yet.
    pub(super) audit_backlog: f64,
    /// Keys that wait for a hashing thread.
    pub(super) hash_queue: f64,
    /// Changes that the slowest filter has not been told of.
    pub(super) feed_lag: f64,
    /// Events of filters that were stored.
    pub(super) events: f64,
    /// Events that filters had no room for.
    pub(super) dropped: f64,
    /// Bytes of the database; none: it cannot be told.
    pub(super) database: Option<f64>,
}

/// What the system knows of a process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Process {
    /// Memory held in RAM, in MiB.
    pub(super) memory: f64,
    /// Open files, connections among them.
    pub(super) files: f64,
}

impl Gauges {
    pub(super) fn read(ground: &Ground) -> Result<Self> {
        let stack = &ground.stack;
        let metrics = probe::get(stack.control_plane.admin_address(), "/metrics")?.body;
        let stats = stack.envoy.admin_get("/stats?filter=keygate.events.dropped")?.body;
        Ok(Self {
            envoy: Process::read(stack.envoy.process().pid())?,
            control_plane: Process::read(stack.control_plane.process().pid())?,
            audit_backlog: sum(&metrics, AUDIT_BACKLOG),
            hash_queue: sum(&metrics, HASH_QUEUE),
            feed_lag: sum(&metrics, FEED_LAG),
            events: sum(&metrics, EVENTS),
            dropped: stats.lines().filter_map(|line| number(line.rsplit_once(": ")?.1)).sum(),
            database: ground.database_bytes()?.and_then(|bytes| number(&bytes.to_string())),
        })
    }

    pub(super) fn queues_are_empty(&self) -> bool {
        self.audit_backlog + self.hash_queue + self.feed_lag < 1.0
    }
}

impl Process {
    fn read(pid: u32) -> Result<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))
            .context("only Linux tells what a process uses")?;
        let memory = status.lines().find_map(|line| {
            number(line.strip_prefix("VmRSS:")?.trim().strip_suffix("kB")?.trim())
        });
        let files = fs::read_dir(format!("/proc/{pid}/fd"))?.count();
        Ok(Self {
            memory: memory.context("a process without memory")? / 1024.0,
            files: number(&files.to_string()).unwrap_or_default(),
        })
    }
}

/// The sum of all series of a metric.
fn sum(metrics: &str, name: &str) -> f64 {
    let of_name = metrics.lines().filter_map(|line| {
        let (series, value) = line.rsplit_once(' ')?;
        let rest = series.strip_prefix(name)?;
        (rest.is_empty() || rest.starts_with('{')).then(|| number(value)).flatten()
    });
    of_name.sum()
}

fn number(text: &str) -> Option<f64> {
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{AUDIT_BACKLOG, EVENTS, FEED_LAG, HASH_QUEUE, Process, sum};
    use crate::workspace;

    #[test]
    fn a_metric_is_summed_over_its_series_and_over_no_other() {
        let metrics = "# HELP a b\na{x=\"1\"} 2\na{x=\"2\"} 3.5\na_total 9\n";
        assert!((sum(metrics, "a") - 5.5).abs() < f64::EPSILON);
        assert!((sum(metrics, "a_total") - 9.0).abs() < f64::EPSILON);
    }

    /// One that is called otherwise by now would count as nothing, for ever.
    #[test]
    fn what_is_read_are_metrics_that_there_are() {
        let page = std::fs::read_to_string(workspace::root().join("docs/metrics.md")).unwrap();
        for name in [AUDIT_BACKLOG, HASH_QUEUE, FEED_LAG, EVENTS, "keygate.events.dropped"] {
            assert!(page.contains(&format!("| `{name}` |")), "{name}");
        }
    }

    #[test]
    fn a_process_has_memory_and_open_files() {
        let own = Process::read(std::process::id()).unwrap();
        assert!(own.memory > 1.0 && own.files >= 3.0, "{own:?}");
    }
}
