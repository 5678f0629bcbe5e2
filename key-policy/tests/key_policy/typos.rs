//! A key with a typo is refused without asking anyone.

use key_policy::{Environment, Form, FormatFault, Policy, checksum};
use proptest::prelude::*;
use wasm_bindgen_test::wasm_bindgen_test;

use crate::random::{Random, config, environment};

fn key(seed: u64, environment: Environment) -> Vec<u8> {
    Random(seed).key(&Policy::default(), environment).text.into_bytes()
}

proptest! {
    #![proptest_config(config(2000))]

    #[wasm_bindgen_test(unsupported = test)]
    fn any_changed_byte_is_found(
        seed: u64,
        environment in environment(),
        place: prop::sample::Index,
        difference in 1..=u8::MAX,
    ) {
        let mut key = key(seed, environment);
        let place = place.index(key.len());
        key[place] ^= difference;
        prop_assert!(Policy::default().check(&key).is_err());
        prop_assert!(Policy::default().check_format(&key).is_err());
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn any_two_swapped_neighbours_are_found(
        seed: u64,
        environment in environment(),
        place: prop::sample::Index,
    ) {
        let mut key = key(seed, environment);
        let place = place.index(key.len() - 1);
        prop_assume!(key[place] != key[place + 1]);
        key.swap(place, place + 1);
        prop_assert!(Policy::default().check_format(&key).is_err());
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn a_lost_or_an_added_character_is_found(
        seed: u64,
        environment in environment(),
        place: prop::sample::Index,
        added in b'!'..=b'~',
    ) {
        let key = key(seed, environment);
        let place = place.index(key.len());
        let mut shorter = key.clone();
        shorter.remove(place);
        prop_assert!(Policy::default().check_format(&shorter).is_err());
        let mut longer = key;
        longer.insert(place, added);
        prop_assert!(Policy::default().check_format(&longer).is_err());
    }
}

#[wasm_bindgen_test(unsupported = test)]
fn every_printable_typo_at_every_place_is_found() {
    for environment in [Environment::Live, Environment::Test] {
        let original = key(99, environment);
        for place in 0..original.len() {
            for typo in (b'!'..=b'~').filter(|&typo| typo != original[place]) {
                let mut key = original.clone();
                key[place] = typo;
                let refused = Policy::default().check_format(&key);
                assert!(
                    matches!(refused, Err(FormatFault::Malformed | FormatFault::Checksum)),
                    "{}: {refused:?}",
                    String::from_utf8_lossy(&key)
                );
            }
        }
    }
}

#[wasm_bindgen_test(unsupported = test)]
fn the_key_of_another_keygate_is_foreign_and_its_checksum_counts() {
    let other = Policy { prefix: "acme".parse().unwrap(), ..Policy::default() };
    let mut key = Random(5).key(&other, Environment::Test).text.into_bytes();
    assert_eq!(Policy::default().check(&key), Ok(Form::Foreign));
    assert_eq!(Policy::default().environment_of(&key), None);
    key[30] ^= 1;
    assert_eq!(Policy::default().check_format(&key), Err(FormatFault::Checksum));
}

#[wasm_bindgen_test(unsupported = test)]
fn a_wrong_structure_is_told_from_a_wrong_checksum() {
    let policy = Policy::default();
    let refused = |key: &str| policy.check_format(key.as_bytes()).unwrap_err();
    let key = String::from_utf8(key(3, Environment::Live)).unwrap();
    assert_eq!(refused(&key[..62]), FormatFault::Malformed);
    assert_eq!(refused(&key.replace("live", "prod")), FormatFault::Malformed);
    assert_eq!(refused(&key.replace("live", "test")), FormatFault::Checksum);
    assert_eq!(refused(&format!("kg_{}", &key[8..])), FormatFault::Malformed);
    assert_eq!(refused(&format!("{}0", &key[..62])), FormatFault::Checksum);
    // Upper-case hex digits are another text, even with a checksum of their own.
    let shouting = format!("kg_live_{}_{}", key[8..24].to_uppercase(), &key[25..57]);
    let digits = String::from_utf8(checksum(shouting.as_bytes()).to_vec()).unwrap();
    assert_eq!(refused(&format!("{shouting}{digits}")), FormatFault::Malformed);
}
