//! The whole stack.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::control_plane::reachable;
use super::{
    ControlPlaneOptions, ControlPlaneProcess, EchoServer, EnvoyOptions, EnvoyProcess, StackOptions,
};
use crate::edge_config::{EdgeConfig, Upstream, credential_file};
use crate::{private_file, probe, wait};

/// Envoy serves at once; a gate that does not answer within this time never will.
const GATE_ANSWERS: Duration = Duration::from_secs(15);

/// A running stack. Dropping it ends Envoy first, then the control plane and the upstream.
#[derive(Debug)]
pub struct Stack {
    /// Envoy with the filter. The first field: it is dropped first.
    pub envoy: EnvoyProcess,
    /// The control plane.
    pub control_plane: ControlPlaneProcess,
    /// The built-in upstream, when no other is named.
    pub echo: Option<EchoServer>,
    options: StackOptions,
    upstream_url: String,
}

impl StackOptions {
    /// How this stack's control plane is started.
    #[must_use]
    pub fn control_plane(&self) -> ControlPlaneOptions {
        ControlPlaneOptions {
            binary: self.binaries.keygate.clone(),
            logs: self.dir.join("logs"),
            listen: self.admin,
            edge_listen: self.edge,
            env: self.control_plane_env.clone(),
        }
    }

    /// How this stack's Envoy is started.
    #[must_use]
    pub fn envoy(&self) -> EnvoyOptions {
        EnvoyOptions {
            binary: self.binaries.envoy.clone(),
            folder: self.dir.join("envoy"),
            logs: self.dir.join("logs"),
            admin_port: self.envoy_admin_port,
            concurrency: self.concurrency,
            args: self.envoy_args.clone(),
        }
    }

    /// Envoy's configuration for this stack. Writes the credential's files, readable by the owner
    /// alone.
    ///
    /// # Errors
    /// When a file cannot be written, or an edit fails.
    pub fn edge_config(&self, upstream: &Upstream) -> Result<EdgeConfig> {
        let mut config = EdgeConfig::standalone()?;
        config.set_gateway(&self.gateway.ip().to_string(), self.gateway.port())?;
        config.set_admin_port(self.envoy_admin_port)?;
        config.set_trusted_hops(self.trusted_hops)?;
        config.set_upstream(upstream)?;
        let edge = reachable(self.edge);
        config.set_control_plane(&edge.ip().to_string(), edge.port())?;
        config.set_credential_file(&self.write_credential()?)?;
        config.set_filter_module(&std::path::absolute(&self.binaries.filter)?)?;
        config.set_filter_configuration(&self.filter_config)?;
        if let Some(edit) = &self.edit_envoy {
            edit(&mut config)?;
        }
        Ok(config)
    }

    fn write_credential(&self) -> Result<std::path::PathBuf> {
        let folder = std::path::absolute(self.dir.join("envoy"))?;
        private_file::folder(&folder)?;
        let token = self.control_plane_env.get("KEYGATE_EDGE_TOKEN");
        let token = token.context("KEYGATE_EDGE_TOKEN is not set")?;
        let token_file = folder.join("edge_token");
        private_file::write(&token_file, token)?;
        // Envoy tells the format by the name: `.json` would do as well.
        let file = folder.join("edge_token.json");
        fs::write(&file, credential_file(&token_file)?.to_string())
            .with_context(|| format!("cannot write {}", file.display()))?;
        Ok(file)
    }
}

impl Stack {
    /// Brings the database up to date, then starts upstream, control plane and Envoy, and waits
    /// until each serves.
    ///
    /// # Errors
    /// When a part does not start; what was started before it has ended then.
    pub fn start(options: StackOptions) -> Result<Self> {
        let control_plane = options.control_plane();
        control_plane.keygate().run(&["migrate"])?;
        let control_plane = ControlPlaneProcess::start(control_plane)?;
        Self::start_before(control_plane, options)
    }

    /// Starts the rest before a control plane that runs already.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_before(control_plane: ControlPlaneProcess, options: StackOptions) -> Result<Self> {
        let (echo, upstream) = if let Some(upstream) = &options.upstream {
            (None, upstream.clone())
        } else {
            let echo = EchoServer::start(options.echo_port)?;
            let upstream = Upstream::parse(&echo.url())?;
            (Some(echo), upstream)
        };
        let config = options.edge_config(&upstream)?;
        let envoy = EnvoyProcess::start(options.envoy(), &config)?;
        Ok(Self { envoy, control_plane, echo, options, upstream_url: upstream.url() })
    }

    /// Waits until a request without a key gets the gate's answer, and returns its status.
    ///
    /// # Errors
    /// When there is no answer, or Envoy has no gate to ask (503), for a quarter of a minute.
    pub fn wait_gate(&self) -> Result<u16> {
        let address = self.gateway_address();
        let answer = wait::until(GATE_ANSWERS, || {
            let status = probe::get(address, "/").map(|answer| answer.status);
            Ok(status.ok().filter(|status| *status != 503))
        })?;
        let Some(status) = answer else {
            bail!(
                "the gate does not answer on {address}: see {}",
                self.envoy.process().log_file().display()
            );
        };
        Ok(status)
    }

    /// The URL of the gate, without a slash at the end.
    #[must_use]
    pub fn gateway_url(&self) -> String {
        format!("http://{}", self.gateway_address())
    }

    /// Where clients reach the gate from this machine.
    #[must_use]
    pub fn gateway_address(&self) -> std::net::SocketAddr {
        reachable(self.options.gateway)
    }

    /// The URL of the admin API, without a slash at the end.
    #[must_use]
    pub fn admin_url(&self) -> String {
        self.control_plane.admin_url()
    }

    /// The URL of what is behind the gate.
    #[must_use]
    pub fn upstream_url(&self) -> &str {
        &self.upstream_url
    }

    /// The options that it was started with.
    #[must_use]
    pub fn options(&self) -> &StackOptions {
        &self.options
    }

    /// The folder of the logs: `control-plane.log`, `envoy.log`, `envoy-access.log`.
    #[must_use]
    pub fn logs(&self) -> std::path::PathBuf {
        self.options.dir.join("logs")
    }

    /// The folder in which everything of this stack is.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.options.dir
    }
}
