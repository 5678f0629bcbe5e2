//! The proxy-wasm layer of Keygate: it reads the request from Envoy, feeds the gate, and carries
//! out what the gate decides.
//!
//! The SDK's own dispatcher keeps a boxed context for each stream and exports every callback that
//! there is; both cost each request more than the whole gate does. So this crate takes the ABI's
//! types from the SDK, and has entry points of its own, under names that begin with `keygate_`.
//! `cargo xtask wasm` finishes the module: it gives these the names of the ABI (0.2.1) and drops
//! the SDK's. An unfinished module refuses to be configured, see [`unfinished`].

#[cfg(target_arch = "wasm32")]
mod abi;
mod buffer;
mod filter;
mod host;
mod origin;
mod pairs;
mod responses;
mod root;
mod slots;
#[cfg(target_arch = "wasm32")]
mod unfinished;
