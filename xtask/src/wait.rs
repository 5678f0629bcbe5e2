//! Waiting for something to become true, on the real clock.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::interrupt;

/// Between two looks: short enough that a start feels immediate.
const POLL: Duration = Duration::from_millis(20);

/// A point in time after which waiting is over.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Instant);

impl Deadline {
    /// The deadline this far from now.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "a development tool waits on the real clock")]
    pub fn after(time: Duration) -> Self {
        Self(Instant::now() + time)
    }

    /// Whether it has passed.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "a development tool waits on the real clock")]
    pub fn has_passed(self) -> bool {
        Instant::now() >= self.0
    }
}

/// Looks again and again until there is an answer; `None` when the time is up first.
///
/// # Errors
/// What `look` fails with, and [`interrupt::Interrupted`].
pub fn until<T>(time: Duration, mut look: impl FnMut() -> Result<Option<T>>) -> Result<Option<T>> {
    let deadline = Deadline::after(time);
    loop {
        if let Some(found) = look()? {
            return Ok(Some(found));
        }
        interrupt::check()?;
        if deadline.has_passed() {
            return Ok(None);
        }
        std::thread::sleep(POLL);
    }
}

/// A short pause between two looks at something.
pub fn pause() {
    std::thread::sleep(POLL);
}

/// How long something takes.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Instant);

impl Stopwatch {
    /// Begins now.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "a development tool reports real time")]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Since the start.
    #[must_use]
    pub fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}
