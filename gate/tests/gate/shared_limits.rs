//! Limits that a fleet shares, as one Envoy sees them: what needs no call, what waits, and what
//! holds while nobody answers.

use crate::world::{Ask, Reply, World, answer, passed, refused};
use edge_protocol::leases::ALL_SHARES;
use gate::{Call, Decision};
use wasm_bindgen_test::wasm_bindgen_test;

fn config(requests: u32, more: &str) -> String {
    format!(
        r#"{{"version":1,"public":[{{"path_prefix":"/"}}],"limits":[{{"name":"all","per":"address",
           "reach":"fleet","requests":{requests},"window_seconds":60{more}}}]}}"#
    )
}

/// An Envoy that has been in its fleet for longer than a window.
fn settled(requests: u32, parts: u32, envoys: u32, more: &str) -> World {
    let mut world = World::new(&config(requests, more));
    (world.control_plane.parts, world.control_plane.envoys) = (parts, envoys);
    passed(world.ask(&Ask { client: "203.0.113.9", ..Ask::default() }));
    world.pass_ms(122_000);
    to_the_next_minute(&mut world);
    world.control_plane.asks.clear();
    world
}

fn to_the_next_minute(world: &mut World) {
    world.pass_ms(60_050 - world.now_ms % 60_000);
}

/// How many of `n` requests pass at once, pass after a wait, and are refused.
fn send(world: &mut World, n: u32) -> (u32, u32, u32) {
    let mut counts = (0, 0, 0);
    for _ in 0..n {
        let (stream, decision) = world.send(&Ask::default());
        match decision {
            Decision::Pass(_) => counts.0 += 1,
            Decision::Refuse(_) => counts.2 += 1,
            Decision::Wait => {
                while !world.resumed.iter().any(|(id, _)| *id == stream) {
                    world.collect();
                    world.answer_all();
                }
                let at = world.resumed.iter().position(|(id, _)| *id == stream).unwrap();
                match world.resumed.swap_remove(at).1 {
                    Decision::Pass(_) => counts.1 += 1,
                    other => {
                        refused(other);
                        counts.2 += 1;
                    }
                }
            }
        }
        world.collect();
        world.answer_all();
    }
    counts
}

#[wasm_bindgen_test(unsupported = test)]
fn what_is_below_the_share_needs_no_call() {
    let mut world = settled(100, ALL_SHARES / 2, 2, "");
    assert_eq!(send(&mut world, 18), (18, 0, 0), "three quarters of its 25");
    assert_eq!(world.control_plane.asks, []);
}

#[wasm_bindgen_test(unsupported = test)]
fn beyond_the_share_it_is_granted_ahead_of_time_and_never_more_than_there_is() {
    for algorithm in ["fixed_window", "sliding_window", "token_bucket"] {
        let more = format!(r#","algorithm":"{algorithm}""#);
        let mut world = settled(100, ALL_SHARES / 2, 2, &more);
        world.control_plane.chunk = 8;
        let (at_once, waited, over) = send(&mut world, 1000);
        assert_eq!((at_once + waited, over), (25 + 50, 925), "{algorithm}");
        assert!(waited <= 3, "{algorithm}: {waited} waited");
        let asks = &world.control_plane.asks;
        assert!(asks.iter().all(|ask| ask.subject == "address:192.0.2.1" && ask.limit == "all"));
        assert!(asks.len() < 20, "{algorithm}: {} asks", asks.len());
    }
}

/// A slice of a window of a minute that slides, in milliseconds.
const SLICE_MS: u64 = 1875;

#[wasm_bindgen_test(unsupported = test)]
fn what_is_granted_of_what_slides_is_spent_in_its_slice_or_the_next_and_no_later() {
    for (slices, counts) in [(0, (6, 0, 0)), (1, (6, 0, 0)), (2, (5, 1, 0))] {
        let mut world = settled(100, ALL_SHARES / 2, 2, r#","algorithm":"sliding_window""#);
        world.control_plane.chunk = 8;
        assert_eq!(send(&mut world, 26).2, 0, "its 25, and one of 8");
        world.now_ms += slices * SLICE_MS;
        assert_eq!(send(&mut world, 6), counts, "{slices} slices later");
    }
}

#[wasm_bindgen_test(unsupported = test)]
fn an_answer_that_comes_in_the_next_slice_is_not_lost() {
    let mut world = settled(100, ALL_SHARES / 2, 2, r#","algorithm":"token_bucket""#);
    while passes_at_once(&mut world) {}
    world.control_plane.chunk = 8;
    let calls = std::mem::take(&mut world.on_the_way);
    let told: Vec<_> = calls.iter().map(|call| (call.call, world.answer_to(call))).collect();
    world.now_ms += SLICE_MS;
    for (call, reply) in told {
        if let Reply::Answer(body) = reply {
            world.deliver(call, Some(&body));
            // Once more, as if it had been sent twice.
            world.deliver(call, Some(&body));
        }
    }
    world.answer_all();
    assert_eq!(world.resumed.len(), 1);
    passed(world.resumed.remove(0).1);
    // Of its own it has 25 in a minute.
    assert_eq!((0..9).filter(|_| passes_at_once(&mut world)).count(), 7);
}

#[wasm_bindgen_test(unsupported = test)]
fn what_is_granted_of_what_slides_is_not_spent_before_its_slice_when_the_clock_goes_back() {
    let mut world = settled(100, ALL_SHARES / 2, 2, r#","algorithm":"sliding_window""#);
    world.control_plane.chunk = 8;
    assert_eq!(send(&mut world, 26).2, 0, "its 25, and one of 8");
    let back = world.now_ms % SLICE_MS + 1;
    world.now_ms -= back;
    assert!(!passes_at_once(&mut world));
    world.now_ms += back;
    assert!(passes_at_once(&mut world));
}

fn passes_at_once(world: &mut World) -> bool {
    matches!(world.send(&Ask::default()).1, Decision::Pass(_))
}

#[wasm_bindgen_test(unsupported = test)]
fn an_envoy_that_stays_within_its_share_takes_nothing_of_a_pool_that_slides() {
    let mut world = settled(100, ALL_SHARES / 2, 2, r#","algorithm":"sliding_window""#);
    for _ in 0..66 {
        // 22 of its 25 in a minute.
        assert!(passes_at_once(&mut world));
        world.pass_ms(60_000 / 22);
    }
    assert!(world.control_plane.asks.len() <= 1, "{:?}", world.control_plane.asks);
}

#[wasm_bindgen_test(unsupported = test)]
fn an_envoy_that_has_just_come_lives_by_what_it_asks_for() {
    let mut world = World::new(&config(100, ""));
    assert_eq!(send(&mut world, 10), (9, 1, 0));
    assert_eq!(world.control_plane.asks.first().unwrap().holds, 0);
    world.control_plane.chunk = 20;
    let (at_once, waited, over) = send(&mut world, 100);
    assert_eq!((at_once + waited, over), (40, 60), "the pool is half of the limit here");
    assert!(waited <= 2, "{waited}");
}

#[wasm_bindgen_test(unsupported = test)]
fn an_answer_that_comes_twice_or_never_neither_adds_nor_loses() {
    let mut world = settled(20, ALL_SHARES, 1, "");
    world.control_plane.chunk = 10;
    for _ in 0..10 {
        passed(world.send(&Ask::default()).1);
    }
    // The ask is sent, granted, and the answer lost.
    world.collect();
    let messages = std::mem::take(&mut world.on_the_way);
    let (asks, rest): (Vec<_>, Vec<_>) =
        messages.into_iter().partition(|m| matches!(m.call, Call::Leases(_)));
    world.on_the_way = rest;
    assert_eq!(asks.len(), 1);
    let Reply::Answer(body) = world.answer_to(&asks[0]) else { panic!("it answers") };
    world.deliver(asks[0].call, None);
    world.deliver(asks[0].call, Some(&body));
    world.pass_ms(600);
    // The next ask brings what the first was granted, and no more than that.
    let (at_once, waited, over) = send(&mut world, 30);
    assert_eq!((at_once + waited, over), (10, 20));
}

#[wasm_bindgen_test(unsupported = test)]
fn with_nobody_to_ask_each_goes_on_with_its_part_of_the_whole() {
    let mut world = settled(100, ALL_SHARES / 4, 4, "");
    world.control_plane.up = false;
    assert_eq!(send(&mut world, 5), (5, 0, 0));
    world.pass_ms(8_000);
    // In the window that had begun, the share of this one: 12, of which 5 are used.
    assert_eq!(send(&mut world, 100), (7, 0, 93));
    to_the_next_minute(&mut world);
    assert_eq!(send(&mut world, 100), (25, 0, 75));
    // The control plane is back: this window ends as it began.
    world.control_plane.up = true;
    world.pass_ms(3_000);
    assert_eq!(send(&mut world, 100), (0, 0, 100));
    to_the_next_minute(&mut world);
    assert_eq!(send(&mut world, 5), (5, 0, 0));
}

#[wasm_bindgen_test(unsupported = test)]
fn what_comes_of_a_pool_when_the_loan_is_over_is_not_for_a_window_that_others_divide() {
    let mut world = settled(100, ALL_SHARES / 4, 4, "");
    world.pass_ms(57_000);
    world.control_plane.up = false;
    // The loan of this one lasts for some seconds of the new minute, that of others may not.
    to_the_next_minute(&mut world);
    for _ in 0..12 {
        passed(world.send(&Ask::default()).1);
    }
    let (stream, decision) = world.send(&Ask::default());
    assert_eq!(decision, Decision::Wait);
    world.collect();
    let messages = std::mem::take(&mut world.on_the_way);
    let (asks, rest): (Vec<_>, Vec<_>) =
        messages.into_iter().partition(|it| matches!(it.call, Call::Leases(_)));
    world.on_the_way = rest;
    world.pass_ms(8_000);
    world.control_plane.up = true;
    for ask in &asks {
        let Reply::Answer(body) = world.answer_to(ask) else { panic!("it answers") };
        world.deliver(ask.call, Some(&body));
    }
    // It has waited behind the first ask, and for an answer to its own.
    world.pass_ms(200);
    let at = world.resumed.iter().position(|(id, _)| *id == stream).unwrap();
    refused(world.resumed.swap_remove(at).1);
    assert!(!passes_at_once(&mut world));
}

#[wasm_bindgen_test(unsupported = test)]
fn in_a_window_that_has_begun_it_stays_at_what_that_window_allows_when_the_clock_goes_back() {
    let mut world = settled(100, ALL_SHARES / 4, 4, "");
    world.control_plane.up = false;
    world.pass_ms(8_000);
    to_the_next_minute(&mut world);
    world.control_plane.up = true;
    // What it is told comes between whole seconds, so not at the beginning of a minute.
    world.now_ms += 1_500;
    to_the_next_minute(&mut world);
    assert_eq!(send(&mut world, 100).2, 38, "its 12, and the pool's 50");
    // In the window before, each had its part of the whole: 25.
    world.now_ms -= 100;
    assert_eq!(send(&mut world, 100), (0, 0, 100));
    world.now_ms += 100;
    assert_eq!(send(&mut world, 100), (0, 0, 100));
}

#[wasm_bindgen_test(unsupported = test)]
fn when_nothing_was_ever_heard_the_rule_says_what_becomes_of_it() {
    for (on_outage, passes) in [("deny", false), ("allow", true)] {
        let mut world = World::new(&config(10, &format!(r#","on_outage":"{on_outage}""#)));
        world.control_plane.up = false;
        let decision = world.ask(&Ask::default());
        if passes {
            passed(decision);
        } else {
            assert_eq!(answer(decision).0, 429);
        }
    }
}

#[wasm_bindgen_test(unsupported = test)]
fn a_burst_waits_for_one_call_and_passes() {
    let mut world = settled(100, ALL_SHARES, 1, "");
    let mut waiting = 0;
    for _ in 0..100 {
        match world.send(&Ask::default()).1 {
            Decision::Pass(_) => {}
            Decision::Wait => waiting += 1,
            Decision::Refuse(_) => panic!("there is room"),
        }
    }
    assert_eq!(waiting, 50);
    for _ in 0..5 {
        world.collect();
        world.answer_all();
    }
    assert_eq!(world.resumed.len(), 50);
    for (_, decision) in std::mem::take(&mut world.resumed) {
        passed(decision);
    }
    assert!(world.control_plane.asks.len() <= 4, "{:?}", world.control_plane.asks);
}
