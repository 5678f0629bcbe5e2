//! What both listeners have in common as HTTP servers.

pub mod activity;
pub mod observe;
mod panics;
mod pointer;
pub mod problem;
pub mod request_id;
pub mod server;
pub mod shed;
pub mod tls;
pub mod wording;

use axum::{extract::FromRequestParts, http::request::Parts};
use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
};
use tokio::time::Instant;

/// Marks an answer to someone who has shown that they belong here.
#[derive(Clone, Copy, Debug)]
pub struct Trusted;

/// When a request arrived here.
#[derive(Clone, Copy, Debug)]
pub struct Arrived(pub Instant);

impl<S: Sync> FromRequestParts<S> for Arrived {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(parts))
    }
}

impl Arrived {
    /// When this one did; now, if nobody has noted it.
    #[must_use]
    pub fn of(parts: &Parts) -> Self {
        parts.extensions.get().copied().unwrap_or_else(|| Self(Instant::now()))
    }
}

/// The other end of the connection that a request came by.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

impl Peer {
    /// Its address; an IPv4 client of an IPv6 socket by its IPv4 address.
    #[must_use]
    pub fn address(self) -> IpAddr {
        self.0.ip().to_canonical()
    }
}
