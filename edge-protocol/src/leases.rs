//! How the Envoys of a fleet share one limit, and the arithmetic on which both sides agree.
//!
//! A limit of `requests` is in two parts. Half of it, rounded down, is the *shares*: split up front
//! among the live Envoys, and counted by each without asking anybody. The rest is the *pool*: it is
//! granted on demand, for one slice of time, by the control plane. Both are limits of the same
//! algorithm, each is never exceeded, so neither is their sum.
//!
//! Time is cut into slices ([`Slices`]). What is granted in a slice of a fixed window can be spent in
//! that slice only; of the other algorithms in the next one too, so that an answer is worth something
//! however late in its slice it comes, and what was asked for too early is not lost.
//! A grant is told as the *sum* of all that was granted to this Envoy in this slice under this
//! epoch: so an answer that is lost, late or read twice neither loses nor doubles anything.

use serde::{Deserialize, Serialize};

use crate::Algorithm;

/// The most asks in one call.
pub const MAX_ASKS: usize = 256;
/// The longest `limit` or `subject` of an ask, in bytes.
pub const MAX_NAME_BYTES: usize = 128;
/// All of the shares: what an Envoy holds is so many parts of it.
pub const ALL_SHARES: u32 = 1 << 16;
/// The most that clocks of a fleet may differ, in milliseconds. An Envoy that is further off gets
/// no share and no grants.
pub const MAX_SKEW_MS: u64 = 1000;
/// The most slices in a window, and the shortest slice, in milliseconds.
const MOST_SLICES: u64 = 32;
const SHORTEST_SLICE_MS: u64 = 125;

/// What of a limit is split up front.
#[must_use]
pub fn shares_of(requests: u32) -> u32 {
    requests / 2
}

/// What of a limit is granted on demand.
#[must_use]
pub fn pool_of(requests: u32) -> u32 {
    requests - shares_of(requests)
}

/// What an Envoy that holds so many parts of the shares may admit on its own.
#[must_use]
pub fn share_of(requests: u32, parts: u32) -> u32 {
    let share = u64::from(shares_of(requests)) * u64::from(parts.min(ALL_SHARES));
    u32::try_from(share / u64::from(ALL_SHARES)).unwrap_or(u32::MAX)
}

/// How a limit's time is cut into slices, counted from the Unix epoch.
///
/// A fixed window is one slice. Of the other algorithms a window is up to 32 slices, each an eighth
/// of a second or longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slices {
    /// The length of one, in milliseconds.
    pub ms: u64,
    /// How many make a window, rounded up.
    pub in_window: u64,
    /// In how many slices, its own the first of them, a grant can be spent.
    pub lasts: u64,
}

impl Slices {
    /// The slices of a limit.
    #[must_use]
    pub fn of(algorithm: Algorithm, window_seconds: u32) -> Self {
        let window = u64::from(window_seconds.max(1)) * 1000;
        let (ms, lasts) = match algorithm {
            Algorithm::FixedWindow => (window, 1),
            Algorithm::SlidingWindow | Algorithm::TokenBucket => {
                (window.div_ceil(MOST_SLICES).max(SHORTEST_SLICE_MS), 2)
            }
        };
        Self { ms, in_window: window.div_ceil(ms), lasts }
    }

    /// Of how many slices the grants can be spent within one window: it touches one more than make
    /// a window, and what was granted before may still be there.
    #[must_use]
    pub fn run(&self) -> u64 {
        self.in_window + self.lasts
    }

    /// In which slice a moment is.
    #[must_use]
    pub fn at(&self, unix_ms: u64) -> u64 {
        unix_ms / self.ms
    }

    /// When a slice begins, in milliseconds since the Unix epoch.
    #[must_use]
    pub fn begins_ms(&self, slice: u64) -> u64 {
        slice.saturating_mul(self.ms)
    }
}

/// What an Envoy wants of the control plane: to be counted among the fleet, and more of some limits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseCall {
    /// Which Envoy it is, in 16 lower-case hex digits; all its workers say the same, for as long as
    /// it runs.
    pub envoy: String,
    /// That it lives, and what it holds; about once a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub presence: Option<Presence>,
    /// At most [`MAX_ASKS`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub asks: Vec<Ask>,
}

/// That an Envoy lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Presence {
    /// Which call of this Envoy this is. An answer to any but the latest is not to be used.
    pub number: u64,
    /// How many parts of [`ALL_SHARES`] it holds: no worker of it goes by more any longer.
    pub holds: u32,
    /// Its clock, in milliseconds since the Unix epoch.
    pub now_ms: u64,
}

/// More of one limit is wanted, for one subject in one slice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ask {
    /// The limit's name, or `!key` for one that a key brings along.
    pub limit: String,
    /// Whom it counts, as `address:192.0.2.1`, `key:3c5588afe5b04bdd` or both with a `,` between.
    pub subject: String,
    /// How it counts.
    pub algorithm: Algorithm,
    /// The whole limit.
    pub requests: u32,
    /// The window's length in seconds.
    pub window_seconds: u32,
    /// The slice for which it is to be granted.
    pub slice: u64,
    /// Tells apart what this Envoy has forgotten (grants of an earlier epoch count as spent).
    pub epoch: u32,
    /// What was granted to it in this slice and epoch, as far as it knows.
    pub granted: u32,
    /// What of that it has spent.
    pub used: u32,
    /// What it could spend now, at least 1. It may get more, or less.
    pub want: u32,
    /// How many parts of the shares it holds.
    pub holds: u32,
}

/// The answer to a [`LeaseCall`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseAnswer {
    /// How the Envoy stands in the fleet, if it said that it lives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standing: Option<Standing>,
    /// One for each ask, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub grants: Vec<Grant>,
}

/// How an Envoy stands in the fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Which call this answers ([`Presence::number`]).
    pub number: u64,
    /// How many parts of [`ALL_SHARES`] it may hold. When it is fewer than before, at once; when it
    /// is more, for what begins from now on.
    pub parts: u32,
    /// How many Envoys live, this one among them.
    pub envoys: u32,
    /// Whether those are all: everybody who lives has had the time to say so.
    #[serde(default = "all")]
    pub counted: bool,
    /// How long this is good for, from when the call was sent, in milliseconds.
    pub valid_ms: u64,
}

/// Who tells no more than how many takes those for all.
fn all() -> bool {
    true
}

/// What came of an [`Ask`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// All that was granted to this Envoy in this slice and epoch.
    pub granted: u32,
    /// What the pool has left in this slice.
    pub left: u32,
    /// When there is nothing left: the first slice in which there may be more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasm_bindgen_test::wasm_bindgen_test;

    #[wasm_bindgen_test(unsupported = test)]
    fn shares_and_pool_are_the_limit() {
        for requests in [1, 2, 3, 10, 99, 100, 10_000, u32::MAX] {
            assert_eq!(shares_of(requests) + pool_of(requests), requests);
            for envoys in 1..=9 {
                let parts = ALL_SHARES / envoys;
                assert!(share_of(requests, parts) * envoys <= shares_of(requests));
            }
            assert_eq!(share_of(requests, ALL_SHARES), shares_of(requests));
        }
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn slices_are_no_shorter_than_calls_can_keep_up_with() {
        let cut = |algorithm, window| {
            let slices = Slices::of(algorithm, window);
            (slices.ms, slices.in_window, slices.run())
        };
        assert_eq!(cut(Algorithm::FixedWindow, 60), (60_000, 1, 2));
        assert_eq!(cut(Algorithm::SlidingWindow, 60), (1875, 32, 34));
        assert_eq!(cut(Algorithm::TokenBucket, 10), (313, 32, 34));
        assert_eq!(cut(Algorithm::SlidingWindow, 1), (125, 8, 10));
    }
}
