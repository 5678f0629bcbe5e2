//! Checkpoints: where the chain stood at a time, signed. What has been said in public cannot be
//! taken back: the same line goes to the log stream.

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{fmt, str::FromStr};

use super::ChainHash;

/// Why a checkpoint was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    /// Its time had come.
    Periodic,
    /// The service ended.
    Shutdown,
    /// Everything up to here may be deleted: it is older than the log is kept.
    Retention,
    /// Someone asked for it.
    Manual,
}

impl Reason {
    const ALL: [Self; 4] = [Self::Periodic, Self::Shutdown, Self::Retention, Self::Manual];

    /// As it is stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Periodic => "periodic",
            Self::Shutdown => "shutdown",
            Self::Retention => "retention",
            Self::Manual => "manual",
        }
    }
}

/// There is no such reason.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("no reason for a checkpoint")]
pub struct NoReason;

impl FromStr for Reason {
    type Err = NoReason;

    fn from_str(text: &str) -> Result<Self, NoReason> {
        Self::ALL.into_iter().find(|it| it.as_str() == text).ok_or(NoReason)
    }
}

/// Whose signature is believed; 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey([u8; 32]);

/// The text is no public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be an Ed25519 public key: 64 hex digits, as `keygate audit public-key` shows it")]
pub struct NoPublicKey;

impl PublicKey {
    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<[u8; 32]> for PublicKey {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PublicKey {
    type Err = NoPublicKey;

    fn from_str(text: &str) -> Result<Self, NoPublicKey> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text.trim(), &mut bytes).map_err(|_| NoPublicKey)?;
        Ok(Self(bytes))
    }
}

/// Where the chain stands, before it is signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// The chain's name.
    pub database_id: String,
    /// Checkpoints are counted up from 1 without holes.
    pub number: u64,
    /// The batch that it is about.
    pub sequence: u64,
    /// That batch's last row.
    pub last_id: i64,
    /// That batch's hash.
    pub hash: ChainHash,
    /// When it was made, in milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// Why.
    pub reason: Reason,
}

impl Statement {
    fn message(&self) -> Vec<u8> {
        let mut message = b"keygate audit checkpoint 1\0".to_vec();
        let text = |message: &mut Vec<u8>, text: &str| {
            let bytes = u64::try_from(text.len()).unwrap_or(u64::MAX);
            message.extend_from_slice(&bytes.to_be_bytes());
            message.extend_from_slice(text.as_bytes());
        };
        text(&mut message, &self.database_id);
        message.extend_from_slice(&self.number.to_be_bytes());
        message.extend_from_slice(&self.sequence.to_be_bytes());
        message.extend_from_slice(&self.last_id.to_be_bytes());
        message.extend_from_slice(self.hash.as_bytes());
        message.extend_from_slice(&self.at_ms.to_be_bytes());
        text(&mut message, self.reason.as_str());
        message
    }
}

/// A signed statement of where the chain stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// What is stated.
    #[serde(flatten)]
    pub statement: Statement,
    /// Whose signature it is.
    pub public_key: PublicKey,
    /// The signature.
    #[serde(with = "super::hex_text")]
    pub signature: [u8; 64],
}

impl Checkpoint {
    /// Signs a statement.
    #[must_use]
    pub fn sign(statement: Statement, key: &SigningKey) -> Self {
        let signature = key.sign(&statement.message()).to_bytes();
        Self { statement, public_key: PublicKey(key.verifying_key().to_bytes()), signature }
    }

    /// Whether the signature is that of the key that stands beside it.
    #[must_use]
    pub fn is_signed(&self) -> bool {
        VerifyingKey::from_bytes(self.public_key.as_bytes()).is_ok_and(|key| {
            let signature = Signature::from_bytes(&self.signature);
            key.verify_strict(&self.statement.message(), &signature).is_ok()
        })
    }
}

impl fmt::Display for Checkpoint {
    /// The line for the log stream. Its second word is what `keygate audit verify --checkpoint`
    /// takes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Statement { database_id, number, sequence, last_id, hash, at_ms, reason } =
            &self.statement;
        let at = Timestamp::from_millisecond(*at_ms).unwrap_or_default();
        write!(
            f,
            "AUDIT_CHECKPOINT: {sequence}:{hash} | number={number} | last_id={last_id} | \
             timestamp={at:.3} | reason={} | database={database_id} | public_key={} | signature={}",
            reason.as_str(),
            self.public_key,
            hex::encode(self.signature),
        )
    }
}
