//! What the gate counts for metrics.

macro_rules! counters {
    ($(#[doc = $meaning:literal] $variant:ident = $name:literal),+ $(,)?) => {
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Counter { $(#[doc = $meaning] $variant),+ }

        /// The counters' names, in the order of [`Tally::take`].
        pub const COUNTER_NAMES: &[&str] = &[$($name),+];

        /// What each of them counts, in the same order.
        pub const COUNTER_MEANINGS: &[&str] = &[$($meaning),+];
    };
}

counters! {
    /// Requests that passed with a key.
    Allowed = "keygate.allowed",
    /// Requests that passed without, on public routes or in shadow mode.
    Anonymous = "keygate.anonymous",
    /// Requests refused for having no key.
    MissingApiKey = "keygate.refused.missing_api_key",
    /// Requests refused since what they brought is no key by its form (layers 0, 3 and 4).
    InvalidFormat = "keygate.refused.invalid_format",
    /// Requests refused for a test key where it must not be, or for an ambiguous path.
    SecurityViolation = "keygate.refused.security_violation",
    /// Requests refused for a key that is none of ours.
    InvalidKey = "keygate.refused.invalid_key",
    /// Requests refused for a key whose time is over.
    ExpiredKey = "keygate.refused.expired_key",
    /// Requests refused for a revoked key.
    RevokedKey = "keygate.refused.revoked_key",
    /// Requests refused since their key may not be used from their address.
    IpDenied = "keygate.refused.ip_denied",
    /// Requests refused since their key may not do what they ask.
    ScopeDenied = "keygate.refused.scope_denied",
    /// Requests refused by a limit, or for too many failed attempts.
    RateLimited = "keygate.refused.rate_limited",
    /// Requests refused since it could not be told whether their key is one of ours.
    DbError = "keygate.refused.db_error",
    /// Requests refused since there was no room for their events.
    BacklogFull = "keygate.refused.backlog_full",
    /// What shadow mode let pass.
    WouldRefuse = "keygate.shadow.would_refuse",
    /// Requests whose key was known and fresh.
    CacheHit = "keygate.cache.hit",
    /// Requests that waited for an answer.
    CacheMiss = "keygate.cache.miss",
    /// Requests that were decided on an old answer, since none could be had.
    CacheStale = "keygate.cache.stale",
    /// Questions put to the control plane.
    VerifyCall = "keygate.calls.verify",
    /// Calls of any kind that failed.
    CallFailed = "keygate.calls.failed",
    /// Times that the cache had to be dropped for a hole in the feed.
    FeedReset = "keygate.feed.reset",
    /// Changes heard of.
    FeedChange = "keygate.feed.changes",
    /// Events for which there was no room.
    EventDropped = "keygate.events.dropped",
    /// Uses of keys for which there was no room.
    UsageDropped = "keygate.usage.dropped",
    /// Limits whose count could not be had.
    LimitUnknown = "keygate.limits.unknown",
    /// Requests that waited for more of a limit that the fleet shares.
    LimitWait = "keygate.limits.waited",
    /// Counts against this Envoy's part of such a limit, the control plane being or having been away.
    SafeShare = "keygate.limits.safe_share",
    /// Calls to the control plane about such limits.
    LeaseCall = "keygate.calls.leases",
}

/// Counts since they were last taken.
#[derive(Clone, Debug)]
pub struct Tally {
    counts: [u32; COUNTER_NAMES.len()],
}

impl Tally {
    pub(crate) fn new() -> Self {
        Self { counts: [0; COUNTER_NAMES.len()] }
    }

    pub(crate) fn add(&mut self, counter: Counter, n: usize) {
        if let Some(count) = self.counts.get_mut(counter as usize) {
            *count = count.saturating_add(u32::try_from(n).unwrap_or(u32::MAX));
        }
    }

    pub(crate) fn count(&mut self, counter: Counter) {
        self.add(counter, 1);
    }

    /// Hands out each counter that moved, as its place in [`COUNTER_NAMES`] and its increase,
    /// and starts over.
    pub fn take(&mut self, mut each: impl FnMut(usize, u32)) {
        for (i, count) in self.counts.iter_mut().enumerate() {
            if *count > 0 {
                each(i, std::mem::take(count));
            }
        }
    }
}
