//! What it takes to make a key, and to judge one.

#![expect(clippy::expect_used, reason = "a benchmark that cannot be set up ends there")]

#[path = "../support/cpu_time.rs"]
mod cpu_time;

use cpu_time::CpuTime;
use criterion::{Criterion, criterion_group, criterion_main};
use key_policy::{Environment, Policy, checksum};
use std::hint::black_box;

const FOREIGN: &[u8] = b"sk-9fQ2vXz7Lr4TnB8wKd3HsY6mPjC1eGaU";
const WEAK: &[u8] = b"Password1234abcdPassword1234abcdPassword1234abcd";

fn policy(c: &mut Criterion<CpuTime>) {
    let policy = Policy::default();
    let generate = |fill: &mut dyn FnMut(&mut [u8]) -> Result<(), getrandom::Error>| {
        policy.generate(Environment::Live, fill).expect("random numbers").text
    };
    let own = generate(&mut |bytes| getrandom::fill(bytes));
    c.bench_function("key/generate, with the system's random numbers", |b| {
        b.iter(|| generate(&mut |bytes| getrandom::fill(bytes)));
    });
    let mut state = 1_u64;
    c.bench_function("key/generate, without", |b| {
        b.iter(|| {
            generate(&mut |bytes| {
                for byte in bytes {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    *byte = state.to_be_bytes()[0];
                }
                Ok(())
            })
        });
    });
    for (name, key) in [("own", own.as_bytes()), ("foreign", FOREIGN), ("weak", WEAK)] {
        c.bench_function(&format!("key/check, {name}"), |b| {
            b.iter(|| policy.check(black_box(key)));
        });
    }
    c.bench_function("key/checksum", |b| b.iter(|| checksum(black_box(own.as_bytes()))));
}

criterion_group! {
    name = key_policies;
    config = CpuTime::criterion();
    targets = policy
}
criterion_main!(key_policies);
