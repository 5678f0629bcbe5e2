//! Issuing keys.

use edge_protocol::{EventKind, KeyEnvironment};
use jiff::Timestamp;
use key_policy::{Environment, Policy};
use secrecy::SecretString;
use std::sync::Arc;
use zeroize::Zeroize;

use super::{
    Key, StoredKey,
    digest::{PresentedKey, audit_hash},
    hashing::{HashRecipe, Iterations, SecretHash},
    new_key::NewKey,
    pool::{HashPool, Overloaded},
};
use crate::{
    audit::{Actor, AuditEntry},
    clock::Clock,
    random::{self, Random, RandomError},
    secret_key::Secret,
    store::{Store, StoreError},
};

/// Why no key was issued.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The database refused, or did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is too much to hash.
    #[error(transparent)]
    Overloaded(#[from] Overloaded),
    /// No randomness.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// The policy lets keys be longer than can be verified.
    #[error("the key policy makes keys that are too long to verify")]
    TooLong,
}

/// A key that was just issued.
#[derive(Debug)]
pub struct IssuedKey {
    /// What is known about it.
    pub key: Key,
    /// The key itself: shown now, and never again.
    pub api_key: SecretString,
}

/// Issues keys.
pub struct Issuer {
    /// Where they are kept.
    pub store: Arc<dyn Store>,
    /// What they are like.
    pub policy: Policy,
    /// What they are looked up with.
    pub secret: Secret,
    /// How dear their hashes are.
    pub iterations: Iterations,
    /// Where they are hashed.
    pub pool: Arc<HashPool>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
}

impl Issuer {
    /// Makes a key, and stores what is needed to recognise it, with its audit entry.
    ///
    /// # Errors
    /// As [`IssueError`] says; nothing has been stored then.
    pub async fn issue(&self, new: NewKey, by: &Actor) -> Result<IssuedKey, IssueError> {
        let environment = match new.environment {
            KeyEnvironment::Live => Environment::Live,
            KeyEnvironment::Test => Environment::Test,
        };
        let mut made = self.policy.generate(environment, &mut |bytes| self.random.fill(bytes))?;
        let api_key = SecretString::from(made.text.as_str());
        let presented = PresentedKey::new(made.text.as_bytes());
        made.text.zeroize();
        let presented = Arc::new(presented.ok_or(IssueError::TooLong)?);

        let recipe = HashRecipe::current(self.iterations, random::bytes(&*self.random)?);
        let lookup = self.secret.lookup.lookup(presented.expose());
        let key_hash = audit_hash(presented.expose());
        let digest = self.pool.hash(presented, recipe).await?;
        let now = self.clock.now();
        let key = new.into_key(made.key_id, now);
        let audit = entry(&key, by, now).with_key_hash(Some(key_hash));
        let stored = StoredKey {
            key,
            lookup,
            lookup_secret: self.secret.name,
            secret: SecretHash { recipe, digest },
        };
        self.store.add_key(&stored, &audit).await?;
        audit.log();
        Ok(IssuedKey { key: stored.key, api_key })
    }
}

fn entry(key: &Key, by: &Actor, now: Timestamp) -> AuditEntry {
    let details = format!("scope={} environment={}", key.scope, key.environment.as_str());
    AuditEntry::by(by, EventKind::KeyCreated, key.key_id, now, &details)
}
