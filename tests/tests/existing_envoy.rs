//! `docs/existing-envoy.md`, gone through with an Envoy that knew nothing of Keygate: in shadow
//! mode, live, and back.

use std::fs;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tests::{Gate, eventually, fresh_address, patiently, unknown_key};
use xtask::edge_config::EdgeConfig;
use xtask::workspace;

/// Which words the page takes out of `shadow`, step by step.
const STEPS: [&[&str]; 4] = [
    &["weak_patterns", "format", "environment", "credential"],
    &["known", "expiry", "failed_attempts"],
    &["address", "scope", "key", "address-get", "address-post"],
    &["presence"],
];

/// The block of YAML on the page: the filter.
fn filter_of_the_page() -> Value {
    let page = fs::read_to_string(workspace::root().join("docs/existing-envoy.md")).unwrap();
    let (_, block) = page.split_once("```yaml\n").unwrap();
    let (block, _) = block.split_once("```").unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), block).unwrap();
    EdgeConfig::read(file.path()).unwrap().document()[0].clone()
}

/// The filter's configuration as the page has it.
fn configuration_of_the_page() -> Value {
    let filter = filter_of_the_page();
    let text = &filter["typed_config"]["config"]["configuration"]["value"];
    serde_json::from_str(text.as_str().unwrap()).unwrap()
}

/// What the page says is put into an Envoy of its owner's own, which has a router and a service. The
/// cluster is that of `standalone.yaml`, which is there.
fn with_the_page(config: &mut EdgeConfig, configuration: &Value, disabled: bool) -> Result<()> {
    let module = config.filter_mut()?["vm_config"]["code"].take();
    let manager = config.connection_manager_mut()?;
    let list = manager["http_filters"].as_array_mut().context("no filters")?;
    list.retain(|it| it["name"] == "envoy.filters.http.router");
    assert_eq!(list.len(), 1);
    list.insert(0, filter_of_the_page());
    config.filter_mut()?["vm_config"]["code"] = module;
    config.set_filter_configuration(&patiently(configuration))?;
    if disabled {
        config.http_filter_mut("keygate")?["disabled"] = true.into();
    }
    Ok(())
}

/// A gate whose Envoy is started anew with another configuration of the page's.
struct Owner {
    gate: Gate,
    next: Arc<Mutex<(Value, bool)>>,
}

impl Owner {
    fn start() -> Self {
        let next = Arc::new(Mutex::new((configuration_of_the_page(), false)));
        let of_edit = Arc::clone(&next);
        let gate = Gate::builder()
            .edit_envoy(move |config| {
                let (configuration, disabled) = of_edit.lock().unwrap().clone();
                with_the_page(config, &configuration, disabled)
            })
            .start();
        Self { gate, next }
    }

    fn restart_with(&mut self, configuration: Value, disabled: bool) {
        *self.next.lock().unwrap() = (configuration, disabled);
        let options = self.gate.stack.options();
        let upstream = xtask::edge_config::Upstream::parse(self.gate.stack.upstream_url()).unwrap();
        let config = options.edge_config(&upstream).unwrap();
        let envoy = options.envoy();
        envoy.validate(&config).unwrap();
        self.gate.stack.envoy.restart().unwrap();
    }

    fn status(&self, key: Option<&str>) -> u16 {
        let request = self.gate.get("/").client(fresh_address());
        key.map_or(request.clone(), |key| request.key(key)).send().status
    }
}

#[test]
fn the_filter_comes_into_an_existing_envoy_goes_live_step_by_step_and_back() {
    let mut owner = Owner::start();
    let mut configuration = configuration_of_the_page();
    let good = owner.gate.admin().key_of_scope("read").text;
    let bad = unknown_key();

    // In shadow mode nobody is refused, and everything is written down.
    for key in [None, Some("nonsense"), Some(bad.as_str()), Some(good.as_str())] {
        assert_eq!(owner.status(key), 200, "{key:?}");
    }
    assert_eq!(owner.gate.post("/").client(fresh_address()).key(&good).send().status, 200);
    eventually("what would have been refused is counted", || {
        (owner.gate.stat("wasmcustom.keygate.shadow.would_refuse") >= 4).then_some(())
    });
    for event in ["MISSING_API_KEY", "INVALID_FORMAT", "INVALID_KEY", "SCOPE_DENIED"] {
        owner.gate.audited(event, |row| row["shadow"] == true);
    }
    // The service still sees the key.
    let seen = owner.gate.get("/").client(fresh_address()).key(&good).send().upstream();
    assert_eq!(seen.header("x-api-key"), [good.as_str()]);
    // What shadow mode does not soften.
    let path = owner.gate.get("/a;b/%2e%2e;c/d").client(fresh_address()).key(&good);
    path.send().assert_problem(400, "invalid_path");

    // Live, step by step: no key (from 4 on), no form (1), unknown (2), scope (3).
    for (step, words) in STEPS.iter().enumerate() {
        let shadow = configuration["shadow"].as_array_mut().unwrap();
        let before = shadow.len();
        shadow.retain(|it| !words.contains(&it.as_str().unwrap()));
        assert_eq!(shadow.len() + words.len(), before, "{words:?}");
        if step == 3 {
            configuration["credential"]["forward"] = false.into();
        }
        owner.restart_with(configuration.clone(), false);
        let refused = |from: usize| if step >= from { 403 } else { 200 };
        assert_eq!(owner.status(None), refused(3), "step {step}");
        assert_eq!(owner.status(Some("nonsense")), refused(0), "step {step}");
        assert_eq!(owner.status(Some(&bad)), refused(1), "step {step}");
        assert_eq!(owner.status(Some(&good)), 200, "step {step}");
        let post = owner.gate.post("/").client(fresh_address()).key(&good);
        assert_eq!(post.send().status, refused(2), "step {step}");
    }
    assert_eq!(configuration["shadow"], json!([]));
    let seen = owner.gate.get("/").client(fresh_address()).key(&good).send().upstream();
    assert!(seen.header("x-api-key").is_empty());

    // And back: in the shadow again, off.
    owner.restart_with(configuration_of_the_page(), false);
    assert_eq!((owner.status(None), owner.status(Some(&bad))), (200, 200));
    owner.restart_with(configuration.clone(), true);
    assert_eq!((owner.status(None), owner.status(Some("nonsense"))), (200, 200));
}
