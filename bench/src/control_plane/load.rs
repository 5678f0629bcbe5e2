//! Calls one after the other, and at a steady rate.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use hdrhistogram::Histogram;
use hyper::body::Bytes;
use tokio::task::JoinSet;

use super::client::{Client, Target};
use super::cpu::Processes;
use crate::load::histogram;

/// How often each connection of a closed loop has called before anything is counted.
pub(super) const WARM_UP: u64 = 20;

/// What came of calls.
pub(super) struct Timings {
    pub(super) answers: u64,
    /// Calls that came to nothing; none in a closed loop, which ends with the first.
    pub(super) failures: u64,
    pub(super) seconds: f64,
    /// The CPU seconds that the watched processes have taken meanwhile, for each of them.
    pub(super) cpu: Vec<f64>,
    latencies: Histogram<u64>,
}

impl Timings {
    /// Answers a second.
    pub(super) fn rate(&self) -> f64 {
        of(self.answers) / self.seconds
    }

    /// Answers for each second of a CPU that the watched processes took together.
    pub(super) fn rate_of_a_core(&self) -> f64 {
        of(self.answers) / self.cpu.iter().sum::<f64>()
    }

    /// A percentile of the latencies, in milliseconds.
    pub(super) fn percentile_ms(&self, percentile: f64) -> f64 {
        of(self.latencies.value_at_percentile(percentile)) / 1e6
    }
}

/// A count as a number to reckon with.
#[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
pub(super) fn of(count: u64) -> f64 {
    count as f64
}

fn note(latencies: &mut Histogram<u64>, since: Instant) {
    let took = u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX);
    latencies.saturating_record(took);
}

/// What a connection says in its nth call.
pub(super) type Bodies = Arc<dyn Fn(usize, u64) -> Bytes + Send + Sync>;

/// As many calls as there are connections, each followed by the next when it is answered.
pub(super) async fn closed(
    target: &Target,
    path: &'static str,
    connections: usize,
    span: Duration,
    watched: Vec<Processes>,
    bodies: Bodies,
) -> Result<Timings> {
    let mut clients = Vec::new();
    for connection in 0..connections {
        let mut client = Client::connect(target).await?;
        for call in 0..WARM_UP {
            client.post(path, bodies(connection, call)).await?;
        }
        clients.push(client);
    }
    let before: Vec<_> = watched.iter().map(|it| it.time()).collect();
    let start = Instant::now();
    let mut callers = JoinSet::new();
    for (connection, mut client) in clients.into_iter().enumerate() {
        let bodies = Arc::clone(&bodies);
        callers.spawn(async move {
            let mut latencies = histogram();
            let mut call = WARM_UP;
            while start.elapsed() < span {
                let body = bodies(connection, call);
                let sent = Instant::now();
                client.post(path, body).await?;
                note(&mut latencies, sent);
                call += 1;
            }
            anyhow::Ok(latencies)
        });
    }
    let mut latencies = histogram();
    while let Some(seen) = callers.join_next().await {
        latencies.add(seen??)?;
    }
    let seconds = start.elapsed().as_secs_f64();
    let taken = watched.iter().zip(before).map(|(it, before)| it.time().saturating_sub(before));
    let cpu = taken.map(|it| it.as_secs_f64()).collect();
    Ok(Timings { answers: latencies.len(), failures: 0, seconds, cpu, latencies })
}

/// Calls at a steady rate, whether those before are answered or not; each takes from when it was due.
pub(super) async fn open(
    target: &Target,
    path: &'static str,
    rate: f64,
    bodies: Vec<Bytes>,
) -> Result<Timings> {
    let mut idle = Vec::new();
    for _ in 0..16 {
        idle.push(Client::connect(target).await?);
    }
    let idle = Arc::new(Mutex::new(idle));
    let start = Instant::now();
    let mut turn = tokio::time::interval(Duration::from_secs_f64(1.0 / rate));
    let mut calls = JoinSet::new();
    for body in bodies {
        let due = turn.tick().await.into_std();
        let (idle, target) = (Arc::clone(&idle), target.clone());
        calls.spawn(async move {
            let free = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let mut client = match free {
                Some(client) => client,
                None => Client::connect(&target).await?,
            };
            let answered = client.post(path, body).await.is_ok();
            let took = due.elapsed();
            idle.lock().unwrap_or_else(PoisonError::into_inner).push(client);
            anyhow::Ok(answered.then_some(took))
        });
    }
    let (mut latencies, mut failures) = (histogram(), 0);
    while let Some(took) = calls.join_next().await {
        match took?? {
            Some(took) => {
                latencies.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
            }
            None => failures += 1,
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    Ok(Timings { answers: latencies.len(), failures, seconds, cpu: Vec::new(), latencies })
}

/// Each of these calls once, one after the other.
pub(super) async fn each(target: &Target, path: &'static str, bodies: Vec<Bytes>) -> Result<()> {
    let mut client = Client::connect(target).await?;
    for body in bodies {
        client.post(path, body).await?;
    }
    Ok(())
}
