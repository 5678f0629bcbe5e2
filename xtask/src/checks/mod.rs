//! `cargo xtask test`: everything that must hold, from a fresh machine on.

mod api;
mod end_to_end;
mod lints;
mod native;
mod node;
mod step;

use anyhow::{Result, bail};

pub use step::Step;

use crate::wait::Stopwatch;
use crate::{codegen, interrupt, progress, security};
use step::Outcome;

/// Runs the named steps, all of them when none is named, and goes on after one that fails.
///
/// # Errors
/// When a step has failed; the message lists them.
pub fn run(chosen: &[Step]) -> Result<()> {
    let steps = if chosen.is_empty() { &Step::ALL } else { chosen };
    let mut outcomes = Vec::new();
    for (index, step) in steps.iter().enumerate() {
        progress::step(&format!("[{}/{}] {step}: {}", index + 1, steps.len(), step.meaning()));
        let stopwatch = Stopwatch::start();
        let result = run_step(*step);
        interrupt::check()?;
        if let Err(error) = &result {
            progress::note(&format!("{step} failed: {error:#}"));
        }
        outcomes.push(Outcome { step: *step, passed: result.is_ok(), took: stopwatch.elapsed() });
    }
    summarise(&outcomes)
}

fn run_step(step: Step) -> Result<()> {
    match step {
        Step::Fmt => lints::fmt(),
        Step::Clippy => lints::clippy(),
        Step::Codegen => codegen::run(true),
        Step::Native => native::run(),
        Step::Node => node::run(),
        Step::Api => api::run(),
        Step::Wasm => end_to_end::build_filters(),
        Step::E2e => end_to_end::run(),
        Step::Security => security::check(),
    }
}

fn summarise(outcomes: &[Outcome]) -> Result<()> {
    println!();
    for outcome in outcomes {
        println!("{outcome}");
    }
    let failed: Vec<_> = outcomes
        .iter()
        .filter(|outcome| !outcome.passed)
        .map(|outcome| outcome.step.to_string())
        .collect();
    println!("\nsteps: {} passed, {} failed", outcomes.len() - failed.len(), failed.len());
    if !failed.is_empty() {
        bail!("failed: {}; run one again with `cargo xtask test STEP`", failed.join(", "));
    }
    Ok(())
}
