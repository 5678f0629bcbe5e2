//! Envoy as `docker-compose.yml` runs it: `envoy/compose.yaml`, and the credential from a variable.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;
use tests::http::Request;
use tests::{Gate, binaries, eventually};
use xtask::edge_config::EdgeConfig;
use xtask::process::{ManagedProcess, ProcessSpec};
use xtask::stack::free_port;
use xtask::{probe, workspace};

/// A second Envoy beside the gate's own, at the same control plane.
struct Container {
    _envoy: ManagedProcess,
    _folder: TempDir,
    gateway: SocketAddr,
    watch: SocketAddr,
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// The file with the ports and paths of a test in the place of the container's.
fn configuration(gate: &Gate, folder: &TempDir, ports: &BTreeMap<&str, u16>) -> EdgeConfig {
    let mut config = EdgeConfig::read(&workspace::root().join("envoy/compose.yaml")).unwrap();
    let credential = workspace::root().join("envoy/keygate_edge_token_from_env.yaml");
    fs::copy(credential, folder.path().join("token.yaml")).unwrap();
    config.set_credential_file(&folder.path().join("token.yaml")).unwrap();
    config.set_filter_module(&binaries().filter).unwrap();
    config.set_admin_port(ports["admin"]).unwrap();
    let edge = gate.stack.options().edge;
    config.set_control_plane("127.0.0.1", edge.port()).unwrap();
    let endpoint = "/load_assignment/endpoints/0/lb_endpoints/0/endpoint/address/socket_address";
    for (cluster, port) in [("envoy_admin", ports["admin"]), ("upstream", ports["demo"])] {
        let cluster = config.cluster_mut(cluster).unwrap();
        cluster.pointer_mut(endpoint).unwrap()["port_value"] = port.into();
    }
    let listeners = &mut config.document_mut()["static_resources"]["listeners"];
    for listener in listeners.as_array_mut().unwrap() {
        let name = listener["name"].as_str().unwrap().to_owned();
        let address = &mut listener["address"]["socket_address"];
        address["address"] = "127.0.0.1".into();
        address["port_value"] = ports[name.as_str()].into();
    }
    config
}

impl Container {
    fn start(gate: &Gate) -> Self {
        let folder = TempDir::new().unwrap();
        let names = ["gateway", "watch", "demo", "admin"];
        let ports: BTreeMap<_, _> =
            names.into_iter().map(|name| (name, free_port().unwrap())).collect();
        let file = folder.path().join("envoy.json");
        let config = configuration(gate, &folder, &ports);
        fs::write(&file, config.document().to_string()).unwrap();
        let token = gate.stack.options().control_plane_env["KEYGATE_EDGE_TOKEN"].clone();
        let log = folder.path().join("envoy.log");
        let envoy = ManagedProcess::start(ProcessSpec {
            name: "Envoy".to_owned(),
            program: binaries().envoy,
            args: ["--config-path".into(), file.into(), "--disable-hot-restart".into()].into(),
            env: [("KEYGATE_EDGE_TOKEN".to_owned(), token)].into(),
            without_env: None,
            stdout: log.clone(),
            stderr: log,
        })
        .unwrap();
        let watch = local(ports["watch"]);
        eventually("the second Envoy serves", || {
            probe::get(watch, "/ready").ok().filter(|it| it.status == 200)
        });
        Self { _envoy: envoy, _folder: folder, gateway: local(ports["gateway"]), watch }
    }
}

#[test]
fn envoy_in_a_container_takes_its_credential_from_a_variable_and_says_who_called() {
    let gate = Gate::start();
    let key = gate.admin().key_of_scope("read");
    let container = Container::start(&gate);
    let answer = eventually("a key is known", || {
        let answer = Request::new(container.gateway, "GET", "/a").key(&key).send();
        (answer.status == 200).then_some(answer)
    });
    let said: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!((&said["key_id"], &said["scope"]), (&key.id.as_str().into(), &"read".into()));
    assert_eq!(Request::new(container.gateway, "GET", "/").send().status, 403);
}

#[test]
fn others_may_read_envoys_statistics_and_do_nothing_else_to_it() {
    let gate = Gate::start();
    let container = Container::start(&gate);
    let stats = probe::get(container.watch, "/stats/prometheus").unwrap();
    assert_eq!(stats.status, 200);
    assert!(
        stats.body.contains("envoy_server_live 1") || stats.body.contains("envoy_server_live{} 1")
    );
    for path in ["/", "/quitquitquit", "/config_dump", "/stats", "/ready/../quitquitquit"] {
        assert_eq!(probe::get(container.watch, path).unwrap().status, 404, "{path}");
    }
    assert_eq!(Request::new(container.watch, "POST", "/ready").send().status, 404);
}

/// The `HEALTHCHECK` of the image, whose words are a JSON list.
fn health_check() -> Vec<String> {
    let text = fs::read_to_string(workspace::root().join("Dockerfile")).unwrap();
    let (_, stage) = text.split_once(" AS envoy\n").unwrap();
    let (_, check) = stage.split_once("CMD [").unwrap();
    let check = check.lines().next().unwrap();
    serde_json::from_str(&format!("[{check}")).unwrap()
}

#[test]
fn the_images_health_check_tells_an_envoy_that_serves_from_one_that_is_not_there() {
    let gate = Gate::start();
    let container = Container::start(&gate);
    let run = |port: u16| {
        let words: Vec<_> =
            health_check().iter().map(|it| it.replace("9902", &port.to_string())).collect();
        Command::new(&words[0]).args(&words[1..]).output().unwrap().status.success()
    };
    assert!(run(container.watch.port()));
    assert!(!run(free_port().unwrap()));
}
