//! A whole Keygate of a test's own.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;
use tempfile::TempDir;
use xtask::stack::Stack;

use crate::http::{Connection, Request};
use crate::wait::eventually;
use crate::workers::{self, Workers};
use crate::{Admin, GateBuilder};

/// How much of each log a failed test shows.
const TAIL_LINES: usize = 60;

/// A whole Keygate of a test's own: Envoy with the filter and two workers, the control plane on a
/// fresh SQLite database, an echo upstream, a folder for it all. It ends when it is dropped; when
/// the test has failed, it shows the ends of the logs first.
pub struct Gate {
    /// The parts, to stop, kill, freeze and restart one by one.
    pub stack: Stack,
    admin_key: String,
    dir: TempDir,
}

impl Gate {
    /// A gate in the making.
    pub fn builder() -> GateBuilder {
        GateBuilder::new()
    }

    /// A gate as `cargo xtask up` runs it, but for what a [`GateBuilder`] has of its own.
    #[must_use]
    pub fn start() -> Self {
        Self::builder().start()
    }

    pub(crate) fn new(stack: Stack, dir: TempDir, admin_key: String) -> Self {
        let gate = Self { stack, admin_key, dir };
        eventually("the gate takes connections", || TcpStream::connect(gate.address()).ok());
        // `connect_to_worker` goes by the workers' counts: none may still be on its way there.
        eventually("a worker has taken that one", || {
            (gate.connections_of_workers().iter().sum::<u64>() > 0).then_some(())
        });
        gate
    }

    /// Where clients reach it.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.stack.gateway_address()
    }

    /// A request to it: `gate.request("PUT", "/x").key(&key).send()`.
    pub fn request(&self, method: &str, path: &str) -> Request {
        Request::new(self.address(), method, path)
    }

    /// A GET request to it.
    pub fn get(&self, path: &str) -> Request {
        self.request("GET", path)
    }

    /// A POST request to it, without a body.
    pub fn post(&self, path: &str) -> Request {
        self.request("POST", path).header("Content-Length", "0")
    }

    /// A connection to it, which any of the workers may have taken.
    #[must_use]
    pub fn connect(&self) -> Connection {
        Connection::open(self.address())
    }

    /// A connection to a worker (0 or 1). For this, nobody else may open connections meanwhile.
    #[must_use]
    pub fn connect_to_worker(&self, worker: usize) -> Connection {
        Workers::connect_to_worker(self, worker)
    }

    /// How many connections each worker has ever taken.
    #[must_use]
    pub fn connections_of_workers(&self) -> Vec<u64> {
        workers::connections(&self.stats(), self.address().port(), self.stack.options().concurrency)
    }

    /// The control plane's admin API.
    #[must_use]
    pub fn admin(&self) -> Admin {
        Admin::new(self.stack.control_plane.admin_address(), &self.admin_key)
    }

    /// The admin key that was made before the control plane started. The gate knows it like any
    /// other key.
    #[must_use]
    pub fn admin_key(&self) -> &str {
        &self.admin_key
    }

    /// Waits for a row of the audit log of this event that is as it should be, and returns it.
    pub fn audited(&self, event: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        eventually(&format!("{event} in the audit log"), || {
            self.admin().audit_events(event).into_iter().find(|row| is_it(row))
        })
    }

    /// Waits for a line of Envoy's log with all of these parts, and returns it.
    pub fn logged(&self, parts: &[&str]) -> String {
        eventually(&format!("a line with {parts:?} in Envoy's log"), || {
            let log = self.envoy_log();
            let mut lines = log.lines();
            lines.find(|line| parts.iter().all(|part| line.contains(part))).map(str::to_owned)
        })
    }

    /// Envoy's log, with the filter's lines in it.
    #[must_use]
    pub fn envoy_log(&self) -> String {
        self.stack.envoy.process().log()
    }

    /// The control plane's log.
    #[must_use]
    pub fn control_plane_log(&self) -> String {
        self.stack.control_plane.process().log()
    }

    /// One of Envoy's statistics; 0 when there is none of this name (yet).
    #[must_use]
    pub fn stat(&self, name: &str) -> u64 {
        self.stats().get(name).copied().unwrap_or(0)
    }

    /// Envoy's counters and gauges. The filter's own begin with `wasmcustom.keygate.`, and are
    /// up to 50 ms late.
    #[must_use]
    pub fn stats(&self) -> BTreeMap<String, u64> {
        workers::stats(&self.stack.envoy)
    }

    /// Has both workers follow the change feed, of a gate whose VMs have just begun: each does from
    /// its first request on. With the feed's first word a worker forgets what may be missing a
    /// change, and what it has learned before that counts as old. A test that counts questions to
    /// the control plane begins here.
    pub fn have_both_follow_the_feed(&self) {
        for worker in [0, 1] {
            let request = self.get("/").client(fresh_address());
            let answer = request.send_on(&mut self.connect_to_worker(worker));
            answer.assert_problem(403, "missing_api_key");
        }
        eventually("both workers follow the feed", || {
            (self.stat("wasmcustom.keygate.feed.reset") >= 2).then_some(())
        });
    }

    /// The statistics that tell of a VM that has crashed, was loaded anew or could not be: after
    /// anything that a client does they must be as they were.
    #[must_use]
    pub fn vm_health(&self) -> BTreeMap<String, u64> {
        let of_vm = |name: &str| name.starts_with("wasm.") || name.contains("wasm.keygate");
        self.stats().into_iter().filter(|(name, _)| of_vm(name)).collect()
    }

    /// How many requests have reached the upstream.
    #[must_use]
    pub fn upstream_hits(&self) -> u64 {
        self.stack.echo.as_ref().expect("the echo upstream").hits()
    }

    /// The folder of everything of this gate: database, logs, Envoy's configuration.
    #[must_use]
    pub fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }
}

impl Workers for Gate {
    fn connect(&self) -> Connection {
        Connection::open(self.address())
    }

    fn connections_of_workers(&self) -> Vec<u64> {
        Self::connections_of_workers(self)
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        if std::thread::panicking() {
            show("Envoy", &self.envoy_log());
            show("the control plane", &self.control_plane_log());
        }
    }
}

fn show(name: &str, log: &str) {
    let lines: Vec<_> = log.lines().collect();
    let tail = &lines[lines.len().saturating_sub(TAIL_LINES)..];
    eprintln!("--- the end of {name}'s log\n{}\n---", tail.join("\n"));
}

/// A client address that nobody else in this process has used (of 198.18.0.0/15, which RFC 2544
/// sets aside for tests): its limits are untouched.
#[must_use]
pub fn fresh_address() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    assert!(n < 1 << 17, "no address is left");
    Ipv4Addr::from_bits(Ipv4Addr::new(198, 18, 0, 0).to_bits() + n).to_string()
}
