//! Since when each event waits to be written: how much there is, and how old it is.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};
use tokio::time::Instant;

use super::recorder::Backlog;

/// The times of those that wait, in the order of the queue that they wait in.
#[derive(Default)]
pub(super) struct Waiting(Mutex<VecDeque<Instant>>);

impl Waiting {
    fn times(&self) -> MutexGuard<'_, VecDeque<Instant>> {
        // Each change is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends one into the queue, and notes the time if there was room; says whether there was. Both
    /// happen under one lock, so the times are in the order of the queue.
    pub(super) fn join(&self, try_it: impl FnOnce() -> bool) -> bool {
        let mut times = self.times();
        let sent = try_it();
        if sent {
            times.push_back(Instant::now());
        }
        sent
    }

    /// The first so many are written, or given up.
    pub(super) fn leave(&self, count: usize) {
        let mut times = self.times();
        let count = count.min(times.len());
        times.drain(..count);
    }

    /// Forgets all but those that are still in the queue.
    pub(super) fn keep_last(&self, queued: impl FnOnce() -> usize) {
        let mut times = self.times();
        let gone = times.len().saturating_sub(queued());
        times.drain(..gone);
    }

    pub(super) fn backlog(&self) -> Backlog {
        let times = self.times();
        Backlog {
            events: u64::try_from(times.len()).unwrap_or(u64::MAX),
            age: times.front().map(Instant::elapsed).unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn joined(waiting: &Waiting) {
        assert!(waiting.join(|| true));
    }

    #[tokio::test(start_paused = true)]
    async fn the_age_is_that_of_the_oldest_which_still_waits() {
        let waiting = Waiting::default();
        assert_eq!(waiting.backlog(), Backlog { events: 0, age: Duration::ZERO });
        for _ in 0..3 {
            joined(&waiting);
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(waiting.backlog(), Backlog { events: 3, age: Duration::from_secs(3) });
        waiting.leave(1);
        assert_eq!(waiting.backlog(), Backlog { events: 2, age: Duration::from_secs(2) });
        waiting.keep_last(|| 1);
        assert_eq!(waiting.backlog(), Backlog { events: 1, age: Duration::from_secs(1) });
        assert!(!waiting.join(|| false));
        waiting.leave(5);
        assert_eq!(waiting.backlog().events, 0);
    }
}
