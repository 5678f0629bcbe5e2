//! `ready.json`: tells scripts that everything is up, and where.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::json;

use super::{Running, first_keys};

/// The file; there while everything is up, and only then.
pub(super) struct Ready {
    file: PathBuf,
}

impl Ready {
    pub(super) fn in_folder(dir: &Path) -> Self {
        Self { file: dir.join("ready.json") }
    }

    /// Writes it in one piece. The key files are relative to its folder, and null when this start
    /// has made no keys.
    pub(super) fn write(&self, running: &Running) -> Result<()> {
        let stack = &running.stack;
        let made = running.keys.admin.is_some();
        let document = json!({
            "gateway_url": stack.gateway_url(),
            "admin_url": stack.admin_url(),
            "envoy_admin_url": stack.envoy.admin_url(),
            "admin_key_file": made.then_some(first_keys::ADMIN_FILE),
            "demo_key_file": made.then_some(first_keys::DEMO_FILE),
            "upstream_url": stack.upstream_url(),
            "pids": {
                "envoy": stack.envoy.process().pid(),
                "control_plane": stack.control_plane.process().pid(),
            },
        });
        let part = self.file.with_extension("json.part");
        fs::write(&part, format!("{document:#}\n"))
            .and_then(|()| fs::rename(&part, &self.file))
            .with_context(|| format!("cannot write {}", self.file.display()))
    }

    pub(super) fn remove(&self) -> Result<()> {
        match fs::remove_file(&self.file) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", self.file.display()))
            }
            _ => Ok(()),
        }
    }
}
