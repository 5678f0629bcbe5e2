//! What happened, written down once and kept until it is delivered.

use edge_protocol::{Event, EventKind};
use filter_config::BacklogFull;
use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use crate::cache::KeyFingerprint;
use crate::{ClientAddress, Now, StreamId};

/// How many events wait at most; at about 250 bytes each, 2 MB.
const MAX_WAITING: usize = 8192;
/// What tells nothing of a key may take this much of the room: a flood of it must not push out
/// what is known of revoked keys and denied addresses.
const MAX_WAITING_ANONYMOUS: usize = MAX_WAITING / 4 * 3;
/// In the strict mode nobody is let in any more at `MAX_WAITING`; what is still to be told then, of
/// requests that were let in before and had to wait, or that several layers find against in shadow
/// mode, finds room up to here: no more requests wait for answers than `MAX_WAITING`, and no
/// more for limits.
const MAX_WAITING_STRICT: usize = 4 * MAX_WAITING;
/// How many go in one batch.
const BATCH: usize = 256;
/// How long the first event of a batch waits for company, in milliseconds.
pub(crate) const GATHER_MS: u64 = 200;

/// Whom an event is about.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct About<'a> {
    pub(crate) fingerprint: Option<KeyFingerprint>,
    pub(crate) key_id: Option<&'a str>,
    pub(crate) client: Option<ClientAddress>,
}

/// A line for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// What it is about.
    pub kind: EventKind,
    /// The line.
    pub text: String,
    /// The request that it is about, for whoever knows that request by another name.
    pub stream: Option<StreamId>,
}

/// Which lines a log takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogTakes {
    /// Those about keys that were accepted, too.
    Everything,
    /// What was found against requests.
    Warnings,
    /// None: they are not even written.
    Nothing,
}

impl LogTakes {
    fn takes(self, kind: EventKind) -> bool {
        match self {
            Self::Everything => true,
            Self::Warnings => kind != EventKind::ValidApiKey,
            Self::Nothing => false,
        }
    }
}

/// The events of this worker that are in no batch yet.
pub(crate) struct AuditTrail {
    on_full: BacklogFull,
    waiting: VecDeque<Event>,
    /// When the first of them was written down.
    since_ms: u64,
    dropped: u64,
    log: Vec<LogLine>,
    log_takes: LogTakes,
    /// The request that is being decided on.
    stream: Option<StreamId>,
}

impl AuditTrail {
    pub(crate) fn new(on_full: BacklogFull) -> Self {
        Self {
            on_full,
            waiting: VecDeque::new(),
            since_ms: 0,
            dropped: 0,
            log: Vec::new(),
            log_takes: LogTakes::Everything,
            stream: None,
        }
    }

    /// Whether there is no room for another event and requests must not pass unrecorded.
    pub(crate) fn must_refuse(&self) -> bool {
        self.on_full == BacklogFull::Deny && self.waiting.len() >= MAX_WAITING
    }

    /// What is written down from now on is about this request.
    pub(crate) fn concerns(&mut self, stream: Option<StreamId>) {
        self.stream = stream;
    }

    /// The clock was set back by so many milliseconds.
    pub(crate) fn set_back(&mut self, by_ms: u64) {
        self.since_ms = self.since_ms.saturating_sub(by_ms);
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
        let event = self.write_down(kind, about, details, shadow, now);
        let room = match (self.on_full, about.key_id) {
            // Every event counts as much as any other: none may be lost.
            (BacklogFull::Deny, _) => MAX_WAITING_STRICT,
            (BacklogFull::Drop, Some(_)) => MAX_WAITING,
            (BacklogFull::Drop, None) => MAX_WAITING_ANONYMOUS,
        };
        if self.waiting.len() >= room {
            self.dropped += 1;
            return false;
        }
        if self.waiting.is_empty() {
            self.since_ms = now.unix_ms();
        }
        self.waiting.push_back(event);
        true
    }

    fn write_down(
        &mut self,
        kind: EventKind,
        about: About<'_>,
        details: String,
        shadow: bool,
        now: Now,
    ) -> Event {
        let event = Event {
            at_ms: now.unix_ms(),
            kind,
            key_hash: about.fingerprint.map(|f| String::from_utf8_lossy(&f).into_owned()),
            key_id: about.key_id.map(str::to_owned),
            client_ip: about.client.map(ClientAddress::ip),
            details,
            shadow,
        };
        if self.log_takes.takes(kind) {
            let text = event.log_line(&timestamp(now));
            self.log.push(LogLine { kind, text, stream: self.stream });
        }
        event
    }

    /// Which lines are worth writing from now on.
    pub(crate) fn set_log(&mut self, takes: LogTakes) {
        self.log_takes = takes;
    }

    /// Whether there are log lines to take.
    pub(crate) fn has_log(&self) -> bool {
        !self.log.is_empty()
    }

    /// The log lines written since the last call.
    pub(crate) fn take_log(&mut self) -> Vec<LogLine> {
        std::mem::take(&mut self.log)
    }

    /// From when on a batch is worth sending; none: there is nothing to send.
    pub(crate) fn due_at_ms(&self) -> Option<u64> {
        match (self.waiting.len(), self.dropped) {
            (0, 0) => None,
            (waiting, 0) if waiting < BATCH => Some(self.since_ms + GATHER_MS),
            _ => Some(0),
        }
    }

    /// Takes out what goes in the next batch, oldest first.
    pub(crate) fn take_batch(&mut self) -> Vec<Event> {
        let count = self.waiting.len().min(BATCH);
        self.waiting.drain(..count).collect()
    }

    /// Events that were taken out are lost.
    pub(crate) fn lose(&mut self, events: u64) {
        self.dropped += events;
    }

    /// How many were lost, to be told of by the caller.
    pub(crate) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    /// The event that so much was lost. It needs no room here, as it goes out at once.
    pub(crate) fn confess(&mut self, kind: EventKind, lost: u64, now: Now) -> Event {
        self.write_down(kind, About::default(), format!("count={lost}"), false, now)
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
        AuditTrail::new(BacklogFull::Drop)
    }

    fn at(ms: u64) -> Now {
        Now::from_unix_ms(START_MS + ms)
    }

    fn record(trail: &mut AuditTrail, n: usize, now: Now) {
        let details = format!("n={n}");
        trail.record(EventKind::InvalidKey, About::default(), details, false, now);
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
            trail.take_log()[0].text,
            "API_KEY_SECURITY_EVENT: INVALID_KEY | key_hash=0123456789abcdef | \
             client_ip=192.0.2.1 | timestamp=2026-09-21T14:13:20.000Z | details=reason=unknown"
        );
        assert!(trail.take_log().is_empty());
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn what_the_log_does_not_take_is_kept_for_the_audit_log_all_the_same() {
        let mut trail = trail();
        for (takes, lines) in
            [(LogTakes::Everything, 2), (LogTakes::Warnings, 1), (LogTakes::Nothing, 0)]
        {
            trail.set_log(takes);
            for kind in [EventKind::ValidApiKey, EventKind::InvalidKey] {
                assert!(trail.record(kind, About::default(), String::new(), false, at(0)));
            }
            assert_eq!(trail.take_log().len(), lines);
            assert_eq!(trail.take_batch().len(), 2);
        }
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn what_is_lost_is_counted_and_told() {
        let mut trail = trail();
        for n in 0..MAX_WAITING_ANONYMOUS + 10 {
            record(&mut trail, n, at(0));
        }
        let about = About { key_id: Some("0123456789abcdef"), ..About::default() };
        assert!(trail.record(EventKind::RevokedKey, about, String::new(), false, at(0)));
        assert_eq!(trail.take_dropped(), 10);
        let confession = trail.confess(EventKind::EventsDropped, 10, at(1000));
        assert_eq!(confession.details, "count=10");
        let line = trail.take_log().pop().unwrap().text;
        assert!(line.starts_with("API_KEY_SECURITY_EVENT: EVENTS_DROPPED | "), "{line}");
        let mut left = 0;
        while trail.due_at_ms().is_some() {
            left += trail.take_batch().len();
        }
        assert_eq!(left, MAX_WAITING_ANONYMOUS + 1);
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn the_strict_mode_refuses_while_there_is_no_room() {
        let mut trail = AuditTrail::new(BacklogFull::Deny);
        for n in 0..MAX_WAITING {
            assert!(!trail.must_refuse());
            record(&mut trail, n, at(0));
        }
        assert!(trail.must_refuse());
        trail.take_batch();
        assert!(!trail.must_refuse());
    }
}
