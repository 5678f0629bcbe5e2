//! What the two listeners share.

use edge_protocol::{Deployment, EventKind};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};
use std::{num::NonZeroUsize, sync::Arc};
use subtle::ConstantTimeEq;
use tokio::task::JoinError;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Instrument;

use crate::{
    admin::{
        denials::Denials,
        limit::{AdminLimits, AdminMeters},
    },
    audit::{
        AuditEntry,
        keeper::Keeper,
        recorder::Recorder,
        signer::{AuditSigner, configured_keys},
        trail,
    },
    clock::Clock,
    config::{Config, TestKeys},
    edge::{event_writer::EventWriter, followers::Followers},
    health::Answers,
    http::request_id,
    keys::{issue::Issuer, last_used::LastUsed, once::Once, pool::HashPool, verify::Verifier},
    limits::{Meter, fleet::FleetLimits, memory::MemoryMeter, shared::SharedMeter},
    metrics,
    random::{Random, RandomError},
    redis::Redis,
    secret_key::{self, SecretKeyFault},
    store::{Store, StoreError},
    totp::{SecondFactor, TotpError},
    usage,
};

/// Why the service cannot be put together.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The secret key is missing or another one.
    #[error(transparent)]
    SecretKey(#[from] SecretKeyFault),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No randomness.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// Second factors cannot be sealed anew.
    #[error(transparent)]
    Totp(#[from] TotpError),
    /// No threads to hash on.
    #[error("the hashing threads cannot be started: {0}")]
    Threads(#[from] std::io::Error),
}

/// What filters have to show. Only a digest is kept, which also makes the comparison one of equal
/// lengths.
pub struct EdgeToken(Option<[u8; 32]>);

/// What came of showing a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// The right one.
    Right,
    /// Another one.
    Wrong,
    /// There is none that would be right.
    NoneSet,
}

impl EdgeToken {
    /// Keeps the token, if one is set.
    #[must_use]
    pub fn new(token: Option<&SecretString>) -> Self {
        // An empty one would be shown by whoever shows nothing.
        let token = token.map(ExposeSecret::expose_secret).filter(|token| !token.is_empty());
        Self(token.map(|token| Sha256::digest(token).into()))
    }

    /// Compares, in constant time. Who shows nothing is not compared with anything.
    #[must_use]
    pub fn check(&self, shown: Option<&[u8]>) -> Shown {
        let Some(expected) = &self.0 else {
            return Shown::NoneSet;
        };
        let Some(shown) = shown else {
            return Shown::Wrong;
        };
        let shown: [u8; 32] = Sha256::digest(shown).into();
        if shown.ct_eq(expected).into() { Shown::Right } else { Shown::Wrong }
    }
}

/// Where randomness, time and keys come from, and who ends the service.
pub struct Surroundings {
    /// The database.
    pub store: Arc<dyn Store>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
    /// How many threads hash.
    pub hash_threads: NonZeroUsize,
    /// Cancelled when the service ends.
    pub stop: CancellationToken,
}

/// The service behind both listeners.
pub struct Service {
    /// What kind of deployment this is.
    pub environment: Deployment,
    /// Whether keys of the test environment pass.
    pub test_keys: bool,
    /// The database.
    pub store: Arc<dyn Store>,
    /// What control planes share, when they do.
    pub redis: Option<Arc<Redis>>,
    /// Whether the database and Redis answer, for all who ask at once.
    pub(crate) answers: Answers,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Randomness, here for names of requests.
    pub random: Arc<dyn Random>,
    /// Verifies keys.
    pub verifier: Verifier,
    /// The second factor of those who change something.
    pub second_factor: SecondFactor,
    /// Issues keys.
    pub issuer: Issuer,
    /// Knows which requests were made before.
    pub once: Once,
    /// Where keys are hashed.
    pub pool: Arc<HashPool>,
    /// How much the admin API takes from whom.
    pub admin_limits: AdminLimits,
    /// Refusals that were too many for the audit log.
    pub admin_denials: Denials,
    /// Writes the control plane's own events.
    pub recorder: Recorder,
    /// Vouches for the audit log, and retires its beginning.
    pub audit_keeper: Keeper,
    /// Who follows the change feed.
    pub followers: Followers,
    /// Grants the parts of limits that a fleet shares.
    pub fleet: FleetLimits,
    /// Drops usage that is older than it is kept.
    pub usage_keeper: usage::keeper::Keeper,
    /// Writes what filters report.
    pub event_writer: EventWriter,
    /// Notes uses of keys.
    pub last_used: Arc<LastUsed>,
    /// What filters have to show.
    pub edge_token: EdgeToken,
    /// Changes that are being made; they outlive those who asked for them.
    pub changes: TaskTracker,
    /// Cancelled when the service ends.
    pub stop: CancellationToken,
}

impl Service {
    /// Puts the service together; nothing runs yet.
    ///
    /// # Errors
    /// As [`ServiceError`] says.
    pub async fn new(
        config: &Config,
        test_keys: TestKeys,
        edge_token: Option<&SecretString>,
        around: Surroundings,
    ) -> Result<Self, ServiceError> {
        let Surroundings { store, clock, random, hash_threads, stop } = around;
        let secrets = secret_key::load(config, &*store, &*random).await?;
        secret_key::rotate(&secrets, &*store, &*clock).await?;
        let second_factor = SecondFactor::new(
            Arc::clone(&store),
            Arc::clone(&clock),
            Arc::clone(&random),
            secrets.clone(),
            config.require_totp,
        );
        second_factor.reseal().await?;
        let pool = Arc::new(HashPool::start(hash_threads)?);
        if test_keys == TestKeys::RefusedInProduction {
            report_test_keys(&*store, &*clock).await?;
        }
        let test_keys = test_keys == TestKeys::On;
        let redis = config.redis.clone().map(|it| Arc::new(Redis::new(it, Arc::clone(&random))));
        metrics::show_limiter_mode(false);
        let policy = config.policy.clone();
        let meter = || -> Arc<dyn Meter> {
            let memory = MemoryMeter::new(Arc::clone(&clock));
            match &redis {
                Some(redis) => Arc::new(SharedMeter::new(Arc::clone(redis), memory)),
                None => Arc::new(memory),
            }
        };
        let last_used = Arc::new(LastUsed::default());
        let meters = AdminMeters { calls: meter(), failures: meter() };
        Ok(Self {
            environment: config.environment,
            test_keys,
            verifier: Verifier::new(
                Arc::clone(&store),
                policy.clone(),
                &secrets,
                config.iterations,
                Arc::clone(&pool),
                test_keys,
                Arc::clone(&random),
            )?,
            second_factor,
            issuer: Issuer {
                store: Arc::clone(&store),
                policy,
                secret: secrets.current.clone(),
                previous_secret: secrets.previous.clone(),
                iterations: config.iterations,
                pool: Arc::clone(&pool),
                clock: Arc::clone(&clock),
                random: Arc::clone(&random),
            },
            once: Once::new(Arc::clone(&store), Arc::clone(&clock), &secrets),
            admin_limits: AdminLimits::new(
                config.admin_limits,
                meters,
                Arc::clone(&clock),
                &*random,
            )?,
            admin_denials: Denials::default(),
            recorder: Recorder::new(Arc::clone(&store), Arc::clone(&clock)),
            audit_keeper: Keeper::new(
                Arc::clone(&store),
                Arc::clone(&clock),
                AuditSigner::new(config, &secrets),
                configured_keys(config),
                config.audit.clone(),
            ),
            followers: Followers::default(),
            fleet: FleetLimits::new(redis.clone(), Arc::clone(&clock), &*random)?,
            usage_keeper: usage::keeper::Keeper::new(
                Arc::clone(&store),
                Arc::clone(&clock),
                config.usage.retention_days,
            ),
            event_writer: EventWriter::new(Arc::clone(&store), Arc::clone(&last_used)),
            last_used,
            edge_token: EdgeToken::new(edge_token),
            redis,
            answers: Answers::default(),
            store,
            clock,
            random,
            pool,
            changes: TaskTracker::new(),
            stop,
        })
    }

    /// Makes a change in a task of its own: a caller who goes away, or whose time is up, does not
    /// keep it from its log line and from being published.
    ///
    /// # Errors
    /// When the task panics.
    pub async fn complete<T: Send + 'static>(
        &self,
        change: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, JoinError> {
        let name = request_id::current();
        let named = async move {
            match name {
                Some(name) => request_id::CURRENT.scope(name, change).await,
                None => change.await,
            }
        };
        let named = trail::current().unwrap_or_default().follow(named);
        self.changes.spawn(named.in_current_span()).await
    }
}

async fn report_test_keys(store: &dyn Store, clock: &dyn Clock) -> Result<(), StoreError> {
    let entry = AuditEntry::of(
        EventKind::SecurityViolation,
        clock.now(),
        "reason=test_keys_enabled_in_production setting=KEYGATE_ENABLE_TEST_API_KEYS test_keys=disabled",
    );
    entry.log();
    store.append(&[entry]).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_shows_nothing_is_refused_whatever_the_token_is() {
        let empty = SecretString::from("");
        for (token, shown) in [(None, Shown::NoneSet), (Some(&empty), Shown::NoneSet)] {
            assert_eq!(EdgeToken::new(token).check(None), shown);
            assert_eq!(EdgeToken::new(token).check(Some(b"")), shown);
        }
        let set = SecretString::from("a token");
        let token = EdgeToken::new(Some(&set));
        assert_eq!(token.check(None), Shown::Wrong);
        assert_eq!(token.check(Some(b"")), Shown::Wrong);
        assert_eq!(token.check(Some(b"a token")), Shown::Right);
    }
}
