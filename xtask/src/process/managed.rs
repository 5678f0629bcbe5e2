//! A server process: its output in a file, ended with the value that owns it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::spawn;
use crate::wait;

/// How long a server may take to end by itself before it is killed.
const GRACE: Duration = Duration::from_secs(10);

/// What to run, and where its output goes.
#[derive(Clone, Debug)]
pub struct ProcessSpec {
    /// The name in messages.
    pub name: String,
    /// The program's path.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<OsString>,
    /// Variables added to this tool's environment.
    pub env: BTreeMap<String, String>,
    /// Variables of this tool's environment that it must not see, by their prefix.
    pub without_env: Option<String>,
    /// Gets what it writes to standard output; appended to.
    pub stdout: PathBuf,
    /// Gets what it writes to standard error; may be the same file.
    pub stderr: PathBuf,
}

/// A running server. Dropping it ends it.
#[derive(Debug)]
pub struct ManagedProcess {
    spec: ProcessSpec,
    child: Child,
    /// Where in its error log this run began.
    log_start: u64,
}

impl ManagedProcess {
    /// Starts it.
    ///
    /// # Errors
    /// When the program cannot be started or a log file not be opened.
    pub fn start(spec: ProcessSpec) -> Result<Self> {
        let stdout = append_to(&spec.stdout)?;
        let stderr = append_to(&spec.stderr)?;
        let log_start = stderr.metadata().map_or(0, |file| file.len());
        let mut command = Command::new(&spec.program);
        command.args(&spec.args).stdin(Stdio::null()).stdout(stdout).stderr(stderr);
        if let Some(prefix) = &spec.without_env {
            let hidden = std::env::vars_os().map(|(name, _)| name);
            for name in hidden.filter(|name| name.to_string_lossy().starts_with(prefix.as_str())) {
                command.env_remove(name);
            }
        }
        command.envs(&spec.env);
        let child = spawn(command)?;
        Ok(Self { spec, child, log_start })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The name in messages.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// Its exit status, once it has ended.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn exit_status(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().with_context(|| format!("cannot watch {}", self.spec.name))
    }

    /// Whether it still runs.
    #[must_use]
    pub fn is_running(&mut self) -> bool {
        matches!(self.exit_status(), Ok(None))
    }

    /// What this run has written to standard error so far.
    #[must_use]
    pub fn log(&self) -> String {
        let bytes = fs::read(&self.spec.stderr).unwrap_or_default();
        let start = usize::try_from(self.log_start).unwrap_or(0);
        String::from_utf8_lossy(bytes.get(start..).unwrap_or_default()).into_owned()
    }

    /// The file that has its standard error.
    #[must_use]
    pub fn log_file(&self) -> &Path {
        &self.spec.stderr
    }

    /// Asks it to end (SIGTERM), and kills it if it does not within ten seconds.
    ///
    /// # Errors
    /// When the system does not let us.
    pub fn stop(&mut self) -> Result<ExitStatus> {
        self.stop_by(Signal::TERM)
    }

    /// The same by another signal, where another one ends it in order.
    ///
    /// # Errors
    /// When the system does not let us.
    pub fn stop_by(&mut self, signal: Signal) -> Result<ExitStatus> {
        self.signal(signal)?;
        // A frozen process hears nothing until it goes on.
        self.resume()?;
        let deadline = wait::Deadline::after(GRACE);
        while !deadline.has_passed() {
            if let Some(status) = self.exit_status()? {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.kill()
    }

    /// Kills it (SIGKILL), as a crash would.
    ///
    /// # Errors
    /// When the system does not let us.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::KILL)?;
        self.child.wait().with_context(|| format!("cannot wait for {}", self.spec.name))
    }

    /// Freezes it: connections stay up, nothing answers.
    ///
    /// # Errors
    /// When the system does not let us.
    pub fn pause(&mut self) -> Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on after [`pause`](Self::pause).
    ///
    /// # Errors
    /// When the system does not let us.
    pub fn resume(&mut self) -> Result<()> {
        self.signal(Signal::CONT)
    }

    /// Ends it if it still runs, and starts it again with the same arguments.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn restart(&mut self) -> Result<()> {
        self.stop()?;
        *self = Self::start(self.spec.clone())?;
        Ok(())
    }

    fn signal(&mut self, signal: Signal) -> Result<()> {
        // A child that has ended and was waited for has given its id back: never signal that.
        if self.exit_status()?.is_some() {
            return Ok(());
        }
        let Some(pid) = i32::try_from(self.pid()).ok().and_then(Pid::from_raw) else {
            bail!("{} has no valid process id", self.spec.name);
        };
        kill_process(pid, signal).with_context(|| format!("cannot signal {}", self.spec.name))
    }
}

impl Drop for ManagedProcess {
    fn drop(&mut self) {
        if self.is_running() {
            let _ = self.stop();
        }
    }
}

fn append_to(file: &Path) -> Result<File> {
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(file)
        .with_context(|| format!("cannot write {}", file.display()))
}
