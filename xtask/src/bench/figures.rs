//! From what was measured to what is said.

use serde::Serialize;

use super::load::Protocol;
use super::rounds::{Costs, Latencies, Steady};
use super::scenario::{Gateway, Scenario, Traffic};

/// A figure of many rounds: the middle, and between what the middle half of them are.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Spread {
    pub(super) lower: f64,
    pub(super) median: f64,
    pub(super) upper: f64,
}

/// What is said of a scenario.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    pub(super) protocol: &'static str,
    pub(super) scenario: String,
    #[serde(skip)]
    pub(super) of: Scenario,
    /// Processor time of Envoy for a request, in microseconds.
    pub(super) microseconds: Spread,
    /// The same beyond what the plain gateway took in the same round.
    pub(super) added: Spread,
    /// Requests a second on one core.
    pub(super) rate: Spread,
    /// What is added, to what these add in the middle.
    pub(super) to_native: f64,
    pub(super) to_noop_wasm: f64,
    pub(super) to_ext_authz: f64,
    pub(super) latency: Option<Latency>,
}

/// Latencies at half load, in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Latency {
    pub(super) p50: f64,
    pub(super) p95: f64,
    pub(super) p99: f64,
    pub(super) p999: f64,
    /// The 99th of a hundred within each stretch between two pauses.
    pub(super) p99_of_stretch: Spread,
    /// That of the middle stretch, beyond that of the plain gateway in the same round; where both were
    /// under the same load.
    pub(super) p99_added: Option<Spread>,
}

/// Every scenario's row.
pub(super) fn rows(costs: &Costs, latencies: &Latencies) -> Vec<Row> {
    let mut rows = Vec::new();
    for protocol in Protocol::ALL {
        let of = |gateway| Scenario { gateway, traffic: Traffic::Keys };
        let added = |scenario| {
            let floor = costs.get(&(protocol, of(Gateway::Plain))).into_iter().flatten();
            let own = costs.get(&(protocol, scenario)).into_iter().flatten();
            own.zip(floor).map(|(own, floor)| own.microseconds - floor.microseconds).collect()
        };
        let base = |gateway| median(added(of(gateway)));
        for scenario in Scenario::all() {
            let Some(own) = costs.get(&(protocol, scenario)) else { continue };
            let added = Spread::of(added(scenario));
            rows.push(Row {
                protocol: protocol.name(),
                scenario: scenario.name(),
                of: scenario,
                microseconds: Spread::of(own.iter().map(|cost| cost.microseconds).collect()),
                added,
                rate: Spread::of(own.iter().map(|cost| cost.rate).collect()),
                to_native: added.median / base(Gateway::Native),
                to_noop_wasm: added.median / base(Gateway::NoopWasm),
                to_ext_authz: added.median / base(Gateway::ExtAuthzIdle),
                latency: latencies
                    .get(&(protocol, scenario))
                    .map(|own| Latency::of(own, latencies.get(&(protocol, of(Gateway::Plain))))),
            });
        }
    }
    rows
}

impl Spread {
    pub(super) fn of(mut figures: Vec<f64>) -> Self {
        figures.sort_by(f64::total_cmp);
        let last = figures.len().saturating_sub(1);
        let at = |n: usize| figures.get(n).copied().unwrap_or(f64::NAN);
        // As many below the lower as above the upper.
        let (lower, upper) = (last / 4, last - last / 4);
        let median = f64::midpoint(at(last / 2), at(last - last / 2));
        Self { lower: at(lower), median, upper: at(upper) }
    }
}

impl Latency {
    fn of(steady: &Steady, floor: Option<&Steady>) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "less than a minute")]
        let microseconds = |nanoseconds: u64| nanoseconds as f64 / 1000.0;
        let seen = &steady.requests;
        let count: u64 = seen.values().sum();
        let at = |thousandths: u64| {
            let rank = (count * thousandths).div_ceil(1000);
            let mut below = 0;
            let found = seen.iter().find(|(_, count)| {
                below += **count;
                below >= rank
            });
            found.map_or(f64::NAN, |(nanoseconds, _)| microseconds(*nanoseconds))
        };
        let all = |stretches: &[u64]| stretches.iter().copied().map(microseconds).collect();
        let floor = floor.filter(|floor| floor.rate.total_cmp(&steady.rate).is_eq());
        let p99_added = floor.map(|floor| {
            let rounds = steady.stretches.iter().zip(&floor.stretches);
            Spread::of(rounds.map(|(own, floor)| median(all(own)) - median(all(floor))).collect())
        });
        Self {
            p50: at(500),
            p95: at(950),
            p99: at(990),
            p999: at(999),
            p99_of_stretch: Spread::of(all(&steady.stretches.concat())),
            p99_added,
        }
    }
}

/// The middle one, or what is between the two that are.
pub(super) fn median(figures: Vec<f64>) -> f64 {
    Spread::of(figures).median
}

#[cfg(test)]
mod tests {
    use super::Spread;

    #[test]
    fn as_many_figures_are_below_a_spread_as_above() {
        let is = |figures: &[f64], [lower, median, upper]: [f64; 3]| {
            assert_eq!(Spread::of(figures.to_vec()), Spread { lower, median, upper });
        };
        is(&[7.0], [7.0, 7.0, 7.0]);
        is(&[4.0, 1.0, 3.0, 2.0], [1.0, 2.5, 4.0]);
        is(&[5.0, 4.0, 3.0, 2.0, 1.0], [2.0, 3.0, 4.0]);
        is(&[8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0], [2.0, 4.5, 7.0]);
        assert!(Spread::of(Vec::new()).median.is_nan());
    }
}
