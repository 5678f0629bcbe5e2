//! Batches of events and usage on their way: one at a time, the same until it is taken.

use edge_protocol::{EventAck, EventBatch, EventKind};

use crate::audit::AuditTrail;
use crate::usage::Usage;
use crate::{Answer, Now};

/// How long to wait after a batch was not taken, in milliseconds; doubled up to the longest.
const RETRY_MS: u64 = 500;
const MAX_RETRY_MS: u64 = 8_000;

/// A batch on its way.
struct Sending {
    batch: EventBatch,
    /// What is lost if it can never be taken, with the losses that it tells of.
    at_stake: Losses,
}

/// How much is lost.
struct Losses {
    events: u64,
    usage: u64,
}

/// The way to the control plane.
pub(crate) struct Delivery {
    source: String,
    /// The batch that is being sent, the same until it is taken.
    sending: Option<Sending>,
    next_batch: u64,
    in_flight: bool,
    not_before_ms: u64,
    retry_ms: u64,
}

impl Delivery {
    /// Nothing was sent yet, under this name.
    pub(crate) fn new(source: [u8; 16]) -> Self {
        Self {
            source: format!("{:032x}", u128::from_be_bytes(source)),
            sending: None,
            next_batch: 1,
            in_flight: false,
            not_before_ms: 0,
            retry_ms: RETRY_MS,
        }
    }

    /// The clock was set back by so many milliseconds.
    pub(crate) fn set_back(&mut self, by_ms: u64) {
        self.not_before_ms = self.not_before_ms.saturating_sub(by_ms);
    }

    /// The batch to send, when it is time to send one. Events and usage share it: whichever is
    /// due takes the other along.
    pub(crate) fn next_batch(
        &mut self,
        trail: &mut AuditTrail,
        usage: &mut Usage,
        now: Now,
    ) -> Option<&EventBatch> {
        if self.in_flight || now.unix_ms() < self.not_before_ms {
            return None;
        }
        if self.sending.is_none() {
            let due = trail.due_at_ms().into_iter().chain(usage.due_at_ms()).min()?;
            if now.unix_ms() < due {
                return None;
            }
            self.sending = Some(self.gather(trail, usage, now));
        }
        self.in_flight = true;
        self.sending.as_ref().map(|sending| &sending.batch)
    }

    fn gather(&self, trail: &mut AuditTrail, usage: &mut Usage, now: Now) -> Sending {
        let told = Losses { events: trail.take_dropped(), usage: usage.take_dropped() };
        let (mut events, usage) = (trail.take_batch(), usage.take_batch());
        let at_stake = Losses {
            events: told.events + u64::try_from(events.len()).unwrap_or(u64::MAX),
            usage: told.usage + usage.iter().map(|it| u64::from(it.count)).sum::<u64>(),
        };
        // What was lost is itself an event.
        if told.events > 0 {
            events.push(trail.confess(EventKind::EventsDropped, told.events, now));
        }
        if told.usage > 0 {
            events.push(trail.confess(EventKind::UsageDropped, told.usage, now));
        }
        let (source, batch) = (self.source.clone(), self.next_batch);
        Sending { batch: EventBatch { source, batch, events, usage }, at_stake }
    }

    /// What became of the batch.
    pub(crate) fn on_answer(
        &mut self,
        answer: &Answer<'_>,
        trail: &mut AuditTrail,
        usage: &mut Usage,
        now: Now,
    ) {
        self.in_flight = false;
        let taken = answer.ok::<EventAck>().is_some_and(|ack| ack.batch == self.next_batch);
        // A batch that the control plane cannot read will not be readable next time either.
        let hopeless = answer.stamped && matches!(answer.status, 400 | 413 | 422);
        if !taken && !hopeless {
            self.not_before_ms = now.unix_ms() + self.retry_ms;
            self.retry_ms = (self.retry_ms * 2).min(MAX_RETRY_MS);
            return;
        }
        // It may have been stored although that was not heard: its number is not used again.
        self.next_batch += 1;
        let sent = self.sending.take();
        if let Some(Sending { at_stake, .. }) = sent.filter(|_| !taken) {
            trail.lose(at_stake.events);
            usage.lose(at_stake.usage);
        }
        self.retry_ms = RETRY_MS;
        self.not_before_ms = now.unix_ms();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{About, GATHER_MS};
    use edge_protocol::{UsageMethod, UsageOutcome};
    use filter_config::BacklogFull;
    use key_policy::KeyId;
    use wasm_bindgen_test::wasm_bindgen_test;

    const START_MS: u64 = 1_790_000_000_000;

    fn at(ms: u64) -> Now {
        Now::from_unix_ms(START_MS + ms)
    }

    /// All that a worker delivers.
    struct Worker {
        trail: AuditTrail,
        usage: Usage,
        delivery: Delivery,
    }

    impl Worker {
        fn new(on_full: BacklogFull) -> Self {
            let trail = AuditTrail::new(on_full);
            Self { trail, usage: Usage::new(), delivery: Delivery::new([0xab; 16]) }
        }

        fn record(&mut self, ms: u64) {
            let about = About::default();
            self.trail.record(EventKind::InvalidKey, about, "n=1".into(), false, at(ms));
        }

        fn use_key(&mut self, ms: u64) {
            let (key_id, method) = (KeyId::from_u64(1), UsageMethod::Get);
            assert!(self.usage.count(key_id, method, UsageOutcome::Allowed, at(ms)));
        }

        fn next(&mut self, ms: u64) -> Option<EventBatch> {
            self.delivery.next_batch(&mut self.trail, &mut self.usage, at(ms)).cloned()
        }

        fn answer(&mut self, answer: &Answer<'_>, ms: u64) {
            self.delivery.on_answer(answer, &mut self.trail, &mut self.usage, at(ms));
        }

        fn acknowledge(&mut self, batch: u64, ms: u64) {
            let body = serde_json::to_vec(&EventAck { batch }).unwrap();
            self.answer(&Answer { status: 200, stamped: true, body: &body }, ms);
        }

        /// What is delivered from then on, all of it taken at once.
        fn rest(&mut self, from_ms: u64) -> Vec<EventBatch> {
            let mut told = Vec::new();
            let mut ms = from_ms;
            while let Some(batch) = self.next(ms) {
                self.acknowledge(batch.batch, ms);
                told.push(batch);
                ms += 1000;
            }
            told
        }
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn a_batch_is_repeated_unchanged_until_it_is_taken() {
        let mut worker = Worker::new(BacklogFull::Drop);
        worker.record(0);
        worker.use_key(0);
        assert_eq!(worker.next(0), None, "it waits for company");
        let first = worker.next(GATHER_MS).unwrap();
        assert_eq!((first.events.len(), first.usage[0].count), (1, 1));
        assert_eq!(worker.next(GATHER_MS), None, "one at a time");
        worker.record(GATHER_MS);
        worker.use_key(GATHER_MS);
        worker.answer(&Answer::NONE, 300);
        assert_eq!(worker.next(301), None, "not at once again");
        let again = worker.next(300 + RETRY_MS).unwrap();
        assert_eq!(first, again);
        worker.acknowledge(1, 900);
        let second = worker.next(1200).unwrap();
        assert_eq!((second.batch, second.events.len(), second.usage[0].count), (2, 1, 1));
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn an_answer_without_the_control_planes_stamp_is_no_acknowledgement() {
        let mut worker = Worker::new(BacklogFull::Drop);
        worker.record(0);
        let first = worker.next(GATHER_MS);
        let body = serde_json::to_vec(&EventAck { batch: 1 }).unwrap();
        worker.answer(&Answer { status: 200, stamped: false, body: &body }, 300);
        worker.answer(&Answer { status: 413, stamped: false, body: &[] }, 300);
        assert_eq!(worker.next(20_000), first);
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn usage_goes_by_itself_when_nothing_happens() {
        let mut worker = Worker::new(BacklogFull::Drop);
        worker.use_key(0);
        worker.use_key(999);
        assert_eq!(worker.next(999), None);
        let batch = worker.next(1000).unwrap();
        assert_eq!((batch.events.len(), batch.usage[0].count), (0, 2));
        worker.acknowledge(1, 1001);
        assert_eq!(worker.next(60_000), None);
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn what_can_never_be_taken_is_counted_and_told() {
        let mut worker = Worker::new(BacklogFull::Drop);
        worker.record(0);
        worker.record(0);
        for _ in 0..5 {
            worker.use_key(0);
        }
        // The second one tells of the losses of the first, and is refused as well.
        for _ in 0..2 {
            worker.next(1000).unwrap();
            worker.answer(&Answer { status: 422, stamped: true, body: b"{}" }, 1000);
        }
        let batches = worker.rest(1000);
        let told: Vec<_> =
            batches[0].events.iter().map(|it| (it.kind, it.details.as_str())).collect();
        assert_eq!(
            told,
            [(EventKind::EventsDropped, "count=2"), (EventKind::UsageDropped, "count=5")]
        );
        // A number that was sent is not sent with anything else.
        assert_eq!((batches.len(), batches[0].batch), (1, 3));
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn a_backlog_goes_out_batch_by_batch_and_makes_room() {
        let mut worker = Worker::new(BacklogFull::Deny);
        while !worker.trail.must_refuse() {
            worker.record(0);
        }
        let first = worker.next(1000).unwrap();
        worker.acknowledge(1, 1000);
        assert!(!worker.trail.must_refuse());
        let rest = worker.rest(1000);
        let numbers: Vec<_> = rest.iter().map(|it| it.batch).collect();
        assert_eq!(numbers, (2..=u64::try_from(rest.len()).unwrap() + 1).collect::<Vec<_>>());
        let sent = rest.iter().map(|it| it.events.len()).sum::<usize>() + first.events.len();
        assert_eq!(sent, 8192);
    }
}
