//! Limits: exact across workers, against an oracle that counts each request.

use crate::world::{Ask, MemorySlots, START_MS, World, answer, passed, refused, with, workers};
use edge_protocol::{KeyLimit, Scope};
use gate::{ClientAddress, Config, Credential, Decision, Gate, Now, Request, Seeds, StreamId};
use proptest::prelude::*;
use std::collections::HashMap;
use wasm_bindgen_test::wasm_bindgen_test;

fn key_limit(requests: u32, window_seconds: u32) -> KeyLimit {
    serde_json::from_value(
        serde_json::json!({"requests": requests, "window_seconds": window_seconds}),
    )
    .unwrap()
}

#[wasm_bindgen_test(unsupported = test)]
fn by_default_an_address_may_get_100_and_post_50_a_minute() {
    let mut world = World::new(r#"{"version":1}"#);
    let key = world.issue(Scope::Write);
    for (method, limit) in [("GET", 100), ("POST", 50)] {
        for left in (0..limit).rev() {
            let pass = passed(world.ask(&Ask { method, ..with(&key) }));
            assert_eq!(pass.report.unwrap().remaining, left);
        }
        let refusal = refused(world.ask(&Ask { method, ..with(&key) }));
        assert_eq!((refusal.status(), refusal.retry_after), (429, Some(60)));
        assert_eq!(refusal.report.unwrap().limit, limit);
    }
    passed(world.ask(&Ask { client: "192.0.2.2", ..with(&key) }));
    world.now_ms = START_MS + 60_000;
    passed(world.get(&key));
}

#[wasm_bindgen_test(unsupported = test)]
fn a_key_brings_its_own_limit_along() {
    let mut world = World::new(r#"{"version":1}"#);
    let key = world.issue_with(|r| r.rate_limit = Some(key_limit(3, 10)));
    for i in 0..3 {
        let client = format!("192.0.2.{i}");
        let pass = passed(world.ask(&Ask { client: &client, ..with(&key) }));
        let report = pass.report.unwrap();
        assert_eq!((report.limit, report.remaining, report.window_seconds), (3, 2 - i, 10));
        assert_eq!(world.gate.limit_name(&report), "key");
    }
    let refusal = refused(world.ask(&Ask { client: "192.0.2.200", ..with(&key) }));
    assert_eq!((refusal.status(), refusal.retry_after), (429, Some(10)));
}

#[wasm_bindgen_test(unsupported = test)]
fn failed_credentials_are_limited_and_known_keys_still_pass() {
    let mut world = World::new(r#"{"version":1,"limits":[]}"#);
    let known = world.issue(Scope::Read);
    passed(world.get(&known));
    for _ in 0..5 {
        let key = world.unknown_key();
        assert_eq!(answer(world.get(&key)).0, 403);
    }
    let calls = world.control_plane.verify_calls;
    let key = world.unknown_key();
    assert_eq!(answer(world.get(&key)), (429, "too_many_failed_attempts".into()));
    let not_yet_known = world.issue(Scope::Read);
    assert_eq!(answer(world.get(&not_yet_known)).0, 429);
    assert_eq!(world.control_plane.verify_calls, calls, "no call for these");
    passed(world.get(&known));
    passed(world.ask(&Ask { client: "192.0.2.77", ..with(&not_yet_known) }));
    world.now_ms += 60_000;
    let key = world.unknown_key();
    assert_eq!(answer(world.get(&key)).0, 403);
}

#[wasm_bindgen_test(unsupported = test)]
fn a_whole_ipv6_64_shares_its_failed_attempts() {
    let mut world = World::new(r#"{"version":1,"limits":[]}"#);
    for i in 0..5 {
        let key = world.unknown_key();
        let client = format!("2001:db8::{i}");
        assert_eq!(answer(world.ask(&Ask { client: &client, ..with(&key) })).0, 403);
    }
    let key = world.unknown_key();
    assert_eq!(answer(world.ask(&Ask { client: "2001:db8::99", ..with(&key) })).0, 429);
    assert_eq!(answer(world.ask(&Ask { client: "2001:db8:0:1::99", ..with(&key) })).0, 403);
}

#[wasm_bindgen_test(unsupported = test)]
fn a_count_that_cannot_be_had_follows_the_rule() {
    for (on_outage, passes) in [("deny", false), ("allow", true)] {
        let mut world = World::new(&format!(
            r#"{{"version":1,"public":[{{"path_prefix":"/"}}],"limits":[{{"name":"l","per":"address",
                "requests":5,"window_seconds":60,"on_outage":"{on_outage}"}}]}}"#
        ));
        world.slots.lost_races = u32::MAX;
        let decision = world.ask(&Ask::default());
        assert_eq!(matches!(decision, Decision::Pass(_)), passes);
        // Some lost races are only that.
        world.slots.lost_races = 20;
        passed(world.ask(&Ask::default()));
    }
}

/// Several workers over one store, each limit's every window checked against plain counting.
#[derive(Clone, Debug)]
enum Step {
    Request { worker: usize, client: u8, post: bool },
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        12 => (0usize..3, 0u8..4, any::<bool>())
            .prop_map(|(worker, client, post)| Step::Request { worker, client, post }),
        1 => (1u64..9_000).prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 0..400)
}

proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, rng_seed: proptest::test_runner::RngSeed::Fixed(7), ..ProptestConfig::default() })]

    #[wasm_bindgen_test(unsupported = test)]
    fn a_fixed_window_is_exact_across_workers(steps in steps()) {
        let config = r#"{"version":1,"public":[{"path_prefix":"/"}],"limits":[
            {"name":"get","per":"address","methods":["GET"],"requests":7,"window_seconds":10},
            {"name":"all","per":"address","requests":11,"window_seconds":15}]}"#;
        let mut workers = workers(config);
        let mut slots = MemorySlots::default();
        let mut counts: HashMap<(&str, u8, u64), u32> = HashMap::new();
        let mut now_ms = START_MS;
        for step in steps {
            match step {
                Step::Wait(ms) => now_ms += ms,
                Step::Request { worker, client, post } => {
                    let address = format!("192.0.2.{client}");
                    let request = Request {
                        stream: StreamId(1),
                        method: if post { b"POST" } else { b"GET" },
                        path: b"/",
                        credential: Credential::Absent,
                        client: ClientAddress::parse(address.as_bytes()),
                    };
                    let decision =
                        workers[worker].on_request(&request, Now::from_unix_ms(now_ms), &mut slots);
                    let mut expected = true;
                    for (name, limit, seconds, applies) in
                        [("get", 7, 10, !post), ("all", 11, 15, true)]
                    {
                        if applies && expected {
                            let count = counts.entry((name, client, now_ms / 1000 / seconds)).or_default();
                            expected = *count < limit;
                            *count += u32::from(expected);
                        }
                    }
                    prop_assert_eq!(matches!(decision, Decision::Pass(_)), expected);
                }
            }
        }
    }
}

#[wasm_bindgen_test(unsupported = test)]
fn a_key_that_another_worker_knows_passes_despite_failed_attempts() {
    let mut world = World::new(r#"{"version":1,"limits":[]}"#);
    let known = world.issue(Scope::Read);
    passed(world.get(&known));
    for _ in 0..5 {
        let key = world.unknown_key();
        assert_eq!(answer(world.get(&key)).0, 403);
    }
    // Another worker: nothing in its own caches, and the same shared slots.
    let config = Config::parse(br#"{"version":1,"limits":[]}"#).unwrap();
    world.gate = Gate::new(config, Seeds { cache: [8; 16], shared: [2; 16], source: [8; 16] });
    world.on_the_way.clear();
    let unknown = world.unknown_key();
    assert_eq!(answer(world.get(&unknown)).0, 429);
    passed(world.get(&known));
}

#[wasm_bindgen_test(unsupported = test)]
fn a_limit_on_trial_is_not_told_to_clients() {
    let mut world = World::new(
        r#"{"version":1,"shadow":["trial"],"limits":[
            {"name":"trial","per":"address","requests":1,"window_seconds":60},
            {"name":"real","per":"address","requests":50,"window_seconds":60}]}"#,
    );
    let key = world.issue(Scope::Read);
    for left in [49, 48, 47] {
        let report = passed(world.get(&key)).report.unwrap();
        assert_eq!((world.gate.limit_name(&report), report.remaining), ("real", left));
    }
}
