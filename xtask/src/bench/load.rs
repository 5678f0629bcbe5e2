//! Load, as `keygate-load` makes it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};
use serde::Deserialize;

use super::ground::Programs;
use super::scenario::Scenario;
use crate::process;

/// At a steady rate the load leaves its core to the control plane for a moment, after so much time.
const UNDER_LOAD_MS: &str = "100";
const PAUSE_MS: &str = "15";

/// What is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

/// How much is sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    pub(super) protocol: Protocol,
    /// For how long at most.
    pub(super) seconds: f64,
    /// How many at most.
    pub(super) most: Option<u32>,
    /// Requests a second; none: as fast as answers come.
    pub(super) rate: Option<f64>,
    /// With HTTP/2, 8 requests at a time on each.
    pub(super) connections: u32,
}

/// What the load generator says.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Sent {
    pub(super) answers: u64,
    pub(super) statuses: BTreeMap<u16, u64>,
    pub(super) seconds: f64,
    pub(super) latencies: Vec<(u64, u64)>,
    /// What 99 in 100 requests of each stretch between two pauses took at most.
    pub(super) stretches: Vec<u64>,
}

impl Protocol {
    pub(super) const ALL: [Self; 2] = [Self::Http1, Self::Http2];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Http1 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
        }
    }

    fn argument(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::Http2 => "http2",
        }
    }
}

impl Load {
    /// Connections that keep a worker busy.
    const CONNECTIONS: u32 = 16;

    /// As much as is answered in a time.
    pub(super) fn full(protocol: Protocol, seconds: f64) -> Self {
        Self { protocol, seconds, most: None, rate: None, connections: Self::CONNECTIONS }
    }

    /// So many a second, whether or not they are answered.
    pub(super) fn steady(protocol: Protocol, seconds: f64, rate: f64) -> Self {
        Self { rate: Some(rate), ..Self::full(protocol, seconds) }
    }

    /// So many, however long it takes.
    pub(super) fn once(requests: u32, connections: u32) -> Self {
        let all = Self::full(Protocol::Http1, 600.0);
        Self { most: Some(requests), connections, ..all }
    }

    /// Sends it.
    pub(super) fn send(
        self,
        programs: &Programs,
        to: SocketAddr,
        request: &Path,
        keys: &Path,
    ) -> Result<Sent> {
        let mut command = Command::new(&programs.load);
        command
            .arg(to.to_string())
            .arg(request)
            .arg("--keys")
            .arg(keys)
            .args(["--protocol", self.protocol.argument()])
            .args(["--seconds", &self.seconds.to_string()])
            .args(["--connections", &self.connections.to_string()]);
        if let Some(most) = self.most {
            command.args(["--most", &most.to_string()]);
        }
        if let Some(rate) = self.rate {
            command.args(["--rate", &rate.to_string()]);
            command.args(["--pause-after", UNDER_LOAD_MS, "--pause", PAUSE_MS]);
        }
        Ok(serde_json::from_str(&process::capture(command)?)?)
    }
}

impl Sent {
    /// Whether all was answered as it had to be.
    pub(super) fn check(&self, scenario: Scenario) -> Result<()> {
        let expected = scenario.expected_status();
        let as_expected = self.statuses.get(&expected).copied().unwrap_or(0);
        // A control plane that shares a core with the load may be too busy to tell for a moment.
        if self.answers == 0 || (self.answers - as_expected) * 100 > self.answers {
            bail!("{}: not all answers were {expected}: {:?}", scenario.name(), self.statuses);
        }
        Ok(())
    }
}
