//! What `cargo xtask up` was told: options, then `KEYGATE_*` of the environment, then defaults.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::Up;
use crate::edge_config::Upstream;
use crate::private_file;
use crate::stack::{self, Binaries, StackOptions, free_port, require_free};

/// Variables of this tool, not of the control plane.
const OWN: [&str; 4] =
    ["KEYGATE_CACHE", "KEYGATE_ENVOY", "KEYGATE_WASM_TOOLCHAIN", stack::GIVEN_BINARIES];

/// Everything but the programs: known before anything is built, so that mistakes show at once.
pub(super) struct Settings {
    gateway: SocketAddr,
    admin: SocketAddr,
    edge: SocketAddr,
    upstream: Option<Upstream>,
    filter_config: Value,
    env: BTreeMap<String, String>,
}

pub(super) fn read(up: &Up) -> Result<Settings> {
    let mut env = from_environment()?;
    let upstream = up.upstream.as_deref().map(Upstream::parse).transpose()?;
    let admin = match (up.admin_port, env.remove("KEYGATE_LISTEN")) {
        (Some(port), _) => loopback(port),
        (None, Some(listen)) => address("KEYGATE_LISTEN", &listen)?,
        (None, None) => loopback(8080),
    };
    let edge = match env.remove("KEYGATE_EDGE_LISTEN") {
        Some(listen) => address("KEYGATE_EDGE_LISTEN", &listen)?,
        None => loopback(free_port()?),
    };
    match &up.database_url {
        Some(url) if !url.is_empty() => {
            env.remove("KEYGATE_DATABASE_URL_FILE");
            env.insert("KEYGATE_DATABASE_URL".to_owned(), url.clone());
        }
        _ if env.contains_key("KEYGATE_DATABASE_URL_FILE") => {}
        _ => {
            env.insert("KEYGATE_DATABASE_URL".to_owned(), stack::database_url(&up.dir)?);
        }
    }
    if let Some(redis) = &up.redis_url {
        env.remove("KEYGATE_REDIS_URL_FILE");
        env.insert("KEYGATE_REDIS_URL".to_owned(), redis.clone());
    }
    let environment = env
        .entry("KEYGATE_ENVIRONMENT".to_owned())
        .or_insert_with(|| "development".to_owned())
        .clone();
    let filter_config = match &up.filter_config {
        Some(file) => filter_config_of(file)?,
        None => stack::try_out_filter_config(&environment)?,
    };
    add_secret(&mut env, "KEYGATE_SECRET_KEY", &up.dir, "secret_key")?;
    add_secret(&mut env, "KEYGATE_EDGE_TOKEN", &up.dir, "edge_token")?;
    let gateway = loopback(up.gateway_port);
    Ok(Settings { gateway, admin, edge, upstream, filter_config, env })
}

impl Settings {
    pub(super) fn require_free_ports(&self) -> Result<()> {
        require_free(self.gateway.port(), "the gate", "--gateway-port")?;
        require_free(self.admin.port(), "the admin API", "--admin-port")?;
        require_free(self.edge.port(), "the API for filters", "KEYGATE_EDGE_LISTEN")
    }

    pub(super) fn into_stack(self, up: &Up, binaries: Binaries) -> Result<StackOptions> {
        let mut options = StackOptions::new(&up.dir, binaries)?;
        options.gateway = self.gateway;
        options.admin = self.admin;
        options.edge = self.edge;
        options.upstream = self.upstream;
        options.concurrency = up.concurrency;
        options.filter_config = self.filter_config;
        options.control_plane_env = self.env;
        Ok(options)
    }
}

fn from_environment() -> Result<BTreeMap<String, String>> {
    let mut env = BTreeMap::new();
    for (name, value) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if !name.starts_with("KEYGATE_") || OWN.contains(&name.as_str()) {
            continue;
        }
        let Ok(value) = value.into_string() else { bail!("{name} is no text") };
        // As the control plane has it: empty is not set.
        if !value.trim().is_empty() {
            env.insert(name, value);
        }
    }
    Ok(env)
}

/// A secret of the environment (itself, or the file that has it), else the one that was made at
/// the first start in this folder.
fn add_secret(
    env: &mut BTreeMap<String, String>,
    name: &str,
    dir: &Path,
    file: &str,
) -> Result<()> {
    if env.contains_key(name) {
        return Ok(());
    }
    let secret = if let Some(named) = env.remove(&format!("{name}_FILE")) {
        let secret = fs::read_to_string(&named);
        secret.with_context(|| format!("cannot read {named}, which {name}_FILE names"))?
    } else {
        kept_secret(dir, file)?
    };
    env.insert(name.to_owned(), secret.trim().to_owned());
    Ok(())
}

fn kept_secret(dir: &Path, file: &str) -> Result<String> {
    let folder = dir.join("secrets");
    private_file::folder(&folder)?;
    let path = folder.join(file);
    if path.is_file() {
        return fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()));
    }
    let secret = stack::new_secret()?;
    private_file::write(&path, &secret)?;
    Ok(secret)
}

fn filter_config_of(file: &Path) -> Result<Value> {
    let text =
        fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is no JSON", file.display()))
}

fn address(variable: &str, value: &str) -> Result<SocketAddr> {
    value.parse().with_context(|| format!("{variable} is {value:?}, not an address and a port"))
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)
}

#[cfg(test)]
mod tests {
    use super::{add_secret, address, kept_secret};
    use std::collections::BTreeMap;

    #[test]
    fn a_secret_is_made_once_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let first = kept_secret(dir.path(), "secret_key").unwrap();
        assert_eq!(first.len(), 64);
        assert_eq!(kept_secret(dir.path(), "secret_key").unwrap(), first);
    }

    #[test]
    fn a_secret_of_the_environment_wins_and_none_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let mut env = BTreeMap::from([("KEYGATE_EDGE_TOKEN".to_owned(), "given".to_owned())]);
        add_secret(&mut env, "KEYGATE_EDGE_TOKEN", dir.path(), "edge_token").unwrap();
        assert_eq!(env["KEYGATE_EDGE_TOKEN"], "given");
        assert!(!dir.path().join("secrets").exists());
    }

    #[test]
    fn a_secret_in_a_file_of_the_environment_wins_too() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        std::fs::write(&file, "from-file\n").unwrap();
        let named = file.display().to_string();
        let mut env = BTreeMap::from([("KEYGATE_EDGE_TOKEN_FILE".to_owned(), named)]);
        add_secret(&mut env, "KEYGATE_EDGE_TOKEN", dir.path(), "edge_token").unwrap();
        assert_eq!(
            env,
            BTreeMap::from([("KEYGATE_EDGE_TOKEN".to_owned(), "from-file".to_owned())])
        );
    }

    #[test]
    fn a_wrong_address_is_told_with_its_variable() {
        let error = address("KEYGATE_LISTEN", "8080").unwrap_err().to_string();
        assert!(error.contains("KEYGATE_LISTEN"), "{error}");
    }
}
