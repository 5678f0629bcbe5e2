//! `POST /edge/v1/events`: audit events and usage of filters, each batch stored once.

use axum::{
    Json,
    body::Bytes,
    extract::{State, rejection::BytesRejection},
};
use edge_protocol::{Event, EventAck, EventBatch, EventKind};
use key_policy::KeyId;
use std::sync::Arc;

use super::{fault::Fault, verify::unreadable};
use crate::{
    audit::AuditEntry, http::wording::without_input, service::Service, store::FilterBatch,
    usage::ingest,
};

const SOURCE_CHARS: usize = 32;
const KEY_HASH_CHARS: usize = 16;
const MAX_DETAILS_CHARS: usize = 512;

pub(super) async fn handler(
    State(service): State<Arc<Service>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<EventAck>, Fault> {
    let body = body.map_err(|rejection| unreadable(&rejection))?;
    let batch: EventBatch = serde_json::from_slice(&body)
        .map_err(|error| Fault::Malformed(without_input(&error.to_string())))?;
    check(&batch).map_err(Fault::Invalid)?;

    let now = service.clock.now();
    let usage = ingest::gather(&batch.usage, service.usage_keeper.kept_since(), now)
        .map_err(|error| Fault::Invalid(error.to_string()))?;
    let EventBatch { source, batch, events, .. } = batch;
    let entries = events.into_iter().map(|event| AuditEntry { event, actor: None }).collect();
    let written = FilterBatch { source, batch, at: now, entries, usage };
    service.event_writer.write(written).await?;
    Ok(Json(EventAck { batch }))
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// What a filter can witness. The rest only administrators do, and only here.
fn is_of_filters(kind: EventKind) -> bool {
    match kind {
        EventKind::MissingApiKey
        | EventKind::InvalidFormat
        | EventKind::SecurityViolation
        | EventKind::InvalidKey
        | EventKind::ValidApiKey
        | EventKind::DbError
        | EventKind::ExpiredKey
        | EventKind::RevokedKey
        | EventKind::IpDenied
        | EventKind::ScopeDenied
        | EventKind::RateLimited
        | EventKind::EventsDropped
        | EventKind::UsageDropped => true,
        EventKind::KeyCreated
        | EventKind::KeyUpdated
        | EventKind::KeyRotated
        | EventKind::KeyRevoked
        | EventKind::AdminDenied
        | EventKind::AdminRead
        | EventKind::AdminRefused
        | EventKind::AdminFailed
        | EventKind::TotpIssued
        | EventKind::SecretKeyRotated
        | EventKind::TotpEnrolled
        | EventKind::TotpDisabled
        | EventKind::TotpDenied
        | EventKind::TotpRecoveryUsed
        | EventKind::BackupMade
        | EventKind::BackupRestored => false,
    }
}

fn check(batch: &EventBatch) -> Result<(), String> {
    if !is_hex(&batch.source, SOURCE_CHARS) {
        return Err("source: must be 32 lower-case hex digits".to_owned());
    }
    if batch.batch == 0 || i64::try_from(batch.batch).is_err() {
        return Err("batch: must be 1 or more".to_owned());
    }
    for (index, event) in batch.events.iter().enumerate() {
        check_event(event)
            .map_err(|(field, problem)| format!("events[{index}].{field}: {problem}"))?;
    }
    Ok(())
}

fn check_event(event: &Event) -> Result<(), (&'static str, &'static str)> {
    if !is_of_filters(event.kind) {
        return Err(("kind", "only the control plane writes these"));
    }
    if i64::try_from(event.at_ms).is_err() {
        return Err(("at_ms", "is too great"));
    }
    if event.key_hash.as_deref().is_some_and(|hash| !is_hex(hash, KEY_HASH_CHARS)) {
        return Err(("key_hash", "must be 16 lower-case hex digits"));
    }
    if event.key_id.as_deref().is_some_and(|key_id| key_id.parse::<KeyId>().is_err()) {
        return Err(("key_id", "must be 16 lower-case hex digits"));
    }
    let printable = event.details.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    if !printable || event.details.len() > MAX_DETAILS_CHARS {
        return Err(("details", "must be at most 512 printable ASCII characters"));
    }
    Ok(())
}
