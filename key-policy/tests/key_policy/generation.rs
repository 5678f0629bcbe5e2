//! A key that was made here passes its own policy.

use key_policy::{Environment, Form, KeyId, Policy, Prefix, checksum};
use proptest::prelude::*;
use wasm_bindgen_test::wasm_bindgen_test;

use crate::random::{BASE62, Random, config, environment};

proptest! {
    #![proptest_config(config(1000))]

    #[wasm_bindgen_test(unsupported = test)]
    fn a_generated_key_is_never_refused(
        seed: u64,
        prefix in "[a-z][a-z0-9]{0,15}",
        environment in environment(),
        min_kinds in 0..=4_u8,
        min_entropy_bits in 0.0..=128.0,
    ) {
        let prefix: Prefix = prefix.parse().unwrap();
        let policy = Policy { prefix, min_kinds, min_entropy_bits, ..Policy::default() };
        prop_assert_eq!(policy.validate(), Ok(()));
        let key = Random(seed).key(&policy, environment);
        let form = Form::Own { environment, key_id: key.key_id };
        prop_assert_eq!(policy.check(key.text.as_bytes()), Ok(form));
        prop_assert_eq!(policy.environment_of(key.text.as_bytes()), Some(environment));
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn a_key_has_the_documented_form(seed: u64, environment in environment()) {
        let key = Random(seed).key(&Policy::default(), environment);
        let parts: Vec<_> = key.text.split('_').collect();
        let [prefix, environment_name, key_id, rest] = parts[..] else {
            return Err(TestCaseError::fail("not four parts"));
        };
        prop_assert_eq!(prefix, "kg");
        prop_assert_eq!(environment_name, environment.as_str());
        prop_assert_eq!(key_id, key.key_id.to_string());
        prop_assert_eq!(rest.len(), 38);
        prop_assert!(rest.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        let (text, digits) = key.text.split_at(key.text.len() - 6);
        prop_assert_eq!(digits.as_bytes(), checksum(text.as_bytes()));
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn the_checksum_agrees_with_another_implementation(text: Vec<u8>) {
        let value = checksum(&text).iter().fold(0_u64, |value, digit| {
            let place = BASE62.iter().position(|other| other == digit);
            value * 62 + place.unwrap() as u64
        });
        prop_assert_eq!(value, u64::from(crc32fast::hash(&text)));
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn a_key_id_is_read_as_it_is_written(value: u64) {
        let key_id = KeyId::from_u64(value);
        prop_assert_eq!(key_id.as_u64(), value);
        prop_assert_eq!(key_id.to_string().parse(), Ok(key_id));
        prop_assert_eq!(String::from_utf8(key_id.to_hex().to_vec()).unwrap(), key_id.to_string());
    }
}

#[wasm_bindgen_test(unsupported = test)]
fn a_weak_draw_is_drawn_again() {
    let mut source = Random(7);
    let mut fills = 0;
    let mut fill = |buffer: &mut [u8]| {
        fills += 1;
        // The first key would be of zeros only.
        if fills <= 2 {
            buffer.fill(0);
        } else {
            buffer.fill_with(|| source.next_u64().to_le_bytes()[0]);
        }
        Ok::<(), ()>(())
    };
    let key = Policy::default().generate(Environment::Live, &mut fill).unwrap();
    assert_ne!(key.key_id, KeyId::from_u64(0));
    assert_eq!(fills, 4);
}

#[wasm_bindgen_test(unsupported = test)]
fn a_random_source_that_fails_is_reported() {
    let mut calls = 0;
    let mut fill = |_: &mut [u8]| {
        calls += 1;
        if calls == 2 { Err("dry") } else { Ok(()) }
    };
    let made = Policy::default().generate(Environment::Live, &mut fill);
    assert_eq!(made, Err("dry"));
}

#[wasm_bindgen_test(unsupported = test)]
fn a_policy_that_no_key_meets_still_gets_a_strong_key() {
    let impossible = Policy { min_entropy_bits: 1e9, ..Policy::default() };
    let key = Random(1).key(&impossible, Environment::Test);
    assert!(Policy::default().check(key.text.as_bytes()).is_ok());
}

#[wasm_bindgen_test(unsupported = test)]
fn a_new_key_is_not_shown_by_its_debug_output() {
    let key = Random(1).key(&Policy::default(), Environment::Live);
    let shown = format!("{key:?}");
    assert!(shown.contains(&key.key_id.to_string()));
    assert!(!shown.contains(&key.text[24..]), "{shown}");
}

#[wasm_bindgen_test(unsupported = test)]
fn each_secret_digit_is_equally_likely() {
    let mut counts = [0_u32; 256];
    let mut random = Random(62);
    // Without weak patterns and kinds, which favour some texts by refusing others.
    let policy = Policy { min_kinds: 0, weak_patterns: false, ..Policy::default() };
    for _ in 0..20_000 {
        let key = random.key(&policy, Environment::Live);
        for byte in key.text.bytes().skip(25).take(32) {
            counts[usize::from(byte)] += 1;
        }
    }
    // 640,000 characters, 10,323 of each: five standard deviations are 500.
    for count in counts.into_iter().filter(|&count| count > 0) {
        assert!(count.abs_diff(10_323) < 500, "{count}");
    }
    assert_eq!(counts.into_iter().filter(|&count| count > 0).count(), 62);
}
