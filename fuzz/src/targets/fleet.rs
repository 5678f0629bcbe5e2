//! A fleet of gates and the control plane's own authority on the limits that they share: clocks that
//! differ and jump, calls that are late, lost and repeated, Envoys that come and go, an outage.
//!
//! Time is that of each Envoy's clock: by it windows begin.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arbitrary::{Result, Unstructured};
use edge_protocol::leases::{LeaseAnswer, LeaseCall, Presence};
use fastrand::Rng;
use gate::{
    Answer, Call, ClientAddress, Config, Credential, Decision, Gate, Message, Now, Request, Seeds,
    StreamId,
};
use jiff::Timestamp;
use keygate::clock::Clock;
use keygate::limits::fleet::{EnvoyId, FleetLimits};
use keygate::random::SystemRandom;

use super::worker::{START_MS, Slots};

/// The most that a clock is off in these stories, in milliseconds.
const OFF_MS: i64 = 900;
/// A step of a story, in milliseconds.
const STEP_MS: u64 = 20;
/// Within so many steps after an outage each Envoy hears of its end, or is cut off alone.
const RETURN_STEPS: u64 = 2_000 / STEP_MS;

pub(crate) fn run(data: &[u8]) {
    // An input that ends is a story that ends.
    let _ = story(&mut Unstructured::new(data));
}

/// The control plane's clock.
#[derive(Clone)]
struct Hand(Arc<AtomicU64>);

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        let ms = i64::try_from(self.0.load(Ordering::Relaxed)).unwrap();
        Timestamp::from_millisecond(ms).unwrap()
    }
}

/// What befalls the fleet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Trouble {
    None,
    /// Envoys are killed, and others begin.
    Envoys,
    /// The control plane is away for a while.
    Outage,
}

struct Envoy {
    /// The last call by which it said that it lives.
    said: Option<Presence>,
    /// Until when, by its clock, it goes by what it was told.
    lent_until_ms: u64,
    /// Whether it was ever told how many there are: then it divides the limit when nothing is heard.
    divides: bool,
    workers: Vec<Gate>,
    slots: Slots,
    off_ms: i64,
    /// The latest that its clock has shown when something passed.
    latest_ms: u64,
}

/// A call on its way, or its answer on the way back.
struct Way {
    due_ms: u64,
    envoy: u64,
    worker: usize,
    call: Call,
    body: Vec<u8>,
    is_answer: bool,
}

/// When a request passed.
struct Passed {
    /// By the clock of its Envoy.
    at_ms: u64,
    /// The latest that this clock had shown when something passed.
    latest_ms: u64,
    /// When its window ends, as it was told.
    ends: u32,
}

struct Story {
    rng: Rng,
    config: String,
    envoys: BTreeMap<u64, Envoy>,
    born: u64,
    ways: Vec<Way>,
    now_ms: u64,
    clock: Hand,
    authority: FleetLimits,
    cut: bool,
    streams: u32,
    /// Whether an Envoy went on by itself while others did not: it may have its part beyond the
    /// limit.
    alone: bool,
    /// Who went on by itself before answers came in.
    were_silent: Vec<bool>,
    passed: Vec<Passed>,
}

fn story(input: &mut Unstructured<'_>) -> Result<()> {
    let algorithm = *input.choose(&["fixed_window", "sliding_window", "token_bucket"])?;
    let trouble = *input.choose(&[Trouble::None, Trouble::Envoys, Trouble::Outage])?;
    let limit = *input.choose(&[1u32, 3, 10, 40])?;
    let seconds = *input.choose(&[1u32, 4, 9])?;
    let envoys = input.int_in_range(1..=4u64)?;
    let demand = input.int_in_range(1..=6u32)?;
    let rng = Rng::with_seed(input.arbitrary()?);
    let config = format!(
        r#"{{"version":1,"public":[{{"path_prefix":"/"}}],"rate_limit_headers":{{"ietf":"off"}},
           "limits":[{{"name":"all","per":"address","reach":"fleet","algorithm":"{algorithm}",
           "requests":{limit},"window_seconds":{seconds}}}]}}"#
    );
    let clock = Hand(Arc::new(AtomicU64::new(START_MS)));
    let authority = FleetLimits::new(None, Arc::new(clock.clone()), &SystemRandom).unwrap();
    let mut story = Story {
        rng,
        config,
        envoys: BTreeMap::new(),
        born: 0,
        ways: Vec::new(),
        now_ms: START_MS,
        clock,
        authority,
        cut: false,
        streams: 0,
        alone: false,
        were_silent: Vec::new(),
        passed: Vec::new(),
    };
    for _ in 0..envoys {
        story.bear();
    }
    // Long enough for shares to count, and for an outage to outlast what was lent.
    let steps = 2500;
    let outage = story.rng.u64(300..1200)..story.rng.u64(1300..1900);
    // In half of the stories it comes again, before all is as it was or after.
    let mut again = story.rng.clone();
    let begins = outage.end + again.u64(1..400);
    let mut outages = vec![outage];
    if again.bool() {
        outages.push(begins..begins + again.u64(250..500));
    }
    if trouble != Trouble::Outage {
        outages.clear();
    }
    // In an outage all go on by themselves, sooner or later, and divide the limit.
    let mut all_divide = false;
    for step in 0..steps {
        let last = outages.iter().rfind(|it| it.start <= step);
        story.cut = last.is_some_and(|it| it.contains(&step));
        story.step(demand, trouble);
        let mut silent = story.silent();
        if story.cut {
            all_divide = silent.iter().all(|it| *it);
        }
        silent.append(&mut story.were_silent);
        let returns = last.is_some_and(|it| step < it.end + RETURN_STEPS);
        let may_be = story.cut || returns && all_divide;
        story.alone |= !may_be && silent.contains(&true);
    }
    let told = format!("{algorithm} {limit}/{seconds} {trouble:?} {envoys} {demand} {outages:?}");
    story.check(algorithm, limit, seconds, &told);
    Ok(())
}

impl Story {
    fn bear(&mut self) {
        self.born += 1;
        let shared = u128::from(self.rng.u64(..)) << 64 | u128::from(self.born);
        let worker = |n: u8| {
            let seeds = Seeds { cache: [n; 16], shared: shared.to_le_bytes(), source: [n; 16] };
            Gate::new(Config::parse(self.config.as_bytes()).unwrap(), seeds)
        };
        let workers = vec![worker(1), worker(2)];
        let off_ms = self.rng.i64(-OFF_MS..=OFF_MS);
        self.envoys.insert(
            self.born,
            Envoy {
                said: None,
                lent_until_ms: 0,
                divides: false,
                workers,
                slots: Slots::default(),
                off_ms,
                latest_ms: 0,
            },
        );
    }

    fn step(&mut self, demand: u32, trouble: Trouble) {
        self.now_ms += STEP_MS;
        self.clock.0.store(self.now_ms, Ordering::Relaxed);
        if trouble == Trouble::Envoys && self.rng.u32(..400) == 0 {
            if self.rng.bool() && self.envoys.len() > 1 {
                let doomed = *self.envoys.keys().nth(self.rng.usize(..self.envoys.len())).unwrap();
                self.envoys.remove(&doomed);
            } else if self.envoys.len() < 5 {
                self.bear();
            }
        }
        if self.rng.u32(..300) == 0 {
            let at = self.rng.usize(..self.envoys.len());
            let off_ms = self.rng.i64(-OFF_MS..=OFF_MS);
            self.envoys.values_mut().nth(at).unwrap().off_ms = off_ms;
        }
        let names: Vec<_> = self.envoys.keys().copied().collect();
        for envoy in names {
            for worker in 0..2 {
                for _ in 0..self.rng.u32(..=demand) {
                    if self.rng.u32(..8) == 0 {
                        self.ask(envoy, worker);
                    }
                }
                self.collect(envoy, worker, true);
            }
        }
        self.were_silent = self.silent();
        self.arrive();
    }

    /// Of each Envoy, whether it goes on by itself: what it was told is over.
    fn silent(&self) -> Vec<bool> {
        let time_of = |it: &Envoy| self.now_ms.saturating_add_signed(it.off_ms);
        let silent = |it: &Envoy| it.divides && it.lent_until_ms <= time_of(it);
        self.envoys.values().map(silent).collect()
    }

    fn time_of(&self, envoy: u64) -> Option<u64> {
        self.envoys.get(&envoy).map(|it| self.now_ms.saturating_add_signed(it.off_ms))
    }

    fn ask(&mut self, envoy: u64, worker: usize) {
        let Some(at_ms) = self.time_of(envoy) else { return };
        self.streams += 1;
        let request = Request {
            stream: StreamId(self.streams),
            method: b"GET",
            path: b"/",
            credential: Credential::Absent,
            client: ClientAddress::parse(b"192.0.2.1"),
        };
        let lost_races = self.rng.u32(..3);
        let it = self.envoys.get_mut(&envoy).unwrap();
        it.slots.lost_races = lost_races;
        let now = Now::from_unix_ms(at_ms);
        let decision = it.workers[worker].on_request(&request, now, &mut it.slots);
        self.note(decision, envoy, at_ms);
        self.collect(envoy, worker, false);
    }

    fn note(&mut self, decision: Decision, envoy: u64, at_ms: u64) {
        if let Decision::Pass(pass) = decision {
            let report = pass.report.expect("a limit tells how it stands");
            let it = self.envoys.get_mut(&envoy).unwrap();
            it.latest_ms = it.latest_ms.max(at_ms);
            let latest_ms = it.latest_ms;
            self.passed.push(Passed { at_ms, latest_ms, ends: report.ends });
        }
    }

    /// Takes what a worker has to say: on a request's own time, or on a tick.
    fn collect(&mut self, envoy: u64, worker: usize, tick: bool) {
        let Some(at_ms) = self.time_of(envoy) else { return };
        let it = self.envoys.get_mut(&envoy).unwrap();
        let gate = &mut it.workers[worker];
        gate.take_log();
        let mut next = |slots: &mut Slots| {
            if tick {
                gate.next_message(Now::from_unix_ms(at_ms), slots)
            } else {
                gate.next_question()
            }
        };
        let mut said = 0;
        while let Some(Message { call, body, .. }) = next(&mut it.slots) {
            said += 1;
            assert!(said < 100, "there is no end to what it says at {at_ms}");
            // Polls and events are not what this is about: they are never answered.
            if matches!(call, Call::Leases(_)) {
                let sent: LeaseCall = serde_json::from_slice(&body).unwrap();
                it.said = sent.presence.or(it.said);
                let due_ms = self.now_ms + self.rng.u64(0..120);
                let way = Way { due_ms, envoy, worker, call, body, is_answer: false };
                if self.rng.u32(..20) == 0 {
                    let again = Way { due_ms: due_ms + 300, body: way.body.clone(), ..way };
                    self.ways.push(again);
                }
                self.ways.push(way);
            }
        }
    }

    fn arrive(&mut self) {
        let (due, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.ways).into_iter().partition(|way| way.due_ms <= self.now_ms);
        self.ways = later;
        for way in due {
            let lost = self.cut || self.rng.u32(..25) == 0;
            if way.is_answer {
                self.deliver(&way, lost);
            } else if lost {
                // The proxy says so, in time.
                self.ways.push(Way {
                    due_ms: self.now_ms + 1000,
                    is_answer: true,
                    body: Vec::new(),
                    ..way
                });
            } else {
                let call: LeaseCall = serde_json::from_slice(&way.body).unwrap();
                let name = EnvoyId::parse(&call.envoy).unwrap();
                let answer: LeaseAnswer =
                    wait(self.authority.answer(name, call.presence.as_ref(), &call.asks));
                let body = serde_json::to_vec(&answer).unwrap();
                // Now and then longer than what was granted can be spent. How an Envoy stands is told in
                // time: what becomes of one that does not hear it is another story.
                let slow = call.presence.is_none() && self.rng.u32(..8) == 0;
                let due_ms = self.now_ms + self.rng.u64(..if slow { 700 } else { 120 });
                self.ways.push(Way { due_ms, body, is_answer: true, ..way });
            }
        }
    }

    fn deliver(&mut self, way: &Way, lost: bool) {
        let Some(at_ms) = self.time_of(way.envoy) else { return };
        let it = self.envoys.get_mut(&way.envoy).unwrap();
        let good = !lost && !way.body.is_empty();
        let standing =
            serde_json::from_slice::<LeaseAnswer>(&way.body).ok().and_then(|it| it.standing);
        if let (true, Some(standing), Some(said)) = (good, standing, it.said)
            && standing.number == said.number
        {
            it.lent_until_ms = said.now_ms + standing.valid_ms;
            it.divides |= standing.counted;
        }
        let answer = if !good {
            Answer { status: 503, stamped: false, body: b"" }
        } else {
            Answer { status: 200, stamped: true, body: &way.body }
        };
        let now = Now::from_unix_ms(at_ms);
        let decided = it.workers[way.worker].on_answer(way.call, &answer, now, &mut it.slots);
        for (_, decision) in decided {
            self.note(decision, way.envoy, at_ms);
        }
        self.collect(way.envoy, way.worker, false);
    }

    /// Never more than the limit, nor more than it and the parts of those who were cut off alone.
    fn check(self, algorithm: &str, limit: u32, seconds: u32, story: &str) {
        let window_ms = u64::from(seconds) * 1000;
        let most = usize::try_from(if self.alone { 2 * limit } else { limit }).unwrap();
        if algorithm == "fixed_window" {
            let mut windows: BTreeMap<u32, usize> = BTreeMap::new();
            for Passed { ends, .. } in &self.passed {
                *windows.entry(*ends).or_default() += 1;
            }
            for (ends, passed) in windows {
                assert!(passed <= most, "{passed} of {limit} until {ends}: {story}");
            }
            return;
        }
        let excess = |time: fn(&Passed) -> u64| {
            let mut times: Vec<u64> = self.passed.iter().map(time).collect();
            times.sort_unstable();
            match algorithm {
                "sliding_window" => over_a_window(&times, window_ms, most),
                _ => over_a_bucket(&times, window_ms, most),
            }
        };
        // A clock that is set back shows the same times again, when what came in them the first time may be
        // forgotten: then it is as if it had stood still.
        let excess = excess(|it| it.at_ms).and(excess(|it| it.latest_ms));
        assert_eq!(excess, None, "of {limit}: {story}");
    }
}

/// The first window in which more came than may: how many, and from when.
fn over_a_window(times: &[u64], window_ms: u64, most: usize) -> Option<(usize, u64)> {
    times.iter().enumerate().find_map(|(at, &from)| {
        let passed = times[at..].iter().take_while(|to| **to < from + window_ms).count();
        (passed > most).then_some((passed, from))
    })
}

/// The first stretch in which more came than the limit and what comes back in its time: how many, and from
/// when.
fn over_a_bucket(times: &[u64], window_ms: u64, most: usize) -> Option<(usize, u64)> {
    times.iter().enumerate().find_map(|(at, &from)| {
        times[at..].iter().enumerate().find_map(|(more, &to)| {
            let room = u128::from(window_ms + to - from) * most as u128;
            let passed = more + 1;
            (passed as u128 * u128::from(window_ms) > room).then_some((passed, from))
        })
    })
}

/// With memory as the authority there is nothing to wait for.
fn wait<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(future)
}
