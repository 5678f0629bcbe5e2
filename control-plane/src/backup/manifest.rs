//! What a backup says of itself.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;
use subtle::ConstantTimeEq;

use crate::{audit::chain::ChainHash, config::DatabaseUrl, keys::digest::DigestKey};

/// What the manifest is signed for: HMAC-SHA256 under the secret key, of this and the manifest.
const LABEL: &[u8] = b"keygate: backup manifest, 1\n";

/// Which kind of database was copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// The copy is a database file.
    Sqlite,
    /// The copy is what `pg_dump --format=custom` writes.
    Postgres,
}

impl Backend {
    /// The one that a URL names.
    #[must_use]
    pub fn of(url: &DatabaseUrl) -> Self {
        match url {
            DatabaseUrl::Sqlite(_) => Self::Sqlite,
            DatabaseUrl::Postgres(_) => Self::Postgres,
        }
    }

    /// As people call it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sqlite => "SQLite",
            Self::Postgres => "PostgreSQL",
        }
    }
}

/// Where the copied audit log ends, or has been at least.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditEnd {
    /// The chain's name.
    pub database_id: String,
    /// The last batch.
    pub sequence: u64,
    /// Its hash.
    pub hash: ChainHash,
}

/// What a backup says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// When it was made.
    pub made_at: Timestamp,
    /// By which version.
    pub keygate: String,
    /// From which kind of database.
    pub backend: Backend,
    /// How many keys it holds, the revoked and expired ones too.
    pub keys: u64,
    /// Where the audit log stood.
    pub audit: AuditEnd,
    /// The name of the secret key that its keys are looked up with.
    pub secret_key: String,
    /// Bytes of the copy.
    pub bytes: u64,
    /// SHA-256 of the copy, in hex.
    pub sha256: String,
}

/// What shows that a holder of the secret key wrote a manifest.
#[derive(Clone, Copy)]
pub(super) struct Mac([u8; 32]);

impl Mac {
    /// Of a manifest's line.
    pub(super) fn of(line: &[u8], secret: &DigestKey) -> Self {
        Self(secret.digest(&[LABEL, line].concat()))
    }

    /// As the file has it.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        // As it is printed, and not with capitals as well: a backup has one form.
        Some(Self(bytes)).filter(|mac| mac.to_string() == text)
    }

    /// Whether it is the one of this line, in constant time.
    pub(super) fn is_of(&self, line: &[u8], secret: &DigestKey) -> bool {
        self.0.ct_eq(&Self::of(line, secret).0).into()
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}
