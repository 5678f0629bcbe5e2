//! Every development task of Keygate, as `cargo xtask …`; and, for the end-to-end tests, what
//! starts a whole Keygate or a part of it ([`stack`]).

mod bench;
pub mod cache;
pub mod checks;
pub mod cli;
mod client;
pub mod codegen;
pub mod edge_config;
pub mod envoy;
#[cfg(test)]
mod failure_modes;
pub mod fuzz;
pub mod install;
pub mod interrupt;
pub mod manifests;
pub mod private_file;
pub mod probe;
pub mod process;
pub mod progress;
mod security;
pub mod servers;
pub mod soak;
pub mod stack;
mod up;
pub mod wait;
pub mod wasm;
pub mod workspace;
