//! Rows of `api_keys`, there and back.

use jiff::Timestamp;
use key_policy::KeyId;
use sqlx::{Row, sqlite::SqliteRow};
use std::{fmt::Display, str::FromStr};

use super::StoreError;
use crate::keys::{
    Key, StoredKey,
    digest::SecretName,
    hashing::{HashAlgorithm, HashRecipe, SecretHash},
};

/// The columns that [`key`] reads, named as it expects them.
macro_rules! key_columns {
    () => {
        "key_id, name, description, owner, scope, environment, is_active, allowed_ips, rate_limit, \
         metadata, created_at_ms, expires_at_ms, last_used_at_ms, revoked_at_ms, revoked_reason"
    };
}
pub(super) use key_columns;

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

fn json<T: serde::de::DeserializeOwned>(text: &str, column: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::Corrupt(format!("{column}: {error}")))
}

fn optional_time(row: &SqliteRow, column: &str) -> Result<Option<Timestamp>, StoreError> {
    row.try_get::<Option<i64>, _>(column)?.map(|millis| time(millis, column)).transpose()
}

/// Reads a key.
pub(super) fn key(row: &SqliteRow) -> Result<Key, StoreError> {
    let rate_limit: Option<String> = row.try_get("rate_limit")?;
    Ok(Key {
        key_id: parse::<KeyId>(row.try_get("key_id")?, "key_id")?,
        name: row.try_get("name")?,
        description: row.try_get("description")?,
        owner: row.try_get("owner")?,
        scope: parse(row.try_get("scope")?, "scope")?,
        environment: parse(row.try_get("environment")?, "environment")?,
        is_active: row.try_get("is_active")?,
        allowed_ips: json(row.try_get("allowed_ips")?, "allowed_ips")?,
        rate_limit: rate_limit.map(|text| json(&text, "rate_limit")).transpose()?,
        metadata: json(row.try_get("metadata")?, "metadata")?,
        created_at: time(row.try_get("created_at_ms")?, "created_at_ms")?,
        expires_at: optional_time(row, "expires_at_ms")?,
        last_used_at: optional_time(row, "last_used_at_ms")?,
        revoked_at: optional_time(row, "revoked_at_ms")?,
        revoked_reason: row.try_get("revoked_reason")?,
    })
}

pub(super) fn bytes<const N: usize>(row: &SqliteRow, column: &str) -> Result<[u8; N], StoreError> {
    let bytes: &[u8] = row.try_get(column)?;
    bytes.try_into().map_err(|_| StoreError::Corrupt(format!("{column} has {} bytes", bytes.len())))
}

/// Reads a key with what it takes to recognise it.
pub(super) fn stored_key(row: &SqliteRow) -> Result<StoredKey, StoreError> {
    let algorithm: &str = row.try_get("hash_algorithm")?;
    let algorithm = HashAlgorithm::from_name(algorithm)
        .ok_or_else(|| StoreError::Corrupt(format!("hash_algorithm = {algorithm}")))?;
    let iterations = unsigned(row.try_get("hash_iterations")?, "hash_iterations")?;
    let recipe = HashRecipe::new(algorithm, iterations, bytes(row, "hash_salt")?)
        .ok_or_else(|| StoreError::Corrupt(format!("hash_iterations = {iterations}")))?;
    Ok(StoredKey {
        key: key(row)?,
        lookup: bytes(row, "lookup")?,
        lookup_secret: SecretName::from_stored(row.try_get("lookup_secret")?),
        secret: SecretHash { recipe, digest: bytes(row, "hash")? },
    })
}
