//! The time that is asked about, and the parts that it is told in.

use jiff::Timestamp;
use std::{fmt, str::FromStr};

/// The most parts of a period: a day of minutes, two months of hours, four years of days.
pub const MAX_POINTS: i64 = 1500;

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;

/// How long the parts of a period are. They begin where the clock (UTC) has them begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = UsageInterval)]
pub enum Interval {
    /// Minutes, as usage is kept.
    Minute,
    /// Hours.
    #[default]
    Hour,
    /// Days.
    Day,
}

impl Interval {
    /// Its length in milliseconds.
    #[must_use]
    pub fn ms(self) -> i64 {
        match self {
            Self::Minute => MINUTE_MS,
            Self::Hour => HOUR_MS,
            Self::Day => DAY_MS,
        }
    }

    /// The name, as it is asked for and answered.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }

    /// How far back a period of such parts goes when nobody says, in milliseconds.
    fn usual_ms(self) -> i64 {
        match self {
            Self::Minute => HOUR_MS,
            Self::Hour => DAY_MS,
            Self::Day => 30 * DAY_MS,
        }
    }
}

impl fmt::Display for Interval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Interval {
    type Err = PeriodFault;

    fn from_str(text: &str) -> Result<Self, PeriodFault> {
        [Self::Minute, Self::Hour, Self::Day]
            .into_iter()
            .find(|it| it.as_str() == text)
            .ok_or(PeriodFault::UnknownInterval)
    }
}

/// Why there is no such period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeriodFault {
    /// No such interval.
    #[error("must be minute, hour or day")]
    UnknownInterval,
    /// It ends before it begins.
    #[error("must be before `until`")]
    Empty,
    /// It has too many parts.
    #[error("must be at most 1500 intervals before `until`; ask for longer ones, or for less time")]
    TooLong,
}

/// A time in parts of the same length, of which the first and the last are whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Period {
    since_ms: i64,
    until_ms: i64,
    interval: Interval,
}

impl Period {
    /// The parts that have something of the time from `since` until before `until`. Without
    /// `until` it ends now; without `since` it is an hour of minutes, a day of hours, or thirty
    /// days.
    ///
    /// # Errors
    /// When it is empty, or has too many parts.
    pub fn new(
        since: Option<Timestamp>,
        until: Option<Timestamp>,
        interval: Interval,
        now: Timestamp,
    ) -> Result<Self, PeriodFault> {
        let until_ms = until.unwrap_or(now).as_millisecond();
        let since_ms = since.map_or(until_ms - interval.usual_ms(), Timestamp::as_millisecond);
        if since_ms >= until_ms {
            return Err(PeriodFault::Empty);
        }
        let length = interval.ms();
        let since_ms = since_ms.div_euclid(length) * length;
        let until_ms = (until_ms - 1).div_euclid(length) * length + length;
        if (until_ms - since_ms) / length > MAX_POINTS {
            return Err(PeriodFault::TooLong);
        }
        Ok(Self { since_ms, until_ms, interval })
    }

    /// When it begins, in milliseconds since the Unix epoch.
    #[must_use]
    pub fn since_ms(&self) -> i64 {
        self.since_ms
    }

    /// When it is over, in milliseconds since the Unix epoch.
    #[must_use]
    pub fn until_ms(&self) -> i64 {
        self.until_ms
    }

    /// How long its parts are.
    #[must_use]
    pub fn interval(&self) -> Interval {
        self.interval
    }
}

/// A time that may be just past the last that can be written; that one then.
pub(super) fn time(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(ms).unwrap_or(if ms < 0 { Timestamp::MIN } else { Timestamp::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::at;
    use proptest::prelude::*;

    fn period(
        since: Option<&str>,
        until: Option<&str>,
        interval: Interval,
    ) -> Result<(String, String), PeriodFault> {
        let now = at("2026-11-25T12:34:56.789Z");
        let period = Period::new(since.map(at), until.map(at), interval, now)?;
        Ok((time(period.since_ms).to_string(), time(period.until_ms).to_string()))
    }

    fn of(since: &str, until: &str) -> (String, String) {
        (since.to_owned(), until.to_owned())
    }

    #[test]
    fn a_period_has_the_whole_of_its_first_and_last_part() {
        let minute = period(
            Some("2026-11-25T10:00:59.999Z"),
            Some("2026-11-25T10:02:00.001Z"),
            Interval::Minute,
        );
        assert_eq!(minute, Ok(of("2026-11-25T10:00:00Z", "2026-11-25T10:03:00Z")));
        let exact = (Some("2026-11-25T10:00:00Z"), Some("2026-11-25T12:00:00Z"));
        assert_eq!(
            period(exact.0, exact.1, Interval::Hour),
            Ok(of("2026-11-25T10:00:00Z", "2026-11-25T12:00:00Z"))
        );
        assert_eq!(
            period(exact.0, exact.1, Interval::Day),
            Ok(of("2026-11-25T00:00:00Z", "2026-11-26T00:00:00Z"))
        );
    }

    #[test]
    fn what_is_left_out_is_a_while_until_now() {
        assert_eq!(
            period(None, None, Interval::Minute),
            Ok(of("2026-11-25T11:34:00Z", "2026-11-25T12:35:00Z"))
        );
        assert_eq!(
            period(None, None, Interval::Hour),
            Ok(of("2026-11-24T12:00:00Z", "2026-11-25T13:00:00Z"))
        );
        assert_eq!(
            period(None, Some("2026-03-31T00:00:00Z"), Interval::Day),
            Ok(of("2026-03-01T00:00:00Z", "2026-03-31T00:00:00Z"))
        );
    }

    #[test]
    fn a_period_that_is_empty_or_too_long_is_refused() {
        let noon = Some("2026-11-25T12:00:00Z");
        assert_eq!(period(noon, noon, Interval::Day), Err(PeriodFault::Empty));
        assert_eq!(
            period(Some("2027-01-01T00:00:00Z"), None, Interval::Day),
            Err(PeriodFault::Empty)
        );
        let day = Some("2026-11-24T11:00:00Z");
        assert_eq!(
            period(day, noon, Interval::Minute),
            Ok(of("2026-11-24T11:00:00Z", "2026-11-25T12:00:00Z"))
        );
        let more = Some("2026-11-24T10:59:59Z");
        assert_eq!(period(more, noon, Interval::Minute), Err(PeriodFault::TooLong));
        assert!(PeriodFault::TooLong.to_string().contains(&MAX_POINTS.to_string()));
        assert_eq!(
            period(Some("-009999-01-02T02:00:00Z"), Some("9999-12-30T22:00:00Z"), Interval::Day),
            Err(PeriodFault::TooLong)
        );
    }

    proptest! {
        #[test]
        fn any_times_make_a_bounded_period_or_a_fault(
            since in proptest::option::of(-377_705_023_201_000_i64..=253_402_207_200_999),
            length in proptest::option::of(-1_000_i64..=1_600 * DAY_MS),
            now in 0_i64..=4_102_444_800_000,
            interval in proptest::sample::select(vec![Interval::Minute, Interval::Hour, Interval::Day]),
        ) {
            let until = length.map(|length| time(since.unwrap_or(now).saturating_add(length)));
            let (since, now) = (since.map(time), time(now));
            if let Ok(it) = Period::new(since, until, interval, now) {
                let points = (it.until_ms - it.since_ms) / interval.ms();
                prop_assert!((1..=MAX_POINTS).contains(&points));
                prop_assert_eq!(it.since_ms.rem_euclid(interval.ms()), 0);
                prop_assert!(since.is_none_or(|since| it.since_ms <= since.as_millisecond()));
                prop_assert!(it.until_ms >= until.unwrap_or(now).as_millisecond());
            }
        }
    }
}
