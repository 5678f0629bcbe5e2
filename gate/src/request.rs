//! What the gate is told about a request.

use crate::ClientAddress;

/// The time of a call into the gate, in milliseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Now(u64);

impl Now {
    /// From milliseconds since the Unix epoch.
    #[must_use]
    pub fn from_unix_ms(ms: u64) -> Self {
        Self(ms)
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub fn unix_ms(self) -> u64 {
        self.0
    }

    /// Whole seconds since the Unix epoch.
    #[must_use]
    pub fn unix_seconds(self) -> u64 {
        self.0 / 1000
    }
}

/// The caller's name for a request that may have to wait for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StreamId(pub u32);

/// What the request carries in its credential header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credential<'a> {
    /// No such header.
    Absent,
    /// One such header with this value, which can be any bytes.
    One(&'a [u8]),
    /// More than one such header: no telling which one is meant.
    Several,
}

/// A request, as far as the gate looks at it.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The caller's name for it.
    pub stream: StreamId,
    /// The method, as sent.
    pub method: &'a [u8],
    /// The path with its query, as the proxy will route it.
    pub path: &'a [u8],
    /// The credential.
    pub credential: Credential<'a>,
    /// Who is asking, when that can be told.
    pub client: Option<ClientAddress>,
}
