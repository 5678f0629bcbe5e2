//! The command line.

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::bench::{self, Bench};
use crate::checks::{self, Step};
use crate::codegen;
use crate::fuzz::{self, Fuzz};
use crate::interrupt::{self, Interrupted};
use crate::soak::{self, Soak};
use crate::up::{self, Up};
use crate::wasm::{self, Variant};

/// As a shell ends a command that Ctrl-C has ended.
const INTERRUPTED: u8 = 130;

/// Keygate's development tasks
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", version)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Run a whole Keygate on this machine: control plane, Envoy with the filter, an upstream
    Up(Up),
    /// Build the filter: `target/keygate_filter.wasm`
    Wasm {
        /// Build the variant that traps when told to, for tests: `target/keygate_filter_trap.wasm`
        #[arg(long)]
        trap: bool,
    },
    /// Check everything: formatting, lints, generated files, all tests
    Test {
        /// Only these steps
        #[arg(value_name = "STEP")]
        steps: Vec<Step>,
    },
    /// Look for what only hours and crashes bring to light
    Soak(Soak),
    /// Feed parsers and the limiter with what nobody would send
    Fuzz(Fuzz),
    /// Measure what Keygate costs, beside what else there is
    Bench(Bench),
    /// Write the files that are made from the code
    Codegen {
        /// Write nothing; fail when one is not up to date
        #[arg(long)]
        check: bool,
    },
}

/// Runs the task that the command line names.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match interrupt::listen().and_then(|()| run(cli.task)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<Interrupted>() => {
            eprintln!("interrupted");
            ExitCode::from(INTERRUPTED)
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<()> {
    match task {
        Task::Up(options) => up::run(&options),
        Task::Test { steps } => checks::run(&steps),
        Task::Soak(options) => soak::run(options),
        Task::Fuzz(options) => fuzz::run(&options),
        Task::Bench(options) => bench::run(&options),
        Task::Codegen { check } => codegen::run(check),
        Task::Wasm { trap } => {
            wasm::build(if trap { Variant::Trap } else { Variant::Product }).map(drop)
        }
    }
}
