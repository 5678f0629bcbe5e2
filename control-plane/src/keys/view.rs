//! A key as the API and the command line show it.

use edge_protocol::{Algorithm, KeyEnvironment, KeyLimit, OnOutage, Reach, Scope};
use ipnet::IpNet;
use jiff::Timestamp;
use serde::Serialize;

use super::{Key, import::PolicyOverride};
use crate::openapi::text::{KeyIdText, NetworkText};

/// A key's limit; what is as usual is left out.
#[derive(Clone, Copy, Debug, Serialize, utoipa::ToSchema)]
#[schema(as = RateLimit)]
pub struct LimitView {
    /// Requests in a window.
    requests: u32,
    /// The window's length in seconds.
    window_seconds: u32,
    /// `fixed_window` when it is left out.
    #[serde(skip_serializing_if = "is_usual")]
    algorithm: Algorithm,
    /// `envoy` when it is left out.
    #[serde(skip_serializing_if = "is_usual")]
    reach: Reach,
    /// `deny` when it is left out.
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
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Key)]
pub struct KeyView {
    #[schema(value_type = KeyIdText)]
    key_id: String,
    /// What people call it.
    #[schema(example = "billing service")]
    name: String,
    /// What it is for.
    #[schema(required)]
    description: Option<String>,
    /// Who it belongs to; sent to the upstream.
    #[schema(required, example = "team-billing")]
    owner: Option<String>,
    scope: Scope,
    environment: KeyEnvironment,
    /// False when it is switched off, and once it is revoked.
    is_active: bool,
    /// Networks it may be used from; empty: from anywhere.
    #[schema(value_type = Vec<NetworkText>)]
    allowed_ips: Vec<IpNet>,
    #[schema(required)]
    rate_limit: Option<LimitView>,
    /// Whatever its owner keeps with it.
    metadata: serde_json::Map<String, serde_json::Value>,
    /// When it was made.
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// When it ends by itself.
    #[schema(required, value_type = Option<String>, format = DateTime)]
    expires_at: Option<Timestamp>,
    /// When it was last used, to within a minute or so.
    #[schema(required, value_type = Option<String>, format = DateTime)]
    last_used_at: Option<Timestamp>,
    /// When it was revoked.
    #[schema(required, value_type = Option<String>, format = DateTime)]
    revoked_at: Option<Timestamp>,
    /// Why it was revoked.
    #[schema(required)]
    revoked_reason: Option<String>,
    /// Counts the states of this record; `ETag` has it too. That a key is used makes no new one.
    #[schema(minimum = 1)]
    version: u64,
    /// The key whose place it has taken by rotation.
    #[schema(required, value_type = Option<KeyIdText>)]
    supersedes: Option<String>,
    /// The key that has taken its place by rotation.
    #[schema(required, value_type = Option<KeyIdText>)]
    superseded_by: Option<String>,
    /// When its place was taken.
    #[schema(required, value_type = Option<String>, format = DateTime)]
    rotated_at: Option<Timestamp>,
    /// That it was imported though the policy refuses it.
    #[schema(required)]
    policy_override: Option<PolicyOverride>,
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
            version: key.version,
            supersedes: key.supersedes.map(|it| it.to_string()),
            superseded_by: key.superseded_by.map(|it| it.to_string()),
            rotated_at: key.rotated_at,
            policy_override: key.policy_override,
        }
    }
}

/// A key that was just issued, in the place of another one.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = RotatedKey)]
pub struct RotatedKeyView<'a> {
    /// The new key.
    #[serde(flatten)]
    pub issued: IssuedKeyView<'a>,
    /// The key whose place it takes, and which works until its `expires_at`.
    pub superseded: KeyView,
}

/// A key that was just issued: the only view with the key itself in it.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = IssuedKey)]
pub struct IssuedKeyView<'a> {
    /// What is known about it.
    #[serde(flatten)]
    pub key: KeyView,
    /// The key. It is shown now, and never again.
    #[schema(min_length = 32, max_length = 256)]
    pub api_key: &'a str,
}
