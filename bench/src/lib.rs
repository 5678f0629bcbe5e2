//! What Keygate costs: the load generator behind `cargo xtask bench`, and the control plane's
//! figures. Micro-benchmarks are in `benches/`.

#[cfg(feature = "control-plane")]
pub mod control_plane;
pub mod load;
