//! `docker-compose.yml`, as Debian's `docker-compose config` reads it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use serde_json::{Map, Value};
use tempfile::TempDir;
use xtask::edge_config::EdgeConfig;
use xtask::process::Captured;
use xtask::{install, process, workspace};

/// Runs `ops/compose/make-env` for a file.
fn make_env(file: &Path) -> Captured {
    let mut command = Command::new(workspace::root().join("ops/compose/make-env"));
    command.arg(file);
    process::captured(command).unwrap()
}

/// What `docker-compose config` says with these variables.
fn config_with(variables: &str) -> Captured {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("env");
    fs::write(&file, variables).unwrap();
    let mut command = Command::new(install::program("docker-compose", "docker-compose").unwrap());
    let path = std::env::var_os("PATH").unwrap_or_default();
    // The caller's own KEYGATE_* variables would win over the file's.
    command.env_clear().env("PATH", path).arg("--env-file").arg(&file);
    command
        .args(["--profile", "grafana", "--profile", "tools", "config"])
        .current_dir(workspace::root());
    process::captured(command).unwrap()
}

fn drawn() -> String {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("env");
    assert!(make_env(&file).status.success());
    fs::read_to_string(file).unwrap()
}

/// The file with everything put in, as it would be started.
pub(crate) fn composed() -> Value {
    let said = config_with(&drawn());
    assert!(said.status.success(), "{}", said.errors);
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("compose.yaml");
    fs::write(&file, said.output).unwrap();
    EdgeConfig::read(&file).unwrap().document().clone()
}

fn services(composed: &Value) -> &Map<String, Value> {
    composed["services"].as_object().unwrap()
}

fn texts(list: &Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

#[test]
fn without_any_one_of_its_secrets_nothing_starts_and_the_message_names_it() {
    let all = drawn();
    let names: Vec<_> = all.lines().map(|line| line.split('=').next().unwrap()).collect();
    assert_eq!(names.len(), 7, "{names:?}");
    for missing in names {
        let line = |line: &&str| !line.starts_with(&format!("{missing}="));
        let rest: Vec<_> = all.lines().filter(line).collect();
        let rest = rest.join("\n") + "\n";
        // An empty one is no better than none.
        for variables in [rest.clone(), format!("{rest}{missing}=\n")] {
            let said = config_with(&variables);
            assert!(!said.status.success(), "{missing}: {}", said.output);
            assert!(said.errors.contains(missing), "{missing}: {}", said.errors);
            assert!(said.errors.contains("ops/compose/make-env"), "{}", said.errors);
        }
    }
}

#[test]
fn the_secrets_are_drawn_by_lot_are_nobody_elses_to_read_and_are_never_overwritten() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("env");
    assert!(make_env(&file).status.success());
    let first = fs::read_to_string(&file).unwrap();
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let again = make_env(&file);
    assert!(!again.status.success());
    assert!(again.errors.contains("nothing was written"), "{}", again.errors);
    assert_eq!(fs::read_to_string(&file).unwrap(), first);
    let both = first + &drawn();
    let mut values: Vec<_> = both.lines().map(|line| line.split('=').nth(1).unwrap()).collect();
    assert!(values.iter().all(|it| it.len() == 64 && it.bytes().all(|b| b.is_ascii_hexdigit())));
    values.sort_unstable();
    values.dedup();
    assert_eq!(values.len(), 14, "the same secret twice");
}

#[test]
fn no_secret_is_written_in_the_file_itself() {
    let text = fs::read_to_string(workspace::root().join("docker-compose.yml")).unwrap();
    for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
        let Some((name, value)) = line.trim().split_once(": ") else { continue };
        let is_secret = ["PASSWORD", "SECRET", "TOKEN"].iter().any(|word| name.contains(word));
        // What may be left out stands for nothing then.
        let optional = value.ends_with("-}\"") && !value.contains(":-");
        assert!(!is_secret || value.contains(":?") || optional, "{line}");
        assert!(!value.contains(":-") || !is_secret, "a default: {line}");
    }
}

#[test]
fn every_container_is_without_privileges_and_within_bounds() {
    let composed = composed();
    for (name, service) in services(&composed) {
        assert_eq!(service["read_only"], true, "{name}");
        assert_eq!(texts(&service["cap_drop"]), ["ALL"], "{name}");
        assert_eq!(service.get("cap_add"), None, "{name}");
        assert_eq!(service.get("privileged"), None, "{name}");
        assert_eq!(service.get("network_mode"), None, "{name}");
        assert!(texts(&service["security_opt"]).contains(&"no-new-privileges:true"), "{name}");
        assert!(service["mem_limit"].is_string() && service["pids_limit"].is_u64(), "{name}");
        // Our own images have their user in the Dockerfile.
        let user = service["user"].as_str().unwrap_or_default();
        let own = service.get("build").is_some();
        assert!(own || user.starts_with(|c: char| ('1'..='9').contains(&c)), "{name}: {user:?}");
        let image = service["image"].as_str().unwrap();
        let tag = image.rsplit_once(':').map(|(_, tag)| tag).unwrap();
        assert!(own || tag.starts_with(|c: char| c.is_ascii_digit() || c == 'v'), "{image}");
        assert!(own || service["healthcheck"]["test"].is_array(), "{name} has no health check");
    }
}

#[test]
fn nothing_is_reachable_from_other_machines_until_that_is_asked_for() {
    let open = format!("{}KEYGATE_GATEWAY_BIND=0.0.0.0\n", drawn());
    let shut = composed();
    for (name, service) in services(&shut) {
        for port in texts(&service["ports"]) {
            assert!(port.starts_with("127.0.0.1:"), "{name}: {port}");
        }
    }
    let open = config_with(&open).output;
    assert_eq!(open.matches("0.0.0.0:10000").count(), 1, "{open}");
}

#[test]
fn each_part_is_only_in_the_networks_that_it_needs() {
    let composed = composed();
    let networks = |service: &str| {
        let of = composed["services"][service]["networks"].as_object().unwrap();
        of.keys().map(String::as_str).collect::<Vec<_>>()
    };
    // Keys are sorted.
    assert_eq!(networks("envoy"), ["filters", "front", "watch"]);
    assert_eq!(networks("control-plane"), ["data", "filters", "watch"]);
    for store in ["postgres", "redis", "migrate", "tools"] {
        assert_eq!(networks(store), ["data"], "{store}");
    }
    for watcher in ["prometheus", "grafana"] {
        assert_eq!(networks(watcher), ["watch"], "{watcher}");
    }
    for inner in ["data", "filters"] {
        assert_eq!(composed["networks"][inner]["internal"], true, "{inner}");
    }
}

#[test]
fn the_service_starts_after_its_database_has_been_migrated() {
    let composed = composed();
    let condition = |service: &str, on: &str| {
        composed["services"][service]["depends_on"][on]["condition"].as_str().unwrap().to_owned()
    };
    assert_eq!(condition("migrate", "postgres"), "service_healthy");
    assert_eq!(condition("control-plane", "migrate"), "service_completed_successfully");
    assert_eq!(condition("control-plane", "redis"), "service_healthy");
    assert_eq!(condition("envoy", "control-plane"), "service_healthy");
}

#[test]
fn prometheus_watches_parts_that_there_are_and_finds_its_rules() {
    let folder = workspace::root().join("ops/prometheus");
    let scraped = EdgeConfig::read(&folder.join("prometheus.yml")).unwrap().document().clone();
    let composed = composed();
    let mut targets = Vec::new();
    for job in scraped["scrape_configs"].as_array().unwrap() {
        for list in job["static_configs"].as_array().unwrap() {
            targets.extend(texts(&list["targets"]));
        }
    }
    for service in ["control-plane:8080", "envoy:9902"] {
        assert!(targets.contains(&service), "{service} is not in {targets:?}");
        let (name, _) = service.split_once(':').unwrap();
        assert!(services(&composed).contains_key(name));
    }
    for rules in texts(&scraped["rule_files"]) {
        let rules = rules.rsplit('/').next().unwrap();
        assert!(folder.join(rules).is_file(), "there is no {rules}");
    }
    let mounts = texts(&composed["services"]["prometheus"]["volumes"]);
    assert!(
        mounts.iter().any(|it| it.ends_with("/ops/prometheus:/etc/prometheus:ro")),
        "{mounts:?}"
    );
}
