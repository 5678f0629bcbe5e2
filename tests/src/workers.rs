//! The workers of an Envoy. The kernel chooses which of them gets a connection, and Envoy counts: so
//! one connects until the wanted one has it.

use std::collections::BTreeMap;

use xtask::stack::EnvoyProcess;

use crate::http::Connection;
use crate::wait::eventually;

/// An Envoy whose workers can be told apart.
pub trait Workers {
    /// A connection, which any of the workers may have taken.
    fn connect(&self) -> Connection;

    /// How many connections each worker has ever taken.
    fn connections_of_workers(&self) -> Vec<u64>;

    /// A connection to a worker (0 or 1). For this, nobody else may open connections meanwhile.
    fn connect_to_worker(&self, worker: usize) -> Connection {
        for _ in 0..500 {
            let before = self.connections_of_workers();
            let connection = self.connect();
            let taken_by = eventually("a worker takes the connection", || {
                let after = self.connections_of_workers();
                (0..after.len()).find(|&n| after[n] > before[n])
            });
            if taken_by == worker {
                return connection;
            }
        }
        panic!("worker {worker} takes no connection");
    }
}

/// Envoy's counters and gauges.
pub(crate) fn stats(envoy: &EnvoyProcess) -> BTreeMap<String, u64> {
    let answer = envoy.admin_get("/stats").expect("Envoy's admin interface");
    let lines = answer.body.lines().filter_map(|line| line.split_once(": "));
    lines.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect()
}

/// How many connections to the listener of this port each worker has ever taken.
pub(crate) fn connections(stats: &BTreeMap<String, u64>, port: u16, workers: u32) -> Vec<u64> {
    let count = |worker: u32| {
        // The address before the port is what Envoy was told to listen on.
        let name = format!("_{port}.worker_{worker}.downstream_cx_total");
        let of_worker =
            stats.iter().find(|(n, _)| n.starts_with("listener.") && n.ends_with(&name));
        of_worker.map_or(0, |(_, count)| *count)
    };
    (0..workers).map(count).collect()
}
