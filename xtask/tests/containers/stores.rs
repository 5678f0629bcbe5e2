//! The stores of `docker-compose.yml`, started as it starts them.

use std::fs;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;
use xtask::process::{self, Captured, ManagedProcess, ProcessSpec};
use xtask::stack::free_port;
use xtask::{install, wait};

use crate::compose::composed;

const PASSWORD: &str = "2b7e151628aed2a6abf7158809cf4f3c";

fn redis_cli(port: u16, password: &str, words: &[&str]) -> Captured {
    let mut command = Command::new(install::program("redis-cli", "redis-tools").unwrap());
    command.args(["-p", &port.to_string()]).args(words);
    if !password.is_empty() {
        command.env("REDISCLI_AUTH", password);
    }
    process::captured(command).unwrap()
}

#[test]
fn redis_asks_for_its_password_shows_it_nowhere_and_evicts_nothing() {
    install::program("redis-server", "redis-server").unwrap();
    let composed = composed();
    let command = composed["services"]["redis"]["command"].as_array().unwrap();
    let words: Vec<_> = command.iter().map(|word| word.as_str().unwrap()).collect();
    assert_eq!(words[..2], ["sh", "-c"]);
    let port = free_port().unwrap();
    // Compose's own escape; and a port and a folder of the test's.
    let script = words[2]
        .replace("$$", "$")
        .replace("redis-server -", &format!("redis-server --port {port} --bind 127.0.0.1 -"));
    let folder = TempDir::new().unwrap();
    let log = folder.path().join("redis.log");
    let server = ManagedProcess::start(ProcessSpec {
        name: "Redis".to_owned(),
        program: "sh".into(),
        args: vec!["-c".into(), script.into()],
        env: [("REDIS_PASSWORD".to_owned(), PASSWORD.to_owned())].into(),
        without_env: None,
        stdout: log.clone(),
        stderr: log.clone(),
    })
    .unwrap();
    let up = wait::until(Duration::from_secs(20), || {
        Ok(redis_cli(port, PASSWORD, &["ping"]).output.contains("PONG").then_some(()))
    });
    up.unwrap().unwrap_or_else(|| panic!("{}", fs::read_to_string(&log).unwrap()));
    for wrong in ["", "another"] {
        assert!(!redis_cli(port, wrong, &["ping"]).output.contains("PONG"));
    }
    let policy = redis_cli(port, PASSWORD, &["config", "get", "maxmemory-policy"]).output;
    assert!(policy.contains("noeviction"), "{policy}");
    // The shell has become the server, so that a signal reaches it.
    let line = fs::read(format!("/proc/{}/cmdline", server.pid())).unwrap();
    let line = String::from_utf8_lossy(&line);
    assert!(line.starts_with("redis-server"), "{line}");
    assert!(!line.contains(PASSWORD), "{line}");
    assert!(!fs::read_to_string(&log).unwrap().contains(PASSWORD));
}
