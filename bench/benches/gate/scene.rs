//! A gate, the keys that it may learn, and the answers of its control plane.

use edge_protocol::leases::{Grant, LeaseAnswer, LeaseCall, Standing, pool_of};
use edge_protocol::{
    ChangesAnswer, EventAck, EventBatch, KeyEnvironment, KeyRecord, Position, Scope, Verdict,
    VerifyAnswer,
};
use gate::{
    Answer, Call, ClientAddress, Config, Credential, Decision, Gate, Message, Now, Recollection,
    Request, Seeds, StreamId,
};
use key_policy::{Environment, Policy};
use serde::Serialize;

use crate::shelf::Shelf;

/// In the middle of a minute: no window ends meanwhile.
const NOW_MS: u64 = 1_790_000_070_000;

pub(crate) struct Scene {
    pub(crate) gate: Gate,
    /// Recollected, as the filter recollects them.
    pub(crate) slots: Recollection<Shelf>,
    pub(crate) now: Now,
    /// What this Envoy holds of the shares of limits.
    pub(crate) parts: u32,
}

/// A request without a key.
pub(crate) fn get(path: &str) -> Request<'_> {
    Request {
        stream: StreamId(7),
        method: b"GET",
        path: path.as_bytes(),
        credential: Credential::Absent,
        client: ClientAddress::parse(b"192.0.2.1"),
    }
}

/// A request with one.
pub(crate) fn with(key: &str) -> Request<'_> {
    Request { credential: Credential::One(key.as_bytes()), ..get("/v1/things?x=1") }
}

/// Keys of ours, always the same.
pub(crate) fn keys(count: usize) -> Vec<String> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut fill = |bytes: &mut [u8]| {
        for byte in bytes {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            *byte = state.to_be_bytes()[0];
        }
        Ok::<_, ()>(())
    };
    let policy = Policy::default();
    let one = |_| policy.generate(Environment::Live, &mut fill).expect("a key").text;
    (0..count).map(one).collect()
}

/// What the control plane knows of a key that may read.
pub(crate) fn record(key: &str) -> KeyRecord {
    KeyRecord {
        key_id: key.get(8..24).expect("kg_live_ and a key id").to_owned(),
        owner: Some("acme".into()),
        scope: Scope::Read,
        environment: KeyEnvironment::Live,
        is_active: true,
        expires_at_ms: None,
        allowed_ips: Vec::new(),
        rate_limit: None,
    }
}

fn position() -> Position {
    Position { epoch: "ab12".into(), sequence: 1 }
}

fn json(answer: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(answer).expect("plain data")
}

impl Scene {
    /// A gate that follows its change feed and knows no key.
    pub(crate) fn new(config: &str) -> Self {
        let config = Config::parse(config.as_bytes()).expect("a configuration");
        let seeds = Seeds { cache: [1; 16], shared: [2; 16], source: [3; 16] };
        let mut scene = Self {
            gate: Gate::new(config, seeds),
            slots: Recollection::new(Shelf::default()),
            now: Now::from_unix_ms(NOW_MS),
            parts: 0,
        };
        // A gate that has seen no request says nothing.
        scene.decide(&get("/"));
        scene.settle();
        scene
    }

    pub(crate) fn decide(&mut self, request: &Request<'_>) -> Decision {
        self.gate.on_request(request, self.now, &mut self.slots)
    }

    /// Has the gate ask about a key, and gives it this answer.
    pub(crate) fn learn(&mut self, key: &str, verdict: Verdict) {
        assert_eq!(self.decide(&with(key)), Decision::Wait);
        let question = self.gate.next_question().expect("a question");
        let answer = json(&VerifyAnswer { as_of: position(), verdict });
        self.answer(question.call, &answer);
        self.gate.take_log();
    }

    pub(crate) fn learn_all(&mut self, keys: &[String]) {
        for (number, key) in keys.iter().enumerate() {
            self.learn(key, Verdict::Known { record: record(key) });
            if number % 1000 == 0 {
                self.settle();
            }
        }
        self.settle();
    }

    pub(crate) fn answer(&mut self, call: Call, body: &[u8]) -> usize {
        let answer = Answer { status: 200, stamped: true, body };
        self.gate.on_answer(call, &answer, self.now, &mut self.slots).len()
    }

    /// Answers all that the gate has to say, but for its poll without news.
    pub(crate) fn settle(&mut self) {
        while let Some(message) = self.gate.next_message(self.now, &mut self.slots) {
            if let Some(body) = self.reply(&message) {
                self.answer(message.call, &body);
            }
        }
        self.gate.take_log();
    }

    fn reply(&self, message: &Message) -> Option<Vec<u8>> {
        Some(match message.call {
            Call::Verify(_) => json(&VerifyAnswer { as_of: position(), verdict: Verdict::Unknown }),
            Call::Changes if message.path.contains("epoch=") => return None,
            Call::Changes => {
                let (position, changes) = (position(), Vec::new());
                json(&ChangesAnswer { position, reset: true, changes })
            }
            Call::Events => {
                let batch: EventBatch = serde_json::from_slice(&message.body).expect("a batch");
                json(&EventAck { batch: batch.batch })
            }
            Call::Leases(_) => self.lend(message),
        })
    }

    /// Grants half of what each limit has beyond the shares.
    pub(crate) fn lend(&self, message: &Message) -> Vec<u8> {
        let call: LeaseCall = serde_json::from_slice(&message.body).expect("a call");
        let standing = call.presence.map(|presence| Standing {
            number: presence.number,
            parts: self.parts,
            envoys: 2,
            counted: true,
            valid_ms: 5000,
        });
        let grants = call.asks.iter().map(|ask| {
            let granted = pool_of(ask.requests) / 2;
            Grant { granted, left: pool_of(ask.requests) - granted, again: None }
        });
        json(&LeaseAnswer { standing, grants: grants.collect() })
    }
}
