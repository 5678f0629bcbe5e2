//! Each algorithm against plain counting: several workers over one store, random schedules. Each worker
//! recollects what it stored, as in the filter.

use crate::world::{MemorySlots, START_MS, workers};
use gate::{
    ClientAddress, Credential, Decision, Now, Recollection, Request, SharedSlots, SlotName,
    StreamId, Version,
};
use proptest::prelude::*;
use std::cell::RefCell;
use std::rc::Rc;
use wasm_bindgen_test::wasm_bindgen_test;

/// When requests come: a pause before each, in milliseconds, and the worker that gets it.
fn arrivals() -> impl Strategy<Value = Vec<(u64, usize)>> {
    let pause = prop_oneof![6 => Just(0u64), 6 => 1u64..40, 2 => 40u64..600, 1 => 600u64..9_000];
    prop::collection::vec((pause, 0usize..3), 1..600)
}

/// Arrivals of which most reach one worker: now and then it is alone for long enough to store on a belief.
fn crowded_arrivals() -> impl Strategy<Value = Vec<(u64, usize)>> {
    let worker = prop_oneof![30 => Just(0usize), 1 => 1usize..3];
    (arrivals(), prop::collection::vec(worker, 600)).prop_map(|(mut arrivals, workers)| {
        for ((_, worker), other) in arrivals.iter_mut().zip(workers) {
            *worker = other;
        }
        arrivals
    })
}

fn all_arrivals() -> impl Strategy<Value = Vec<(u64, usize)>> {
    prop_oneof![arrivals(), crowded_arrivals()]
}

/// The store, as one of its workers sees it.
#[derive(Clone, Default)]
struct Shared(Rc<RefCell<MemorySlots>>);

impl SharedSlots for Shared {
    fn load(&mut self, slot: &SlotName, into: &mut [u8]) -> Option<(usize, Version)> {
        self.0.borrow_mut().load(slot, into)
    }

    fn store(&mut self, slot: &SlotName, content: &[u8], expected: Option<Version>) -> bool {
        self.0.borrow_mut().store(slot, content, expected)
    }
}

/// When they were let through, and when refused.
#[derive(Default)]
struct Seen {
    passed: Vec<u64>,
    refused: Vec<u64>,
}

fn play(algorithm: &str, limit: u32, seconds: u32, arrivals: Vec<(u64, usize)>) -> Seen {
    let config = format!(
        r#"{{"version":1,"public":[{{"path_prefix":"/"}}],"limits":[{{"name":"one",
           "per":"address","algorithm":"{algorithm}","requests":{limit},"window_seconds":{seconds}}}]}}"#
    );
    let mut workers = workers(&config);
    let shared = Shared::default();
    let mut slots: Vec<_> = workers.iter().map(|_| Recollection::new(shared.clone())).collect();
    let mut seen = Seen::default();
    let mut now_ms = START_MS;
    for (pause, worker) in arrivals {
        now_ms += pause;
        let request = Request {
            stream: StreamId(1),
            method: b"GET",
            path: b"/",
            credential: Credential::Absent,
            client: ClientAddress::parse(b"192.0.2.1"),
        };
        let now = Now::from_unix_ms(now_ms);
        match workers[worker].on_request(&request, now, &mut slots[worker]) {
            Decision::Pass(_) => seen.passed.push(now_ms),
            Decision::Refuse(refusal) => {
                let wait = refusal.retry_after.unwrap();
                assert!((1..=seconds * 33 / 32 + 2).contains(&wait), "{wait}");
                seen.refused.push(now_ms);
            }
            Decision::Wait => panic!("there is nobody to wait for"),
        }
    }
    seen
}

/// How many of `times` are in the stretch of `length` that ends with `end`, `end` included.
fn within(times: &[u64], end: u64, length: u64) -> usize {
    times.iter().filter(|at| (end.saturating_sub(length) + 1..=end).contains(at)).count()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, rng_seed: proptest::test_runner::RngSeed::Fixed(7), cases: 128, ..ProptestConfig::default() })]

    #[wasm_bindgen_test(unsupported = test)]
    fn a_sliding_window_never_has_more_than_its_limit_and_forgets_within_a_slice(
        limit in 1u32..60, seconds in 1u32..40, arrivals in all_arrivals(),
    ) {
        let seen = play("sliding_window", limit, seconds, arrivals);
        let window = u64::from(seconds) * 1000;
        let limit = usize::try_from(limit).unwrap();
        for &at in &seen.passed {
            prop_assert!(within(&seen.passed, at, window) <= limit, "too many until {at}");
        }
        for &at in &seen.refused {
            let late = window + window.div_ceil(32) + 1;
            prop_assert!(within(&seen.passed, at, late) >= limit, "refused at {at} with room");
        }
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn a_token_bucket_never_gives_more_than_it_holds_and_gets(
        limit in 1u32..60, seconds in 1u32..40, arrivals in all_arrivals(),
    ) {
        let seen = play("token_bucket", limit, seconds, arrivals);
        let window = u64::from(seconds) * 1000;
        for (first, &from) in seen.passed.iter().enumerate() {
            for (last, &to) in seen.passed.iter().enumerate().skip(first) {
                let passed = u64::try_from(last - first + 1).unwrap();
                // passed <= limit + limit * (to - from) / window
                prop_assert!(passed * window <= u64::from(limit) * (window + to - from));
            }
        }
        // Exactly, in whole tokens times the window: refused only when there was not one.
        let (mut tokens, mut then) = (u64::from(limit) * window, START_MS);
        let mut all: Vec<_> = seen.passed.iter().map(|&at| (at, true)).collect();
        all.extend(seen.refused.iter().map(|&at| (at, false)));
        all.sort_by_key(|&(at, passed)| (at, !passed));
        for (at, passed) in all {
            tokens = (tokens + (at - then) * u64::from(limit)).min(u64::from(limit) * window);
            then = at;
            if passed {
                prop_assert!(tokens >= window);
                tokens -= window;
            } else {
                // A token takes up to a nanosecond longer here.
                prop_assert!(tokens <= window, "refused at {at} with {tokens} of {window}");
            }
        }
    }
}
