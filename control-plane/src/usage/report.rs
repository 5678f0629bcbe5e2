//! What administrators are told about a key's usage.

use edge_protocol::{UsageMethod, UsageOutcome};
use jiff::Timestamp;
use key_policy::KeyId;
use std::collections::BTreeMap;

use super::{
    UsageSum,
    period::{Interval, Period, time},
};
use crate::openapi::text::KeyIdText;

/// How often, and how these divide.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[schema(as = UsageCounts)]
pub struct Counts {
    /// All requests.
    #[schema(minimum = 0)]
    requests: u64,
    /// By method; those without requests are left out.
    by_method: BTreeMap<UsageMethod, u64>,
    /// By what became of them; those without requests are left out.
    by_outcome: BTreeMap<UsageOutcome, u64>,
}

/// A part of the period.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[schema(as = UsagePoint)]
pub struct Point {
    /// When it began.
    #[schema(value_type = String, format = DateTime)]
    start: Timestamp,
    #[serde(flatten)]
    counts: Counts,
}

/// A key's usage in a period, as the filters have reported it so far.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[schema(as = Usage)]
pub struct UsageReport {
    /// The key.
    #[schema(value_type = KeyIdText)]
    key_id: String,
    /// When the period begins: what was asked for, or the beginning of the interval that it is in.
    #[schema(value_type = String, format = DateTime)]
    since: Timestamp,
    /// When it is over: what was asked for, or the end of the interval that it is in.
    #[schema(value_type = String, format = DateTime)]
    until: Timestamp,
    interval: Interval,
    /// Of the whole period.
    total: Counts,
    /// Of each of its intervals, oldest first; those without requests are left out.
    #[schema(max_items = 1500)]
    series: Vec<Point>,
}

impl Counts {
    fn add(&mut self, sum: &UsageSum) {
        self.requests += sum.count;
        *self.by_method.entry(sum.method).or_default() += sum.count;
        *self.by_outcome.entry(sum.outcome).or_default() += sum.count;
    }

    /// All requests.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.requests
    }

    /// Requests of that outcome.
    #[must_use]
    pub fn with(&self, outcome: UsageOutcome) -> u64 {
        self.by_outcome.get(&outcome).copied().unwrap_or(0)
    }
}

impl Point {
    /// When it began.
    #[must_use]
    pub fn start(&self) -> Timestamp {
        self.start
    }

    /// What was counted.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }
}

impl UsageReport {
    /// Puts the answer together from the sums, which come oldest first.
    #[must_use]
    pub fn new(key_id: KeyId, period: &Period, sums: &[UsageSum]) -> Self {
        let mut total = Counts::default();
        let mut series: Vec<Point> = Vec::new();
        for sum in sums {
            total.add(sum);
            if let Some(last) = series.last_mut().filter(|last| last.start == sum.start) {
                last.counts.add(sum);
            } else {
                let mut counts = Counts::default();
                counts.add(sum);
                series.push(Point { start: sum.start, counts });
            }
        }
        Self {
            key_id: key_id.to_string(),
            since: time(period.since_ms()),
            until: time(period.until_ms()),
            interval: period.interval(),
            total,
            series,
        }
    }

    /// Of the whole period.
    #[must_use]
    pub fn total(&self) -> &Counts {
        &self.total
    }

    /// Of its intervals.
    #[must_use]
    pub fn series(&self) -> &[Point] {
        &self.series
    }
}
