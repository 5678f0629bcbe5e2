//! The Kubernetes manifests in `envoy/kubernetes`.

use std::fs;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::workspace;

/// The documents of a file.
///
/// # Errors
/// When there is no such file, or it is no YAML.
pub fn read(name: &str) -> Result<Vec<Value>> {
    let file = workspace::root().join("envoy/kubernetes").join(name);
    let text =
        fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    text.split("\n---\n")
        .map(|document| {
            serde_saphyr::from_str(document)
                .with_context(|| format!("{} is no valid YAML", file.display()))
        })
        .collect()
}
