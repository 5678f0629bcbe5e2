//! The filter's configuration: what is accepted, what is refused, and what a refusal says.

use serde_json::{Value, json};
use tests::http::Request;
use tests::{Gate, fresh_address, unfinished_filter};
use xtask::stack::free_port;

const DAY: u32 = 86_400;

/// The configuration of the design, word for word.
const DESIGN: &str = r#"{"version": 1,
 "environment": "production",
 "control_plane": {"cluster": "keygate_control_plane", "timeout_ms": 1000},
 "credential": {"header": "x-api-key", "forward": false},
 "policy": {"prefix": "kg", "min_length": 32, "max_length": 256, "min_entropy_bits": 96, "min_kinds": 3, "weak_patterns": true},
 "credential_failure_status": 403,
 "failed_attempts": {"requests": 5, "window_seconds": 60},
 "public": [],
 "scopes": [{"methods": ["GET", "HEAD", "OPTIONS"], "path_prefix": "/", "scope": "read"}, {"path_prefix": "/", "scope": "write"}],
 "limits": [{"name": "address-get", "per": "address", "methods": ["GET"], "requests": 100, "window_seconds": 60},
            {"name": "address-post", "per": "address", "methods": ["POST"], "requests": 50, "window_seconds": 60}],
 "cache": {"fresh_seconds": 60, "stale_if_error_seconds": 3600, "keys": 100000},
 "audit": {"success": "first_seen", "on_backlog_full": "drop"},
 "shadow": []
}"#;

#[test]
fn envoy_does_not_start_with_a_wrong_configuration_and_says_which_field_is_wrong() {
    // Each with what the log must have: the field's name, and what was expected.
    for (text, told) in [
        ("", &["it is empty", r#"{"version": 1}"#][..]),
        ("version: 1", &["configuration refused", "expected"]),
        (r#"{"version": 1"#, &["configuration refused", "EOF"]),
        (r#"{"version": 1} {}"#, &["configuration refused", "trailing"]),
        ("{}", &["version", "missing"]),
        (r#"{"version": 2}"#, &["`version`", "version 1, not 2"]),
        (r#"{"version": "1"}"#, &["`version`", "string", "expected u32"]),
        (r#"{"version": 1, "limitz": []}"#, &["limitz", "expected one of", "`limits`"]),
        (
            r#"{"version": 1, "credential": {"heder": "x"}}"#,
            &["`credential.heder`", "`header`", "`forward`"],
        ),
        (r#"{"version": 1, "environment": "prod"}"#, &["`environment`", "prod", "`production`"]),
        (
            r#"{"version": 1, "credential_failure_status": 404}"#,
            &["`credential_failure_status`", "401 or 403, got 404"],
        ),
        (
            r#"{"version": 1, "limits": [{"name": "a", "per": "address", "requests": 0, "window_seconds": 60}]}"#,
            &["`limits[0].requests`", "expected 1 to", "got 0"],
        ),
        (
            r#"{"version": 1, "limits": [{"name": "a", "per": "address", "requests": 1, "window_seconds": 60, "reach": "world"}]}"#,
            &["`limits[0].reach`", "`envoy` or `fleet`"],
        ),
        (
            r#"{"version": 1, "limits": [{"name": "a", "per": "address", "requests": 1, "window_seconds": 60, "algorithm": "leaky_bucket"}]}"#,
            &["`limits[0].algorithm`", "`token_bucket`"],
        ),
        (r#"{"version": 1, "shadow": ["scopes"]}"#, &["`shadow[0]`", "scopes", "scope,"]),
    ] {
        let refusal = Gate::builder().config_text(text).refusal_of_envoy();
        println!("{text}\n  {refusal}");
        for told in told {
            assert!(refusal.contains(told), "{text}: no {told} in {refusal}");
        }
        assert!(refusal.contains("keygate: configuration refused"), "{text}: {refusal}");
    }
}

#[test]
fn envoy_does_not_start_with_a_module_that_is_not_finished() {
    let refusal = Gate::builder().filter(unfinished_filter()).refusal_of_envoy();
    assert!(refusal.contains("this module is not finished"), "{refusal}");
    assert!(refusal.contains("cargo xtask wasm"), "{refusal}");
}

#[test]
fn the_whole_configuration_of_the_design_is_accepted_and_is_what_holds_when_nothing_is_said() {
    for text in [DESIGN, r#"{"version": 1}"#] {
        let gate = Gate::builder().config_text(text).start();
        let admin = gate.admin();
        let (read, test) =
            (admin.key_of_scope("read"), admin.create_key(json!({"environment": "test"})));
        let answer = gate.get("/").key(&read).client(fresh_address()).send();
        assert_eq!(answer.upstream().header("x-api-key"), [""; 0]);
        assert_eq!(answer.number("x-ratelimit-limit"), 100);
        gate.get("/").client(fresh_address()).send().assert_problem(403, "missing_api_key");
        let answer = gate.post("/").key(&read).client(fresh_address()).send();
        answer.assert_problem(403, "scope_denied");
        let answer = gate.get("/").key(&test).client(fresh_address()).send();
        answer.assert_problem(403, "test_key_refused");
    }
}

#[test]
fn two_listeners_that_share_a_vm_each_decide_by_their_own_configuration() {
    let port = free_port().unwrap();
    let gate = Gate::builder()
        .config(json!({
            "environment": "production",
            "limits": [{"name": "first", "per": "address", "requests": 3, "window_seconds": DAY}],
        }))
        .edit_envoy(move |config| {
            let listeners = &mut config.document_mut()["static_resources"]["listeners"];
            let mut second = listeners[0].clone();
            second["name"] = "second".into();
            second["address"]["socket_address"]["port_value"] = port.into();
            let manager = &mut second["filter_chains"][0]["filters"][0]["typed_config"];
            let filters = manager["http_filters"].as_array_mut().unwrap();
            let filter = filters.iter_mut().find(|filter| filter["name"] == "keygate").unwrap();
            let value = &mut filter["typed_config"]["config"]["configuration"]["value"];
            let mut own: Value = serde_json::from_str(value.as_str().unwrap())?;
            own["environment"] = "staging".into();
            own["credential_failure_status"] = 401.into();
            own["credential"] = json!({"header": "x-second-key"});
            own["public"] = json!([{"path_prefix": "/open"}]);
            own["limits"] = json!([{"name": "second", "per": "address", "requests": 5,
                                    "window_seconds": DAY}]);
            *value = own.to_string().into();
            listeners.as_array_mut().unwrap().push(second);
            Ok(())
        })
        .start();
    let second = format!("127.0.0.1:{port}").parse().unwrap();
    let at_second = |path: &str| Request::new(second, "GET", path);
    let admin = gate.admin();
    let test = admin.create_key(json!({"environment": "test"}));
    let live = admin.key_of_scope("read");
    let address = fresh_address();
    // In turn, so that either worker has to keep them apart; each connection may be of either.
    for n in (0..3).rev() {
        let answer = gate.get("/").key(&live).client(&address).send();
        assert_eq!(answer.upstream().header("x-api-key"), [""; 0]);
        assert_eq!(answer.header("ratelimit-policy"), Some(format!("\"first\";q=3;w={DAY}")));
        assert_eq!(answer.number("x-ratelimit-remaining"), n);
        let answer = at_second("/").header("X-Second-Key", &test).client(&address).send();
        assert_eq!(answer.upstream().header("x-second-key"), [""; 0]);
        assert_eq!(answer.header("ratelimit-policy"), Some(format!("\"second\";q=5;w={DAY}")));
        assert_eq!(answer.number("x-ratelimit-remaining"), n + 2);
        at_second("/").key(&live).client(&address).send().assert_problem(401, "missing_api_key");
        gate.get("/").key(&test).client(&address).send().assert_problem(403, "test_key_refused");
        gate.get("/open").client(&address).send().assert_problem(403, "missing_api_key");
    }
    gate.get("/").key(&live).client(&address).send().assert_problem(429, "rate_limited");
    for _ in 0..2 {
        at_second("/open").client(&address).send().upstream();
    }
    at_second("/open").client(&address).send().assert_problem(429, "rate_limited");
}

#[test]
fn the_edge_token_is_nowhere_to_be_seen_in_envoy() {
    let gate = Gate::builder().envoy_arg("--log-level").envoy_arg("debug").start();
    let key = gate.admin().key_of_scope("read");
    // The token is in use: without it no key could be checked.
    gate.get("/").key(&key).send().upstream();
    let token = &gate.stack.options().control_plane_env["KEYGATE_EDGE_TOKEN"];
    for page in [
        "/config_dump?include_eds",
        "/config_dump",
        "/server_info",
        "/clusters",
        "/stats",
        "/listeners",
        "/init_dump",
        "/memory",
        "/certs",
        "/runtime",
    ] {
        let answer = gate.stack.envoy.admin_get(page).unwrap();
        assert_eq!(answer.status, 200, "{page}");
        assert!(!answer.body.contains(token), "the token is in {page}");
    }
    let dump = gate.stack.envoy.admin_get("/config_dump").unwrap().body;
    assert!(
        dump.contains("keygate_edge_token"),
        "the dump does not show the secret's name: {dump}"
    );
    let file = std::fs::read_to_string(gate.dir().join("envoy/envoy.json")).unwrap();
    assert!(!file.contains(token), "the token is in Envoy's configuration");
}
