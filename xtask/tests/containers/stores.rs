//! The stores of `docker-compose.yml`, started as it starts them.

use std::fs;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;
use xtask::process::{self, Captured, ManagedProcess, ProcessSpec};
use xtask::servers::postgres::{PostgresOptions, PostgresServer};
use xtask::stack::free_port;
use xtask::{install, wait, workspace};

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

/// `psql` as a user with a password, at a server.
fn psql(server: &PostgresServer, user: &str, password: &str, words: &[&str]) -> Captured {
    let mut command = Command::new(install::program("psql", "postgresql-client").unwrap());
    command.args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-h", "127.0.0.1"]);
    command.args(["-p", &server.port().to_string(), "-U", user]).args(words);
    command.env("PGPASSWORD", password).env("KEYGATE_DATABASE_PASSWORD", PASSWORD);
    process::captured(command).unwrap()
}

#[test]
fn the_control_planes_role_owns_its_database_and_nothing_else() {
    const SUPER: &str = "8f6d1f0e5c2b4a7d9e3c1b0a6f5e4d3c";
    let options =
        PostgresOptions { password: Some(SUPER.to_owned()), ..PostgresOptions::default() };
    let server = PostgresServer::start(options).unwrap();
    let file = workspace::root().join("ops/postgres/init.sql");
    let file = file.to_str().unwrap();
    let made = psql(&server, "postgres", SUPER, &["-d", "postgres", "-f", file]);
    assert!(made.status.success(), "{}", made.errors);
    let rights = "SELECT rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls
                  FROM pg_roles WHERE rolname = current_user";
    let said = psql(&server, "keygate", PASSWORD, &["-d", "keygate", "-c", rights]);
    assert_eq!(said.output.trim(), "f|f|f|f|f", "{}", said.errors);
    let create = psql(&server, "keygate", PASSWORD, &["-d", "keygate", "-c", "CREATE TABLE t ()"]);
    assert!(create.status.success(), "{}", create.errors);
    for (user, password, database) in
        [("keygate", "another", "keygate"), ("keygate", "", "keygate")]
    {
        let said = psql(&server, user, password, &["-d", database, "-c", "SELECT 1"]);
        assert!(!said.status.success(), "{user} with {password:?}: {}", said.output);
    }
}
