//! Redis: what several control planes share. Nothing here may be needed: whoever asks gets an
//! answer or a fault within [`CALL_TIMEOUT`], and goes on from memory at a fault.
//!
//! | file | room for |
//! |---|---|
//! | `connect` | from the settings to a connection, for each topology |
//! | `link` | the connection |
//! | `keeper` | the task that connects, watches, and connects again |
//! | `breaker` | leaving a Redis alone that fails |
//! | `script` | a script and the keys that it works on |
//! | `fault` | why there is no answer, in words that help |

mod breaker;
mod connect;
mod fault;
mod keeper;
mod link;
mod script;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

pub use fault::RedisFault;
pub use script::{Script, SharedKey, Subject};

use ::redis::FromRedisValue;
use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{Notify, Semaphore, watch},
    time::{Instant, timeout},
};

use crate::{
    config::RedisConfig,
    metrics,
    random::{self, Random},
};
use breaker::Breaker;
use connect::Connector;
use link::Link;

/// What a call may cost whoever makes it. A Redis nearby answers within a millisecond; one that
/// takes longer than this is no help to a request, which may need two calls.
pub const CALL_TIMEOUT: Duration = Duration::from_millis(50);
/// What a probe may take: longer, so that a hiccup costs calls, but not the connection.
const PROBE_TIMEOUT: Duration = Duration::from_millis(500);
/// Calls that may be under way at once; a further one is a fault at once, and waits for nobody.
const MAX_CALLS: usize = 256;
/// Of subjects that are sent together, so many count as one call: they cost Redis their own time, and
/// everybody else one round trip.
const SUBJECTS_IN_A_CALL: usize = 16;
/// How long a Redis that fails is left alone, on average.
const LEFT_ALONE: Duration = Duration::from_secs(5);

/// Connects once and writes, as `keygate doctor` wants to know it; within five seconds.
///
/// # Errors
/// Why Redis cannot be used, with what to do about it.
pub async fn check(config: &RedisConfig) -> Result<(), RedisFault> {
    Connector::new(config.clone()).connect().await.map(|_| ())
}

/// Whether there is a connection.
#[derive(Clone)]
enum State {
    /// Nothing was tried yet.
    Untried,
    /// There is none, and one is being made.
    Down,
    /// There is one.
    Up(Link),
}

/// Redis, as the service holds it. [`Self::run`] has to run for there to be a connection.
pub struct Redis {
    connector: Connector,
    random: Arc<dyn Random>,
    state: watch::Sender<State>,
    breaker: Mutex<Breaker>,
    room: Semaphore,
    /// Tells the keeper that something has failed, so that it looks at once.
    alarm: Notify,
    /// How many connections there have been.
    connections: AtomicU64,
}

impl Redis {
    /// A Redis that is not connected yet.
    #[must_use]
    pub fn new(config: RedisConfig, random: Arc<dyn Random>) -> Self {
        Self {
            connector: Connector::new(config),
            random,
            state: watch::Sender::new(State::Untried),
            breaker: Mutex::new(Breaker::new(Instant::now())),
            room: Semaphore::new(MAX_CALLS),
            alarm: Notify::new(),
            connections: AtomicU64::new(0),
        }
    }

    /// Runs a script on a key. It takes no longer than [`CALL_TIMEOUT`], and nothing at all while
    /// Redis is known to be gone. After a fault Redis may still have done what it was asked.
    ///
    /// # Errors
    /// When there is no answer in time, or one that says no.
    pub async fn call<T: FromRedisValue>(
        &self,
        script: &Script,
        key: &SharedKey,
        arguments: &[u64],
    ) -> Result<T, RedisFault> {
        self.counted(1, |link| link.run(script, key, arguments)).await
    }

    /// As [`Self::call`], for several subjects that are sent together: all of them have that time, and
    /// when one fails the call has failed. What the script gives for them is one after the other.
    ///
    /// # Errors
    /// As [`Self::call`], and when `read` can make nothing of it.
    pub async fn call_each<T>(
        &self,
        script: &Arc<Script>,
        common: [u64; 2],
        subjects: Vec<Subject>,
        read: impl FnOnce(&[u8]) -> Option<T>,
    ) -> Result<T, RedisFault> {
        let calls = subjects.len().div_ceil(SUBJECTS_IN_A_CALL);
        let make = async |link: Link| {
            read(&link.run_each(script, common, subjects).await?).ok_or(RedisFault::Unreadable)
        };
        self.counted(calls, make).await
    }

    /// Which connection this is; whoever was told something on another one may know more than
    /// Redis does now.
    #[must_use]
    pub fn connection(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    async fn counted<T, E: Into<RedisFault>, F: Future<Output = Result<T, E>>>(
        &self,
        calls: usize,
        make: impl FnOnce(Link) -> F,
    ) -> Result<T, RedisFault> {
        let result = self.if_it_makes_sense(calls, make).await;
        let outcome = result.as_ref().map_or_else(RedisFault::outcome, |_| "ok");
        ::metrics::counter!(metrics::REDIS_CALLS, "outcome" => outcome).increment(1);
        result
    }

    async fn if_it_makes_sense<T, E: Into<RedisFault>, F: Future<Output = Result<T, E>>>(
        &self,
        calls: usize,
        make: impl FnOnce(Link) -> F,
    ) -> Result<T, RedisFault> {
        let link = self.link()?;
        if !self.breaker().lets_through() {
            return Err(RedisFault::LeftAlone);
        }
        let calls = u32::try_from(calls).unwrap_or(u32::MAX);
        let _room = self.room.try_acquire_many(calls).map_err(|_| RedisFault::Busy)?;
        let begun = Instant::now();
        let result = match timeout(CALL_TIMEOUT, make(link)).await {
            Ok(result) => result.map_err(Into::into),
            Err(_) => Err(RedisFault::TimedOut(CALL_TIMEOUT)),
        };
        ::metrics::histogram!(metrics::REDIS_SECONDS).record(begun.elapsed());
        self.breaker().record(Instant::now(), result.is_ok(), || self.left_alone());
        if let Err(fault) = &result {
            tracing::debug!(%fault, "a call to Redis failed");
            self.alarm.notify_one();
            self.show();
        }
        result
    }

    /// Whether Redis answers, and can be written to: asks it, within half a second.
    ///
    /// # Errors
    /// Why it does not.
    pub async fn probe(&self) -> Result<(), RedisFault> {
        let link = self.link()?;
        let result = match timeout(PROBE_TIMEOUT, link.probe()).await {
            Ok(result) => result.map_err(Into::into),
            Err(_) => Err(RedisFault::TimedOut(PROBE_TIMEOUT)),
        };
        self.breaker().probed(Instant::now(), result.is_ok(), || self.left_alone());
        if result.is_err() {
            self.alarm.notify_one();
        }
        self.show();
        result
    }

    /// Whether calls go to Redis now.
    #[must_use]
    pub fn is_in_use(&self) -> bool {
        self.is_up() && self.breaker().lets_through()
    }

    /// Waits until it has been tried to connect once.
    pub async fn tried(&self) {
        // It cannot fail: we hold the sender.
        let _ = self.state.subscribe().wait_for(|state| !matches!(state, State::Untried)).await;
    }

    fn is_up(&self) -> bool {
        matches!(*self.state.borrow(), State::Up(_))
    }

    fn link(&self) -> Result<Link, RedisFault> {
        match &*self.state.borrow() {
            State::Up(link) => Ok(link.clone()),
            State::Untried | State::Down => Err(RedisFault::NotConnected),
        }
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From four to six seconds, so that control planes do not come back all at once.
    fn left_alone(&self) -> Duration {
        LEFT_ALONE.mul_f64(0.8 + 0.4 * self.fraction())
    }

    /// A random number from zero to one.
    fn fraction(&self) -> f64 {
        random::bytes(&*self.random)
            .map_or(0.5, |bytes| f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX))
    }

    /// Brings the metrics up to date.
    fn show(&self) {
        let gauge = |truth: bool| f64::from(u8::from(truth));
        let lets_through = self.breaker().lets_through();
        ::metrics::gauge!(metrics::REDIS_UP).set(gauge(self.is_up()));
        ::metrics::gauge!(metrics::REDIS_BREAKER_OPEN).set(gauge(!lets_through));
        metrics::show_limiter_mode(self.is_in_use());
    }
}
