//! A chance fragment does not hurt a good key.

use key_policy::Policy;
use wasm_bindgen_test::wasm_bindgen_test;

use crate::random::Random;

/// How many of so many uniformly random base62 texts of 40 characters are refused as weak.
fn refused_of(draws: u32) -> u32 {
    let policy = Policy::default();
    let mut random = Random(40);
    (0..draws).map(|_| u32::from(policy.check_weakness(&random.base62(40)).is_err())).sum()
}

/// `KEYGATE_RANDOM_KEYS` asks for more of them: ten million take half a minute.
#[wasm_bindgen_test(unsupported = test)]
fn fewer_than_one_in_10_000_random_keys_are_refused_as_weak() {
    let asked = std::env::var("KEYGATE_RANDOM_KEYS").ok().and_then(|text| text.parse().ok());
    let count = asked.unwrap_or(200_000);
    let refused = refused_of(count);
    assert!(refused < count / 10_000, "{refused} of {count}");
}

/// Kinds are another matter: a text of 40 base62 characters has no digit once in 1,136 times,
/// (52/62)⁴⁰, and then only two kinds.
#[wasm_bindgen_test(unsupported = test)]
fn the_format_refuses_random_keys_for_a_missing_kind_only() {
    let policy = Policy::default();
    let mut random = Random(41);
    for _ in 0..200_000 {
        let key = random.base62(40);
        let has = |kind: fn(&u8) -> bool| key.iter().any(kind);
        let all =
            has(u8::is_ascii_digit) && has(u8::is_ascii_lowercase) && has(u8::is_ascii_uppercase);
        assert_eq!(policy.check_format(&key).is_ok(), all);
    }
}
