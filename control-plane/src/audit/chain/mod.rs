//! The chain that the audit log hangs on: every transaction that adds rows adds one batch, and
//! each batch carries the hash of the one before. Whoever changes a row has to change every hash
//! after it; signed [`checkpoint`]s, kept here and in the log stream, say what they were.
//!
//! Pure: [`check`] is fed rows, batches and checkpoints, from a database or from an export.

pub mod batch;
pub mod check;
pub mod checkpoint;
pub mod fault;
mod hex_text;
pub mod line;
pub mod row;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest, Sha256};
use std::{fmt, str::FromStr};

/// A SHA-256 in the chain; written as 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChainHash([u8; 32]);

/// The text is no hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be 64 hex digits")]
pub struct NoHash;

impl ChainHash {
    /// What the first batch of a database's chain follows.
    #[must_use]
    pub fn genesis(database_id: &str) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(b"keygate audit chain 1\0");
        hasher.update(database_id.as_bytes());
        Self(hasher.finalize().into())
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for ChainHash {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl TryFrom<&[u8]> for ChainHash {
    type Error = NoHash;

    fn try_from(bytes: &[u8]) -> Result<Self, NoHash> {
        bytes.try_into().map(Self).map_err(|_| NoHash)
    }
}

impl fmt::Display for ChainHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for ChainHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ChainHash {
    type Err = NoHash;

    fn from_str(text: &str) -> Result<Self, NoHash> {
        let bytes = hex::decode(text).map_err(|_| NoHash)?;
        bytes.as_slice().try_into()
    }
}

impl Serialize for ChainHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ChainHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}
