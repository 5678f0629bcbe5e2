//! Keygate's control plane: what must be durable and shared.
//!
//! It owns the keys, the audit log and the change feed, answers administrators on one listener
//! and filters on another, and is one binary with its own command line.
//!
//! | module | room for |
//! |---|---|
//! | [`admin`] | the admin API: one endpoint, one file |
//! | [`edge`] | what filters call |
//! | [`keys`] | issuing, verifying, revoking; hashing |
//! | [`totp`] | the second factor of admin keys |
//! | [`audit`] | the audit log's entries |
//! | [`backup`] | copies of the database, and what is made from them |
//! | [`usage`] | how often keys are used |
//! | [`redis`] | what control planes share, and how it is done without |
//! | [`store`] | what is durable: traits, and `SQLite` behind them |
//! | [`config`] | settings, where they come from, which are refused |
//! | [`openapi`] | the admin API's description |
//! | [`doctor`] | what is amiss with a deployment, and how to mend it |
//! | [`lifecycle`] | starting, supervising and ending the service |
//! | [`telemetry`] | log lines, traces, reports of errors |
//! | [`cli`] | the command line |
//!
//! Time ([`clock`]) and randomness ([`random`]) are parameters.

pub mod admin;
pub mod audit;
pub mod backup;
pub mod cli;
pub mod clock;
pub mod config;
pub mod doctor;
pub mod edge;
pub mod gather;
pub mod health;
pub mod http;
pub mod jobs;
pub mod keys;
pub mod lifecycle;
pub mod limits;
pub mod metrics;
pub mod open_files;
pub mod openapi;
pub mod private_file;
pub mod probe;
pub mod random;
pub mod redis;
pub mod secret_key;
pub mod service;
pub mod store;
pub mod telemetry;
pub mod totp;
pub mod usage;

#[cfg(test)]
pub(crate) mod testing;
