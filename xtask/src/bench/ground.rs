//! All that runs while it is measured: the control plane, the servers that `ext_authz` asks, and an
//! Envoy for each way to check keys.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use key_policy::{Environment, Policy};
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::processor;
use super::scenario::{Gateway, NARROW_PATH, Parts, Scenario, Traffic, configure};
use crate::client::{Ask, Client};
use crate::edge_config::Upstream;
use crate::process::{self, ManagedProcess, ProcessSpec};
use crate::stack::{
    Binaries, ControlPlaneProcess, EnvoyOptions, EnvoyProcess, StackOptions, free_port,
};
use crate::{progress, wait};

/// The programs of the benchmark.
#[derive(Clone, Debug)]
pub(super) struct Programs {
    pub(super) stack: Binaries,
    pub(super) load: PathBuf,
    pub(super) authz: PathBuf,
    pub(super) noop_module: PathBuf,
}

/// What the load generator says.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Sent {
    pub(super) answers: u64,
    pub(super) statuses: BTreeMap<u16, u64>,
    pub(super) seconds: f64,
    pub(super) latencies: Vec<(u64, u64)>,
}

/// How much is sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    pub(super) seconds: f64,
    /// Requests a second; none: as fast as answers come.
    pub(super) rate: Option<f64>,
    pub(super) connections: u32,
}

/// What is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Protocol {
    Http1,
    Http2,
}

impl Protocol {
    pub(super) const ALL: [Self; 2] = [Self::Http1, Self::Http2];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Http1 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
        }
    }

    fn argument(self) -> &'static str {
        match self {
            Self::Http1 => "http1",
            Self::Http2 => "http2",
        }
    }
}

/// A running Envoy.
struct Running {
    envoy: EnvoyProcess,
    address: SocketAddr,
}

/// Dropping it ends everything.
pub(super) struct Ground {
    gateways: BTreeMap<Gateway, Running>,
    _servers: Vec<ManagedProcess>,
    control_plane: ControlPlaneProcess,
    admin_key: String,
    programs: Programs,
    pub(super) keys: Vec<String>,
    pub(super) scenarios: Vec<Scenario>,
    dir: TempDir,
}

impl Ground {
    /// Starts everything, with so many keys, each of which every gateway has seen.
    pub(super) fn start(programs: Programs, keys: usize, scenarios: Vec<Scenario>) -> Result<Self> {
        processor::keep_to(processor::REST)?;
        let dir = tempfile::Builder::new().prefix("keygate-bench-").tempdir()?;
        let mut options = StackOptions::new(dir.path(), programs.stack.clone())?;
        for limit in ["KEYGATE_ADMIN_RATE_LIMIT", "KEYGATE_ADMIN_FAILURE_LIMIT"] {
            options.control_plane_env.insert(limit.to_owned(), "1000000".to_owned());
        }
        fs::create_dir_all(dir.path().join("logs"))?;
        let control_plane = options.control_plane();
        let keygate = control_plane.keygate();
        keygate.run(&["migrate"])?;
        let args = ["keys", "create", "--name", "admin", "--scope", "admin", "--json"];
        let created = keygate.run_json(&args)?;
        let admin_key = created.get("api_key").and_then(Value::as_str);
        let admin_key = admin_key.context("no admin key was made")?.to_owned();
        let control_plane = ControlPlaneProcess::start(control_plane)?;
        let idle = server(&programs, dir.path(), "idle", &[], &options)?;
        let edge = options.edge.to_string();
        let verifying = server(&programs, dir.path(), "verifying", &["--edge", &edge], &options)?;
        let mut ground = Self {
            gateways: BTreeMap::new(),
            control_plane,
            admin_key,
            keys: Vec::new(),
            scenarios,
            programs,
            _servers: vec![idle.0, verifying.0],
            dir,
        };
        ground.make_keys(keys)?;
        for Scenario { gateway, .. } in ground.scenarios.clone() {
            if ground.gateways.contains_key(&gateway) {
                continue;
            }
            let running = ground.start_gateway(gateway, &options, idle.1, verifying.1)?;
            ground.gateways.insert(gateway, running);
        }
        ground.write_requests()?;
        ground.warm_up()?;
        Ok(ground)
    }

    fn make_keys(&mut self, count: usize) -> Result<()> {
        progress::step(&format!("making {count} keys"));
        let mut client = Client::new(self.control_plane.admin_address());
        for number in 0..count {
            let body =
                json!({"name": format!("bench-{number}"), "scope": "read", "owner": "bench"});
            let fields = vec![("x-api-key", self.admin_key.as_str())];
            let path = "/api/v1/admin/api-keys/";
            let answer = client
                .send(&Ask { method: "POST", path, fields, body: Some(&body) })
                .map_err(|silence| anyhow!("the control plane gives no answer: {silence:?}"))?;
            let key = answer.json().get("api_key").and_then(Value::as_str).map(str::to_owned);
            self.keys.push(key.with_context(|| format!("no key was made: {answer:?}"))?);
        }
        Ok(())
    }

    fn start_gateway(
        &self,
        gateway: Gateway,
        options: &StackOptions,
        idle: SocketAddr,
        verifying: SocketAddr,
    ) -> Result<Running> {
        let folder = self.dir.path().join(gateway.name());
        let mut options = options.clone();
        options.dir.clone_from(&folder);
        options.gateway.set_port(free_port()?);
        options.envoy_admin_port = free_port()?;
        options.concurrency = 1;
        fs::create_dir_all(&folder)?;
        let upstream = Upstream::parse(&format!("http://{idle}"))?;
        let mut config = options.edge_config(&upstream)?;
        let parts =
            Parts { keys: &self.keys, noop_module: &self.programs.noop_module, idle, verifying };
        configure(gateway, &mut config, &parts)?;
        let envoy = EnvoyProcess::start(
            EnvoyOptions {
                binary: self.programs.stack.envoy.clone(),
                folder: folder.clone(),
                logs: folder,
                admin_port: options.envoy_admin_port,
                concurrency: 1,
                args: vec!["--log-level".into(), "error".into()],
            },
            &config,
        )?;
        processor::move_to(envoy.process().pid(), processor::MEASURED)?;
        Ok(Running { envoy, address: options.gateway })
    }

    /// What each kind of traffic sends, in a file for the load generator.
    fn write_requests(&self) -> Result<()> {
        let request = |path: &str, key: Option<&str>| {
            let mut headers = vec![
                ("user-agent", "Mozilla/5.0 (X11; Linux x86_64) keygate-load"),
                ("accept", "application/json, text/plain, */*"),
                ("accept-encoding", "gzip, deflate"),
                ("accept-language", "en-GB,en;q=0.9"),
            ];
            headers.extend(key.map(|key| ("x-api-key", key)));
            json!({"method": "GET", "path": path, "headers": headers})
        };
        let first = self.keys.first().context("there are no keys")?;
        let mistyped: Vec<_> = self.keys.iter().map(|key| mistyped(key)).collect();
        let all = |keys: &[String], path: &str| {
            keys.iter().map(|key| request(path, Some(key))).collect::<Vec<_>>()
        };
        for (traffic, requests) in [
            (Traffic::Keys, all(&self.keys, "/")),
            (Traffic::Without, vec![request("/", None)]),
            (Traffic::Malformed, all(&mistyped, "/")),
            (Traffic::Unknown, all(&unknown_keys(self.keys.len())?, "/")),
            (Traffic::OverLimit, vec![request(NARROW_PATH, Some(first))]),
        ] {
            fs::write(self.requests(traffic), serde_json::to_vec(&requests)?)?;
        }
        Ok(())
    }

    fn requests(&self, traffic: Traffic) -> PathBuf {
        self.dir.path().join(format!("{traffic:?}.json"))
    }

    /// Has every gateway see every key, one after the other: nobody is to be refused because the
    /// control plane has not hashed it yet.
    fn warm_up(&self) -> Result<()> {
        for &scenario in &self.scenarios {
            progress::step(&format!("warming up {}", scenario.name()));
            let load = Load { seconds: 300.0, connections: 1, rate: None };
            let all = self.keys.len().to_string();
            // A key that the control plane had no time to hash is asked about again.
            let warm = wait::until(Duration::from_mins(5), || {
                let mut command = self.command(scenario, Protocol::Http1, load)?;
                command.args(["--most", &all]);
                Ok(run(command)?.check(scenario).ok())
            })?;
            ensure!(warm.is_some(), "{} is not warm after five minutes", scenario.name());
        }
        Ok(())
    }

    /// Sends one kind of traffic.
    pub(super) fn send(&self, scenario: Scenario, protocol: Protocol, load: Load) -> Result<Sent> {
        run(self.command(scenario, protocol, load)?)
    }

    fn command(&self, scenario: Scenario, protocol: Protocol, load: Load) -> Result<Command> {
        let gateway = self.gateways.get(&scenario.gateway).context("not started")?;
        let mut command = Command::new(&self.programs.load);
        command
            .arg(gateway.address.to_string())
            .arg(self.requests(scenario.traffic))
            .args(["--protocol", protocol.argument()])
            .args(["--seconds", &load.seconds.to_string()])
            .args(["--connections", &load.connections.to_string()]);
        if let Some(rate) = load.rate {
            command.args(["--rate", &rate.to_string()]);
        }
        Ok(command)
    }

    /// The process of a gateway.
    pub(super) fn process_of(&self, gateway: Gateway) -> Result<u32> {
        Ok(self.gateways.get(&gateway).context("not started")?.envoy.process().pid())
    }

    /// A gateway's counters that begin so.
    pub(super) fn stats(&self, gateway: Gateway, filter: &str) -> Result<String> {
        let running = self.gateways.get(&gateway).context("not started")?;
        Ok(running.envoy.admin_get(&format!("/stats?filter={filter}"))?.body)
    }
}

impl Sent {
    /// Whether all was answered as it had to be.
    pub(super) fn check(&self, scenario: Scenario) -> Result<()> {
        let expected = scenario.expected_status();
        let as_expected = self.statuses.get(&expected).copied().unwrap_or(0);
        // A control plane that shares a core with the load may be too busy to tell for a moment.
        if self.answers == 0 || (self.answers - as_expected) * 100 > self.answers {
            bail!("{}: not all answers were {expected}: {:?}", scenario.name(), self.statuses);
        }
        Ok(())
    }
}

fn run(load: Command) -> Result<Sent> {
    Ok(serde_json::from_str(&process::capture(load)?)?)
}

fn server(
    programs: &Programs,
    dir: &Path,
    name: &str,
    more: &[&str],
    options: &StackOptions,
) -> Result<(ManagedProcess, SocketAddr)> {
    let address = SocketAddr::new(options.edge.ip(), free_port()?);
    let mut args = vec![address.to_string().into()];
    args.extend(more.iter().map(Into::into));
    let token = options.control_plane_env.get("KEYGATE_EDGE_TOKEN").cloned().unwrap_or_default();
    let log = dir.join(format!("{name}.log"));
    let process = ManagedProcess::start(ProcessSpec {
        name: format!("the {name} server"),
        program: programs.authz.clone(),
        args,
        env: [("KEYGATE_EDGE_TOKEN".to_owned(), token)].into(),
        without_env: None,
        stdout: log.clone(),
        stderr: log,
    })?;
    let up = wait::until(Duration::from_secs(10), || {
        Ok(std::net::TcpStream::connect(address).ok().map(drop))
    })?;
    ensure!(up.is_some(), "the {name} server does not start: {}", process.log());
    Ok((process, address))
}

/// The key with another last letter: its checksum is wrong.
fn mistyped(key: &str) -> String {
    let mut key = key.to_owned();
    let other = if key.pop() == Some('a') { 'b' } else { 'a' };
    key.push(other);
    key
}

/// Keys in order that nobody has given out.
fn unknown_keys(count: usize) -> Result<Vec<String>> {
    let policy = Policy::default();
    let new = || policy.generate(Environment::Live, &mut getrandom::fill).map(|key| key.text);
    (0..count).map(|_| new().context("the system gives no random numbers")).collect()
}
