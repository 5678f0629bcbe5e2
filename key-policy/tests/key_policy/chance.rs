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

#[wasm_bindgen_test(unsupported = test)]
fn fewer_than_one_in_10_000_random_keys_are_refused_as_weak() {
    let refused = refused_of(200_000);
    assert!(refused < 20, "{refused} of 200,000");
}

#[wasm_bindgen_test(unsupported = test)]
#[ignore = "a long look at the same: 10,000,000 keys take half a minute"]
fn fewer_than_one_in_10_000_of_ten_million_random_keys_are_refused_as_weak() {
    let refused = refused_of(10_000_000);
    assert!(refused < 1000, "{refused} of 10,000,000");
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
