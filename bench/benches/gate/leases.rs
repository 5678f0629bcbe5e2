//! Limits that a fleet shares: what is spent from a lease, and what taking in a grant takes.

use criterion::{BenchmarkId, Criterion, Throughput};
use edge_protocol::leases::ALL_SHARES;
use gate::{Call, ClientAddress, Decision, Request};
use std::hint::black_box;
use std::net::Ipv4Addr;
use std::time::Duration;

use crate::cpu_time::{self, CpuTime};
use crate::scene::{Scene, get};

const SHARED: &str = r#"{"version":1,"public":[{"path_prefix":"/"}],
    "limits":[{"name":"a","per":"address","requests":1000000000,"window_seconds":60,"reach":"fleet"}]}"#;

/// An Envoy that was told to hold so many parts of the shares.
fn told(parts: u32) -> Scene {
    let mut scene = Scene::new(SHARED);
    scene.parts = parts;
    // The first request has it say that it lives.
    for _ in 0..3 {
        scene.decide(&get("/"));
        scene.settle();
    }
    scene
}

pub(crate) fn spent(c: &mut Criterion<CpuTime>) {
    let mut group = c.benchmark_group("shared limit");
    for (name, parts) in [("from its share", ALL_SHARES / 2), ("from a lease", 0)] {
        let mut scene = told(parts);
        let request = get("/");
        assert!(matches!(scene.decide(&request), Decision::Pass(_)), "{name}");
        group.bench_function(name, |b| b.iter(|| scene.decide(black_box(&request))));
    }
    group.finish();
}

/// An answer with as many grants as asks waited for, each with one request that is then decided.
pub(crate) fn granted(c: &mut Criterion<CpuTime>) {
    let mut group = c.benchmark_group("grants taken in");
    for asks in [1_u32, 16, 256] {
        let mut scene = told(0);
        let mut next = 0x0a00_0000_u32;
        group.throughput(Throughput::Elements(asks.into()));
        group.bench_function(BenchmarkId::from_parameter(asks), |b| {
            b.iter_custom(|times| {
                let mut taken = Duration::ZERO;
                for _ in 0..times {
                    for _ in 0..asks {
                        next = 0x0a00_0000 | (next.wrapping_add(1) & 0x00ff_ffff);
                        let client = Ipv4Addr::from_bits(next).to_string();
                        let client = ClientAddress::parse(client.as_bytes());
                        scene.decide(&Request { client, ..get("/") });
                    }
                    let Some(message) = scene.gate.next_question() else { continue };
                    let Call::Leases(_) = message.call else { continue };
                    let body = scene.lend(&message);
                    let started = cpu_time::now();
                    black_box(scene.answer(message.call, &body));
                    taken += cpu_time::since(started);
                    scene.gate.take_log();
                }
                taken
            });
        });
    }
    group.finish();
}
