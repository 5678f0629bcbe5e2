//! Layer 5: asking the control plane about a key, and what its answers mean.

use edge_protocol::{EventKind, Position, Verdict, VerifyAnswer};
use filter_config::{Layer, SuccessEvents};

use super::credential::fingerprint;
use super::{Decision, Facts, Gate, REST_MS};
use crate::audit::About;
use crate::cache::{EntryIndex, KeyFingerprint, KeyHash, Record};
use crate::flights::{Crowded, Flight, FlightId, Waiter};
use crate::limits::{SharedSlots, Subject, Verdict as LimitVerdict};
use crate::message::{Answer, Message};
use crate::problem::{Problem, Refusal};
use crate::request::{Now, StreamId};
use crate::tally::Counter;

/// How often a question is asked anew when a change overtakes its answer.
const MAX_TIMES_ASKED: u8 = 3;

impl Gate {
    /// A key that this worker does not know, of a length that keys can have.
    pub(super) fn with_unknown_key(
        &mut self,
        hash: KeyHash,
        key: &[u8],
        facts: Facts,
        now: Now,
        slots: &mut impl SharedSlots,
    ) -> Decision {
        if self.config.policy.check_bytes(key).is_err() {
            return self.with_bad_key(key, facts, now, slots);
        }
        let fingerprint = fingerprint(key);
        if let Err(problem) = self.examine(key, fingerprint, facts, now) {
            return Decision::Refuse(self.refusal(problem));
        }
        if self.unknown.contains(hash, now.unix_ms()) {
            return self.not_a_key(fingerprint, "reason=unknown cached=true", facts, now, slots);
        }
        let about = About { fingerprint: Some(fingerprint), client: facts.client, key_id: None };
        // A key that another worker of this Envoy knows is not a guess.
        if let Some(refusal) = self.has_failed_too_often(about, key, facts, now, slots) {
            return Decision::Refuse(refusal);
        }
        self.ask(hash, fingerprint, key, facts, now, slots)
    }

    /// Has the request wait for an answer about its key.
    pub(super) fn ask(
        &mut self,
        hash: KeyHash,
        fingerprint: KeyFingerprint,
        key: &[u8],
        facts: Facts,
        now: Now,
        slots: &mut impl SharedSlots,
    ) -> Decision {
        if self.is_resting(now) {
            return self.cannot_tell(
                fingerprint,
                "reason=control_plane_unreachable",
                facts,
                now,
                slots,
            );
        }
        let Facts { stream, plan, client } = facts;
        let waiter = Waiter { stream, plan, client };
        match self.flights.join(hash, fingerprint, key, Some(waiter)) {
            Ok(new) => {
                self.tally.count(Counter::CacheMiss);
                self.send_off(new, key, Some(stream));
                Decision::Wait
            }
            Err(Crowded) => match self.known.find(hash) {
                Some(entry) => self.decide_stale(entry, facts, now, slots),
                None => self.cannot_tell(fingerprint, "reason=too_many_lookups", facts, now, slots),
            },
        }
    }

    /// Decides on an old answer, since no other can be had.
    pub(super) fn decide_stale(
        &mut self,
        entry: EntryIndex,
        facts: Facts,
        now: Now,
        slots: &mut impl SharedSlots,
    ) -> Decision {
        self.tally.count(Counter::CacheStale);
        self.decide(entry, facts, now, slots)
    }

    /// Whether the control plane is left alone for the moment.
    pub(super) fn is_resting(&self, now: Now) -> bool {
        now.unix_ms() < self.rest_until_ms
    }

    /// Asks about a known key ahead of time, so that nobody has to wait when it is no longer
    /// fresh.
    pub(super) fn refresh(&mut self, entry: EntryIndex, hash: KeyHash, key: &[u8], now: Now) {
        if self.is_resting(now) || self.flights.is_asked(hash) {
            return;
        }
        let Some(fingerprint) = self.known.get(entry).map(|e| e.fingerprint) else {
            return;
        };
        if let Ok(new) = self.flights.join(hash, fingerprint, key, None) {
            self.send_off(new, key, None);
        }
    }

    fn send_off(&mut self, flight: Option<FlightId>, key: &[u8], for_stream: Option<StreamId>) {
        if let (Some(id), Ok(key)) = (flight, str::from_utf8(key)) {
            self.tally.count(Counter::VerifyCall);
            let timeout_ms = self.config.control_plane.timeout_ms;
            self.outbox.push_back(Message::verify(id, key, timeout_ms, for_stream));
        }
    }

    /// The answer about a key has come. It is kept, whether or not anybody still waits for it.
    pub(super) fn on_verified(
        &mut self,
        flight: FlightId,
        answer: &Answer<'_>,
        now: Now,
        slots: &mut impl SharedSlots,
    ) -> Vec<(StreamId, Decision)> {
        let Some(flight) = self.flights.land(flight) else {
            return Vec::new();
        };
        let Some(VerifyAnswer { as_of, verdict }) = answer.ok() else {
            // Whatever the reason, the next one with a known key need not wait for the same: it is
            // served from what is remembered, and asked about meanwhile.
            self.reachable = false;
            // An answer of its own that it cannot tell (too much to hash, say) is about this key
            // alone: the next unknown one is asked about all the same.
            if !answer.stamped {
                self.rest_until_ms = now.unix_ms() + REST_MS;
            }
            return self.nobody_knows(&flight, now, slots);
        };
        self.reachable = true;
        match verdict {
            Verdict::Unknown => {
                self.known.remove(flight.hash);
                if !self.feed.overtook(&as_of, None) {
                    self.unknown.insert(flight.hash, now.unix_ms());
                }
                self.for_each_waiter(&flight, |gate, facts| {
                    gate.not_a_key(flight.fingerprint, "reason=unknown", facts, now, slots)
                })
            }
            Verdict::Known { record } => {
                if self.feed.overtook(&as_of, Some(&record.key_id)) {
                    return self.ask_again(flight, now, slots);
                }
                let Some(record) = Record::read(record) else {
                    return self.nobody_knows(&flight, now, slots);
                };
                self.learn(&flight, record, as_of, now, slots)
            }
        }
    }

    fn learn(
        &mut self,
        flight: &Flight,
        record: Record,
        as_of: Position,
        now: Now,
        slots: &mut impl SharedSlots,
    ) -> Vec<(StreamId, Decision)> {
        let is_new = self.known.find(flight.hash).is_none();
        let works = record.is_active && record.expires_at_ms.is_none_or(|at| now.unix_ms() < at);
        let key_id = record.key_id_text.clone();
        let learned_at = now.unix_ms();
        if works {
            self.counters.remember_key(slots, flight.key.as_str().as_bytes(), now);
        }
        let entry = self.known.insert(flight.hash, flight.fingerprint, record, learned_at, as_of);
        let first = flight.waiters.first();
        if let (true, true, Some(first)) = (is_new, works, first)
            && self.config.audit.success == SuccessEvents::FirstSeen
        {
            let about = About {
                fingerprint: Some(flight.fingerprint),
                key_id: Some(&key_id),
                client: first.client,
            };
            self.audit.concerns(Some(first.stream));
            self.audit.record(EventKind::ValidApiKey, about, "seen=first".into(), false, now);
        }
        self.for_each_waiter(flight, |gate, facts| gate.decide(entry, facts, now, slots))
    }

    fn ask_again(
        &mut self,
        flight: Flight,
        now: Now,
        slots: &mut impl SharedSlots,
    ) -> Vec<(StreamId, Decision)> {
        if flight.times_asked >= MAX_TIMES_ASKED {
            self.known.remove(flight.hash);
            return self.nobody_knows(&flight, now, slots);
        }
        self.tally.count(Counter::VerifyCall);
        let timeout_ms = self.config.control_plane.timeout_ms;
        let again = Message::verify(flight.id, flight.key.as_str(), timeout_ms, None);
        self.outbox.push_back(again);
        self.flights.relaunch(flight);
        Vec::new()
    }

    /// No answer could be had: an old one serves, if there is one that may.
    fn nobody_knows(
        &mut self,
        flight: &Flight,
        now: Now,
        slots: &mut impl SharedSlots,
    ) -> Vec<(StreamId, Decision)> {
        let entry = self.known.find(flight.hash).filter(|&entry| self.may_serve(entry, now));
        self.for_each_waiter(flight, |gate, facts| {
            if let Some(entry) = entry {
                return gate.decide_stale(entry, facts, now, slots);
            }
            let details = "reason=no_answer_from_control_plane";
            gate.cannot_tell(flight.fingerprint, details, facts, now, slots)
        })
    }

    fn for_each_waiter(
        &mut self,
        flight: &Flight,
        mut decide: impl FnMut(&mut Self, Facts) -> Decision,
    ) -> Vec<(StreamId, Decision)> {
        let mut decisions = Vec::with_capacity(flight.waiters.len());
        for waiter in &flight.waiters {
            let Waiter { stream, plan, client } = *waiter;
            let facts = Facts { stream, plan, client };
            self.audit.concerns(Some(waiter.stream));
            decisions.push((waiter.stream, decide(self, facts)));
        }
        decisions
    }

    /// Layer 5 against the request: no key of ours.
    fn not_a_key(
        &mut self,
        fingerprint: KeyFingerprint,
        details: &str,
        facts: Facts,
        now: Now,
        slots: &mut impl SharedSlots,
    ) -> Decision {
        let about = About { fingerprint: Some(fingerprint), client: facts.client, key_id: None };
        if self.finds_against(Layer::Known, EventKind::InvalidKey, about, details, now) {
            return Decision::Refuse(self.failed_credential(about, facts, now, slots));
        }
        self.limit(facts, now, slots)
    }

    /// It cannot be told whether this is a key of ours.
    fn cannot_tell(
        &mut self,
        fingerprint: KeyFingerprint,
        details: &str,
        facts: Facts,
        now: Now,
        slots: &mut impl SharedSlots,
    ) -> Decision {
        let about = About { fingerprint: Some(fingerprint), client: facts.client, key_id: None };
        if self.finds_against(Layer::Known, EventKind::DbError, about, details, now) {
            return Decision::Refuse(self.unavailable());
        }
        self.limit(facts, now, slots)
    }

    /// Counts a failed credential. The answer is the same for every kind of failure; past the
    /// limit, it is to come back later.
    pub(super) fn failed_credential(
        &mut self,
        about: About<'_>,
        facts: Facts,
        now: Now,
        slots: &mut impl SharedSlots,
    ) -> Refusal {
        let window = self.config.failed_attempts;
        let subject = Subject::Address(facts.subject());
        let outcome = self.counters.take(slots, self.failures, window, subject, now);
        if outcome.verdict == LimitVerdict::Over
            && let Some(refusal) = self.failed_too_often(outcome.ends, about, now)
        {
            return refusal;
        }
        self.refusal(Problem::Invalid)
    }

    fn has_failed_too_often(
        &mut self,
        about: About<'_>,
        key: &[u8],
        facts: Facts,
        now: Now,
        slots: &mut impl SharedSlots,
    ) -> Option<Refusal> {
        let window = self.config.failed_attempts;
        let subject = Subject::Address(facts.subject());
        let outcome = self.counters.look(slots, self.failures, window, subject, now);
        let is_over = outcome.verdict == LimitVerdict::Over;
        if !is_over || self.counters.remembers_key(slots, key, now) {
            return None;
        }
        self.failed_too_often(outcome.ends, about, now)
    }

    fn failed_too_often(&mut self, ends: u32, about: About<'_>, now: Now) -> Option<Refusal> {
        let details = "limit=failed_attempts";
        let kind = EventKind::RateLimited;
        if !self.finds_against(Layer::FailedAttempts, kind, about, details, now) {
            return None;
        }
        let left = u64::from(ends).saturating_sub(now.unix_seconds()).max(1);
        let retry_after = Some(u32::try_from(left).unwrap_or(u32::MAX));
        Some(Refusal { retry_after, ..self.refusal(Problem::FailedAttempts) })
    }
}
