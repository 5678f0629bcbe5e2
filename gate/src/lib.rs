//! Keygate's decision engine: facts in, decisions and messages out.
//!
//! The gate knows no host, no clock and no I/O. Its caller hands it what a request says
//! ([`Request`]), the time ([`Now`]) and the store that all workers of a proxy share
//! ([`SharedSlots`]), and carries out what it answers: a [`Decision`], and [`Message`]s for the
//! control plane. So it runs the same inside Envoy, under tests, fuzzers and benchmarks.
//!
//! The layers, in the order in which they are decided, are those of [`Layer`].

mod address;
mod audit;
mod cache;
mod delivery;
mod engine;
mod feed;
mod fleet;
mod flights;
mod limits;
mod message;
mod problem;
mod request;
mod routes;
mod tally;
mod unknown;
mod usage;

pub use address::ClientAddress;
pub use audit::{LogLine, LogTakes};
pub use cache::{EntryIndex, Identity};
pub use engine::{Decision, Gate, Pass, Seeds};
pub use filter_config::{ClientAddressSource, Config, ConfigFault, IDENTITY_HEADERS, Layer};
pub use fleet::LeaseCallId;
pub use limits::{
    LimitReport, MAX_SLOT_BYTES, RateLimitHeaders, Recollection, SharedSlots, SlotName, Version,
};
pub use message::{Answer, Call, Message};
pub use problem::{Problem, Refusal};
pub use request::{Credential, Now, Request, StreamId};
pub use tally::{COUNTER_MEANINGS, COUNTER_NAMES, Tally};
