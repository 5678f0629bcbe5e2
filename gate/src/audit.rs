//! Events on their way to the audit log: written down once, kept until they are acknowledged.

use edge_protocol::{Event, EventAck, EventBatch, EventKind};
use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use crate::cache::KeyFingerprint;
use crate::config::OnBacklogFull;
use crate::{Answer, ClientAddress, Now};

/// How many events wait at most; at about 250 bytes each, 2 MB.
const MAX_WAITING: usize = 8192;
/// What tells nothing of a key may take this much of the room: a flood of it must not push out
/// what is known of revoked keys and denied addresses.
const MAX_WAITING_ANONYMOUS: usize = MAX_WAITING / 4 * 3;
/// How many go in one batch.
const BATCH: usize = 256;
/// How long the first event of a batch waits for company, in milliseconds.
const GATHER_MS: u64 = 200;
/// How long to wait after a batch was not taken, in milliseconds; doubled up to the longest.
const RETRY_MS: u64 = 500;
const MAX_RETRY_MS: u64 = 8_000;

/// Whom an event is about.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct About<'a> {
    pub(crate) fingerprint: Option<KeyFingerprint>,
    pub(crate) key_id: Option<&'a str>,
    pub(crate) client: Option<ClientAddress>,
}

/// The events of this worker that are not yet safe.
pub(crate) struct AuditTrail {
    source: String,
    on_full: OnBacklogFull,
    waiting: VecDeque<Event>,
    /// The batch that is being sent, the same until it is taken.
    sending: Option<EventBatch>,
    next_batch: u64,
    in_flight: bool,
    send_at_ms: u64,
    retry_ms: u64,
    dropped: u64,
    log: Vec<(EventKind, String)>,
}

impl AuditTrail {
    pub(crate) fn new(source: [u8; 16], on_full: OnBacklogFull) -> Self {
        Self {
            source: format!("{:032x}", u128::from_be_bytes(source)),
            on_full,
            waiting: VecDeque::new(),
            sending: None,
            next_batch: 1,
            in_flight: false,
            send_at_ms: 0,
            retry_ms: RETRY_MS,
            dropped: 0,
            log: Vec::new(),
        }
    }

    /// Whether there is no room for another event and requests must not pass unrecorded.
    pub(crate) fn must_refuse(&self) -> bool {
        self.on_full == OnBacklogFull::Deny && self.waiting.len() >= MAX_WAITING
    }

    /// The clock was set back by so many milliseconds.
    pub(crate) fn set_back(&mut self, by_ms: u64) {
        self.send_at_ms = self.send_at_ms.saturating_sub(by_ms);
    }

    /// Writes an event down. Returns whether there was room to keep it for the audit log.
    pub(crate) fn record(
        &mut self,
        kind: EventKind,
        about: About<'_>,
        details: String,
        shadow: bool,
        now: Now,
    ) -> bool {
        let event = Event {
            at_ms: now.unix_ms(),
            kind,
            key_hash: about.fingerprint.map(|f| String::from_utf8_lossy(&f).into_owned()),
            key_id: about.key_id.map(str::to_owned),
            client_ip: about.client.map(ClientAddress::ip),
            details,
            shadow,
        };
        self.log.push((kind, event.log_line(&timestamp(now))));
        // In the strict mode every event counts as much as any other: none may be lost.
        let anonymous = about.key_id.is_none() && self.on_full == OnBacklogFull::Drop;
        let room = if anonymous { MAX_WAITING_ANONYMOUS } else { MAX_WAITING };
        if self.waiting.len() >= room {
            self.dropped += 1;
            return false;
        }
        if self.waiting.is_empty() {
            self.send_at_ms = self.send_at_ms.max(now.unix_ms() + GATHER_MS);
        }
        self.waiting.push_back(event);
        true
    }

    /// The log lines written since the last call.
    pub(crate) fn take_log(&mut self) -> Vec<(EventKind, String)> {
        std::mem::take(&mut self.log)
    }

    /// The batch to send, when it is time to send one.
    pub(crate) fn next_batch(&mut self, now: Now) -> Option<&EventBatch> {
        let due = now.unix_ms() >= self.send_at_ms
            || self.sending.is_none() && self.waiting.len() >= BATCH && self.retry_ms == RETRY_MS;
        if self.in_flight || !due {
            return None;
        }
        if self.sending.is_none() {
            self.confess_losses(now);
            if self.waiting.is_empty() {
                return None;
            }
            let count = self.waiting.len().min(BATCH);
            let events = self.waiting.drain(..count).collect();
            let batch = self.next_batch;
            self.sending = Some(EventBatch { source: self.source.clone(), batch, events });
        }
        self.in_flight = true;
        self.sending.as_ref()
    }

    /// What became of the batch.
    pub(crate) fn on_answer(&mut self, answer: &Answer<'_>, now: Now) {
        self.in_flight = false;
        let taken = answer.ok::<EventAck>().is_some_and(|ack| ack.batch == self.next_batch);
        // A batch that the control plane cannot read will not be readable next time either.
        let hopeless = answer.stamped && matches!(answer.status, 400 | 413 | 422);
        if taken || hopeless {
            let sent = self.sending.take().map_or(0, |batch| batch.events.len());
            if taken {
                self.next_batch += 1;
            } else {
                self.dropped += u64::try_from(sent).unwrap_or(u64::MAX);
            }
            self.retry_ms = RETRY_MS;
            self.send_at_ms = now.unix_ms();
        } else {
            self.send_at_ms = now.unix_ms() + self.retry_ms;
            self.retry_ms = (self.retry_ms * 2).min(MAX_RETRY_MS);
        }
    }

    /// What was lost is itself an event.
    fn confess_losses(&mut self, now: Now) {
        if self.dropped > 0 && self.waiting.len() < MAX_WAITING_ANONYMOUS {
            let details = format!("count={}", std::mem::take(&mut self.dropped));
            self.record(EventKind::EventsDropped, About::default(), details, false, now);
        }
    }
}

/// ISO 8601, in UTC.
fn timestamp(now: Now) -> String {
    let time = SystemTime::UNIX_EPOCH + Duration::from_millis(now.unix_ms());
    humantime::format_rfc3339_millis(time).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasm_bindgen_test::wasm_bindgen_test;

    const START_MS: u64 = 1_790_000_000_000;

    fn trail() -> AuditTrail {
        AuditTrail::new([0xab; 16], OnBacklogFull::Drop)
    }

    fn at(ms: u64) -> Now {
        Now::from_unix_ms(START_MS + ms)
    }

    fn record(trail: &mut AuditTrail, n: usize, now: Now) {
        let details = format!("n={n}");
        trail.record(EventKind::InvalidKey, About::default(), details, false, now);
    }

    fn acknowledge(trail: &mut AuditTrail, batch: u64, now: Now) {
        let body = serde_json::to_vec(&EventAck { batch }).unwrap();
        trail.on_answer(&Answer { status: 200, stamped: true, body: &body }, now);
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn a_log_line_has_the_promised_form() {
        let mut trail = trail();
        let about = About {
            fingerprint: Some(*b"0123456789abcdef"),
            key_id: None,
            client: ClientAddress::parse(b"192.0.2.1"),
        };
        trail.record(EventKind::InvalidKey, about, "reason=unknown".into(), false, at(0));
        assert_eq!(
            trail.take_log()[0].1,
            "API_KEY_SECURITY_EVENT: INVALID_KEY | key_hash=0123456789abcdef | \
             client_ip=192.0.2.1 | timestamp=2026-09-21T14:13:20.000Z | details=reason=unknown"
        );
        assert!(trail.take_log().is_empty());
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn a_batch_is_repeated_unchanged_until_it_is_taken() {
        let mut trail = trail();
        record(&mut trail, 1, at(0));
        assert!(trail.next_batch(at(0)).is_none(), "it waits for company");
        let first = trail.next_batch(at(GATHER_MS)).cloned().unwrap();
        assert!(trail.next_batch(at(GATHER_MS)).is_none(), "one at a time");
        record(&mut trail, 2, at(GATHER_MS));
        trail.on_answer(&Answer::NONE, at(300));
        assert!(trail.next_batch(at(301)).is_none(), "not at once again");
        let again = trail.next_batch(at(300 + RETRY_MS)).cloned().unwrap();
        assert_eq!(first, again);
        acknowledge(&mut trail, 1, at(900));
        let second = trail.next_batch(at(1200)).cloned().unwrap();
        assert_eq!((second.batch, second.events.len()), (2, 1));
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn an_answer_without_the_control_planes_stamp_is_no_acknowledgement() {
        let mut trail = trail();
        record(&mut trail, 1, at(0));
        let first = trail.next_batch(at(GATHER_MS)).cloned().unwrap();
        let body = serde_json::to_vec(&EventAck { batch: 1 }).unwrap();
        trail.on_answer(&Answer { status: 200, stamped: false, body: &body }, at(300));
        trail.on_answer(&Answer { status: 413, stamped: false, body: &[] }, at(300));
        assert_eq!(trail.next_batch(at(20_000)).cloned(), Some(first));
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn what_is_lost_is_counted_and_told() {
        let mut trail = trail();
        for n in 0..MAX_WAITING_ANONYMOUS + 10 {
            record(&mut trail, n, at(0));
        }
        let about = About { key_id: Some("0123456789abcdef"), ..About::default() };
        assert!(trail.record(EventKind::RevokedKey, about, String::new(), false, at(0)));
        let mut now = 1000;
        let mut told = Vec::new();
        while let Some(batch) = trail.next_batch(at(now)).cloned() {
            told.extend(batch.events);
            acknowledge(&mut trail, batch.batch, at(now));
            now += 1000;
        }
        assert_eq!(told.len(), MAX_WAITING_ANONYMOUS + 2);
        let confession = told.iter().find(|e| e.kind == EventKind::EventsDropped).unwrap();
        assert_eq!(confession.details, "count=10");
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn the_strict_mode_refuses_while_there_is_no_room() {
        let mut trail = AuditTrail::new([0; 16], OnBacklogFull::Deny);
        for n in 0..MAX_WAITING {
            assert!(!trail.must_refuse());
            record(&mut trail, n, at(0));
        }
        assert!(trail.must_refuse());
        let batch = trail.next_batch(at(1000)).cloned().unwrap();
        acknowledge(&mut trail, batch.batch, at(1000));
        assert!(!trail.must_refuse());
    }
}
