//! The control plane: the `keygate` command, and the service that it runs.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::process::{self, Captured, ManagedProcess, ProcessSpec};
use crate::{probe, wait};

/// Migrations of a large database take longest.
const START: Duration = Duration::from_mins(1);

/// All variables of the control plane begin so; none but the given ones reach it.
const PREFIX: &str = "KEYGATE_";

/// How a control plane is started.
#[derive(Clone, Debug)]
pub struct ControlPlaneOptions {
    /// The `keygate` program.
    pub binary: PathBuf,
    /// The folder in which its log goes, as `control-plane.log`.
    pub logs: PathBuf,
    /// Where admins reach it (`KEYGATE_LISTEN`).
    pub listen: SocketAddr,
    /// Where filters reach it (`KEYGATE_EDGE_LISTEN`).
    pub edge_listen: SocketAddr,
    /// All other `KEYGATE_*` variables. Those of this process's environment are not passed on.
    pub env: BTreeMap<String, String>,
}

/// The `keygate` command with its environment.
#[derive(Clone, Debug)]
pub struct Keygate {
    binary: PathBuf,
    env: BTreeMap<String, String>,
}

impl Keygate {
    /// Runs a subcommand and returns what it printed.
    ///
    /// # Errors
    /// When it fails; its own message is part of the error.
    pub fn run(&self, args: &[&str]) -> Result<String> {
        let mut command = Command::new(&self.binary);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with(PREFIX) {
                command.env_remove(name);
            }
        }
        command.envs(&self.env).args(args);
        let Captured { status, output, errors } = process::captured(command)?;
        if !status.success() {
            let reason = errors.lines().last().unwrap_or("it does not say why");
            bail!("keygate {} failed: {reason}", args.first().unwrap_or(&""));
        }
        Ok(output)
    }

    /// Runs a subcommand that prints JSON.
    ///
    /// # Errors
    /// As [`run`](Self::run), and when it prints something else.
    pub fn run_json(&self, args: &[&str]) -> Result<Value> {
        let printed = self.run(args)?;
        serde_json::from_str(printed.trim())
            .with_context(|| format!("keygate {} printed no JSON", args.join(" ")))
    }
}

/// A running control plane. Dropping it ends it.
#[derive(Debug)]
pub struct ControlPlaneProcess {
    options: ControlPlaneOptions,
    process: ManagedProcess,
}

impl ControlPlaneOptions {
    /// The command line of this control plane, for its database.
    #[must_use]
    pub fn keygate(&self) -> Keygate {
        Keygate { binary: self.binary.clone(), env: self.variables() }
    }

    fn variables(&self) -> BTreeMap<String, String> {
        let mut env = self.env.clone();
        env.insert("KEYGATE_LISTEN".to_owned(), self.listen.to_string());
        env.insert("KEYGATE_EDGE_LISTEN".to_owned(), self.edge_listen.to_string());
        env
    }
}

impl ControlPlaneProcess {
    /// Starts it and waits until `/readyz` says that it is ready.
    ///
    /// # Errors
    /// When it ends instead (with the end of its log) or is not ready within a minute.
    pub fn start(options: ControlPlaneOptions) -> Result<Self> {
        let mut started = Self::spawn(options)?;
        started.wait_ready()?;
        Ok(started)
    }

    /// Starts it and does not wait.
    ///
    /// # Errors
    /// When the program cannot be run.
    pub fn spawn(options: ControlPlaneOptions) -> Result<Self> {
        let log = options.logs.join("control-plane.log");
        let process = ManagedProcess::start(ProcessSpec {
            name: "the control plane".to_owned(),
            program: options.binary.clone(),
            args: vec!["serve".into()],
            env: options.variables(),
            without_env: Some(PREFIX.to_owned()),
            stdout: log.clone(),
            stderr: log,
        })?;
        Ok(Self { options, process })
    }

    /// Waits until `/readyz` says that it is ready.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn wait_ready(&mut self) -> Result<()> {
        let admin = self.admin_address();
        let ready = wait::until(START, || {
            if let Some(status) = self.process.exit_status()? {
                bail!("the control plane ended ({status}): {}", self.last_words());
            }
            Ok(probe::get(admin, "/readyz").is_ok_and(|answer| answer.status == 200).then_some(()))
        })?;
        if ready.is_none() {
            bail!(
                "the control plane is not ready after {} s: see {}",
                START.as_secs(),
                self.process.log_file().display()
            );
        }
        Ok(())
    }

    /// Ends it if it still runs, starts it again, and waits until it is ready.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn restart(&mut self) -> Result<()> {
        self.process.restart()?;
        self.wait_ready()
    }

    /// The process, to stop, kill or freeze it.
    pub fn process_mut(&mut self) -> &mut ManagedProcess {
        &mut self.process
    }

    /// The process.
    #[must_use]
    pub fn process(&self) -> &ManagedProcess {
        &self.process
    }

    /// Where admins reach it from this machine.
    #[must_use]
    pub fn admin_address(&self) -> SocketAddr {
        reachable(self.options.listen)
    }

    /// The URL of the admin API, without a slash at the end.
    #[must_use]
    pub fn admin_url(&self) -> String {
        format!("http://{}", self.admin_address())
    }

    /// Where filters reach it from this machine.
    #[must_use]
    pub fn edge_address(&self) -> SocketAddr {
        reachable(self.options.edge_listen)
    }

    /// Its command line.
    #[must_use]
    pub fn keygate(&self) -> Keygate {
        self.options.keygate()
    }

    fn last_words(&self) -> String {
        let log = self.process.log();
        let lines: Vec<_> = log.lines().filter(|line| !line.trim().is_empty()).collect();
        let tail = lines.get(lines.len().saturating_sub(3)..).unwrap_or_default();
        if tail.is_empty() { "it said nothing".to_owned() } else { tail.join("\n") }
    }
}

/// A server on all interfaces is reached on loopback.
pub(super) fn reachable(listen: SocketAddr) -> SocketAddr {
    if listen.ip().is_unspecified() {
        SocketAddr::new(Ipv4Addr::LOCALHOST.into(), listen.port())
    } else {
        listen
    }
}
