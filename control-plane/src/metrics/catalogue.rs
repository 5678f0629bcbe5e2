//! The form of a metric's entry, and the page that is made of all of them.

use std::fmt::Write;

/// What a metric does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only rises, from zero at start.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Counts observations in buckets.
    Histogram,
}

impl Kind {
    /// As Prometheus calls it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A metric that there is.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// What it does.
    pub kind: Kind,
    /// The names of its labels. Their values are few, and none is a client's choice.
    pub labels: &'static [&'static str],
    /// What it says.
    pub meaning: &'static str,
    /// Which deployments have it; none: all.
    pub only: Option<&'static str>,
}

impl Metric {
    /// What its value is counted in, which its name ends with.
    #[must_use]
    pub fn unit(&self) -> &'static str {
        let name = self.name.strip_suffix("_total").unwrap_or(self.name);
        if name.ends_with("_timestamp_seconds") {
            "Unix time in seconds"
        } else if name.ends_with("_seconds") {
            "seconds"
        } else if name.ends_with("_bytes") {
            "bytes"
        } else {
            ""
        }
    }
}

/// Makes a constant of each metric's name, and `ALL` of all entries.
macro_rules! catalogue {
    ($($(#[doc = $meaning:literal])+
       $constant:ident = $kind:ident $name:literal [$($label:literal),*] $(only $only:literal)?;)+) => {
        $($(#[doc = $meaning])+ pub const $constant: &str = $name;)+

        /// Every metric.
        pub const ALL: &[Metric] = &[$(Metric {
            name: $name,
            kind: Kind::$kind,
            labels: &[$($label),*],
            meaning: concat!($($meaning),+),
            only: catalogue!(@only $($only)?),
        }),+];
    };
    (@only) => { None };
    (@only $only:literal) => { Some($only) };
}

pub(super) use catalogue;

/// A Markdown table of them.
#[must_use]
pub fn table(metrics: &[Metric]) -> String {
    let mut table =
        "| metric | type | unit | labels | what it says |\n|---|---|---|---|---|\n".to_owned();
    for metric in metrics {
        let labels: Vec<_> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let only = metric.only.map(|only| format!(" Only {only}.")).unwrap_or_default();
        // Writing to a string cannot fail.
        let _ = writeln!(
            table,
            "| `{}` | {} | {} | {} | {}{only} |",
            metric.name,
            metric.kind.as_str(),
            metric.unit(),
            labels.join(", "),
            metric.meaning.trim(),
        );
    }
    table
}
