//! The Keygate that is put under load: a stack of its own, on a store of its own.

use std::fmt;
use std::path::Path;

use anyhow::{Context, Result};
use clap::ValueEnum;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::servers::postgres::{PostgresOptions, PostgresServer};
use crate::servers::redis::{RedisOptions, RedisServer};
use crate::stack::{Binaries, ControlPlaneProcess, Stack, StackOptions};

/// A store that a run is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Store {
    /// A file
    Sqlite,
    /// A `PostgreSQL` server
    Postgres,
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Sqlite => "SQLite",
            Self::Postgres => "PostgreSQL",
        })
    }
}

/// Servers that are there already; what is not named is started.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// An empty database, in the place of one of our own.
    pub database_url: Option<String>,
    /// A Redis, in the place of one of our own.
    pub redis_url: Option<String>,
}

/// A Keygate under load, with all that it stands on. Dropping it ends everything.
pub(super) struct Ground {
    // The first field is dropped first: nothing is to lose its database while it runs.
    pub(super) stack: Stack,
    pub(super) admin_key: String,
    postgres: Option<PostgresServer>,
    _redis: Option<RedisServer>,
    dir: TempDir,
}

/// The database that is made on a server of our own.
const DATABASE: &str = "soak";

impl Ground {
    /// Starts everything. `filter` are the fields of the filter's configuration that differ from
    /// those of the ready file.
    pub(super) fn start(
        store: Store,
        binaries: Binaries,
        given: &Given,
        filter: Value,
    ) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("keygate-soak-").tempdir()?;
        let mut options = StackOptions::new(dir.path(), binaries)?;
        // Clients choose their addresses.
        options.trusted_hops = 1;
        let fields = options.filter_config.as_object_mut();
        let fields = fields.context("the filter's configuration is no object")?;
        if let Value::Object(changes) = filter {
            fields.extend(changes);
        }
        let postgres = match (store, &given.database_url) {
            (Store::Postgres, None) => Some(PostgresServer::start(PostgresOptions::default())?),
            _ => None,
        };
        let made = postgres.as_ref().map(|server| server.create_database(DATABASE)).transpose()?;
        let redis = match &given.redis_url {
            None => Some(RedisServer::start(RedisOptions::default())?),
            Some(_) => None,
        };
        let redis_url = redis.as_ref().map(RedisServer::url).or_else(|| given.redis_url.clone());
        let database_url = given.database_url.clone().or(made);
        let env = &mut options.control_plane_env;
        env.extend(database_url.map(|url| ("KEYGATE_DATABASE_URL".to_owned(), url)));
        env.extend(redis_url.map(|url| ("KEYGATE_REDIS_URL".to_owned(), url)));
        // What is under test is not how much an administrator may ask.
        env.insert("KEYGATE_ADMIN_RATE_LIMIT".to_owned(), "1000000".to_owned());
        env.insert("KEYGATE_ADMIN_FAILURE_LIMIT".to_owned(), "1000000".to_owned());

        let control_plane = options.control_plane();
        let keygate = control_plane.keygate();
        keygate.run(&["migrate"])?;
        let args = ["keys", "create", "--name", "admin", "--scope", "admin", "--json"];
        let created = keygate.run_json(&args)?;
        let admin_key = created.get("api_key").and_then(Value::as_str);
        let admin_key = admin_key.context("no admin key was made")?.to_owned();
        let control_plane = ControlPlaneProcess::start(control_plane)?;
        let stack = Stack::start_before(control_plane, options)?;
        stack.wait_gate()?;
        Ok(Self { stack, admin_key, postgres, _redis: redis, dir })
    }

    /// How many bytes the database takes, where that can be told.
    pub(super) fn database_bytes(&self) -> Result<Option<u64>> {
        if let Some(server) = &self.postgres {
            let query = format!("SELECT pg_database_size('{DATABASE}')");
            return Ok(server.psql(DATABASE, &query)?.trim().parse().ok());
        }
        let file = self.dir.path().join("keygate.db");
        if !file.is_file() {
            return Ok(None);
        }
        let size = |path: &Path| std::fs::metadata(path).map_or(0, |it| it.len());
        Ok(Some(size(&file) + size(&file.with_extension("db-wal"))))
    }

    /// Leaves the folder where it is, for whoever looks for what went wrong.
    pub(super) fn keep(&mut self) -> String {
        self.dir.disable_cleanup(true);
        self.dir.path().display().to_string()
    }
}

/// The filter's configuration without limits: every request is answered for itself.
pub(super) fn without_limits() -> Value {
    json!({"limits": [], "failed_attempts": {"requests": 1_000_000, "window_seconds": 60}})
}
