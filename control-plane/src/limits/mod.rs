//! Counting what callers do here, and telling when it is too much.
//!
//! The limits of requests through Envoy are the gate's, and so is counting them; of those that a fleet
//! shares, [`fleet`] grants the parts. The rest is the control plane's own.

pub mod fleet;
pub mod memory;
pub mod shared;

use async_trait::async_trait;
use std::{num::NonZeroU32, time::Duration};

/// So many requests in such a time, by the generic cell rate algorithm: they may come all at once,
/// and come back evenly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// How many.
    pub requests: NonZeroU32,
    /// In which time.
    pub window: Duration,
}

impl Quota {
    /// So many a minute.
    #[must_use]
    pub fn per_minute(requests: NonZeroU32) -> Self {
        Self { requests, window: Duration::from_mins(1) }
    }
}

/// Whose requests are counted. Subjects of different kinds never share a count.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Subject {
    /// What it is, such as `admin_key`.
    pub kind: &'static str,
    /// Which one: a key id, an address.
    pub name: String,
}

/// What came of asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether there was room.
    pub allowed: bool,
    /// How many more could come at once.
    pub remaining: u32,
    /// Until all of the quota is there again.
    pub reset_after: Duration,
    /// Until one more may come; zero when one could now.
    pub retry_after: Duration,
}

/// Counts. It never fails: what cannot be counted in one place is counted in another.
#[async_trait]
pub trait Meter: Send + Sync {
    /// Counts one request, if there is room.
    async fn take(&self, subject: &Subject, quota: Quota) -> Decision;

    /// As [`Meter::take`], but counts nothing: whether one more would be allowed.
    async fn look(&self, subject: &Subject, quota: Quota) -> Decision;
}
