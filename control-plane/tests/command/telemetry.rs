//! Traces and reports, against servers that take them, and against nobody.

use std::time::{Duration, Instant};

use crate::{
    process::{KEY, Keygate, Service, TOKEN, http},
    receiver::Collector,
};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

fn verify(service: &Service, key: &str, headers: &str) {
    let headers = format!("authorization: Bearer {TOKEN}\r\n{headers}");
    let body = serde_json::json!({"key": key}).to_string();
    assert_eq!(http(&service.edge, "POST", "/edge/v1/verify", &headers, &body).0, 200);
}

/// An address where nobody listens.
fn nobody() -> String {
    format!("127.0.0.1:{}", xtask::stack::free_port().expect("a port"))
}

#[test]
fn a_trace_that_envoy_began_goes_on_here_and_holds_no_secret() {
    let collector = Collector::start();
    let mut it = Keygate::migrated();
    it.set("KEYGATE_OTLP_ENDPOINT", &format!("http://{}", collector.address));
    // Nothing of our own accord: what is sent is sent because the caller's trace is kept.
    it.set("KEYGATE_OTLP_SAMPLE_RATIO", "0");
    let (_, key) = it.make_key(&[]);
    let mut service = it.serve(&[]);
    verify(&service, &key, "");
    verify(&service, &key, &format!("traceparent: 00-{TRACE}-{PARENT}-01\r\n"));

    let names = ["POST /edge/v1/verify", "verify", "database look-up", "hash"];
    let posted = collector.until(|all| {
        // The second look finds the key in memory: it is not hashed again.
        names.iter().take(3).all(|name| all.iter().any(|it| it.has(name.as_bytes())))
    });
    for it in &posted {
        assert_eq!(it.path, "/v1/traces");
        for secret in [key.as_str(), &key[25..], TOKEN, KEY] {
            assert!(!it.has(secret.as_bytes()));
        }
    }
    for id in [TRACE, PARENT] {
        assert!(posted.iter().any(|it| it.has(&bytes(id))), "{id} is not in what was sent");
    }
    assert!(posted.iter().any(|it| it.has(b"remembered") && it.has(b"keygate")));
    // One trace, of which the caller's span is the root: nothing else was kept.
    let spans: usize = posted
        .iter()
        .map(|it| it.body.windows(16).filter(|window| *window == bytes(TRACE)).count())
        .sum();
    assert_eq!(spans, 3);

    // They are counted once the collector has answered.
    service.wait_for_metric(r#"keygate_trace_spans_total{outcome="sent"} 3"#);
    // What is still in the queue leaves before the process ends.
    let last = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa1";
    verify(&service, &key, &format!("traceparent: 00-{last}-{PARENT}-01\r\n"));
    service.signal("TERM");
    assert_eq!(service.end(), Some(0), "{}", service.log());
    collector.until(|all| all.iter().any(|it| it.has(&bytes(last))));
}

#[test]
fn without_a_collector_the_service_serves_and_ends_as_ever() {
    let mut it = Keygate::migrated();
    it.set("KEYGATE_OTLP_ENDPOINT", &format!("http://{}", nobody()));
    it.set("KEYGATE_OTLP_SAMPLE_RATIO", "1");
    it.set("KEYGATE_SENTRY_DSN", &format!("http://public@{}/1", nobody()));
    let (_, key) = it.make_key(&[]);
    let mut service = it.serve(&[]);
    verify(&service, &key, "");
    service.wait_for_metric(r#"keygate_trace_spans_total{outcome="lost"}"#);
    verify(&service, &key, "");
    let started = Instant::now();
    service.signal("TERM");
    assert_eq!(service.end(), Some(0), "{}", service.log());
    assert!(started.elapsed() < Duration::from_secs(8));
}

#[test]
fn an_error_is_reported_and_says_where_and_in_which_version() {
    let collector = Collector::start();
    let mut it = Keygate::migrated();
    let file = it.folder().join("dsn");
    let dsn = format!("http://public@{}/42\n", collector.address);
    std::fs::write(&file, dsn).expect("written");
    it.set("KEYGATE_SENTRY_DSN_FILE", file.to_str().expect("text"));
    it.set("KEYGATE_EDGE_TOKEN", "");
    let mut service = it.serve(&[]);
    // That no filter is let in is an error, and the first thing to report.
    let report = collector.next();
    assert_eq!(report.path, "/api/42/envelope/");
    for part in ["KEYGATE_EDGE_TOKEN is not set", "production", "keygate@"] {
        assert!(report.has(part.as_bytes()), "{part}: {}", String::from_utf8_lossy(&report.body));
    }
    assert!(!report.has(KEY.as_bytes()));
    service.signal("TERM");
    assert_eq!(service.end(), Some(0), "{}", service.log());
}

#[test]
fn settings_that_cannot_be_used_are_named_and_a_secret_is_not_shown() {
    for (setting, value) in [
        ("KEYGATE_OTLP_ENDPOINT", "collector:4318"),
        ("KEYGATE_OTLP_SAMPLE_RATIO", "1.5"),
        ("KEYGATE_SENTRY_DSN", "https://s3cret.example"),
    ] {
        let mut it = Keygate::migrated();
        it.set(setting, value);
        let refused = it.run(&["serve"]);
        assert_eq!(refused.code, 2, "{refused:?}");
        assert!(refused.errors.contains(setting), "{refused:?}");
        assert!(!refused.errors.contains("s3cret"), "{refused:?}");
    }
}
