//! Until when a certificate is valid: the one thing that is read from it here. Whether it can be
//! trusted is decided by rustls alone.

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
/// `[0] EXPLICIT`: the version, which certificates of version 1 lack.
const VERSION: u8 = 0xa0;

/// The `notAfter` of a certificate (RFC 5280 section 4.1.2.5); none when it cannot be found.
pub(super) fn not_after(certificate: &[u8]) -> Option<Timestamp> {
    let (certificate, _) = value(certificate, SEQUENCE)?;
    let (mut to_be_signed, _) = value(certificate, SEQUENCE)?;
    if let Some((_, rest)) = value(to_be_signed, VERSION) {
        to_be_signed = rest;
    }
    let (_serial, rest) = value(to_be_signed, INTEGER)?;
    let (_algorithm, rest) = value(rest, SEQUENCE)?;
    let (_issuer, rest) = value(rest, SEQUENCE)?;
    let (validity, _) = value(rest, SEQUENCE)?;
    let (_not_before, rest) = time(validity)?;
    let (not_after, _) = time(rest)?;
    timestamp(&not_after)
}

/// The content of a value of this type, and what follows it (X.690, distinguished encoding).
fn value(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (first, rest) = der.split_first()?;
    let (length, rest) = length(rest)?;
    if *first != tag {
        return None;
    }
    rest.split_at_checked(length)
}

fn length(der: &[u8]) -> Option<(usize, &[u8])> {
    let (first, rest) = der.split_first()?;
    if first & 0x80 == 0 {
        return Some((usize::from(*first), rest));
    }
    // Four bytes of length are more than any certificate has.
    let (bytes, rest) =
        rest.split_at_checked(usize::from(first & 0x7f)).filter(|it| it.0.len() <= 4)?;
    let length = bytes.iter().fold(0_usize, |length, byte| (length << 8) | usize::from(*byte));
    Some((length, rest))
}

/// A time as `YYYYMMDDHHMMSS`, and what follows it.
fn time(der: &[u8]) -> Option<(String, &[u8])> {
    if let Some((text, rest)) = value(der, GENERALIZED_TIME) {
        return Some((text_of(text)?.to_owned(), rest));
    }
    let (text, rest) = value(der, UTC_TIME)?;
    let text = text_of(text)?;
    // RFC 5280: 50 to 99 are years of the last century.
    let century = if text >= "50" { "19" } else { "20" };
    Some((format!("{century}{text}"), rest))
}

fn text_of(time: &[u8]) -> Option<&str> {
    std::str::from_utf8(time).ok()?.strip_suffix('Z')
}

fn timestamp(text: &str) -> Option<Timestamp> {
    let time = DateTime::strptime("%Y%m%d%H%M%S", text).ok()?;
    TimeZone::UTC.to_timestamp(time).ok()
}

#[cfg(test)]
mod tests {
    use super::not_after;
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    fn certificate(year: i32) -> Vec<u8> {
        let mut params = CertificateParams::new(["keygate.test".to_owned()]).expect("params");
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(year, 3, 4);
        let key = KeyPair::generate().expect("a key");
        params.self_signed(&key).expect("a certificate").der().to_vec()
    }

    #[test]
    fn the_end_of_a_certificate_is_read_in_both_of_its_forms() {
        // From 2050 on the year has four digits.
        for year in [2001, 2049, 2050, 2130] {
            let found = not_after(&certificate(year)).expect("an end");
            assert_eq!(found.to_string(), format!("{year}-03-04T00:00:00Z"));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = not_after(&bytes);
        }

        #[test]
        fn no_damaged_certificate_makes_it_panic(place in 0_usize..400, byte: u8, cut in 0_usize..500) {
            let mut der = certificate(2030);
            if let Some(it) = der.get_mut(place) {
                *it = byte;
            }
            der.truncate(cut);
            let _ = not_after(&der);
        }
    }
}
