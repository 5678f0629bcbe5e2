//! Issuing keys.

use edge_protocol::{EventKind, KeyEnvironment};
use jiff::Timestamp;
use key_policy::{Environment, KeyId, Policy};
use secrecy::SecretString;
use std::sync::Arc;
use zeroize::Zeroize;

use super::{
    Key, StoredKey,
    digest::{LookupDigest, PresentedKey, SecretName, audit_hash},
    hashing::{HashRecipe, Iterations, SecretHash},
    new_key::NewKey,
    pool::{HashPool, Overloaded},
};
use crate::{
    audit::{Actor, AuditEntry},
    clock::Clock,
    random::{self, Random, RandomError},
    secret_key::Secret,
    store::{
        Store, StoreError,
        once::{Claim, MadeRequest},
    },
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

/// What came of asking for a key under a name.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "one at a time, and taken apart where it arrives")]
pub enum IssuedOnce {
    /// It was made.
    Now(IssuedKey),
    /// It had been made.
    Before(MadeRequest),
}

/// A key that was just issued.
#[derive(Debug)]
pub struct IssuedKey {
    /// What is known about it.
    pub key: Key,
    /// The key itself: shown now, and never again.
    pub api_key: SecretString,
}

/// A key that was drawn, before anything is said of what it may do.
pub(super) struct Drawn {
    /// Its public name.
    pub(super) key_id: KeyId,
    /// What the audit log calls it.
    pub(super) key_hash: String,
    api_key: SecretString,
    lookup: LookupDigest,
    lookup_secret: SecretName,
    secret: SecretHash,
}

impl Drawn {
    /// What is stored of it, and the key itself.
    pub(super) fn of(self, key: Key) -> (StoredKey, SecretString) {
        let Self { api_key, lookup, lookup_secret, secret, .. } = self;
        (StoredKey { key, lookup, lookup_secret, secret }, api_key)
    }
}

/// Issues keys.
pub struct Issuer {
    /// Where they are kept.
    pub store: Arc<dyn Store>,
    /// What they are like.
    pub policy: Policy,
    /// What they are looked up with.
    pub secret: Secret,
    /// What keys may still be looked up with that are known already.
    pub previous_secret: Option<Secret>,
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
        let (stored, audit, api_key) = self.make(new, by).await?;
        self.store.add_key(&stored, &audit).await?;
        audit.log();
        Ok(IssuedKey { key: stored.key, api_key })
    }

    /// As [`Self::issue`], if the request has not made a key before.
    ///
    /// # Errors
    /// As [`IssueError`] says; nothing has been stored then.
    pub async fn issue_once(
        &self,
        new: NewKey,
        by: &Actor,
        claim: &Claim,
    ) -> Result<IssuedOnce, IssueError> {
        let (stored, audit, api_key) = self.make(new, by).await?;
        if let Some(before) = self.store.add_key_once(&stored, &audit, claim).await? {
            return Ok(IssuedOnce::Before(before));
        }
        audit.log();
        Ok(IssuedOnce::Now(IssuedKey { key: stored.key, api_key }))
    }

    /// All that is stored of a new key, and the key itself.
    async fn make(
        &self,
        new: NewKey,
        by: &Actor,
    ) -> Result<(StoredKey, AuditEntry, SecretString), IssueError> {
        let drawn = self.draw(new.environment).await?;
        let now = self.clock.now();
        let key = new.into_key(drawn.key_id, now);
        let audit = entry(&key, by, now).with_key_hash(Some(drawn.key_hash.clone()));
        let (stored, api_key) = drawn.of(key);
        Ok((stored, audit, api_key))
    }

    /// Draws a key, and all that it takes to recognise it. Nothing is stored.
    pub(super) async fn draw(&self, environment: KeyEnvironment) -> Result<Drawn, IssueError> {
        let environment = match environment {
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
        Ok(Drawn {
            key_id: made.key_id,
            api_key,
            key_hash,
            lookup,
            lookup_secret: self.secret.name,
            secret: SecretHash { recipe, digest },
        })
    }
}

/// The entry of a key that is made.
pub(super) fn entry(key: &Key, by: &Actor, now: Timestamp) -> AuditEntry {
    let supersedes = key.supersedes.map(|it| format!(" supersedes={it}")).unwrap_or_default();
    let details =
        format!("scope={} environment={}{supersedes}", key.scope, key.environment.as_str());
    AuditEntry::by(by, EventKind::KeyCreated, key.key_id, now, &details)
}
