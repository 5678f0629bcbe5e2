//! `cargo xtask bench`: what Keygate costs a request, beside what else a user could pick.
//!
//! | file | what it is |
//! |---|---|
//! | `scenario` | what is compared: Envoys and traffic |
//! | `ground` | all that runs meanwhile |
//! | `processor` | who runs on which core, and for how long it has |
//! | `rounds` | measuring |
//! | `figures` | what is said of it |

mod figures;
mod ground;
mod processor;
mod rounds;
mod scenario;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;

use self::ground::{Ground, Programs};
use self::rounds::Effort;
use self::scenario::Scenario;
use crate::stack::{Binaries, Build};
use crate::{process, progress, wasm, workspace};

/// How much to measure, and where to write it.
#[derive(Debug, Args)]
pub struct Bench {
    /// Rounds, each of which measures everything once
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// How many seconds each is under load in a round
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// How many keys are used in turn
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    keys: u32,
    /// Only what has this in its name, and the floor; may be given several times
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Write every figure to this file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Measures.
pub(crate) fn run(options: &Bench) -> Result<()> {
    let scenarios = Scenario::named(&options.only);
    let ground = Ground::start(build()?, usize::try_from(options.keys)?, scenarios)?;
    let effort = Effort {
        rounds: options.rounds.into(),
        steady_rounds: usize::from(options.rounds).div_ceil(5),
        seconds: options.seconds,
        steady_seconds: 3.0 * options.seconds,
    };
    let costs = rounds::costs(&ground, effort)?;
    let latencies = rounds::latencies(&ground, &costs, effort)?;
    let rows = figures::rows(&costs, &latencies);
    for row in &rows {
        println!(
            "{:9} {:34} {:6.2} us  +{:5.2} [{:5.2} {:5.2}]  {:7.0}/s  x{:5.2} native x{:5.2} noop x{:5.3} authz {}",
            row.protocol,
            row.scenario,
            row.microseconds.median,
            row.added.median,
            row.added.lower,
            row.added.upper,
            row.rate.median,
            row.to_native,
            row.to_noop_wasm,
            row.to_ext_authz,
            row.latency.map_or(String::new(), |it| format!(
                "p50 {:.0} p99 {:.0} p99.9 {:.0} us",
                it.p50, it.p99, it.p999
            )),
        );
    }
    if let Some(file) = &options.json {
        let text = serde_json::to_string_pretty(&rows)?;
        std::fs::write(file, text + "\n")
            .with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

fn build() -> Result<Programs> {
    let stack = match Binaries::given()? {
        Some(given) => given,
        None => Binaries::build(Build::Release)?,
    };
    progress::step("building the load generator");
    let mut cargo = workspace::cargo();
    cargo.args(["build", "--release", "-p", "bench", "--bins"]);
    process::run(cargo)?;
    let folder = workspace::target_dir()?.join("release");
    Ok(Programs {
        stack,
        load: folder.join("keygate-load"),
        authz: folder.join("keygate-authz"),
        noop_module: wasm::build_noop()?,
    })
}
