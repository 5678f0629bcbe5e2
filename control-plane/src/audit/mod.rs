//! The audit log: what is written, and how it reads as a log line.

pub mod chain;
pub mod keeper;
pub mod pages;
pub mod read;
pub mod recorder;
pub mod signer;
pub mod trail;
pub mod verify;
mod waiting;

use edge_protocol::{Event, EventKind};
use jiff::Timestamp;
use key_policy::KeyId;
use std::net::IpAddr;

use crate::{
    clock::{from_unix_ms, unix_ms},
    openapi::text::KeyIdText,
};

/// What the control plane calls itself in the log's `source` column.
pub const OWN_SOURCE: &str = "control-plane";

/// Who does something to keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Actor {
    /// Someone at the command line, who can reach the database itself.
    CommandLine,
    /// The holder of an admin key.
    Key {
        /// Which key.
        key_id: KeyId,
        /// From where.
        client_ip: IpAddr,
    },
}

impl Actor {
    /// As the log's `actor` column has it.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::CommandLine => "cli".to_owned(),
            Self::Key { key_id, .. } => key_id.to_string(),
        }
    }

    /// The address, if there is one.
    #[must_use]
    pub fn client_ip(&self) -> Option<IpAddr> {
        match self {
            Self::CommandLine => None,
            Self::Key { client_ip, .. } => Some(*client_ip),
        }
    }
}

/// One entry of the audit log, before it has a place in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// What happened.
    pub event: Event,
    /// Who did it, for what administrators do.
    pub actor: Option<String>,
}

impl AuditEntry {
    /// An entry about a key that an administrator acted on. `details` follow who and from where.
    #[must_use]
    pub fn by(actor: &Actor, kind: EventKind, key_id: KeyId, at: Timestamp, details: &str) -> Self {
        Self::of_call(actor, kind, Some(key_id), at, details)
    }

    /// The same, where what an administrator did may be about no key in particular.
    #[must_use]
    pub fn of_call(
        actor: &Actor,
        kind: EventKind,
        about: Option<KeyId>,
        at: Timestamp,
        details: &str,
    ) -> Self {
        let client_ip = actor.client_ip();
        let from = client_ip.map_or_else(|| "-".to_owned(), |ip| ip.to_string());
        let details = format!("actor={} client_ip={from} {details}", actor.name());
        Self {
            event: Event {
                at_ms: unix_ms(at),
                kind,
                key_hash: None,
                key_id: about.map(|key_id| key_id.to_string()),
                client_ip,
                details: details.trim_end().to_owned(),
                shadow: false,
            },
            actor: Some(actor.name()),
        }
    }

    /// An entry about something that nobody in particular did.
    #[must_use]
    pub fn of(kind: EventKind, at: Timestamp, details: impl Into<String>) -> Self {
        Self {
            event: Event {
                at_ms: unix_ms(at),
                kind,
                key_hash: None,
                key_id: None,
                client_ip: None,
                details: details.into(),
                shadow: false,
            },
            actor: None,
        }
    }

    /// Names the presented key by its hash.
    #[must_use]
    pub fn with_key_hash(mut self, key_hash: Option<String>) -> Self {
        self.event.key_hash = key_hash;
        self
    }

    /// Writes the entry's log line. A call within which this happens needs no other entry.
    pub fn log(&self) {
        // That a recovery code was used up says nothing of what became of the call.
        if self.event.kind != EventKind::TotpRecoveryUsed {
            trail::told();
        }
        let line = self.event.log_line(&format!("{:.3}", from_unix_ms(self.event.at_ms)));
        match self.event.kind {
            EventKind::KeyCreated
            | EventKind::KeyUpdated
            | EventKind::KeyRotated
            | EventKind::KeyRevoked
            | EventKind::ValidApiKey
            | EventKind::AdminRead
            | EventKind::SecretKeyRotated
            | EventKind::TotpIssued
            | EventKind::TotpEnrolled
            | EventKind::BackupMade
            | EventKind::BackupRestored => tracing::info!(target: "keygate::audit", "{line}"),
            _ => tracing::warn!(target: "keygate::audit", "{line}"),
        }
    }
}

/// One entry as it stands in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRow {
    /// Its place; later entries have greater ones.
    pub id: i64,
    /// The entry itself.
    pub entry: AuditEntry,
    /// The filter that reported it, or [`OWN_SOURCE`].
    pub source: String,
}

/// A row as the API and the command line show it.
#[derive(Clone, Debug, serde::Serialize, utoipa::ToSchema)]
#[schema(as = AuditEntry)]
pub struct AuditView {
    /// Its place; later entries have greater ones.
    id: i64,
    /// When it happened.
    #[schema(value_type = String, format = DateTime)]
    timestamp: Timestamp,
    event: EventKind,
    /// The key, where it is known.
    #[schema(required, value_type = Option<KeyIdText>)]
    key_id: Option<String>,
    /// The first 16 hex digits of the SHA-256 of what was presented as a key.
    #[schema(required, pattern = "^[0-9a-f]{16}$")]
    key_hash: Option<String>,
    /// The client.
    #[schema(required, value_type = Option<String>)]
    client_ip: Option<IpAddr>,
    /// Who did it, for what administrators do: their key, or `cli`.
    #[schema(required)]
    actor: Option<String>,
    /// The reason, as `name=value` pairs.
    details: String,
    /// True when it was only counted, and the request passed (shadow mode).
    shadow: bool,
    /// The filter that reported it, or `control-plane`.
    source: String,
}

impl From<AuditRow> for AuditView {
    fn from(row: AuditRow) -> Self {
        let AuditEntry { event, actor } = row.entry;
        Self {
            id: row.id,
            timestamp: from_unix_ms(event.at_ms),
            event: event.kind,
            key_id: event.key_id,
            key_hash: event.key_hash,
            client_ip: event.client_ip,
            actor,
            details: event.details,
            shadow: event.shadow,
            source: row.source,
        }
    }
}

impl AuditView {
    /// When it happened.
    #[must_use]
    pub fn timestamp(&self) -> Timestamp {
        self.timestamp
    }

    /// The columns of the command line's table, after the timestamp.
    #[must_use]
    pub fn columns(&self) -> [String; 5] {
        let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        [
            self.event.to_string(),
            or_dash(&self.key_id),
            self.client_ip.map_or_else(|| "-".to_owned(), |ip| ip.to_string()),
            or_dash(&self.actor),
            self.details.clone(),
        ]
    }
}
