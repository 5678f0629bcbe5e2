//! What Keygate costs: the load generator behind `cargo xtask bench`. Micro-benchmarks are in
//! `benches/`.

pub mod load;
