//! What a decision takes when the key is known, when it is not, and when a layer refuses.

use criterion::{Criterion, Throughput};
use edge_protocol::{KeyRecord, Verdict};
use gate::{Credential, Decision, Request};
use std::hint::black_box;
use std::time::Duration;

use crate::cpu_time::{self, CpuTime};
use crate::scene::{Scene, get, keys, record, with};

/// An address limit and a key limit, neither ever reached; failures never run out.
pub(crate) const TWO_LIMITS: &str = r#"{"version":1,
    "failed_attempts":{"requests":1000000000,"window_seconds":60},
    "limits":[{"name":"address","per":"address","requests":1000000000,"window_seconds":60},
              {"name":"key","per":"key","requests":1000000000,"window_seconds":60}]}"#;
const ONE_LIMIT: &str = r#"{"version":1,
    "limits":[{"name":"address","per":"address","requests":1000000000,"window_seconds":60}]}"#;
const NO_LIMIT: &str = r#"{"version":1,"limits":[]}"#;
/// As many lookups as one address may have on the way.
const IN_FLIGHT: usize = 64;
/// Fewer than there is room for in the audit trail.
const BETWEEN_DELIVERIES: u64 = 4096;

pub(crate) fn warm(c: &mut Criterion<CpuTime>) {
    let mut group = c.benchmark_group("warm");
    group.throughput(Throughput::Elements(1));
    let key = &keys(1);
    let ready = |config| {
        let mut scene = Scene::new(config);
        scene.learn_all(key);
        scene
    };
    let request = with(key.first().expect("one"));
    for (name, config) in [
        ("no limit", NO_LIMIT),
        ("one address limit", ONE_LIMIT),
        ("one address limit and one key limit", TWO_LIMITS),
    ] {
        let mut scene = ready(config);
        assert!(matches!(scene.decide(&request), Decision::Pass(_)));
        group.bench_function(name, |b| b.iter(|| scene.decide(black_box(&request))));
    }
    let mut scene = ready(TWO_LIMITS);
    group.bench_function("the same, with identity and headers", |b| {
        b.iter(|| {
            let Decision::Pass(pass) = scene.decide(black_box(&request)) else { return 0 };
            let identity = pass.entry.and_then(|entry| scene.gate.identity(entry));
            let mut bytes = identity.map_or(0, |it| it.key_id.len() + it.scope.len());
            if let Some(report) = pass.report {
                let (name, names) =
                    (scene.gate.limit_name(&report), scene.gate.rate_limit_headers());
                report.write_headers(name, names, scene.now, |_, value| bytes += value.len());
            }
            bytes
        });
    });
    group.finish();
}

/// Layers 0 to 4, and the question that layer 5 asks.
pub(crate) fn cold(c: &mut Criterion<CpuTime>) {
    let strangers = keys(IN_FLIGHT);
    c.bench_function("cold/unknown key, with the question", |b| {
        b.iter_custom(|times| {
            let (mut taken, mut left) = (Duration::ZERO, times);
            while left > 0 {
                let mut scene = Scene::new(TWO_LIMITS);
                let round = strangers.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                let started = cpu_time::now();
                for key in strangers.iter().take(round) {
                    black_box(scene.decide(&with(key)));
                    black_box(scene.gate.next_question());
                }
                taken += cpu_time::since(started);
                left -= u64::try_from(round).unwrap_or(left);
            }
            taken
        });
    });
}

/// A decision with its audit event and its log line; delivery is not counted.
fn refusal(c: &mut Criterion<CpuTime>, name: &str, scene: &mut Scene, request: &Request<'_>) {
    assert!(matches!(scene.decide(request), Decision::Refuse(_)), "{name}");
    c.bench_function(&format!("refused/{name}"), |b| {
        b.iter_custom(|times| {
            let (mut taken, mut left) = (Duration::ZERO, times);
            while left > 0 {
                let round = left.min(BETWEEN_DELIVERIES);
                let started = cpu_time::now();
                for _ in 0..round {
                    black_box(scene.decide(request));
                    black_box(scene.gate.take_log());
                }
                taken += cpu_time::since(started);
                left -= round;
                scene.settle();
            }
            taken
        });
    });
}

pub(crate) fn refused(c: &mut Criterion<CpuTime>) {
    let keys = keys(7);
    let [unknown, expired, revoked, foreign, beyond, over, mistyped] = keys.as_slice() else {
        return;
    };
    let mut scene = Scene::new(TWO_LIMITS);
    let mut known = |key: &str, change: &dyn Fn(&mut KeyRecord)| {
        let mut record = record(key);
        change(&mut record);
        scene.learn(key, Verdict::Known { record });
    };
    known(expired, &|record| record.expires_at_ms = Some(1));
    known(revoked, &|record| record.is_active = false);
    known(foreign, &|record| record.allowed_ips = vec!["198.51.100.0/24".parse().expect("a net")]);
    known(beyond, &|_| ());
    scene.learn(unknown, Verdict::Unknown);
    scene.settle();

    let mistyped = flipped(mistyped);
    let weak = "Password1234abcdPassword1234abcdPassword1234abcd";
    refusal(c, "no key", &mut scene, &get("/"));
    refusal(
        c,
        "several keys",
        &mut scene,
        &Request { credential: Credential::Several, ..get("/") },
    );
    refusal(c, "malformed, too short", &mut scene, &with("too-short"));
    refusal(c, "weak", &mut scene, &with(weak));
    refusal(c, "wrong checksum", &mut scene, &with(&mistyped));
    refusal(c, "unknown, remembered", &mut scene, &with(unknown));
    refusal(c, "expired", &mut scene, &with(expired));
    refusal(c, "revoked", &mut scene, &with(revoked));
    refusal(c, "address", &mut scene, &with(foreign));
    refusal(c, "scope", &mut scene, &Request { method: b"DELETE", ..with(beyond) });

    let tight =
        TWO_LIMITS.replace(r#""per":"key","requests":1000000000"#, r#""per":"key","requests":1"#);
    let mut scene = Scene::new(&tight);
    scene.learn(over, Verdict::Known { record: record(over) });
    refusal(c, "over a limit", &mut scene, &with(over));
}

/// A key with two of its characters in each other's place.
fn flipped(key: &str) -> String {
    let mut bytes = key.as_bytes().to_vec();
    let at = (30..bytes.len() - 7).find(|&at| bytes.get(at) != bytes.get(at + 1));
    bytes.swap(at.expect("a secret of different characters"), at.map_or(0, |at| at + 1));
    String::from_utf8(bytes).expect("ASCII")
}
