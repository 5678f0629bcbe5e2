//! Audit events, as filters ship them.

use serde::{Deserialize, Serialize};
use std::{fmt, net::IpAddr, str::FromStr};

use crate::{UnknownName, UsageCount};

macro_rules! event_kinds {
    ($($(#[$doc:meta])* $variant:ident = $name:literal),+ $(,)?) => {
        /// What happened, in the audit log's own words.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum EventKind {
            $($(#[$doc])* #[serde(rename = $name)] $variant,)+
        }

        impl EventKind {
            /// Every kind there is.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The name as it stands in log lines and in the database.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }
        }
    };
}

event_kinds! {
    /// No credential where one is needed.
    MissingApiKey = "MISSING_API_KEY",
    /// The credential is no key by its form.
    InvalidFormat = "INVALID_FORMAT",
    /// Something that should not happen where it happened: a test key in production, say.
    SecurityViolation = "SECURITY_VIOLATION",
    /// Well formed, but no key of ours.
    InvalidKey = "INVALID_KEY",
    /// A key of ours was accepted.
    ValidApiKey = "VALID_API_KEY",
    /// The database could not tell.
    DbError = "DB_ERROR",
    /// The key's time is over.
    ExpiredKey = "EXPIRED_KEY",
    /// The key was revoked.
    RevokedKey = "REVOKED_KEY",
    /// The key may not be used from this address.
    IpDenied = "IP_DENIED",
    /// The key may not do this.
    ScopeDenied = "SCOPE_DENIED",
    /// Too many requests, or too many failed credentials.
    RateLimited = "RATE_LIMITED",
    /// Events were lost for want of room; the details say how many.
    EventsDropped = "EVENTS_DROPPED",
    /// Uses of keys went uncounted for want of room; the details say how many.
    UsageDropped = "USAGE_DROPPED",
    /// An administrator made a key.
    KeyCreated = "KEY_CREATED",
    /// An administrator changed a key.
    KeyUpdated = "KEY_UPDATED",
    /// An administrator gave a key a new secret.
    KeyRotated = "KEY_ROTATED",
    /// An administrator ended a key.
    KeyRevoked = "KEY_REVOKED",
    /// An admin call was refused for its credential, scope, address or limit, or to keep the last
    /// admin key.
    AdminDenied = "ADMIN_DENIED",
    /// An admin call was answered that changed nothing: a read, a dry run, a repetition.
    AdminRead = "ADMIN_READ",
    /// A call of an administrator was refused for what it asked.
    AdminRefused = "ADMIN_REFUSED",
    /// An admin call came to nothing, through no fault of its caller's, or was left unanswered.
    AdminFailed = "ADMIN_FAILED",
    /// The deployment's secret key is another one now.
    SecretKeyRotated = "SECRET_KEY_ROTATED",
    /// A second factor was drawn for an admin key; it waits for its first code.
    TotpIssued = "TOTP_ISSUED",
    /// An admin key has a second factor from now on.
    TotpEnrolled = "TOTP_ENROLLED",
    /// An admin key has no second factor any more.
    TotpDisabled = "TOTP_DISABLED",
    /// The second factor of an admin call was missing or wrong.
    TotpDenied = "TOTP_DENIED",
    /// A recovery code stood in for the second factor; it is used up.
    TotpRecoveryUsed = "TOTP_RECOVERY_USED",
    /// A copy of the database was made.
    BackupMade = "BACKUP_MADE",
    /// The database was made from a copy.
    BackupRestored = "BACKUP_RESTORED",
}

// Derived, it would have the variants' names.
#[cfg(feature = "openapi")]
impl utoipa::PartialSchema for EventKind {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::Type::String)
            .description(Some("What happened, in the audit log's own words."))
            .enum_values(Some(Self::ALL.iter().map(|kind| kind.as_str())))
            .into()
    }
}

#[cfg(feature = "openapi")]
impl utoipa::ToSchema for EventKind {}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for EventKind {
    type Err = UnknownName;

    fn from_str(name: &str) -> Result<Self, UnknownName> {
        Self::ALL
            .iter()
            .copied()
            .find(|kind| kind.as_str() == name)
            .ok_or(UnknownName { expected: "the name of an audit event, such as INVALID_KEY" })
    }
}

/// One thing that happened at a gate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When, in milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// What.
    pub kind: EventKind,
    /// The first 16 hex digits of the SHA-256 of what the client sent as its key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_hash: Option<String>,
    /// The key's public name, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id: Option<String>,
    /// The client.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_ip: Option<IpAddr>,
    /// The reason, in words that hold nothing of the key; `name=value` pairs.
    pub details: String,
    /// True when the event was only counted, and the request passed (shadow mode).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shadow: bool,
}

/// Events and usage on their way. A batch is sent again, unchanged, until it is acknowledged, and
/// stored once, as a whole: (`source`, `batch`) names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventBatch {
    /// The sender's name for its own life: 32 random hex digits.
    pub source: String,
    /// Counts up from 1 within a source. A number that was sent is never sent with other content.
    pub batch: u64,
    /// The events, oldest first.
    pub events: Vec<Event>,
    /// How often keys were used since the batch before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub usage: Vec<UsageCount>,
}

/// The batch is safe in the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventAck {
    /// The batch that this answers.
    pub batch: u64,
}

impl Event {
    /// The event as one log line. Everything in it is either ours or made of safe characters, so
    /// a client cannot write lines of its own.
    #[must_use]
    pub fn log_line(&self, timestamp: &str) -> String {
        let shadow = if self.shadow { " shadow=true" } else { "" };
        let client_ip = self.client_ip.map_or_else(|| "-".to_owned(), |ip| ip.to_string());
        format!(
            "API_KEY_SECURITY_EVENT: {} | key_hash={} | client_ip={client_ip} | timestamp={timestamp} | details={}{shadow}",
            self.kind,
            self.key_hash.as_deref().unwrap_or("-"),
            self.details,
        )
    }
}
