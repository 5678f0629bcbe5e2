//! Each layer refuses what it is there for, whatever it is given.

use key_policy::{Environment, Fault, Form, FormatFault, Policy, Prefix, checksum, shannon_bits};
use proptest::prelude::*;
use wasm_bindgen_test::wasm_bindgen_test;

use crate::random::{Random, config, good_key};

/// Entropy per character times length, as the textbook has it.
fn naive_entropy(text: &[u8]) -> f64 {
    let length = f64::from(u32::try_from(text.len()).unwrap());
    let per_character: f64 = (0..=u8::MAX)
        .map(|byte| text.iter().map(|&other| u32::from(other == byte)).sum::<u32>())
        .filter(|&count| count > 0)
        .map(|count| f64::from(count) / length)
        .map(|share| -share * share.log2())
        .sum();
    per_character * length
}

fn naive_kinds(text: &[u8]) -> usize {
    let kinds: [fn(&u8) -> bool; 4] =
        [u8::is_ascii_lowercase, u8::is_ascii_uppercase, u8::is_ascii_digit, |byte| {
            !byte.is_ascii_alphanumeric()
        }];
    kinds.iter().filter(|kind| text.iter().any(*kind)).count()
}

fn policy() -> impl Strategy<Value = Policy> {
    let bits = prop_oneof![0.0..200.0, Just(f64::NAN), Just(f64::INFINITY), Just(-1.0)];
    ("[a-z][a-z0-9]{0,15}", 0..80_usize, 0..80_000_usize, bits, any::<u8>(), any::<bool>())
        .prop_map(|(prefix, min_length, max_length, min_entropy_bits, min_kinds, weak_patterns)| {
            Policy {
                prefix: prefix.parse().unwrap(),
                min_length,
                max_length,
                min_entropy_bits,
                min_kinds,
                weak_patterns,
            }
        })
}

/// Texts with few different characters, many of them, beginnings of our own keys.
fn text() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        "[a-c1]{0,300}".prop_map(String::into_bytes),
        "[ -~]{0,300}".prop_map(String::into_bytes),
        "[A-Za-z0-9]{20,70}".prop_map(String::into_bytes),
        "kg_(live|test)_[0-9a-f]{15,17}_[0-9A-Za-z]{37,39}".prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 0..400),
    ]
}

/// Every check; what they say is no matter.
fn run_all(policy: &Policy, key: &[u8]) {
    let _ = policy.check_bytes(key);
    let _ = policy.environment_of(key);
    let _ = policy.check_format(key);
    let _ = policy.check_weakness(key);
    let _ = policy.check(key);
    let _ = (shannon_bits(key), checksum(key));
}

proptest! {
    #![proptest_config(config(60))]

    #[wasm_bindgen_test(unsupported = test)]
    fn no_bytes_up_to_70_kilobytes_make_a_check_panic(
        policy in policy(),
        key in prop::collection::vec(any::<u8>(), 0..70_000),
    ) {
        run_all(&policy, &key);
        run_all(&Policy { max_length: usize::MAX, ..policy }, &key);
    }
}

proptest! {
    #![proptest_config(config(2000))]

    #[wasm_bindgen_test(unsupported = test)]
    fn no_text_and_no_policy_make_a_check_panic(policy in policy(), key in text()) {
        run_all(&policy, &key);
        run_all(&Policy::default(), &key);
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn a_format_that_is_taken_has_length_kinds_and_entropy(key in text()) {
        let policy = Policy::default();
        match policy.check_format(&key) {
            Ok(form) => {
                let judged = match form {
                    Form::Own { .. } => &key[25..57],
                    Form::Foreign => &key[..],
                };
                prop_assert!((32..=256).contains(&key.len()));
                prop_assert!(naive_kinds(judged) >= 3);
                prop_assert!(naive_entropy(judged) >= 96.0 - 1e-6);
            }
            Err(FormatFault::TooShort) => prop_assert!(key.len() < 32),
            Err(FormatFault::TooLong) => prop_assert!(key.len() > 256),
            Err(FormatFault::TooFewKinds) => prop_assert!(naive_kinds(&key) < 3),
            Err(FormatFault::TooLittleEntropy) => prop_assert!(naive_entropy(&key) < 96.0),
            Err(FormatFault::Malformed) => prop_assert!(key.starts_with(b"kg_")),
            Err(FormatFault::Checksum) => {
                prop_assert_ne!(&checksum(&key[..key.len() - 6])[..], &key[key.len() - 6..]);
            }
            Err(FormatFault::NotPrintable | FormatFault::Comma) => {
                prop_assert!(false, "not this layer's business");
            }
        }
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn entropy_agrees_with_the_textbook(key in text()) {
        prop_assert!((shannon_bits(&key) - naive_entropy(&key)).abs() < 1e-9);
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn a_key_passes_exactly_when_each_layer_passes(policy in policy(), key in text()) {
        let layers = policy
            .check_bytes(&key)
            .and_then(|()| policy.check_format(&key))
            .map_err(Fault::from)
            .and_then(|form| Ok(policy.check_weakness(&key).map(|()| form)?));
        prop_assert_eq!(policy.check(&key), layers);
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn only_printable_ascii_without_space_or_comma_passes(byte: u8, place: prop::sample::Index) {
        let mut key = good_key(1);
        let place = place.index(key.len());
        key[place] = byte;
        let expected = match byte {
            b',' => Err(FormatFault::Comma),
            0x21..=0x7e => Ok(()),
            _ => Err(FormatFault::NotPrintable),
        };
        prop_assert_eq!(Policy::default().check_bytes(&key), expected);
    }
}

#[wasm_bindgen_test(unsupported = test)]
fn sane_bytes_are_bounded_in_number_and_may_be_none() {
    let policy = Policy::default();
    assert_eq!(policy.check_bytes(b""), Ok(()));
    assert_eq!(policy.check_bytes(&[b'a'; 256]), Ok(()));
    assert_eq!(policy.check_bytes(&[b'a'; 257]), Err(FormatFault::TooLong));
    assert_eq!(policy.check_bytes(&vec![0xff; 65_536]), Err(FormatFault::TooLong));
    assert_eq!(policy.check_bytes(b"one,two three"), Err(FormatFault::Comma));
    assert_eq!(policy.check_bytes(b"one two,three"), Err(FormatFault::NotPrintable));
}

#[wasm_bindgen_test(unsupported = test)]
fn the_environment_is_told_by_the_beginning_alone() {
    let policy = Policy::default();
    assert_eq!(policy.environment_of(b"kg_test_"), Some(Environment::Test));
    assert_eq!(policy.environment_of(b"kg_live_anything at all\xff"), Some(Environment::Live));
    for none in ["", "kg_", "kg_test", "kg_testing_x", "KG_TEST_x", "xkg_test_x", "kgx_test_x"] {
        assert_eq!(policy.environment_of(none.as_bytes()), None, "{none}");
    }
    let other = Policy { prefix: Prefix::parse("acme").unwrap(), ..policy };
    assert_eq!(other.environment_of(b"acme_test_x"), Some(Environment::Test));
    assert_eq!(other.environment_of(b"kg_test_x"), None);
}

#[wasm_bindgen_test(unsupported = test)]
fn each_rule_of_the_format_has_its_own_reason() {
    let policy = Policy::default();
    for (key, fault) in [
        ("mN4v8QzR1xK7wPc2Lb9TjY3uHs6FdGe", FormatFault::TooShort),
        ("mnqvxqzrkxkfwpcxlbotjyhuhsifdgea", FormatFault::TooFewKinds),
        ("aB3aB3aB3aB3aB3aB3aB3aB3aB3aB3aB3", FormatFault::TooLittleEntropy),
        ("kg_live_3c5588afe5b04bdd_toolittle", FormatFault::Malformed),
    ] {
        assert_eq!(policy.check_format(key.as_bytes()), Err(fault), "{key}");
    }
    assert_eq!(policy.check_format(b"mN4v8QzR1xK7wPc2Lb9TjY3uHs6FdGeA"), Ok(Form::Foreign));
    assert_eq!(policy.check_format(&[b'a'; 257]), Err(FormatFault::TooLong));
}

#[wasm_bindgen_test(unsupported = test)]
fn an_own_key_is_judged_by_its_secret_alone() {
    let policy = Policy::default();
    for (secret, fault) in [
        ("aB3aB3aB3aB3aB3aB3aB3aB3aB3aB3aB", Fault::Format(FormatFault::TooLittleEntropy)),
        ("mnqvxqzrkxkfwpcxlbotjyhuhsifdgea", Fault::Format(FormatFault::TooFewKinds)),
        ("PasswordSecretAdmin7CompanyMoney", Fault::Weak(key_policy::Weakness::TooLittleLeft)),
    ] {
        let text = format!("kg_live_3c5588afe5b04bdd_{secret}");
        let digits = String::from_utf8(checksum(text.as_bytes()).to_vec()).unwrap();
        assert_eq!(policy.check(format!("{text}{digits}").as_bytes()), Err(fault), "{secret}");
    }
}

#[wasm_bindgen_test(unsupported = test)]
fn a_fourth_kind_is_asked_of_foreign_keys_only() {
    let policy = Policy { min_kinds: 4, ..Policy::default() };
    let own = Random(4).key(&policy, Environment::Live);
    assert!(policy.check(own.text.as_bytes()).is_ok());
    let foreign = good_key(4);
    assert_eq!(policy.check_format(&foreign), Err(FormatFault::TooFewKinds));
    assert_eq!(policy.check_format(&[&foreign[..], b"-"].concat()), Ok(Form::Foreign));
}
