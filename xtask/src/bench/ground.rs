//! All that runs while it is measured: the control plane, the servers that `ext_authz` asks, and an
//! Envoy for each way to check keys.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use key_policy::{Environment, Policy};
use serde_json::Value;
use serde_json::json;
use tempfile::TempDir;

use super::load::{Load, Protocol, Sent};
use super::processor::{self, Turn};
use super::scenario::{Gateway, NARROW_PATH, Parts, Scenario, Traffic, configure};
use crate::client::{Ask, Client};
use crate::edge_config::{EdgeConfig, Upstream};
use crate::process::{ManagedProcess, ProcessSpec};
use crate::stack::{
    Binaries, ControlPlaneProcess, EnvoyOptions, EnvoyProcess, StackOptions, free_port,
};
use crate::{progress, wait};

/// How many keys are tried that nobody has given out.
const UNKNOWN_KEYS: usize = 16;

/// The programs of the benchmark.
#[derive(Clone, Debug)]
pub(super) struct Programs {
    pub(super) stack: Binaries,
    pub(super) load: PathBuf,
    pub(super) stand_in: PathBuf,
    pub(super) noop_module: PathBuf,
}

/// A running Envoy.
pub(super) struct Running {
    envoy: EnvoyProcess,
    pub(super) address: SocketAddr,
}

/// Dropping it ends everything.
pub(super) struct Ground {
    gateways: BTreeMap<Gateway, Running>,
    _servers: Vec<ManagedProcess>,
    control_plane: ControlPlaneProcess,
    admin_key: String,
    programs: Programs,
    keys: Vec<String>,
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
        let edge = options.edge.to_string();
        let idle = stand_in(&programs, dir.path(), &["allow"], &options)?;
        let verifying = stand_in(&programs, dir.path(), &["verify", &edge], &options)?;
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
        ground.write_traffic()?;
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
        let noop_module = &self.programs.noop_module;
        let turns = u32::try_from(self.scenarios.len() * Protocol::ALL.len())?;
        let parts = Parts { keys: &self.keys, noop_module, idle, verifying, turns };
        let mut options = options.clone();
        options.dir = self.dir.path().join(gateway.name());
        Running::start(options, 1, |config| configure(gateway, config, &parts))
    }

    /// What each kind of traffic sends, in files for the load generator.
    fn write_traffic(&self) -> Result<()> {
        let write_keys = |traffic: Traffic, keys: &[String]| {
            fs::write(self.keys_of(traffic), keys.join("\n")).context("cannot write keys")
        };
        let first = self.keys.first().context("there are no keys")?;
        let mistyped: Vec<_> = self.keys.iter().map(|key| mistyped(key)).collect();
        write_keys(Traffic::Keys, &self.keys)?;
        write_keys(Traffic::Without, &[])?;
        write_keys(Traffic::Malformed, &mistyped)?;
        // Few: the filter asks about each once a minute, and no address may ask about many at a time.
        write_keys(Traffic::Unknown, &new_keys(UNKNOWN_KEYS)?)?;
        write_keys(Traffic::OverLimit, std::slice::from_ref(first))?;
        for traffic in Traffic::ALL {
            let path = if traffic == Traffic::OverLimit { NARROW_PATH } else { "/" };
            write_request(&self.request_of(traffic), path, 0)?;
        }
        Ok(())
    }

    fn request_of(&self, traffic: Traffic) -> PathBuf {
        self.dir.path().join(format!("{traffic:?}.json"))
    }

    fn keys_of(&self, traffic: Traffic) -> PathBuf {
        self.dir.path().join(format!("{traffic:?}.keys"))
    }

    /// Has every gateway see every key, one after the other: nobody is to be refused because the
    /// control plane has not hashed it yet.
    fn warm_up(&self) -> Result<()> {
        self.scenarios.iter().try_for_each(|&scenario| self.warm(scenario))
    }

    /// Has a gateway see every key until it knows them all.
    pub(super) fn warm(&self, scenario: Scenario) -> Result<()> {
        progress::step(&format!("warming up {}", scenario.name()));
        let all = u32::try_from(self.keys.len())?;
        // A key that the control plane had no time to hash is asked about again.
        let warm = wait::until(Duration::from_mins(5), || {
            Ok(self.send(scenario, Load::once(all, 1))?.check(scenario).ok())
        })?;
        ensure!(warm.is_some(), "{} is not warm after five minutes", scenario.name());
        Ok(())
    }

    /// Sends one kind of traffic.
    pub(super) fn send(&self, scenario: Scenario, load: Load) -> Result<Sent> {
        let address = self.gateway(scenario.gateway)?.address;
        let traffic = scenario.traffic;
        load.send(&self.programs, address, &self.request_of(traffic), &self.keys_of(traffic))
    }

    /// Whether the control plane gets its core when the load wants it.
    pub(super) fn give_control_plane_turn(&self, turn: Turn) -> Result<()> {
        processor::give_turn(self.control_plane.process().pid(), turn)
    }

    /// One gateway gets the measured core whenever it wants it. The others wake up for their timers too,
    /// and wait until it is idle: they would be on other machines. None: all are alike again.
    pub(super) fn give_turn_to(&self, first: Option<Gateway>) -> Result<()> {
        for (gateway, running) in &self.gateways {
            let turn = match first {
                None => Turn::Fair,
                Some(first) if first == *gateway => Turn::First,
                Some(_) => Turn::Last,
            };
            processor::give_turn(running.envoy.process().pid(), turn)?;
        }
        Ok(())
    }

    /// A gateway.
    pub(super) fn gateway(&self, gateway: Gateway) -> Result<&Running> {
        self.gateways.get(&gateway).context("not started")
    }
}

impl Running {
    /// Starts an Envoy with a configuration made from the ready one, on the measured core if it has
    /// one worker, or on as many as it has.
    pub(super) fn start(
        mut options: StackOptions,
        workers: u32,
        configure: impl FnOnce(&mut EdgeConfig) -> Result<()>,
    ) -> Result<Self> {
        fs::create_dir_all(&options.dir)?;
        options.gateway.set_port(free_port()?);
        options.envoy_admin_port = free_port()?;
        // Nobody goes there: every gateway answers by itself.
        let mut config = options.edge_config(&Upstream::parse("http://127.0.0.1:1")?)?;
        configure(&mut config)?;
        let envoy = EnvoyProcess::start(
            EnvoyOptions {
                binary: options.binaries.envoy.clone(),
                folder: options.dir.clone(),
                logs: options.dir.clone(),
                admin_port: options.envoy_admin_port,
                concurrency: workers,
                args: vec!["--log-level".into(), "error".into()],
            },
            &config,
        )?;
        let cores: &[usize] = if workers == 1 {
            &[processor::MEASURED]
        } else {
            &[processor::MEASURED, processor::REST]
        };
        processor::move_to(envoy.process().pid(), cores)?;
        Ok(Self { envoy, address: options.gateway })
    }

    /// How long it has run on a core.
    pub(super) fn time(&self) -> Result<Duration> {
        processor::time_of(self.envoy.process().pid())
    }

    /// How much memory it has in use, in bytes.
    pub(super) fn memory(&self) -> Result<u64> {
        processor::memory_of(self.envoy.process().pid())
    }

    /// How much of it the filter's VM on a worker has, in bytes.
    pub(super) fn vm_memory(&self) -> Result<u64> {
        processor::memory_of_vm(self.envoy.process().pid())
    }
}

/// Starts a server that stands in for a real one.
pub(super) fn stand_in(
    programs: &Programs,
    dir: &Path,
    part: &[&str],
    options: &StackOptions,
) -> Result<(ManagedProcess, SocketAddr)> {
    let address = SocketAddr::new(options.edge.ip(), free_port()?);
    let mut args = vec![address.to_string().into()];
    args.extend(part.iter().map(Into::into));
    let token = options.control_plane_env.get("KEYGATE_EDGE_TOKEN").cloned().unwrap_or_default();
    let name = format!("keygate-stand-in {}", part.join(" "));
    let log = dir.join("stand-in.log");
    let process = ManagedProcess::start(ProcessSpec {
        name: name.clone(),
        program: programs.stand_in.clone(),
        args,
        env: [("KEYGATE_EDGE_TOKEN".to_owned(), token)].into(),
        without_env: None,
        stdout: log.clone(),
        stderr: log,
    })?;
    let up = wait::until(Duration::from_secs(10), || {
        Ok(std::net::TcpStream::connect(address).ok().map(drop))
    })?;
    ensure!(up.is_some(), "{name} does not start: {}", process.log());
    Ok((process, address))
}

/// Writes a request as a browser makes it, with so many bytes of headers more.
pub(super) fn write_request(file: &Path, path: &str, more: usize) -> Result<()> {
    let mut headers = vec![
        json!(["user-agent", "Mozilla/5.0 (X11; Linux x86_64) keygate-load"]),
        json!(["accept", "application/json, text/plain, */*"]),
        json!(["accept-encoding", "gzip, deflate"]),
        json!(["accept-language", "en-GB,en;q=0.9"]),
    ];
    if more > 0 {
        headers
            .push(json!(["cookie", format!("session={}", "0123456789abcdef".repeat(more / 16))]));
    }
    let requests = json!([{"method": "GET", "path": path, "headers": headers}]);
    fs::write(file, requests.to_string())
        .with_context(|| format!("cannot write {}", file.display()))
}

/// The key with another last letter: its checksum is wrong.
fn mistyped(key: &str) -> String {
    let mut key = key.to_owned();
    let other = if key.pop() == Some('a') { 'b' } else { 'a' };
    key.push(other);
    key
}

/// Keys in order that nobody has given out.
pub(super) fn new_keys(count: usize) -> Result<Vec<String>> {
    let policy = Policy::default();
    let new = || policy.generate(Environment::Live, &mut getrandom::fill).map(|key| key.text);
    (0..count).map(|_| new().context("the system gives no random numbers")).collect()
}
