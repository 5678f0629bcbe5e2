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
         used, or revoke them first"
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

impl Secrets {
    /// The secret key of that name, if it is one of the two.
    #[must_use]
    pub fn named(&self, name: &SecretName) -> Option<&Secret> {
        [Some(&self.current), self.previous.as_ref()]
            .into_iter()
            .flatten()
            .find(|secret| secret.name == *name)
    }
}

/// The secret keys: the configured ones, or outside production one that is drawn once and kept in
/// the database. The database must name one of them; a new one names the current one from now on.
///
/// # Errors
/// As [`SecretKeyFault`] says.
pub async fn load(
    config: &Config,
    store: &dyn Store,
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
    let named = store.setting_or_insert(SECRET_NAME, &current.name.to_string()).await?;
    let named = SecretName::from_stored(&named);
    if named != current.name && previous.as_ref().is_none_or(|previous| previous.name != named) {
        return Err(SecretKeyFault::Another);
    }
    Ok(Secrets { current, previous })
}

/// Lets the database name the current secret key in the place of the previous one, if it still
/// names that; and says how many keys wait to be used once more. Only a service does this: a
/// command in a shell with last year's settings must not turn a deployment back.
///
/// # Errors
/// As [`SecretKeyFault`] says.
pub async fn rotate(
    secrets: &Secrets,
    store: &dyn Store,
    clock: &dyn Clock,
) -> Result<(), SecretKeyFault> {
    let Secrets { current, previous } = secrets;
    let now = clock.now();
    let (mut waiting, mut lost) = (0, 0);
    for held in store.secret_use(now).await? {
        if previous.as_ref().is_some_and(|previous| previous.name == held.secret) {
            waiting += held.usable;
        } else if held.secret != current.name {
            lost += held.usable;
        }
    }
    if let Some(previous) = previous
        && named(store).await? == previous.name
    {
        if lost > 0 {
            return Err(SecretKeyFault::WouldBeLost(lost));
        }
        let details = format!("from={} to={}", previous.name, current.name);
        let entry = AuditEntry::of(EventKind::SecretKeyRotated, now, details);
        if store.rename_secret(&previous.name, &current.name, &entry).await? {
            entry.log();
        } else if named(store).await? != current.name {
            // Another process was faster, and has led elsewhere.
            return Err(SecretKeyFault::Another);
        }
    }
    if waiting > 0 {
        tracing::info!(
            keys = waiting,
            "usable keys still depend on KEYGATE_SECRET_KEY_PREVIOUS; each moves when it is used"
        );
    }
    if lost > 0 {
        tracing::warn!(
            keys = lost,
            "usable keys depend on a secret key that is not set any more, and are refused; set it \
             as KEYGATE_SECRET_KEY_PREVIOUS until they have been used, or revoke them"
        );
    }
    Ok(())
}

/// The secret key that the database names.
async fn named(store: &dyn Store) -> Result<SecretName, StoreError> {
    Ok(SecretName::from_stored(&store.setting(SECRET_NAME).await?.unwrap_or_default()))
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
