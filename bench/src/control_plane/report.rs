//! Figures, what they are to be, and how they are shown.

use std::fmt;

use serde::Serialize;

use super::machine::{self, Machine};

/// What a figure is to be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(tag = "is", content = "value", rename_all = "snake_case")]
pub enum Target {
    /// No more than this.
    AtMost(f64),
    /// No less than this.
    AtLeast(f64),
}

impl Target {
    /// By what factor a value misses it; none: it does not.
    #[must_use]
    pub fn missed_by(self, value: f64) -> Option<f64> {
        let factor = match self {
            Self::AtMost(most) if value <= most => return None,
            Self::AtMost(most) => value / most,
            Self::AtLeast(least) => least / value,
        };
        (factor > 1.0).then_some(factor)
    }
}

/// What the same machine does by plain means.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Baseline {
    /// By which.
    pub name: &'static str,
    /// In the figure's own unit.
    pub value: f64,
}

/// One thing that was measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// What.
    pub name: String,
    /// On which store, if it is on one.
    pub store: Option<String>,
    /// How much.
    pub value: f64,
    /// Of what.
    pub unit: &'static str,
    /// What it is to be.
    pub target: Option<Target>,
    /// What an earlier prototype said of its own.
    pub claim: Option<Target>,
    /// What it stands beside.
    pub baseline: Option<Baseline>,
    /// How many processes wanted a CPU in the minute before, on average.
    pub load: f64,
}

impl Figure {
    /// A figure that stands alone.
    #[must_use]
    pub fn new(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self {
            name: name.into(),
            store: None,
            value,
            unit,
            target: None,
            claim: None,
            baseline: None,
            load: machine::load(),
        }
    }

    /// On this store.
    #[must_use]
    pub fn on(mut self, store: impl fmt::Display) -> Self {
        self.store = Some(store.to_string());
        self
    }

    /// With this target.
    #[must_use]
    pub fn to_be(mut self, target: Target) -> Self {
        self.target = Some(target);
        self
    }

    /// With this claim.
    #[must_use]
    pub fn claimed(mut self, claim: Target) -> Self {
        self.claim = Some(claim);
        self
    }

    /// Beside this.
    #[must_use]
    pub fn beside(mut self, name: &'static str, value: f64) -> Self {
        self.baseline = Some(Baseline { name, value });
        self
    }

    /// How many times the baseline it is.
    #[must_use]
    pub fn ratio(&self) -> Option<f64> {
        self.baseline.as_ref().map(|baseline| self.value / baseline.value)
    }
}

/// All that was measured, and where.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Where.
    pub machine: Machine,
    /// What.
    pub figures: Vec<Figure>,
}

impl Report {
    pub(super) fn new(machine: Machine) -> Self {
        Self { machine, figures: Vec::new() }
    }

    pub(super) fn take(&mut self, figures: Vec<Figure>) {
        self.figures.extend(figures);
    }
}

const HEADINGS: [&str; 7] =
    ["figure", "store", "measured", "target", "claim of a prototype", "baseline", "ratio"];

fn row(figure: &Figure) -> [String; 7] {
    let amount = |value: f64| format!("{} {}", short(value), figure.unit);
    let beside = |target: Option<Target>| {
        let Some(target) = target else { return String::new() };
        let (word, value) = match target {
            Target::AtMost(most) => ("≤", most),
            Target::AtLeast(least) => ("≥", least),
        };
        let met = match target.missed_by(figure.value) {
            None => "met".to_owned(),
            Some(factor) => format!("missed by {}×", short(factor)),
        };
        format!("{word} {}: {met}", amount(value))
    };
    let baseline = figure.baseline.as_ref();
    let baseline = baseline.map(|it| format!("{}: {}", it.name, amount(it.value)));
    [
        figure.name.clone(),
        figure.store.clone().unwrap_or_default(),
        amount(figure.value),
        beside(figure.target),
        beside(figure.claim),
        baseline.unwrap_or_default(),
        figure.ratio().map(short).unwrap_or_default(),
    ]
}

/// A number in as many digits as it is worth.
fn short(value: f64) -> String {
    match value.abs() {
        1000.0.. => {
            let digits = format!("{value:.0}");
            let mut grouped = String::new();
            for (place, digit) in digits.chars().enumerate() {
                if place > 0 && (digits.len() - place).is_multiple_of(3) {
                    grouped.push(' ');
                }
                grouped.push(digit);
            }
            grouped
        }
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        1.0.. => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

impl fmt::Display for Report {
    /// As a table in Markdown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n", self.machine)?;
        let mut rows = vec![HEADINGS.map(str::to_owned)];
        rows.extend(self.figures.iter().map(row));
        let width = |column: usize| {
            let cells = rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or_default()
        };
        let widths: Vec<_> = (0..HEADINGS.len()).map(width).collect();
        for (number, row) in rows.iter().enumerate() {
            for (cell, width) in row.iter().zip(&widths) {
                write!(f, "| {cell:width$} ")?;
            }
            writeln!(f, "|")?;
            if number == 0 {
                for width in &widths {
                    write!(f, "|{}", "-".repeat(width + 2))?;
                }
                writeln!(f, "|")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_missed_by_a_factor_in_either_direction() {
        assert_eq!(Target::AtMost(25.0).missed_by(25.0), None);
        assert_eq!(Target::AtMost(25.0).missed_by(50.0), Some(2.0));
        assert_eq!(Target::AtLeast(50_000.0).missed_by(60_000.0), None);
        assert_eq!(Target::AtLeast(50_000.0).missed_by(10_000.0), Some(5.0));
    }

    #[test]
    fn numbers_are_as_long_as_they_are_worth() {
        let shown = [1_234_567.8, 1000.0, 999.6, 12.34, 1.234, 0.1234].map(short);
        assert_eq!(shown, ["1 234 568", "1 000", "1000", "12.3", "1.23", "0.123"]);
    }
}
