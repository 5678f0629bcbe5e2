//! What someone asks for when they ask for a key, and whether they may have it.

pub(super) mod fields;

use edge_protocol::{Algorithm, KeyEnvironment, KeyLimit, OnOutage, Reach, Scope};
use jiff::Timestamp;
use key_policy::KeyId;
use serde::Deserialize;
use utoipa::{
    PartialSchema,
    openapi::{ObjectBuilder, Schema, Type},
};

pub(crate) use self::fields::owner as check_owner;
use self::fields::{AskedFields, Fields, future, kept};
use super::{Key, object, whole_number};
use crate::openapi::text::{Line, NetworkText, Owner, Text};

/// The longest window: every limit starts anew within a month.
pub(crate) const MAX_WINDOW_SECONDS: u32 = 86_400 * 31;
pub(crate) const MAX_REQUESTS: u32 = 1_000_000_000;
const MAX_NAME_CHARS: usize = 100;
const MAX_DESCRIPTION_CHARS: usize = 1000;
/// It travels in a header.
const MAX_OWNER_CHARS: usize = 128;
pub(crate) const MAX_METADATA_BYTES: usize = 4096;
/// Each is compared on every request.
pub(crate) const MAX_ALLOWED_IPS: usize = 100;

// As the API's description has them.
pub(super) type NameText = Line<MAX_NAME_CHARS>;
pub(super) type DescriptionText = Text<MAX_DESCRIPTION_CHARS>;
pub(crate) type OwnerText = Owner<MAX_OWNER_CHARS>;

/// What is wrong with a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// Which one, by its name; parts of it after dots: `rate_limit.requests`.
    pub field: String,
    /// What was expected.
    pub message: String,
}

impl FieldError {
    pub(super) fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        Self { field: field.into(), message: message.into() }
    }
}

/// A key's limit, as asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[schema(as = NewRateLimit)]
#[serde(deny_unknown_fields)]
pub struct LimitRequest {
    /// Requests in a window.
    #[serde(deserialize_with = "whole_number::deserialize")]
    #[schema(minimum = 1, maximum = 1_000_000_000, example = 1000)]
    pub requests: u32,
    /// The window's length in seconds, at most 31 days.
    #[serde(deserialize_with = "whole_number::deserialize")]
    #[schema(minimum = 1, maximum = 2_678_400, example = 60)]
    pub window_seconds: u32,
    /// How it counts.
    #[serde(default)]
    #[schema(schema_with = fixed_window)]
    pub algorithm: Algorithm,
    /// Over what it counts.
    #[serde(default)]
    #[schema(schema_with = within_envoy)]
    pub reach: Reach,
    /// What it answers when its counts cannot be had.
    #[serde(default)]
    pub on_outage: OnOutage,
}

impl From<KeyLimit> for LimitRequest {
    fn from(limit: KeyLimit) -> Self {
        let KeyLimit { requests, window_seconds, algorithm, reach, on_outage } = limit;
        Self { requests, window_seconds, algorithm, reach, on_outage }
    }
}

/// What this version supports of what the protocol knows.
fn only(value: &'static str) -> Schema {
    let values = ObjectBuilder::new().schema_type(Type::String).enum_values(Some([value]));
    values.default(Some(value.into())).build().into()
}

fn fixed_window() -> Schema {
    only("fixed_window")
}

fn within_envoy() -> Schema {
    only("envoy")
}

fn read() -> Scope {
    Scope::Read
}

fn live() -> KeyEnvironment {
    KeyEnvironment::Live
}

/// A key, as asked for.
#[derive(Clone, Debug, PartialEq, Deserialize, utoipa::ToSchema)]
#[schema(as = NewKey)]
#[serde(deny_unknown_fields)]
pub struct NewKeyRequest {
    /// What people call it.
    #[schema(schema_with = NameText::schema)]
    pub name: String,
    /// What it is for.
    #[serde(default)]
    #[schema(schema_with = DescriptionText::or_null)]
    pub description: Option<String>,
    /// Who it belongs to. Sent to the upstream as `x-keygate-owner`.
    #[serde(default)]
    #[schema(schema_with = OwnerText::or_null)]
    pub owner: Option<String>,
    /// What it may do.
    #[serde(default = "read")]
    #[schema(default = "read")]
    pub scope: Scope,
    /// Which traffic it is for.
    #[serde(default = "live")]
    #[schema(default = "live")]
    pub environment: KeyEnvironment,
    /// Addresses and networks it may be used from; none: from anywhere.
    #[serde(default)]
    #[schema(value_type = Option<Vec<NetworkText>>, max_items = 100)]
    pub allowed_ips: Option<Vec<String>>,
    /// Its own limit.
    #[serde(default, deserialize_with = "object::or_null")]
    pub rate_limit: Option<LimitRequest>,
    /// Whatever is to be kept with it: at most 4096 bytes as JSON.
    #[serde(default)]
    pub metadata: Option<serde_json::Map<String, serde_json::Value>>,
    /// When it ends; in the future.
    #[serde(default)]
    #[schema(format = DateTime, example = "2099-01-31T00:00:00Z")]
    pub expires_at: Option<String>,
}

/// A key that may be issued: all its fields are as they must be.
#[derive(Clone, Debug, PartialEq)]
pub struct NewKey {
    pub(super) fields: Fields,
    pub(super) environment: KeyEnvironment,
    pub(super) expires_at: Option<Timestamp>,
}

impl NewKeyRequest {
    /// Checks all fields.
    ///
    /// # Errors
    /// Everything that is wrong, not only the first.
    pub fn check(self, now: Timestamp) -> Result<NewKey, Vec<FieldError>> {
        let asked = AskedFields {
            name: self.name,
            description: self.description,
            owner: self.owner,
            scope: self.scope,
            allowed_ips: self.allowed_ips.unwrap_or_default(),
            rate_limit: self.rate_limit,
            metadata: self.metadata.unwrap_or_default(),
        };
        let mut errors = Vec::new();
        let fields = asked.check(&mut errors);
        let expires_at = kept(self.expires_at.map(|text| future(&text, now)), &mut errors);
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(NewKey { fields, environment: self.environment, expires_at })
    }
}

impl NewKey {
    /// The key, once it has a name and a birthday.
    #[must_use]
    pub(super) fn into_key(self, key_id: KeyId, created_at: Timestamp) -> Key {
        let Fields { name, description, owner, scope, allowed_ips, rate_limit, metadata } =
            self.fields;
        Key {
            key_id,
            name,
            description,
            owner,
            scope,
            environment: self.environment,
            is_active: true,
            allowed_ips,
            rate_limit,
            metadata,
            created_at,
            expires_at: self.expires_at,
            last_used_at: None,
            revoked_at: None,
            revoked_reason: None,
            version: 1,
            supersedes: None,
            superseded_by: None,
            rotated_at: None,
            policy_override: None,
        }
    }
}

#[cfg(test)]
mod tests;
