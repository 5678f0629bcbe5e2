//! A running Keygate: control plane, Envoy with the filter, an upstream. What `cargo xtask up`
//! runs, and what the end-to-end tests start, stop, kill and freeze part by part.
//!
//! [`Stack`] is the whole; [`ControlPlaneProcess`], [`EnvoyProcess`] and [`EchoServer`] are its
//! parts, and can be had alone.

mod control_plane;
mod echo;
mod envoy_process;
mod options;
mod ports;
mod whole;

pub use control_plane::{ControlPlaneOptions, ControlPlaneProcess, Keygate};
pub use echo::EchoServer;
pub use envoy_process::{EnvoyOptions, EnvoyProcess};
pub(crate) use options::build_keygate;
pub use options::{
    Binaries, Build, EnvoyEdit, GIVEN_BINARIES, StackOptions, database_url, new_secret,
    try_out_filter_config,
};
pub use ports::{free_port, require_free};
pub use whole::Stack;
