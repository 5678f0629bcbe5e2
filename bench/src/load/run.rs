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

/// What is due so soon after a pause is sent and does not count: a core that had nothing to do wakes
/// up late, which it has no time for under a load without pauses.
const LEAD_IN: Duration = Duration::from_millis(5);

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
    /// Whether its latency counts.
    counts: bool,
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
        let stretch = under_load.zip(self.pauses).map(|(time, pauses)| pauses.stretch_at(time));
        let paused = stretch.as_ref().map_or(Duration::ZERO, |it| it.paused);
        let due = under_load.map_or_else(Instant::now, |time| self.start + time + paused);
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
        let counts = stretch.as_ref().is_none_or(InStretch::counts);
        let stretch = stretch.and_then(|it| usize::try_from(it.number).ok());
        Some(Turn { number, due, stretch, counts })
    }
}

/// Where in a stretch a moment is.
#[derive(Debug, PartialEq)]
struct InStretch {
    number: u32,
    /// How long the stretch has lasted.
    passed: Duration,
    /// How long all pauses before it have.
    paused: Duration,
}

impl InStretch {
    /// Whether what is due here counts.
    fn counts(&self) -> bool {
        self.passed >= LEAD_IN
    }
}

impl Pauses {
    /// Where it is when so much time under load has passed.
    fn stretch_at(self, under_load: Duration) -> InStretch {
        let number = under_load.as_nanos().checked_div(self.after.as_nanos()).unwrap_or(0);
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        let passed = under_load.saturating_sub(self.after * number);
        InStretch { number, passed, paused: self.lasts * number }
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
    if plan.rate.is_some() {
        // Who takes up connections has other things to do first.
        for slot in &mut slots {
            slot.send(traffic.request(0)?).await?;
        }
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
        if turn.counts {
            seen.latencies.saturating_record(took);
            if let Some(stretch) = turn.stretch {
                seen.stretches.record(stretch, took);
            }
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
        let at = |under_load, number, passed, paused| {
            let at = InStretch { number, passed: ms(passed), paused: ms(paused) };
            assert_eq!(pauses.stretch_at(ms(under_load)), at);
        };
        at(0, 0, 0, 0);
        at(99, 0, 99, 0);
        at(100, 1, 0, 10);
        at(250, 2, 50, 20);
        let counts = |under_load| pauses.stretch_at(ms(under_load)).counts();
        assert_eq!(
            [0, 4, 5, 99, 100, 104, 105].map(counts),
            [false, false, true, true, false, false, true]
        );
    }
}
