//! Rate limits: the last word on a request that may pass.

use edge_protocol::{EventKind, OnOutage};

use super::{Decision, Facts, Gate, Pass};
use crate::audit::About;
use crate::cache::EntryIndex;
use crate::config::{KEY_LIMIT, Per, SuccessAudit, Window};
use crate::limits::{LimitReport, Outcome, SharedSlots, Subject, Verdict};
use crate::problem::{Problem, Refusal};
use crate::request::Now;
use crate::tally::Counter;

/// A limit that counts this request.
#[derive(Clone, Copy)]
struct Applied {
    /// Its place in the configuration; none: the key's own.
    rule: Option<u8>,
    window: Window,
    on_outage: OnOutage,
    shadow: bool,
}

impl Facts {
    /// Whose requests count together with this one. Clients whose address cannot be told share
    /// one count: they must not go uncounted.
    pub(super) fn subject(&self) -> u128 {
        self.client.map_or(0, crate::ClientAddress::subject)
    }
}

impl Gate {
    /// Counts the request against every limit that it falls under, and passes it if all have
    /// room.
    pub(super) fn limit(
        &mut self,
        entry: Option<EntryIndex>,
        facts: Facts,
        now: Now,
        slots: &mut impl SharedSlots,
    ) -> Decision {
        let mut report: Option<LimitReport> = None;
        let key = entry.and_then(|entry| self.known.get(entry)).map(|e| e.record.key_id.as_u64());
        let mut pending = facts.plan.limits;
        while pending != 0 {
            let bit = pending.trailing_zeros();
            pending &= pending - 1;
            let Ok(place) = u8::try_from(bit) else { break };
            let Some(rule) = self.config.limits.get(usize::from(place)) else {
                break;
            };
            let subject = match (rule.per, key) {
                (Per::Address, _) => Subject::Address(facts.subject()),
                (Per::Key, Some(key)) => Subject::Key(key),
                (Per::AddressAndKey, Some(key)) => Subject::KeyAtAddress(key, facts.subject()),
                (Per::Key | Per::AddressAndKey, None) => continue,
            };
            let applied = Applied {
                rule: Some(place),
                window: rule.window,
                on_outage: rule.on_outage,
                shadow: rule.shadow,
            };
            let outcome = self.counters.take(slots, &rule.name, rule.window, subject, now);
            if let Some(refusal) = self.judge(applied, outcome, entry, facts, now, &mut report) {
                return Decision::Refuse(refusal);
            }
        }
        let own = entry.and_then(|entry| self.known.get(entry)).and_then(|e| e.record.limit);
        if let (Some(own), Some(key)) = (own, key) {
            let window = Window { requests: own.requests, seconds: own.window_seconds };
            let shadow = self.config.key_limits_shadowed;
            let applied = Applied { rule: None, window, on_outage: own.on_outage, shadow };
            let outcome = self.counters.take(slots, KEY_LIMIT, window, Subject::Key(key), now);
            if let Some(refusal) = self.judge(applied, outcome, entry, facts, now, &mut report) {
                return Decision::Refuse(refusal);
            }
        }
        self.pass(entry, report, facts, now)
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
            limit: applied.window.requests,
            window_seconds: applied.window.seconds,
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
        if entry.is_some() && self.config.audit.success == SuccessAudit::All {
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
