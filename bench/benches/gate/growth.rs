//! What a warm decision takes as keys and rules become many.

use criterion::{BenchmarkId, Criterion};
use gate::{Decision, Request};
use std::cell::LazyCell;
use std::fmt::Write as _;
use std::hint::black_box;

use crate::cpu_time::CpuTime;
use crate::decisions::TWO_LIMITS;
use crate::scene::{Scene, keys, with};

fn in_turn(scene: &mut Scene, keys: &[String], next: &mut usize) -> Decision {
    // Far from one another in memory.
    *next = (*next + 7919) % keys.len();
    let key = keys.get(*next).map_or("", String::as_str);
    scene.decide(black_box(&with(key)))
}

/// Keys of which any may come next: none of them is in the processor's caches.
pub(crate) fn many_keys(c: &mut Criterion<CpuTime>) {
    let mut group = c.benchmark_group("keys known");
    for count in [1_000, 10_000, 100_000, 1_000_000] {
        // Made when first used: a million keys take their time, and may not be asked for.
        let keys = LazyCell::new(|| keys(count));
        let limited = TWO_LIMITS.replacen('{', &format!(r#"{{"cache":{{"keys":{count}}},"#), 1);
        let free = format!(r#"{{"version":1,"cache":{{"keys":{count}}},"limits":[]}}"#);
        for (name, config) in [("no limit", free), ("one address limit and one key limit", limited)]
        {
            let mut scene = LazyCell::new(|| {
                let mut scene = Scene::new(&config);
                scene.learn_all(&keys);
                scene
            });
            let mut next = 0;
            group.bench_function(BenchmarkId::new(name, count), |b| {
                let scene = LazyCell::force_mut(&mut scene);
                assert!(matches!(in_turn(scene, &keys, &mut next), Decision::Pass(_)));
                b.iter(|| in_turn(scene, &keys, &mut next));
            });
        }
    }
    group.finish();
}

/// Rules of which one is about the request; and limits that all are.
pub(crate) fn many_rules(c: &mut Criterion<CpuTime>) {
    let mut group = c.benchmark_group("rules");
    let key = keys(1);
    let key = key.first().expect("one");
    let request = Request { path: b"/v1/rule-0/things", ..with(key) };
    for count in [1, 10, 50] {
        for (name, config) in [
            ("scopes", config(count, 0, false)),
            ("limits, one counts", config(0, count, false)),
            ("limits, all count", config(0, count, true)),
        ] {
            let mut scene = Scene::new(&config);
            scene.learn_all(std::slice::from_ref(key));
            assert!(matches!(scene.decide(&request), Decision::Pass(_)));
            group.bench_function(BenchmarkId::new(name, count), |b| {
                b.iter(|| scene.decide(black_box(&request)));
            });
        }
    }
    group.finish();
}

/// The rule for the request's path comes last.
fn config(scopes: usize, limits: usize, all: bool) -> String {
    let mut text = String::from(r#"{"version":1,"scopes":["#);
    for number in (0..scopes).rev() {
        let comma = if number == 0 { "" } else { "," };
        let _ = write!(text, r#"{{"path_prefix":"/v1/rule-{number}","scope":"read"}}{comma}"#);
    }
    text.push_str(r#"],"limits":["#);
    for number in (0..limits).rev() {
        let comma = if number == 0 { "" } else { "," };
        let prefix = if all { "/v1".to_owned() } else { format!("/v1/rule-{number}") };
        let _ = write!(
            text,
            r#"{{"name":"l{number}","per":"key","path_prefix":"{prefix}","requests":1000000000,"window_seconds":60}}{comma}"#
        );
    }
    text.push_str("]}");
    text
}
