//! What goes over the wire is what was meant, and a newer side may add to it.

use edge_protocol::{
    ChangesAnswer, Deployment, Event, EventBatch, EventKind, KeyEnvironment, KeyRecord, Scope,
    UsageMethod, UsageOutcome, Verdict, VerifyAnswer, VerifyRequest,
};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use wasm_bindgen_test::wasm_bindgen_test;

#[wasm_bindgen_test(unsupported = test)]
fn every_name_is_read_as_it_is_written() {
    for kind in EventKind::ALL {
        assert_eq!(kind.as_str().parse(), Ok(*kind));
        assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
    }
    for scope in [Scope::Read, Scope::Write, Scope::Admin] {
        assert_eq!(scope.as_str().parse(), Ok(scope));
        assert_eq!(serde_json::to_value(scope).unwrap(), scope.as_str());
    }
    for environment in [KeyEnvironment::Live, KeyEnvironment::Test] {
        assert_eq!(environment.as_str().parse(), Ok(environment));
    }
    for name in ["development", "testing", "staging", "production"] {
        let deployment: Deployment = name.parse().unwrap();
        assert_eq!(deployment.as_str(), name);
        assert_eq!(deployment.allows_test_keys(), name != "production");
    }
    for method in UsageMethod::ALL {
        assert_eq!(method.as_str().parse(), Ok(*method));
        assert_eq!(serde_json::to_value(method).unwrap(), method.as_str());
        assert_eq!(UsageMethod::of(method.as_str().as_bytes()), *method);
    }
    for made_up in [&b"get"[..], b"BREW", b"", b"\xff"] {
        assert_eq!(UsageMethod::of(made_up), UsageMethod::Other);
    }
    for outcome in UsageOutcome::ALL {
        assert_eq!(outcome.as_str().parse(), Ok(*outcome));
        assert_eq!(serde_json::to_value(outcome).unwrap(), outcome.as_str());
    }
    assert!("Production".parse::<Deployment>().is_err());
    assert!("root".parse::<Scope>().is_err());
}

#[wasm_bindgen_test(unsupported = test)]
fn a_scope_includes_the_ones_before_it() {
    assert!(Scope::Admin.includes(Scope::Write) && Scope::Write.includes(Scope::Read));
    assert!(!Scope::Read.includes(Scope::Write) && !Scope::Write.includes(Scope::Admin));
}

#[wasm_bindgen_test(unsupported = test)]
fn fields_of_a_newer_side_are_ignored() {
    let answer: VerifyAnswer = serde_json::from_str(
        r#"{"as_of":{"epoch":"ab","sequence":7,"x":1},"verdict":"known","more":[],
            "record":{"key_id":"0123456789abcdef","scope":"read","environment":"live",
                      "is_active":true,"colour":"blue",
                      "rate_limit":{"requests":5,"window_seconds":60,"burst":9}}}"#,
    )
    .unwrap();
    let Verdict::Known { record } = answer.verdict else { panic!("known") };
    assert_eq!(record.rate_limit.map(|limit| limit.requests), Some(5));
    let unknown: VerifyAnswer =
        serde_json::from_str(r#"{"as_of":{"epoch":"ab","sequence":7},"verdict":"unknown"}"#)
            .unwrap();
    assert_eq!(unknown.verdict, Verdict::Unknown);
    let changes = r#"{"position":{"epoch":"ab","sequence":1},"reset":true,"changes":[]}"#;
    assert!(serde_json::from_str::<ChangesAnswer>(changes).unwrap().reset);
}

#[wasm_bindgen_test(unsupported = test)]
fn a_batch_of_an_older_filter_has_no_usage() {
    let batch: EventBatch =
        serde_json::from_str(r#"{"source":"ab","batch":1,"events":[]}"#).unwrap();
    assert_eq!(batch.usage, []);
    let wire = serde_json::to_string(&batch).unwrap();
    assert!(!wire.contains("usage"), "{wire}");
}

#[wasm_bindgen_test(unsupported = test)]
fn a_question_about_a_key_does_not_show_it() {
    let request = VerifyRequest { key: "kg_live_secret".into() };
    assert!(!format!("{request:?}").contains("secret"));
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(7),
        ..ProptestConfig::default()
    })]

    #[wasm_bindgen_test(unsupported = test)]
    fn an_event_and_a_record_survive_the_wire(
        at_ms: u64,
        address: Option<[u8; 16]>,
        owner in prop::option::of("[ -~]{0,40}"),
        details in "[ -~]{0,80}",
        shadow: bool,
        expires_at_ms: Option<u64>,
        prefix in 0u8..=32,
    ) {
        let client_ip = address.map(std::net::IpAddr::from);
        let event = Event {
            at_ms, kind: EventKind::IpDenied, key_hash: owner.clone(), key_id: None, client_ip, details, shadow,
        };
        let wire = serde_json::to_vec(&event).unwrap();
        prop_assert_eq!(serde_json::from_slice::<Event>(&wire).unwrap(), event);
        let net = ipnet::IpNet::new(std::net::Ipv4Addr::new(192, 0, 2, 1).into(), prefix).unwrap();
        let record = KeyRecord {
            key_id: "0123456789abcdef".into(), owner, scope: Scope::Write,
            environment: KeyEnvironment::Test, is_active: shadow, expires_at_ms,
            allowed_ips: vec![net], rate_limit: None,
        };
        let wire = serde_json::to_vec(&record).unwrap();
        prop_assert_eq!(serde_json::from_slice::<KeyRecord>(&wire).unwrap(), record);
    }
}
