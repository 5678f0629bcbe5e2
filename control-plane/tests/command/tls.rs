//! The admin listener and `keygate healthcheck` with TLS.

use crate::process::Keygate;
use rcgen::{CertifiedKey, generate_simple_self_signed};

/// Puts a certificate of its own and its key into the command's folder.
fn put_certificate(it: &Keygate) {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["keygate.test".to_owned()]).expect("a certificate");
    std::fs::write(it.folder().join("cert.pem"), cert.pem()).expect("written");
    std::fs::write(it.folder().join("key.pem"), signing_key.serialize_pem()).expect("written");
}

#[test]
fn healthcheck_speaks_tls_where_the_listener_does_also_while_certificates_are_replaced() {
    let mut it = Keygate::migrated();
    put_certificate(&it);
    it.set("KEYGATE_TLS_CERT_FILE", "cert.pem");
    it.set("KEYGATE_TLS_KEY_FILE", "key.pem");
    let service = it.serve(&[]);
    it.set("KEYGATE_LISTEN", &service.admin);
    let health = it.run(&["healthcheck"]);
    assert_eq!((health.code, &health.json()["status"]), (0, &"healthy".into()), "{health:?}");

    // A certificate without its key: the service goes on with what it has, and is well.
    let key = std::fs::read(it.folder().join("key.pem")).expect("a key");
    put_certificate(&it);
    std::fs::write(it.folder().join("key.pem"), key).expect("written");
    assert_eq!(it.run(&["healthcheck"]).code, 0);

    // Without TLS the listener does not answer.
    it.set("KEYGATE_TLS_CERT_FILE", "");
    it.set("KEYGATE_TLS_KEY_FILE", "");
    assert_eq!(it.run(&["healthcheck"]).code, 1);
}

#[test]
fn tls_settings_that_do_not_go_together_keep_the_service_from_starting() {
    for (set, named) in [
        (&["KEYGATE_TLS_CERT_FILE"][..], "KEYGATE_TLS_KEY_FILE"),
        (&["KEYGATE_TLS_KEY_FILE"], "KEYGATE_TLS_CERT_FILE"),
        (&["KEYGATE_EDGE_TLS_CERT_FILE"], "KEYGATE_EDGE_TLS_KEY_FILE"),
        (&["KEYGATE_EDGE_TLS_CLIENT_CA_FILE"], "KEYGATE_EDGE_TLS_CERT_FILE"),
        // All of them named, and none of the files is there.
        (&["KEYGATE_TLS_CERT_FILE", "KEYGATE_TLS_KEY_FILE"], "cannot be read"),
    ] {
        let mut it = Keygate::migrated();
        for name in set {
            it.set(name, "missing.pem");
        }
        let refused = it.run(&["serve"]);
        assert_eq!(refused.code, 2, "{refused:?}");
        assert!(refused.errors.contains(named), "{refused:?}");
    }
}

#[test]
fn a_listener_that_others_can_reach_without_tls_is_warned_of() {
    let mut it = Keygate::migrated();
    it.set("KEYGATE_LISTEN", "0.0.0.0:0");
    let mut service = it.serve(&[]);
    let warning = service.wait_for("without TLS");
    assert!(warning.contains("KEYGATE_LISTEN"), "{warning}");
    put_certificate(&it);
    it.set("KEYGATE_TLS_CERT_FILE", "cert.pem");
    it.set("KEYGATE_TLS_KEY_FILE", "key.pem");
    let service = it.serve(&[]);
    assert!(!service.log().contains("without TLS"), "{}", service.log());
}
