//! A clock that goes anywhere: a worker says no more than it has to, and serves again soon.

use crate::world::{Ask, START_MS, World, passed, with};
use edge_protocol::Scope;
use proptest::prelude::*;
use wasm_bindgen_test::wasm_bindgen_test;

const CONFIG: &str = r#"{"version":1,"limits":[
    {"name":"fixed","per":"address","requests":1000,"window_seconds":2,"reach":"fleet"},
    {"name":"sliding","per":"key","requests":1000,"window_seconds":2,"reach":"fleet",
     "algorithm":"sliding_window"},
    {"name":"bucket","per":"key","requests":1000,"window_seconds":2,"algorithm":"token_bucket"}]}"#;

/// By how much the clock moves, in milliseconds: a hair, some seconds, hours, or years.
fn moves() -> impl Strategy<Value = i64> {
    let back_or_on = |most: i64| -most..most;
    prop_oneof![
        4 => 0i64..200,
        4 => back_or_on(6_000),
        1 => back_or_on(10_000_000),
        1 => back_or_on(i64::try_from(START_MS).unwrap()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, rng_seed: proptest::test_runner::RngSeed::Fixed(7), cases: 128, ..ProptestConfig::default() })]

    /// `World::collect` sees to it that there is an end to what the worker says at a moment.
    #[wasm_bindgen_test(unsupported = test)]
    fn a_worker_outlives_whatever_the_clock_does(
        steps in prop::collection::vec((moves(), 0usize..3, any::<bool>()), 1..60),
    ) {
        let mut world = World::new(CONFIG);
        let key = world.issue(Scope::Read);
        for (by, requests, answers) in steps {
            world.now_ms = world.now_ms.saturating_add_signed(by);
            for _ in 0..requests {
                world.send(&with(&key));
            }
            world.collect();
            if answers {
                world.answer_all();
            }
        }
        // Longer than any window, grant or loan.
        for _ in 0..15 {
            world.pass_ms(1000);
            world.send(&with(&key));
            world.answer_all();
        }
        passed(world.ask(&with(&key)));
        passed(world.ask(&Ask { client: "192.0.2.77", ..with(&key) }));
    }
}
