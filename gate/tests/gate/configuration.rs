//! A configuration is taken as it is meant, or refused with the field's name and what was
//! expected.

use gate::{ClientAddressSource, Config};
use proptest::prelude::*;
use wasm_bindgen_test::wasm_bindgen_test;

#[track_caller]
fn fault(json: &str) -> (String, String) {
    let fault = Config::parse(json.as_bytes()).unwrap_err();
    (fault.field().to_owned(), fault.to_string())
}

#[wasm_bindgen_test(unsupported = test)]
fn every_field_but_the_version_may_be_left_out() {
    let config = Config::parse(br#"{"version":1}"#).unwrap();
    assert_eq!(config.control_plane.cluster, "keygate_control_plane");
    assert_eq!(config.credential_header, "x-api-key");
    assert!(!config.forward_credential);
    assert_eq!(config.client_address, ClientAddressSource::Connection);
}

#[wasm_bindgen_test(unsupported = test)]
fn the_documented_example_is_accepted() {
    let example = r#"{"version": 1,
     "environment": "production",
     "control_plane": {"cluster": "keygate_control_plane", "timeout_ms": 1000},
     "credential": {"header": "X-API-Key", "forward": false},
     "policy": {"prefix": "kg", "min_length": 32, "max_length": 256, "min_entropy_bits": 96, "min_kinds": 3, "weak_patterns": true},
     "credential_failure_status": 403,
     "failed_attempts": {"requests": 5, "window_seconds": 60},
     "public": [],
     "scopes": [{"methods": ["GET", "HEAD", "OPTIONS"], "path_prefix": "/", "scope": "read"}, {"path_prefix": "/", "scope": "write"}],
     "limits": [{"name": "address-get", "per": "address", "methods": ["GET"], "requests": 100, "window_seconds": 60},
                {"name": "address-post", "per": "address", "methods": ["POST"], "requests": 50, "window_seconds": 60}],
     "cache": {"fresh_seconds": 60, "stale_if_error_seconds": 3600, "keys": 100000},
     "audit": {"success": "first_seen", "on_backlog_full": "drop"},
     "shadow": []}"#;
    let config = Config::parse(example.as_bytes()).unwrap();
    assert_eq!(config.credential_header, "x-api-key", "case does not matter");
}

#[expect(clippy::too_many_lines, reason = "it is a table")]
#[wasm_bindgen_test(unsupported = test)]
fn a_mistake_is_named_with_its_field() {
    for (json, field, says) in [
        ("", ".", "it is empty"),
        ("{}", ".", "missing field `version`"),
        (r#"{"version":2}"#, "version", "understands version 1, not 2"),
        (r#"{"version":1,"cash":{}}"#, "cash", "unknown field `cash`"),
        (r#"{"version":1,"cache":{"key":1}}"#, "cache.key", "unknown field `key`"),
        (r#"{"version":1,"environment":"prod"}"#, "environment", "unknown variant `prod`"),
        (r#"{"version":1,"cache":{"keys":0}}"#, "cache.keys", "expected 1 to 1000000, got 0"),
        (r#"{"version":1,"cache":{"keys":"a"}}"#, "cache.keys", "expected u32"),
        (
            r#"{"version":1,"credential_failure_status":400}"#,
            "credential_failure_status",
            "expected 401 or 403",
        ),
        (
            r#"{"version":1,"control_plane":{"timeout_ms":0}}"#,
            "control_plane.timeout_ms",
            "1 to 60000",
        ),
        (
            r#"{"version":1,"control_plane":{"cluster":""}}"#,
            "control_plane.cluster",
            "name of a cluster",
        ),
        (
            r#"{"version":1,"credential":{"header":"x api"}}"#,
            "credential.header",
            "name of a header",
        ),
        (r#"{"version":1,"policy":{"prefix":"KG"}}"#, "policy.prefix", "lower-case"),
        (r#"{"version":1,"policy":{"max_length":32}}"#, "policy.max_length", "expected"),
        (r#"{"version":1,"policy":{"min_kinds":5}}"#, "policy.min_kinds", "expected"),
        (
            r#"{"version":1,"policy":{"min_entropy_bits":-1}}"#,
            "policy.min_entropy_bits",
            "expected",
        ),
        (
            r#"{"version":1,"public":[{"path_prefix":"x"}]}"#,
            "public[0].path_prefix",
            "begins with `/`",
        ),
        (
            r#"{"version":1,"public":[{"path_prefix":"/a%20b"}]}"#,
            "public[0].path_prefix",
            "plain path",
        ),
        (
            r#"{"version":1,"public":[{"methods":["get"]}]}"#,
            "public[0].methods[0]",
            "a method such as GET",
        ),
        (
            r#"{"version":1,"scopes":[{"scope":"root"}]}"#,
            "scopes[0].scope",
            "unknown variant `root`",
        ),
        (
            r#"{"version":1,"limits":[{"name":"a","per":"address","window_seconds":1}]}"#,
            "limits[0]",
            "missing field `requests`",
        ),
        (
            r#"{"version":1,"limits":[{"name":"a","per":"address","requests":0,"window_seconds":1}]}"#,
            "limits[0].requests",
            "got 0",
        ),
        (
            r#"{"version":1,"limits":[{"name":"A","per":"address","requests":1,"window_seconds":1}]}"#,
            "limits[0].name",
            "a-z",
        ),
        (
            r#"{"version":1,"limits":[{"name":"a","per":"address","requests":1,"window_seconds":1},{"name":"a","per":"key","requests":1,"window_seconds":1}]}"#,
            "limits[1].name",
            "another limit",
        ),
        (
            r#"{"version":1,"limits":[{"name":"a","per":"address","requests":1,"window_seconds":1,"algorithm":"leaky"}]}"#,
            "limits[0].algorithm",
            "token_bucket",
        ),
        (
            r#"{"version":1,"limits":[{"name":"a","per":"address","requests":1,"window_seconds":1,"reach":"world"}]}"#,
            "limits[0].reach",
            "fleet",
        ),
        (
            r#"{"version":1,"shadow":["formats"]}"#,
            "shadow[0]",
            "`formats` is neither a limit nor one of",
        ),
        (r#"{"version":1,"client_address":"xff"}"#, "client_address", "unknown variant `xff`"),
        (
            r#"{"version":1,"client_address":{"header":"X-Keygate-Owner"}}"#,
            "client_address.header",
            "the gate's own",
        ),
        (
            r#"{"version":1,"client_address":{"header":"X-API-Key"}}"#,
            "client_address.header",
            "another header",
        ),
        (r#"{"version":1} {"version":1}"#, ".", "trailing characters"),
    ] {
        let (got, text) = fault(json);
        assert_eq!(got, field, "{json}: {text}");
        assert!(text.contains(says), "{json}: {text}");
    }
}

proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, rng_seed: proptest::test_runner::RngSeed::Fixed(7), ..ProptestConfig::default() })]

    #[wasm_bindgen_test(unsupported = test)]
    fn no_bytes_make_reading_a_configuration_fail_in_any_other_way(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Config::parse(&bytes);
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn no_number_is_taken_out_of_its_range(requests: u32, window_seconds: u32, keys: u32) {
        let json = format!(
            r#"{{"version":1,"failed_attempts":{{"requests":{requests},"window_seconds":{window_seconds}}},"cache":{{"keys":{keys}}}}}"#
        );
        let in_range = (1..=1_000_000_000).contains(&requests)
            && (1..=2_678_400).contains(&window_seconds)
            && (1..=1_000_000).contains(&keys);
        prop_assert_eq!(Config::parse(json.as_bytes()).is_ok(), in_range);
    }
}
