//! What the control plane costs, on real stores, each figure beside its target and beside what the
//! same machine does at best with plain means.
//!
//! | file | what it holds |
//! |---|---|
//! | here | what is measured, and in which order |
//! | `report` | figures, targets, and how they are shown |
//! | `machine` | where it was measured |
//! | `ground` | the servers under measurement |
//! | `nothing` | the server that does nothing |
//! | `client`, `load` | calls, one after the other or at a steady rate |
//! | `cpu` | the CPU time that processes have taken |
//! | `keys` | keys to ask about, and many that nobody asks about |
//! | `verification`, `ingest`, `leases` | the figures |

#![expect(clippy::disallowed_methods, reason = "real time is what is measured")]

mod client;
mod cpu;
mod database;
mod ground;
mod hashing;
mod ingest;
mod keys;
mod leases;
mod load;
mod machine;
pub mod nothing;
pub mod report;
mod verification;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;

pub use ground::Store;
use ground::{Ground, Servers};
use report::Report;

/// What is measured together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Cold, remembered and unknown keys, few and many of them in the database
    Verification,
    /// Audit events and usage
    Ingest,
    /// Parts of limits that a fleet shares
    Leases,
}

/// What is to be measured.
#[derive(Clone, Debug)]
pub struct Options {
    /// The control plane's program, built for release.
    pub keygate: PathBuf,
    /// This program: it is also the server that does nothing.
    pub own: PathBuf,
    /// On which stores.
    pub stores: Vec<Store>,
    /// What.
    pub parts: Vec<Part>,
    /// Shorter and on fewer keys: to see that it works, not what it costs.
    pub quick: bool,
}

impl Options {
    /// How long a closed loop runs.
    fn span(&self) -> Duration {
        Duration::from_secs(if self.quick { 2 } else { 10 })
    }

    /// How many keys the larger database has.
    fn many_keys(&self) -> u32 {
        if self.quick { 50_000 } else { 1_000_000 }
    }

    fn has(&self, part: Part) -> bool {
        self.parts.contains(&part)
    }
}

/// Measures everything.
///
/// # Errors
/// When a server does not start, or answers something else than it should.
pub async fn measure(options: &Options) -> Result<Report> {
    let mut report = Report::new(machine::look());
    if options.has(Part::Verification) {
        report.take(hashing::measure(options));
    }
    for &store in &options.stores {
        if options.has(Part::Verification) {
            let ground = Ground::start(options, store, Servers::Database).await?;
            report.take(verification::measure(options, &ground).await?);
        }
        if options.has(Part::Ingest) {
            let ground = Ground::start(options, store, Servers::Database).await?;
            report.take(ingest::measure(options, &ground).await?);
        }
    }
    if options.has(Part::Leases) {
        let ground = Ground::start(options, Store::Sqlite, Servers::DatabaseAndRedis).await?;
        report.take(leases::measure(options, &ground).await?);
    }
    Ok(report)
}
