//! `keygate keys check`: what the policy says of a key. No database is needed.

use std::{
    io::{IsTerminal, Read},
    path::PathBuf,
};
use zeroize::Zeroizing;

use crate::cli::{
    BadArgument,
    output::{answer, answer_json},
};
use crate::{
    config::{Config, Settings},
    keys::policy_report::{PolicyReportView, Verdict},
};

/// More than any policy lets a key be, and little enough to keep in memory.
const MOST_BYTES: u64 = 64 * 1024;

/// What a key that the policy refuses ends the command with.
#[derive(Debug, thiserror::Error)]
#[error("the policy refuses this key")]
struct Refused;

/// A secret on the command line could be read by everyone on the machine, so the key comes from a
/// file or from standard input.
#[derive(clap::Args)]
pub(in crate::cli) struct Check {
    /// File that holds the key [default: standard input]
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// As JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(check: &Check, settings: &Settings) -> anyhow::Result<()> {
    let policy = Config::new(settings)?.policy;
    let key = read(check)?;
    let report = PolicyReportView::of(&policy, first_line(&key));
    if check.json {
        answer_json(&report)?;
    } else {
        answer(&text(&report))?;
    }
    if report.verdict == Verdict::Passes { Ok(()) } else { Err(Refused.into()) }
}

fn read(check: &Check) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    // Of its full size at once: a buffer that grows leaves copies behind.
    let mut key = Zeroizing::new(Vec::with_capacity(usize::try_from(MOST_BYTES)? + 1));
    if let Some(file) = &check.file {
        let unreadable = |error| BadArgument(format!("--file {}: {error}", file.display()));
        let opened = std::fs::File::open(file).map_err(unreadable)?;
        opened.take(MOST_BYTES).read_to_end(&mut key).map_err(unreadable)?;
    } else {
        let input = std::io::stdin();
        if input.is_terminal() {
            eprintln!("The key, then Enter and Ctrl-D:");
        }
        input.lock().take(MOST_BYTES).read_to_end(&mut key)?;
    }
    Ok(key)
}

/// A file that holds one line ends with a line break, which is no part of the key.
fn first_line(bytes: &[u8]) -> &[u8] {
    let line = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    line.strip_suffix(b"\r").unwrap_or(line)
}

fn text(report: &PolicyReportView) -> String {
    let line = |title: &str, value: String| format!("{title:13} {value}\n");
    let figures = [
        line("verdict", report.verdict.as_str().to_owned()),
        line("length", report.length.to_string()),
        line("kinds", report.kinds.to_string()),
        line("entropy", format!("{:.1} bits", report.entropy_bits)),
        line("without parts", format!("{:.1} bits", report.remaining_bits)),
    ];
    let parts = report.fragments.iter().map(|part| {
        let (first, last) = (part.start + 1, part.start + part.length);
        line("weak part", format!("{} at characters {first} to {last}", part.kind))
    });
    let faults = report.faults.iter().map(|fault| {
        let can = if fault.overridable { "can be overridden" } else { "cannot be overridden" };
        line("broken rule", format!("{}: {} ({can})", fault.code, fault.message))
    });
    figures.into_iter().chain(parts).chain(faults).collect()
}
