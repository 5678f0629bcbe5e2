//! `keygate doctor` beside a real Envoy.

use std::process::Command;

use serde_json::Value;
use tests::{Gate, binaries, eventually, fresh_address, unknown_key};

/// What doctor finds about Envoy, with the gate's own settings.
fn envoy_findings(gate: &Gate) -> Vec<(String, String)> {
    let options = gate.stack.options().control_plane();
    let mut command = Command::new(binaries().keygate);
    command.envs(&options.env).env("KEYGATE_LISTEN", options.listen.to_string());
    command.env("KEYGATE_EDGE_LISTEN", options.edge_listen.to_string());
    let url = gate.stack.envoy.admin_url();
    let done = command.args(["doctor", "--json", "--envoy-admin", &url]).output().unwrap();
    let report: Value = serde_json::from_slice(&done.stdout).unwrap();
    println!("{report:#}");
    let findings = report["findings"].as_array().unwrap();
    let text = |finding: &Value, field: &str| finding[field].as_str().unwrap().to_owned();
    findings
        .iter()
        .filter(|finding| finding["check"] == "envoy")
        .map(|finding| (text(finding, "status"), text(finding, "what")))
        .collect()
}

#[test]
fn an_envoy_with_the_filter_that_reaches_the_control_plane_is_well() {
    let gate = Gate::start();
    eventually("Envoy is found well", || {
        let found = envoy_findings(&gate);
        (found.len() == 1 && found[0].0 == "ok").then_some(())
    });
}

#[test]
fn an_envoy_without_the_filter_is_a_failure() {
    let gate = Gate::builder()
        .edit_envoy(|config| {
            let filters = config.connection_manager_mut()?["http_filters"].as_array_mut().unwrap();
            filters.retain(|filter| filter["name"] != "keygate");
            Ok(())
        })
        .start();
    let found = envoy_findings(&gate);
    assert!(
        found.iter().any(|(status, what)| status == "failed" && what.contains("no Keygate filter")),
        "{found:?}"
    );
}

#[test]
fn an_envoy_that_the_control_plane_does_not_let_in_is_a_failure() {
    let gate = Gate::builder()
        .edit_envoy(|config| {
            let cluster = config.cluster_mut("keygate_control_plane")?;
            let options = &mut cluster["typed_extension_protocol_options"];
            let options = options.as_object_mut().unwrap().values_mut().next().unwrap();
            let injector = &mut options["http_filters"][0]["typed_config"];
            assert!(injector["overwrite"].is_boolean(), "{injector}");
            injector["credential"]["typed_config"]["header_value_prefix"] = "Bearer wrong".into();
            Ok(())
        })
        .start();
    // Something that the filter has to ask about.
    gate.get("/").key(unknown_key()).client(fresh_address()).send();
    eventually("that it is refused is found", || {
        let found = envoy_findings(&gate);
        let refused =
            |(status, what): &(String, String)| status == "failed" && what.contains("credential");
        found.iter().any(refused).then_some(())
    });
}
