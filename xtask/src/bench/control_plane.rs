//! `cargo xtask bench control-plane`: what the control plane costs, beside its targets.
//!
//! It is measured by a program of the `bench` crate, which has clients of its servers and builds on
//! this one.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;

use super::page::{self, Part};
use crate::stack::{Binaries, Build, build_keygate};
use crate::{process, progress, workspace};

const PROGRAM: &str = "keygate-bench-control-plane";

#[derive(Debug, Args)]
pub(super) struct ControlPlane {
    /// Short, on fewer keys: shows that it works, not what it costs
    #[arg(long)]
    quick: bool,
    /// Only these parts: verification, ingest, leases
    #[arg(long, value_name = "PARTS")]
    parts: Option<String>,
    /// Only these stores: sqlite, postgres
    #[arg(long, value_name = "STORES")]
    stores: Option<String>,
    /// Write every figure to this file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Put the table into docs/benchmarks/control-plane.md
    #[arg(long, conflicts_with_all = ["quick", "parts", "stores"])]
    page: bool,
}

pub(super) fn run(options: &ControlPlane) -> Result<()> {
    let keygate = match Binaries::given()? {
        Some(given) => given.keygate,
        None => build_keygate(Build::Release)?,
    };
    progress::step("building the benchmark");
    let table = tempfile::NamedTempFile::new().context("no room for a table")?;
    let mut cargo = workspace::cargo();
    cargo.args(["run", "--quiet", "--release", "-p", "bench", "--bin", PROGRAM, "--"]);
    cargo.arg("--keygate").arg(keygate).arg("--table").arg(table.path());
    if options.quick {
        cargo.arg("--quick");
    }
    for (name, value) in [("--parts", &options.parts), ("--stores", &options.stores)] {
        cargo.args(value.iter().flat_map(|value| [name, value]));
    }
    if let Some(file) = &options.json {
        cargo.arg("--json").arg(std::path::absolute(file)?);
    }
    process::run(cargo)?;
    if options.page {
        page::write(Part::ControlPlane, &(fs::read_to_string(table.path())? + "\n"))?;
    }
    Ok(())
}
