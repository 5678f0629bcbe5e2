//! The figures as people read them: tables and charts under `docs/`.

use std::fmt::Write;
use std::fs;

use anyhow::{Context, Result};

use super::figures::Row;
use super::growth::{Axis, Point};
use super::load::Protocol;
use super::machine::Machine;
use super::parts::Step;
use super::scenario::{Gateway, Traffic};
use crate::workspace;

/// A part of a page, between two marks.
#[derive(Clone, Copy, Debug)]
pub(super) enum Part {
    Filters,
    Growth,
    Parts,
    ControlPlane,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::Filters => "filters",
            Self::Growth => "growth",
            Self::Parts => "parts",
            Self::ControlPlane => "control-plane",
        }
    }

    fn page(self) -> &'static str {
        match self {
            Self::Filters | Self::Growth | Self::Parts => "docs/benchmarks.md",
            Self::ControlPlane => "docs/benchmarks/control-plane.md",
        }
    }
}

/// Puts text into its page.
pub(super) fn write(part: Part, text: &str) -> Result<()> {
    let name = part.page();
    let file = workspace::root().join(name);
    let page = fs::read_to_string(&file).with_context(|| format!("cannot read {name}"))?;
    let (begin, end) = marks(part);
    let (before, rest) = page.split_once(&begin).with_context(|| format!("no {begin}"))?;
    let (_, after) = rest.split_once(&end).with_context(|| format!("no {end}"))?;
    fs::write(&file, format!("{before}{begin}\n{text}{end}{after}"))
        .with_context(|| format!("cannot write {name}"))
}

fn marks(part: Part) -> (String, String) {
    let name = part.name();
    let command = format!("Made by `cargo xtask bench {name} --page`.");
    (format!("<!-- {name}: {command} -->\n"), format!("<!-- /{name} -->"))
}

/// The comparison.
pub(super) fn filters(rows: &[Row], machine: &Machine, rounds: u16) -> Result<String> {
    let mut text = String::new();
    writeln!(text, "{}\n", on(machine, rounds))?;
    for protocol in Protocol::ALL.map(Protocol::name) {
        let rows: Vec<_> = rows.iter().filter(|row| row.protocol == protocol).collect();
        writeln!(text, "### {protocol}\n")?;
        writeln!(
            text,
            "| what | µs of processor a request | added, µs (middle half of the rounds) | to `native` | to `noop-wasm` | to `ext-authz-idle` | requests/s |"
        )?;
        writeln!(text, "|---|--:|--:|--:|--:|--:|--:|")?;
        for row in &rows {
            let ratio =
                |ratio: f64| if is_floor(row) { "–".to_owned() } else { format!("{ratio:.2}") };
            let added = if is_floor(row) {
                "–".to_owned()
            } else {
                let it = row.added;
                format!("{:.1} ({:.1} to {:.1})", it.median, it.lower, it.upper)
            };
            writeln!(
                text,
                "| `{}` | {:.1} | {added} | {} | {} | {} | {:.0} |",
                row.scenario,
                row.microseconds.median,
                ratio(row.to_native),
                ratio(row.to_noop_wasm),
                ratio(row.to_ext_authz),
                row.rate.median,
            )?;
        }
        let passed: Vec<_> =
            rows.iter().filter(|row| !is_floor(row) && row.of.traffic == Traffic::Keys).collect();
        let names: Vec<_> = passed.iter().map(|row| row.scenario.as_str()).collect();
        let added: Vec<_> = passed.iter().map(|row| row.added.median).collect();
        writeln!(text)?;
        let title = format!("Processor time added to a request, {protocol}");
        chart(&mut text, &title, &names, "µs", &added)?;
        latencies(&mut text, &rows)?;
    }
    Ok(text)
}

/// Latencies at half load.
fn latencies(text: &mut String, rows: &[&Row]) -> Result<()> {
    writeln!(
        text,
        "| at half load | p50 / p95 / p99 / p99.9, µs | p99 of a stretch, µs (middle half of the stretches) | added to it, µs (middle half of the rounds) |"
    )?;
    writeln!(text, "|---|--:|--:|--:|")?;
    for row in rows {
        let Some(it) = row.latency else { continue };
        let stretch = it.p99_of_stretch;
        // Without the sign of what is nearly nothing.
        let whole = |microseconds: f64| microseconds.round() + 0.0;
        let added = it.p99_added.filter(|_| !is_floor(row)).map_or_else(
            || "–".to_owned(),
            |it| format!("{} ({} to {})", whole(it.median), whole(it.lower), whole(it.upper)),
        );
        writeln!(
            text,
            "| `{}` | {:.0} / {:.0} / {:.0} / {:.0} | {:.0} ({:.0} to {:.0}) | {added} |",
            row.scenario,
            it.p50,
            it.p95,
            it.p99,
            it.p999,
            stretch.median,
            stretch.lower,
            stretch.upper,
        )?;
    }
    writeln!(text)?;
    Ok(())
}

fn is_floor(row: &Row) -> bool {
    row.of.gateway == Gateway::Plain
}

/// How the cost grows.
pub(super) fn growth(points: &[Point], machine: &Machine, rounds: u16) -> Result<String> {
    let mut text = String::new();
    writeln!(text, "{}\n", on(machine, rounds))?;
    for axis in Axis::ALL {
        let points: Vec<_> = points.iter().filter(|point| point.axis == axis).collect();
        writeln!(
            text,
            "| {} | added, µs (middle half of the rounds) | to the first | Envoy's memory, MB | of it a worker's VM |",
            axis.title()
        )?;
        writeln!(text, "|--:|--:|--:|--:|--:|")?;
        for point in &points {
            let it = point.added;
            #[expect(clippy::cast_precision_loss, reason = "far less than 2^52 bytes")]
            let megabytes = |bytes: u64| bytes as f64 / 1e6;
            let (all, vm) = (megabytes(point.memory), megabytes(point.vm_memory));
            writeln!(
                text,
                "| {} | {:.1} ({:.1} to {:.1}) | {:.2} | {all:.0} | {vm:.1} |",
                point.at, it.median, it.lower, it.upper, point.to_first
            )?;
        }
        writeln!(text)?;
        let names: Vec<_> = points.iter().map(|point| point.at.to_string()).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let added: Vec<_> = points.iter().map(|point| point.added.median).collect();
        let title = format!("Processor time added to a request, by {}", axis.title());
        chart(&mut text, &title, &names, "µs", &added)?;
    }
    Ok(text)
}

/// What each part costs.
pub(super) fn parts(steps: &[Step], machine: &Machine, rounds: u16) -> Result<String> {
    let mut text = String::new();
    writeln!(text, "{}\n", on(machine, rounds))?;
    for protocol in Protocol::ALL.map(Protocol::name) {
        writeln!(
            text,
            "| {protocol}, without, on top of what is above | added, µs (middle half of the rounds) | less by, µs |"
        )?;
        writeln!(text, "|---|--:|--:|")?;
        for step in steps.iter().filter(|step| step.protocol == protocol) {
            let Step { without, added: it, less, .. } = step;
            let spread = format!("{:.1} ({:.1} to {:.1})", it.median, it.lower, it.upper);
            writeln!(text, "| {without} | {spread} | {less:.1} |")?;
        }
        writeln!(text)?;
    }
    Ok(text)
}

fn on(machine: &Machine, rounds: u16) -> String {
    format!(
        "{} with {} cores, Linux {}, Envoy {}, commit {}, {rounds} rounds, load average before {}. Before it began, \
         a program that only watched the clock was stopped for more than 0.3 ms at a time during {:.1} % of the time \
         on the core that is measured, and {:.1} % on the other.",
        machine.processor,
        machine.cores,
        machine.kernel,
        machine.envoy,
        machine.commit,
        machine.load_before,
        machine.stopped.measured,
        machine.stopped.rest,
    )
}

fn chart(text: &mut String, title: &str, names: &[&str], unit: &str, bars: &[f64]) -> Result<()> {
    let names: Vec<_> = names.iter().map(|name| format!("\"{name}\"")).collect();
    let bars: Vec<_> = bars.iter().map(|bar| format!("{:.1}", bar.max(0.0))).collect();
    writeln!(text, "```mermaid\nxychart-beta\n  title \"{title}\"")?;
    writeln!(
        text,
        "  x-axis [{}]\n  y-axis \"{unit}\"\n  bar [{}]\n```\n",
        names.join(", "),
        bars.join(", ")
    )?;
    Ok(())
}
