//! Asking about keys: once for many, kept for later, never outdated by a revocation.

use crate::world::{Reply, World, answer, passed, refused, with};
use edge_protocol::{ChangeKind, Scope};
use gate::{Call, Decision};
use wasm_bindgen_test::wasm_bindgen_test;

const PATIENT: &str = r#"{"version":1,"limits":[]}"#;

#[wasm_bindgen_test(unsupported = test)]
fn concurrent_misses_on_one_key_make_one_call() {
    let mut world = World::new(PATIENT);
    let key = world.issue(Scope::Read);
    for _ in 0..50 {
        assert_eq!(world.send(&with(&key)).1, Decision::Wait);
    }
    world.answer_all();
    assert_eq!(world.control_plane.verify_calls, 1);
    assert_eq!(world.resumed.len(), 50);
    for (_, decision) in std::mem::take(&mut world.resumed) {
        passed(decision);
    }
}

#[wasm_bindgen_test(unsupported = test)]
fn a_known_key_is_decided_without_a_call_and_asked_about_ahead_of_time() {
    let mut world = World::new(PATIENT);
    let key = world.issue(Scope::Read);
    passed(world.get(&key));
    for _ in 0..600 {
        world.pass_ms(1000);
        let (_, decision) = world.send(&with(&key));
        passed(decision);
        world.answer_all();
    }
    let calls = world.control_plane.verify_calls;
    assert!((11..=17).contains(&calls), "{calls} calls in 600 s of 60 s each");
}

#[wasm_bindgen_test(unsupported = test)]
fn keys_that_were_learnt_together_are_not_asked_about_together_again() {
    let mut world = World::new(PATIENT);
    let keys: Vec<_> = (0..64).map(|_| world.issue(Scope::Read)).collect();
    for key in &keys {
        passed(world.get(key));
    }
    for second in 1..=53 {
        world.pass_ms(1000);
        let calls = world.control_plane.verify_calls;
        for key in &keys {
            passed(world.send(&with(key)).1);
        }
        world.answer_all();
        let asked = world.control_plane.verify_calls - calls;
        let most = if (37..=53).contains(&second) { 16 } else { 0 };
        assert!(asked <= most, "{asked} of {} after {second} s", keys.len());
    }
    assert_eq!(world.control_plane.verify_calls, 2 * 64);
}

#[wasm_bindgen_test(unsupported = test)]
fn a_revocation_reaches_the_cache_by_the_feed() {
    let mut world = World::new(PATIENT);
    let key = world.issue(Scope::Read);
    let other = world.issue(Scope::Read);
    passed(world.get(&key));
    passed(world.get(&other));
    world.pass_ms(1000);
    world.revoke(&key);
    world.answer_all();
    assert_eq!(answer(world.get(&key)), (403, "invalid_api_key".into()));
    let calls = world.control_plane.verify_calls;
    passed(world.get(&other));
    assert_eq!(world.control_plane.verify_calls, calls, "the other key stayed");
}

#[wasm_bindgen_test(unsupported = test)]
fn an_answer_that_a_revocation_overtook_lets_nobody_in() {
    let mut world = World::new(PATIENT);
    let key = world.issue(Scope::Read);
    let first = world.issue(Scope::Read);
    passed(world.get(&first));
    world.pass_ms(1000);
    // The control plane has read the row, then the key is revoked, and the feed is faster.
    let (_, decision) = world.send(&with(&key));
    assert_eq!(decision, Decision::Wait);
    let at = world.on_the_way.iter().position(|m| matches!(m.call, Call::Verify(_))).unwrap();
    let verify = world.on_the_way.remove(at);
    let Reply::Answer(overtaken) = world.answer_to(&verify) else { panic!("an answer") };
    world.revoke(&key);
    world.answer_all();
    world.deliver(verify.call, Some(&overtaken));
    assert!(world.resumed.is_empty(), "it is asked again");
    world.answer_all();
    let (_, decision) = world.resumed.pop().unwrap();
    assert_eq!(answer(decision), (403, "invalid_api_key".into()));
    assert_eq!(answer(world.get(&key)), (403, "invalid_api_key".into()));
}

#[wasm_bindgen_test(unsupported = test)]
fn a_key_that_comes_into_being_is_not_taken_for_unknown_any_longer() {
    let mut world = World::new(PATIENT);
    let key = world.unknown_key();
    refused(world.get(&key));
    world.pass_ms(1000);
    let record_of = world.issue(Scope::Read);
    let record = world.control_plane.keys.remove(&record_of).unwrap();
    let key_id = record.key_id.clone();
    world.control_plane.keys.insert(key.clone(), record);
    world.announce(&key_id, ChangeKind::Created);
    world.pass_ms(1000);
    passed(world.get(&key));
}

#[wasm_bindgen_test(unsupported = test)]
fn an_outage_is_bridged_for_known_keys_up_to_the_bound() {
    let mut world = World::new(
        r#"{"version":1,"limits":[],"cache":{"fresh_seconds":60,"stale_if_error_seconds":600}}"#,
    );
    let key = world.issue(Scope::Read);
    passed(world.get(&key));
    world.control_plane.up = false;
    for _ in 0..65 {
        world.pass_ms(10_000);
        passed(world.get(&key));
    }
    world.pass_ms(11_000);
    assert_eq!(answer(world.get(&key)), (503, "temporarily_unavailable".into()));
    world.control_plane.up = true;
    world.pass_ms(1000);
    passed(world.get(&key));
}

#[wasm_bindgen_test(unsupported = test)]
fn during_an_outage_a_known_key_waits_at_most_once() {
    let mut world = World::new(PATIENT);
    let key = world.issue(Scope::Read);
    passed(world.get(&key));
    world.control_plane.up = false;
    world.pass_ms(61_000);
    passed(world.get(&key));
    for _ in 0..100 {
        world.pass_ms(100);
        let (_, decision) = world.send(&with(&key));
        passed(decision);
    }
}

#[wasm_bindgen_test(unsupported = test)]
fn a_known_key_waits_once_for_a_control_plane_that_says_that_it_cannot_tell() {
    let mut world = World::new(PATIENT);
    let [key, other] = [(); 2].map(|()| world.issue(Scope::Read));
    passed(world.get(&key));
    passed(world.get(&other));
    world.pass_ms(61_000);
    // Its database is away: it says so, but takes most of a second for it.
    let no_database = gate::Answer { status: 503, stamped: true, body: b"{}" };
    assert_eq!(world.send(&with(&key)).1, Decision::Wait);
    let at = world.on_the_way.iter().position(|m| matches!(m.call, Call::Verify(_))).unwrap();
    let verify = world.on_the_way.remove(at);
    let now = world.now();
    let decided = world.gate.on_answer(verify.call, &no_database, now, &mut world.slots);
    passed(decided[0].1);
    for _ in 0..100 {
        passed(world.send(&with(&key)).1);
        passed(world.send(&with(&other)).1);
    }
    // Both are asked about all the while, and what is answered counts.
    world.revoke(&other);
    world.answer_all();
    assert_eq!(answer(world.get(&other)), (403, "invalid_api_key".into()));
    passed(world.get(&key));
}

#[wasm_bindgen_test(unsupported = test)]
fn a_silent_feed_makes_what_is_cached_stale() {
    let mut world = World::new(PATIENT);
    let key = world.issue(Scope::Read);
    passed(world.get(&key));
    let calls = world.control_plane.verify_calls;
    // Time passes, and the poll that is on the way is never answered.
    world.now_ms += 13_000;
    assert_eq!(world.send(&with(&key)).1, Decision::Wait);
    world.answer_all();
    assert_eq!(world.control_plane.verify_calls, calls + 1);
}

#[wasm_bindgen_test(unsupported = test)]
fn an_answer_is_kept_even_if_nobody_waits_for_it_any_more() {
    let mut world = World::new(PATIENT);
    let key = world.issue(Scope::Read);
    assert_eq!(world.send(&with(&key)).1, Decision::Wait);
    // The client goes away; the gate is not even told.
    world.answer_all();
    world.resumed.clear();
    let (_, decision) = world.send(&with(&key));
    passed(decision);
}

#[wasm_bindgen_test(unsupported = test)]
fn a_flood_of_unknown_keys_does_not_push_out_a_known_one() {
    let mut world = World::new(r#"{"version":1,"limits":[],"cache":{"keys":10}}"#);
    let key = world.issue(Scope::Read);
    passed(world.get(&key));
    for i in 0..2000u32 {
        let unknown = world.unknown_key();
        let client = format!("10.0.{}.{}", i / 250, i % 250);
        refused(world.ask(&crate::world::Ask { client: &client, ..with(&unknown) }));
    }
    let calls = world.control_plane.verify_calls;
    passed(world.get(&key));
    assert_eq!(world.control_plane.verify_calls, calls);
}

#[wasm_bindgen_test(unsupported = test)]
fn one_address_cannot_take_all_the_lookups() {
    let mut world = World::new(PATIENT);
    let mut waiting = 0;
    for _ in 0..200 {
        let unknown = world.unknown_key();
        waiting += usize::from(world.send(&with(&unknown)).1 == Decision::Wait);
    }
    assert_eq!(waiting, 64);
    let key = world.issue(Scope::Read);
    let elsewhere = crate::world::Ask { client: "192.0.2.99", ..with(&key) };
    assert_eq!(world.send(&elsewhere).1, Decision::Wait);
}

#[wasm_bindgen_test(unsupported = test)]
fn every_event_reaches_the_control_plane_once_it_is_back() {
    let mut world = World::new(PATIENT);
    let key = world.issue(Scope::Read);
    passed(world.get(&key));
    world.control_plane.up = false;
    for _ in 0..300 {
        refused(world.ask(&crate::world::Ask::default()));
    }
    world.pass_ms(5_000);
    assert!(world.control_plane.events.iter().all(|e| e.kind.as_str() != "MISSING_API_KEY"));
    world.control_plane.up = true;
    world.pass_ms(20_000);
    let missing = world.events().iter().filter(|kind| **kind == "MISSING_API_KEY").count();
    assert_eq!(missing, 300);
    assert_eq!(world.events().iter().filter(|kind| **kind == "VALID_API_KEY").count(), 1);
}

#[wasm_bindgen_test(unsupported = test)]
fn the_strict_mode_loses_no_event_of_a_request_that_waited_while_the_room_was_used_up() {
    let mut world = World::new(r#"{"version":1,"limits":[],"audit":{"on_backlog_full":"deny"}}"#);
    for _ in 0..50 {
        let unknown = world.unknown_key();
        assert_eq!(world.send(&with(&unknown)).1, Decision::Wait);
    }
    let mut missing = 0;
    while let (_, Decision::Refuse(refusal)) = world.send(&crate::world::Ask::default()) {
        if refusal.status() == 503 {
            break;
        }
        missing += 1;
    }
    world.control_plane.up = false;
    world.answer_all();
    assert_eq!(world.resumed.len(), 50);
    world.control_plane.up = true;
    world.pass_ms(60_000);
    let told = world.events();
    let count = |kind: &str| told.iter().filter(|it| **it == kind).count();
    assert_eq!((count("MISSING_API_KEY"), count("DB_ERROR")), (missing, 50));
    assert_eq!(count("EVENTS_DROPPED"), 0);
}

#[wasm_bindgen_test(unsupported = test)]
fn a_worker_that_sees_no_request_says_nothing() {
    let mut world = World::new(PATIENT);
    world.pass_ms(10_000);
    assert!(world.on_the_way.is_empty());
}

#[wasm_bindgen_test(unsupported = test)]
fn a_clock_that_is_set_back_lets_nothing_last_longer() {
    let mut world = World::new(PATIENT);
    let key = world.issue(Scope::Read);
    passed(world.get(&key));
    world.pass_ms(1000);
    world.control_plane.up = false;
    world.pass_ms(1000);
    world.now_ms -= 3_600_000;
    world.control_plane.up = true;
    world.revoke(&key);
    world.pass_ms(1000);
    assert_eq!(answer(world.get(&key)), (403, "invalid_api_key".into()));
    let other = world.issue(Scope::Read);
    passed(world.ask(&crate::world::Ask { client: "192.0.2.2", ..with(&other) }));
}

#[wasm_bindgen_test(unsupported = test)]
fn an_overloaded_control_plane_costs_only_the_keys_it_cannot_tell() {
    let mut world = World::new(PATIENT);
    let known = world.issue(Scope::Read);
    let other = world.issue(Scope::Read);
    passed(world.get(&known));
    let (stream, _) = world.send(&with(&other));
    let at = world.on_the_way.iter().position(|m| matches!(m.call, Call::Verify(_))).unwrap();
    let verify = world.on_the_way.remove(at);
    let overloaded = gate::Answer { status: 503, stamped: true, body: b"{}" };
    let now = world.now();
    let decided = world.gate.on_answer(verify.call, &overloaded, now, &mut world.slots);
    assert_eq!(decided.len(), 1);
    assert_eq!(decided[0].0, stream);
    assert_eq!(answer(decided[0].1).0, 503);
    // Neither the known key nor the next unknown one has to wait for anything.
    let (_, decision) = world.send(&with(&known));
    passed(decision);
    passed(world.get(&other));
}

#[wasm_bindgen_test(unsupported = test)]
fn a_known_key_is_served_from_memory_when_it_cannot_be_asked_about() {
    let mut world = World::new(PATIENT);
    let key = world.issue(Scope::Read);
    passed(world.get(&key));
    world.pass_ms(61_000);
    // A question fails, the feed is heard again, and the key comes within the rest.
    let unknown = world.unknown_key();
    world.control_plane.up = false;
    assert_eq!(answer(world.get(&unknown)).0, 503);
    world.control_plane.up = true;
    world.answer_all();
    let (_, decision) = world.send(&with(&key));
    passed(decision);
}
