//! One Redis server.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use super::{PATIENCE, tls::Certificates};
use crate::process::{self, ManagedProcess, ProcessSpec};
use crate::stack::free_port;
use crate::{install, wait};

/// What a server is like.
#[derive(Clone, Debug, Default)]
pub struct RedisOptions {
    /// What clients have to say.
    pub password: Option<String>,
    /// Whether it speaks TLS, and nothing else.
    pub tls: bool,
    /// More lines of its configuration file.
    pub settings: Vec<String>,
    /// Run as a Sentinel, with these lines.
    pub sentinel: bool,
}

/// A running server on loopback. Dropping it ends it, and its folder goes too.
#[derive(Debug)]
pub struct RedisServer {
    process: ManagedProcess,
    port: u16,
    options: RedisOptions,
    certificates: Option<Certificates>,
    folder: TempDir,
}

impl RedisServer {
    /// Starts one and waits until it answers.
    ///
    /// # Errors
    /// When there is no program, or it does not come up.
    pub fn start(options: RedisOptions) -> Result<Self> {
        Self::start_at(free_port()?, options)
    }

    /// Starts one at that port. Nothing of it is on disk but its configuration.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_at(port: u16, options: RedisOptions) -> Result<Self> {
        let program = install::program("redis-server", "redis-server")?;
        let folder = TempDir::new()?;
        let certificates = options.tls.then(|| Certificates::make(folder.path())).transpose()?;
        let config = folder.path().join("redis.conf");
        let lines = configuration(port, folder.path(), &options, certificates.as_ref());
        crate::private_file::write(&config, &lines)?;
        let mut args: Vec<OsString> = vec![config.into()];
        if options.sentinel {
            args.push("--sentinel".into());
        }
        let log = folder.path().join("redis.log");
        let process = ManagedProcess::start(ProcessSpec {
            name: format!("Redis at {port}"),
            program,
            args,
            env: BTreeMap::new(),
            without_env: None,
            stdout: log.clone(),
            stderr: log,
        })?;
        let mut started = Self { process, port, options, certificates, folder };
        started.wait_ready()?;
        Ok(started)
    }

    fn wait_ready(&mut self) -> Result<()> {
        let answers = wait::until(PATIENCE, || {
            if let Some(status) = self.process.exit_status()? {
                bail!("{} ended ({status}): {}", self.process.name(), self.process.log());
            }
            Ok(self.cli(&["PING"]).is_ok_and(|said| said.trim() == "PONG").then_some(()))
        })?;
        answers.with_context(|| format!("{} does not answer", self.process.name()))
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its URL, with the password if it has one.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.options.tls { "rediss" } else { "redis" };
        let user = self.options.password.as_ref().map(|it| format!(":{it}@")).unwrap_or_default();
        format!("{scheme}://{user}127.0.0.1:{}", self.port)
    }

    /// Its certificates, if it speaks TLS.
    #[must_use]
    pub fn certificates(&self) -> Option<&Certificates> {
        self.certificates.as_ref()
    }

    /// The process, to stop, kill or freeze it.
    pub fn process_mut(&mut self) -> &mut ManagedProcess {
        &mut self.process
    }

    /// Ends it if it still runs, starts it again at the same port, empty, and waits until it
    /// answers.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn restart(&mut self) -> Result<()> {
        self.process.restart()?;
        self.wait_ready()
    }

    /// Runs a command with `redis-cli` and gives what it printed.
    ///
    /// # Errors
    /// When the server does not answer.
    pub fn cli(&self, command: &[&str]) -> Result<String> {
        let program = install::program("redis-cli", "redis-tools")?;
        let mut cli = Command::new(program);
        cli.args(["-h", "127.0.0.1", "-p", &self.port.to_string()]);
        if let Some(password) = &self.options.password {
            cli.env("REDISCLI_AUTH", password);
        }
        if let Some(certificates) = &self.certificates {
            cli.arg("--tls").arg("--cacert").arg(&certificates.authority);
        }
        cli.args(command);
        process::capture(cli)
    }

    /// Where its files are, as long as it runs.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

fn configuration(
    port: u16,
    folder: &Path,
    options: &RedisOptions,
    certificates: Option<&Certificates>,
) -> String {
    let mut lines = vec!["bind 127.0.0.1".to_owned(), format!("dir {}", folder.display())];
    if let Some(it) = certificates {
        lines.push("port 0".to_owned());
        lines.push(format!("tls-port {port}"));
        lines.push(format!("tls-cert-file {}", it.certificate.display()));
        lines.push(format!("tls-key-file {}", it.key.display()));
        lines.push(format!("tls-ca-cert-file {}", it.authority.display()));
        lines.push("tls-auth-clients no".to_owned());
    } else {
        lines.push(format!("port {port}"));
    }
    if !options.sentinel {
        lines.push("save \"\"".to_owned());
        lines.push("appendonly no".to_owned());
        lines.push("repl-diskless-sync-delay 0".to_owned());
    }
    if let Some(password) = &options.password {
        lines.push(format!("requirepass {password}"));
    }
    lines.extend(options.settings.iter().cloned());
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_with_password_and_tls_answers_and_is_gone_when_dropped() {
        let options =
            RedisOptions { password: Some("a-word".to_owned()), tls: true, ..Default::default() };
        let server = RedisServer::start(options).unwrap();
        assert_eq!(server.cli(&["SET", "a", "1"]).unwrap().trim(), "OK");
        assert_eq!(server.url(), format!("rediss://:a-word@127.0.0.1:{}", server.port()));
        let (port, folder) = (server.port(), server.folder().to_owned());
        drop(server);
        assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err());
        assert!(!folder.exists());
    }
}
