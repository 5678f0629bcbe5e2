//! Which entries of the log are wanted.

use edge_protocol::EventKind;
use jiff::Timestamp;
use key_policy::KeyId;
use std::{net::IpAddr, str::FromStr};

use crate::store::AuditFilter;

#[expect(clippy::doc_markdown, reason = "clap shows it as it stands")]
#[derive(clap::Args)]
pub(super) struct Filter {
    /// Only this event, such as INVALID_KEY
    #[arg(long, value_parser = EventKind::from_str)]
    event: Option<EventKind>,
    /// Only entries about this key
    #[arg(long)]
    key_id: Option<KeyId>,
    /// Only what this client did
    #[arg(long, value_name = "ADDRESS")]
    client_ip: Option<IpAddr>,
    /// Only what this administrator did: an admin key's id, or cli
    #[arg(long)]
    actor: Option<String>,
    /// Only what this filter reported, or control-plane
    #[arg(long)]
    source: Option<String>,
    /// Only what happened at this time or later, such as 2026-11-25T12:00:00Z
    #[arg(long, value_name = "TIME")]
    since: Option<Timestamp>,
    /// Only what happened before this time
    #[arg(long, value_name = "TIME")]
    until: Option<Timestamp>,
}

impl From<Filter> for AuditFilter {
    fn from(filter: Filter) -> Self {
        let Filter { event, key_id, client_ip, actor, source, since, until } = filter;
        Self { event, key_id, client_ip, actor, source, since, until, ..Self::default() }
    }
}
