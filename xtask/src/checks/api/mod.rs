//! The admin API, fuzzed by its own description: a real service, and schemathesis with every check
//! on what is well formed and on what is not.

mod schemathesis;

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::servers::postgres::{PostgresOptions, PostgresServer};
use crate::stack::{Build, ControlPlaneOptions, ControlPlaneProcess, build_keygate, free_port};
use crate::{interrupt, progress, workspace};
use schemathesis::Target;

/// A limit that the fuzzer does not reach: what it looks for is behind the limits.
const NO_LIMIT: &str = "1000000";

pub(super) fn run() -> Result<()> {
    let keygate = build_keygate(Build::Debug)?;
    let folder = workspace::target_dir()?.join("api");
    let fuzzer = schemathesis::install()?;
    // What an earlier run has left would be found again.
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let server = PostgresServer::start(PostgresOptions::default())?;
    let databases = [
        ("SQLite", "sqlite", format!("sqlite://{}", folder.join("keygate.db").display())),
        ("PostgreSQL", "postgres", server.create_database("keygate")?),
    ];
    for (name, word, database) in databases {
        interrupt::check()?;
        progress::step(&format!("fuzzing the admin API on {name}"));
        let folder = folder.join(word);
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        fuzz(&fuzzer, &folder, &keygate, &database)
            .with_context(|| format!("on {name}; the service's log is in {}", folder.display()))?;
    }
    Ok(())
}

fn fuzz(fuzzer: &Path, folder: &Path, keygate: &Path, database: &str) -> Result<()> {
    let options = options(folder, keygate, database)?;
    let command = options.keygate();
    command.run(&["migrate"])?;
    let key =
        command.run_json(&["keys", "create", "--name", "fuzzer", "--scope", "admin", "--json"])?;
    let field = |name: &str| {
        let value = key.get(name).and_then(Value::as_str).map(str::to_owned);
        value.with_context(|| format!("a key without {name}"))
    };
    let (key_id, api_key) = (field("key_id")?, field("api_key")?);
    let service = ControlPlaneProcess::start(options)?;
    let url = service.admin_url();
    schemathesis::run(fuzzer, folder, &Target { url, key_id, api_key })
}

fn options(folder: &Path, keygate: &Path, database: &str) -> Result<ControlPlaneOptions> {
    let loopback = |port| SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
    let env = [
        ("KEYGATE_DATABASE_URL", database),
        ("KEYGATE_ENVIRONMENT", "testing"),
        ("KEYGATE_ADMIN_RATE_LIMIT", NO_LIMIT),
        ("KEYGATE_ADMIN_FAILURE_LIMIT", NO_LIMIT),
    ];
    Ok(ControlPlaneOptions {
        binary: PathBuf::from(keygate),
        logs: folder.to_path_buf(),
        listen: loopback(free_port()?),
        edge_listen: loopback(free_port()?),
        env: env.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
    })
}
