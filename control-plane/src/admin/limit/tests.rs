//! How much is taken from whom, and what they are told.

use std::net::{Ipv4Addr, SocketAddr};

use axum::{
    body::Body,
    http::{Request, Response},
};
use edge_protocol::Deployment;
use key_policy::KeyId;
use tower::ServiceExt;

use super::network;
use crate::{
    admin::tests::call,
    clock::Clock,
    config::{AdminLimitsConfig, TestKeys},
    http::Peer,
    keys::digest::PresentedKey,
    testing::{Answer, Database, TestService, config, send},
};

const LIST: &str = "/api/v1/admin/api-keys/";

async fn with_limits(calls: u32, failures: u32) -> TestService {
    let database = Database::new().await;
    let mut config = config(&database, Deployment::Production);
    let limit = |number: u32| number.try_into().expect("not zero");
    config.admin_limits = AdminLimitsConfig { calls: limit(calls), failures: limit(failures) };
    TestService::start_on(database, config, TestKeys::Off).await
}

async fn list(it: &TestService, key: &str) -> Answer {
    send(&it.admin, call("GET", LIST, key, None)).await
}

async fn list_from(it: &TestService, address: &str, key: &str) -> u16 {
    let mut request: Request<Body> = call("GET", LIST, key, None);
    let peer = SocketAddr::new(address.parse().expect("an address"), 1);
    request.extensions_mut().insert(Peer(peer));
    let answer: Response<Body> = it.admin.clone().oneshot(request).await.expect("infallible");
    answer.status().as_u16()
}

#[tokio::test]
async fn a_key_that_calls_too_often_is_told_when_to_come_back() {
    let it = with_limits(3, 30).await;
    let (key, good) = it.issue_admin().await;
    let (_, other) = it.issue_admin().await;
    for left in ["2", "1", "0"] {
        let answer = list(&it, &good).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("x-ratelimit-limit"), Some("3"));
        assert_eq!(answer.header("x-ratelimit-remaining"), Some(left));
        assert_eq!(answer.header("ratelimit-policy"), Some("\"admin-key\";q=3;w=60"));
    }
    for _ in 0..3 {
        let refused = list(&it, &good).await;
        assert_eq!(refused.problem(), (429, "rate_limited".to_owned()));
        assert_eq!(refused.header("retry-after"), Some("20"));
        assert_eq!(refused.header("ratelimit"), Some("\"admin-key\";r=0;t=60"));
        assert_eq!(refused.header("cache-control"), Some("no-store"));
    }
    assert_eq!(list(&it, &other).await.status, 200);
    it.clock.advance_ms(20_000);
    assert_eq!(list(&it, &good).await.status, 200);

    // One entry for all of them, and their number when the minute is over.
    let denied = |audit: Vec<(String, String)>| {
        let denied = audit.into_iter().filter(|(event, _)| event == "ADMIN_DENIED");
        denied.map(|(_, details)| details).collect::<Vec<_>>()
    };
    assert_eq!(denied(it.audit().await), ["reason=rate_limited limit=3 window_seconds=60"]);
    it.clock.advance_ms(60_000);
    let due = it.service.admin_denials.due(it.clock.now());
    assert_eq!(due[0].event.details, "reason=rate_limited more_in_that_minute=2");
    assert_eq!(due[0].event.key_id, Some(key.key_id.to_string()));
}

#[tokio::test]
async fn an_address_that_is_refused_too_often_is_not_looked_at_any_more() {
    let it = with_limits(600, 3).await;
    let (_, known) = it.issue_admin().await;
    let (_, never_used) = it.issue_admin().await;
    assert_eq!(list(&it, &known).await.status, 200);
    for number in 0..3 {
        let refused = list(&it, &format!("nobody-{number}")).await;
        assert_eq!(refused.problem(), (401, "invalid_credential".to_owned()));
        assert!(refused.header("ratelimit").is_none());
    }
    let hashed = it.service.pool.hashed();
    for key in ["nobody", &never_used, ""] {
        let refused = list(&it, key).await;
        assert_eq!(refused.problem(), (429, "too_many_failures".to_owned()));
        assert_eq!(refused.header("retry-after"), Some("20"));
    }
    assert_eq!(it.service.pool.hashed(), hashed);
    // Who was let in before is not locked out by those who share the address with them.
    assert_eq!(list(&it, &known).await.status, 200);
    assert_eq!(list_from(&it, "198.51.100.1", &never_used).await, 200);
    it.clock.advance_ms(20_000);
    assert_eq!(list(&it, &never_used).await.status, 200);
}

#[tokio::test]
async fn a_flood_of_refusals_leaves_a_few_rows_and_loses_none() {
    let it = with_limits(600, 5).await;
    let mut answers = Vec::new();
    for number in 0..200 {
        answers.push(list(&it, &format!("nobody-{number}")).await.status.as_u16());
    }
    assert_eq!(answers.iter().filter(|status| **status == 401).count(), 5);
    assert_eq!(answers.iter().filter(|status| **status == 429).count(), 195);
    // Five refused as usual, and the first that was one too many.
    assert_eq!(it.audit().await.len(), 6);
    let rest = it.service.admin_denials.rest(it.clock.now());
    assert_eq!(rest[0].event.details, "reason=too_many_failures more_in_that_minute=194");
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_come_at_the_same_time_cannot_share_the_last_place() {
    let it = std::sync::Arc::new(with_limits(600, 5).await);
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..50 {
        let it = std::sync::Arc::clone(&it);
        tasks.spawn(async move { list(&it, &format!("nobody-{number}")).await.status.as_u16() });
    }
    let statuses = tasks.join_all().await;
    assert_eq!(statuses.iter().filter(|status| **status == 401).count(), 5);
}

#[tokio::test]
async fn all_addresses_of_a_network_that_one_client_may_have_are_one() {
    let it = with_limits(600, 2).await;
    for address in ["2001:db8::1", "2001:db8::2"] {
        assert_eq!(list_from(&it, address, "nobody").await, 401);
    }
    assert_eq!(list_from(&it, "2001:db8::3", "nobody").await, 429);
    assert_eq!(list_from(&it, "2001:db8:0:1::3", "nobody").await, 401);
    assert_eq!(network("::ffff:192.0.2.1".parse().expect("an address")), "192.0.2.1");
    assert_eq!(network("2001:db8::9".parse().expect("an address")), "2001:db8::/64");
}

#[tokio::test]
async fn what_needs_no_key_has_no_limit() {
    let it = with_limits(1, 1).await;
    for _ in 0..3 {
        for path in ["/health", "/livez", "/openapi.json"] {
            assert_eq!(send(&it.admin, call("GET", path, "", None)).await.status, 200, "{path}");
        }
    }
}

#[tokio::test]
async fn a_key_that_was_revoked_is_not_looked_at_past_the_limit_either() {
    let it = with_limits(600, 3).await;
    let (_, good) = it.issue_admin().await;
    let (leaver, left) = it.issue_admin().await;
    assert_eq!(list(&it, &left).await.status, 200);
    let revoke = call("DELETE", &format!("{LIST}{}", leaver.key_id), &good, None);
    assert_eq!(send(&it.admin, revoke).await.status, 200);
    assert_eq!(list(&it, &left).await.status, 401);
    for number in 0..2 {
        list(&it, &format!("nobody-{number}")).await;
    }
    let looked_at = it.service.admin_limits.digest(&presented(&left));
    assert!(!it.service.admin_limits.was_let_in(looked_at));
    assert_eq!(list(&it, &left).await.problem(), (429, "too_many_failures".to_owned()));
    assert_eq!(list(&it, &good).await.status, 200);
}

fn presented(key: &str) -> PresentedKey {
    PresentedKey::new(key.as_bytes().to_vec()).expect("a key")
}

#[tokio::test]
async fn a_flood_of_addresses_takes_no_room_from_admin_keys() {
    let it = with_limits(5, 1).await;
    let limits = &it.service.admin_limits;
    // Three times as many as there is room for.
    for number in 0..100_000_u32 {
        limits.failed(Ipv4Addr::from_bits(number).into()).await;
    }
    for number in 0..10 {
        let standing = limits.call(KeyId::from_u64(number)).await;
        assert_eq!(standing.decision.remaining, 4, "{number}");
    }
}
