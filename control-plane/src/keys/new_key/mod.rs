//! What someone asks for when they ask for a key, and whether they may have it.

use edge_protocol::{Algorithm, KeyEnvironment, KeyLimit, OnOutage, Reach, Scope};
use ipnet::IpNet;
use jiff::Timestamp;
use key_policy::KeyId;
use serde::Deserialize;
use std::net::IpAddr;
use utoipa::{
    PartialSchema,
    openapi::{ObjectBuilder, Schema, Type},
};

use super::{Key, whole_number};
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
type NameText = Line<MAX_NAME_CHARS>;
type DescriptionText = Text<MAX_DESCRIPTION_CHARS>;
type OwnerText = Owner<MAX_OWNER_CHARS>;

/// What is wrong with a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// Which one, by its name; parts of it after dots: `rate_limit.requests`.
    pub field: String,
    /// What was expected.
    pub message: String,
}

impl FieldError {
    fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
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
    #[serde(default)]
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
    name: String,
    description: Option<String>,
    owner: Option<String>,
    pub(super) scope: Scope,
    pub(super) environment: KeyEnvironment,
    allowed_ips: Vec<IpNet>,
    rate_limit: Option<KeyLimit>,
    metadata: serde_json::Map<String, serde_json::Value>,
    expires_at: Option<Timestamp>,
}

impl NewKeyRequest {
    /// Checks all fields.
    ///
    /// # Errors
    /// Everything that is wrong, not only the first.
    pub fn check(self, now: Timestamp) -> Result<NewKey, Vec<FieldError>> {
        let mut errors = Vec::new();
        let mut keep = |result: Result<(), FieldError>| errors.extend(result.err());

        let name = self.name.trim().to_owned();
        keep(text("name", &name, MAX_NAME_CHARS));
        keep(
            self.description
                .as_deref()
                .map_or(Ok(()), |it| text("description", it, MAX_DESCRIPTION_CHARS)),
        );
        keep(self.owner.as_deref().map_or(Ok(()), owner));
        keep(metadata(self.metadata.as_ref()));
        let rate_limit = self.rate_limit.map(|limit| KeyLimit {
            requests: limit.requests,
            window_seconds: limit.window_seconds,
            algorithm: limit.algorithm,
            reach: limit.reach,
            on_outage: limit.on_outage,
        });
        errors.extend(rate_limit.iter().flat_map(limit_errors));
        let allowed_ips = networks(&self.allowed_ips.unwrap_or_default(), &mut errors);
        let expires_at = self.expires_at.and_then(|text| match expiry(&text, now) {
            Ok(end) => Some(end),
            Err(error) => {
                errors.push(error);
                None
            }
        });

        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(NewKey {
            name,
            description: self.description,
            owner: self.owner,
            scope: self.scope,
            environment: self.environment,
            allowed_ips,
            rate_limit,
            metadata: self.metadata.unwrap_or_default(),
            expires_at,
        })
    }
}

impl NewKey {
    /// The key, once it has a name and a birthday.
    #[must_use]
    pub(super) fn into_key(self, key_id: KeyId, created_at: Timestamp) -> Key {
        Key {
            key_id,
            name: self.name,
            description: self.description,
            owner: self.owner,
            scope: self.scope,
            environment: self.environment,
            is_active: true,
            allowed_ips: self.allowed_ips,
            rate_limit: self.rate_limit,
            metadata: self.metadata,
            created_at,
            expires_at: self.expires_at,
            last_used_at: None,
            revoked_at: None,
            revoked_reason: None,
        }
    }
}

fn text(field: &str, value: &str, max_chars: usize) -> Result<(), FieldError> {
    let fits = (1..=max_chars).contains(&value.chars().count());
    if fits && !value.chars().any(char::is_control) {
        Ok(())
    } else {
        Err(FieldError::new(
            field,
            format!("must be 1 to {max_chars} characters, without control characters"),
        ))
    }
}

/// It is sent to the upstream as a header's value, so it must survive as one.
fn owner(value: &str) -> Result<(), FieldError> {
    let printable = value.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    let fits = (1..=MAX_OWNER_CHARS).contains(&value.len());
    if printable && fits && value.trim() == value {
        Ok(())
    } else {
        Err(FieldError::new(
            "owner",
            format!(
                "must be 1 to {MAX_OWNER_CHARS} printable ASCII characters, without spaces at the ends"
            ),
        ))
    }
}

fn metadata(value: Option<&serde_json::Map<String, serde_json::Value>>) -> Result<(), FieldError> {
    let bytes = value
        .map(serde_json::to_vec)
        .transpose()
        .map_or(usize::MAX, |text| text.map_or(0, |it| it.len()));
    if bytes <= MAX_METADATA_BYTES {
        Ok(())
    } else {
        Err(FieldError::new(
            "metadata",
            format!("must take at most {MAX_METADATA_BYTES} bytes as JSON"),
        ))
    }
}

fn limit_errors(limit: &KeyLimit) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if !(1..=MAX_REQUESTS).contains(&limit.requests) {
        errors.push(FieldError::new("rate_limit.requests", format!("must be 1 to {MAX_REQUESTS}")));
    }
    if !(1..=MAX_WINDOW_SECONDS).contains(&limit.window_seconds) {
        errors.push(FieldError::new(
            "rate_limit.window_seconds",
            format!("must be 1 to {MAX_WINDOW_SECONDS}"),
        ));
    }
    if limit.algorithm != Algorithm::FixedWindow {
        errors.push(FieldError::new(
            "rate_limit.algorithm",
            "this version supports only fixed_window",
        ));
    }
    if limit.reach != Reach::Envoy {
        errors.push(FieldError::new("rate_limit.reach", "this version supports only envoy"));
    }
    errors
}

/// Reads addresses and networks. An address is a network of its own; host bits are cleared, so
/// that what is stored is what is meant.
fn networks(texts: &[String], errors: &mut Vec<FieldError>) -> Vec<IpNet> {
    if texts.len() > MAX_ALLOWED_IPS {
        errors.push(FieldError::new(
            "allowed_ips",
            format!("must be at most {MAX_ALLOWED_IPS} entries"),
        ));
        return Vec::new();
    }
    let mut networks: Vec<IpNet> = Vec::with_capacity(texts.len());
    for (index, text) in texts.iter().enumerate() {
        match network(text) {
            Some(net) if networks.contains(&net) => {}
            Some(net) => networks.push(net),
            None => errors.push(FieldError::new(
                format!("allowed_ips[{index}]"),
                "must be an IP address or a network such as 10.0.0.0/8 or 2001:db8::/32",
            )),
        }
    }
    networks
}

fn network(text: &str) -> Option<IpNet> {
    let net = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address),
        Err(_) => text.parse().ok()?,
    };
    // Clients are matched by their IPv4 address when they have one, so an IPv4-mapped network
    // must be one of IPv4.
    if let IpNet::V6(six) = net
        && let Some(four) = six.addr().to_ipv4_mapped()
        && let Some(prefix) = six.prefix_len().checked_sub(96)
    {
        return ipnet::Ipv4Net::new(four, prefix).ok().map(|net| IpNet::V4(net.trunc()));
    }
    Some(net.trunc())
}

fn expiry(text: &str, now: Timestamp) -> Result<Timestamp, FieldError> {
    let end: Timestamp = text.parse().map_err(|_| {
        FieldError::new("expires_at", "must be an RFC 3339 time such as 2027-01-31T00:00:00Z")
    })?;
    if end <= now {
        return Err(FieldError::new("expires_at", "must be in the future"));
    }
    // Whole milliseconds, as it is stored.
    Timestamp::from_millisecond(end.as_millisecond())
        .map_err(|_| FieldError::new("expires_at", "is too far away"))
}

#[cfg(test)]
mod tests;
