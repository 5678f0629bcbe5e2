//! Limits that a fleet of Envoys shares: the control plane's side of [`edge_protocol::leases`].
//!
//! | file | room for |
//! |---|---|
//! | `pool` | the arithmetic of one subject's pool |
//! | `members` | the arithmetic of who lives and holds which parts |
//! | `memory` | both in this process's memory: the authority without Redis, and a mirror of it with |
//! | `redis` | both as scripts in Redis |
//! | `record` | what is said to the pools' script, and by it |
//! | `authority` | who answers a call: Redis while it does, else memory |
//!
//! Pools and members know no clock and no I/O; the scripts are the same arithmetic once more, and a
//! test holds them against it.
//!
//! **Why a pool and the shares are never more than the limit.** Each is a limit of its own, except
//! while a new table of members learns: then nobody holds a share, and the pool is all of the limit
//! ([`Learnt::is_certain`]). A fixed window that begins before the first share is given away is
//! one in which no share counts, since an Envoy uses more parts only from the next window on. Of the
//! other algorithms a share counts one window after it was given at the earliest; but the window
//! that ends then begins now, so all of the limit may be granted only where the slices in
//! which it can be spent are over, on all clocks, when the first share is given.
//!
//! Shares are whole requests: three Envoys have one each of five. While each holds its even part
//! ([`Learnt::is_even`]), what their rounding leaves over is the pool's.

mod authority;
pub mod members;
mod memory;
pub mod pool;
mod record;
mod redis;

#[cfg(test)]
mod tests;

pub use authority::{Census, FleetLimits};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use edge_protocol::{
    Algorithm,
    leases::{Ask, MAX_SKEW_MS, Slices},
};
use sha2::{Digest, Sha256};
use std::fmt;

/// How long a standing is good for, and how long a new table of members learns: by then whoever was
/// told something by an earlier one has said so, or goes by it no longer.
pub const VALID_MS: u64 = 5000;

/// Which Envoy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EnvoyId(u64);

impl EnvoyId {
    /// Reads 16 lower-case hex digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        (text.len() == 16 && digits).then(|| u64::from_str_radix(text, 16).ok().map(Self))?
    }
}

impl fmt::Display for EnvoyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Which pool: a digest of the limit's name, how it counts, and the subject. So names of any length
/// take the same room, and no subject can choose its slot of a Cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PoolId([u8; 16]);

impl PoolId {
    /// The pool that is asked of.
    #[must_use]
    pub fn of(ask: &Ask) -> Self {
        let mut digest = Sha256::new();
        // Each with its length, so that no two pools read the same.
        for name in [&ask.limit, &ask.subject] {
            digest.update(name.len().to_le_bytes());
            digest.update(name);
        }
        digest.update([code(ask.algorithm)]);
        digest.update(ask.window_seconds.to_le_bytes());
        let digest: [u8; 32] = digest.finalize().into();
        let mut id = [0; 16];
        id.copy_from_slice(digest.first_chunk::<16>().unwrap_or(&[0; 16]));
        Self(id)
    }

    /// As it is written in a key of Redis.
    fn text(self) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(self.0)
    }
}

/// The algorithm as a number, for digests and scripts.
fn code(algorithm: Algorithm) -> u8 {
    match algorithm {
        Algorithm::FixedWindow => 0,
        Algorithm::SlidingWindow => 1,
        Algorithm::TokenBucket => 2,
    }
}

/// What a call knows of the table of members: when it was done learning, and whether shares are out
/// that it never gave away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Learnt {
    /// When the table was done learning; no share was given before.
    pub at_ms: u64,
    /// Whether somebody holds a share of an earlier table.
    pub foreign: bool,
    /// Since when each that lives holds its even part, as far as was heard.
    pub even_ms: u64,
}

impl Learnt {
    /// Whether each that lives has held its even part, and nobody else any, in all of the windows
    /// that spending in this slice counts in: who has not been heard of since is gone by now.
    #[must_use]
    pub fn is_even(&self, algorithm: Algorithm, slices: Slices, slice: u64) -> bool {
        let begins = match algorithm {
            Algorithm::FixedWindow => slice,
            Algorithm::SlidingWindow | Algorithm::TokenBucket => {
                slice.saturating_sub(slices.in_window)
            }
        };
        let settled = self.even_ms.saturating_add(VALID_MS + 2 * MAX_SKEW_MS);
        slices.begins_ms(begins) >= settled
    }

    /// Whether it is certain that no share counts in any window that spending in this slice does.
    #[must_use]
    pub fn is_certain(&self, algorithm: Algorithm, slices: Slices, slice: u64) -> bool {
        let told = match algorithm {
            Algorithm::FixedWindow => slices.begins_ms(slice) < self.at_ms,
            Algorithm::SlidingWindow | Algorithm::TokenBucket => {
                let spent = slices.begins_ms(slice.saturating_add(slices.lasts));
                let over = spent.saturating_add(MAX_SKEW_MS);
                over <= self.at_ms
            }
        };
        told && !self.foreign
    }
}
