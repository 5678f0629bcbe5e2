//! Keys: what one is here, and what can be done with it.

mod difference;
pub mod digest;
pub mod hashing;
pub mod import;
pub mod issue;
pub mod key_text;
pub mod last_used;
pub mod new_key;
pub(crate) mod object;
pub mod once;
pub mod policy_report;
pub mod pool;
pub mod revoke;
pub mod rotate;
pub mod state;
pub mod update;
pub mod verify;
pub mod view;
mod whole_number;

use edge_protocol::{KeyEnvironment, KeyLimit, KeyRecord, Scope};
use ipnet::IpNet;
use jiff::Timestamp;
use key_policy::KeyId;
use std::net::IpAddr;

use self::{
    digest::{LookupDigest, SecretName},
    hashing::SecretHash,
    import::PolicyOverride,
};
use crate::clock::unix_ms;

/// What is known about a key. It holds no secret.
#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    /// Its public name.
    pub key_id: KeyId,
    /// What its owner calls it.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// Who it belongs to.
    pub owner: Option<String>,
    /// What it may do.
    pub scope: Scope,
    /// Which traffic it is meant for.
    pub environment: KeyEnvironment,
    /// False when it is switched off, or revoked.
    pub is_active: bool,
    /// Networks it may be used from; empty: from anywhere.
    pub allowed_ips: Vec<IpNet>,
    /// Its own limit.
    pub rate_limit: Option<KeyLimit>,
    /// Whatever its owner wants to keep with it.
    pub metadata: serde_json::Map<String, serde_json::Value>,
    /// When it was issued.
    pub created_at: Timestamp,
    /// When it ends by itself.
    pub expires_at: Option<Timestamp>,
    /// When it was last verified, to within a minute or so.
    pub last_used_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
    /// Why it was revoked.
    pub revoked_reason: Option<String>,
    /// Counts the states of this record, from 1. That it was used makes no new one.
    pub version: u64,
    /// The key whose place it has taken.
    pub supersedes: Option<KeyId>,
    /// The key that has taken its place.
    pub superseded_by: Option<KeyId>,
    /// When its place was taken.
    pub rotated_at: Option<Timestamp>,
    /// That it was imported though the policy refuses it.
    pub policy_override: Option<PolicyOverride>,
}

impl Key {
    /// Whether the key is neither revoked nor expired.
    #[must_use]
    pub fn is_usable(&self, now: Timestamp) -> bool {
        self.is_active && self.expires_at.is_none_or(|end| now < end)
    }

    /// Whether the key is neither revoked nor superseded: its record can still become another.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.revoked_at.is_none() && self.superseded_by.is_none()
    }

    /// Whether the key may be used from this address.
    #[must_use]
    pub fn allows_address(&self, address: IpAddr) -> bool {
        self.allowed_ips.is_empty() || self.allowed_ips.iter().any(|net| net.contains(&address))
    }

    /// What a filter is told.
    #[must_use]
    pub fn record(&self) -> KeyRecord {
        KeyRecord {
            key_id: self.key_id.to_string(),
            owner: self.owner.clone(),
            scope: self.scope,
            environment: self.environment,
            is_active: self.is_active,
            expires_at_ms: self.expires_at.map(unix_ms),
            allowed_ips: self.allowed_ips.clone(),
            rate_limit: self.rate_limit,
        }
    }
}

/// A key as it is stored: with what it takes to recognise it.
#[derive(Clone, Debug)]
pub struct StoredKey {
    /// What is known about it.
    pub key: Key,
    /// Where it is looked up.
    pub lookup: LookupDigest,
    /// The secret key that `lookup` was made with.
    pub lookup_secret: SecretName,
    /// What a presented key is checked against.
    pub secret: SecretHash,
}
