//! Mutual TLS between Envoy and the control plane, as `envoy/mtls.yaml` sets it up.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    date_time_ymd,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::{Gate, GateBuilder, Key, eventually, fresh_address};
use xtask::edge_config::EdgeConfig;
use xtask::workspace;

const CLUSTER: &str = "keygate_control_plane";
const NAME: &str = "keygate-control-plane";

/// One who signs.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        // Names of their own: a certificate whose issuer has its name looks self-signed.
        params.distinguished_name.push(DnType::CommonName, "an authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), certificate }
    }

    /// A certificate for this name until that year, and its key.
    fn sign(&self, name: &str, until: i32) -> (String, String) {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        (certificate, key.serialize_pem())
    }
}

/// The certificates of both ends, each in a folder of its own.
struct Certificates {
    folder: TempDir,
    authority: Authority,
}

impl Certificates {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        let authority = Authority::new();
        for side in ["server", "client"] {
            fs::create_dir(folder.path().join(side)).unwrap();
        }
        let it = Self { folder, authority };
        it.put("server", &it.authority.sign(NAME, 2099));
        it.put("client", &it.authority.sign("envoy", 2099));
        for side in ["server", "client"] {
            fs::write(it.path(side, "ca.pem"), &it.authority.certificate).unwrap();
        }
        it
    }

    fn path(&self, side: &str, file: &str) -> PathBuf {
        self.folder.path().join(side).join(file)
    }

    /// Replaces one end's certificate: the files are moved into place, the certificate last.
    fn put(&self, side: &str, (certificate, key): &(String, String)) {
        for (name, text) in [("tls.key", key), ("tls.pem", certificate)] {
            let part = self.folder.path().join("part");
            fs::write(&part, text).unwrap();
            fs::rename(part, self.path(side, name)).unwrap();
        }
    }

    /// A gate whose control plane asks for certificates, and knows no token.
    fn gate(&self) -> GateBuilder {
        let file = |name| self.path("server", name).to_string_lossy().into_owned();
        let secrets = self.write_secrets().unwrap();
        Gate::builder()
            .config(json!({"limits": [], "cache": {"fresh_seconds": 1}}))
            .env("KEYGATE_EDGE_TOKEN", "")
            .env("KEYGATE_EDGE_TLS_CERT_FILE", &file("tls.pem"))
            .env("KEYGATE_EDGE_TLS_KEY_FILE", &file("tls.key"))
            .env("KEYGATE_EDGE_TLS_CLIENT_CA_FILE", &file("ca.pem"))
            .edit_envoy(move |config| use_mtls(config, &secrets))
    }

    /// Envoy's files of secrets, with the paths of this test, in a folder of their own.
    fn write_secrets(&self) -> Result<PathBuf> {
        let folder = self.folder.path().join("client").to_string_lossy().into_owned();
        for name in ["keygate_client_certificate.yaml", "keygate_control_plane_ca.yaml"] {
            let file = workspace::root().join("envoy").join(name);
            let text = fs::read_to_string(file)?
                .replace("/etc/keygate/tls/client.", &format!("{folder}/tls."))
                .replace("/etc/keygate/tls", &folder);
            fs::write(self.folder.path().join(name), text)?;
        }
        Ok(self.folder.path().to_path_buf())
    }
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
    let gate = certificates.gate().config(json!({"cache": {"fresh_seconds": 3600}})).start();
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
        let gate = certificates.gate().start();
        let key = gate.admin().key_of_scope("read");
        let answer = gate.get("/").key(&key).client(fresh_address()).send();
        answer.assert_problem(503, "temporarily_unavailable");
        let labels = format!("outcome=\"{outcome}\"");
        eventually("the refusal is counted", || {
            (gate.admin().metric("keygate_tls_handshakes_total", &[&labels]) > 0.0).then_some(())
        });
        assert!(gate.control_plane_log().contains("its certificate is refused"));

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
        let gate = certificates.gate().start();
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
    let plain = certificates.gate().edit_envoy(|config| {
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
    let gate = certificates.gate().env("KEYGATE_EDGE_TOKEN", "a-token-of-a-test-1234").start();
    let key = gate.admin().key_of_scope("read");
    let answer = gate.get("/").key(&key).client(fresh_address()).send();
    assert_eq!(answer.status, 503, "{answer:?}");
    eventually("the call is refused for its token", || {
        gate.control_plane_log().contains("token is missing or wrong").then_some(())
    });
}
