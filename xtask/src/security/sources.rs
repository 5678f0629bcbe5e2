//! Where tests are.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::workspace;

/// The crates, by their folders.
const CRATES: [&str; 8] = [
    "key-policy",
    "edge-protocol",
    "filter-config",
    "gate",
    "filter",
    "control-plane",
    "tests",
    "xtask",
];

/// The functions of the project, with the file that each is in.
pub(crate) struct Sources(BTreeMap<String, String>);

impl Sources {
    pub(crate) fn read() -> Result<Self> {
        let mut sources = Self(BTreeMap::new());
        let root = workspace::root();
        for folder in CRATES {
            sources.walk(&root, &root.join(folder))?;
        }
        Ok(sources)
    }

    fn walk(&mut self, root: &Path, folder: &Path) -> Result<()> {
        let entries =
            fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() && path.file_name().is_some_and(|name| name != "target") {
                self.walk(root, &path)?;
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let shown = path.strip_prefix(root).unwrap_or(&path).display().to_string();
                self.take(&fs::read_to_string(&path)?, &shown);
            }
        }
        Ok(())
    }

    fn take(&mut self, text: &str, file: &str) {
        for line in text.lines() {
            let Some((before, rest)) = line.split_once("fn ") else { continue };
            let only_words =
                before.split_whitespace().all(|word| word == "async" || word.starts_with("pub"));
            let name: String =
                rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            if only_words && !name.is_empty() {
                // Folders are read in no order, and the page must not change by it.
                let place = self.0.entry(name).or_insert_with(|| file.to_owned());
                if file < place.as_str() {
                    file.clone_into(place);
                }
            }
        }
    }

    /// The file that a test of this name is in.
    pub(crate) fn place(&self, test: &str) -> Option<&str> {
        self.0.get(test).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::Sources;

    #[test]
    fn a_test_is_found_in_its_file() {
        let sources = Sources::read().unwrap();
        let file = sources.place("a_test_is_found_in_its_file");
        assert_eq!(file, Some("xtask/src/security/sources.rs"));
        assert_eq!(sources.place("a_test_that_there_is_not"), None);
    }
}
