//! Revoking keys.

use edge_protocol::EventKind;
use key_policy::KeyId;

use crate::{
    audit::{Actor, AuditEntry},
    clock::Clock,
    store::{Revocation, RevokeGuard, RevokeRequest, Store, StoreError},
};

/// The longest reason, in characters.
pub const MAX_REASON_CHARS: usize = 200;

/// The reason is not fit for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be 1 to {MAX_REASON_CHARS} characters, without control characters")]
pub struct InvalidReason;

/// Checks a reason that someone gave.
///
/// # Errors
/// When it is empty, too long, or has characters that are not for reading.
pub fn reason(text: &str) -> Result<String, InvalidReason> {
    let text = text.trim();
    let readable = !text.chars().any(char::is_control);
    let fits = (1..=MAX_REASON_CHARS).contains(&text.chars().count());
    if readable && fits { Ok(text.to_owned()) } else { Err(InvalidReason) }
}

/// Revokes a key, at once and for good, with its audit entry.
///
/// # Errors
/// When the database fails; nothing has been changed then.
pub async fn revoke(
    store: &dyn Store,
    clock: &dyn Clock,
    key_id: KeyId,
    reason: Option<String>,
    guard: RevokeGuard,
    by: &Actor,
) -> Result<Revocation, StoreError> {
    let at = clock.now();
    // The reason is free text: it is kept with the key, where it cannot be taken for a log field.
    let details = if reason.is_some() { "reason=given" } else { "reason=none" };
    let audit = AuditEntry::by(by, EventKind::KeyRevoked, key_id, at, details);
    let done = store.revoke_key(&RevokeRequest { key_id, at, reason, guard }, &audit).await?;
    if matches!(done, Revocation::Revoked(_)) {
        audit.log();
    }
    Ok(done)
}
