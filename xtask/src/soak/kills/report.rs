//! What was done and what was found.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::KillPlan;
use crate::wait::Stopwatch;

/// What ends, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Victim {
    /// The control plane, by SIGKILL.
    ControlPlane,
    /// Envoy, by SIGKILL.
    Envoy,
    /// Both.
    Both,
    /// The control plane, by SIGTERM.
    ControlPlaneInOrder,
    /// Envoy, drained and then by SIGTERM.
    EnvoyInOrder,
}

impl Victim {
    pub(super) const ALL: [Self; 5] = [
        Self::ControlPlane,
        Self::Envoy,
        Self::ControlPlaneInOrder,
        Self::Both,
        Self::EnvoyInOrder,
    ];
}

impl fmt::Display for Victim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::ControlPlane => "control plane, SIGKILL",
            Self::Envoy => "Envoy, SIGKILL",
            Self::Both => "both, SIGKILL",
            Self::ControlPlaneInOrder => "control plane, SIGTERM",
            Self::EnvoyInOrder => "Envoy, SIGTERM",
        })
    }
}

/// What a run of kills has come to. All of it held, or there is no report.
#[derive(Clone, Debug, Serialize)]
pub struct KillReport {
    /// The store.
    pub store: String,
    /// What everything was drawn from.
    pub seed: u64,
    /// Rounds, by what ended in them.
    pub rounds: BTreeMap<Victim, u32>,
    /// Requests that the gate answered.
    pub requests: u64,
    /// Changes that the admin API acknowledged; each is there, once, with its audit row.
    pub acknowledged_changes: u64,
    /// Changes without an answer that turned out to be made, each with its audit row.
    pub unheard_changes_made: u64,
    /// Changes without an answer that turned out not to be made, without an audit row.
    pub unheard_changes_not_made: u64,
    /// Refusals that clients have seen, each an event.
    pub events: u64,
    /// Of these, those that an Envoy took with it that was killed.
    pub events_lost: u64,
    /// The most that one of them took with it.
    pub events_lost_most: u64,
    /// How long before the kill the oldest of these was decided, in milliseconds.
    pub events_lost_oldest_ms: u64,
    /// Times that a key whose end was acknowledged was tried again after a round.
    pub ended_keys_tried: u64,
    /// Rows of the audit log at the end.
    pub audit_rows: u64,
    /// Times that the whole chain was verified.
    pub chain_verified: u32,
    /// How long it took, in seconds.
    pub seconds: u64,
    #[serde(skip)]
    clock: Stopwatch,
}

impl KillReport {
    pub(super) fn new(plan: &KillPlan) -> Self {
        Self {
            store: plan.store.to_string(),
            seed: plan.seed,
            rounds: BTreeMap::new(),
            requests: 0,
            acknowledged_changes: 0,
            unheard_changes_made: 0,
            unheard_changes_not_made: 0,
            events: 0,
            events_lost: 0,
            events_lost_most: 0,
            events_lost_oldest_ms: 0,
            ended_keys_tried: 0,
            audit_rows: 0,
            chain_verified: 0,
            seconds: 0,
            clock: Stopwatch::start(),
        }
    }

    /// Counts a round.
    pub(super) fn count(&mut self, victim: Victim, requests: u64) {
        *self.rounds.entry(victim).or_default() += 1;
        self.requests = requests;
        self.seconds = self.clock.elapsed().as_secs();
    }

    /// An Envoy has taken events with it, decided so long before its end.
    pub(super) fn lost(&mut self, ages: &[Duration]) {
        let count = u64::try_from(ages.len()).unwrap_or(u64::MAX);
        self.events_lost += count;
        self.events_lost_most = self.events_lost_most.max(count);
        let oldest = ages.iter().max().copied().unwrap_or_default();
        let oldest = u64::try_from(oldest.as_millis()).unwrap_or(u64::MAX);
        self.events_lost_oldest_ms = self.events_lost_oldest_ms.max(oldest);
    }

    /// How it stands after a round.
    pub(super) fn line(&self, victim: Victim, deep: bool) -> String {
        let verified = if deep { "; chain verified" } else { "" };
        format!(
            "{victim:23} {} s, {} requests, {} changes ({} unheard), {} events ({} lost){verified}",
            self.seconds,
            self.requests,
            self.acknowledged_changes,
            self.unheard_changes_made + self.unheard_changes_not_made,
            self.events,
            self.events_lost,
        )
    }
}

impl fmt::Display for KillReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}, seed {}, {} s", self.store, self.seed, self.seconds)?;
        for (victim, count) in &self.rounds {
            writeln!(f, "  {victim:46} {count:9}")?;
        }
        let lines = [
            ("requests answered by the gate", self.requests),
            ("admin changes acknowledged, all there, once", self.acknowledged_changes),
            ("changes without an answer: made", self.unheard_changes_made),
            ("changes without an answer: not made", self.unheard_changes_not_made),
            ("events seen by clients", self.events),
            ("events lost with a killed Envoy", self.events_lost),
            ("  at most by one kill", self.events_lost_most),
            ("  the oldest, milliseconds before the kill", self.events_lost_oldest_ms),
            ("ended keys tried, all refused", self.ended_keys_tried),
            ("audit rows", self.audit_rows),
            ("times the whole chain was verified", u64::from(self.chain_verified)),
        ];
        lines.iter().try_for_each(|(name, value)| writeln!(f, "  {name:46} {value:9}"))
    }
}
