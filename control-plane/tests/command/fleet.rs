//! Several control planes on one `PostgreSQL`: one deployment.

use std::{
    thread,
    time::{Duration, Instant},
};
use xtask::servers::postgres::{PostgresOptions, PostgresServer};

use crate::{
    process::{Keygate, Service, http},
    service::{admin, edge, verify},
};

/// Far more than is needed, on a machine that does other things too.
const PATIENCE: Duration = Duration::from_mins(1);

/// A server whose password must be shown, and one control plane's settings on a database of it.
fn server() -> (PostgresServer, String) {
    let options = PostgresOptions { password: Some("hush-hush".to_owned()), ..Default::default() };
    let server = PostgresServer::start(options).expect("PostgreSQL");
    let url = server.create_database("keygate").expect("a database");
    (server, url)
}

fn control_plane(url: &str) -> Keygate {
    let mut it = Keygate::new();
    let file = it.folder().join("database-url");
    std::fs::write(&file, url).expect("written");
    it.unset("KEYGATE_DATABASE_URL");
    it.set("KEYGATE_DATABASE_URL_FILE", file.to_str().expect("text"));
    it
}

fn health(service: &Service) -> serde_json::Value {
    let body = http(&service.admin, "GET", "/health", "", "").1;
    serde_json::from_str(&body).expect("JSON")
}

#[test]
fn what_one_control_plane_does_the_other_knows() {
    let (_server, url) = server();
    let (one, other) = (control_plane(&url), control_plane(&url));
    let migrated = one.run(&["migrate"]);
    assert_eq!(migrated.code, 0, "{migrated:?}");
    assert!(!migrated.output.contains("hush"), "{migrated:?}");
    let (_, root) = one.make_key(&["--scope", "admin"]);
    let (ours, theirs) = (one.serve(&[]), other.serve(&[]));

    let path = "/api/v1/admin/api-keys/";
    let (status, made) = admin(&ours, "POST", path, &root, r#"{"name":"b"}"#);
    assert_eq!(status, 201, "{made}");
    let (id, key) =
        (made["key_id"].as_str().expect("text"), made["api_key"].as_str().expect("text"));
    assert_eq!(verify(&theirs, key)["record"]["is_active"], true);

    let position = &edge(&theirs, "GET", "/edge/v1/changes", "").1["position"];
    let (epoch, since) = (position["epoch"].as_str().expect("text"), &position["sequence"]);
    let poll = format!("/edge/v1/changes?epoch={epoch}&since={since}&wait_ms=15000");
    thread::scope(|scope| {
        let waiting = scope.spawn(|| (edge(&theirs, "GET", &poll, "").1, Instant::now()));
        thread::sleep(Duration::from_millis(200));
        let begun = Instant::now();
        assert_eq!(admin(&ours, "DELETE", &format!("{path}{id}"), &root, "").0, 200);
        let (answer, told) = waiting.join().expect("no panic");
        assert_eq!(answer["changes"][0]["key_id"], id);
        println!("from the call to the other's filter: {} ms", (told - begun).as_millis());
        assert!(told - begun < Duration::from_secs(5), "as late as a filter that asks again");
    });
    assert_eq!(verify(&theirs, key)["record"]["is_active"], false);
    // Both wrote, into one chain.
    let verified = other.run(&["audit", "verify"]);
    assert_eq!(verified.code, 0, "{verified:?}");
    for log in [ours.log(), theirs.log()] {
        assert!(!log.contains("hush"), "{log}");
    }
}

#[test]
fn without_its_database_it_says_so_and_goes_on_when_that_is_back() {
    let (mut server, url) = server();
    let it = control_plane(&url);
    assert_eq!(it.run(&["migrate"]).code, 0);
    let (_, key) = it.make_key(&[]);
    let service = it.serve(&[]);
    verify(&service, &key);
    assert_eq!(health(&service)["status"], "healthy");

    server.stop().expect("stopped");
    let body = serde_json::json!({"key": key}).to_string();
    let begun = Instant::now();
    let (status, answer) = edge(&service, "POST", "/edge/v1/verify", &body);
    // In the second that a filter waits, so that it hears the reason and not only silence.
    assert_eq!((status, &answer["code"]), (503, &"database_unavailable".into()), "{answer}");
    let took = begun.elapsed();
    println!("refused after {} ms", took.as_millis());
    // Room for a busy machine; without the bound it would be the pool's own half a minute.
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!(health(&service)["database"], "disconnected");
    assert_eq!(http(&service.admin, "GET", "/livez", "", "").0, 200);

    server.start_again().expect("started");
    let begun = Instant::now();
    let wait_for = |field: &str, value: &str| {
        while health(&service)[field] != value {
            assert!(begun.elapsed() < PATIENCE, "{}", service.log());
            thread::sleep(Duration::from_millis(20));
        }
        println!("{value} after {} ms", begun.elapsed().as_millis());
    };
    wait_for("database", "connected");
    assert_eq!(verify(&service, &key)["verdict"], "known");
    // With the next write that succeeds: at the latest when it is looked for jobs.
    wait_for("status", "healthy");
}
