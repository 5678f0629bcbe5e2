//! `cargo xtask codegen`: files that are made from the code, and checked in.

mod api;
mod command_line;
mod markdown;
mod metrics;
mod schema;
mod settings;

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::{progress, security, workspace};

/// A generated file: where it is, and what it must say.
struct Generated {
    path: PathBuf,
    content: String,
}

/// Writes the generated files; with `check`, only fails when one of them is not up to date.
///
/// # Errors
/// When a file cannot be written, or is out of date.
pub fn run(check: bool) -> Result<()> {
    let mut outdated = Vec::new();
    for file in generated()? {
        let shown = file.path.strip_prefix(workspace::root()).unwrap_or(&file.path).display();
        if fs::read_to_string(&file.path).is_ok_and(|old| old == file.content) {
            continue;
        }
        if check {
            outdated.push(shown.to_string());
            continue;
        }
        if let Some(folder) = file.path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(&file.path, &file.content).with_context(|| format!("cannot write {shown}"))?;
        progress::note(&format!("wrote {shown}"));
    }
    if !outdated.is_empty() {
        bail!("not up to date: {}; run `cargo xtask codegen`", outdated.join(", "));
    }
    Ok(())
}

fn generated() -> Result<Vec<Generated>> {
    let schema = schema::published(filter_config::schema());
    let description = api::description()?;
    let root = workspace::root();
    Ok(vec![
        Generated {
            path: root.join("envoy/filter-configuration.schema.json"),
            content: format!("{schema:#}\n"),
        },
        Generated {
            path: root.join("docs/filter-configuration.md"),
            content: markdown::reference(&schema)?,
        },
        Generated { path: root.join("docs/metrics.md"), content: metrics::page()? },
        Generated { path: root.join("docs/command-line.md"), content: command_line::page()? },
        Generated { path: root.join("docs/configuration.md"), content: settings::page()? },
        Generated { path: root.join("docs/security-report.md"), content: security::page()? },
        Generated { path: root.join("docs/problems.md"), content: api::problems(&description)? },
        Generated { path: root.join("docs/openapi.json"), content: description },
    ])
}
