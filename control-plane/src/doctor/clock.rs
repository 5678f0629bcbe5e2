//! Whether this machine's clock agrees with the others'. Expiry, windows of limits and TOTP codes all
//! go by it.

use jiff::{SignedDuration, Timestamp};

use super::finding::{Check, Finding};

/// A whole second of an HTTP date, and a trip.
const NOTICED: SignedDuration = SignedDuration::from_secs(2);
/// A TOTP code is good for so long; further apart nothing fits together.
const APART: SignedDuration = SignedDuration::from_secs(30);
const MEND: &str = "let chrony or systemd-timesyncd set the clock on every machine";

/// What time somebody else had, when it was so late here.
#[derive(Clone, Debug)]
pub(super) struct Reading {
    pub(super) of: String,
    pub(super) theirs: Timestamp,
    pub(super) ours: Timestamp,
}

/// Compares. `newest` is when the newest entry of the audit log was recorded: a clock that is
/// behind it has gone back.
pub(super) fn judge(
    readings: &[Reading],
    newest: Option<Timestamp>,
    now: Timestamp,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(newest) = newest.filter(|newest| newest.duration_since(now) > NOTICED) {
        findings.push(Finding::failed(
            Check::Clock,
            format!("the audit log has an entry of {newest}, and here it is only {now}: a clock has gone back"),
            MEND,
        ));
    }
    for Reading { of, theirs, ours } in readings {
        let apart = theirs.duration_since(*ours);
        let direction = if apart.is_negative() { "behind" } else { "ahead of" };
        let what = format!("{of} is {:.1} s {direction} this machine", apart.abs().as_secs_f64());
        if apart.abs() > APART {
            findings.push(Finding::failed(Check::Clock, what, MEND));
        } else if apart.abs() > NOTICED {
            findings.push(Finding::warning(Check::Clock, what, MEND));
        }
    }
    if findings.is_empty() {
        let with: Vec<_> = readings.iter().map(|it| it.of.as_str()).collect();
        findings.push(match (with.is_empty(), newest) {
            (false, _) => Finding::ok(Check::Clock, format!("it agrees with {}", with.join(", "))),
            (true, Some(_)) => Finding::ok(Check::Clock, "it has not gone back"),
            (true, None) => Finding::skipped(Check::Clock, "there is nothing to compare it with"),
        });
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{doctor::finding::Status, testing::at};

    const NOW: &str = "2026-11-26T12:00:00Z";

    fn status(theirs: &str) -> Status {
        let reading = Reading { of: "Envoy".to_owned(), theirs: at(theirs), ours: at(NOW) };
        judge(&[reading], None, at(NOW))[0].status
    }

    #[test]
    fn clocks_that_are_apart_are_told() {
        assert_eq!(status("2026-11-26T12:00:01Z"), Status::Ok);
        assert_eq!(status("2026-11-26T11:59:50Z"), Status::Warning);
        assert_eq!(status("2026-11-26T12:01:00Z"), Status::Failed);
    }

    #[test]
    fn a_clock_that_has_gone_back_is_a_failure() {
        let newest = Some(at("2026-11-26T12:10:00Z"));
        assert_eq!(judge(&[], newest, at(NOW))[0].status, Status::Failed);
        assert_eq!(judge(&[], Some(at(NOW)), at(NOW))[0].status, Status::Ok);
        assert_eq!(judge(&[], None, at(NOW))[0].status, Status::Skipped);
    }
}
