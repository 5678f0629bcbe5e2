//! A gate whose control plane says anything at all.

use std::collections::{HashMap, HashSet};

use arbitrary::{Result, Unstructured};
use edge_protocol::{Verdict, VerifyAnswer};
use gate::{Answer, Call, ClientAddress, Decision, StreamId};

use super::worker::{Worker, key};

const CONFIG: &str = r#"{"version":1,"limits":[],"cache":{"fresh_seconds":5,
    "stale_if_error_seconds":10,"keys":3}}"#;
/// More than the cache has room for.
const KEYS: u64 = 5;
/// Longer than any answer may serve, in milliseconds.
const FORGOTTEN_MS: u64 = 15_000;

pub(crate) fn run(data: &[u8]) {
    let mut story = Story {
        worker: Worker::of(CONFIG),
        on_the_way: Vec::new(),
        waiting: HashMap::new(),
        told: HashMap::new(),
        decided: HashSet::new(),
    };
    let mut input = Unstructured::new(data);
    // An input that ends is a story that ends.
    while !input.is_empty() && story.go_on(&mut input).is_ok() {}
}

struct Story {
    worker: Worker,
    /// Calls without an answer, and the key that each is about.
    on_the_way: Vec<(Call, Option<String>)>,
    waiting: HashMap<StreamId, String>,
    /// When a key was last told to be good, and under which name and until when.
    told: HashMap<String, Vec<(u64, String, Option<u64>)>>,
    decided: HashSet<StreamId>,
}

impl Story {
    fn go_on(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        match input.int_in_range(0..=9u8)? {
            0..=3 => {
                let key = key(input.int_in_range(1..=KEYS)?);
                let client = ClientAddress::new([192, 0, 2, input.arbitrary()?].into());
                let (stream, decision) =
                    self.worker.ask(b"GET", b"/x", Some(key.as_bytes()), Some(client));
                if decision == Decision::Wait {
                    self.waiting.insert(stream, key);
                } else {
                    self.check(stream, &key, decision);
                }
            }
            4..=7 => self.answer(input)?,
            _ => self.worker.now_ms += u64::from(input.arbitrary::<u8>()?) * 40,
        }
        self.collect();
        Ok(())
    }

    fn collect(&mut self) {
        let now = self.worker.now();
        while let Some(message) = self.worker.gate.next_message(now, &mut self.worker.slots) {
            let body: serde_json::Value = serde_json::from_slice(&message.body).unwrap_or_default();
            let key = body["key"].as_str().map(str::to_owned);
            self.on_the_way.push((message.call, key));
        }
    }

    fn answer(&mut self, input: &mut Unstructured<'_>) -> Result<()> {
        if self.on_the_way.is_empty() {
            return Ok(());
        }
        let at = input.choose_index(self.on_the_way.len())?;
        let (call, key) = self.on_the_way.swap_remove(at);
        let body = body(call, input)?;
        let status = *input.choose(&[200, 200, 200, 200, 0, 503, 422, 404])?;
        let stamped = input.ratio(7, 8)?;
        if let (Some(key), 200, true) = (&key, status, stamped)
            && let Ok(answer) = serde_json::from_slice::<VerifyAnswer>(&body)
            && let Verdict::Known { record } = answer.verdict
            && record.is_active
        {
            let told = (self.worker.now_ms, record.key_id, record.expires_at_ms);
            self.told.entry(key.clone()).or_default().push(told);
        }
        let answer = Answer { status, stamped, body: &body };
        let now = self.worker.now();
        let decided = self.worker.gate.on_answer(call, &answer, now, &mut self.worker.slots);
        self.worker.gate.take_log();
        for (stream, decision) in decided {
            let key = self.waiting.remove(&stream).expect("who is decided on has waited");
            self.check(stream, &key, decision);
        }
        Ok(())
    }

    fn check(&mut self, stream: StreamId, key: &str, decision: Decision) {
        assert!(self.decided.insert(stream), "decided twice");
        let Decision::Pass(pass) = decision else {
            return;
        };
        let entry = pass.entry.expect("no route is public");
        let id = self.worker.gate.identity(entry).expect("who passes is known").key_id;
        let now_ms = self.worker.now_ms;
        let good = self.told.get(key).into_iter().flatten().any(|(at, name, ends)| {
            name == id && now_ms < at + FORGOTTEN_MS && ends.is_none_or(|ends| now_ms < ends)
        });
        assert!(good, "{id} passes, and nobody has told that it is good");
    }
}

/// An answer: one that could be, with anything in it, or any bytes.
fn body(call: Call, input: &mut Unstructured<'_>) -> Result<Vec<u8>> {
    if input.ratio(1, 8)? {
        let count = input.int_in_range(0..=40)?;
        return Ok(input.bytes(count)?.to_vec());
    }
    let epoch = *input.choose(&["ab", "ab", "cd"])?;
    let sequence: u64 = input.int_in_range(0..=6)?;
    let position = format!(r#"{{"epoch":"{epoch}","sequence":{sequence}}}"#);
    let id = *input.choose(&["0000000000000001", "0000000000000002", "x"])?;
    let text = match call {
        Call::Verify(_) if input.ratio(1, 4)? => {
            format!(r#"{{"as_of":{position},"verdict":"unknown"}}"#)
        }
        Call::Verify(_) => {
            let (active, window) = (input.ratio(3, 4)?, input.int_in_range(0..=2u8)?);
            let expires = match input.int_in_range(0..=2u8)? {
                0 => "null".to_owned(),
                1 => input.arbitrary::<u64>()?.to_string(),
                _ => (super::worker::START_MS + u64::from(input.arbitrary::<u16>()?)).to_string(),
            };
            let limit = match input.int_in_range(0..=3u8)? {
                0 => format!(r#"{{"requests":{window},"window_seconds":{window}}}"#),
                1 => {
                    let shared = r#"{"requests":9,"window_seconds":9,"reach":"fleet"}"#;
                    shared.to_owned()
                }
                _ => "null".to_owned(),
            };
            format!(
                r#"{{"as_of":{position},"verdict":"known","record":{{"key_id":"{id}","scope":"read",
                "environment":"live","is_active":{active},"expires_at_ms":{expires},
                "rate_limit":{limit}}}}}"#
            )
        }
        Call::Changes => {
            let reset: bool = input.ratio(1, 4)?;
            let mut changes = Vec::new();
            for step in 0..input.int_in_range(0..=3u64)? {
                let kind = *input.choose(&["created", "updated", "revoked"])?;
                let number = sequence.saturating_sub(step);
                changes.insert(
                    0,
                    format!(r#"{{"sequence":{number},"key_id":"{id}","kind":"{kind}","at_ms":0}}"#),
                );
            }
            let changes = changes.join(",");
            format!(r#"{{"position":{position},"reset":{reset},"changes":[{changes}]}}"#)
        }
        Call::Leases(_) => {
            let (number, parts) = (input.int_in_range(0..=9u64)?, input.arbitrary::<u32>()?);
            let (envoys, valid) = (input.arbitrary::<u32>()?, input.arbitrary::<u64>()?);
            let (granted, left) = (input.arbitrary::<u32>()?, input.arbitrary::<u32>()?);
            let again = match input.arbitrary::<Option<u64>>()? {
                Some(slice) => slice.to_string(),
                None => "null".to_owned(),
            };
            let grant = format!(r#"{{"granted":{granted},"left":{left},"again":{again}}}"#);
            let grants = vec![grant; input.int_in_range(0..=3usize)?].join(",");
            format!(
                r#"{{"standing":{{"number":{number},"parts":{parts},"envoys":{envoys},
                "valid_ms":{valid}}},"grants":[{grants}]}}"#
            )
        }
        Call::Events => format!(r#"{{"batch":{sequence}}}"#),
    };
    Ok(text.into_bytes())
}
