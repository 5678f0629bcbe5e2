//! A key as the API and the command line show it.

use edge_protocol::{Algorithm, KeyEnvironment, KeyLimit, OnOutage, Reach, Scope};
use ipnet::IpNet;
use jiff::Timestamp;
use serde::Serialize;

use super::Key;

/// A key's limit; what is as usual is left out.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct LimitView {
    requests: u32,
    window_seconds: u32,
    #[serde(skip_serializing_if = "is_usual")]
    algorithm: Algorithm,
    #[serde(skip_serializing_if = "is_usual")]
    reach: Reach,
    #[serde(skip_serializing_if = "is_usual")]
    on_outage: OnOutage,
}

fn is_usual<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl From<KeyLimit> for LimitView {
    fn from(limit: KeyLimit) -> Self {
        let KeyLimit { requests, window_seconds, algorithm, reach, on_outage } = limit;
        Self { requests, window_seconds, algorithm, reach, on_outage }
    }
}

/// All that may be shown of a key.
#[derive(Clone, Debug, Serialize)]
pub struct KeyView {
    key_id: String,
    name: String,
    description: Option<String>,
    owner: Option<String>,
    scope: Scope,
    environment: KeyEnvironment,
    is_active: bool,
    allowed_ips: Vec<IpNet>,
    rate_limit: Option<LimitView>,
    metadata: serde_json::Map<String, serde_json::Value>,
    created_at: Timestamp,
    expires_at: Option<Timestamp>,
    last_used_at: Option<Timestamp>,
    revoked_at: Option<Timestamp>,
    revoked_reason: Option<String>,
}

impl From<Key> for KeyView {
    fn from(key: Key) -> Self {
        Self {
            key_id: key.key_id.to_string(),
            name: key.name,
            description: key.description,
            owner: key.owner,
            scope: key.scope,
            environment: key.environment,
            is_active: key.is_active,
            allowed_ips: key.allowed_ips,
            rate_limit: key.rate_limit.map(LimitView::from),
            metadata: key.metadata,
            created_at: key.created_at,
            expires_at: key.expires_at,
            last_used_at: key.last_used_at,
            revoked_at: key.revoked_at,
            revoked_reason: key.revoked_reason,
        }
    }
}

/// A key that was just issued: the only view with the key itself in it.
#[derive(Serialize)]
pub struct IssuedKeyView<'a> {
    /// What is known about it.
    #[serde(flatten)]
    pub key: KeyView,
    /// The key.
    pub api_key: &'a str,
}
