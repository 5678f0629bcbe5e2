//! What the gate wants asked of the control plane, and what it gets back.

use edge_protocol::{
    CHANGES_PATH, ChangesQuery, EVENTS_PATH, EventBatch, FromJson, LEASES_PATH, ToJson,
    VERIFY_PATH, VerifyRequest, leases::LeaseCall,
};

use crate::fleet::LeaseCallId;
use crate::flights::FlightId;
use crate::request::StreamId;

/// What a message is about. The caller hands it back with the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// A question about a key.
    Verify(FlightId),
    /// A poll of the change feed.
    Changes,
    /// Audit events and usage.
    Events,
    /// Limits that the fleet shares.
    Leases(LeaseCallId),
}

/// A call to the control plane, to be made by whoever runs the gate.
#[derive(Clone, Debug)]
pub struct Message {
    /// What it is about.
    pub call: Call,
    /// `GET` or `POST`.
    pub method: &'static str,
    /// The path, with its query.
    pub path: String,
    /// The JSON to send; empty with `GET`.
    pub body: Vec<u8>,
    /// How long to wait for the answer, in milliseconds.
    pub timeout_ms: u32,
    /// The request that cannot go on without the answer, when it has only just been decided on: the
    /// caller may send its name along.
    pub on_behalf_of: Option<StreamId>,
}

/// The answer to a call. When there was none at all, its status is 0.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// The HTTP status.
    pub status: u16,
    /// Whether the control plane put its stamp on it; without, it is some proxy's word.
    pub stamped: bool,
    /// The body.
    pub body: &'a [u8],
}

impl Answer<'_> {
    /// The answer when the call failed.
    pub const NONE: Self = Self { status: 0, stamped: false, body: &[] };

    /// The body, when this is a good answer of the control plane.
    pub(crate) fn ok<T: FromJson>(&self) -> Option<T> {
        if self.status != 200 || !self.stamped {
            return None;
        }
        T::from_json(self.body)
    }
}

impl Message {
    pub(crate) fn verify(
        flight: FlightId,
        key: &str,
        timeout_ms: u32,
        on_behalf_of: Option<StreamId>,
    ) -> Self {
        let request = VerifyRequest { key: key.to_owned() };
        Self {
            call: Call::Verify(flight),
            method: "POST",
            path: VERIFY_PATH.to_owned(),
            body: request.to_json(),
            timeout_ms,
            on_behalf_of,
        }
    }

    pub(crate) fn changes(query: &ChangesQuery, timeout_ms: u32) -> Self {
        let mut path = format!("{CHANGES_PATH}?since={}&wait_ms={}", query.since, query.wait_ms);
        // An epoch is hex digits by contract; what is not must not get into a path.
        if let Some(epoch) =
            query.epoch.as_deref().filter(|e| e.bytes().all(|b| b.is_ascii_hexdigit()))
        {
            path.push_str("&epoch=");
            path.push_str(epoch);
        }
        Self {
            call: Call::Changes,
            method: "GET",
            path,
            body: Vec::new(),
            timeout_ms,
            on_behalf_of: None,
        }
    }

    pub(crate) fn leases(id: LeaseCallId, call: &LeaseCall, timeout_ms: u32) -> Self {
        Self {
            call: Call::Leases(id),
            method: "POST",
            path: LEASES_PATH.to_owned(),
            body: call.to_json(),
            timeout_ms,
            on_behalf_of: None,
        }
    }

    pub(crate) fn events(batch: &EventBatch, timeout_ms: u32) -> Self {
        Self {
            call: Call::Events,
            method: "POST",
            path: EVENTS_PATH.to_owned(),
            body: batch.to_json(),
            timeout_ms,
            on_behalf_of: None,
        }
    }
}
