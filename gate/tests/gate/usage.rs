//! Usage: every request with a known key is counted once, or told of as lost.

use crate::world::{Ask, World, answer, passed, refused, with};
use edge_protocol::{EventKind, KeyLimit, Scope, UsageMethod, UsageOutcome};
use gate::{Credential, Decision};
use proptest::prelude::*;
use std::collections::BTreeMap;
use wasm_bindgen_test::wasm_bindgen_test;

const OPEN: &str = r#"{"version":1,"limits":[]}"#;

/// Counts by key, minute, method and outcome.
type Counts = BTreeMap<(String, u64, UsageMethod, UsageOutcome), u64>;

fn stored(world: &World) -> Counts {
    let mut counts = Counts::new();
    for it in &world.control_plane.usage {
        let kind = (it.key_id.clone(), it.minute_ms, it.method, it.outcome);
        *counts.entry(kind).or_default() += u64::from(it.count);
    }
    counts
}

/// By method and outcome alone.
fn kinds(world: &World) -> Vec<(UsageMethod, UsageOutcome, u64)> {
    let counts = stored(world).into_iter();
    counts.map(|((_, _, method, outcome), count)| (method, outcome, count)).collect()
}

#[wasm_bindgen_test(unsupported = test)]
fn what_became_of_a_known_keys_request_is_counted_by_method() {
    let mut world = World::new(OPEN);
    let limit = serde_json::json!({"requests": 4, "window_seconds": 60});
    let key = world.issue_with(|record| {
        record.allowed_ips = vec!["192.0.2.0/24".parse().unwrap()];
        record.rate_limit = Some(serde_json::from_value::<KeyLimit>(limit).unwrap());
    });
    for method in ["GET", "GET", "HEAD", "OPTIONS", "GET"] {
        world.ask(&Ask { method, ..with(&key) });
    }
    for method in ["POST", "BREW"] {
        refused(world.ask(&Ask { method, ..with(&key) }));
    }
    refused(world.ask(&Ask { client: "198.51.100.1", ..with(&key) }));
    world.revoke(&key);
    world.pass_ms(1000);
    refused(world.get(&key));
    world.pass_ms(2000);
    assert_eq!(
        kinds(&world),
        [
            (UsageMethod::Get, UsageOutcome::Allowed, 2),
            (UsageMethod::Get, UsageOutcome::RateLimited, 1),
            (UsageMethod::Get, UsageOutcome::IpDenied, 1),
            (UsageMethod::Get, UsageOutcome::Revoked, 1),
            (UsageMethod::Head, UsageOutcome::Allowed, 1),
            (UsageMethod::Post, UsageOutcome::ScopeDenied, 1),
            (UsageMethod::Options, UsageOutcome::Allowed, 1),
            (UsageMethod::Other, UsageOutcome::ScopeDenied, 1),
        ]
    );
}

#[wasm_bindgen_test(unsupported = test)]
fn nobodys_requests_are_nobodys_usage() {
    let mut world = World::new(r#"{"version":1,"limits":[],"public":[{"path_prefix":"/open"}]}"#);
    let key = world.issue(Scope::Read);
    passed(world.ask(&Ask { path: "/open", ..with(&key) }));
    refused(world.ask(&Ask::default()));
    let unknown = world.unknown_key();
    refused(world.get(&unknown));
    refused(world.ask(&Ask { credential: Credential::Several, ..Ask::default() }));
    world.pass_ms(3000);
    assert_eq!(kinds(&world), []);
}

#[wasm_bindgen_test(unsupported = test)]
fn in_shadow_mode_a_request_counts_as_what_became_of_it() {
    let mut world = World::new(r#"{"version":1,"limits":[],"shadow":["scope"]}"#);
    let key = world.issue(Scope::Read);
    passed(world.ask(&Ask { method: "POST", ..with(&key) }));
    world.pass_ms(2000);
    assert_eq!(kinds(&world), [(UsageMethod::Post, UsageOutcome::Allowed, 1)]);
}

#[wasm_bindgen_test(unsupported = test)]
fn requests_that_waited_for_one_answer_count_one_by_one() {
    let mut world = World::new(OPEN);
    let key = world.issue(Scope::Read);
    for _ in 0..5 {
        assert_eq!(world.send(&with(&key)).1, Decision::Wait);
    }
    world.answer_all();
    world.pass_ms(2000);
    assert_eq!(kinds(&world), [(UsageMethod::Get, UsageOutcome::Allowed, 5)]);
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// A request with one of the keys.
    Ask {
        key: usize,
        method: &'static str,
    },
    Pass {
        ms: u64,
    },
    /// The control plane goes down or comes back.
    Up(bool),
    /// It stores batches, and the filter does not hear of it.
    LoseAnswers(bool),
    /// It refuses what it is sent as unreadable.
    RefuseBatches(bool),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let method = prop::sample::select(vec!["GET", "POST", "BREW"]);
    let step = prop_oneof![
        12 => (0usize..4, method).prop_map(|(key, method)| Step::Ask { key, method }),
        4 => (1u64..3_000).prop_map(|ms| Step::Pass { ms }),
        1 => (10_000u64..70_000).prop_map(|ms| Step::Pass { ms }),
        1 => any::<bool>().prop_map(Step::Up),
        1 => any::<bool>().prop_map(Step::LoseAnswers),
        1 => any::<bool>().prop_map(Step::RefuseBatches),
    ];
    prop::collection::vec(step, 0..80)
}

/// The keys of the story, all of them known to the worker.
fn known_keys(world: &mut World) -> Vec<String> {
    let good = world.issue(Scope::Write);
    let reader = world.issue(Scope::Read);
    let elsewhere = world.issue_with(|r| r.allowed_ips = vec!["203.0.113.0/24".parse().unwrap()]);
    let ended = world.issue_with(|r| r.is_active = false);
    vec![good, reader, elsewhere, ended]
}

fn expected(key: usize, decision: Decision) -> Option<UsageOutcome> {
    match decision {
        Decision::Pass(_) => Some(UsageOutcome::Allowed),
        refusal if answer(refusal).0 == 503 => None,
        _ => [
            None,
            Some(UsageOutcome::ScopeDenied),
            Some(UsageOutcome::IpDenied),
            Some(UsageOutcome::Revoked),
        ][key],
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        rng_seed: proptest::test_runner::RngSeed::Fixed(7),
        ..ProptestConfig::default()
    })]

    /// Against an oracle that counts each decision; whatever is repeated, refused or lost on the
    /// way.
    #[wasm_bindgen_test(unsupported = test)]
    fn every_use_is_stored_once_or_told_of_as_lost(steps in steps()) {
        let mut world = World::new(OPEN);
        let keys = known_keys(&mut world);
        let ids: Vec<_> =
            keys.iter().map(|key| world.control_plane.keys[key].key_id.clone()).collect();
        let mut counted = Counts::new();
        let mut clients = 0u32;
        let first = (0..keys.len()).map(|key| Step::Ask { key, method: "GET" });
        for step in first.chain(steps) {
            match step {
                Step::Ask { key, method } => {
                    // Each from elsewhere, so that no failed attempts add up.
                    clients += 1;
                    let client = format!("192.0.{}.{}", clients / 250, clients % 250);
                    let ask = Ask { method, client: &client, ..with(&keys[key]) };
                    let decision = world.ask(&ask);
                    if let Some(outcome) = expected(key, decision) {
                        let minute = world.now_ms - world.now_ms % 60_000;
                        let method = UsageMethod::of(method.as_bytes());
                        *counted.entry((ids[key].clone(), minute, method, outcome)).or_default() += 1;
                    }
                }
                Step::Pass { ms } => world.pass_ms(ms),
                Step::Up(up) => world.control_plane.up = up,
                Step::LoseAnswers(lose) => world.control_plane.loses_answers = lose,
                Step::RefuseBatches(refuse) => world.control_plane.refuses_batches = refuse,
            }
        }
        world.control_plane.up = true;
        world.control_plane.loses_answers = false;
        world.control_plane.refuses_batches = false;
        world.pass_ms(30_000);
        let stored = stored(&world);
        for (kind, count) in &stored {
            prop_assert!(counted.get(kind).is_some_and(|most| count <= most), "{kind:?}: {count}");
        }
        let lost: u64 = world
            .control_plane
            .events
            .iter()
            .filter(|event| event.kind == EventKind::UsageDropped)
            .map(|event| event.details.strip_prefix("count=").unwrap().parse::<u64>().unwrap())
            .sum();
        let sum = |counts: &Counts| counts.values().sum::<u64>();
        prop_assert_eq!(sum(&stored) + lost, sum(&counted));
        if world.control_plane.batches_refused == 0 {
            prop_assert_eq!(stored, counted);
        }
    }
}
