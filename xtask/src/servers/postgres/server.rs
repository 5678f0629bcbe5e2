//! One `PostgreSQL` server.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::process::Command;

use anyhow::{Context, Result, bail};
use rustix::process::Signal;

use super::{PATIENCE, folder::DataFolder, program};
use crate::process::{self, ManagedProcess, ProcessSpec};
use crate::stack::free_port;
use crate::{install, wait};

/// The user that may do everything.
const SUPERUSER: &str = "postgres";

/// What a server is like.
#[derive(Clone, Debug, Default)]
pub struct PostgresOptions {
    /// What the superuser has to say; none: everyone on this machine is let in.
    pub password: Option<String>,
    /// More settings, as `name=value`.
    pub settings: Vec<String>,
}

/// A running server on loopback, empty. Dropping it ends it, and its data goes too.
///
/// What it writes does not survive a power cut: nothing is synced to the disk.
#[derive(Debug)]
pub struct PostgresServer {
    process: ManagedProcess,
    port: u16,
    options: PostgresOptions,
    folder: DataFolder,
}

impl PostgresServer {
    /// Where its data is, for as long as this lives.
    #[must_use]
    pub fn data(&self) -> std::path::PathBuf {
        self.folder.data()
    }

    /// Starts one and waits until it answers.
    ///
    /// # Errors
    /// When there is no program, or it does not come up.
    pub fn start(options: PostgresOptions) -> Result<Self> {
        let folder = DataFolder::make()?;
        make_cluster(&folder, &options)?;
        let port = free_port()?;
        let mut words = program::unprivileged(&program::path("postgres")?)?;
        words.extend(["-D".to_owned(), folder.data().display().to_string()]);
        let mut settings = vec![
            "listen_addresses=127.0.0.1".to_owned(),
            format!("port={port}"),
            "unix_socket_directories=".to_owned(),
            "max_connections=400".to_owned(),
            "shared_buffers=32MB".to_owned(),
            // Tests have no power cuts.
            "fsync=off".to_owned(),
            "full_page_writes=off".to_owned(),
            "synchronous_commit=off".to_owned(),
            // Copying a template would otherwise wait for a checkpoint that is spread over minutes.
            "checkpoint_timeout=1d".to_owned(),
            "max_wal_size=4GB".to_owned(),
            "timezone=UTC".to_owned(),
        ];
        settings.extend(options.settings.iter().cloned());
        for setting in settings {
            words.extend(["-c".to_owned(), setting]);
        }
        let mut words = words.into_iter();
        let process = ManagedProcess::start(ProcessSpec {
            name: format!("PostgreSQL at {port}"),
            program: words.next().context("a program")?.into(),
            args: words.map(OsString::from).collect(),
            env: BTreeMap::new(),
            without_env: Some("PG".to_owned()),
            stdout: folder.log(),
            stderr: folder.log(),
        })?;
        let mut started = Self { process, port, options, folder };
        started.wait_ready()?;
        Ok(started)
    }

    fn wait_ready(&mut self) -> Result<()> {
        let answers = wait::until(PATIENCE, || {
            if let Some(status) = self.process.exit_status()? {
                bail!("{} ended ({status}): {}", self.process.name(), self.process.log());
            }
            Ok(self.psql("postgres", "SELECT 1").is_ok().then_some(()))
        })?;
        answers.with_context(|| format!("{} does not answer", self.process.name()))
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The URL of one of its databases, with the superuser's password if there is one. The database
    /// `postgres` is there from the beginning.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        let password = self.options.password.as_ref().map(|it| format!(":{it}"));
        let password = password.unwrap_or_default();
        format!("postgres://{SUPERUSER}{password}@127.0.0.1:{}/{database}", self.port)
    }

    /// Makes an empty database, and gives its URL.
    ///
    /// # Errors
    /// When it is there already.
    pub fn create_database(&self, name: &str) -> Result<String> {
        self.psql("postgres", &format!("CREATE DATABASE \"{name}\""))?;
        Ok(self.url(name))
    }

    /// Runs a statement with `psql`, and gives the rows that it printed, fields separated by `|`.
    ///
    /// # Errors
    /// When it fails.
    pub fn psql(&self, database: &str, statement: &str) -> Result<String> {
        let mut psql = Command::new(install::program("psql", "postgresql-client")?);
        psql.args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-c", statement]);
        psql.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-U", SUPERUSER, database]);
        psql.env("PGCONNECT_TIMEOUT", "10");
        // Everyone on this machine can read a command line.
        psql.envs(self.options.password.iter().map(|it| ("PGPASSWORD", it)));
        process::capture(psql)
    }

    /// Ends it, as an administrator would: whoever is connected is sent away.
    ///
    /// # Errors
    /// When the system does not let us.
    pub fn stop(&mut self) -> Result<()> {
        self.process.stop_by(Signal::INT).map(drop)
    }

    /// Starts it again after [`stop`](Self::stop), at the same port and with its data.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn start_again(&mut self) -> Result<()> {
        self.stop()?;
        self.process.restart()?;
        self.wait_ready()
    }
}

impl Drop for PostgresServer {
    fn drop(&mut self) {
        // What ends any other server makes this one wait until its clients have gone.
        let _ = self.stop();
    }
}

fn make_cluster(folder: &DataFolder, options: &PostgresOptions) -> Result<()> {
    let words = program::unprivileged(&program::path("initdb")?)?;
    let mut words = words.iter();
    let mut initdb = Command::new(words.next().context("a program")?);
    initdb.args(words).arg("-D").arg(folder.data());
    initdb.args(["-U", SUPERUSER, "-E", "UTF8", "--locale", "C.UTF-8", "--no-sync"]);
    initdb.arg("--no-instructions").current_dir("/");
    if let Some(password) = &options.password {
        initdb.args(["-A", "scram-sha-256", "--pwfile"]).arg(folder.password_file(password)?);
    } else {
        initdb.args(["-A", "trust"]);
    }
    process::capture(initdb).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_answers_keeps_its_data_when_restarted_and_is_gone_when_dropped() {
        let options = PostgresOptions { password: Some("a-word".to_owned()), ..Default::default() };
        let mut server = PostgresServer::start(options).unwrap();
        let url = server.create_database("one").unwrap();
        assert_eq!(url, format!("postgres://postgres:a-word@127.0.0.1:{}/one", server.port()));
        server.psql("one", "CREATE TABLE a (b INTEGER)").unwrap();
        server.stop().unwrap();
        assert!(server.psql("one", "SELECT 1").is_err());
        server.start_again().unwrap();
        assert_eq!(server.psql("one", "SELECT count(*) FROM a").unwrap().trim(), "0");
        let (port, data) = (server.port(), server.data());
        drop(server);
        assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err());
        assert!(!data.exists());
    }
}
