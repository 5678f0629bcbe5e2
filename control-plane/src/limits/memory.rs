//! Counts in memory, of a size that no caller can change.
//!
//! A count is one time: when the subject's quota will be whole again (GCRA's theoretical arrival
//! time). It lives in a bucket of [`WAYS`] counts, found by a keyed hash, so that nobody outside
//! can aim at a bucket. When a bucket is full, the count that is nearest to being whole gives way,
//! and whoever comes new begins from its time. So a count is never too low: a flood of addresses
//! cannot reset a busy one. It can be too high only where a bucket overflows, and only by what was
//! least in there.

use async_trait::async_trait;
use std::{
    hash::{BuildHasher, RandomState},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::{Decision, Meter, Quota, Subject};
use crate::clock::{Clock, unix_ms};

/// 4096 buckets of 8 counts of 16 bytes: half a megabyte for 32 768 subjects.
const BUCKETS: usize = 4096;
const WAYS: usize = 8;

/// A subject's count. Times are microseconds since the Unix epoch: of 600 requests a minute each
/// takes a tenth of a second, of a million 60 µs.
#[derive(Clone, Copy, Default)]
struct Count {
    /// The subject's hash; 0 where there is none.
    tag: u64,
    /// When the quota will be whole again.
    whole_at: u64,
}

/// Counts in this process's memory.
pub struct MemoryMeter {
    clock: Arc<dyn Clock>,
    hash: RandomState,
    table: Mutex<Table>,
}

struct Table {
    buckets: Vec<[Count; WAYS]>,
    /// The longest window that was asked for: no count is further ahead than this.
    longest: u64,
}

impl MemoryMeter {
    /// A meter that has counted nothing yet.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let buckets = vec![[Count::default(); WAYS]; BUCKETS];
        Self { clock, hash: RandomState::new(), table: Mutex::new(Table { buckets, longest: 0 }) }
    }

    fn ask(&self, subject: &Subject, quota: Quota, counts: bool) -> Decision {
        let hash = self.hash.hash_one(subject);
        let now = unix_ms(self.clock.now()).saturating_mul(1000);
        let window = micros(quota.window);
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        table.longest = table.longest.max(window);
        let furthest = now.saturating_add(table.longest);
        let buckets = &mut table.buckets;
        let count = u64::try_from(buckets.len()).unwrap_or(1);
        let place = usize::try_from(hash.checked_rem(count).unwrap_or(0)).unwrap_or(0);
        let Some(bucket) = buckets.get_mut(place) else {
            return unknown(quota);
        };
        // A clock that was set back must not lock anybody out for longer than a window.
        for count in bucket.iter_mut() {
            count.whole_at = count.whole_at.min(furthest);
        }
        // Zero stands for an empty place.
        let tag = hash.max(1);
        let (whole_at, floor) = stand(bucket, tag);
        let begins = whole_at.unwrap_or(floor).clamp(now, now.saturating_add(window));
        let (decision, ends) = decide(quota, begins - now);
        if counts && decision.allowed {
            put(bucket, tag, now.saturating_add(ends));
        }
        decision
    }
}

/// The subject's count; and where one who comes new begins.
fn stand(bucket: &[Count; WAYS], tag: u64) -> (Option<u64>, u64) {
    let known = bucket.iter().find(|count| count.tag == tag).map(|count| count.whole_at);
    let least = bucket.iter().map(|count| count.whole_at).min();
    (known, least.unwrap_or(0))
}

/// Writes the subject's count, in the place of the least one if it is new.
fn put(bucket: &mut [Count; WAYS], tag: u64, whole_at: u64) {
    let known = bucket.iter().position(|count| count.tag == tag);
    let least = bucket.iter().enumerate().min_by_key(|(_, count)| count.whole_at);
    let place = known.or(least.map(|(place, _)| place)).unwrap_or(0);
    if let Some(count) = bucket.get_mut(place) {
        *count = Count { tag, whole_at };
    }
}

/// Whether one more may come when the quota will be whole in `until_whole` µs, and in how many it
/// will be whole after that one.
pub(super) fn decide(quota: Quota, until_whole: u64) -> (Decision, u64) {
    let window = micros(quota.window);
    let each = each(quota);
    let ends = until_whole.saturating_add(each);
    let allowed = ends <= window;
    let stands = if allowed { ends } else { until_whole };
    let room = window.saturating_sub(stands);
    let remaining = room.checked_div(each).unwrap_or(0);
    let decision = Decision {
        allowed,
        remaining: u32::try_from(remaining).unwrap_or(u32::MAX).min(quota.requests.get()),
        reset_after: Duration::from_micros(stands),
        retry_after: Duration::from_micros(stands.saturating_add(each).saturating_sub(window)),
    };
    (decision, ends)
}

/// What one request takes of the window, in µs.
pub(super) fn each(quota: Quota) -> u64 {
    let window = micros(quota.window);
    window.checked_div(u64::from(quota.requests.get())).unwrap_or(window).max(1)
}

fn unknown(quota: Quota) -> Decision {
    decide(quota, 0).0
}

pub(super) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[async_trait]
impl Meter for MemoryMeter {
    async fn take(&self, subject: &Subject, quota: Quota) -> Decision {
        self.ask(subject, quota, true)
    }

    async fn look(&self, subject: &Subject, quota: Quota) -> Decision {
        self.ask(subject, quota, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{clock::testing::ManualClock, testing::START};
    use proptest::prelude::*;
    use std::num::NonZeroU32;

    fn meter() -> (MemoryMeter, ManualClock) {
        let clock = ManualClock::at(START);
        (MemoryMeter::new(Arc::new(clock.clone())), clock)
    }

    fn address(name: impl std::fmt::Display) -> Subject {
        Subject { kind: "address", name: name.to_string() }
    }

    fn quota(requests: u32) -> Quota {
        Quota::per_minute(NonZeroU32::new(requests).expect("not zero"))
    }

    #[tokio::test]
    async fn a_quota_may_be_used_at_once_and_comes_back_evenly() {
        let (meter, clock) = meter();
        let one = address("192.0.2.1");
        for left in (0..3).rev() {
            let decision = meter.take(&one, quota(3)).await;
            assert_eq!((decision.allowed, decision.remaining), (true, left));
        }
        let refused = meter.take(&one, quota(3)).await;
        assert_eq!((refused.allowed, refused.remaining), (false, 0));
        assert_eq!(refused.retry_after, Duration::from_secs(20));
        assert_eq!(refused.reset_after, Duration::from_mins(1));
        // What is refused costs nothing, so waiting helps.
        clock.advance_ms(19_999);
        assert!(!meter.take(&one, quota(3)).await.allowed);
        clock.advance_ms(1);
        assert!(meter.take(&one, quota(3)).await.allowed);
        assert!(!meter.take(&one, quota(3)).await.allowed);
        // Nobody else is concerned, not even of the same name.
        assert!(meter.take(&address("192.0.2.2"), quota(3)).await.allowed);
        let other = Subject { kind: "admin_key", ..one };
        assert!(meter.take(&other, quota(3)).await.allowed);
    }

    #[tokio::test]
    async fn looking_counts_nothing() {
        let (meter, _) = meter();
        for _ in 0..5 {
            assert_eq!(meter.look(&address("a"), quota(1)).await.remaining, 0);
            assert!(meter.look(&address("a"), quota(1)).await.allowed);
        }
        assert!(meter.take(&address("a"), quota(1)).await.allowed);
        assert!(!meter.look(&address("a"), quota(1)).await.allowed);
    }

    #[tokio::test]
    async fn a_flood_of_addresses_never_resets_a_busy_one_and_takes_no_memory() {
        let (meter, _) = meter();
        let busy = address("busy");
        while meter.take(&busy, quota(30)).await.allowed {}
        for number in 0..500_000 {
            meter.take(&address(number), quota(30)).await;
        }
        assert!(!meter.take(&busy, quota(30)).await.allowed);
        let table = meter.table.lock().expect("whole");
        assert_eq!((table.buckets.len(), table.buckets.capacity()), (BUCKETS, BUCKETS));
    }

    #[tokio::test]
    async fn a_clock_that_is_set_back_locks_nobody_out_for_longer_than_a_window() {
        let (meter, clock) = meter();
        let one = address("a");
        while meter.take(&one, quota(2)).await.allowed {}
        clock.advance_ms(-86_400_000);
        assert_eq!(meter.look(&one, quota(2)).await.reset_after, Duration::from_mins(1));
        clock.advance_ms(60_000);
        assert!(meter.take(&one, quota(2)).await.allowed);
    }

    proptest! {
        #[test]
        fn never_more_than_the_quota_and_its_refill_is_allowed(
            requests in 1_u32..50,
            pauses in proptest::collection::vec(0_i64..10_000, 1..200),
        ) {
            let (meter, clock) = meter();
            let (mut allowed, mut passed) = (0_i64, 0);
            for pause in pauses {
                clock.advance_ms(pause);
                passed += pause;
                let decision = meter.ask(&address("a"), quota(requests), true);
                allowed += i64::from(decision.allowed);
                prop_assert!(decision.remaining < requests);
                prop_assert_eq!(decision.allowed || decision.retry_after > Duration::ZERO, true);
                prop_assert!(decision.reset_after <= Duration::from_mins(1));
                let refilled = passed * i64::from(requests) / 60_000;
                prop_assert!(allowed <= i64::from(requests) + refilled + 1);
            }
        }
    }
}
