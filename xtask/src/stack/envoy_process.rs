//! Envoy as a child process.

use std::ffi::OsString;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::edge_config::EdgeConfig;
use crate::probe::{self, Answer};
use crate::process::{self, ManagedProcess, ProcessSpec};
use crate::wait;

const START: Duration = Duration::from_secs(30);

/// How an Envoy is started.
#[derive(Clone, Debug)]
pub struct EnvoyOptions {
    /// The `envoy` program.
    pub binary: PathBuf,
    /// Its configuration is written here, as `envoy.json`.
    pub folder: PathBuf,
    /// Its logs go here: `envoy.log`, and the access log as `envoy-access.log`.
    pub logs: PathBuf,
    /// The port of its admin interface, which the configuration also has.
    pub admin_port: u16,
    /// Worker threads.
    pub concurrency: u32,
    /// More arguments, say `["--log-level", "debug"]`.
    pub args: Vec<OsString>,
}

/// A running Envoy. Dropping it ends it.
#[derive(Debug)]
pub struct EnvoyProcess {
    options: EnvoyOptions,
    process: ManagedProcess,
}

impl EnvoyOptions {
    /// Lets Envoy read a configuration without serving it.
    ///
    /// # Errors
    /// When Envoy refuses it; the message has Envoy's reasons and the filter's.
    pub fn validate(&self, config: &EdgeConfig) -> Result<()> {
        let file = self.write(config)?;
        let mut command = Command::new(&self.binary);
        command.arg("--mode").arg("validate").arg("--disable-hot-restart").arg("-c").arg(file);
        process::capture(command).map(drop).map_err(|error| {
            anyhow::anyhow!("Envoy refuses its configuration: {}", reasons(&error.to_string()))
        })
    }

    fn write(&self, config: &EdgeConfig) -> Result<PathBuf> {
        fs::create_dir_all(&self.folder)
            .with_context(|| format!("cannot make {}", self.folder.display()))?;
        let file = self.folder.join("envoy.json");
        let text = serde_json::to_vec_pretty(config.document())?;
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
        Ok(file)
    }
}

impl EnvoyProcess {
    /// Starts Envoy and waits until it serves.
    ///
    /// # Errors
    /// When Envoy refuses its configuration (with its reasons and the filter's) or does not serve
    /// within half a minute.
    pub fn start(options: EnvoyOptions, config: &EdgeConfig) -> Result<Self> {
        let file = options.write(config)?;
        let mut args: Vec<OsString> = vec!["-c".into(), file.into()];
        args.extend(["--concurrency".into(), options.concurrency.to_string().into()]);
        // Several Envoys on one machine would share its domain socket and memory.
        args.push("--disable-hot-restart".into());
        args.extend(options.args.iter().cloned());
        let process = ManagedProcess::start(ProcessSpec {
            name: "Envoy".to_owned(),
            program: options.binary.clone(),
            args,
            env: std::collections::BTreeMap::new(),
            without_env: Some("KEYGATE_".to_owned()),
            stdout: options.logs.join("envoy-access.log"),
            stderr: options.logs.join("envoy.log"),
        })?;
        let mut started = Self { options, process };
        started.wait_ready()?;
        Ok(started)
    }

    /// Waits until Envoy says that it serves.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn wait_ready(&mut self) -> Result<()> {
        let admin = self.admin_address();
        let ready = wait::until(START, || {
            if let Some(status) = self.process.exit_status()? {
                bail!("Envoy ended ({status}): {}", reasons(&self.process.log()));
            }
            Ok(probe::get(admin, "/ready").is_ok_and(|answer| answer.status == 200).then_some(()))
        })?;
        if ready.is_none() {
            let log = self.process.log_file().display();
            bail!("Envoy does not serve after {} s: see {log}", START.as_secs());
        }
        Ok(())
    }

    /// Ends it if it still runs, starts it again with the same configuration, and waits until it
    /// serves.
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

    /// `GET path` on its admin interface: `/stats`, `/config_dump`, …
    ///
    /// # Errors
    /// When it does not answer.
    pub fn admin_get(&self, path: &str) -> Result<Answer> {
        probe::get(self.admin_address(), path)
    }

    /// The URL of its admin interface, without a slash at the end.
    #[must_use]
    pub fn admin_url(&self) -> String {
        format!("http://{}", self.admin_address())
    }

    fn admin_address(&self) -> SocketAddr {
        SocketAddr::new(Ipv4Addr::LOCALHOST.into(), self.options.admin_port)
    }
}

/// Of Envoy's log, what says why it does not start: what the filter logged as an error, or else
/// Envoy's own reason, or else its last words.
fn reasons(log: &str) -> String {
    let is_error = |line: &&str| line.contains("[error]") || line.contains("[critical]");
    let errors: Vec<_> = log.lines().filter(is_error).map(message).collect();
    let mut of_filter: Vec<_> =
        errors.iter().filter_map(|text| text.strip_prefix("wasm log ")?.split_once(": ")).collect();
    of_filter.dedup();
    if !of_filter.is_empty() {
        return of_filter.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join("\n");
    }
    if let Some(reason) = errors.iter().find(|text| text.starts_with("error ")).or(errors.last()) {
        return (*reason).to_owned();
    }
    let lines: Vec<_> = log.lines().collect();
    lines.get(lines.len().saturating_sub(3)..).unwrap_or_default().join("\n")
}

/// A log line without its time, thread, level and source: `[…][…][…][…] [file:line] message`.
fn message(line: &str) -> &str {
    let mut rest = line.trim();
    while let Some((_, after)) = rest.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
        rest = after.trim_start();
    }
    if rest.is_empty() { line } else { rest }
}

#[cfg(test)]
mod tests {
    use super::reasons;

    const LOG: &str = "\
[2026-11-25 01:25:46.211][6562][info][main] [source/server/server.cc:989] runtime: {}
[2026-11-25 01:25:46.212][6562][error][wasm] [source/extensions/common/wasm/context.cc:1200] wasm log keygate keygate: configuration refused: limits[0].requests: expected a number
[2026-11-25 01:25:46.213][6562][critical][main] [source/server/server.cc:436] error initializing config '  envoy.json': Unable to create Wasm plugin keygate
[2026-11-25 01:25:46.214][6562][info][main] [source/server/server.cc:1062] exiting
";

    #[test]
    fn the_filters_reason_is_what_counts() {
        assert_eq!(reasons(LOG), "configuration refused: limits[0].requests: expected a number");
    }

    #[test]
    fn without_one_envoys_own_reason_is_told() {
        let log: Vec<_> = LOG.lines().filter(|line| !line.contains("wasm log")).collect();
        assert_eq!(
            reasons(&log.join("\n")),
            "error initializing config '  envoy.json': Unable to create Wasm plugin keygate"
        );
    }

    #[test]
    fn a_log_without_a_reason_is_shown_by_its_end() {
        assert_eq!(reasons("a\nb\nc\nd"), "b\nc\nd");
    }
}
