//! Limits that a fleet of Envoys shares: what this one may let through by itself, what it was
//! granted beyond that, and asking for more.

use edge_protocol::Algorithm;
use edge_protocol::leases::{
    Ask, Grant, LeaseAnswer, LeaseCall, Presence, Slices, pool_of, share_of,
};
use filter_config::{Config, Quota};

use super::limit::Progress;
use super::{Decision, Facts, Gate, REST_MS};
use crate::cache::KeyHash;
use crate::fleet::{LeaseCallId, Share, Target, Wanted};
use crate::limits::{
    Lease, OWN_LIMIT, Outcome, SharedSlots, Spent, Subject, Verdict, seconds, seconds_after,
};
use crate::message::{Answer, Message};
use crate::request::{Now, StreamId};
use crate::tally::Counter;

/// How often a request waits for another grant when others were faster to spend the last.
const MAX_WAITS: u8 = 5;

/// A limit, and whom it counts.
#[derive(Clone, Copy)]
pub(super) struct SharedLimit {
    /// Its place in the configuration; none: the key's own.
    pub(super) rule: Option<u8>,
    pub(super) quota: Quota,
    pub(super) subject: Subject,
}

/// What one Envoy may let through of a limit.
#[derive(Clone, Copy)]
struct Part {
    /// So many by itself.
    own: u32,
    /// Whether more can be had for asking.
    asks: bool,
}

impl Part {
    fn of(quota: Quota, share: Share) -> Self {
        let own = match share {
            Share::Parts(parts) | Share::PartsAlone(parts) => share_of(quota.requests, parts),
            Share::Divided(envoys) => quota.requests / envoys.max(1),
            Share::Unknown => 0,
        };
        // Before this Envoy was first told how it stands, all that it has is what it asks for.
        Self { own, asks: matches!(share, Share::Parts(_) | Share::Unknown) }
    }
}

/// A request that waits for a grant.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    pub(super) key: Option<KeyHash>,
    pub(super) facts: Facts,
    pub(super) progress: Progress,
}

/// The name by which a limit is counted.
fn name_of(config: &Config, rule: Option<u8>) -> &str {
    rule.and_then(|rule| config.limits.get(usize::from(rule))).map_or(OWN_LIMIT, |rule| &rule.name)
}

impl Gate {
    /// Counts one request against a limit that the fleet shares. `None`: it waits.
    pub(super) fn take_shared(
        &mut self,
        limit: SharedLimit,
        waiting: Waiting,
        now: Now,
        slots: &mut impl SharedSlots,
    ) -> Option<Outcome> {
        let SharedLimit { rule, quota, subject } = limit;
        self.shares_limits = true;
        let mut part = self.part(quota, now, slots);
        let has_whom_to_ask = part.asks;
        if !part.asks {
            self.tally.count(Counter::SafeShare);
        }
        let soon = seconds(now).saturating_add(1);
        let mut ends = soon;
        if part.own > 0 {
            let rule = self.rule_hash(rule, quota.seconds);
            let own = Quota { requests: part.own, ..quota };
            let mine = self.counters.take(slots, rule, own, subject, now);
            let used = part.own - mine.remaining;
            let begins = mine.ends.saturating_sub(quota.seconds);
            part = self.part_ahead(part, quota, u64::from(begins) * 1000, now);
            let mine = Outcome { remaining: part.own.saturating_sub(used), ..mine };
            match mine.verdict {
                Verdict::Within if used > part.own => ends = mine.ends,
                Verdict::Within if part.asks && mine.remaining <= part.own / 4 => {
                    return Some(self.look_ahead(limit, mine, now, slots));
                }
                Verdict::Within => {
                    let pool = if part.asks { pool_of(quota.requests) } else { 0 };
                    let remaining = mine.remaining.saturating_add(pool);
                    return Some(Outcome { remaining, ..mine });
                }
                Verdict::Unknown => return Some(mine),
                Verdict::Over => ends = mine.ends,
            }
        }
        let (lease, target) = match self.lease(limit, true, now, slots) {
            Spent::One(lease, target) => {
                if part.asks && lease.runs_out() && lease.left > 0 && lease.empty_for().is_none() {
                    let want = lease.unspent_of_slice().saturating_add(more(&lease, target.slices));
                    self.want(limit, &lease, target, want, now);
                }
                return Some(within(&lease, target, quota));
            }
            Spent::None(lease, target) => (lease, target),
            Spent::Unknown => return Some(Outcome::unknown(soon)),
        };
        part = self.part_ahead(part, quota, target.slices.begins_ms(target.slice), now);
        if let Some(slices) = lease.empty_for() {
            if part.asks && lease.is_old(now) {
                self.want(limit, &lease, target, more(&lease, target.slices), now);
            }
            let again = seconds_after(target.slices.begins_ms(target.slice + u64::from(slices)));
            return Some(Outcome { verdict: Verdict::Over, remaining: 0, ends: again });
        }
        if !part.asks {
            let over = Outcome { verdict: Verdict::Over, remaining: 0, ends };
            return Some(if has_whom_to_ask { over } else { Outcome::unknown(ends) });
        }
        if waiting.progress.failed || now.unix_ms() < self.asks_rest_until_ms {
            return Some(Outcome::unknown(soon));
        }
        let want = more(&lease, target.slices);
        if lease.is_short(now) || waiting.progress.waits >= MAX_WAITS {
            self.want(limit, &lease, target, want, now);
            return Some(Outcome { verdict: Verdict::Over, remaining: 0, ends: soon });
        }
        let holds = self.fleet.holds(now);
        let name = name_of(&self.config, rule);
        let ask = || ask_for(name, limit, &lease, target, want, holds);
        if !self.asks.wait(target, ask, waiting) {
            return Some(Outcome::unknown(soon));
        }
        self.tally.count(Counter::LimitWait);
        None
    }

    /// What this Envoy may let through by itself, and whether more can be had.
    fn part(&mut self, quota: Quota, now: Now, slots: &mut impl SharedSlots) -> Part {
        Part::of(quota, self.fleet.share(quota, now, slots))
    }

    /// The same where a fixed window counts that begins later: it had begun before the clock was set back,
    /// and must not get more by what held in the one before.
    fn part_ahead(&self, part: Part, quota: Quota, begins_ms: u64, now: Now) -> Part {
        if begins_ms <= now.unix_ms() || quota.algorithm != Algorithm::FixedWindow {
            return part;
        }
        let there = Part::of(quota, self.fleet.share_at(quota, Now::from_unix_ms(begins_ms)));
        Part { own: part.own.min(there.own), asks: part.asks && there.asks }
    }

    /// There is little left of this Envoy's own share: sees to it that something is granted by the
    /// time it is used up.
    fn look_ahead(
        &mut self,
        limit: SharedLimit,
        mine: Outcome,
        now: Now,
        slots: &mut impl SharedSlots,
    ) -> Outcome {
        let (Spent::One(lease, target) | Spent::None(lease, target)) =
            self.lease(limit, false, now, slots)
        else {
            return mine;
        };
        // What is granted of a fixed window is there to its end; else it might be lost once more.
        let early = lease.was_early() && target.slices.lasts > 1 && mine.remaining > 0;
        if lease.unspent() == 0 && lease.left > 0 && lease.empty_for().is_none() && !early {
            let want = lease.spent_before.max(1);
            self.want(limit, &lease, target, want, now);
        }
        let beyond = lease.unspent().saturating_add(left(&lease, limit.quota));
        Outcome { remaining: mine.remaining.saturating_add(beyond), ..mine }
    }

    /// The lease of a limit, with one spent of it or not.
    fn lease(
        &mut self,
        limit: SharedLimit,
        spends: bool,
        now: Now,
        slots: &mut impl SharedSlots,
    ) -> Spent {
        let SharedLimit { rule, quota, subject } = limit;
        let place = self.counters.lease(self.rule_hash(rule, quota.seconds), subject);
        let slices = Slices::of(quota.algorithm, quota.seconds);
        let epoch = self.asks.epoch();
        self.counters.spend(slots, place, slices, epoch, spends, now)
    }

    /// Asks for more, and nobody waits for it.
    fn want(&mut self, limit: SharedLimit, lease: &Lease, target: Target, want: u32, now: Now) {
        if now.unix_ms() < self.asks_rest_until_ms {
            return;
        }
        let holds = self.fleet.holds(now);
        let name = name_of(&self.config, limit.rule);
        self.asks.want(target, || ask_for(name, limit, lease, target, want, holds));
    }

    /// The next call about shared limits, if there is something to ask.
    pub(super) fn lease_call(&mut self, presence: Option<Presence>) -> Option<Message> {
        if presence.is_none() && !self.asks.is_ready() {
            return None;
        }
        let (id, asks) = self.asks.send();
        self.tally.count(Counter::LeaseCall);
        let call = LeaseCall { envoy: self.envoy.clone(), presence, asks };
        Some(Message::leases(id, &call, self.config.control_plane.timeout_ms))
    }

    /// The control plane has answered, or has not: what comes of it for those who waited.
    pub(super) fn on_leases(
        &mut self,
        call: LeaseCallId,
        answer: &Answer<'_>,
        now: Now,
        slots: &mut impl SharedSlots,
    ) -> Vec<(StreamId, Decision)> {
        let landed = self.asks.land(call);
        let told: Option<LeaseAnswer> = answer.ok();
        if let Some(standing) = told.as_ref().and_then(|told| told.standing) {
            self.fleet.told(&standing, now, slots);
        }
        let grants = told.map(|told| told.grants).unwrap_or_default();
        if grants.len() < landed.len() {
            self.asks_rest_until_ms = now.unix_ms() + REST_MS;
        }
        let mut decisions = Vec::new();
        let mut grants = grants.into_iter();
        for Wanted { target, ask, waiters, .. } in landed {
            let grant: Option<Grant> = grants.next();
            let Ask { algorithm, requests, window_seconds: seconds, .. } = ask;
            // What was asked before this Envoy went on by itself is not for a time that others divide.
            if let Some(grant) = &grant
                && self.part(Quota { algorithm, requests, seconds }, now, slots).asks
            {
                self.counters.grant(slots, target, grant, now);
            }
            for mut waiting in waiters {
                waiting.progress.failed = grant.is_none();
                waiting.progress.waits += 1;
                waiting.progress.resumed = true;
                self.audit.concerns(Some(waiting.facts.stream));
                decisions.push((waiting.facts.stream, self.go_on(waiting, now, slots)));
            }
        }
        decisions
    }
}

/// What to ask for: with fixed windows the control plane adds its chunk to it; what is granted of
/// another and not spent soon is lost, so it is what was needed lately.
fn more(lease: &Lease, slices: Slices) -> u32 {
    if slices.in_window == 1 { 1 } else { lease.need() }
}

/// What the pool has left, as far as it is known.
fn left(lease: &Lease, quota: Quota) -> u32 {
    lease.left.min(pool_of(quota.requests))
}

fn within(lease: &Lease, target: Target, quota: Quota) -> Outcome {
    let ends = target.slices.begins_ms(target.slice.saturating_add(target.slices.in_window));
    Outcome {
        verdict: Verdict::Within,
        remaining: lease.unspent().saturating_add(left(lease, quota)),
        ends: seconds_after(ends),
    }
}

fn ask_for(
    name: &str,
    limit: SharedLimit,
    lease: &Lease,
    target: Target,
    want: u32,
    holds: u32,
) -> Ask {
    Ask {
        limit: name.to_owned(),
        subject: limit.subject.to_string(),
        algorithm: limit.quota.algorithm,
        requests: limit.quota.requests,
        window_seconds: limit.quota.seconds,
        slice: target.slice,
        epoch: lease.epoch,
        granted: lease.granted,
        used: lease.used,
        want: want.max(1),
        holds,
    }
}
