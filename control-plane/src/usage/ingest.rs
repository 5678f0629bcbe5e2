//! Reading what a filter has counted.

use edge_protocol::{UsageCount, UsageOutcome};
use jiff::Timestamp;
use key_policy::KeyId;
use std::collections::BTreeMap;

use super::{Minute, Use, Uses};
use crate::{clock::unix_ms, keys::last_used::LastUsed};

/// By how much a filter's clock may be ahead, in milliseconds.
const AHEAD_MS: u64 = 5 * Minute::MS;

/// A count that no filter makes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("usage[{index}].{field}: {problem}")]
pub struct InvalidUsage {
    index: usize,
    field: &'static str,
    problem: &'static str,
}

/// Adds up what a filter has sent, in an order that is the same for all: who writes it takes rows
/// in that order, so that two writers do not wait for each other.
///
/// What is said of a time that is no longer kept, or of one to come, counts as now: a filter whose
/// clock is wrong must neither lose counts nor fill the database with days of its own.
///
/// # Errors
/// The first count that cannot be one.
pub fn gather(
    counts: &[UsageCount],
    kept_since: Timestamp,
    now: Timestamp,
) -> Result<Vec<Uses>, InvalidUsage> {
    let now_ms = unix_ms(now);
    let credible = unix_ms(kept_since)..=now_ms.saturating_add(AHEAD_MS);
    let mut sums: BTreeMap<Use, u64> = BTreeMap::new();
    for (index, it) in counts.iter().enumerate() {
        let invalid = |field, problem| InvalidUsage { index, field, problem };
        let key_id: KeyId =
            it.key_id.parse().map_err(|_| invalid("key_id", "must be 16 lower-case hex digits"))?;
        if it.count == 0 {
            return Err(invalid("count", "must be 1 or more"));
        }
        let at_ms = if credible.contains(&it.minute_ms) { it.minute_ms } else { now_ms };
        let minute = Minute::of(at_ms);
        let of = Use { key_id, minute, method: it.method, outcome: it.outcome };
        *sums.entry(of).or_default() += u64::from(it.count);
    }
    Ok(sums.into_iter().map(|(of, count)| Uses { of, count }).collect())
}

/// Has keys that were let through count as used. As minutes are all that is known, that is one
/// write a minute for each key.
pub fn note_uses(uses: &[Uses], last_used: &LastUsed) {
    for Uses { of, .. } in uses.iter().filter(|it| it.of.outcome == UsageOutcome::Allowed) {
        last_used.note_minute(of.key_id, of.minute);
    }
}

/// How long ago the oldest of these minutes ended, in milliseconds: how far behind usage is.
#[must_use]
pub fn age_ms(uses: &[Uses], now: Timestamp) -> u64 {
    let oldest = uses.iter().map(|it| it.of.minute.start_ms() + Minute::MS).min();
    oldest.map_or(0, |ended| unix_ms(now).saturating_sub(ended))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::at;
    use edge_protocol::UsageMethod;

    const NOW: &str = "2026-11-25T12:00:30Z";
    const KEPT_SINCE: &str = "2026-11-01T00:00:00Z";

    fn count(time: &str, count: u32) -> UsageCount {
        UsageCount {
            key_id: "0123456789abcdef".to_owned(),
            minute_ms: unix_ms(at(time)),
            method: UsageMethod::Get,
            outcome: UsageOutcome::Allowed,
            count,
        }
    }

    fn gathered(counts: &[UsageCount]) -> Vec<(String, u64)> {
        let uses = gather(counts, at(KEPT_SINCE), at(NOW)).expect("valid");
        uses.iter().map(|it| (it.of.minute.start().to_string(), it.count)).collect()
    }

    #[test]
    fn counts_of_the_same_are_added_up_and_come_in_order() {
        let uses =
            [count("2026-11-25T11:59:00Z", 2), count("2026-11-24T08:00:00Z", 1), count(NOW, 5)];
        let twice: Vec<_> = uses.iter().chain(&uses).cloned().collect();
        let expected = [
            ("2026-11-24T08:00:00Z".to_owned(), 2),
            ("2026-11-25T11:59:00Z".to_owned(), 4),
            ("2026-11-25T12:00:00Z".to_owned(), 10),
        ];
        assert_eq!(gathered(&twice), expected);
    }

    #[test]
    fn a_filter_whose_clock_is_wrong_loses_no_counts_and_makes_no_days() {
        let mut never = count(NOW, 1);
        never.minute_ms = u64::MAX;
        let wrong = [count("2026-10-31T23:59:00Z", 1), count("2027-01-01T00:00:00Z", 1), never];
        assert_eq!(gathered(&wrong), [("2026-11-25T12:00:00Z".to_owned(), 3)]);
        let early = [count("2026-11-25T12:05:00Z", 1)];
        assert_eq!(gathered(&early), [("2026-11-25T12:05:00Z".to_owned(), 1)]);
    }

    #[test]
    fn what_no_filter_counts_is_refused_by_its_place() {
        let good = count(NOW, 1);
        let bad_key = UsageCount { key_id: "x".to_owned(), ..good.clone() };
        for (bad, text) in [
            (bad_key, "usage[1].key_id: must be 16 lower-case hex digits"),
            (count(NOW, 0), "usage[1].count: must be 1 or more"),
        ] {
            let refused = gather(&[good.clone(), bad], at(KEPT_SINCE), at(NOW));
            assert_eq!(refused.expect_err("refused").to_string(), text);
        }
    }

    #[test]
    fn the_age_of_counts_is_that_of_the_oldest_minute_since_it_ended() {
        let age = |times: &[&str]| {
            let counts: Vec<_> = times.iter().map(|time| count(time, 1)).collect();
            age_ms(&gather(&counts, at(KEPT_SINCE), at(NOW)).expect("valid"), at(NOW))
        };
        assert_eq!(age(&[NOW]), 0);
        assert_eq!(age(&[NOW, "2026-11-25T11:50:00Z"]), 570_000);
        assert_eq!(age(&[]), 0);
    }
}
