//! `keygate doctor`, on deployments that are well and on ones that are not.

use crate::process::{Keygate, Said};

/// How a check turned out, the worst if it found several things.
fn status(said: &Said, check: &str) -> String {
    let report = said.json();
    let findings = report["findings"].as_array().expect("findings");
    let of = findings.iter().filter(|it| it["check"] == check);
    let order = ["skipped", "ok", "warning", "failed"];
    let of = of.map(|it| it["status"].as_str().expect("a status"));
    let worst = of.max_by_key(|it| order.iter().position(|status| status == it));
    worst.unwrap_or_else(|| panic!("no {check} in {report}")).to_owned()
}

#[test]
fn a_deployment_that_is_well_is_said_to_be_and_looking_changes_nothing() {
    let mut it = Keygate::migrated();
    it.set("KEYGATE_EDGE_TOKEN", "b1946ac92492d2347c6235b4d2611184");
    it.make_key(&["--scope", "admin"]);
    let service = it.serve(&[]);
    it.set("KEYGATE_LISTEN", &service.admin);
    let before = it.run(&["audit", "list", "--json"]).json();
    let said = it.run(&["doctor", "--json"]);
    assert_eq!(said.code, 0, "{said:?}");
    for check in ["configuration", "secrets", "database", "secret-key", "admin-keys", "audit-log"] {
        assert_eq!(status(&said, check), "ok", "{check}: {said:?}");
    }
    for check in ["service", "clock"] {
        assert_eq!(status(&said, check), "ok", "{check}: {said:?}");
    }
    assert_eq!(status(&said, "envoy"), "skipped");
    assert_eq!(it.run(&["audit", "list", "--json"]).json(), before);
}

#[test]
fn a_database_that_is_not_there_is_a_failure_and_is_not_made_by_looking() {
    let it = Keygate::new();
    let said = it.run(&["doctor", "--json"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert_eq!(status(&said, "database"), "failed");
    assert_eq!(status(&said, "secret-key"), "skipped");
    assert!(!it.folder().join("keygate.db").exists());
    let told = it.run(&["doctor"]);
    assert!(told.output.contains("-> keygate migrate"), "{told:?}");
}

#[test]
fn settings_that_cannot_be_read_are_told_like_everything_else() {
    let mut it = Keygate::migrated();
    it.set("KEYGATE_ENVIRONMENT", "prod");
    let said = it.run(&["doctor", "--json"]);
    assert_eq!(said.code, 1, "{said:?}");
    assert_eq!(status(&said, "configuration"), "failed");
    assert!(said.output.contains("KEYGATE_ENVIRONMENT"), "{said:?}");
}

#[test]
fn the_secret_key_of_another_deployment_is_found() {
    let mut it = Keygate::migrated();
    it.make_key(&["--scope", "admin"]);
    let other = "9f9a1c77e0d25b8846f1029c6be87d145aa3c2e9178f604db35e7891f2ac0d66";
    it.set("KEYGATE_SECRET_KEY", other);
    let said = it.run(&["doctor", "--json"]);
    assert_eq!((said.code, status(&said, "secret-key").as_str()), (1, "failed"), "{said:?}");
    assert!(!said.output.contains(other));
}

#[test]
fn warnings_end_with_0_unless_asked_to_be_strict() {
    let mut it = Keygate::migrated();
    it.make_key(&["--scope", "admin"]);
    // Nothing serves, which is a warning.
    it.set("KEYGATE_LISTEN", "127.0.0.1:9");
    let said = it.run(&["doctor", "--json"]);
    assert_eq!((said.code, status(&said, "service").as_str()), (0, "warning"), "{said:?}");
    assert_eq!(it.run(&["doctor", "--strict"]).code, 1);
}

#[test]
fn a_service_that_is_another_program_is_a_failure() {
    let mut it = Keygate::migrated();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    it.set("KEYGATE_LISTEN", &listener.local_addr().expect("an address").to_string());
    std::thread::spawn(move || {
        use std::io::{Read, Write};
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let _ = stream.read(&mut [0; 512]);
            let _ = stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nhello");
        }
    });
    let said = it.run(&["doctor", "--json"]);
    assert_eq!(status(&said, "service"), "failed", "{said:?}");
}
