//! Inputs that are kept.

use std::fs;
use std::path::{Path, PathBuf};

/// Where a target's inputs are kept: ones to begin with, and all that ever broke its property.
#[must_use]
pub fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target)
}

/// A target's inputs with their files, in an order that is always the same.
#[must_use]
pub fn inputs(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = fs::read_dir(folder(target)).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries.map(|entry| entry.path()).filter(|it| it.is_file()).collect();
    files.sort();
    let read = |file: PathBuf| fs::read(&file).ok().map(|bytes| (file, bytes));
    files.into_iter().filter_map(read).collect()
}
