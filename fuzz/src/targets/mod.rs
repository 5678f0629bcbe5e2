//! One file for each target, and what several of them stand on: `worker` (a gate with its shared
//! slots) and `service` (a control plane in this process).

pub(crate) mod addresses;
pub(crate) mod admin_calls;
pub(crate) mod backup;
pub(crate) mod cursors;
pub(crate) mod edge_calls;
pub(crate) mod filter_configuration;
pub(crate) mod fleet;
pub(crate) mod gate_answers;
pub(crate) mod header_pairs;
pub(crate) mod key_text;
pub(crate) mod limits;
pub(crate) mod messages;
pub(crate) mod networks;
pub(crate) mod paths;
mod service;
pub(crate) mod settings;
pub(crate) mod slots;
pub(crate) mod urls;
mod worker;
