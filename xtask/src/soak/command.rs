//! The command line of `cargo xtask soak`.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use serde::Serialize;

use super::endurance::{self, LoadPlan};
use super::kills::{self, KillPlan};
use super::{Given, Store};
use crate::progress;
use crate::stack::{Binaries, Build};

/// What to look for, and for how long.
#[derive(Debug, Args)]
pub struct Soak {
    #[command(subcommand)]
    run: Run,
}

#[derive(Debug, Subcommand)]
enum Run {
    /// Kill parts at random moments under load; nothing that was acknowledged may be gone
    Kills {
        /// Rounds on each store
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
        rounds: u32,
        /// Stores to do it on; may be given twice [default: both]
        #[arg(long, value_enum)]
        store: Vec<Store>,
        #[command(flatten)]
        common: Common,
    },
    /// Mixed load for a long time; memory, files, queues and the database may not grow beyond bounds
    Load {
        /// For how many minutes
        #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(2..))]
        minutes: u64,
        /// Requests a second, at most
        #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(10..))]
        rate: u32,
        /// The store to do it on
        #[arg(long, value_enum, default_value = "sqlite")]
        store: Store,
        #[command(flatten)]
        common: Common,
    },
}

/// What both have.
#[derive(Debug, Args)]
struct Common {
    /// Draw everything from this number, which the run before has printed [default: another each time]
    #[arg(long)]
    seed: Option<u64>,
    /// An empty `PostgreSQL` database, as postgres://… [default: a server of its own, with --store postgres]
    #[arg(long, env = "KEYGATE_DATABASE_URL", hide_env_values = true)]
    database_url: Option<String>,
    /// A Redis, as redis://… [default: a server of its own]
    #[arg(long, env = "KEYGATE_REDIS_URL", hide_env_values = true)]
    redis_url: Option<String>,
    /// Write the figures to this file, as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Runs what was asked for.
pub(crate) fn run(soak: Soak) -> Result<()> {
    let binaries = match Binaries::given()? {
        Some(given) => given,
        None => Binaries::build(Build::Release)?,
    };
    match soak.run {
        Run::Kills { rounds, store, common } => {
            let stores = match (store.is_empty(), &common.database_url) {
                (true, None) => vec![Store::Sqlite, Store::Postgres],
                // The database that was named is the one that is meant.
                (true, Some(_)) => vec![Store::Postgres],
                (false, _) => store,
            };
            let seed = common.seed();
            let mut reports = Vec::new();
            for store in stores {
                progress::step(&format!("{rounds} rounds on {store}, seed {seed}"));
                let plan = KillPlan { store, rounds, seed, given: common.given(store) };
                let report = kills::run(&plan, binaries.clone())?;
                println!("\n{report}");
                reports.push(report);
                // At once: the next store may end the command.
                write(common.json.as_deref(), &reports)?;
            }
            Ok(())
        }
        Run::Load { minutes, rate, store, common } => {
            let seed = common.seed();
            progress::step(&format!("{minutes} minutes on {store}, seed {seed}"));
            let length = Duration::from_mins(minutes);
            let plan = LoadPlan { store, length, rate, seed, given: common.given(store) };
            let report = endurance::run(&plan, binaries)?;
            println!("\n{report}");
            write(common.json.as_deref(), &report)?;
            report.verdict()
        }
    }
}

impl Common {
    fn seed(&self) -> u64 {
        self.seed.unwrap_or_else(|| fastrand::u64(..1 << 32))
    }

    fn given(&self, store: Store) -> Given {
        let database_url = self.database_url.clone().filter(|_| store == Store::Postgres);
        Given { database_url, redis_url: self.redis_url.clone() }
    }
}

fn write(file: Option<&Path>, figures: &impl Serialize) -> Result<()> {
    let Some(file) = file else { return Ok(()) };
    let text = serde_json::to_string_pretty(figures)?;
    fs::write(file, text + "\n").with_context(|| format!("cannot write {}", file.display()))
}
