//! More than one: Envoys and control planes beside those of a gate.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;

use xtask::edge_config::Upstream;
use xtask::stack::{ControlPlaneOptions, ControlPlaneProcess, EnvoyProcess, free_port};

use crate::http::{Connection, Request};
use crate::wait::eventually;
use crate::workers::{self, Workers};
use crate::{Admin, Gate};

/// An address on loopback where nothing listens yet.
#[must_use]
pub fn free_address() -> SocketAddr {
    SocketAddr::new(Ipv4Addr::LOCALHOST.into(), free_port().unwrap())
}

/// One more Envoy of a gate's, with the gate's configuration and upstream. It ends when it is
/// dropped.
pub struct Replica {
    /// The process.
    pub envoy: EnvoyProcess,
    address: SocketAddr,
    workers: u32,
}

impl Replica {
    /// Starts one that asks the gate's own control plane, or another.
    #[must_use]
    pub fn start(gate: &Gate, name: &str, control_plane: Option<SocketAddr>) -> Self {
        let mut options = gate.stack.options().clone();
        options.dir = gate.dir().join(name);
        options.gateway = free_address();
        options.envoy_admin_port = free_port().unwrap();
        options.edge = control_plane.unwrap_or(options.edge);
        let upstream = Upstream::parse(gate.stack.upstream_url()).unwrap();
        let config = options.edge_config(&upstream).unwrap();
        let envoy = EnvoyProcess::start(options.envoy(), &config)
            .unwrap_or_else(|error| panic!("{name} does not start: {error:#}"));
        let it = Self { envoy, address: options.gateway, workers: options.concurrency };
        eventually("it takes connections", || TcpStream::connect(it.address).ok());
        eventually("a worker has taken that one", || {
            (it.connections_of_workers().iter().sum::<u64>() > 0).then_some(())
        });
        it
    }

    /// Where clients reach it.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A request to it.
    pub fn request(&self, method: &str, path: &str) -> Request {
        Request::new(self.address, method, path)
    }

    /// Its counters and gauges.
    #[must_use]
    pub fn stats(&self) -> BTreeMap<String, u64> {
        workers::stats(&self.envoy)
    }
}

impl Workers for Replica {
    fn connect(&self) -> Connection {
        Connection::open(self.address)
    }

    fn connections_of_workers(&self) -> Vec<u64> {
        workers::connections(&self.stats(), self.address.port(), self.workers)
    }
}

/// One more control plane, with the secrets and the database of a gate's own, at this address for
/// filters; and its administrator. The database must be one for many.
///
/// # Panics
/// When it does not start.
#[must_use]
pub fn another_control_plane(gate: &Gate, edge: SocketAddr) -> (ControlPlaneProcess, Admin) {
    let options = beside(gate.stack.options().control_plane(), gate.dir(), edge);
    let started = ControlPlaneProcess::start(options).expect("the other control plane");
    let admin = Admin::new(started.admin_address(), gate.admin_key());
    (started, admin)
}

fn beside(own: ControlPlaneOptions, dir: &Path, edge: SocketAddr) -> ControlPlaneOptions {
    let logs = dir.join(format!("control-plane-{}", edge.port()));
    std::fs::create_dir_all(&logs).unwrap();
    ControlPlaneOptions { logs, listen: free_address(), edge_listen: edge, ..own }
}
