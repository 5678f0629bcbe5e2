//! A gate with the slots that it shares, in memory.

use std::collections::HashMap;

use gate::{
    Answer, Call, ClientAddress, Config, Credential, Decision, Gate, MAX_SLOT_BYTES, Now, Request,
    Seeds, SharedSlots, SlotName, StreamId, Version,
};

/// A moment, at the start of a minute, in milliseconds since the Unix epoch.
pub(super) const START_MS: u64 = 1_790_000_040_000;

/// Slots as Envoy keeps them.
#[derive(Default)]
pub(super) struct Slots {
    pub(super) content: HashMap<SlotName, (Vec<u8>, u32)>,
    /// What is in a slot that nobody has written yet.
    pub(super) noise: Option<Vec<u8>>,
    /// How many of the next writes come too late.
    pub(super) lost_races: u32,
}

impl SharedSlots for Slots {
    fn load(&mut self, slot: &SlotName, into: &mut [u8]) -> Option<(usize, Version)> {
        if let Some(noise) = &self.noise {
            self.content.entry(*slot).or_insert_with(|| (noise.clone(), 1));
        }
        let (content, version) = self.content.get(slot)?;
        into[..content.len()].copy_from_slice(content);
        Some((content.len(), Version(*version)))
    }

    fn store(&mut self, slot: &SlotName, content: &[u8], expected: Option<Version>) -> bool {
        assert!(content.len() <= MAX_SLOT_BYTES, "a slot is outgrown");
        if self.lost_races > 0 {
            self.lost_races -= 1;
            return false;
        }
        let present = self.content.get(slot).map(|(_, version)| Version(*version));
        if present != expected {
            return false;
        }
        let version = present.map_or(1, |Version(version)| version + 1);
        self.content.insert(*slot, (content.to_vec(), version));
        true
    }
}

/// A worker.
pub(super) struct Worker {
    pub(super) gate: Gate,
    pub(super) slots: Slots,
    pub(super) now_ms: u64,
    streams: u32,
}

impl Worker {
    pub(super) fn new(config: Config) -> Self {
        let seeds = Seeds { cache: [1; 16], shared: [2; 16], source: [3; 16] };
        let gate = Gate::new(config, seeds);
        Self { gate, slots: Slots::default(), now_ms: START_MS, streams: 0 }
    }

    pub(super) fn of(config: &str) -> Self {
        Self::new(Config::parse(config.as_bytes()).unwrap())
    }

    pub(super) fn now(&self) -> Now {
        Now::from_unix_ms(self.now_ms)
    }

    pub(super) fn ask(
        &mut self,
        method: &[u8],
        path: &[u8],
        key: Option<&[u8]>,
        client: Option<ClientAddress>,
    ) -> (StreamId, Decision) {
        self.streams += 1;
        let stream = StreamId(self.streams);
        let credential = key.map_or(Credential::Absent, Credential::One);
        let request = Request { stream, method, path, credential, client };
        let now = self.now();
        let decision = self.gate.on_request(&request, now, &mut self.slots);
        self.gate.take_log();
        (stream, decision)
    }

    pub(super) fn answer(&mut self, call: Call, body: &[u8]) -> Vec<(StreamId, Decision)> {
        let (answer, now) = (Answer { status: 200, stamped: true, body }, self.now());
        let decided = self.gate.on_answer(call, &answer, now, &mut self.slots);
        self.gate.take_log();
        decided
    }

    /// Has it learn a key of this record, by way of a request.
    pub(super) fn learn(&mut self, key: &str, record: &str) {
        let (stream, waiting) = self.ask(b"GET", b"/", Some(key.as_bytes()), None);
        assert_eq!(waiting, Decision::Wait, "a new key is asked about");
        let position = r#"{"epoch":"ab","sequence":1}"#;
        while let Some(message) = self.gate.next_message(self.now(), &mut self.slots) {
            match message.call {
                Call::Verify(_) => {
                    let body =
                        format!(r#"{{"as_of":{position},"verdict":"known","record":{record}}}"#);
                    let decided = self.answer(message.call, body.as_bytes());
                    assert!(decided.iter().any(|(id, _)| *id == stream), "it waits no longer");
                }
                Call::Changes => {
                    let body = format!(r#"{{"position":{position},"reset":true,"changes":[]}}"#);
                    self.answer(message.call, body.as_bytes());
                    // The next poll comes at once, and is held.
                    break;
                }
                Call::Events | Call::Leases(_) => {}
            }
        }
    }
}

/// A key of our own form, another one for each number.
pub(super) fn key(number: u64) -> String {
    let mut random = fastrand::Rng::with_seed(number);
    let mut fill = |bytes: &mut [u8]| -> Result<(), ()> {
        random.fill(bytes);
        Ok(())
    };
    key_policy::Policy::default().generate(key_policy::Environment::Live, &mut fill).unwrap().text
}
