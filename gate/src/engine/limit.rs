//! Rate limits: the last word on a request that may pass.

use edge_protocol::{EventKind, OnOutage, Reach};
use filter_config::{Per, Quota, SuccessEvents};

use super::shared_limit::{SharedLimit, Waiting};
use super::{Decision, Facts, Gate, Pass};
use crate::audit::About;
use crate::cache::EntryIndex;
use crate::limits::{LimitReport, OWN_LIMIT, Outcome, RuleHash, SharedSlots, Subject, Verdict};
use crate::problem::{Problem, Refusal};
use crate::request::Now;
use crate::tally::Counter;

/// A limit that counts this request.
#[derive(Clone, Copy)]
struct Applied {
    /// Its place in the configuration; none: the key's own.
    rule: Option<u8>,
    quota: Quota,
    reach: Reach,
    on_outage: OnOutage,
    shadow: bool,
}

/// How far a request has got with its limits. While it waits for one that the fleet shares, the ones
/// before it have counted it already.
#[derive(Clone, Copy, Debug)]
pub(super) struct Progress {
    /// One bit for each limit of the configuration that is still to count it.
    pending: u64,
    /// How the limit nearest to its end stands so far.
    report: Option<LimitReport>,
    /// How often it has waited.
    pub(super) waits: u8,
    /// Whether what it waited for could not be had.
    pub(super) failed: bool,
    /// Whether it has waited at all: what shadow mode finds was written down before.
    pub(super) resumed: bool,
}

impl Progress {
    pub(super) fn start(facts: Facts) -> Self {
        Self { pending: facts.plan.limits, report: None, waits: 0, failed: false, resumed: false }
    }
}

impl Facts {
    /// Whose requests count together with this one. Clients whose address cannot be told share
    /// one count: they must not go uncounted.
    pub(super) fn subject(&self) -> u128 {
        self.client.map_or(0, crate::ClientAddress::subject)
    }
}

impl Gate {
    /// Counts a request without a known key against every limit that it falls under, and passes it
    /// if all have room.
    pub(super) fn limit(
        &mut self,
        facts: Facts,
        now: Now,
        slots: &mut impl SharedSlots,
    ) -> Decision {
        self.limit_from(None, facts, Progress::start(facts), now, slots)
    }

    /// A request that has waited for a limit goes on from there. Its key may have been revoked in
    /// the meantime.
    pub(super) fn go_on(
        &mut self,
        waiting: Waiting,
        now: Now,
        slots: &mut impl SharedSlots,
    ) -> Decision {
        let Waiting { key, facts, progress, .. } = waiting;
        match key.map(|key| self.known.find(key)) {
            None => self.limit_from(None, facts, progress, now, slots),
            Some(Some(entry)) if self.may_serve(entry, now) => {
                self.decide_from(entry, facts, progress, now, slots)
            }
            // It is no longer known what the key may do.
            Some(_) => Decision::Refuse(self.unavailable()),
        }
    }

    /// The same for any request, with some of the limits counted already.
    pub(super) fn limit_from(
        &mut self,
        entry: Option<EntryIndex>,
        facts: Facts,
        mut progress: Progress,
        now: Now,
        slots: &mut impl SharedSlots,
    ) -> Decision {
        let key = entry.and_then(|entry| self.known.get(entry)).map(|e| e.record.key_id.as_u64());
        while progress.pending != 0 {
            let bit = progress.pending.trailing_zeros();
            let Ok(place) = u8::try_from(bit) else { break };
            let Some(rule) = self.config.limits.get(usize::from(place)) else {
                break;
            };
            let subject = match (rule.per, key) {
                (Per::Address, _) => Some(Subject::Address(facts.subject())),
                (Per::Key, Some(key)) => Some(Subject::Key(key)),
                (Per::AddressAndKey, Some(key)) => {
                    Some(Subject::KeyAtAddress(key, facts.subject()))
                }
                (Per::Key | Per::AddressAndKey, None) => None,
            };
            let applied = Applied {
                rule: Some(place),
                quota: rule.quota,
                reach: rule.reach,
                on_outage: rule.on_outage,
                shadow: rule.shadow,
            };
            if let Some(subject) = subject
                && let Some(end) =
                    self.count(applied, subject, entry, facts, &mut progress, now, slots)
            {
                return end;
            }
            progress.pending &= progress.pending - 1;
        }
        let own = entry.and_then(|entry| self.known.get(entry)).and_then(|e| e.record.limit);
        if let (Some(own), Some(key)) = (own, key) {
            let applied = Applied {
                rule: None,
                quota: Quota {
                    algorithm: own.algorithm,
                    requests: own.requests,
                    seconds: own.window_seconds,
                },
                reach: own.reach,
                on_outage: own.on_outage,
                shadow: self.config.key_limits_shadowed,
            };
            let subject = Subject::Key(key);
            if let Some(end) = self.count(applied, subject, entry, facts, &mut progress, now, slots)
            {
                return end;
            }
        }
        self.pass(entry, progress.report, facts, now)
    }

    /// What a limit is counted under: one of the configuration's, or the key's own.
    pub(super) fn rule_hash(&self, rule: Option<u8>, seconds: u32) -> RuleHash {
        let known = rule.and_then(|rule| self.rules.get(usize::from(rule)).copied());
        known.unwrap_or_else(|| self.counters.rule(OWN_LIMIT, seconds))
    }

    /// Counts the request against one limit; what comes of it, when that is the end of it for now.
    #[expect(clippy::too_many_arguments, reason = "each is a fact of its own")]
    fn count(
        &mut self,
        applied: Applied,
        subject: Subject,
        entry: Option<EntryIndex>,
        facts: Facts,
        progress: &mut Progress,
        now: Now,
        slots: &mut impl SharedSlots,
    ) -> Option<Decision> {
        let Applied { rule, quota, .. } = applied;
        let outcome = match applied.reach {
            Reach::Envoy => {
                let rule = self.rule_hash(rule, quota.seconds);
                self.counters.take(slots, rule, quota, subject, now)
            }
            Reach::Fleet => {
                let key = entry.and_then(|entry| self.known.get(entry)).map(|e| e.hash);
                let waiting = Waiting { key, facts, progress: *progress };
                let limit = SharedLimit { rule, quota, subject };
                match self.take_shared(limit, waiting, now, slots) {
                    Some(outcome) => outcome,
                    None => return Some(Decision::Wait),
                }
            }
        };
        (progress.failed, progress.waits) = (false, 0);
        self.judge(applied, outcome, entry, facts, now, &mut progress.report).map(Decision::Refuse)
    }

    /// What one limit's verdict means for the request.
    fn judge(
        &mut self,
        applied: Applied,
        outcome: Outcome,
        entry: Option<EntryIndex>,
        facts: Facts,
        now: Now,
        nearest: &mut Option<LimitReport>,
    ) -> Option<Refusal> {
        let report = LimitReport {
            rule: applied.rule,
            limit: applied.quota.requests,
            window_seconds: applied.quota.seconds,
            remaining: outcome.remaining,
            ends: outcome.ends,
        };
        let over = match outcome.verdict {
            Verdict::Within => false,
            Verdict::Over => true,
            Verdict::Unknown => {
                self.tally.count(Counter::LimitUnknown);
                applied.on_outage == OnOutage::Deny
            }
        };
        if !over {
            let counts = outcome.verdict == Verdict::Within && !applied.shadow;
            if counts && nearest.is_none_or(|n| report.binds_before(&n)) {
                *nearest = Some(report);
            }
            return None;
        }
        let details = format!("limit={}", self.limit_name(&report));
        self.record_about(EventKind::RateLimited, entry, facts, &details, applied.shadow, now);
        if applied.shadow {
            return None;
        }
        let retry_after = Some(report.seconds_left(now));
        let report = Some(report);
        Some(Refusal { retry_after, report, ..self.refusal(Problem::RateLimited) })
    }

    fn pass(
        &mut self,
        entry: Option<EntryIndex>,
        report: Option<LimitReport>,
        facts: Facts,
        now: Now,
    ) -> Decision {
        self.tally.count(if entry.is_some() { Counter::Allowed } else { Counter::Anonymous });
        if entry.is_some() && self.config.audit.success == SuccessEvents::All {
            let known = entry.and_then(|entry| self.known.get(entry));
            let key_id = known.map(|e| e.record.key_id_text.clone());
            let about = About {
                fingerprint: known.map(|e| e.fingerprint),
                key_id: key_id.as_deref(),
                client: facts.client,
            };
            if !self.audit.record(EventKind::ValidApiKey, about, "seen=again".into(), false, now) {
                self.tally.count(Counter::EventDropped);
            }
        }
        Decision::Pass(Pass { entry, report })
    }

    fn record_about(
        &mut self,
        kind: EventKind,
        entry: Option<EntryIndex>,
        facts: Facts,
        details: &str,
        shadow: bool,
        now: Now,
    ) {
        let known = entry.and_then(|entry| self.known.get(entry));
        let key_id = known.map(|e| e.record.key_id_text.clone());
        let about = About {
            fingerprint: known.map(|e| e.fingerprint),
            key_id: key_id.as_deref(),
            client: facts.client,
        };
        self.record(kind, about, details, shadow, now);
    }
}
