//! Time, as a parameter.

use jiff::Timestamp;

/// Tells the time, in whole milliseconds: that is what is stored, so what is answered at once and
/// what is read back later are the same.
pub trait Clock: Send + Sync + 'static {
    /// The time now.
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock that all others are given")]
    fn now(&self) -> Timestamp {
        let now = Timestamp::now();
        Timestamp::from_millisecond(now.as_millisecond()).unwrap_or(now)
    }
}

/// Milliseconds since the Unix epoch; times before it count as the epoch itself.
#[must_use]
pub fn unix_ms(time: Timestamp) -> u64 {
    u64::try_from(time.as_millisecond()).unwrap_or(0)
}

/// The time that so many milliseconds since the Unix epoch are; the epoch, if it is none.
#[must_use]
pub fn from_unix_ms(millis: u64) -> Timestamp {
    let millis = i64::try_from(millis).ok();
    millis.and_then(|ms| Timestamp::from_millisecond(ms).ok()).unwrap_or_default()
}

#[cfg(test)]
pub(crate) mod testing {
    use super::{Clock, Timestamp};
    use std::sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    };

    /// A clock that stands still until it is told to move.
    #[derive(Clone, Debug)]
    pub(crate) struct ManualClock(Arc<AtomicI64>);

    impl ManualClock {
        pub(crate) fn at(text: &str) -> Self {
            let start: Timestamp = text.parse().expect("a timestamp");
            Self(Arc::new(AtomicI64::new(start.as_millisecond())))
        }

        pub(crate) fn advance_ms(&self, by: i64) {
            self.0.fetch_add(by, Ordering::SeqCst);
        }
    }

    impl Clock for ManualClock {
        fn now(&self) -> Timestamp {
            Timestamp::from_millisecond(self.0.load(Ordering::SeqCst)).expect("in range")
        }
    }
}
