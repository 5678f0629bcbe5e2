//! Changing keys.

use edge_protocol::{EventKind, Scope};
use jiff::Timestamp;
use key_policy::KeyId;
use serde::{Deserialize, Deserializer};
use std::collections::BTreeSet;
use utoipa::PartialSchema;

use super::{
    Key,
    difference::Difference,
    new_key::{
        DescriptionText, FieldError, LimitRequest, NameText, OwnerText,
        fields::{AskedFields, Fields, kept, time},
    },
    object,
};
use crate::{
    audit::{Actor, AuditEntry},
    clock::Clock,
    openapi::text::NetworkText,
    store::{RevokeGuard, Store, StoreError, Update, UpdateRequest},
};

/// How often a change that is to be made to any version is tried again when another one comes in
/// between. Each time somebody has got ahead, so this many in a row are no coincidence.
const MAX_ATTEMPTS: u32 = 5;

/// A field that must be there, though it may be null.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    Option::deserialize(deserializer)
}

/// All of a key that can be changed, as it shall be. Who reads one fills in what was left out from
/// the key as it is: a field that was forgotten must not lift a restriction without a word.
#[derive(Clone, Debug, PartialEq, Deserialize, utoipa::ToSchema)]
#[schema(as = KeyUpdate)]
#[serde(deny_unknown_fields)]
pub struct UpdateKeyRequest {
    /// What people call it.
    #[schema(required = false, schema_with = NameText::schema)]
    pub name: String,
    /// What it is for.
    #[serde(deserialize_with = "present")]
    #[schema(required = false, schema_with = DescriptionText::or_null)]
    pub description: Option<String>,
    /// Who it belongs to. Sent to the upstream as `x-keygate-owner`.
    #[serde(deserialize_with = "present")]
    #[schema(required = false, schema_with = OwnerText::or_null)]
    pub owner: Option<String>,
    /// What it may do.
    #[schema(required = false)]
    pub scope: Scope,
    /// Whether it can be used. A key that is switched off can be switched on again.
    #[schema(required = false)]
    pub is_active: bool,
    /// Addresses and networks it may be used from; none: from anywhere.
    #[schema(required = false, value_type = Vec<NetworkText>, max_items = 100)]
    pub allowed_ips: Vec<String>,
    /// Its own limit.
    #[serde(deserialize_with = "object::or_null")]
    #[schema(required = false)]
    pub rate_limit: Option<LimitRequest>,
    /// Whatever is to be kept with it: at most 4096 bytes as JSON.
    #[schema(required = false)]
    pub metadata: serde_json::Map<String, serde_json::Value>,
    /// When it ends; a time that has passed ends it at once.
    #[serde(deserialize_with = "present")]
    #[schema(required = false, format = DateTime, example = "2099-01-31T00:00:00Z")]
    pub expires_at: Option<String>,
}

/// A change that may be made: all its fields are as they must be.
#[derive(Clone, Debug, PartialEq)]
pub struct KeyUpdate {
    fields: Fields,
    is_active: bool,
    expires_at: Option<Timestamp>,
}

impl UpdateKeyRequest {
    /// What leaves a key as it is.
    #[must_use]
    pub fn unchanged(key: &Key) -> Self {
        Self {
            name: key.name.clone(),
            description: key.description.clone(),
            owner: key.owner.clone(),
            scope: key.scope,
            is_active: key.is_active,
            allowed_ips: key.allowed_ips.iter().map(ToString::to_string).collect(),
            rate_limit: key.rate_limit.map(LimitRequest::from),
            metadata: key.metadata.clone(),
            expires_at: key.expires_at.map(|end| end.to_string()),
        }
    }

    /// Checks all fields.
    ///
    /// # Errors
    /// Everything that is wrong, not only the first.
    pub fn check(self) -> Result<KeyUpdate, Vec<FieldError>> {
        let asked = AskedFields {
            name: self.name,
            description: self.description,
            owner: self.owner,
            scope: self.scope,
            allowed_ips: self.allowed_ips,
            rate_limit: self.rate_limit,
            metadata: self.metadata,
        };
        let mut errors = Vec::new();
        let fields = asked.check(&mut errors);
        let expires_at = kept(self.expires_at.as_deref().map(time), &mut errors);
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(KeyUpdate { fields, is_active: self.is_active, expires_at })
    }
}

impl KeyUpdate {
    fn of(self, before: &Key) -> Key {
        let Self { fields, is_active, expires_at } = self;
        let Fields { name, description, owner, scope, allowed_ips, rate_limit, metadata } = fields;
        Key {
            name,
            description,
            owner,
            scope,
            is_active,
            allowed_ips,
            rate_limit,
            metadata,
            expires_at,
            ..before.clone()
        }
    }
}

/// Which version of a key a change was decided on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Precondition {
    /// Any: it is to be made whatever has happened since.
    Any,
    /// One of these.
    OneOf(Vec<u64>),
}

impl Precondition {
    /// It in words: the same for the same versions, and for no others.
    #[must_use]
    pub fn text(&self) -> String {
        let Self::OneOf(versions) = self else { return "*".to_owned() };
        let versions: BTreeSet<_> = versions.iter().collect();
        let tags: Vec<_> = versions.into_iter().map(|version| format!("\"{version}\"")).collect();
        tags.concat()
    }

    /// Whether it is this version.
    #[must_use]
    pub fn holds(&self, version: u64) -> bool {
        match self {
            Self::Any => true,
            Self::OneOf(versions) => versions.contains(&version),
        }
    }

    /// The same, for what was worked out from this version.
    #[must_use]
    pub fn at(&self, version: u64) -> Self {
        if self.holds(version) { Self::OneOf(vec![version]) } else { self.clone() }
    }
}

/// Why a key was not changed.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    /// There is none.
    #[error("there is no such key")]
    NotFound,
    /// It is over for good.
    #[error("the key is revoked, which is for good; make another one")]
    Revoked,
    /// It is of another version.
    #[error("the key has been changed since: it is of version {0} now")]
    Outdated(u64),
    /// Another one has taken its place, so it may not end later than it does.
    #[error("the key {0} has taken its place, so it cannot end later; change that one")]
    Superseded(KeyId),
    /// It is the last usable admin key.
    #[error("it is the last usable admin key; make another admin key first")]
    LastAdmin,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn ends_later(before: &Key, after: &Key) -> bool {
    let Some(end) = before.expires_at else { return false };
    after.expires_at.is_none_or(|later| later > end)
}

/// Changes a key, with its audit entry. A change that changes nothing makes no new version and no
/// entry.
///
/// # Errors
/// As [`UpdateError`] says; nothing has been changed then.
pub async fn update(
    store: &dyn Store,
    clock: &dyn Clock,
    key_id: KeyId,
    update: KeyUpdate,
    expected: &Precondition,
    guard: RevokeGuard,
    by: &Actor,
) -> Result<Key, UpdateError> {
    let mut latest = 0;
    for _ in 0..MAX_ATTEMPTS {
        let before = store.key(key_id).await?.ok_or(UpdateError::NotFound)?;
        if before.revoked_at.is_some() {
            return Err(UpdateError::Revoked);
        }
        if !expected.holds(before.version) {
            return Err(UpdateError::Outdated(before.version));
        }
        let after = update.clone().of(&before);
        if after == before {
            return Ok(before);
        }
        if let Some(successor) = before.superseded_by
            && ends_later(&before, &after)
        {
            return Err(UpdateError::Superseded(successor));
        }
        let at = clock.now();
        let details = format!("version={} {}", before.version + 1, Difference(&before, &after));
        let audit = AuditEntry::by(by, EventKind::KeyUpdated, key_id, at, &details);
        let request = UpdateRequest { key: after, at, guard };
        match store.update_key(&request, &audit).await? {
            Update::Updated(key) => {
                audit.log();
                return Ok(key);
            }
            Update::LastAdmin => return Err(UpdateError::LastAdmin),
            // What it is by now decides.
            Update::Outdated => latest = before.version + 1,
        }
    }
    Err(UpdateError::Outdated(latest))
}
