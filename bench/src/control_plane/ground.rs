//! The servers under measurement, each our own, on free ports.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Context, Result};
use http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use serde_json::Value;
use tempfile::TempDir;
use xtask::process::{ManagedProcess, ProcessSpec};
use xtask::servers::postgres::{PostgresOptions, PostgresServer};
use xtask::servers::redis::{RedisOptions, RedisServer};
pub use xtask::soak::Store;
use xtask::stack::{
    ControlPlaneOptions, ControlPlaneProcess, Keygate, database_url, free_port, new_secret,
};

use super::Options;
use super::client::{Client, Target};
use super::cpu::Processes;
use super::database::Database;

/// What stands behind a control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Servers {
    Database,
    DatabaseAndRedis,
}

/// A control plane, built for release, with all that it stands on. Dropping it ends everything.
pub(super) struct Ground {
    // What is dropped first comes first: nobody is to lose what it stands on.
    control_plane: ControlPlaneProcess,
    nothing: ManagedProcess,
    pub(super) store: Store,
    pub(super) database: Database,
    pub(super) admin: Target,
    pub(super) edge: Target,
    pub(super) idle: Target,
    postgres: Option<PostgresServer>,
    redis: Option<RedisServer>,
    _dir: TempDir,
}

/// Nothing is lost in a power cut, as on any server that is meant.
const DURABLE: [&str; 5] = [
    "fsync=on",
    "full_page_writes=on",
    "synchronous_commit=on",
    "shared_buffers=256MB",
    "checkpoint_timeout=5min",
];

impl Ground {
    pub(super) async fn start(options: &Options, store: Store, servers: Servers) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("keygate-bench-").tempdir()?;
        let postgres = match store {
            Store::Sqlite => None,
            Store::Postgres => {
                let settings = DURABLE.map(str::to_owned).to_vec();
                Some(PostgresServer::start(PostgresOptions { settings, ..Default::default() })?)
            }
        };
        let redis = match servers {
            Servers::Database => None,
            Servers::DatabaseAndRedis => Some(RedisServer::start(RedisOptions::default())?),
        };
        let url = match &postgres {
            Some(server) => server.create_database("bench")?,
            None => database_url(dir.path())?,
        };
        let token = new_secret()?;
        let loopback = |port| SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
        let mut env = vec![
            ("KEYGATE_DATABASE_URL", url.clone()),
            ("KEYGATE_ENVIRONMENT", "development".to_owned()),
            ("KEYGATE_SECRET_KEY", new_secret()?),
            ("KEYGATE_EDGE_TOKEN", token.clone()),
            // What is measured is not how much an administrator may ask.
            ("KEYGATE_ADMIN_RATE_LIMIT", "1000000".to_owned()),
        ];
        env.extend(redis.as_ref().map(|server| ("KEYGATE_REDIS_URL", server.url())));
        let control_plane = ControlPlaneOptions {
            binary: options.keygate.clone(),
            logs: dir.path().to_path_buf(),
            listen: loopback(free_port()?),
            edge_listen: loopback(free_port()?),
            env: env.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        };
        let keygate = control_plane.keygate();
        keygate.run(&["migrate"])?;
        let args = ["keys", "create", "--name", "admin", "--scope", "admin", "--json"];
        let created = keygate.run_json(&args)?;
        let admin_key = created.get("api_key").and_then(Value::as_str);
        let admin_key = admin_key.context("no admin key was made")?;
        let control_plane = ControlPlaneProcess::start(control_plane)?;

        let address = loopback(free_port()?);
        let nothing = start_nothing(options, address, dir.path().join("nothing.log"))?;
        let secret = |text: &str| {
            let mut value = HeaderValue::from_str(text)?;
            value.set_sensitive(true);
            anyhow::Ok(value)
        };
        let bearer = (AUTHORIZATION, secret(&format!("Bearer {token}"))?);
        let admin = (HeaderName::from_static("x-api-key"), secret(admin_key)?);
        let admin = Target { address: control_plane.admin_address(), credential: admin };
        let edge = Target { address: control_plane.edge_address(), credential: bearer.clone() };
        let idle = Target { address, credential: bearer };
        wait_for(&idle).await?;
        let database = Database::open(&url).await?;
        Ok(Self {
            control_plane,
            nothing,
            store,
            database,
            admin,
            edge,
            idle,
            postgres,
            redis,
            _dir: dir,
        })
    }

    /// The control plane's command line.
    pub(super) fn keygate(&self) -> Keygate {
        self.control_plane.keygate()
    }

    /// The control plane.
    pub(super) fn itself(&self) -> Processes {
        Processes::One(self.control_plane.process().pid())
    }

    /// The server that does nothing.
    pub(super) fn nothing(&self) -> Processes {
        Processes::One(self.nothing.pid())
    }

    /// The control plane, and its database where that has processes of its own.
    pub(super) fn with_database(&self) -> Result<Vec<Processes>> {
        let mut all = vec![self.itself()];
        if let Some(server) = &self.postgres {
            let file = fs::read_to_string(server.data().join("postmaster.pid"))?;
            let pid = file.lines().next().context("postmaster.pid is empty")?.parse()?;
            all.push(Processes::WithChildren(pid));
        }
        Ok(all)
    }

    /// The Redis that was asked for.
    pub(super) fn redis(&self) -> Result<&RedisServer> {
        self.redis.as_ref().context("there is no Redis here")
    }
}

fn start_nothing(options: &Options, address: SocketAddr, log: PathBuf) -> Result<ManagedProcess> {
    ManagedProcess::start(ProcessSpec {
        name: "the server that does nothing".to_owned(),
        program: options.own.clone(),
        args: vec!["nothing".into(), address.to_string().into()],
        env: std::collections::BTreeMap::default(),
        without_env: None,
        stdout: log.clone(),
        stderr: log,
    })
}

async fn wait_for(target: &Target) -> Result<()> {
    for _ in 0..500 {
        if Client::connect(target).await.is_ok() {
            return Ok(());
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    Client::connect(target).await.map(drop)
}
