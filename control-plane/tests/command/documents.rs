//! Commands in the documents, run as they stand there.

use std::{fs, path::Path, process::Command};

use crate::process::Keygate;

/// The blocks of a document that are for a shell.
fn blocks(document: &str) -> Vec<String> {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let text = fs::read_to_string(docs.join(document)).expect("a document");
    let mut blocks: Vec<String> = Vec::new();
    let mut within = false;
    for line in text.lines() {
        let trimmed = line.trim_start();
        if within && trimmed == "```" {
            within = false;
        } else if within {
            let block = blocks.last_mut().expect("a block");
            block.push_str(line);
            block.push('\n');
        } else if trimmed == "```sh" {
            within = true;
            blocks.push(String::new());
        }
    }
    assert!(!blocks.is_empty(), "{document} has no commands");
    blocks
}

/// Runs a block as someone would who copies it, in the folder of the command.
fn run(it: &Keygate, block: &str) {
    let program = Path::new(env!("CARGO_BIN_EXE_keygate")).parent().expect("a folder");
    let path = std::env::var("PATH").expect("a path");
    let mut shell = Command::new("sh");
    shell.args(["-euc", block]).current_dir(it.folder()).env_clear().envs(it.variables());
    let done =
        shell.env("PATH", format!("{}:{path}", program.display())).output().expect("a shell");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{block}\n{said}");
}

#[test]
fn the_secrets_of_the_setup_guide_are_such_as_production_takes() {
    let mut it = Keygate::migrated();
    let block = blocks("setup.md").into_iter().find(|it| it.contains("> secret_key")).expect("it");
    run(&it, &block);
    for (name, file) in [
        ("KEYGATE_SECRET_KEY", "secret_key"),
        ("KEYGATE_AUDIT_SIGNING_KEY", "audit_signing_key"),
        ("KEYGATE_EDGE_TOKEN", "edge_token"),
    ] {
        it.set(name, "");
        it.set_raw(
            Box::leak(format!("{name}_FILE").into_boxed_str()),
            it.folder().join(file).into(),
        );
    }
    let report = it.run(&["doctor", "--json"]).json();
    let of = |check: &str| {
        let found = report["findings"].as_array().expect("findings");
        found
            .iter()
            .filter(|it| it["check"] == check)
            .map(|it| it["status"].clone())
            .collect::<Vec<_>>()
    };
    for check in ["configuration", "secrets", "secret-files"] {
        assert_eq!(of(check), ["ok"], "{check}: {report:#}");
    }
}

#[test]
fn the_certificates_of_the_tls_guide_are_such_as_the_listeners_take() {
    let mut it = Keygate::migrated();
    let block = blocks("tls.md").into_iter().find(|it| it.contains("sign()")).expect("it");
    run(&it, &block);
    for (name, file) in [
        ("KEYGATE_EDGE_TLS_CERT_FILE", "keygate-control-plane.pem"),
        ("KEYGATE_EDGE_TLS_KEY_FILE", "keygate-control-plane.key"),
        ("KEYGATE_EDGE_TLS_CLIENT_CA_FILE", "ca.pem"),
    ] {
        it.set(name, file);
    }
    let report = it.run(&["doctor", "--json"]).json();
    let found = report["findings"].as_array().expect("findings");
    let found = found.iter().find(|it| it["check"] == "certificates").expect("a finding");
    assert_eq!(found["status"], "ok", "{found}");
}

#[test]
fn the_commands_of_the_key_issuing_procedure_work_as_they_stand_there() {
    let it = Keygate::migrated();
    let (id, _) = it.make_key(&["--owner", "acme"]);
    // The last of a key's life is its revocation, and the new one of a rotation is another key.
    for block in blocks("key-issuing.md") {
        run(&it, &block.replace("KEY_ID", &id));
    }
    let key = fs::read_to_string(it.folder().join("new.key")).expect("a key");
    assert!(key.starts_with("kg_live_"));
    assert_eq!(it.run(&["keys", "show", &id, "--json"]).json()["is_active"], false);
}
