//! Rows of `api_keys`, there and back, and what all reading of rows is made of. The backends write
//! their own SQL; what comes back has the same columns, and is read by the same code.

mod cells;

pub(super) use cells::Cells;

use jiff::Timestamp;
use key_policy::KeyId;
use std::{collections::HashMap, fmt::Display, str::FromStr};

use super::{Lookup, StoreError, pools::KeyCounts};
use crate::keys::{
    Key, StoredKey,
    digest::SecretName,
    hashing::{HashAlgorithm, HashRecipe, SecretHash},
};
use edge_protocol::Position;

/// The columns that [`key`] reads, named as it expects them.
macro_rules! key_columns {
    () => {
        "key_id, name, description, owner, scope, environment, is_active, allowed_ips, rate_limit, \
         metadata, created_at_ms, expires_at_ms, last_used_at_ms, revoked_at_ms, revoked_reason, \
         version, supersedes, superseded_by, rotated_at_ms, policy_override"
    };
}
pub(super) use key_columns;

/// How many keys there are: active, inactive, expired, revoked, and ending soon.
pub(super) fn key_counts(counts: (i64, i64, i64, i64, i64)) -> Result<KeyCounts, StoreError> {
    let (active, inactive, expired, revoked, ending) = counts;
    let count = |value| unsigned(value, "count");
    Ok(KeyCounts {
        active: count(active)?,
        inactive: count(inactive)?,
        expired: count(expired)?,
        revoked: count(revoked)?,
        ending: count(ending)?,
    })
}

pub(super) fn unsigned<T: TryFrom<i64>>(value: i64, column: &str) -> Result<T, StoreError> {
    T::try_from(value).map_err(|_| StoreError::Corrupt(format!("{column} = {value}")))
}

pub(super) fn signed(value: u64, what: &str) -> Result<i64, StoreError> {
    i64::try_from(value)
        .map_err(|_| StoreError::Corrupt(format!("{what} = {value} is too great to store")))
}

pub(super) fn time(millis: i64, column: &str) -> Result<Timestamp, StoreError> {
    Timestamp::from_millisecond(millis)
        .map_err(|_| StoreError::Corrupt(format!("{column} = {millis}")))
}

pub(super) fn parse<T: FromStr<Err: Display>>(text: &str, column: &str) -> Result<T, StoreError> {
    text.parse().map_err(|error| StoreError::Corrupt(format!("{column}: {error}")))
}

/// A value as the JSON text that a column holds.
pub(super) fn to_json<T: serde::Serialize>(value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Corrupt(error.to_string()))
}

fn json<T: serde::de::DeserializeOwned>(text: &str, column: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::Corrupt(format!("{column}: {error}")))
}

pub(super) fn optional_time(
    row: &impl Cells,
    column: &str,
) -> Result<Option<Timestamp>, StoreError> {
    row.optional_integer(column)?.map(|millis| time(millis, column)).transpose()
}

fn optional_text(row: &impl Cells, column: &str) -> Result<Option<String>, StoreError> {
    Ok(row.optional_text(column)?.map(str::to_owned))
}

fn optional_key_id(row: &impl Cells, column: &str) -> Result<Option<KeyId>, StoreError> {
    row.optional_text(column)?.map(|text| parse(text, column)).transpose()
}

/// Reads a key.
pub(super) fn key(row: &impl Cells) -> Result<Key, StoreError> {
    Ok(Key {
        key_id: parse::<KeyId>(row.text("key_id")?, "key_id")?,
        name: row.text("name")?.to_owned(),
        description: optional_text(row, "description")?,
        owner: optional_text(row, "owner")?,
        scope: parse(row.text("scope")?, "scope")?,
        environment: parse(row.text("environment")?, "environment")?,
        is_active: row.flag("is_active")?,
        allowed_ips: json(row.text("allowed_ips")?, "allowed_ips")?,
        rate_limit: row
            .optional_text("rate_limit")?
            .map(|text| json(text, "rate_limit"))
            .transpose()?,
        metadata: json(row.text("metadata")?, "metadata")?,
        created_at: time(row.integer("created_at_ms")?, "created_at_ms")?,
        expires_at: optional_time(row, "expires_at_ms")?,
        last_used_at: optional_time(row, "last_used_at_ms")?,
        revoked_at: optional_time(row, "revoked_at_ms")?,
        revoked_reason: optional_text(row, "revoked_reason")?,
        version: unsigned(row.integer("version")?, "version")?,
        supersedes: optional_key_id(row, "supersedes")?,
        superseded_by: optional_key_id(row, "superseded_by")?,
        rotated_at: optional_time(row, "rotated_at_ms")?,
        policy_override: row
            .optional_text("policy_override")?
            .map(|text| json(text, "policy_override"))
            .transpose()?,
    })
}

pub(super) fn bytes<const N: usize>(row: &impl Cells, column: &str) -> Result<[u8; N], StoreError> {
    let bytes = row.blob(column)?;
    bytes.try_into().map_err(|_| StoreError::Corrupt(format!("{column} has {} bytes", bytes.len())))
}

/// Reads a key with what it takes to recognise it.
pub(super) fn stored_key(row: &impl Cells) -> Result<StoredKey, StoreError> {
    let algorithm = row.text("hash_algorithm")?;
    let algorithm = HashAlgorithm::from_name(algorithm)
        .ok_or_else(|| StoreError::Corrupt(format!("hash_algorithm = {algorithm}")))?;
    let iterations = unsigned(row.integer("hash_iterations")?, "hash_iterations")?;
    let recipe = HashRecipe::new(algorithm, iterations, bytes(row, "hash_salt")?)
        .ok_or_else(|| StoreError::Corrupt(format!("hash_iterations = {iterations}")))?;
    Ok(StoredKey {
        key: key(row)?,
        lookup: bytes(row, "lookup")?,
        lookup_secret: SecretName::from_stored(row.text("lookup_secret")?),
        secret: SecretHash { recipe, digest: bytes(row, "hash")? },
    })
}

/// A position as a row holds it.
pub(super) fn position(epoch: Option<String>, sequence: i64) -> Result<Position, StoreError> {
    let epoch =
        epoch.ok_or_else(|| StoreError::Corrupt("the setting feed_epoch is missing".to_owned()))?;
    Ok(Position { epoch, sequence: unsigned(sequence, "sequence")? })
}

/// Where the feed stood, which each of the rows says, and the keys of those rows that have one: a
/// look-up that finds nothing has one row, without a key.
pub(super) fn lookup(rows: &[impl Cells]) -> Result<Lookup, StoreError> {
    let first =
        rows.first().ok_or_else(|| StoreError::Corrupt("the feed is missing".to_owned()))?;
    let as_of = position(optional_text(first, "epoch")?, first.integer("sequence")?)?;
    let mut found = HashMap::with_capacity(rows.len());
    for row in rows {
        if row.optional_text("key_id")?.is_some() {
            found.insert(bytes(row, "lookup")?, stored_key(row));
        }
    }
    Ok(Lookup { as_of, found })
}
