//! How often a code may be tried. With six digits and three steps that are right at any time, a
//! guess is right three times in a million.

use jiff::{SignedDuration, Timestamp};

/// Codes that may be tried within [`WINDOW`].
pub const MAX_IN_WINDOW: u32 = 5;
/// The time that they are counted in, from the first one on.
pub const WINDOW: SignedDuration = SignedDuration::from_mins(1);
/// Wrong codes in a row after which no code of six digits is taken any more: NIST SP 800-63B,
/// section 3.2.2, allows no more. Whoever guesses all of them is right three times in 10,000.
pub const MAX_IN_A_ROW: u32 = 100;

/// The codes that were tried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attempts {
    /// When the window began.
    pub from: Timestamp,
    /// Codes tried in it.
    pub in_window: u32,
    /// Codes tried since the last right one.
    pub in_a_row: u32,
}

/// Too many codes were tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMany {
    /// How long to wait.
    pub wait: SignedDuration,
}

impl Attempts {
    /// Counts one more. It is counted before it is looked at: many that come at once would all
    /// find the count of those that were looked at before.
    ///
    /// # Errors
    /// When there is no room for it.
    pub fn take(self, now: Timestamp) -> Result<Self, TooMany> {
        let in_a_row = self.in_a_row.saturating_add(1);
        let age = now.duration_since(self.from);
        // A clock that was set back begins anew, instead of making everyone wait.
        if age >= WINDOW || age.is_negative() {
            return Ok(Self { from: now, in_window: 1, in_a_row });
        }
        if self.in_window >= MAX_IN_WINDOW {
            return Err(TooMany { wait: WINDOW - age });
        }
        Ok(Self { in_window: self.in_window + 1, in_a_row, ..self })
    }

    /// Whether only a recovery code is taken. The attempt that was just counted is one of them.
    #[must_use]
    pub fn is_locked(self) -> bool {
        self.in_a_row > MAX_IN_A_ROW
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).expect("in range")
    }

    #[test]
    fn five_codes_a_minute_may_be_tried() {
        let mut attempts = Attempts::default();
        for second in 0..5 {
            attempts = attempts.take(at(second)).expect("room");
        }
        let refused = attempts.take(at(20)).expect_err("no room");
        assert_eq!(refused.wait, SignedDuration::from_secs(40));
        assert_eq!(attempts.take(at(60)).expect("room").in_window, 1);
        assert_eq!(attempts.take(at(-1)).expect("a clock set back").in_window, 1);
    }

    #[test]
    fn after_a_hundred_wrong_codes_in_a_row_no_more_are_taken() {
        let mut attempts = Attempts::default();
        for minute in 0..i64::from(MAX_IN_A_ROW) {
            attempts = attempts.take(at(60 * minute)).expect("room");
            assert!(!attempts.is_locked());
        }
        assert!(attempts.take(at(60_000)).expect("room").is_locked());
    }
}
