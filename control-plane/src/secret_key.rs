//! The secret key that this database's keys are looked up with.

use edge_protocol::Deployment;

use crate::{
    config::{Config, SecretKey},
    keys::digest::DigestKey,
    random::{self, Random, RandomError},
    store::{Store, StoreError},
};

/// The setting with the key that was drawn outside production.
const DRAWN: &str = "lookup_secret_key";
/// The setting by which a wrong key is told before it makes every API key unknown.
const CHECK: &str = "lookup_secret_key_check";

/// Why there is no key to look up with.
#[derive(Debug, thiserror::Error)]
pub enum SecretKeyFault {
    /// It must be set.
    #[error(
        "KEYGATE_SECRET_KEY: is not set; in production it must be (make one: openssl rand -hex 32)"
    )]
    Missing,
    /// It is not the one that this database's keys were issued with.
    #[error(
        "KEYGATE_SECRET_KEY: this database's keys were issued with another secret key, and none of \
         them would be recognised with this one; set the one that was used before"
    )]
    Another,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No randomness.
    #[error(transparent)]
    Random(#[from] RandomError),
}

/// The key to look up with: the configured one, or outside production one that is drawn once and
/// kept in the database.
///
/// # Errors
/// As [`SecretKeyFault`] says.
pub async fn lookup_key(
    config: &Config,
    store: &dyn Store,
    random: &dyn Random,
) -> Result<SecretKey, SecretKeyFault> {
    let key = match &config.secret_key {
        Some(key) => key.clone(),
        None if config.environment == Deployment::Production => {
            return Err(SecretKeyFault::Missing);
        }
        None => drawn(store, random).await?,
    };
    // Half of an HMAC of a fixed text: it tells keys apart, and nothing about them.
    let check =
        hex::encode(DigestKey::new(key.expose()).lookup(b"keygate: which secret key is this?"));
    if store.setting_or_insert(CHECK, &check).await? == check {
        Ok(key)
    } else {
        Err(SecretKeyFault::Another)
    }
}

async fn drawn(store: &dyn Store, random: &dyn Random) -> Result<SecretKey, SecretKeyFault> {
    let fresh = hex::encode(random::bytes::<32>(random)?);
    let kept = store.setting_or_insert(DRAWN, &fresh).await?;
    if kept == fresh {
        tracing::warn!(
            "KEYGATE_SECRET_KEY is not set: one was drawn and kept in the database, beside what it \
             protects; that is good enough only outside production"
        );
    }
    SecretKey::parse(&kept).map_err(|error| StoreError::Corrupt(format!("{DRAWN}: {error}")).into())
}
