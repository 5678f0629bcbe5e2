//! What someone asks for when they bring a key along.

use edge_protocol::{KeyEnvironment, Scope};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::PartialSchema;

use crate::{
    keys::{
        digest::{MAX_PRESENTED_BYTES, PresentedKey},
        key_text::KeyText,
        new_key::{
            DescriptionText, FieldError, LimitRequest, NameText, NewKey, NewKeyRequest, OwnerText,
        },
        object,
        revoke::{MAX_REASON_CHARS, reason},
    },
    openapi::text::{Line, NetworkText},
};

type ReasonText = Line<MAX_REASON_CHARS>;

/// Shorter texts would be found everywhere.
const MIN_TELLING_BYTES: usize = 8;

fn read() -> Scope {
    Scope::Read
}

fn live() -> KeyEnvironment {
    KeyEnvironment::Live
}

/// That a key is wanted though the policy refuses it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[schema(as = NewPolicyOverride)]
#[serde(deny_unknown_fields)]
pub struct OverrideRequest {
    /// Why. It stays with the key and in the audit log.
    #[schema(schema_with = ReasonText::schema)]
    pub reason: String,
}

/// A key that was made elsewhere, and what it is to be here.
#[derive(Clone, Deserialize, utoipa::ToSchema)]
#[schema(as = KeyToImport)]
#[serde(deny_unknown_fields)]
pub struct ImportRequest {
    /// The key. It is not stored.
    #[schema(schema_with = KeyText::verifiable)]
    pub api_key: KeyText,
    /// Takes a key that the policy refuses, where that can be overridden.
    #[serde(default, deserialize_with = "object::or_null")]
    pub policy_override: Option<OverrideRequest>,
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
    pub metadata: Option<Map<String, Value>>,
    /// When it ends; in the future.
    #[serde(default)]
    #[schema(format = DateTime, example = "2099-01-31T00:00:00Z")]
    pub expires_at: Option<String>,
}

/// A key that may be imported if the policy has nothing against it: all its fields are as they
/// must be.
pub struct ForeignKey {
    pub(super) new: NewKey,
    pub(super) key: PresentedKey,
    pub(super) override_reason: Option<String>,
}

impl ImportRequest {
    /// Checks all fields but the key's strength.
    ///
    /// # Errors
    /// Everything that is wrong, not only the first.
    pub fn check(self, now: Timestamp) -> Result<ForeignKey, Vec<FieldError>> {
        let mut errors = self.fields_with_the_key();
        let override_reason = match self.policy_override.as_ref().map(|it| reason(&it.reason)) {
            Some(Err(error)) => {
                errors.push(FieldError::new("policy_override.reason", error.to_string()));
                None
            }
            Some(Ok(reason)) => Some(reason),
            None => None,
        };
        let key = PresentedKey::new(self.api_key.expose());
        if key.is_none() {
            let message = format!("must be 1 to {MAX_PRESENTED_BYTES} bytes");
            errors.push(FieldError::new("api_key", message));
        }
        let new = NewKeyRequest {
            name: self.name,
            description: self.description,
            owner: self.owner,
            scope: self.scope,
            environment: self.environment,
            allowed_ips: self.allowed_ips,
            rate_limit: self.rate_limit,
            metadata: self.metadata,
            expires_at: self.expires_at,
        };
        match (new.check(now), key) {
            (Ok(new), Some(key)) if errors.is_empty() => {
                Ok(ForeignKey { new, key, override_reason })
            }
            (Err(more), _) => Err([errors, more].concat()),
            (Ok(_), _) => Err(errors),
        }
    }

    /// The other fields are shown to everybody who may look at keys, so none may hold this one.
    fn fields_with_the_key(&self) -> Vec<FieldError> {
        if self.api_key.expose().len() < MIN_TELLING_BYTES {
            return Vec::new();
        }
        let is_in = |text: &Option<String>| text.as_ref().is_some_and(|it| self.api_key.is_in(it));
        let reason = self.policy_override.as_ref().map(|it| it.reason.clone());
        let metadata = self.metadata.as_ref();
        [
            ("name", self.api_key.is_in(&self.name)),
            ("description", is_in(&self.description)),
            ("owner", is_in(&self.owner)),
            ("policy_override.reason", is_in(&reason)),
            ("metadata", metadata.is_some_and(|map| self.is_in_object(map))),
        ]
        .into_iter()
        .filter(|(_, found)| *found)
        .map(|(field, _)| FieldError::new(field, "must not hold the key"))
        .collect()
    }

    fn is_in_object(&self, object: &Map<String, Value>) -> bool {
        object.iter().any(|(name, value)| self.api_key.is_in(name) || self.is_in_value(value))
    }

    /// As deep as the parser lets values be.
    fn is_in_value(&self, value: &Value) -> bool {
        match value {
            Value::String(text) => self.api_key.is_in(text),
            Value::Array(items) => items.iter().any(|item| self.is_in_value(item)),
            Value::Object(object) => self.is_in_object(object),
            Value::Null | Value::Bool(_) | Value::Number(_) => false,
        }
    }
}
