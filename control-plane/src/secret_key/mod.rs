//! The secret key that this database's keys are looked up with, and the one before it.
//!
//! The database names its secret key. A process with another one is refused, unless it also has
//! the named one as the previous: then the name changes, and each key moves to the new secret key
//! when it is next verified, since only whoever presents it can say what it is.

mod seal;

pub use seal::{SealError, SealKey};

use edge_protocol::{Deployment, EventKind};

use crate::{
    audit::AuditEntry,
    clock::Clock,
    config::{Config, SecretKey},
    keys::digest::{DigestKey, SecretName},
    random::{self, Random, RandomError},
    store::{Store, StoreError, credentials::SECRET_NAME},
};

/// The setting with the key that was drawn outside production.
const DRAWN: &str = "lookup_secret_key";

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
         them would be recognised with this one; set the one that was used before, or to change it \
         set that one as KEYGATE_SECRET_KEY_PREVIOUS"
    )]
    Another,
    /// Keys depend on one that is neither of the two.
    #[error(
        "KEYGATE_SECRET_KEY: {0} usable key(s) still depend on the secret key before \
         KEYGATE_SECRET_KEY_PREVIOUS, and would be lost with this change; wait until they have been \
         used, or rotate or revoke them first (`keygate doctor` counts them)"
    )]
    WouldBeLost(u64),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No randomness.
    #[error(transparent)]
    Random(#[from] RandomError),
}

/// A secret key, as what is made from it.
#[derive(Clone)]
pub struct Secret {
    /// What it goes by.
    pub name: SecretName,
    /// Makes the digests that keys are looked up by.
    pub lookup: DigestKey,
    /// Seals what must be readable again.
    pub seal: SealKey,
}

impl Secret {
    /// Makes them.
    #[must_use]
    pub fn new(key: &SecretKey) -> Self {
        let lookup = DigestKey::new(key.expose());
        Self { name: lookup.name(), seal: SealKey::derive(&lookup), lookup }
    }
}

/// The deployment's secret key, and the one before it.
#[derive(Clone)]
pub struct Secrets {
    /// What is made anew is made with this one.
    pub current: Secret,
    /// What was made with this one is still recognised.
    pub previous: Option<Secret>,
}

/// The secret keys: the configured ones, or outside production one that is drawn once and kept in
/// the database. When the database still names the previous one, it names the current one from
/// now on.
///
/// # Errors
/// As [`SecretKeyFault`] says.
pub async fn load(
    config: &Config,
    store: &dyn Store,
    clock: &dyn Clock,
    random: &dyn Random,
) -> Result<Secrets, SecretKeyFault> {
    let current = match &config.secret_key {
        Some(key) => Secret::new(key),
        None if config.environment == Deployment::Production => {
            return Err(SecretKeyFault::Missing);
        }
        None => Secret::new(&drawn(store, random).await?),
    };
    let previous = config.previous_secret_key.as_ref().map(Secret::new);
    let previous = previous.filter(|previous| previous.name != current.name);
    let secrets = Secrets { current, previous };

    let name = secrets.current.name.to_string();
    let named = store.setting_or_insert(SECRET_NAME, &name).await?;
    if named != name {
        take_over(&secrets, &named, store, clock).await?;
    }
    Ok(secrets)
}

/// Lets the database name the current secret key in the place of the previous one.
async fn take_over(
    secrets: &Secrets,
    named: &str,
    store: &dyn Store,
    clock: &dyn Clock,
) -> Result<(), SecretKeyFault> {
    let name = secrets.current.name.to_string();
    let previous = secrets.previous.as_ref().filter(|previous| previous.name.to_string() == named);
    let previous = previous.ok_or(SecretKeyFault::Another)?;
    let now = clock.now();
    let lost: u64 = store
        .secret_use(now)
        .await?
        .iter()
        .filter(|held| held.secret != named && held.secret != name)
        .map(|held| held.usable)
        .sum();
    if lost > 0 {
        return Err(SecretKeyFault::WouldBeLost(lost));
    }
    let entry = AuditEntry::of(
        EventKind::SecretKeyRotated,
        now,
        format!("from={} to={}", previous.name, secrets.current.name),
    );
    if store.rename_secret(&previous.name, &secrets.current.name, &entry).await? {
        entry.log();
        return Ok(());
    }
    // Another process was faster; what counts is where it has led.
    match store.setting(SECRET_NAME).await? {
        Some(named) if named == name => Ok(()),
        _ => Err(SecretKeyFault::Another),
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
