//! Rounds: each sends every kind of traffic for a moment, so that a slow moment of the machine hits
//! all alike, and what is compared are the figures of one round.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::Serialize;

use super::ground::Ground;
use super::load::{Load, Protocol, Sent};
use super::processor::Turn;
use super::scenario::{Gateway, Scenario, Traffic};
use crate::progress;

/// How long to measure.
#[derive(Clone, Copy, Debug)]
pub(super) struct Effort {
    /// Rounds as fast as answers come, and at a steady rate.
    pub(super) rounds: usize,
    pub(super) steady_rounds: usize,
    /// How long each scenario is under load in each.
    pub(super) seconds: f64,
    pub(super) steady_seconds: f64,
}

/// What a scenario has cost in a round.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Cost {
    /// Processor time of Envoy for each request, in microseconds.
    pub(super) microseconds: f64,
    /// Requests a second.
    pub(super) rate: f64,
}

/// By protocol and scenario, one of each round.
pub(super) type Costs = BTreeMap<(Protocol, Scenario), Vec<Cost>>;
/// By protocol and scenario, of all rounds together.
pub(super) type Latencies = BTreeMap<(Protocol, Scenario), Steady>;

/// Latencies at a steady rate, in nanoseconds.
#[derive(Clone, Debug, Default)]
pub(super) struct Steady {
    /// Of how many requests each was.
    pub(super) requests: BTreeMap<u64, u64>,
    /// The 99th of a hundred, of each stretch between two pauses, by round.
    pub(super) stretches: Vec<Vec<u64>>,
    /// Requests a second, the last time.
    pub(super) rate: f64,
}

/// As fast as answers come.
pub(super) fn costs(ground: &Ground, effort: Effort) -> Result<Costs> {
    let mut costs = Costs::new();
    for round in 1..=effort.rounds {
        progress::step(&format!("round {round} of {}", effort.rounds));
        for protocol in Protocol::ALL {
            for scenario in in_turn(ground, round) {
                let cost = cost(ground, scenario, protocol, effort.seconds)?;
                costs.entry((protocol, scenario)).or_default().push(cost);
            }
        }
    }
    Ok(costs)
}

fn cost(ground: &Ground, scenario: Scenario, protocol: Protocol, seconds: f64) -> Result<Cost> {
    let gateway = ground.gateway(scenario.gateway)?;
    let (sent, took) = measured(ground, scenario, || {
        let before = gateway.time()?;
        let sent = ground.send(scenario, Load::full(protocol, seconds))?;
        Ok((sent, gateway.time()?.saturating_sub(before)))
    })?;
    #[expect(clippy::cast_precision_loss, reason = "far fewer than 2^52")]
    let answers = sent.answers as f64;
    Ok(Cost { microseconds: took.as_secs_f64() * 1e6 / answers, rate: answers / sent.seconds })
}

/// At half of what Keygate can do, and all at the same rate; what can do less than that, at half of
/// what it can.
pub(super) fn latencies(ground: &Ground, costs: &Costs, effort: Effort) -> Result<Latencies> {
    let mut latencies = Latencies::new();
    for round in 1..=effort.steady_rounds {
        progress::step(&format!("steady round {round} of {}", effort.steady_rounds));
        for protocol in Protocol::ALL {
            let with_keys = in_turn(ground, round).into_iter();
            let with_keys: Vec<_> = with_keys.filter(|it| it.traffic == Traffic::Keys).collect();
            let common = common_rate(costs, protocol, &with_keys);
            for scenario in with_keys {
                let rate = half_of(costs, protocol, scenario).min(common);
                let load = Load::steady(protocol, effort.steady_seconds, rate);
                // It would be on another machine, and not take the load's core; where each request is
                // asked about it has to.
                let asked = scenario.gateway == Gateway::ExtAuthzKeygate;
                ground.give_control_plane_turn(if asked { Turn::Fair } else { Turn::Last })?;
                ground.give_turn_to(Some(scenario.gateway))?;
                let (sent, ()) =
                    measured(ground, scenario, || Ok((ground.send(scenario, load)?, ())))?;
                let seen = latencies.entry((protocol, scenario)).or_default();
                for (nanoseconds, count) in sent.latencies {
                    *seen.requests.entry(nanoseconds).or_default() += count;
                }
                seen.stretches.push(sent.stretches);
                seen.rate = rate;
            }
        }
    }
    Ok(latencies)
}

/// Measures. When each request is asked about and not all answers were as they should be, once more and
/// warm again: what the control plane remembers of a key lasts some minutes, and then all keys are to be
/// hashed at the same time.
fn measured<T>(
    ground: &Ground,
    scenario: Scenario,
    measure: impl Fn() -> Result<(Sent, T)>,
) -> Result<(Sent, T)> {
    let first = measure()?;
    match first.0.check(scenario) {
        Ok(()) => return Ok(first),
        Err(_) if scenario.gateway == Gateway::ExtAuthzKeygate => {}
        Err(fault) => return Err(fault),
    }
    ground.warm(scenario)?;
    let (sent, figure) = measure()?;
    sent.check(scenario)?;
    Ok((sent, figure))
}

/// Half of what Keygate can do; where it is not measured, of what the slowest can.
fn common_rate(costs: &Costs, protocol: Protocol, scenarios: &[Scenario]) -> f64 {
    let keygate = scenarios.iter().find(|it| it.gateway == Gateway::Keygate);
    let rates = keygate.map_or(scenarios, std::slice::from_ref).iter();
    rates.map(|it| half_of(costs, protocol, *it)).fold(f64::INFINITY, f64::min)
}

fn half_of(costs: &Costs, protocol: Protocol, scenario: Scenario) -> f64 {
    let rates = costs.get(&(protocol, scenario)).into_iter().flatten().map(|cost| cost.rate);
    super::figures::median(rates.collect()) / 2.0
}

/// All scenarios, each round beginning with another, so that none is always the first.
fn in_turn(ground: &Ground, round: usize) -> Vec<Scenario> {
    let mut all = ground.scenarios.clone();
    let first = round % all.len();
    all.rotate_left(first);
    all
}
