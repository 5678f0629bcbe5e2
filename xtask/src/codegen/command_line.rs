//! The page of the control plane's commands.

use std::process::Command;

use anyhow::Result;

use crate::process;
use crate::stack::{Build, build_keygate};

/// The page, as the program itself prints it.
///
/// # Errors
/// When the program cannot be built or run.
pub(super) fn page() -> Result<String> {
    let mut keygate = Command::new(build_keygate(Build::Debug)?);
    keygate.arg("reference");
    process::capture(keygate)
}
