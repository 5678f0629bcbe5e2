//! What the control plane tells a filter about a key.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// A name that is none of the expected ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownName {
    /// The names that would have been accepted.
    pub expected: &'static str,
}

impl fmt::Display for UnknownName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {}", self.expected)
    }
}

impl std::error::Error for UnknownName {}

/// What a key may do. Each scope includes the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Look, but change nothing.
    Read,
    /// Change things.
    Write,
    /// Administer, the keys among them.
    Admin,
}

impl Scope {
    /// The name as it is configured, stored and sent to the upstream.
    #[inline]
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Admin => "admin",
        }
    }

    /// Whether a key of this scope may do what needs `needed`.
    #[inline]
    #[must_use]
    pub fn includes(self, needed: Self) -> bool {
        self >= needed
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Scope {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        [Self::Read, Self::Write, Self::Admin]
            .into_iter()
            .find(|s| s.as_str() == name)
            .ok_or(UnknownName { expected: "read, write or admin" })
    }
}

/// Which traffic a key is meant for. It is part of the key's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum KeyEnvironment {
    /// Real traffic.
    Live,
    /// Tests; refused in production.
    Test,
}

impl KeyEnvironment {
    /// The name as it stands in the key.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Test => "test",
        }
    }
}

impl FromStr for KeyEnvironment {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        [Self::Live, Self::Test]
            .into_iter()
            .find(|e| e.as_str() == name)
            .ok_or(UnknownName { expected: "live or test" })
    }
}

/// How a limit counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Algorithm {
    /// So many requests in each window; windows start at multiples of their length since the
    /// Unix epoch.
    #[default]
    FixedWindow,
    /// So many requests in any window, wherever it begins. What came is forgotten up to a 32nd of
    /// the window late.
    SlidingWindow,
    /// A bucket that holds so many and gets as many in each window's time, steadily (GCRA).
    TokenBucket,
}

/// Over what a limit counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum Reach {
    /// All workers of one Envoy.
    #[default]
    Envoy,
    /// All Envoys whose control planes share a Redis, or that share a control plane.
    Fleet,
}

/// What a limit answers when its counts cannot be had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
pub enum OnOutage {
    /// Refuse.
    #[default]
    Deny,
    /// Let pass.
    Allow,
}

/// A key's own limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyLimit {
    /// Requests in a window, at least 1.
    pub requests: u32,
    /// The window's length in seconds, at least 1.
    pub window_seconds: u32,
    /// How the limit counts.
    #[serde(default)]
    pub algorithm: Algorithm,
    /// Over what it counts.
    #[serde(default)]
    pub reach: Reach,
    /// What it answers when its counts cannot be had.
    #[serde(default)]
    pub on_outage: OnOutage,
}

/// What a filter needs to decide on a key's requests. It holds no secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRecord {
    /// The key's public name: 16 lower-case hex digits.
    pub key_id: String,
    /// Who the key belongs to; printable ASCII, at most 128 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// What the key may do.
    pub scope: Scope,
    /// Which traffic the key is meant for.
    pub environment: KeyEnvironment,
    /// False once the key has been revoked or switched off.
    pub is_active: bool,
    /// When the key ends, in milliseconds since the Unix epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at_ms: Option<u64>,
    /// Networks the key may be used from; empty: from anywhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_ips: Vec<IpNet>,
    /// The key's own limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limit: Option<KeyLimit>,
}
