//! A world for the gate to decide in: shared slots, a control plane, and a clock, all in memory.

use edge_protocol::leases::{
    ALL_SHARES, Ask as LeaseAsk, Grant, LeaseAnswer, LeaseCall, Standing, pool_of,
};
use edge_protocol::{
    Change, ChangeKind, ChangesAnswer, EventAck, EventBatch, KeyEnvironment, KeyRecord, Position,
    Scope, Verdict, VerifyAnswer, VerifyRequest,
};
use gate::{
    Answer, Call, ClientAddress, Config, Credential, Decision, Gate, MAX_SLOT_BYTES, Message, Now,
    Refusal, Request, Seeds, SharedSlots, SlotName, StreamId, Version,
};
use key_policy::{Environment, Policy};
use std::collections::HashMap;

/// Wednesday, at the start of a minute.
pub(crate) const START_MS: u64 = 1_790_000_040_000;
/// How long the control plane holds a poll.
const HOLD_MS: u64 = 5_000;
pub(crate) const CLIENT: &str = "192.0.2.1";

/// Envoy's shared data, as it behaves: versions count up for all slots together.
#[derive(Default)]
pub(crate) struct MemorySlots {
    pub(crate) slots: HashMap<Vec<u8>, (Vec<u8>, u32)>,
    last_version: u32,
    /// How many of the next stores fail as if another worker had been faster.
    pub(crate) lost_races: u32,
}

impl SharedSlots for MemorySlots {
    fn load(&mut self, slot: &SlotName, into: &mut [u8]) -> Option<(usize, Version)> {
        let (content, version) = self.slots.get(slot.as_bytes())?;
        into[..content.len()].copy_from_slice(content);
        Some((content.len(), Version(*version)))
    }

    fn store(&mut self, slot: &SlotName, content: &[u8], expected: Option<Version>) -> bool {
        assert!(content.len() <= MAX_SLOT_BYTES);
        if self.lost_races > 0 {
            self.lost_races -= 1;
            return false;
        }
        if let Some((present, version)) = self.slots.get_mut(slot.as_bytes()) {
            if expected != Some(Version(*version)) {
                return false;
            }
            self.last_version += 1;
            present.clear();
            present.extend_from_slice(content);
            *version = self.last_version;
        } else {
            self.last_version += 1;
            let created = (content.to_vec(), self.last_version);
            self.slots.insert(slot.as_bytes().to_vec(), created);
        }
        true
    }
}

/// What the control plane knows, and what it was asked.
pub(crate) struct ControlPlane {
    pub(crate) keys: HashMap<String, KeyRecord>,
    pub(crate) sequence: u64,
    pub(crate) changes: Vec<Change>,
    pub(crate) verify_calls: usize,
    pub(crate) events: Vec<edge_protocol::Event>,
    pub(crate) usage: Vec<edge_protocol::UsageCount>,
    /// The last batch that was stored.
    last_batch: u64,
    /// Batches are stored, and the filter does not hear of it.
    pub(crate) loses_answers: bool,
    /// Batches are refused as unreadable.
    pub(crate) refuses_batches: bool,
    pub(crate) batches_refused: usize,
    pub(crate) up: bool,
    /// What it lends of the shares, and to how many Envoys.
    pub(crate) parts: u32,
    pub(crate) envoys: u32,
    /// Asks that came.
    pub(crate) asks: Vec<LeaseAsk>,
    /// What was granted, by limit, subject and slice.
    granted: HashMap<(String, String, u64), u32>,
    /// Grants at most so much at once.
    pub(crate) chunk: u32,
}

impl ControlPlane {
    /// Lends out of a pool that only this Envoy draws on.
    fn lend(&mut self, call: &LeaseCall) -> LeaseAnswer {
        let standing = call.presence.map(|presence| Standing {
            number: presence.number,
            parts: self.parts,
            envoys: self.envoys,
            counted: true,
            valid_ms: 5_000,
        });
        let grants = call.asks.iter().map(|ask| {
            let name = (ask.limit.clone(), ask.subject.clone(), ask.slice);
            let granted = self.granted.entry(name).or_default();
            let pool = pool_of(ask.requests);
            let target = ask.used + ask.want.max(self.chunk);
            *granted = (*granted).max(target.min(pool));
            let left = pool - *granted;
            let again = (left == 0).then_some(ask.slice + 1);
            Grant { granted: *granted, left, again }
        });
        let grants = grants.collect();
        self.asks.extend(call.asks.iter().cloned());
        LeaseAnswer { standing, grants }
    }
}

/// One worker with everything around it.
pub(crate) struct World {
    pub(crate) gate: Gate,
    pub(crate) slots: MemorySlots,
    pub(crate) control_plane: ControlPlane,
    pub(crate) now_ms: u64,
    pub(crate) log: Vec<String>,
    /// Messages that have not been answered.
    pub(crate) on_the_way: Vec<Message>,
    pub(crate) resumed: Vec<(StreamId, Decision)>,
    /// When the poll that is on the way was sent.
    polled_at_ms: u64,
    next_stream: u32,
    next_key: u64,
}

impl World {
    pub(crate) fn new(config: &str) -> Self {
        let config = Config::parse(config.as_bytes()).unwrap();
        let seeds = Seeds { cache: [1; 16], shared: [2; 16], source: [3; 16] };
        Self {
            gate: Gate::new(config, seeds),
            slots: MemorySlots::default(),
            control_plane: ControlPlane {
                keys: HashMap::new(),
                sequence: 0,
                changes: Vec::new(),
                verify_calls: 0,
                events: Vec::new(),
                usage: Vec::new(),
                last_batch: 0,
                loses_answers: false,
                refuses_batches: false,
                batches_refused: 0,
                up: true,
                parts: ALL_SHARES,
                envoys: 1,
                asks: Vec::new(),
                granted: HashMap::new(),
                chunk: 1,
            },
            now_ms: START_MS,
            log: Vec::new(),
            on_the_way: Vec::new(),
            resumed: Vec::new(),
            polled_at_ms: 0,
            next_stream: 0,
            next_key: 1,
        }
    }

    pub(crate) fn now(&self) -> Now {
        Now::from_unix_ms(self.now_ms)
    }

    /// A key of `scope` that the control plane knows.
    pub(crate) fn issue(&mut self, scope: Scope) -> String {
        self.issue_with(|record| record.scope = scope)
    }

    pub(crate) fn issue_with(&mut self, change: impl FnOnce(&mut KeyRecord)) -> String {
        let (key, key_id) = self.new_key(Environment::Live);
        let mut record = KeyRecord {
            key_id,
            owner: Some("acme".into()),
            scope: Scope::Read,
            environment: KeyEnvironment::Live,
            is_active: true,
            expires_at_ms: None,
            allowed_ips: Vec::new(),
            rate_limit: None,
        };
        change(&mut record);
        self.announce(&record.key_id.clone(), ChangeKind::Created);
        self.control_plane.keys.insert(key.clone(), record);
        key
    }

    /// A well-formed key that nobody knows.
    pub(crate) fn unknown_key(&mut self) -> String {
        self.new_key(Environment::Live).0
    }

    pub(crate) fn new_key(&mut self, environment: Environment) -> (String, String) {
        self.next_key += 1;
        let mut state = self.next_key.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let key = Policy::default()
            .generate::<()>(environment, &mut |bytes| {
                for byte in bytes {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    *byte = (state >> 56) as u8;
                }
                Ok(())
            })
            .unwrap();
        (key.text, key.key_id.to_string())
    }

    pub(crate) fn revoke(&mut self, key: &str) {
        let record = self.control_plane.keys.get_mut(key).unwrap();
        record.is_active = false;
        let key_id = record.key_id.clone();
        self.announce(&key_id, ChangeKind::Revoked);
    }

    pub(crate) fn announce(&mut self, key_id: &str, kind: ChangeKind) {
        self.control_plane.sequence += 1;
        self.control_plane.changes.push(Change {
            sequence: self.control_plane.sequence,
            key_id: key_id.to_owned(),
            kind,
            at_ms: self.now_ms,
        });
    }

    /// Sends a request, and says what was decided at once.
    pub(crate) fn send(&mut self, request: &Ask<'_>) -> (StreamId, Decision) {
        self.next_stream += 1;
        let stream = StreamId(self.next_stream);
        let request = Request {
            stream,
            method: request.method.as_bytes(),
            path: request.path.as_bytes(),
            credential: request.credential,
            client: ClientAddress::parse(request.client.as_bytes()),
        };
        let now = self.now();
        let decision = self.gate.on_request(&request, now, &mut self.slots);
        self.collect();
        (stream, decision)
    }

    /// Sends a request and lets the control plane answer until it is decided.
    pub(crate) fn ask(&mut self, request: &Ask<'_>) -> Decision {
        let (stream, decision) = self.send(request);
        if decision != Decision::Wait {
            return decision;
        }
        for _ in 0..10 {
            self.answer_all();
            if let Some(at) = self.resumed.iter().position(|(id, _)| *id == stream) {
                return self.resumed.swap_remove(at).1;
            }
        }
        panic!("the request was never decided");
    }

    pub(crate) fn get(&mut self, key: &str) -> Decision {
        self.ask(&Ask { credential: Credential::One(key.as_bytes()), ..Ask::default() })
    }

    /// Takes the gate's messages and log lines.
    pub(crate) fn collect(&mut self) {
        let now = self.now();
        let before = self.on_the_way.len();
        while let Some(message) = self.gate.next_message(now, &mut self.slots) {
            assert!(self.on_the_way.len() < before + 100, "there is no end to what it says");
            if message.call == Call::Changes {
                self.polled_at_ms = self.now_ms;
            }
            self.on_the_way.push(message);
        }
        self.log.extend(self.gate.take_log().into_iter().map(|line| line.text));
    }

    /// Answers everything that is on the way, but for a poll without news.
    pub(crate) fn answer_all(&mut self) {
        for message in std::mem::take(&mut self.on_the_way) {
            match self.answer_to(&message) {
                Reply::NotYet => self.on_the_way.push(message),
                Reply::Failure => self.deliver(message.call, None),
                Reply::Refusal => self.refuse(message.call),
                Reply::Answer(body) => self.deliver(message.call, Some(&body)),
            }
        }
    }

    pub(crate) fn deliver(&mut self, call: Call, body: Option<&[u8]>) {
        let answer = match body {
            Some(body) => Answer { status: 200, stamped: true, body },
            None => Answer { status: 503, stamped: false, body: b"no healthy upstream" },
        };
        let now = self.now();
        self.resumed.extend(self.gate.on_answer(call, &answer, now, &mut self.slots));
        self.collect();
    }

    fn refuse(&mut self, call: Call) {
        let answer = Answer { status: 422, stamped: true, body: b"{}" };
        let now = self.now();
        self.resumed.extend(self.gate.on_answer(call, &answer, now, &mut self.slots));
        self.collect();
    }

    pub(crate) fn answer_to(&mut self, message: &Message) -> Reply {
        if !self.control_plane.up {
            return Reply::Failure;
        }
        let cp = &mut self.control_plane;
        let position = Position { epoch: "ab12".into(), sequence: cp.sequence };
        Reply::Answer(match message.call {
            Call::Verify(_) => {
                cp.verify_calls += 1;
                let asked: VerifyRequest = serde_json::from_slice(&message.body).unwrap();
                let verdict = match cp.keys.get(&asked.key) {
                    Some(record) => Verdict::Known { record: record.clone() },
                    None => Verdict::Unknown,
                };
                serde_json::to_vec(&VerifyAnswer { as_of: position, verdict }).unwrap()
            }
            Call::Changes => {
                let first = !message.path.contains("epoch=");
                let since = message.path.split("since=").nth(1).unwrap();
                let since: u64 = since.split('&').next().unwrap().parse().unwrap();
                let changes: Vec<Change> =
                    cp.changes.iter().filter(|c| c.sequence > since).cloned().collect();
                if !first && changes.is_empty() && self.now_ms < self.polled_at_ms + HOLD_MS {
                    return Reply::NotYet;
                }
                let changes = if first { Vec::new() } else { changes };
                serde_json::to_vec(&ChangesAnswer { position, reset: first, changes }).unwrap()
            }
            Call::Leases(_) => {
                let call: LeaseCall = serde_json::from_slice(&message.body).unwrap();
                serde_json::to_vec(&cp.lend(&call)).unwrap()
            }
            Call::Events => {
                let batch: EventBatch = serde_json::from_slice(&message.body).unwrap();
                let ack = EventAck { batch: batch.batch };
                if batch.batch > cp.last_batch {
                    if cp.refuses_batches {
                        cp.batches_refused += 1;
                        return Reply::Refusal;
                    }
                    cp.last_batch = batch.batch;
                    cp.events.extend(batch.events);
                    cp.usage.extend(batch.usage);
                }
                if cp.loses_answers {
                    return Reply::Failure;
                }
                serde_json::to_vec(&ack).unwrap()
            }
        })
    }

    /// Lets time pass in steps of a tick.
    pub(crate) fn pass_ms(&mut self, ms: u64) {
        let end = self.now_ms + ms;
        while self.now_ms < end {
            self.now_ms = end.min(self.now_ms + 50);
            self.collect();
            self.answer_all();
        }
    }

    pub(crate) fn events(&self) -> Vec<&'static str> {
        self.control_plane.events.iter().map(|event| event.kind.as_str()).collect()
    }
}

/// Three workers of one Envoy: each has its own memory, and the slots are the same.
pub(crate) fn workers(config: &str) -> Vec<Gate> {
    let worker = |n| {
        let config = Config::parse(config.as_bytes()).unwrap();
        Gate::new(config, Seeds { cache: [n; 16], shared: [9; 16], source: [n; 16] })
    };
    (0..3).map(worker).collect()
}

/// What the control plane has to say to a message.
pub(crate) enum Reply {
    NotYet,
    Failure,
    Refusal,
    Answer(Vec<u8>),
}

/// What a client asks.
#[derive(Clone, Copy)]
pub(crate) struct Ask<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) credential: Credential<'a>,
    pub(crate) client: &'a str,
}

impl Default for Ask<'_> {
    fn default() -> Self {
        Self { method: "GET", path: "/", credential: Credential::Absent, client: CLIENT }
    }
}

pub(crate) fn with(key: &str) -> Ask<'_> {
    Ask { credential: Credential::One(key.as_bytes()), ..Ask::default() }
}

#[track_caller]
pub(crate) fn refused(decision: Decision) -> Refusal {
    match decision {
        Decision::Refuse(refusal) => refusal,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

#[track_caller]
pub(crate) fn passed(decision: Decision) -> gate::Pass {
    match decision {
        Decision::Pass(pass) => pass,
        other => panic!("expected it to pass, got {other:?}"),
    }
}

/// The status and the code of a refusal.
#[track_caller]
pub(crate) fn answer(decision: Decision) -> (u16, String) {
    let refusal = refused(decision);
    let body: serde_json::Value = serde_json::from_str(refusal.body()).unwrap();
    (refusal.status(), body["code"].as_str().unwrap().to_owned())
}
