//! What the gate's decisions take, natively: no host, no wasm, no network.
//!
//! | file | what it holds |
//! |---|---|
//! | `shelf` | a store of slots in memory, and its own cost |
//! | `scene` | a gate, its keys and the answers of its control plane |
//! | `decisions` | warm, cold, and refused by each layer |
//! | `limits` | one limit of each algorithm |
//! | `leases` | spending from a lease, taking in what was granted |
//! | `growth` | many keys, many rules |

#![expect(clippy::expect_used, reason = "a benchmark that cannot be set up ends there")]

#[path = "../support/cpu_time.rs"]
mod cpu_time;
mod decisions;
mod growth;
mod leases;
mod limits;
mod scene;
mod shelf;

use criterion::{criterion_group, criterion_main};

criterion_group! {
    name = gate;
    config = cpu_time::CpuTime::criterion();
    targets =
        shelf::itself,
        decisions::warm,
        decisions::cold,
        decisions::refused,
        limits::each_algorithm,
        leases::spent,
        leases::granted,
        growth::many_keys,
        growth::many_rules,
}
criterion_main!(gate);
