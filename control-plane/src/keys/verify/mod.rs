//! Telling whether a presented key is one of ours.

mod rows;
mod upkeep;

#[cfg(test)]
mod rotation_tests;

use edge_protocol::{KeyEnvironment, Position};
use key_policy::{Environment, Policy};
use moka::future::Cache;
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;
use tracing::{Instrument, field::Empty};

use super::{
    Key, StoredKey,
    digest::{DigestKey, PresentedKey},
    hashing::{Iterations, SecretHash},
    pool::{HashPool, Overloaded},
};
use crate::{
    metrics,
    random::{self, Random, RandomError},
    secret_key::{Secret, Secrets},
    store::{Store, StoreError},
    telemetry::spans,
};
use rows::{Found, Rows};
use upkeep::Upkeep;

/// How many verified keys are remembered.
const REMEMBERED_KEYS: u64 = 100_000;
/// How long a verified key is remembered without being hashed again.
const REMEMBERED_FOR: Duration = Duration::from_mins(5);

/// What came of verifying.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// One of ours, with the right secret. It may be revoked or expired.
    Known(Box<Key>),
    /// None of ours.
    Unknown,
    /// A key for tests, where these are switched off; to the caller the same as unknown.
    TestKeyRefused,
}

/// The word on a key, and which changes it takes into account.
#[derive(Clone, Debug, PartialEq)]
pub struct Verification {
    /// Every change up to here is in the outcome.
    pub as_of: Position,
    /// The word.
    pub outcome: Outcome,
}

/// It cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The database did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is too much to hash.
    #[error(transparent)]
    Overloaded(#[from] Overloaded),
}

impl VerifyError {
    /// In a word, for the metrics.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Store(_) => "database_error",
            Self::Overloaded(_) => "overloaded",
        }
    }
}

/// How a key was compared with the hash of its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compared {
    /// There was no row to compare it with.
    Not,
    /// It was found right before.
    FromMemory,
    /// It was hashed, or was to be.
    ByHash,
}

impl Compared {
    fn as_str(self) -> &'static str {
        match self {
            Self::Not => "none",
            Self::FromMemory => "remembered",
            Self::ByHash => "computed",
        }
    }
}

/// Why a hash did not confirm a key.
#[derive(Clone, Copy)]
enum Refuted {
    Mismatch,
    Overloaded,
}

/// A key's digest under a process's own key, and the stored hash that it was found right for. Who
/// comes with a row that was hashed anew meanwhile asks for something else.
type Remembered = ([u8; 32], [u8; 32]);

/// Verifies keys.
pub struct Verifier {
    store: Arc<dyn Store>,
    rows: Rows,
    policy: Policy,
    lookup: Secret,
    previous: Option<Secret>,
    iterations: Iterations,
    pool: Arc<HashPool>,
    test_keys: bool,
    random: Arc<dyn Random>,
    memory_key: DigestKey,
    /// What was found right: a key, as its digest under this process's own key, for a stored hash.
    /// Nothing about the row but its hash is remembered: the row is read each time.
    memory: Cache<Remembered, ()>,
    upkeep: Upkeep,
}

impl Verifier {
    /// A verifier that remembers nothing yet.
    ///
    /// # Errors
    /// When there is no randomness for the key of its memory.
    pub fn new(
        store: Arc<dyn Store>,
        policy: Policy,
        secrets: &Secrets,
        iterations: Iterations,
        pool: Arc<HashPool>,
        test_keys: bool,
        random: Arc<dyn Random>,
    ) -> Result<Self, RandomError> {
        let memory_key = zeroize::Zeroizing::new(random::bytes::<32>(&*random)?);
        Ok(Self {
            rows: Rows::new(Arc::clone(&store)),
            store,
            policy,
            lookup: secrets.current.clone(),
            previous: secrets.previous.clone(),
            iterations,
            pool,
            test_keys,
            random,
            memory_key: DigestKey::new(&memory_key),
            memory: Cache::builder()
                .max_capacity(REMEMBERED_KEYS)
                .time_to_live(REMEMBERED_FOR)
                .build(),
            upkeep: Upkeep::default(),
        })
    }

    /// Verifies a key. An unknown one costs one index look-up (two while there is a
    /// previous secret key), and never a hash.
    ///
    /// # Errors
    /// When it cannot be told.
    pub async fn verify(&self, key: PresentedKey) -> Result<Verification, VerifyError> {
        self.verify_for(Instant::now(), key).await
    }

    /// The same for a request that arrived a while ago: it is told in good time when there is too
    /// much to do.
    ///
    /// # Errors
    /// When it cannot be told.
    pub async fn verify_for(
        &self,
        arrived: Instant,
        key: PresentedKey,
    ) -> Result<Verification, VerifyError> {
        let started = Instant::now();
        let mut compared = Compared::Not;
        let span = tracing::trace_span!(
            target: spans::TARGET, "verify", keygate.outcome = Empty, keygate.hash = Empty
        );
        let result = self.decide(arrived, key, &mut compared).instrument(span.clone()).await;
        let outcome = match &result {
            Ok(Verification { outcome: Outcome::Known(_), .. }) => "known",
            Ok(Verification { outcome: Outcome::Unknown, .. }) => "unknown",
            Ok(Verification { outcome: Outcome::TestKeyRefused, .. }) => "test_key_refused",
            Err(error) => error.reason(),
        };
        span.record("keygate.outcome", outcome).record("keygate.hash", compared.as_str());
        ::metrics::histogram!(metrics::VERIFY_SECONDS,
            "outcome" => outcome, "hash" => compared.as_str())
        .record(started.elapsed());
        result
    }

    /// How many keys are remembered as right.
    #[must_use]
    pub fn remembered(&self) -> u64 {
        self.memory.entry_count()
    }

    async fn decide(
        &self,
        arrived: Instant,
        key: PresentedKey,
        compared: &mut Compared,
    ) -> Result<Verification, VerifyError> {
        let says_test = self.policy.environment_of(key.expose()) == Some(Environment::Test);
        let secrets = std::iter::once(&self.lookup).chain(&self.previous);
        let digests = secrets.map(|it| it.lookup.lookup(key.expose())).collect();
        let span = tracing::trace_span!(target: spans::TARGET, "database look-up");
        let Found { as_of, stored } = self.rows.read(digests).instrument(span).await?;
        let outcome = match stored {
            // A made-up test key is nothing of ours, so nothing to raise an alarm about.
            None => Outcome::Unknown,
            Some(stored)
                if !self.test_keys
                    && (says_test || stored.key.environment == KeyEnvironment::Test) =>
            {
                Outcome::TestKeyRefused
            }
            Some(stored) => {
                let key = Arc::new(key);
                if self.confirm(arrived, &key, &stored, compared).await? {
                    self.note_right(&key, &stored);
                    Outcome::Known(Box::new(stored.key))
                } else {
                    Outcome::Unknown
                }
            }
        };
        Ok(Verification { as_of, outcome })
    }

    /// Checks the secret against the row's hash, from memory if it was right before.
    async fn confirm(
        &self,
        arrived: Instant,
        key: &Arc<PresentedKey>,
        stored: &StoredKey,
        compared: &mut Compared,
    ) -> Result<bool, Overloaded> {
        let secret = &stored.secret;
        *compared = Compared::ByHash;
        let hash = async {
            let hashed = self
                .pool
                .hash_for(arrived, Arc::clone(key), secret.recipe)
                .instrument(tracing::trace_span!(target: spans::TARGET, "hash"))
                .await;
            let digest = hashed.map_err(|Overloaded| Refuted::Overloaded)?;
            if secret.matches(&digest) { Ok(()) } else { Err(Refuted::Mismatch) }
        };
        // Single flight: those who come with the same key meanwhile wait for this hash.
        let entry = self.memory.entry(self.remembered_as(key, secret));
        let found = entry.or_try_insert_with(hash).await;
        let hit = found.as_ref().is_ok_and(|found| !found.is_fresh());
        let result = if hit { "hit" } else { "miss" };
        ::metrics::counter!(metrics::VERIFY_MEMORY_LOOKUPS, "result" => result).increment(1);
        match found {
            Ok(_) => {
                if hit {
                    *compared = Compared::FromMemory;
                }
                Ok(true)
            }
            Err(refuted) => match *refuted {
                Refuted::Mismatch => Ok(false),
                Refuted::Overloaded => Err(Overloaded),
            },
        }
    }

    fn remembered_as(&self, key: &PresentedKey, secret: &SecretHash) -> Remembered {
        (self.memory_key.digest(key.expose()), secret.digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::TestKeys,
        keys::new_key::NewKeyRequest,
        testing::{Database, TestService, on_each_database, request},
    };

    on_each_database!(
        what_is_remembered_counts_only_for_the_hash_it_was_found_right_for,
        a_change_of_the_row_shows_at_once_though_the_key_is_remembered,
        a_database_that_is_gone_is_an_error_and_not_an_unknown_key,
        many_at_once_are_told_each_of_their_own_key,
    );

    fn presented(text: &str) -> PresentedKey {
        PresentedKey::new(text.as_bytes()).expect("short enough")
    }

    async fn outcome(it: &TestService, text: &str) -> Outcome {
        it.service.verifier.verify(presented(text)).await.expect("told").outcome
    }

    #[tokio::test]
    async fn a_key_is_hashed_once_and_then_remembered() {
        let it = TestService::start().await;
        let (key, text) = it.issue(request("a")).await;
        let before = it.service.pool.hashed();
        for _ in 0..3 {
            assert_eq!(outcome(&it, &text).await, Outcome::Known(Box::new(key.clone())));
        }
        assert_eq!(it.service.pool.hashed(), before + 1);
    }

    #[tokio::test]
    async fn an_unknown_key_is_never_hashed() {
        let it = TestService::start().await;
        let (_, text) = it.issue(request("a")).await;
        let before = it.service.pool.hashed();
        for wrong in
            [&text[1..], &text[..text.len() - 1], &format!("{text}x"), &text.to_lowercase(), "x"]
        {
            assert_eq!(outcome(&it, wrong).await, Outcome::Unknown);
        }
        assert_eq!(it.service.pool.hashed(), before);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn those_who_come_with_the_same_key_share_one_hash() {
        let it = Arc::new(TestService::start().await);
        let (_, text) = it.issue(request("a")).await;
        let before = it.service.pool.hashed();
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..20 {
            let (it, text) = (Arc::clone(&it), text.clone());
            tasks.spawn(async move { outcome(&it, &text).await });
        }
        assert!(tasks.join_all().await.iter().all(|it| matches!(it, Outcome::Known(_))));
        assert_eq!(it.service.pool.hashed(), before + 1);
    }

    async fn what_is_remembered_counts_only_for_the_hash_it_was_found_right_for(
        database: Database,
    ) {
        let it = TestService::start_at(database).await;
        let (_, text) = it.issue(request("a")).await;
        it.issue(request("b")).await;
        assert!(matches!(outcome(&it, &text).await, Outcome::Known(_)));
        let other = "UPDATE api_keys SET hash = (SELECT hash FROM api_keys WHERE name = 'b')";
        it.database.execute(other).await;
        let before = it.service.pool.hashed();
        assert_eq!(outcome(&it, &text).await, Outcome::Unknown);
        assert_eq!(it.service.pool.hashed(), before + 1);
    }

    async fn a_change_of_the_row_shows_at_once_though_the_key_is_remembered(database: Database) {
        let it = TestService::start_at(database).await;
        let (key, text) = it.issue(request("a")).await;
        let first = it.service.verifier.verify(presented(&text)).await.expect("told");
        crate::keys::revoke::revoke(
            &*it.service.store,
            &*it.service.clock,
            key.key_id,
            None,
            crate::store::RevokeGuard::Unconditional,
            &crate::audit::Actor::CommandLine,
        )
        .await
        .expect("revoked");
        let second = it.service.verifier.verify(presented(&text)).await.expect("told");
        assert!(matches!(second.outcome, Outcome::Known(key) if !key.is_active));
        assert_eq!(second.as_of.sequence, first.as_of.sequence + 1);
    }

    #[tokio::test]
    async fn a_test_key_is_refused_exactly_where_these_are_switched_off() {
        for (test_keys, passes) in
            [(TestKeys::On, true), (TestKeys::Off, false), (TestKeys::RefusedInProduction, false)]
        {
            let it = TestService::start_with(test_keys).await;
            let asked = NewKeyRequest { environment: KeyEnvironment::Test, ..request("a") };
            let (_, text) = it.issue(asked).await;
            let outcome = outcome(&it, &text).await;
            assert_eq!(matches!(outcome, Outcome::Known(_)), passes, "{test_keys:?}");
            assert_eq!(outcome == Outcome::TestKeyRefused, !passes);
        }
    }

    async fn many_at_once_are_told_each_of_their_own_key(database: Database) {
        let it = Arc::new(TestService::start_at(database).await);
        let mut keys = Vec::new();
        for name in ["a", "b", "c"] {
            keys.push(it.issue(request(name)).await);
        }
        // Rows that are damaged are in the way of nobody else.
        it.database.execute("UPDATE api_keys SET metadata = '[]' WHERE name = 'c'").await;
        for (_, text) in &keys[..2] {
            outcome(&it, text).await;
        }
        let mut askers = tokio::task::JoinSet::new();
        for (key, text) in keys.iter().cycle().take(60).cloned() {
            let it = Arc::clone(&it);
            askers.spawn(async move { (key, it.service.verifier.verify(presented(&text)).await) });
        }
        for (key, told) in askers.join_all().await {
            match told {
                Ok(told) => {
                    assert_ne!(key.name, "c");
                    assert_eq!(told.outcome, Outcome::Known(Box::new(key)));
                }
                Err(VerifyError::Store(StoreError::Corrupt(_))) => assert_eq!(key.name, "c"),
                Err(error) => panic!("{error}"),
            }
        }
    }

    async fn a_database_that_is_gone_is_an_error_and_not_an_unknown_key(database: Database) {
        let it = TestService::start_at(database).await;
        let (_, text) = it.issue(request("a")).await;
        it.service.store.close().await;
        let result = it.service.verifier.verify(presented(&text)).await;
        assert!(matches!(result, Err(VerifyError::Store(_))), "{result:?}");
    }
}
