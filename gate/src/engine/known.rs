//! Layers 6 to 8: what is decided on a known key's record.

use edge_protocol::{EventKind, KeyEnvironment, UsageOutcome};
use filter_config::Layer;

use super::limit::Progress;
use super::{Decision, Facts, Gate};
use crate::audit::About;
use crate::cache::{EntryIndex, KeyHash};
use crate::limits::SharedSlots;
use crate::problem::{Problem, Refusal};
use crate::request::Now;
use crate::tally::Counter;

impl Gate {
    /// A key that this worker has an answer about, fresh or not.
    pub(super) fn with_known_key(
        &mut self,
        entry: EntryIndex,
        hash: KeyHash,
        key: &[u8],
        facts: Facts,
        now: Now,
        slots: &mut impl SharedSlots,
    ) -> Decision {
        let fresh_ms = self.config.cache.fresh_ms;
        let age = self.age(entry, now);
        if age < fresh_ms && !self.feed.is_silent(now) {
            self.tally.count(Counter::CacheHit);
            if age >= due_ms(hash, fresh_ms) {
                self.refresh(entry, hash, key, now);
            }
            return self.decide(entry, facts, now, slots);
        }
        if !self.may_serve(entry, now) {
            self.known.remove(hash);
            return self.with_unknown_key(hash, key, facts, now, slots);
        }
        if !self.reachable || self.is_resting(now) {
            self.refresh(entry, hash, key, now);
            return self.decide_stale(entry, facts, now, slots);
        }
        let fingerprint = self.known.get(entry).map_or([b'0'; 16], |e| e.fingerprint);
        self.ask(hash, fingerprint, key, facts, now, slots)
    }

    /// Whether an answer that is no longer fresh may serve when no other can be had.
    pub(super) fn may_serve(&self, entry: EntryIndex, now: Now) -> bool {
        let cache = self.config.cache;
        self.age(entry, now) < cache.fresh_ms + cache.stale_if_error_ms
    }

    fn age(&self, entry: EntryIndex, now: Now) -> u64 {
        self.known
            .get(entry)
            .map_or(u64::MAX, |entry| now.unix_ms().saturating_sub(entry.learned_at_ms))
    }

    /// Layers 6 to 8, then the limits. Whatever comes of it is a use of the key.
    pub(super) fn decide(
        &mut self,
        entry: EntryIndex,
        facts: Facts,
        now: Now,
        slots: &mut impl SharedSlots,
    ) -> Decision {
        self.decide_from(entry, facts, Progress::start(facts), now, slots)
    }

    /// As [`Gate::decide`], with some of the limits counted already.
    pub(super) fn decide_from(
        &mut self,
        entry: EntryIndex,
        facts: Facts,
        progress: Progress,
        now: Now,
        slots: &mut impl SharedSlots,
    ) -> Decision {
        let (decision, outcome) = if let Some((refusal, outcome)) =
            self.refuse_known(entry, facts, progress.resumed, now, slots)
        {
            (Decision::Refuse(refusal), outcome)
        } else {
            match self.limit_from(Some(entry), facts, progress, now, slots) {
                // It is not decided yet.
                Decision::Wait => return Decision::Wait,
                refused @ Decision::Refuse(_) => (refused, UsageOutcome::RateLimited),
                passed @ Decision::Pass(_) => (passed, UsageOutcome::Allowed),
            }
        };
        if let Some(key_id) = self.known.get(entry).map(|entry| entry.record.key_id)
            && !self.usage.count(key_id, facts.plan.method, outcome, now)
        {
            self.tally.count(Counter::UsageDropped);
        }
        decision
    }

    /// Refuses what the layers find against. In shadow mode they only write it down, and not
    /// `again`.
    fn refuse_known(
        &mut self,
        entry: EntryIndex,
        facts: Facts,
        again: bool,
        now: Now,
        slots: &mut impl SharedSlots,
    ) -> Option<(Refusal, UsageOutcome)> {
        let found = self.find_fault(entry, facts, now)?;
        let record = self.known.get(entry)?;
        let key_id = record.record.key_id_text.clone();
        let about = About {
            fingerprint: Some(record.fingerprint),
            key_id: Some(&key_id),
            client: facts.client,
        };
        for Finding { layer, kind, problem, details, outcome } in found {
            if again && self.config.shadow.contains(layer) {
                continue;
            }
            if self.finds_against(layer, kind, about, details, now) {
                let refusal = match problem {
                    Problem::Invalid => self.failed_credential(about, facts, now, slots),
                    other => self.refusal(other),
                };
                return Some((refusal, outcome));
            }
        }
        None
    }

    /// What the layers find against the request; `None`, without allocating, when it is nothing.
    fn find_fault(&self, entry: EntryIndex, facts: Facts, now: Now) -> Option<Vec<Finding>> {
        let record = &self.known.get(entry)?.record;
        let is_test = record.environment == KeyEnvironment::Test;
        let test_refused = is_test && !self.config.deployment.allows_test_keys();
        let expired = record.expires_at_ms.is_some_and(|at| at <= now.unix_ms());
        let foreign = !record.allowed.is_empty()
            && !facts
                .client
                .is_some_and(|c| record.allowed.iter().any(|net| net.contains(&c.ip())));
        let beyond = !record.scope.includes(facts.plan.needed);
        if record.is_active && !(test_refused || expired || foreign || beyond) {
            return None;
        }
        let candidates = [
            (test_refused, Finding::TEST),
            (!record.is_active, Finding::REVOKED),
            (expired, Finding::EXPIRED),
            (foreign, Finding::FOREIGN),
            (beyond, Finding::BEYOND),
        ];
        Some(candidates.into_iter().filter_map(|(is, finding)| is.then_some(finding)).collect())
    }
}

/// After how long a key in use is asked about again: three quarters of its freshness, an eighth of it more
/// or less by the key, so that keys that were learnt together are not asked about together for ever.
fn due_ms(KeyHash(hash): KeyHash, fresh_ms: u64) -> u64 {
    let [some, ..] = hash.to_le_bytes();
    fresh_ms / 8 * 5 + fresh_ms / 4 * u64::from(some) / 256
}

/// What a layer finds against a request.
struct Finding {
    layer: Layer,
    kind: EventKind,
    problem: Problem,
    details: &'static str,
    outcome: UsageOutcome,
}

impl Finding {
    const TEST: Self = Self {
        layer: Layer::Environment,
        kind: EventKind::SecurityViolation,
        problem: Problem::TestKey,
        details: "reason=test_key_in_production",
        outcome: UsageOutcome::TestKey,
    };
    const REVOKED: Self = Self {
        layer: Layer::Expiry,
        kind: EventKind::RevokedKey,
        problem: Problem::Invalid,
        details: "reason=revoked",
        outcome: UsageOutcome::Revoked,
    };
    const EXPIRED: Self = Self {
        layer: Layer::Expiry,
        kind: EventKind::ExpiredKey,
        problem: Problem::Invalid,
        details: "reason=expired",
        outcome: UsageOutcome::Expired,
    };
    const FOREIGN: Self = Self {
        layer: Layer::Address,
        kind: EventKind::IpDenied,
        problem: Problem::Address,
        details: "reason=address_not_in_allowed_ips",
        outcome: UsageOutcome::IpDenied,
    };
    const BEYOND: Self = Self {
        layer: Layer::Scope,
        kind: EventKind::ScopeDenied,
        problem: Problem::Scope,
        details: "reason=scope_not_sufficient",
        outcome: UsageOutcome::ScopeDenied,
    };
}
