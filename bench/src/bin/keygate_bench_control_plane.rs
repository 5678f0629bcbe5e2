//! `keygate-bench-control-plane`: what the control plane costs, beside its targets.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use bench::control_plane::{self, Options, Part, Store, nothing};
use clap::{Parser, Subcommand};

/// Measures the control plane on stores of its own and prints figures beside targets, claims and baselines
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
struct Arguments {
    /// Write the figures to this file too, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Short, on fewer keys: shows that it works, not what it costs
    #[arg(long)]
    quick: bool,
    /// Write the table to this file too
    #[arg(long, value_name = "FILE")]
    table: Option<PathBuf>,
    /// Only these stores
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["sqlite", "postgres"])]
    stores: Vec<Store>,
    /// Only these parts
    #[arg(long, value_enum, value_delimiter = ',',
          default_values = ["verification", "ingest", "leases"])]
    parts: Vec<Part>,
    /// The control plane's program, built for release
    #[arg(long, value_name = "FILE", required = true)]
    keygate: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve as the server that does nothing
    #[command(hide = true)]
    Nothing {
        /// Where
        listen: SocketAddr,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<()> {
    let Arguments { json, quick, table, stores, parts, keygate, command } = arguments;
    if let Some(Command::Nothing { listen }) = command {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        return runtime.block_on(nothing::serve(listen));
    }
    let keygate = keygate.context("--keygate")?;
    let own = std::env::current_exe()?;
    let options = Options { keygate, own, stores, parts, quick };
    // One thread: what calls is to take no more than one core from what answers.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(control_plane::measure(&options))?;
    print!("{report}");
    let write = |file: PathBuf, text| {
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))
    };
    if let Some(file) = table {
        write(file, report.to_string())?;
    }
    if let Some(file) = json {
        write(file, serde_json::to_string_pretty(&report)? + "\n")?;
    }
    Ok(())
}
