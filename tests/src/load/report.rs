//! What the clients of a load have seen.

use std::time::{Duration, Instant};

use super::Carries;

/// How many answers a failed test shows.
const SHOWN: usize = 5;

/// One request, and what came of it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The name of the client.
    pub client: &'static str,
    /// What it carried.
    pub carried: Carries,
    /// Its address, another one for each request.
    pub address: String,
    /// When it was sent.
    pub begun: Instant,
    /// How long its answer took.
    pub took: Duration,
    /// The status; 0 when the connection ended without an answer.
    pub status: u16,
    /// The `code` of the problem document; empty when the answer was none.
    pub code: String,
    /// `Retry-After`.
    pub retry_after: Option<String>,
}

/// Requests, in the order of their answers. The parts of it are reports too, and each claim about one
/// fails the test when it does not hold, or when there is nothing that it could hold for.
#[derive(Clone, Debug)]
#[must_use]
pub struct Report {
    /// All of them.
    pub seen: Vec<Seen>,
}

impl Report {
    pub(super) fn new(seen: Vec<Seen>) -> Self {
        Self { seen }
    }

    fn part(&self, is_of_it: impl Fn(&Seen) -> bool) -> Self {
        Self::new(self.seen.iter().filter(|it| is_of_it(it)).cloned().collect())
    }

    /// Those of the clients of this name.
    pub fn of(&self, client: &str) -> Self {
        self.part(|it| it.client == client)
    }

    /// Those that were sent after this moment.
    pub fn begun_after(&self, moment: Instant) -> Self {
        self.part(|it| it.begun >= moment)
    }

    /// Those that were sent before this moment.
    pub fn begun_before(&self, moment: Instant) -> Self {
        self.part(|it| it.begun < moment)
    }

    /// Those that had an answer, good or bad.
    pub fn answered(&self) -> Self {
        self.part(|it| it.status != 0)
    }

    /// How many took longer.
    #[must_use]
    pub fn slower_than(&self, time: Duration) -> usize {
        self.seen.iter().filter(|it| it.took > time).count()
    }

    /// How long the middle one took of those that took longer than this: how long it is waited,
    /// whatever a busy machine adds to some.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    #[track_caller]
    pub fn usual_wait_beyond(&self, time: Duration) -> Duration {
        let mut waits: Vec<_> =
            self.seen.iter().map(|it| it.took).filter(|it| *it > time).collect();
        waits.sort_unstable();
        *waits.get(waits.len() / 2).unwrap_or_else(|| panic!("none took longer than {time:?}"))
    }

    /// How many have this status.
    #[must_use]
    pub fn count(&self, status: u16) -> usize {
        self.seen.iter().filter(|it| it.status == status).count()
    }

    /// When the last one was sent that has this status.
    #[must_use]
    pub fn last_begun(&self, status: u16) -> Option<Instant> {
        self.seen.iter().filter(|it| it.status == status).map(|it| it.begun).max()
    }

    /// Each has one of these statuses.
    #[track_caller]
    pub fn only(&self, statuses: &[u16]) -> &Self {
        self.each(&format!("has status {statuses:?}"), |it| statuses.contains(&it.status))
    }

    /// None has this status.
    #[track_caller]
    pub fn never(&self, status: u16) -> &Self {
        self.each(&format!("has another status than {status}"), |it| it.status != status)
    }

    /// Each was answered within this time.
    #[track_caller]
    pub fn each_within(&self, time: Duration) -> &Self {
        self.each(&format!("took at most {time:?}"), |it| it.took <= time)
    }

    /// Each that has status 503 or 429 says when to come back.
    #[track_caller]
    pub fn refusals_say_when(&self) -> &Self {
        self.each("says when to come back", |it| {
            !matches!(it.status, 429 | 503) || it.retry_after.is_some()
        })
    }

    /// Each is as it should be.
    #[track_caller]
    pub fn each(&self, claim: &str, holds: impl Fn(&Seen) -> bool) -> &Self {
        assert!(!self.seen.is_empty(), "no request is there of which it could be said: {claim}");
        let wrong: Vec<_> = self.seen.iter().filter(|it| !holds(it)).collect();
        let shown = &wrong[..wrong.len().min(SHOWN)];
        assert!(
            wrong.is_empty(),
            "{} of {} do not do: each {claim}. Among them: {shown:#?}",
            wrong.len(),
            self.seen.len()
        );
        self
    }

    /// Says how many there are and how long they took, for the one who reads the test's output.
    pub fn print(&self, what: &str) -> &Self {
        let mut took: Vec<_> = self.seen.iter().map(|it| it.took).collect();
        took.sort_unstable();
        let at = |share: usize| took.get(took.len().saturating_sub(1) * share / 100);
        println!(
            "{what}: {} requests, p50 {:?}, p99 {:?}, longest {:?}",
            took.len(),
            at(50).copied().unwrap_or_default(),
            at(99).copied().unwrap_or_default(),
            at(100).copied().unwrap_or_default()
        );
        self
    }
}
