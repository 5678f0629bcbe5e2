//! What the gate promises, in a world of its own: natively, and as WebAssembly in Node.
#![cfg(test)]

#[cfg(not(target_arch = "wasm32"))]
mod allocation;
mod clock;
mod configuration;
mod exactness;
#[cfg(not(target_arch = "wasm32"))]
mod flood;
mod layers;
mod limits;
mod lookups;
mod shared_limits;
mod usage;
mod world;
