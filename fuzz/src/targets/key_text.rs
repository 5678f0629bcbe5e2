//! What is a key, and what is a good one. Filter and control plane judge by the same code.

use arbitrary::{Result, Unstructured};
use key_policy::{Environment, Form, Policy, Prefix};

pub(crate) fn run(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let Ok(policy) = policy(&mut input) else { return };
    if policy.validate().is_err() {
        return;
    }
    let (seed, place, byte) =
        (number(&mut input), number(&mut input), input.arbitrary().unwrap_or(b'x'));
    generated(&policy, seed, place, byte);
    judged(&policy, input.take_rest());
}

fn number(input: &mut Unstructured<'_>) -> u64 {
    input.arbitrary().unwrap_or(0)
}

fn policy(input: &mut Unstructured<'_>) -> Result<Policy> {
    let prefix = *input.choose(&["kg", "k", "acme2", "abcdefghijklmnop"])?;
    let usual = Policy { prefix: Prefix::parse(prefix).unwrap(), ..Policy::default() };
    if input.arbitrary()? {
        return Ok(usual);
    }
    Ok(Policy {
        min_length: input.int_in_range(0..=80)?,
        max_length: input.int_in_range(50..=260)?,
        min_entropy_bits: f64::from(input.int_in_range(0..=130u8)?),
        min_kinds: input.int_in_range(0..=5)?,
        weak_patterns: input.arbitrary()?,
        ..usual
    })
}

fn judged(policy: &Policy, key: &[u8]) {
    let whole = policy.check(key);
    let layers = policy.check_bytes(key).is_ok()
        && policy.check_format(key).is_ok()
        && policy.check_weakness(key).is_ok();
    assert_eq!(whole.is_ok(), layers, "the whole is its layers");
    let report = policy.report(key);
    assert_eq!(report.passes(), whole.is_ok(), "{report:?}");
    assert_eq!(report.form, whole.ok());
    for fragment in &report.fragments {
        assert!(fragment.start + fragment.length <= key.len(), "{fragment:?}");
    }
    if let Ok(Form::Own { environment, key_id }) = whole {
        let start = format!("{}_{environment}_{key_id}_", policy.prefix);
        assert!(key.starts_with(start.as_bytes()), "the form is what is written");
        assert_eq!(policy.environment_of(key), Some(environment));
    }
}

fn generated(policy: &Policy, seed: u64, place: u64, byte: u8) {
    let mut random = fastrand::Rng::with_seed(seed);
    let environment = if seed & 1 == 0 { Environment::Live } else { Environment::Test };
    let mut fill = |bytes: &mut [u8]| -> std::result::Result<(), ()> {
        random.fill(bytes);
        Ok(())
    };
    let key = policy.generate(environment, &mut fill).unwrap();
    assert_eq!(
        policy.check(key.text.as_bytes()),
        Ok(Form::Own { environment, key_id: key.key_id }),
        "a generated key passes"
    );
    let mut mistyped = key.text.into_bytes();
    let at = usize::try_from(place).unwrap() % mistyped.len();
    if mistyped[at] != byte {
        mistyped[at] = byte;
        let text = String::from_utf8_lossy(&mistyped);
        assert!(policy.check(&mistyped).is_err(), "a mistyped key passes: {text}");
    }
}
