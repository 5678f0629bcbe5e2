//! On what it was measured.

use std::fs;
use std::process::Command;

use anyhow::Result;
use serde::Serialize;

use super::processor::Stopped;
use crate::{envoy, process, workspace};

/// On what it was measured.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Machine {
    pub(super) processor: String,
    pub(super) cores: usize,
    pub(super) kernel: String,
    pub(super) envoy: String,
    pub(super) commit: String,
    /// The load average of a minute before it began: what else was going on.
    pub(super) load_before: String,
    /// What the machine took from a program that had the cores to itself.
    pub(super) stopped: Stopped,
}

impl Machine {
    pub(super) fn look(envoy: &std::path::Path) -> Result<Self> {
        let processors = fs::read_to_string("/proc/cpuinfo")?;
        let field = |name: &str| {
            let line = processors.lines().find(|line| line.starts_with(name));
            let value = line.and_then(|line| line.split_once(':'));
            value.map_or_else(String::new, |(_, value)| value.trim().to_owned())
        };
        let load = fs::read_to_string("/proc/loadavg")?;
        let mut git = Command::new("git");
        git.current_dir(workspace::root()).args(["rev-parse", "--short", "HEAD"]);
        Ok(Self {
            processor: format!("{} (family {})", field("model name"), field("cpu family")),
            cores: std::thread::available_parallelism()?.into(),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            envoy: envoy::version_of(envoy)?.to_string(),
            // A release has no history.
            commit: process::capture(git)
                .map_or_else(|_| "none".to_owned(), |it| it.trim().to_owned()),
            load_before: load.split(' ').next().unwrap_or_default().to_owned(),
            stopped: Stopped::look()?,
        })
    }
}
