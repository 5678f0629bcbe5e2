//! Who follows the change feed, and how far each has got.
//!
//! A filter polls again as soon as it is answered, and says up to where it knows the feed. That is
//! all that is known of it: a poll that comes with a position is taken for the filter that was last
//! answered with it. For how many there are, and how far the slowest has got, that is enough.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::Instant;

/// A filter that has not come back for so long is gone. It trusts its own cache for 12 s without a
/// word, so a revocation has no hold there by then either.
const GONE_AFTER: Duration = Duration::from_secs(15);
/// Filters between two polls that are kept in mind; the listener lets no more poll at a time.
const MOST_AWAY: usize = 8192;

#[derive(Default)]
struct Seen {
    /// How many poll just now, by the position that they came with.
    polling: BTreeMap<u64, u64>,
    /// When those between two polls were answered, by the position that they were told.
    away: BTreeMap<u64, VecDeque<Instant>>,
}

impl Seen {
    fn forget_the_gone(&mut self, now: Instant) {
        self.away.retain(|_, answered| {
            while answered.front().is_some_and(|at| now.duration_since(*at) > GONE_AFTER) {
                answered.pop_front();
            }
            !answered.is_empty()
        });
    }

    fn away(&self) -> usize {
        self.away.values().map(VecDeque::len).sum()
    }
}

/// How many follow, and how far the slowest has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Census {
    /// How many filters there are.
    pub filters: u64,
    /// Up to where the slowest knows the feed; none, where there are none.
    pub slowest: Option<u64>,
}

/// Those who follow the feed.
#[derive(Default)]
pub struct Followers(Mutex<Seen>);

impl Followers {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        // Each change is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A filter polls that knows the feed up to `since`.
    pub(super) fn polls(&self, since: u64) -> Poll<'_> {
        let mut seen = self.seen();
        if let Some(answered) = seen.away.get_mut(&since) {
            answered.pop_front();
            if answered.is_empty() {
                seen.away.remove(&since);
            }
        }
        *seen.polling.entry(since).or_default() += 1;
        drop(seen);
        Poll { followers: self, since }
    }

    /// A filter was told the feed up to `position`, and will be back.
    pub(super) fn told(&self, position: u64) {
        let now = Instant::now();
        let mut seen = self.seen();
        if seen.away() >= MOST_AWAY {
            seen.forget_the_gone(now);
        }
        if seen.away() < MOST_AWAY {
            seen.away.entry(position).or_default().push_back(now);
        }
    }

    /// Counts them.
    #[must_use]
    pub fn census(&self) -> Census {
        let mut seen = self.seen();
        seen.forget_the_gone(Instant::now());
        let first = |position: Option<&u64>| position.copied();
        let slowest = [first(seen.polling.keys().next()), first(seen.away.keys().next())];
        let away = u64::try_from(seen.away()).unwrap_or(u64::MAX);
        Census {
            filters: seen.polling.values().sum::<u64>().saturating_add(away),
            slowest: slowest.into_iter().flatten().min(),
        }
    }
}

/// A poll that is under way; it ends when this is dropped, answered or not.
pub(super) struct Poll<'a> {
    followers: &'a Followers,
    since: u64,
}

impl Drop for Poll<'_> {
    fn drop(&mut self) {
        let mut seen = self.followers.seen();
        if let Some(count) = seen.polling.get_mut(&self.since) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                seen.polling.remove(&self.since);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn census(followers: &Followers) -> (u64, Option<u64>) {
        let Census { filters, slowest } = followers.census();
        (filters, slowest)
    }

    #[tokio::test(start_paused = true)]
    async fn a_filter_counts_once_whether_it_polls_or_is_between_two_polls() {
        let followers = Followers::default();
        assert_eq!(census(&followers), (0, None));
        followers.told(7);
        assert_eq!(census(&followers), (1, Some(7)));
        let poll = followers.polls(7);
        assert_eq!(census(&followers), (1, Some(7)));
        drop(poll);
        followers.told(9);
        assert_eq!(census(&followers), (1, Some(9)));
        // Another one, which hangs back.
        let _slow = followers.polls(8);
        assert_eq!(census(&followers), (2, Some(8)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_filter_that_does_not_come_back_is_gone() {
        let followers = Followers::default();
        followers.told(3);
        tokio::time::advance(GONE_AFTER).await;
        followers.told(5);
        assert_eq!(census(&followers), (2, Some(3)));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(census(&followers), (1, Some(5)));
        // One whose connection broke while it polled is gone at once.
        drop(followers.polls(5));
        assert_eq!(census(&followers), (0, None));
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded_however_many_come_once() {
        let followers = Followers::default();
        for n in 0..MOST_AWAY as u64 + 100 {
            followers.told(n);
        }
        assert_eq!(census(&followers).0, MOST_AWAY as u64);
    }
}
