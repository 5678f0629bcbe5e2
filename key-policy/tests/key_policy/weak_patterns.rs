//! Keys that a person would think of are refused, however they are dressed up.

use key_policy::{Policy, Weakness};
use proptest::prelude::*;
use wasm_bindgen_test::wasm_bindgen_test;

use crate::random::{config, good_key};

const SEQUENCES: [&str; 8] = [
    "abcdefghijklmnopqrstuvwxyz",
    "zyxwvutsrqponmlkjihgfedcba",
    "0123456789",
    "987654321",
    "qwertyuiop",
    "poiuytrewq",
    "asdfghjkl",
    "1234567890",
];

const WORDS: [&str; 14] = [
    "password",
    "Admin",
    "secret",
    "Company",
    "PRODUCTION",
    "qwerty",
    "letmein",
    "Welcome",
    "test",
    "apikey",
    "Token",
    "p4ssw0rd",
    "S3cr3t",
    "@dm1n",
];

fn weakness(key: &[u8]) -> Result<(), Weakness> {
    Policy::default().check_weakness(key)
}

/// `key` with `part` put in at `place`.
fn with(mut key: Vec<u8>, place: prop::sample::Index, part: &[u8]) -> Vec<u8> {
    let place = place.index(key.len() + 1);
    key.splice(place..place, part.iter().copied());
    key
}

proptest! {
    #![proptest_config(config(2000))]

    #[wasm_bindgen_test(unsupported = test)]
    fn a_sequence_of_eight_or_more_is_refused_wherever_it_stands(
        seed: u64,
        place: prop::sample::Index,
        sequence in prop::sample::select(&SEQUENCES[..]),
        start: prop::sample::Index,
        upper: u32,
    ) {
        let mut part = sequence.as_bytes()[start.index(sequence.len() - 7)..].to_vec();
        for (index, byte) in part.iter_mut().enumerate() {
            if upper >> index & 1 == 1 {
                byte.make_ascii_uppercase();
            }
        }
        prop_assert_eq!(weakness(&with(good_key(seed), place, &part)), Err(Weakness::Sequence));
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn a_repeat_of_eight_or_more_is_refused_wherever_it_stands(
        seed: u64,
        place: prop::sample::Index,
        unit in "[A-Za-z0-9]{1,16}",
        more in 0..16_usize,
    ) {
        let length = (2 * unit.len()).max(8) + more;
        let part: Vec<u8> = unit.bytes().cycle().take(length).collect();
        let refused = weakness(&with(good_key(seed), place, &part));
        prop_assert!(matches!(refused, Err(Weakness::Repeat | Weakness::Sequence)), "{refused:?}");
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn words_alone_make_no_key(
        words in prop::collection::vec(prop::sample::select(&WORDS[..]), 1..40),
    ) {
        let key = words.concat();
        prop_assert!(weakness(key.as_bytes()).is_err());
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn a_word_or_two_do_not_hurt_a_good_key(
        seed: u64,
        place: prop::sample::Index,
        words in prop::collection::vec(prop::sample::select(&WORDS[..]), 0..3),
    ) {
        // Twice `test` is a repeat of eight.
        prop_assume!(words.len() < 2 || !words[0].eq_ignore_ascii_case(words[1]));
        let key = with(good_key(seed), place, words.concat().as_bytes());
        prop_assert_eq!(weakness(&key), Ok(()));
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn nothing_is_weak_when_weak_patterns_are_off(key: Vec<u8>) {
        let policy = Policy { weak_patterns: false, ..Policy::default() };
        prop_assert_eq!(policy.check_weakness(&key), Ok(()));
    }
}

#[wasm_bindgen_test(unsupported = test)]
fn what_people_think_of_is_refused() {
    for (key, expected) in [
        ("ThisIsMyCompanyProductionApiKey2024", Weakness::TooLittleLeft),
        ("qwertyuiopasdfghjklzxcvbnm123456", Weakness::Sequence),
        ("QWERTYuiopASDFghjklZXCVbnm123456!", Weakness::Sequence),
        ("MnbvcxzLkjhgfdsaPoiuytrewq0987654321", Weakness::Sequence),
        ("1qaz2wsx3edc4rfv5tgb6yhn7ujm8ikZ", Weakness::TooLittleLeft),
        ("!QAZ@WSX#EDC$RFV1qaz2wsx3edc4rfv", Weakness::OnlyFragments),
        ("Abc123Def456Ghi789Jkl012Mno345Pqr", Weakness::OnlyFragments),
        ("aaaaBBBB1111ccccDDDD2222eeeeFFFF", Weakness::OnlyFragments),
        ("abcabcabcX9kQ2mW7vR4tL8nZ1pH6jB3", Weakness::Repeat),
        ("Xk9#mP2$1Xk9#mP2$2Xk9#mP2$3Xk9#mP2$4", Weakness::Repeat),
        ("PasswordAdminSecretCompanyTokens", Weakness::OnlyFragments),
        ("P4ssw0rd!S3cr3t-Adm1n_C0mp4ny.2024", Weakness::TooLittleLeft),
        ("l3tm31n-W3lc0m3-T0k3n-4p1k3y-2025", Weakness::TooLittleLeft),
        ("CorrectHorseBatteryStaple2024!MyKey", Weakness::TooLittleLeft),
        ("acme-corp-production-service-key-2024-01-XY", Weakness::TooLittleLeft),
        ("SuperSecretApiKeyForTheStagingServer!1", Weakness::TooLittleLeft),
    ] {
        assert_eq!(weakness(key.as_bytes()), Err(expected), "{key}");
        assert!(Policy::default().check(key.as_bytes()).is_err(), "{key}");
    }
}

#[wasm_bindgen_test(unsupported = test)]
fn only_the_first_256_bytes_count_for_a_policy_without_bound() {
    let policy = Policy { max_length: usize::MAX, ..Policy::default() };
    let mut key = b"password".repeat(32);
    key.extend(good_key(9));
    assert!(policy.check_weakness(&key).is_err());
}
