//! One configuration at work in one worker: its gate, and the calls that it has on the way.

use edge_protocol::{EventKind, STAMP, STAMP_HEADER};
use gate::{
    Answer, COUNTER_NAMES, Call, Config, ConfigFault, Decision, Gate, LogLine, Message, Now,
    Recollection, Seeds, StreamId,
};
use proxy_wasm::types::{BufferType, LogLevel, MapType};

use crate::buffer::HostBuffer;
use crate::host;
use crate::origin::{Origin, REQUEST_ID, TRACE_PARENT, append_id, request_id};
use crate::pairs::{PairsWriter, pairs};
use crate::slots::EnvoySlots;

/// What the control plane is called in calls to it. Not by the cluster: that may have a name which no
/// host can have (`outbound|8081||keygate.keygate.svc.cluster.local` in Istio), and such a call is
/// refused as malformed before anybody looks at it.
const AUTHORITY: &[u8] = b"keygate";

/// What came of waiting requests.
pub(crate) type Decisions = Vec<(StreamId, Decision)>;

/// Why a configuration does not take effect.
pub(crate) enum Unusable {
    /// It is wrong.
    Config(ConfigFault),
    /// The host has no random numbers, without which anybody could choose what collides.
    NoRandom,
}

impl std::fmt::Display for Unusable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Config(fault) => fault.fmt(f),
            Self::NoRandom => f.write_str(
                "no random numbers: allow wasi_snapshot_preview1.random_get in the VM's \
                 capability_restriction_config",
            ),
        }
    }
}

/// A root context.
pub(crate) struct Root {
    pub(crate) id: u32,
    pub(crate) gate: Gate,
    pub(crate) slots: Recollection<EnvoySlots>,
    /// When it last had a tick, by the filter's count.
    pub(crate) last_tick: u64,
    /// Calls on the way, by the host's token.
    calls: Vec<(u32, Call)>,
    /// The host's numbers for the counters, once they are known.
    metrics: Vec<Option<u32>>,
    headers: HostBuffer,
    body: HostBuffer,
}

impl Root {
    pub(crate) fn new(id: u32, config: &[u8], ticks: u64) -> Result<Self, Unusable> {
        let config = Config::parse(config).map_err(Unusable::Config)?;
        let random = || host::random().ok_or(Unusable::NoRandom);
        let mut slots = EnvoySlots::default();
        let seeds = Seeds { cache: random()?, shared: slots.seed(random()?), source: random()? };
        Ok(Self {
            id,
            gate: Gate::new(config, seeds),
            slots: Recollection::new(slots),
            last_tick: ticks,
            calls: Vec::new(),
            metrics: COUNTER_NAMES.iter().map(|name| host::counter(name)).collect(),
            headers: HostBuffer::default(),
            body: HostBuffer::default(),
        })
    }

    /// Sends what the gate has to say and writes its log lines. Calls that cannot even begin are
    /// answered at once: what comes of that is returned, and is to be carried out after this.
    /// `origin` is the request that the gate has just decided on: it makes only calls about
    /// keys and limits, and the rest is left to the next tick.
    pub(crate) fn flush(&mut self, now: Now, origin: Option<&Origin<'_>>) -> Decisions {
        let mut decisions = Vec::new();
        loop {
            let message = match origin {
                Some(_) => self.gate.next_question(),
                None => self.gate.next_message(now, &mut self.slots),
            };
            let Some(message) = message else { break };
            let origin = origin.filter(|it| Some(it.stream) == message.on_behalf_of);
            if let Some(token) = self.send(&message, origin) {
                self.calls.push((token, message.call));
            } else {
                let none = Answer::NONE;
                decisions.extend(self.gate.on_answer(message.call, &none, now, &mut self.slots));
            }
        }
        self.write_log(origin);
        decisions
    }

    /// Writes the gate's log lines, each with the id of the request that it is about. The id of a
    /// request that waits is still in its headers, so this comes before anything is decided on it.
    pub(crate) fn write_log(&mut self, origin: Option<&Origin<'_>>) {
        for LogLine { kind, mut text, stream } in self.gate.take_log() {
            let at_hand = origin.filter(|it| Some(it.stream) == stream);
            match (at_hand, stream) {
                (Some(origin), _) => append_id(&mut text, origin.request_id),
                (None, Some(StreamId(context))) if host::turn_to(context) => {
                    let list = host::header_pairs(&mut self.headers, MapType::HttpRequestHeaders);
                    append_id(&mut text, list.and_then(request_id));
                    host::turn_to(self.id);
                }
                (None, _) => {}
            }
            let routine = kind == EventKind::ValidApiKey;
            host::log(if routine { LogLevel::Info } else { LogLevel::Warn }, &text);
        }
    }

    /// Time has passed.
    pub(crate) fn on_tick(&mut self, now: Now) -> Decisions {
        let metrics = &self.metrics;
        self.gate.tally().take(|counter, increase| {
            if let Some(metric) = metrics.get(counter).copied().flatten() {
                host::increase(metric, increase);
            }
        });
        // It may be changed while Envoy runs.
        self.gate.set_log(host::log_takes());
        self.flush(now, None)
    }

    /// An answer has come.
    pub(crate) fn on_call_response(
        &mut self,
        token: u32,
        headers: usize,
        body_size: usize,
        now: Now,
    ) -> Decisions {
        let Some(at) = self.calls.iter().position(|(of, _)| *of == token) else {
            return Vec::new();
        };
        let (_, call) = self.calls.swap_remove(at);
        let mut answer = Answer::NONE;
        if headers > 0
            && let Some(list) =
                host::header_pairs(&mut self.headers, MapType::HttpCallResponseHeaders)
        {
            for (name, value) in pairs(list) {
                if name == b":status" {
                    let status = str::from_utf8(value).ok().and_then(|text| text.parse().ok());
                    answer.status = status.unwrap_or(0);
                } else if name == STAMP_HEADER.as_bytes() {
                    answer.stamped = value == STAMP.as_bytes();
                }
            }
        }
        if body_size > 0 {
            answer.body = host::buffer(&mut self.body, BufferType::HttpCallResponseBody, body_size);
        }
        self.gate.on_answer(call, &answer, now, &mut self.slots)
    }

    fn send(&self, message: &Message, origin: Option<&Origin<'_>>) -> Option<u32> {
        let cluster = &self.gate.config().control_plane.cluster;
        let mut headers = PairsWriter::new();
        headers.add(b":method", message.method.as_bytes());
        headers.add(b":path", message.path.as_bytes());
        headers.add(b":authority", AUTHORITY);
        if !message.body.is_empty() {
            headers.add(b"content-type", b"application/json");
        }
        if let Some(origin) = origin {
            let named = [(REQUEST_ID, origin.request_id), (TRACE_PARENT, origin.trace_parent)];
            for (name, value) in named {
                if let Some(value) = value {
                    headers.add(name, value);
                }
            }
        }
        host::call(cluster, &headers, &message.body, message.timeout_ms)
    }
}
