//! Whether a connection is used, and how long it may lie idle: those who have shown that they
//! belong here may keep theirs for longer than strangers.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// A new connection must bring its first request within this time. hyper's own limit begins only
/// once it knows which HTTP it is spoken to in.
const FIRST_REQUEST_WITHIN: Duration = Duration::from_secs(15);

/// How long a connection may be open with no request under way.
#[derive(Clone, Copy, Debug)]
pub struct IdleLimits {
    /// While no request on it has been [`Trusted`](super::Trusted).
    pub stranger: Duration,
    /// Once one has.
    pub trusted: Duration,
}

impl IdleLimits {
    pub(super) fn shortest(self) -> Duration {
        FIRST_REQUEST_WITHIN.min(self.stranger).min(self.trusted)
    }
}

struct State {
    under_way: usize,
    idle_since: Instant,
    limit: Duration,
}

/// What one connection is doing.
pub(super) struct Activity {
    limits: IdleLimits,
    state: Mutex<State>,
}

impl Activity {
    pub(super) fn new(limits: IdleLimits) -> Arc<Self> {
        let limit = FIRST_REQUEST_WITHIN.min(limits.stranger);
        let state = State { under_way: 0, idle_since: Instant::now(), limit };
        Arc::new(Self { limits, state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Each change is whole, so a panic elsewhere leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request begins; it ends when what this gives is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> UnderWay {
        let mut state = self.state();
        state.under_way += 1;
        state.limit = state.limit.max(self.limits.stranger);
        drop(state);
        UnderWay(Arc::clone(self))
    }

    /// When the connection has been idle for too long; none while a request is under way.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let state = self.state();
        (state.under_way == 0).then(|| state.idle_since + state.limit)
    }
}

/// A request that is being answered.
pub(super) struct UnderWay(Arc<Activity>);

impl UnderWay {
    /// Its caller has shown that they belong here.
    pub(super) fn is_trusted(&self) {
        self.0.state().limit = self.0.limits.trusted;
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.under_way = state.under_way.saturating_sub(1);
        state.idle_since = Instant::now();
    }
}
