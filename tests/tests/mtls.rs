//! Mutual TLS between Envoy and the control plane, as `envoy/mtls.yaml` sets it up.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tests::{Authority, Certificates, Gate, GateBuilder, Key, eventually, fresh_address};
use xtask::edge_config::EdgeConfig;
use xtask::workspace;

const CLUSTER: &str = "keygate_control_plane";
const NAME: &str = "keygate-control-plane";

/// A gate whose control plane asks for certificates, and knows no token.
fn gate_with(certificates: &Certificates) -> GateBuilder {
    let secrets = write_secrets(certificates).unwrap();
    let gate = Gate::builder().config(json!({"limits": [], "cache": {"fresh_seconds": 1}}));
    certificates.asked_for_by(gate).edit_envoy(move |config| use_mtls(config, &secrets))
}

/// Envoy's files of secrets, with the paths of this test, in a folder of their own.
fn write_secrets(certificates: &Certificates) -> Result<PathBuf> {
    let folder = certificates.folder().join("client").to_string_lossy().into_owned();
    for name in ["keygate_client_certificate.yaml", "keygate_control_plane_ca.yaml"] {
        let file = workspace::root().join("envoy").join(name);
        let text = fs::read_to_string(file)?
            .replace("/etc/keygate/tls/client.", &format!("{folder}/tls."))
            .replace("/etc/keygate/tls", &folder);
        fs::write(certificates.folder().join(name), text)?;
    }
    Ok(certificates.folder().to_path_buf())
}

/// Puts the cluster of `envoy/mtls.yaml` in the place of the one without TLS.
fn use_mtls(config: &mut EdgeConfig, secrets: &Path) -> Result<()> {
    let mut ready = EdgeConfig::read(&workspace::root().join("envoy/mtls.yaml"))?;
    let cluster = ready.cluster_mut(CLUSTER)?.to_string();
    let cluster = cluster.replace("/etc/envoy", &secrets.to_string_lossy());
    let mut cluster: Value = serde_json::from_str(&cluster)?;
    let endpoint = "/load_assignment";
    let place = config.cluster_mut(CLUSTER)?;
    let address = place.pointer(endpoint).context("no endpoint")?.clone();
    *cluster.pointer_mut(endpoint).context("no endpoint")? = address;
    *place = cluster;
    Ok(())
}

fn ask(gate: &Gate, key: &Key) -> u16 {
    gate.get("/").key(key).client(fresh_address()).send().status
}

#[test]
fn with_its_certificate_envoy_is_let_in_and_hears_of_revocations() {
    let certificates = Certificates::new();
    // So long that only the feed can tell of a revocation.
    let gate = gate_with(&certificates).config(json!({"cache": {"fresh_seconds": 3600}})).start();
    let [key, other] = [(); 2].map(|()| gate.admin().key_of_scope("read"));
    assert_eq!(ask(&gate, &key), 200);
    assert_eq!(ask(&gate, &other), 200);
    gate.admin().revoke(&key.id);
    eventually("the revoked key is refused", || (ask(&gate, &key) == 403).then_some(()));
    assert_eq!(ask(&gate, &other), 200);
    let handshakes = gate.admin().metric("keygate_tls_handshakes_total", &["outcome=\"ok\""]);
    assert!(handshakes >= 1.0, "{handshakes}");
    // The events of the filter came the same way.
    gate.get("/").client(fresh_address()).send().assert_problem(403, "missing_api_key");
    gate.audited("MISSING_API_KEY", |_| true);
}

#[test]
fn envoy_is_refused_without_a_good_certificate_and_let_in_when_it_has_one_again() {
    let certificates = Certificates::new();
    let stranger = Authority::new();
    for (bad, outcome) in [
        (stranger.sign("envoy", 2099), "certificate_refused"),
        (certificates.authority.sign("envoy", 2021), "certificate_refused"),
    ] {
        certificates.put("client", &bad);
        let gate = gate_with(&certificates).start();
        let key = gate.admin().key_of_scope("read");
        let answer = gate.get("/").key(&key).client(fresh_address()).send();
        answer.assert_problem(503, "temporarily_unavailable");
        let labels = format!("outcome=\"{outcome}\"");
        eventually("the refusal is counted", || {
            (gate.admin().metric("keygate_tls_handshakes_total", &[&labels]) > 0.0).then_some(())
        });
        eventually("the refusal is in the log", || {
            gate.control_plane_log().contains("its certificate is refused").then_some(())
        });

        certificates.put("client", &certificates.authority.sign("envoy", 2099));
        eventually("the mended certificate is used", || (ask(&gate, &key) == 200).then_some(()));
    }
}

#[test]
fn envoy_does_not_talk_to_a_control_plane_that_shows_another_name_or_authority() {
    let certificates = Certificates::new();
    let stranger = Authority::new();
    for bad in [stranger.sign(NAME, 2099), certificates.authority.sign("another", 2099)] {
        certificates.put("server", &bad);
        let gate = gate_with(&certificates).start();
        let key = gate.admin().key_of_scope("read");
        let answer = gate.get("/").key(&key).client(fresh_address()).send();
        answer.assert_problem(503, "temporarily_unavailable");

        // The control plane reads its files again by itself.
        certificates.put("server", &certificates.authority.sign(NAME, 2099));
        eventually("the mended certificate is used", || (ask(&gate, &key) == 200).then_some(()));
    }
}

#[test]
fn without_tls_nothing_is_answered_and_where_a_token_is_set_the_certificate_is_not_enough() {
    let certificates = Certificates::new();
    let plain = gate_with(&certificates).edit_envoy(|config| {
        let cluster = config.cluster_mut(CLUSTER)?;
        cluster.as_object_mut().context("no cluster")?.remove("transport_socket");
        Ok(())
    });
    let gate = plain.start();
    let key = gate.admin().key_of_scope("read");
    let answer = gate.get("/").key(&key).client(fresh_address()).send();
    answer.assert_problem(503, "temporarily_unavailable");
    drop(gate);

    // The cluster of mtls.yaml injects no token.
    let gate = gate_with(&certificates).env("KEYGATE_EDGE_TOKEN", "a-token-of-a-test-1234").start();
    let key = gate.admin().key_of_scope("read");
    let answer = gate.get("/").key(&key).client(fresh_address()).send();
    assert_eq!(answer.status, 503, "{answer:?}");
    eventually("the call is refused for its token", || {
        gate.control_plane_log().contains("token is missing or wrong").then_some(())
    });
}
