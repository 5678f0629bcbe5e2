//! `cargo xtask bench`: what Keygate costs a request, beside what else a user could pick.
//!
//! | file | what it is |
//! |---|---|
//! | `scenario` | what is compared: Envoys and traffic |
//! | `ground` | all that runs meanwhile |
//! | `load` | what is sent |
//! | `processor` | who runs on which core, and for how long it has |
//! | `rounds` | measuring what is compared |
//! | `pair` | an Envoy with the filter beside one without |
//! | `growth`, `parts` | measuring those: with more of something, with less |
//! | `control_plane` | another program measures that |
//! | `figures`, `machine`, `page` | what is said of it |

mod control_plane;
mod figures;
mod ground;
mod growth;
mod load;
mod machine;
mod page;
mod pair;
mod parts;
mod processor;
mod rounds;
mod scenario;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use serde::Serialize;

use self::control_plane::ControlPlane;
use self::ground::{Ground, Programs};
use self::machine::Machine;
use self::page::Part;
use self::rounds::Effort;
use self::scenario::{Gateway, Scenario};
use crate::stack::{Binaries, Build};
use crate::{process, progress, wasm, workspace};

/// What to measure [default: filters]
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Bench {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    filters: Filters,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The filter beside Envoy's own, beside `ext_authz` and beside no filter at all
    Filters(Filters),
    /// How the cost grows with keys, rules, headers and workers
    Growth(Common),
    /// What each thing that the filter does costs: everything on, then one thing less each time
    Parts(Common),
    /// What the control plane costs, beside its targets
    ControlPlane(ControlPlane),
}

#[derive(Debug, Args)]
struct Filters {
    /// How many keys are used in turn
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    keys: u32,
    /// Only what has this name, or this in its name, and no filter at all; may be given several times
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, Args)]
struct Common {
    /// Rounds, each of which measures everything once
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// How many seconds each is under load in a round
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Write every figure to this file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Put tables and charts into docs/benchmarks.md
    #[arg(long)]
    page: bool,
}

/// Measures.
pub(crate) fn run(bench: &Bench) -> Result<()> {
    match &bench.what {
        None => filters(&bench.filters),
        Some(What::Filters(options)) => filters(options),
        Some(What::Growth(options)) => growth(options),
        Some(What::Parts(options)) => parts(options),
        Some(What::ControlPlane(options)) => control_plane::run(options),
    }
}

fn filters(options: &Filters) -> Result<()> {
    let programs = build()?;
    let machine = Machine::look(&programs.stack.envoy)?;
    let scenarios = Scenario::named(&options.only);
    let ground = Ground::start(programs, usize::try_from(options.keys)?, scenarios)?;
    let Common { rounds, seconds, .. } = options.common;
    let effort = Effort {
        rounds: rounds.into(),
        steady_rounds: usize::from(rounds).div_ceil(2),
        seconds,
        steady_seconds: 3.0 * seconds,
    };
    // Who may not do this is told now, and not when half of the time has passed.
    ground.give_turn_to(Some(Gateway::Plain))?;
    ground.give_turn_to(None)?;
    let costs = rounds::costs(&ground, effort)?;
    let latencies = rounds::latencies(&ground, &costs, effort)?;
    let rows = figures::rows(&costs, &latencies);
    let text = page::filters(&rows, &machine, rounds)?;
    options.common.publish(Part::Filters, &text, &machine, &rows)
}

fn growth(options: &Common) -> Result<()> {
    let programs = build()?;
    let machine = Machine::look(&programs.stack.envoy)?;
    let points = growth::measure(&programs, options.rounds.into(), options.seconds)?;
    let text = page::growth(&points, &machine, options.rounds)?;
    options.publish(Part::Growth, &text, &machine, &points)
}

fn parts(options: &Common) -> Result<()> {
    let programs = build()?;
    let machine = Machine::look(&programs.stack.envoy)?;
    let steps = parts::measure(&programs, options.rounds.into(), options.seconds)?;
    let text = page::parts(&steps, &machine, options.rounds)?;
    options.publish(Part::Parts, &text, &machine, &steps)
}

impl Common {
    fn publish(
        &self,
        part: Part,
        text: &str,
        machine: &Machine,
        figures: &impl Serialize,
    ) -> Result<()> {
        println!("{text}");
        if let Some(file) = &self.json {
            write(file, &serde_json::json!({"machine": machine, "figures": figures}))?;
        }
        if self.page { page::write(part, text) } else { Ok(()) }
    }
}

fn write(file: &Path, figures: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(figures)?;
    std::fs::write(file, text + "\n").with_context(|| format!("cannot write {}", file.display()))
}

fn build() -> Result<Programs> {
    let stack = match Binaries::given()? {
        Some(given) => given,
        None => Binaries::build(Build::Release)?,
    };
    progress::step("building the load generator");
    let mut cargo = workspace::cargo();
    // Without the servers and clients of the control plane's benchmark.
    cargo.args(["build", "--release", "-p", "bench", "--no-default-features", "--bins"]);
    process::run(cargo)?;
    let folder = workspace::target_dir()?.join("release");
    Ok(Programs {
        stack,
        load: folder.join("keygate-load"),
        stand_in: folder.join("keygate-stand-in"),
        noop_module: wasm::build_noop()?,
    })
}
