//! One id names a request in every log, and one name a metric on every page.

use serde_json::{Value, json};
use tests::{Gate, Key, eventually, fresh_address, unknown_key};

fn gate() -> Gate {
    Gate::builder()
        .env("KEYGATE_LOG_FORMAT", "json")
        // Envoy keeps the lines of its access log together for ten seconds otherwise.
        .envoy_arg("--file-flush-interval-msec")
        .envoy_arg("50")
        .start()
}

/// The id of the request for that path, as Envoy's access log has it.
fn id_of(gate: &Gate, path: &str) -> String {
    let file = gate.dir().join("logs/envoy-access.log");
    eventually(&format!("{path} in the access log"), || {
        let log = std::fs::read_to_string(&file).ok()?;
        let mut lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let line = lines.find(|line| line["path"] == path)?;
        Some(line["request_id"].as_str().expect("an id").to_owned())
    })
}

/// The line of the control plane's log about the request of that id.
fn line_of(gate: &Gate, id: &str) -> Value {
    eventually(&format!("{id} in the control plane's log"), || {
        let log = gate.control_plane_log();
        let mut lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.find(|line| line["message"] == "request" && line["span"]["id"] == id)
    })
}

#[test]
fn envoy_the_filter_and_the_control_plane_log_a_request_under_one_id() {
    let gate = gate();
    let key = gate.admin().key_of_scope("read");

    let seen = gate.get("/first").key(&key).client(fresh_address()).send().upstream();
    let first = id_of(&gate, "/first");
    let line = line_of(&gate, &first);
    assert_eq!(
        (&line["route"], &line["status"]),
        (&"/edge/v1/verify".into(), &200.into()),
        "{line}"
    );
    assert_eq!(seen.header("x-request-id"), [first.as_str()]);
    // The first use of a key is an event, and its line is about that request.
    gate.logged(&["API_KEY_SECURITY_EVENT: VALID_API_KEY", &format!("request_id={first}")]);

    // Decided inside Envoy, after asking and before.
    gate.get("/unknown").key(unknown_key()).client(fresh_address()).send();
    let unknown = id_of(&gate, "/unknown");
    line_of(&gate, &unknown);
    gate.logged(&["API_KEY_SECURITY_EVENT: INVALID_KEY", &format!("request_id={unknown}")]);
    gate.get("/without").client(fresh_address()).send();
    let without = id_of(&gate, "/without");
    gate.logged(&["API_KEY_SECURITY_EVENT: MISSING_API_KEY", &format!("request_id={without}")]);

    // What is known is not asked about again, once the worker follows the changes, and what is not
    // asked about is in no log but Envoy's.
    let mut connection = gate.connect_to_worker(0);
    let mut number = 0;
    eventually("a known key is decided on inside Envoy", || {
        number += 1;
        let path = format!("/warm-{number}");
        gate.get(&path).key(&key).send_on(&mut connection);
        (!gate.control_plane_log().contains(&id_of(&gate, &path))).then_some(())
    });
}

#[test]
fn the_filters_counters_are_on_envoys_page_for_prometheus_under_the_names_that_are_documented() {
    let gate = gate();
    let key: Key = gate.admin().key_of_scope("read");
    gate.get("/").key(&key).client(fresh_address()).send().upstream();
    gate.get("/").client(fresh_address()).send().assert_problem(403, "missing_api_key");
    let page = include_str!("../../docs/metrics.md");
    let documented: Vec<_> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `keygate.")?.split('`').nth(2))
        .collect();
    assert!(documented.len() > 10, "{documented:?}");
    eventually("the filter's counters", || {
        let shown = gate.stack.envoy.admin_get("/stats/prometheus").expect("statistics").body;
        let is_there = |name: &&str| shown.contains(&format!("# TYPE {name} counter"));
        let counted = shown.lines().any(|line| line.starts_with("keygate_allowed{} 1"));
        (counted && documented.iter().all(is_there)).then_some(())
    });
}

#[test]
fn a_trace_that_envoy_is_part_of_reaches_the_control_plane() {
    let gate = Gate::builder().config(json!({"limits": []})).start();
    let key = gate.admin().key_of_scope("read");
    // Without a collector it changes nothing, and a bad one is not passed on.
    for parent in ["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "nonsense\u{20}x"] {
        let request = gate.get("/").key(&key).header("traceparent", parent);
        request.client(fresh_address()).send().upstream();
    }
}
