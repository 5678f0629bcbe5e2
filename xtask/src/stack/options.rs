//! What a stack is made of.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::ports::free_port;
use crate::edge_config::{EdgeConfig, Upstream};
use crate::wasm::{self, Variant};
use crate::{envoy, process, progress, workspace};

/// The programs and the module that a stack runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binaries {
    /// Envoy.
    pub envoy: PathBuf,
    /// The control plane.
    pub keygate: PathBuf,
    /// The filter.
    pub filter: PathBuf,
}

/// How the control plane is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Build {
    /// Fast to build: for tests.
    Debug,
    /// Fast to run.
    Release,
}

/// Names a file that says which programs to run instead of building them: a JSON object of `envoy`,
/// `keygate` and `filter`. `cargo xtask test` makes one, so that everything runs the same ones.
pub const GIVEN_BINARIES: &str = "KEYGATE_TEST_BINARIES";

impl Binaries {
    /// The programs that [`GIVEN_BINARIES`] names, if it is set.
    ///
    /// # Errors
    /// When its file cannot be read or lacks one of them.
    pub fn given() -> Result<Option<Self>> {
        let Some(file) = std::env::var_os(GIVEN_BINARIES) else { return Ok(None) };
        let text = std::fs::read(&file).with_context(|| format!("cannot read {GIVEN_BINARIES}"))?;
        let given: Value = serde_json::from_slice(&text).context(GIVEN_BINARIES)?;
        let path = |name: &str| {
            let path = given.get(name).and_then(Value::as_str);
            path.map(PathBuf::from).with_context(|| format!("{GIVEN_BINARIES} names no {name}"))
        };
        let (envoy, keygate, filter) = (path("envoy")?, path("keygate")?, path("filter")?);
        Ok(Some(Self { envoy, keygate, filter }))
    }

    /// Builds what is not up to date, and gets Envoy.
    ///
    /// # Errors
    /// When a build fails or a tool is missing.
    pub fn build(build: Build) -> Result<Self> {
        Ok(Self {
            envoy: envoy::find()?,
            keygate: build_keygate(build)?,
            filter: wasm::build(Variant::Product)?,
        })
    }
}

/// Builds the control plane, if it is not up to date.
///
/// # Errors
/// When it does not compile.
pub(crate) fn build_keygate(build: Build) -> Result<PathBuf> {
    progress::step("building the control plane");
    let mut cargo: Command = workspace::cargo();
    cargo.args(["build", "-p", "control-plane", "--bin", "keygate"]);
    let folder = match build {
        Build::Debug => "debug",
        Build::Release => {
            cargo.arg("--release");
            "release"
        }
    };
    process::run(cargo)?;
    Ok(workspace::target_dir()?.join(folder).join("keygate"))
}

/// A change to Envoy's configuration just before Envoy starts.
pub type EnvoyEdit = Arc<dyn Fn(&mut EdgeConfig) -> Result<()> + Send + Sync>;

/// What a [`Stack`](super::Stack) is to be.
#[derive(Clone)]
pub struct StackOptions {
    /// Everything is kept here: database, logs, Envoy's configuration.
    pub dir: PathBuf,
    /// What to run.
    pub binaries: Binaries,
    /// Where clients reach the gate.
    pub gateway: SocketAddr,
    /// Where admins reach the control plane.
    pub admin: SocketAddr,
    /// Where Envoy reaches the control plane.
    pub edge: SocketAddr,
    /// Envoy's admin interface, on loopback.
    pub envoy_admin_port: u16,
    /// The built-in upstream's port; 0 takes any.
    pub echo_port: u16,
    /// Envoy's worker threads.
    pub concurrency: u32,
    /// Proxies in front of Envoy that are trusted.
    pub trusted_hops: u32,
    /// The service behind the gate; the built-in echo server when none is named.
    pub upstream: Option<Upstream>,
    /// The filter's configuration.
    pub filter_config: Value,
    /// `KEYGATE_*` variables of the control plane, but for its two addresses. `KEYGATE_EDGE_TOKEN`
    /// is also given to Envoy.
    pub control_plane_env: BTreeMap<String, String>,
    /// More arguments of Envoy.
    pub envoy_args: Vec<std::ffi::OsString>,
    /// Changes to Envoy's configuration that no other option makes.
    pub edit_envoy: Option<EnvoyEdit>,
}

impl StackOptions {
    /// A stack on free ports of the loopback interface with two workers, a fresh `SQLite` database
    /// and fresh secrets in `dir`, in the development environment.
    ///
    /// # Errors
    /// When there are no free ports or no random numbers.
    pub fn new(dir: &Path, binaries: Binaries) -> Result<Self> {
        let loopback = |port| SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
        let env = [
            ("KEYGATE_DATABASE_URL", database_url(dir)?),
            ("KEYGATE_ENVIRONMENT", "development".to_owned()),
            ("KEYGATE_SECRET_KEY", new_secret()?),
            ("KEYGATE_EDGE_TOKEN", new_secret()?),
        ];
        Ok(Self {
            dir: dir.to_path_buf(),
            binaries,
            gateway: loopback(free_port()?),
            admin: loopback(free_port()?),
            edge: loopback(free_port()?),
            envoy_admin_port: free_port()?,
            echo_port: 0,
            concurrency: 2,
            trusted_hops: 0,
            upstream: None,
            filter_config: try_out_filter_config("development")?,
            control_plane_env: env.map(|(name, value)| (name.to_owned(), value)).into(),
            envoy_args: Vec::new(),
            edit_envoy: None,
        })
    }
}

impl fmt::Debug for StackOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StackOptions")
            .field("dir", &self.dir)
            .field("gateway", &self.gateway)
            .field("admin", &self.admin)
            .field("edge", &self.edge)
            .finish_non_exhaustive()
    }
}

/// The filter's configuration of the ready file, in another environment.
///
/// # Errors
/// When the ready file is not as expected.
pub fn try_out_filter_config(environment: &str) -> Result<Value> {
    let mut config = EdgeConfig::standalone()?.filter_configuration()?;
    let fields = config.as_object_mut().context("the filter's configuration is no object")?;
    fields.insert("environment".to_owned(), json!(environment));
    Ok(config)
}

/// A database file in a folder.
///
/// # Errors
/// When the folder has no absolute path.
pub fn database_url(dir: &Path) -> Result<String> {
    let dir = std::path::absolute(dir)?;
    Ok(format!("sqlite://{}", dir.join("keygate.db").display()))
}

/// 32 random bytes in hex.
///
/// # Errors
/// When the system gives no random numbers.
pub fn new_secret() -> Result<String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).context("the system gives no random numbers")?;
    Ok(hex::encode(bytes))
}
