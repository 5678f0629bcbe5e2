//! `keygate keys usage`

use edge_protocol::UsageOutcome;
use jiff::Timestamp;
use key_policy::KeyId;
use std::str::FromStr;

use crate::cli::{
    BadArgument, NoSuchKey, offline,
    output::{answer, answer_json},
    table,
};
use crate::{
    clock::{Clock, SystemClock},
    config::Settings,
    usage::{
        period::{Interval, Period},
        report::{Counts, UsageReport},
    },
};

#[derive(clap::Args)]
pub(in crate::cli) struct Arguments {
    /// Its 16 hex digits
    key_id: KeyId,
    /// From when on, such as 2026-11-25T12:00:00Z [default: an hour of minutes, a day of hours, 30 days]
    #[arg(long, value_name = "TIME")]
    since: Option<Timestamp>,
    /// Until before when [default: now]
    #[arg(long, value_name = "TIME")]
    until: Option<Timestamp>,
    /// A line for each minute, hour or day of UTC
    #[arg(long, default_value = "hour", value_parser = Interval::from_str)]
    interval: Interval,
    /// As JSON, as the admin API answers
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(arguments: Arguments, settings: &Settings) -> anyhow::Result<()> {
    let Arguments { key_id, since, until, interval, json } = arguments;
    let period = Period::new(since, until, interval, SystemClock.now())
        .map_err(|fault| BadArgument(format!("--since {fault}")))?;
    let (_, store) = offline::open(settings).await?;
    if store.key(key_id).await?.is_none() {
        return Err(NoSuchKey(key_id.to_string()).into());
    }
    let sums = store.usage(key_id, &period).await?;
    let report = UsageReport::new(key_id, &period, &sums);
    if json { answer_json(&report) } else { Ok(answer(&text(&report))?) }
}

/// A line for each interval with requests, and their sum.
fn text(report: &UsageReport) -> String {
    let mut rows: Vec<_> = report
        .series()
        .iter()
        .map(|point| row(point.start().strftime("%Y-%m-%dT%H:%MZ").to_string(), point.counts()))
        .collect();
    rows.push(row("total".to_owned(), report.total()));
    table::render(["FROM", "REQUESTS", "ALLOWED", "RATE LIMITED", "REFUSED"], &rows)
}

fn row(name: String, counts: &Counts) -> [String; 5] {
    let allowed = counts.with(UsageOutcome::Allowed);
    let limited = counts.with(UsageOutcome::RateLimited);
    let refused = counts.requests() - allowed - limited;
    [
        name,
        counts.requests().to_string(),
        allowed.to_string(),
        limited.to_string(),
        refused.to_string(),
    ]
}
