//! Which fields a new key may have.

use super::{
    fields::{future, networks},
    *,
};
use crate::testing::{START, at, request};
use proptest::prelude::*;

fn wrong(request: NewKeyRequest) -> Vec<String> {
    let errors = request.check(at(START)).err().unwrap_or_default();
    errors.into_iter().map(|error| error.field).collect()
}

#[test]
fn everything_that_is_wrong_is_named() {
    let limit = LimitRequest {
        requests: 0,
        window_seconds: MAX_WINDOW_SECONDS + 1,
        algorithm: Algorithm::TokenBucket,
        reach: Reach::Fleet,
        on_outage: OnOutage::Deny,
    };
    let all = NewKeyRequest {
        name: " ".to_owned(),
        description: Some("a\u{7}b".to_owned()),
        owner: Some("naïve".to_owned()),
        allowed_ips: Some(vec!["10.0.0.1".to_owned(), "10.0.0.0/33".to_owned()]),
        rate_limit: Some(limit),
        metadata: Some([("k".to_owned(), "v".repeat(5000).into())].into_iter().collect()),
        expires_at: Some(START.to_owned()),
        ..request("")
    };
    assert_eq!(
        wrong(all),
        [
            "name",
            "description",
            "owner",
            "metadata",
            "rate_limit.requests",
            "rate_limit.window_seconds",
            "allowed_ips[1]",
            "expires_at",
        ]
    );
}

#[test]
fn an_owner_must_survive_as_a_header() {
    for good in ["a", "Team A <a@example.org>", &"x".repeat(128)] {
        assert!(wrong(NewKeyRequest { owner: Some(good.to_owned()), ..request("a") }).is_empty());
    }
    for bad in ["", " a", "a ", "a\r\nx-evil: 1", "a\tb", "ü", &"x".repeat(129)] {
        assert_eq!(wrong(NewKeyRequest { owner: Some(bad.to_owned()), ..request("a") }), ["owner"]);
    }
}

#[test]
fn addresses_become_networks_without_host_bits_or_repeats() {
    let texts = [
        "10.1.2.3",
        "10.9.9.9/8",
        "10.0.0.0/8",
        "2001:DB8::1/32",
        "::1",
        "::ffff:192.0.2.1",
        "::ffff:0:0/96",
    ];
    let mut errors = Vec::new();
    let networks = networks(&texts.map(str::to_owned), &mut errors);
    let networks: Vec<_> = networks.iter().map(ToString::to_string).collect();
    assert_eq!(
        networks,
        ["10.1.2.3/32", "10.0.0.0/8", "2001:db8::/32", "::1/128", "192.0.2.1/32", "0.0.0.0/0"]
    );
    assert_eq!(errors, []);
}

#[test]
fn an_expiry_is_in_the_future_and_of_any_zone() {
    let end = |text: &str| future(text, at(START)).ok();
    assert_eq!(end("2026-11-25T14:00:00.123456+01:00"), Some(at("2026-11-25T13:00:00.123Z")));
    for bad in ["2026-11-25T12:00:00Z", "2020-01-01T00:00:00Z", "2027-01-01", "tomorrow", ""] {
        assert_eq!(end(bad), None, "{bad}");
    }
}

proptest! {
    #[test]
    fn no_request_makes_the_check_panic(
        name in ".{0,120}", owner in ".{0,140}", ip in ".{0,50}", end in ".{0,40}",
    ) {
        let _ = NewKeyRequest {
            owner: Some(owner),
            allowed_ips: Some(vec![ip]),
            expires_at: Some(end),
            ..request(&name)
        }
        .check(at(START));
    }
}
