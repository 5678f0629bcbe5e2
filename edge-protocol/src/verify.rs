//! Asking about a key.

use serde::{Deserialize, Serialize};

use crate::{KeyRecord, Position};

/// A filter's question about a key that it does not know.
///
/// The key travels in plain text, since only the control plane can hash it; the way there is
/// loopback or mutual TLS.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifyRequest {
    /// The key as the client sent it.
    pub key: String,
}

impl std::fmt::Debug for VerifyRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("VerifyRequest { key: [redacted] }")
    }
}

/// What the control plane knows of the key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Flat")]
pub struct VerifyAnswer {
    /// Where the change feed stood *before* the key was looked up: a change after this position
    /// may not be in the answer.
    pub as_of: Position,
    /// The word itself.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// The word on a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// The key exists and its secret is right. It may still be revoked or expired: the record
    /// says so, and the filter decides.
    Known {
        /// What to decide with.
        record: KeyRecord,
    },
    /// No such key, or a wrong secret, or a test key where these are switched off.
    Unknown,
}

/// A [`VerifyAnswer`] as it is read: without serde's `flatten`, which would keep all of an answer
/// in a tree of its own before it knows what it is.
#[derive(Deserialize)]
struct Flat {
    as_of: Position,
    verdict: Word,
    #[serde(default)]
    record: Option<KeyRecord>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Word {
    Known,
    Unknown,
}

impl TryFrom<Flat> for VerifyAnswer {
    type Error = &'static str;

    fn try_from(Flat { as_of, verdict, record }: Flat) -> Result<Self, Self::Error> {
        let verdict = match (verdict, record) {
            (Word::Known, Some(record)) => Verdict::Known { record },
            (Word::Known, None) => return Err("missing field `record`"),
            (Word::Unknown, _) => Verdict::Unknown,
        };
        Ok(Self { as_of, verdict })
    }
}
