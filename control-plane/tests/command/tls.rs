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
fn healthcheck_speaks_tls_with_the_listener_it_has_the_certificate_of_and_no_other() {
    let mut it = Keygate::migrated();
    put_certificate(&it);
    it.set("KEYGATE_TLS_CERT_FILE", "cert.pem");
    it.set("KEYGATE_TLS_KEY_FILE", "key.pem");
    let service = it.serve(&[]);
    it.set("KEYGATE_LISTEN", &service.admin);
    let health = it.run(&["healthcheck"]);
    assert_eq!((health.code, &health.json()["status"]), (0, &"healthy".into()), "{health:?}");

    let mut other = Keygate::migrated();
    put_certificate(&other);
    other.set("KEYGATE_TLS_CERT_FILE", "cert.pem");
    other.set("KEYGATE_TLS_KEY_FILE", "key.pem");
    other.set("KEYGATE_LISTEN", &service.admin);
    let refused = other.run(&["healthcheck"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    // Without TLS the listener is not well either.
    other.set("KEYGATE_TLS_CERT_FILE", "");
    other.set("KEYGATE_TLS_KEY_FILE", "");
    assert_eq!(other.run(&["healthcheck"]).code, 1);
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
