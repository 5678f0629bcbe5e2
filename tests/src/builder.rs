//! What a [`Gate`] is to be.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tempfile::TempDir;
use xtask::edge_config::{EdgeConfig, Upstream};
use xtask::stack::{ControlPlaneProcess, EnvoyEdit, EnvoyProcess, Stack, StackOptions};

use crate::{Gate, binaries, wait_for_room_in_window_of};

const DAY: u64 = 86_400;
/// What must be left of a day (UTC) when a gate begins, in seconds: longer than most tests take,
/// and those that take longer look themselves. Windows of a day end all at once.
const LEFT_OF_DAY: u64 = 120;

/// What a [`Gate`] is to be. All is as in `envoy/standalone.yaml` and as `cargo xtask up` sets it,
/// but for what is said here; two workers, one trusted hop. Three things more differ, so that a busy
/// machine is not taken for a broken one: the filter is [`patient`], hashes cost the least there
/// is, and an administrator has no limit. `tests/up.rs` has none of them.
#[must_use = "a gate is not there until it is started"]
pub struct GateBuilder {
    config: Value,
    text: Option<String>,
    env: Vec<(String, String)>,
    trusted_hops: u32,
    concurrency: u32,
    filter: Option<PathBuf>,
    keygate: Option<PathBuf>,
    envoy_args: Vec<String>,
    edits: Vec<EnvoyEdit>,
}

impl GateBuilder {
    pub(crate) fn new() -> Self {
        Self {
            config: Value::Null,
            text: None,
            env: Vec::new(),
            trusted_hops: 1,
            concurrency: 2,
            filter: None,
            keygate: None,
            envoy_args: Vec::new(),
            edits: Vec::new(),
        }
    }

    /// Changes the filter's configuration: fields that are named replace those of the try-out
    /// configuration, null takes one away (RFC 7396). Can be said more than once.
    pub fn config(mut self, changes: Value) -> Self {
        if self.config.is_null() {
            self.config = Value::Object(serde_json::Map::new());
        }
        combine(&mut self.config, changes);
        self
    }

    /// The filter's whole configuration, as text, right or wrong.
    pub fn config_text(mut self, text: &str) -> Self {
        self.text = Some(text.to_owned());
        self
    }

    /// A variable of the control plane.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Trusted proxies in front of Envoy: 1 unless said otherwise, so that a test chooses its
    /// client address with [`Request::client`](crate::http::Request::client).
    pub fn trusted_hops(mut self, hops: u32) -> Self {
        self.trusted_hops = hops;
        self
    }

    /// Envoy's workers: 2 unless said otherwise.
    pub fn concurrency(mut self, workers: u32) -> Self {
        self.concurrency = workers;
        self
    }

    /// Another module than the product's.
    pub fn filter(mut self, module: PathBuf) -> Self {
        self.filter = Some(module);
        self
    }

    /// Another program than the product's control plane.
    pub fn keygate(mut self, program: PathBuf) -> Self {
        self.keygate = Some(program);
        self
    }

    /// One more argument of Envoy.
    pub fn envoy_arg(mut self, arg: &str) -> Self {
        self.envoy_args.push(arg.to_owned());
        self
    }

    /// Changes Envoy's configuration. Can be said more than once.
    pub fn edit_envoy(
        mut self,
        edit: impl Fn(&mut EdgeConfig) -> Result<()> + Send + Sync + 'static,
    ) -> Self {
        self.edits.push(Arc::new(edit));
        self
    }

    /// Starts it; fails the test when it does not start.
    pub fn start(self) -> Gate {
        self.try_start().unwrap_or_else(|error| panic!("the gate does not start: {error:#}"))
    }

    /// Starts it.
    ///
    /// # Errors
    /// When a part does not start. For a wrong configuration the error has the filter's reason.
    pub fn try_start(self) -> Result<Gate> {
        wait_for_room_in_window_of(DAY, LEFT_OF_DAY);
        let dir = scratch()?;
        let options = self.options(&dir)?;
        let control_plane = options.control_plane();
        let keygate = control_plane.keygate();
        keygate.run(&["migrate"])?;
        let created = keygate
            .run_json(&["keys", "create", "--name", "admin", "--scope", "admin", "--json"])?;
        let admin_key = created["api_key"].as_str().context("no admin key was made")?.to_owned();
        let control_plane = ControlPlaneProcess::start(control_plane)?;
        let stack = Stack::start_before(control_plane, options)?;
        Ok(Gate::new(stack, dir, admin_key))
    }

    /// Starts Envoy alone, without a control plane or an upstream, and returns why it does not
    /// start: what the filter said, and Envoy after it. Fails the test when it does start.
    #[must_use]
    pub fn refusal_of_envoy(self) -> String {
        let dir = scratch().unwrap();
        let options = self.options(&dir).unwrap();
        let nowhere = Upstream { tls: false, host: "127.0.0.1".to_owned(), port: 9 };
        let config = options.edge_config(&nowhere).unwrap();
        match EnvoyProcess::start(options.envoy(), &config) {
            Ok(_) => panic!("Envoy starts"),
            Err(error) => format!("{error:#}"),
        }
    }

    fn options(self, dir: &TempDir) -> Result<StackOptions> {
        let mut programs = binaries();
        if let Some(filter) = self.filter {
            programs.filter = filter;
        }
        if let Some(keygate) = self.keygate {
            programs.keygate = keygate;
        }
        let mut options = StackOptions::new(dir.path(), programs)?;
        combine(&mut options.filter_config, patient());
        combine(&mut options.filter_config, self.config);
        options.trusted_hops = self.trusted_hops;
        options.concurrency = self.concurrency;
        options.envoy_args = self.envoy_args.iter().map(Into::into).collect();
        let defaults =
            [("KEYGATE_ADMIN_RATE_LIMIT", "1000000"), ("KEYGATE_PBKDF2_ITERATIONS", "1000")];
        let defaults = defaults.map(|(name, value)| (name.to_owned(), value.to_owned()));
        options.control_plane_env.extend(defaults);
        options.control_plane_env.extend(self.env);
        let (text, edits) = (self.text, self.edits);
        options.edit_envoy = Some(Arc::new(move |config| {
            if let Some(text) = &text {
                config.set_filter_configuration_text(text)?;
            }
            edits.iter().try_for_each(|edit| edit(config))
        }));
        Ok(options)
    }
}

fn scratch() -> Result<TempDir> {
    Ok(tempfile::Builder::new().prefix("keygate-e2e-").tempdir()?)
}

/// The configuration of a filter that waits ten seconds for an answer about a key.
#[must_use]
pub fn patient() -> Value {
    json!({"control_plane": {"timeout_ms": 10_000}})
}

/// The same configuration, [`patient`].
#[must_use]
pub fn patiently(configuration: &Value) -> Value {
    let mut configuration = configuration.clone();
    combine(&mut configuration, patient());
    configuration
}

/// Changes a document by another (RFC 7396), but a null document changes nothing.
pub(crate) fn combine(document: &mut Value, changes: Value) {
    match changes {
        Value::Null => {}
        Value::Object(changes) => {
            if !document.is_object() {
                *document = Value::Object(serde_json::Map::new());
            }
            let fields = document.as_object_mut().unwrap();
            for (name, change) in changes {
                if change.is_null() {
                    fields.remove(&name);
                } else if change.is_object() {
                    combine(fields.entry(name).or_insert(Value::Null), change);
                } else {
                    fields.insert(name, change);
                }
            }
        }
        other => *document = other,
    }
}
