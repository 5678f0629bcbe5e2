//! Lengths of time as people write them: `90m`, `12h`, `30d`, `2w`.

use jiff::SignedDuration;

/// Reads a number and a unit.
pub(super) fn parse(text: &str) -> Result<SignedDuration, String> {
    let expected = || "expected a number and s, m, h, d or w, such as 30d".to_owned();
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(expected)?;
    let (number, unit) = text.split_at(unit_at);
    let number: i64 = number.parse().map_err(|_| expected())?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        "w" => 604_800,
        _ => return Err(expected()),
    };
    match number.checked_mul(seconds) {
        Some(seconds) if seconds > 0 => Ok(SignedDuration::from_secs(seconds)),
        _ => Err(expected()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_and_a_unit_are_a_duration_and_nothing_else_is() {
        assert_eq!(parse("90m"), Ok(SignedDuration::from_secs(5400)));
        assert_eq!(parse("30d"), Ok(SignedDuration::from_secs(2_592_000)));
        for bad in ["", "30", "d", "0d", "-1d", "1y", "1.5h", "99999999999999999w"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
