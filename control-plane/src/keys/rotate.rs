//! Rotating keys: another one takes a key's place, and for a while both work.

use edge_protocol::EventKind;
use jiff::{SignedDuration, Timestamp};
use key_policy::KeyId;
use serde::{Deserialize, Deserializer};

use super::{
    Key,
    issue::{IssueError, IssuedKey, Issuer, entry},
    new_key::{
        FieldError,
        fields::{future, kept},
    },
    state::KeyState,
    update::Precondition,
    whole_number,
};
use crate::{
    audit::{Actor, AuditEntry},
    store::{
        RevokeGuard, RotateRequest, Rotation, StoreError,
        once::{Claim, MadeRequest},
    },
};

/// A day: time for a deployment to take up the new key.
pub const DEFAULT_OVERLAP_SECONDS: u32 = 86_400;
/// 90 days. A key that is to work for longer is not rotated but one of two.
pub const MAX_OVERLAP_SECONDS: u32 = 90 * 86_400;
/// How often it is tried again when the key is changed in between.
const MAX_ATTEMPTS: u32 = 3;

fn default_overlap() -> u32 {
    DEFAULT_OVERLAP_SECONDS
}

/// When the new key ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NewEnd<T> {
    /// When the old one would have.
    #[default]
    AsBefore,
    /// Not by itself.
    Never,
    /// Then.
    At(T),
}

/// Tells a field that is null from one that is not there.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<NewEnd<String>, D::Error> {
    let end = Option::deserialize(deserializer)?;
    Ok(end.map_or(NewEnd::Never, NewEnd::At))
}

/// How a key is rotated, as asked for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[schema(as = KeyRotation)]
#[serde(deny_unknown_fields)]
pub struct RotateKeyRequest {
    /// For how long both keys work, in seconds; 0: the old one ends at once. It never ends later
    /// than it would have anyway.
    #[serde(default = "default_overlap", deserialize_with = "whole_number::deserialize")]
    #[schema(minimum = 0, maximum = 7_776_000, default = 86_400)]
    pub overlap_seconds: u32,
    /// When the new key ends, in the future; null: never. When it is left out: as the old one
    /// would have.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>, format = DateTime, example = "2099-01-31T00:00:00Z")]
    pub expires_at: NewEnd<String>,
}

impl Default for RotateKeyRequest {
    fn default() -> Self {
        Self { overlap_seconds: DEFAULT_OVERLAP_SECONDS, expires_at: NewEnd::AsBefore }
    }
}

/// How a key is rotated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RotationTerms {
    overlap_seconds: u32,
    expires_at: NewEnd<Timestamp>,
}

impl RotateKeyRequest {
    /// Checks all fields.
    ///
    /// # Errors
    /// Everything that is wrong, not only the first.
    pub fn check(self, now: Timestamp) -> Result<RotationTerms, Vec<FieldError>> {
        let mut errors = Vec::new();
        if self.overlap_seconds > MAX_OVERLAP_SECONDS {
            let expected = format!("must be 0 to {MAX_OVERLAP_SECONDS}");
            errors.push(FieldError::new("overlap_seconds", expected));
        }
        let expires_at = match self.expires_at {
            NewEnd::AsBefore => NewEnd::AsBefore,
            NewEnd::Never => NewEnd::Never,
            NewEnd::At(text) => {
                kept(Some(future(&text, now)), &mut errors).map_or(NewEnd::Never, NewEnd::At)
            }
        };
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(RotationTerms { overlap_seconds: self.overlap_seconds, expires_at })
    }
}

impl RotationTerms {
    /// When the old key ends.
    fn end_of(&self, old: &Key, now: Timestamp) -> Timestamp {
        let overlap = SignedDuration::from_secs(self.overlap_seconds.into());
        let end = now.saturating_add(overlap).unwrap_or(Timestamp::MAX);
        old.expires_at.map_or(end, |before| before.min(end))
    }

    /// The new key: everything of the old one, but what has happened to it.
    fn successor(&self, old: &Key, key_id: KeyId, created_at: Timestamp) -> Key {
        Key {
            key_id,
            created_at,
            expires_at: match self.expires_at {
                NewEnd::AsBefore => old.expires_at,
                NewEnd::Never => None,
                NewEnd::At(end) => Some(end),
            },
            last_used_at: None,
            version: 1,
            supersedes: Some(old.key_id),
            superseded_by: None,
            rotated_at: None,
            // It is one of ours, and passes.
            policy_override: None,
            ..old.clone()
        }
    }
}

/// Why a key was not rotated.
#[derive(Debug, thiserror::Error)]
pub enum RotateError {
    /// There is none.
    #[error("there is no such key")]
    NotFound,
    /// It cannot be used, so no other can take its place.
    #[error("the key is {0}; only an active key can be rotated")]
    NotActive(KeyState),
    /// Another one has taken its place already.
    #[error("the key {0} has taken its place already; rotate that one")]
    Superseded(KeyId),
    /// It is of another version.
    #[error("the key has been changed since: it is of version {0} now")]
    Outdated(u64),
    /// It is the last usable admin key, and would end at once.
    #[error(
        "it is the last usable admin key; give it an overlap, so that it is there until the new one is known to work"
    )]
    LastAdmin,
    /// The request that was to be made once was made before.
    #[error("the same request has made the key {} before", .0.key_id)]
    MadeBefore(MadeRequest),
    /// No key could be made.
    #[error(transparent)]
    Issue(#[from] IssueError),
}

impl From<StoreError> for RotateError {
    fn from(error: StoreError) -> Self {
        Self::Issue(error.into())
    }
}

/// A key that was rotated.
#[derive(Debug)]
pub struct RotatedKey {
    /// The key that takes its place.
    pub issued: IssuedKey,
    /// The key whose place is taken, as it is now.
    pub superseded: Key,
}

/// Makes a key that takes another one's place, with an audit entry about each. With a claim it is
/// made once, however often the request is sent.
///
/// # Errors
/// As [`RotateError`] says; nothing has been changed then.
pub async fn rotate(
    issuer: &Issuer,
    key_id: KeyId,
    terms: &RotationTerms,
    expected: &Precondition,
    guard: RevokeGuard,
    by: &Actor,
    claim: Option<&Claim>,
) -> Result<RotatedKey, RotateError> {
    let mut latest = 0;
    for _ in 0..MAX_ATTEMPTS {
        let old = issuer.store.key(key_id).await?.ok_or(RotateError::NotFound)?;
        if let Err(refused) = rotatable(&old, expected, issuer.clock.now()) {
            return Err(made_meanwhile(issuer, claim)
                .await?
                .map_or(refused, RotateError::MadeBefore));
        }
        let drawn = issuer.draw(old.environment).await?;
        let now = issuer.clock.now();
        let new = terms.successor(&old, drawn.key_id, now);
        let ends_at = terms.end_of(&old, now);
        let details = format!(
            "superseded_by={} overlap_seconds={} ends_at={ends_at}",
            new.key_id, terms.overlap_seconds
        );
        let audit = [
            AuditEntry::by(by, EventKind::KeyRotated, key_id, now, &details),
            entry(&new, by, now).with_key_hash(Some(drawn.key_hash.clone())),
        ];
        let (successor, api_key) = drawn.of(new);
        let (version, claim) = (old.version, claim.copied());
        let request = RotateRequest { key_id, version, successor, ends_at, guard, claim };
        match issuer.store.rotate_key(&request, &audit).await? {
            Rotation::Rotated(superseded) => {
                audit.iter().for_each(AuditEntry::log);
                let successor = IssuedKey { key: request.successor.key, api_key };
                return Ok(RotatedKey { issued: successor, superseded });
            }
            Rotation::LastAdmin => return Err(RotateError::LastAdmin),
            Rotation::MadeBefore(made) => return Err(RotateError::MadeBefore(made)),
            // What it is by now decides.
            Rotation::Outdated => latest = old.version + 1,
        }
    }
    Err(RotateError::Outdated(latest))
}

/// What the same request made elsewhere since its turn began here: it may be why the key cannot be
/// rotated any more.
async fn made_meanwhile(
    issuer: &Issuer,
    claim: Option<&Claim>,
) -> Result<Option<MadeRequest>, StoreError> {
    match claim {
        Some(claim) => issuer.store.made_request(&claim.name, claim.forgotten_before).await,
        None => Ok(None),
    }
}

fn rotatable(old: &Key, expected: &Precondition, now: Timestamp) -> Result<(), RotateError> {
    if let Some(successor) = old.superseded_by {
        return Err(RotateError::Superseded(successor));
    }
    match old.state(now) {
        KeyState::Active if expected.holds(old.version) => Ok(()),
        KeyState::Active => Err(RotateError::Outdated(old.version)),
        state => Err(RotateError::NotActive(state)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{START, at, request};

    fn terms(json: &str) -> Result<RotationTerms, Vec<FieldError>> {
        serde_json::from_str::<RotateKeyRequest>(json).expect("a request").check(at(START))
    }

    #[test]
    fn the_old_key_never_ends_later_than_it_would_have() {
        let end = |json: &str, expires_at: Option<&str>| {
            let mut new = request("a").check(at(START)).expect("valid");
            new.expires_at = expires_at.map(at);
            let old = new.into_key(KeyId::from_u64(1), at(START));
            terms(json).expect("terms").end_of(&old, at(START)).to_string()
        };
        assert_eq!(end("{}", None), "2026-11-26T12:00:00Z");
        assert_eq!(end(r#"{"overlap_seconds": 0}"#, None), "2026-11-25T12:00:00Z");
        assert_eq!(end(r#"{"overlap_seconds": 60}"#, None), "2026-11-25T12:01:00Z");
        let soon = Some("2026-11-25T13:00:00Z");
        assert_eq!(end("{}", soon), "2026-11-25T13:00:00Z");
        assert_eq!(end(r#"{"overlap_seconds": 60}"#, soon), "2026-11-25T12:01:00Z");
    }

    #[test]
    fn terms_are_within_bounds_and_an_expiry_left_out_is_not_one_of_null() {
        assert!(terms(r#"{"overlap_seconds": 7776000}"#).is_ok());
        let wrong = terms(r#"{"overlap_seconds": 7776001, "expires_at": "2020-01-01T00:00:00Z"}"#);
        let wrong = wrong.expect_err("out of bounds");
        let fields: Vec<_> = wrong.iter().map(|error| error.field.as_str()).collect();
        assert_eq!(fields, ["overlap_seconds", "expires_at"]);
        assert_eq!(terms("{}").expect("terms").expires_at, NewEnd::AsBefore);
        let never = terms(r#"{"expires_at": null}"#).expect("terms");
        assert_eq!(never.expires_at, NewEnd::Never);
        assert_eq!(terms("{}"), RotateKeyRequest::default().check(at(START)));
    }
}
