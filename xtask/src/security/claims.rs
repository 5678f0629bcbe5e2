//! The claims as they are written.

use std::fs;

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::workspace;

const FILE: &str = "docs/security-claims.yaml";

/// All claims, by what they are about.
#[derive(Debug, Deserialize)]
#[serde(transparent)]
pub(super) struct Claims(pub(super) Vec<Topic>);

/// Claims about one thing.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Topic {
    pub(super) topic: String,
    pub(super) claims: Vec<Claim>,
}

/// A claim.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Claim {
    /// What is claimed, in a sentence.
    #[serde(rename = "claim")]
    pub(super) text: String,
    /// Which requirements of public standards it answers.
    #[serde(default)]
    pub(super) standards: Vec<String>,
    /// The tests that hold it: their names, without the modules that they are in.
    pub(super) tests: Vec<String>,
}

impl Claims {
    pub(super) fn read() -> Result<Self> {
        let file = workspace::root().join(FILE);
        let text = fs::read_to_string(&file).with_context(|| format!("cannot read {FILE}"))?;
        Self::parse(&text)
    }

    pub(super) fn parse(text: &str) -> Result<Self> {
        serde_saphyr::from_str(text).with_context(|| format!("{FILE} is not as it should be"))
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Claim> {
        self.0.iter().flat_map(|topic| &topic.claims)
    }

    pub(super) fn tests(&self) -> impl Iterator<Item = &str> {
        self.all().flat_map(|claim| &claim.tests).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::Claims;

    #[test]
    fn no_claim_is_without_a_test_or_made_twice() {
        let claims = Claims::read().unwrap();
        assert!(claims.all().count() >= 25);
        assert!(claims.all().all(|claim| !claim.tests.is_empty()));
        let different: BTreeSet<_> = claims.all().map(|claim| &claim.text).collect();
        assert_eq!(different.len(), claims.all().count());
        // In other words, and held by the same tests, it is the same.
        let held: BTreeSet<BTreeSet<_>> =
            claims.all().map(|claim| claim.tests.iter().collect()).collect();
        assert_eq!(held.len(), claims.all().count());
    }
}
