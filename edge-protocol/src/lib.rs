//! The messages between Keygate's filter and its control plane.
//!
//! Plain types, JSON on the wire, one version number. The filter speaks first in every
//! exchange; the control plane marks each of its answers with [`STAMP_HEADER`], so that an
//! answer made up by a proxy in between (Envoy's own 503, say) is never taken for its word.
//!
//! | exchange | request | answer |
//! |---|---|---|
//! | `POST` [`VERIFY_PATH`] | [`VerifyRequest`] | 200 [`VerifyAnswer`], 503 when it cannot be told |
//! | `GET` [`CHANGES_PATH`] | query of [`ChangesQuery`] | 200 [`ChangesAnswer`], after a wait when there is no news |
//! | `POST` [`EVENTS_PATH`] | [`EventBatch`] | 200 [`EventAck`] |
//! | `POST` [`LEASES_PATH`] | [`leases::LeaseCall`] | 200 [`leases::LeaseAnswer`] |
//!
//! Readers ignore fields they do not know, so a newer side may add fields within a version.

mod changes;
mod deployment;
mod events;
mod json;
pub mod leases;
mod record;
mod usage;
mod verify;

pub use changes::{Change, ChangeKind, ChangesAnswer, ChangesQuery, Position};
pub use deployment::Deployment;
pub use events::{Event, EventAck, EventBatch, EventKind};
pub use json::{FromJson, ToJson};
pub use record::{
    Algorithm, KeyEnvironment, KeyLimit, KeyRecord, OnOutage, Reach, Scope, UnknownName,
};
pub use usage::{UsageCount, UsageMethod, UsageOutcome};
pub use verify::{Verdict, VerifyAnswer, VerifyRequest};

/// Header by which an answer of the control plane is told from a proxy's own; its value is
/// [`STAMP`].
pub const STAMP_HEADER: &str = "x-keygate-edge";
/// The protocol's version, as the value of [`STAMP_HEADER`].
pub const STAMP: &str = "1";
/// Where a filter asks about a key that it does not know.
pub const VERIFY_PATH: &str = "/edge/v1/verify";
/// Where a filter follows what has changed about keys.
pub const CHANGES_PATH: &str = "/edge/v1/changes";
/// Where a filter delivers audit events and usage.
pub const EVENTS_PATH: &str = "/edge/v1/events";
/// Where an Envoy gets its part of limits that a fleet shares.
pub const LEASES_PATH: &str = "/edge/v1/leases";
