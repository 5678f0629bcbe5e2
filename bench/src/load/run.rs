//! The slots that send, and the schedule that they keep.

#![expect(clippy::disallowed_methods, reason = "a load generator keeps to the real clock")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hdrhistogram::Histogram;
use http::{HeaderName, HeaderValue, Request};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use super::connection::{Body, Slot, connect, request};
use super::stretch::Stretches;
use super::{Outcome, Pauses, Plan, histogram};

const KEY: HeaderName = HeaderName::from_static("x-api-key");
/// So long before the end of a pause it is watched, since whoever sleeps may wake up late.
const AWAKE: Duration = Duration::from_millis(3);

/// What one slot has seen.
struct Seen {
    statuses: BTreeMap<u16, u64>,
    latencies: Histogram<u64>,
    stretches: Stretches,
}

/// A request whose turn it is.
struct Turn {
    number: usize,
    due: Instant,
    /// After how many pauses.
    stretch: Option<usize>,
}

/// What is sent in turn.
struct Traffic {
    requests: Vec<Request<Body>>,
    keys: Vec<HeaderValue>,
}

impl Traffic {
    fn request(&self, number: usize) -> Result<Request<Body>> {
        let request = self.requests.get(number % self.requests.len());
        let mut request = request.context("there is nothing to send")?.clone();
        if let Some(key) = number.checked_rem(self.keys.len()).and_then(|at| self.keys.get(at)) {
            request.headers_mut().insert(KEY, key.clone());
        }
        Ok(request)
    }
}

/// Whose turn it is, and what is sent next.
struct Schedule {
    start: Instant,
    end: Instant,
    /// Between two requests; none: the next is due when a slot is free.
    every: Option<Duration>,
    pauses: Option<Pauses>,
    sent: u32,
    most: u32,
}

impl Schedule {
    /// Waits until the next request is due; none when the time is over. It sleeps in pauses only, since
    /// no timer is as exact as what is to be measured.
    async fn next(&mut self) -> Option<Turn> {
        let under_load = self.every.map(|every| every * self.sent);
        let paused = under_load.zip(self.pauses).map(|(time, pauses)| pauses.before(time));
        let lasts = self.pauses.map_or(Duration::ZERO, |pauses| pauses.lasts);
        let due = under_load
            .map_or_else(Instant::now, |time| self.start + time + lasts * paused.unwrap_or(0));
        if due >= self.end || self.sent >= self.most {
            return None;
        }
        if self.pauses.is_some() {
            let pause = due.saturating_duration_since(Instant::now());
            if let Some(sleep) = pause.checked_sub(AWAKE) {
                tokio::time::sleep(sleep).await;
            }
        }
        while Instant::now() < due {
            tokio::task::yield_now().await;
        }
        let number = usize::try_from(self.sent).ok()?;
        self.sent += 1;
        let stretch = paused.and_then(|paused| usize::try_from(paused).ok());
        Some(Turn { number, due, stretch })
    }
}

impl Pauses {
    /// How many there are before so much time under load has passed.
    fn before(self, under_load: Duration) -> u32 {
        let pauses = under_load.as_nanos().checked_div(self.after.as_nanos()).unwrap_or(0);
        u32::try_from(pauses).unwrap_or(u32::MAX)
    }
}

/// Sends what is planned.
///
/// # Errors
/// When nobody listens, a request cannot be made from its template, or a connection breaks.
pub async fn run(plan: Plan) -> Result<Outcome> {
    let make = |template| request(template, plan.protocol, plan.address);
    let requests = plan.requests.iter().map(make).collect::<Result<Vec<_>>>()?;
    let keys = plan.keys.iter().map(|key| HeaderValue::from_str(key));
    let traffic = Arc::new(Traffic { requests, keys: keys.collect::<Result<_, _>>()? });
    let mut slots = Vec::new();
    for _ in 0..plan.connections {
        slots.extend(connect(plan.address, plan.protocol, plan.streams).await?);
    }
    let start = Instant::now();
    let schedule = Arc::new(Mutex::new(Schedule {
        start,
        end: start + plan.duration,
        every: plan.rate.map(|rate| Duration::from_secs_f64(1.0 / rate)),
        pauses: plan.pauses,
        sent: 0,
        most: plan.most.unwrap_or(u32::MAX),
    }));
    let mut senders = JoinSet::new();
    for mut slot in slots {
        let (schedule, traffic) = (Arc::clone(&schedule), Arc::clone(&traffic));
        senders.spawn(async move { send_all(&mut slot, &schedule, &traffic).await });
    }
    let mut outcome = Outcome::default();
    let (mut latencies, mut stretches) = (histogram(), Stretches::default());
    while let Some(seen) = senders.join_next().await {
        let seen = seen??;
        for (status, count) in seen.statuses {
            *outcome.statuses.entry(status).or_default() += count;
        }
        latencies.add(&seen.latencies)?;
        stretches.add(seen.stretches);
    }
    outcome.seconds = start.elapsed().as_secs_f64();
    outcome.answers = outcome.statuses.values().sum();
    outcome.latencies = latencies
        .iter_recorded()
        .map(|recorded| (recorded.value_iterated_to(), recorded.count_at_value()))
        .collect();
    outcome.stretches = stretches.p99();
    Ok(outcome)
}

async fn send_all(slot: &mut Slot, schedule: &Mutex<Schedule>, traffic: &Traffic) -> Result<Seen> {
    let mut seen =
        Seen { statuses: BTreeMap::new(), latencies: histogram(), stretches: Stretches::default() };
    loop {
        let next = schedule.lock().await.next().await;
        let Some(turn) = next else { return Ok(seen) };
        let status = slot.send(traffic.request(turn.number)?).await?;
        let took = u64::try_from(turn.due.elapsed().as_nanos()).unwrap_or(u64::MAX);
        seen.latencies.saturating_record(took);
        if let Some(stretch) = turn.stretch {
            seen.stretches.record(stretch, took);
        }
        *seen.statuses.entry(status).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_comes_after_each_time_under_load() {
        let ms = Duration::from_millis;
        let pauses = Pauses { after: ms(100), lasts: ms(10) };
        let before = |at| pauses.before(ms(at));
        assert_eq!([0, 99, 100, 199, 200].map(before), [0, 0, 1, 1, 2]);
    }
}
