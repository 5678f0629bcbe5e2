//! Leaving a Redis alone that fails: when at least half of the calls of the last seconds failed,
//! none is made for a while; then the keeper's probe decides, so that no request has to try.

use std::time::Duration;
use tokio::time::Instant;

/// Fewer calls than this tell nothing.
const MIN_CALLS: u32 = 20;
/// How long a call counts: this, and up to as much again.
const HALF_WINDOW: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    calls: u32,
    failures: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Closed,
    /// No calls until then, and after it only probes.
    Open(Instant),
}

/// The breaker. The time is passed in.
#[derive(Debug)]
pub(super) struct Breaker {
    phase: Phase,
    current: Tally,
    previous: Tally,
    /// When `current` began.
    began: Instant,
}

impl Breaker {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            phase: Phase::Closed,
            current: Tally::default(),
            previous: Tally::default(),
            began: now,
        }
    }

    /// Whether calls may be made.
    pub(super) fn lets_through(&self) -> bool {
        self.phase == Phase::Closed
    }

    /// Counts what came of a call; `pause` is how long to make none if it was one too many.
    pub(super) fn record(
        &mut self,
        now: Instant,
        succeeded: bool,
        pause: impl FnOnce() -> Duration,
    ) {
        // What was under way when it opened tells nothing new.
        if self.phase != Phase::Closed {
            return;
        }
        self.roll(now);
        self.current.calls = self.current.calls.saturating_add(1);
        self.current.failures = self.current.failures.saturating_add(u32::from(!succeeded));
        let calls = self.current.calls.saturating_add(self.previous.calls);
        let failures = self.current.failures.saturating_add(self.previous.failures);
        if !succeeded && calls >= MIN_CALLS && failures >= calls.div_ceil(2) {
            self.open(now, pause());
        }
    }

    /// What came of a probe. While the pause lasts it changes nothing: a Redis that is overloaded
    /// answers a single probe well.
    pub(super) fn probed(
        &mut self,
        now: Instant,
        succeeded: bool,
        pause: impl FnOnce() -> Duration,
    ) {
        let Phase::Open(until) = self.phase else { return };
        if now < until {
            return;
        }
        if succeeded {
            *self = Self::new(now);
            tracing::info!("Redis is in use again");
        } else {
            self.open(now, pause());
        }
    }

    fn open(&mut self, now: Instant, pause: Duration) {
        let pause_ms = pause.as_millis();
        tracing::warn!(pause_ms, "Redis fails, and is left alone for a while");
        self.phase = Phase::Open(now + pause);
    }

    fn roll(&mut self, now: Instant) {
        let age = now.saturating_duration_since(self.began);
        if age < HALF_WINDOW {
            return;
        }
        self.previous = if age < HALF_WINDOW * 2 { self.current } else { Tally::default() };
        self.current = Tally::default();
        self.began = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_secs(5);

    struct Story {
        breaker: Breaker,
        now: Instant,
    }

    impl Story {
        fn begin() -> Self {
            let now = Instant::now();
            Self { breaker: Breaker::new(now), now }
        }

        fn calls(&mut self, count: u32, succeeded: bool) -> &mut Self {
            for _ in 0..count {
                self.breaker.record(self.now, succeeded, || PAUSE);
            }
            self
        }

        fn later(&mut self, by: Duration) -> &mut Self {
            self.now += by;
            self
        }

        fn probe(&mut self, succeeded: bool) -> bool {
            self.breaker.probed(self.now, succeeded, || PAUSE);
            self.breaker.lets_through()
        }

        fn is_closed(&self) -> bool {
            self.breaker.lets_through()
        }
    }

    #[test]
    fn it_opens_when_half_of_twenty_calls_failed() {
        assert!(Story::begin().calls(19, false).is_closed());
        assert!(!Story::begin().calls(20, false).is_closed());
        assert!(!Story::begin().calls(10, true).calls(10, false).is_closed());
        assert!(Story::begin().calls(11, true).calls(10, false).is_closed());
        assert!(Story::begin().calls(1000, true).calls(900, false).is_closed());
    }

    #[test]
    fn what_is_long_past_no_longer_counts() {
        let mut story = Story::begin();
        story.calls(19, false).later(HALF_WINDOW * 2).calls(1, false);
        assert!(story.is_closed());
        // A great many good calls of a while ago must not hide that all fail now.
        let mut story = Story::begin();
        story.calls(10_000, true).later(HALF_WINDOW * 2).calls(20, false);
        assert!(!story.is_closed());
        // But the last few seconds count across the roll.
        let mut story = Story::begin();
        story.calls(19, false).later(HALF_WINDOW).calls(1, false);
        assert!(!story.is_closed());
    }

    #[test]
    fn only_a_probe_after_the_pause_closes_it() {
        let mut story = Story::begin();
        story.calls(20, false);
        assert!(!story.probe(true), "within the pause");
        story.later(PAUSE).calls(100, true);
        assert!(!story.is_closed(), "calls that were under way");
        assert!(!story.probe(false));
        assert!(!story.later(PAUSE / 2).probe(true), "within the second pause");
        assert!(story.later(PAUSE / 2).probe(true));
        assert!(story.calls(19, false).is_closed(), "it begins from nothing");
    }
}
