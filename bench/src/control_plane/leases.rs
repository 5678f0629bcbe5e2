//! Parts of limits that a fleet shares, granted out of Redis.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use edge_protocol::leases::{Ask, LeaseCall, Presence, Slices};
use edge_protocol::{Algorithm, LEASES_PATH};
use hdrhistogram::Histogram;
use hyper::body::Bytes;
use redis::aio::MultiplexedConnection;

use super::Options;
use super::client::Client;
use super::ground::Ground;
use super::load::{Bodies, Timings, closed, of};
use super::report::{Figure, Target};
use crate::load::histogram;

/// Keys whose limits are shared.
const KEYS: usize = 10_000;
/// Envoys that ask at the same time.
const ENVOYS: usize = 4;
const WINDOW_SECONDS: u32 = 60;

fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or_default()
}

fn envoy(number: usize) -> String {
    format!("{:016x}", 0xab00 + number)
}

/// An ask for one more request of a key that has a limit without end.
fn ask(key: usize, slice: u64) -> Ask {
    Ask {
        limit: "per-key".to_owned(),
        subject: format!("key:{:016x}", key % KEYS),
        algorithm: Algorithm::FixedWindow,
        requests: 1_000_000,
        window_seconds: WINDOW_SECONDS,
        slice,
        epoch: 1,
        granted: 0,
        used: 0,
        want: 1,
        holds: 0,
    }
}

/// Calls of so many asks; one after the other they come by all keys.
fn calls(asks: usize) -> Bodies {
    Arc::new(move |caller, call| {
        let slice = Slices::of(Algorithm::FixedWindow, WINDOW_SECONDS).at(now_ms());
        let first = (usize::try_from(call).unwrap_or_default() * ENVOYS + caller) * asks;
        let asks = (first..first + asks).map(|key| ask(key, slice)).collect();
        let call = LeaseCall { envoy: envoy(caller), presence: None, asks };
        serde_json::to_vec(&call).unwrap_or_default().into()
    })
}

pub(super) async fn measure(options: &Options, ground: &Ground) -> Result<Vec<Figure>> {
    join(ground).await?;
    let before = used_memory(ground)?;
    all_once(ground).await?;
    let memory = used_memory(ground)? - before;
    let mut figures = vec![
        Figure::new(format!("Redis memory for {KEYS} keys"), memory / 1e6, "MB")
            .to_be(Target::AtMost(4.0))
            .claimed(Target::AtMost(10.0))
            .beside("as many counters", plain_memory(ground).await? / 1e6),
    ];
    for asks in [1, 16, 256] {
        let watched = ground.with_database()?;
        let span = options.span();
        let own = closed(&ground.edge, LEASES_PATH, ENVOYS, span, watched, calls(asks)).await?;
        let plain = plain_calls(ground, asks, span / 2).await?;
        figures.extend(of_calls(&own, asks, &plain));
    }
    Ok(figures)
}

fn of_calls(own: &Timings, asks: usize, plain: &Histogram<u64>) -> Vec<Figure> {
    let plain_ms = |percentile| of(plain.value_at_percentile(percentile)) / 1e6;
    let name = |what: &str| format!("call for {asks} leases, {what}");
    let each = of(u64::try_from(asks).unwrap_or_default());
    vec![
        Figure::new(name("median"), own.percentile_ms(50.0), "ms").beside(PLAIN, plain_ms(50.0)),
        Figure::new(name("p99"), own.percentile_ms(99.0), "ms")
            .to_be(Target::AtMost(5.0))
            .claimed(Target::AtMost(5.0))
            .beside(PLAIN, plain_ms(99.0)),
        Figure::new(name("leases a second"), own.rate() * each, "/s")
            .claimed(Target::AtLeast(10_000.0)),
    ]
}

const PLAIN: &str = "as many INCRBY and PEXPIRE in one pipeline";

/// The Envoys say that they live.
async fn join(ground: &Ground) -> Result<()> {
    let mut client = Client::connect(&ground.edge).await?;
    for number in 0..ENVOYS {
        let presence = Presence { number: 1, holds: 0, now_ms: now_ms() };
        let call = LeaseCall { envoy: envoy(number), presence: Some(presence), asks: Vec::new() };
        client.post(LEASES_PATH, Bytes::from(serde_json::to_vec(&call)?)).await?;
    }
    Ok(())
}

/// Every key's limit is asked for once, by one Envoy.
async fn all_once(ground: &Ground) -> Result<()> {
    let mut client = Client::connect(&ground.edge).await?;
    let slice = Slices::of(Algorithm::FixedWindow, WINDOW_SECONDS).at(now_ms());
    for first in (0..KEYS).step_by(250) {
        let asks = (first..first + 250).map(|key| ask(key, slice)).collect();
        let call = LeaseCall { envoy: envoy(0), presence: None, asks };
        client.post(LEASES_PATH, Bytes::from(serde_json::to_vec(&call)?)).await?;
    }
    Ok(())
}

fn used_memory(ground: &Ground) -> Result<f64> {
    let info = ground.redis()?.cli(&["INFO", "memory"])?;
    let line = info.lines().find_map(|line| line.strip_prefix("used_memory:"));
    Ok(line.context("Redis does not say what it uses")?.trim().parse()?)
}

async fn connection(ground: &Ground) -> Result<MultiplexedConnection> {
    let client = redis::Client::open(ground.redis()?.url())?;
    Ok(client.get_multiplexed_async_connection().await?)
}

fn counters(first: usize, count: usize) -> redis::Pipeline {
    let mut pipe = redis::pipe();
    for key in first..first + count {
        let name = format!("plain:per-key:key:{:016x}", key % KEYS);
        pipe.cmd("INCRBY").arg(&name).arg(1).ignore();
        pipe.cmd("PEXPIRE").arg(&name).arg(60_000).ignore();
    }
    pipe
}

/// What as many plain counters take.
async fn plain_memory(ground: &Ground) -> Result<f64> {
    let mut connection = connection(ground).await?;
    let before = used_memory(ground)?;
    for first in (0..KEYS).step_by(250) {
        counters(first, 250).query_async::<()>(&mut connection).await?;
    }
    Ok(used_memory(ground)? - before)
}

/// As many plain counters in one go, one go after the other.
async fn plain_calls(ground: &Ground, count: usize, span: Duration) -> Result<Histogram<u64>> {
    let mut connection = connection(ground).await?;
    let mut latencies = histogram();
    let start = Instant::now();
    let mut first = 0;
    while start.elapsed() < span {
        let sent = Instant::now();
        counters(first, count).query_async::<()>(&mut connection).await?;
        latencies.saturating_record(u64::try_from(sent.elapsed().as_nanos()).unwrap_or(u64::MAX));
        first += count;
    }
    Ok(latencies)
}
