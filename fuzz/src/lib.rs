//! What fuzzing holds of each parser and of the limiter.
//!
//! A [`Target`] takes any bytes, makes of them what it is about, and panics when its property does
//! not hold. Two engines feed them: [`random`], which mutates the corpus from a seed and runs
//! everywhere, in `cargo xtask test` too; and libFuzzer, which is led by what an input reaches
//! (`cargo xtask fuzz`). `corpus/<target>/` has inputs to begin with and every input that ever
//! broke a property, by which each is tested.

pub mod corpus;
pub mod random;
pub mod target;
mod targets;

pub use target::{TARGETS, Target};
