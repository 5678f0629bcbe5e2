//! What a subject takes in Redis. The figures of docs/redis.md:
//! `cargo nextest run -p control-plane -E 'test(takes_little_of_redis)' --no-capture`

use edge_protocol::{
    Algorithm,
    leases::{Ask, MAX_ASKS, Slices},
};
use tokio::time::Instant;
use xtask::servers::redis::{RedisOptions, RedisServer};

use super::{Replica, ask, now_ms};
use crate::limits::fleet::EnvoyId;

const SUBJECTS: usize = 10_000;
/// What all of them may take, in bytes, where one Envoy asks.
const MOST: usize = 4_000_000;

fn used_memory(server: &RedisServer) -> usize {
    let info = server.cli(&["INFO", "memory"]).expect("said");
    let used = info.lines().find_map(|line| line.strip_prefix("used_memory:")).expect("a line");
    used.trim().parse().expect("a number")
}

/// Asks about all subjects once, in full batches; gives how long each batch took in µs.
async fn round(replica: &Replica, envoy: u64, asks: &[Ask]) -> Vec<u128> {
    let mut times = Vec::new();
    for batch in asks.chunks(MAX_ASKS) {
        let begun = Instant::now();
        let answer = replica.limits.answer(EnvoyId(envoy), None, batch).await;
        times.push(begun.elapsed().as_micros());
        assert_eq!(answer.grants.len(), batch.len());
    }
    times
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subject_takes_little_of_redis() {
    for algorithm in [Algorithm::FixedWindow, Algorithm::SlidingWindow, Algorithm::TokenBucket] {
        let server = RedisServer::start(RedisOptions::default()).expect("a server");
        let replica = Replica::at(&server.url()).await;
        let asks: Vec<_> = (0..SUBJECTS)
            .map(|number| ask(algorithm, &format!("address:2001:db8::{number:x}"), 6000, 0, 10))
            .collect();
        replica.limits.answer(EnvoyId(1), None, &asks[..1]).await;
        let before = used_memory(&server);
        let mut times = round(&replica, 1, &asks).await;
        let one = used_memory(&server) - before;
        assert!(one <= MOST, "{algorithm:?}: {one} B");
        for envoy in 2..=5 {
            times.extend(round(&replica, envoy, &asks).await);
        }
        let five = used_memory(&server) - before;
        times.sort_unstable();
        println!(
            "{algorithm:?}: {} B a subject with one Envoy, {} B with five; batches of {MAX_ASKS}: \
             p50 {} µs, p99 {} µs, longest {} µs",
            one / SUBJECTS,
            five / SUBJECTS,
            times[times.len() / 2],
            times[times.len() * 99 / 100],
            times[times.len() - 1],
        );
    }
    every_slice_of_a_sliding_window().await;
}

/// The most that a subject takes for an Envoy: something was granted in each slice.
async fn every_slice_of_a_sliding_window() {
    let server = RedisServer::start(RedisOptions::default()).expect("a server");
    let replica = Replica::at(&server.url()).await;
    let mut ask = ask(Algorithm::SlidingWindow, "address:2001:db8::1", 6000, 0, 40);
    ask.window_seconds = 8;
    let slices = Slices::of(ask.algorithm, ask.window_seconds);
    let last = slices.at(now_ms()) + slices.in_window + 1;
    while slices.at(now_ms()) < last {
        ask.slice = slices.at(now_ms());
        replica.grant(1, &ask).await;
        tokio::time::sleep(std::time::Duration::from_millis(slices.ms / 4)).await;
    }
    let keys = server.cli(&["KEYS", "keygate:lease:*"]).expect("said");
    let usage = server.cli(&["MEMORY", "USAGE", keys.trim()]).expect("said");
    println!("sliding, every slice: {} B", usage.trim());
}
