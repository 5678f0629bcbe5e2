//! A report says all that is wrong with a key, agrees with the checks, and does not tell the key.

use key_policy::{Environment, Fault, FormatFault, FragmentKind, Policy, Weakness};
use proptest::prelude::*;
use wasm_bindgen_test::wasm_bindgen_test;

use crate::random::config;

fn names(key: &[u8]) -> Vec<&'static str> {
    Policy::default().report(key).faults.into_iter().map(Fault::as_str).collect()
}

#[wasm_bindgen_test(unsupported = test)]
fn every_fault_is_told_and_not_only_the_first() {
    assert_eq!(names(b"aB3,x y"), ["comma", "too_short", "too_little_entropy", "too_little_left"]);
    assert_eq!(
        names(b"passwordpassword"),
        ["too_short", "too_few_kinds", "too_little_entropy", "repeat"]
    );
    assert_eq!(names(b"ThisIsMyCompanyProductionApiKey2024"), ["too_little_left"]);
    assert_eq!(names(&[b'a'; 300])[0], "too_long");
    assert_eq!(names(b"kg_live_0123456789abcdef_short")[..2], ["too_short", "malformed"]);
}

#[wasm_bindgen_test(unsupported = test)]
fn fragments_are_told_by_place_and_kind() {
    let report = Policy::default().report(b"x9K-password-Q7v-bcdefg-m3T-zz8zz8-Wq");
    let found: Vec<_> = report.fragments.iter().map(|it| (it.start, it.length, it.kind)).collect();
    assert_eq!(
        found,
        [
            (4, 8, FragmentKind::Word),
            (17, 6, FragmentKind::Sequence),
            (28, 6, FragmentKind::Repeat),
        ]
    );
    assert!(report.remaining_bits < report.entropy_bits);
    assert_eq!((report.length, report.kinds), (37, 4));
}

#[wasm_bindgen_test(unsupported = test)]
fn of_an_own_key_the_secret_is_judged_and_places_count_from_the_keys_beginning() {
    let policy = Policy::default();
    let mut n = 0_u8;
    let made = policy.generate::<()>(Environment::Live, &mut |bytes| {
        for byte in bytes {
            n = n.wrapping_mul(5).wrapping_add(113);
            *byte = n;
        }
        Ok(())
    });
    let report = policy.report(made.expect("a key").text.as_bytes());
    assert!(report.passes() && report.form.is_some(), "{report:?}");
    assert!(report.fragments.iter().all(|it| (25..57).contains(&it.start)));
}

#[wasm_bindgen_test(unsupported = test)]
fn what_no_filter_can_be_told_to_accept_is_hard_and_the_rest_is_not() {
    for fault in [
        FormatFault::NotPrintable,
        FormatFault::Comma,
        FormatFault::TooLong,
        FormatFault::Malformed,
        FormatFault::Checksum,
    ] {
        assert!(Fault::from(fault).is_hard(), "{fault}");
    }
    for fault in [FormatFault::TooShort, FormatFault::TooFewKinds, FormatFault::TooLittleEntropy] {
        assert!(!Fault::from(fault).is_hard(), "{fault}");
    }
    assert!(!Fault::from(Weakness::Repeat).is_hard());
}

proptest! {
    #![proptest_config(config(2000))]
    #[wasm_bindgen_test(unsupported = test)]
    fn a_report_and_the_checks_agree(key in proptest::collection::vec(any::<u8>(), 0..300), text in "[ -~]{0,80}") {
        let policy = Policy::default();
        for key in [key.as_slice(), text.as_bytes()] {
            let report = policy.report(key);
            let checked = policy.check(key);
            prop_assert_eq!(report.passes(), checked.is_ok());
            prop_assert_eq!(report.form, checked.ok());
            if let Err(fault) = checked {
                prop_assert!(report.faults.contains(&fault));
            }
        }
    }
}
