//! Random keys that are the same in every run.

use std::convert::Infallible;

use key_policy::{Environment, NewKey, Policy};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

pub(crate) const BASE62: &[u8; 62] =
    b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// `SplitMix64`: small, and good enough for statistics.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next_u64() % end as u64).unwrap()
    }

    pub(crate) fn base62(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| BASE62[self.below(BASE62.len())]).collect()
    }

    pub(crate) fn key(&mut self, policy: &Policy, environment: Environment) -> NewKey {
        let mut fill = |buffer: &mut [u8]| {
            buffer.fill_with(|| self.next_u64().to_le_bytes()[0]);
            Ok::<(), Infallible>(())
        };
        policy.generate(environment, &mut fill).unwrap()
    }
}

/// A random foreign key of 40 characters that the default policy takes, and that contains
/// nothing but base62.
pub(crate) fn good_key(seed: u64) -> Vec<u8> {
    let mut random = Random(seed);
    loop {
        let key = random.base62(40);
        if Policy::default().check(&key).is_ok() {
            return key;
        }
    }
}

pub(crate) fn environment() -> impl Strategy<Value = Environment> {
    prop_oneof![Just(Environment::Live), Just(Environment::Test)]
}

/// The same cases in every run, natively and in Node.
pub(crate) fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        rng_seed: RngSeed::Fixed(0x6b65_7967_6174_6501),
        ..ProptestConfig::default()
    }
}
