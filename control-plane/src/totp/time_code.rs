//! Codes of an authenticator (RFC 6238).

use jiff::Timestamp;
use totp_rs::{Algorithm, Builder, Secret, Totp};

use super::SECRET_BYTES;

/// Digits of a code.
const DIGITS: u8 = 6;
/// How long a step takes, in seconds.
pub(super) const STEP_SECONDS: u64 = 30;
/// Steps before and after the current one whose codes are right, too: RFC 6238, section 5.2,
/// recommends one, for the time that typing takes.
const SKEW: u16 = 1;

/// Whether it could be a code.
pub(super) fn is_well_formed(text: &str) -> bool {
    text.len() == usize::from(DIGITS) && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// SHA-1, since it is the only algorithm that all authenticators have: some take the name of
/// another one and go on with SHA-1. HMAC does not need what SHA-1 has lost (RFC 4226, B.2).
fn totp(secret: &[u8; SECRET_BYTES]) -> Totp {
    // What `build` would check is fixed here.
    Builder::new()
        .with_algorithm(Algorithm::SHA1)
        .with_digits(DIGITS)
        .with_step_duration(STEP_SECONDS)
        .with_skew(SKEW)
        .with_secret(Secret::new_stack(*secret))
        .build_noncompliant()
}

/// The step that this is the code of, if it is right at that time. Compares in constant time.
pub(super) fn step_of(secret: &[u8; SECRET_BYTES], code: &str, now: Timestamp) -> Option<u64> {
    let seconds = u64::try_from(now.as_second()).ok()?;
    totp(secret).check(code, seconds)
}

/// The secret as authenticators take it by hand.
pub(super) fn base32(secret: &[u8; SECRET_BYTES]) -> String {
    Secret::new_stack(*secret).to_base32()
}

/// The code of that time.
#[cfg(test)]
pub(crate) fn code_at(secret_base32: &str, at: Timestamp) -> String {
    let secret = Secret::try_from_base32(secret_base32).expect("base 32");
    let secret: [u8; SECRET_BYTES] = secret.as_bytes().try_into().expect("20 bytes");
    totp(&secret).generate(u64::try_from(at.as_second()).expect("after 1970")).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6238, appendix B; the last six of its eight digits.
    const VECTORS: &[(i64, &str)] = &[
        (59, "287082"),
        (1_111_111_109, "081804"),
        (1_111_111_111, "050471"),
        (1_234_567_890, "005924"),
        (2_000_000_000, "279037"),
        (20_000_000_000, "353130"),
    ];

    #[test]
    fn codes_are_those_of_the_standard() {
        for (second, code) in VECTORS {
            let at = Timestamp::from_second(*second).expect("in range");
            let step = u64::try_from(second / 30).expect("positive");
            assert_eq!(step_of(b"12345678901234567890", code, at), Some(step));
        }
    }

    #[test]
    fn a_code_is_right_one_step_before_and_after_its_own_and_no_longer() {
        let secret = b"12345678901234567890";
        let at = |second| Timestamp::from_second(second).expect("in range");
        for (second, right) in [
            (1_234_567_859, false),
            (1_234_567_860, true),
            (1_234_567_949, true),
            (1_234_567_950, false),
        ] {
            let step = step_of(secret, "005924", at(second));
            assert_eq!(step, right.then_some(41_152_263), "{second}");
        }
    }

    #[test]
    fn a_secret_is_shown_in_base_32() {
        assert_eq!(base32(b"12345678901234567890"), "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
    }
}
