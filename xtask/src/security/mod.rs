//! What the project claims about its security, held against the tests that were run.
//!
//! `docs/security-claims.yaml` names for each claim the tests that hold it. The report is made of it
//! twice: without outcomes for the repository (`codegen`), and with them after a run of the tests.

mod claims;
mod outcomes;
mod report;
mod sources;

use std::fs;

use anyhow::{Context, Result, bail};

pub(crate) use outcomes::Recorder;
pub(crate) use sources::Sources;

use crate::{progress, workspace};
use claims::Claims;
use outcomes::Outcomes;

/// The report for the repository: claims and their tests, and where those are.
///
/// # Errors
/// When the claims cannot be read, or name a test that does not exist.
pub(crate) fn page() -> Result<String> {
    let (claims, sources) = (Claims::read()?, Sources::read()?);
    let missing: Vec<_> = claims.tests().filter(|test| sources.place(test).is_none()).collect();
    if !missing.is_empty() {
        bail!("docs/security-claims.yaml names tests that there are not: {}", missing.join(", "));
    }
    Ok(report::page(&claims, &sources, None))
}

/// Writes the report of the last run of the tests, to `target/security-report.md`.
///
/// # Errors
/// When a claim is not held: one of its tests was not run, or has failed.
pub(crate) fn check() -> Result<()> {
    let (claims, sources) = (Claims::read()?, Sources::read()?);
    let outcomes = Outcomes::read()?;
    let file = workspace::target_dir()?.join("security-report.md");
    fs::write(&file, report::page(&claims, &sources, Some(&outcomes)))
        .with_context(|| format!("cannot write {}", file.display()))?;
    let open = report::not_held(&claims, &outcomes);
    if !open.is_empty() {
        bail!(
            "claims that no passed test holds:\n{}\nsee {}; their tests are in the steps native and e2e",
            open.join("\n"),
            file.display()
        );
    }
    progress::note(&format!("each claim is held: {}", file.display()));
    Ok(())
}
