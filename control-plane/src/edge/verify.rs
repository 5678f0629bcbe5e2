//! `POST /edge/v1/verify`

use axum::{
    Json,
    body::Bytes,
    extract::{State, rejection::BytesRejection},
    http::StatusCode,
};
use edge_protocol::{EventKind, Verdict, VerifyAnswer, VerifyRequest};
use std::sync::Arc;
use zeroize::{Zeroize, Zeroizing};

use super::fault::Fault;
use crate::{
    audit::AuditEntry,
    http::Arrived,
    keys::{
        digest::{PresentedKey, audit_hash},
        verify::Outcome,
    },
    metrics::decisions,
    service::Service,
};

pub(super) async fn handler(
    State(service): State<Arc<Service>>,
    Arrived(arrived): Arrived,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<VerifyAnswer>, Fault> {
    let key = read(body.map_err(|rejection| unreadable(&rejection))?)?;
    let Some(key) = key else {
        decided("credential", EventKind::InvalidFormat, "too_long");
        let as_of = service.store.position().await?;
        return Ok(Json(VerifyAnswer { as_of, verdict: Verdict::Unknown }));
    };
    // Only a test key that is refused is written down, by its hash.
    let key_hash = (!service.test_keys).then(|| audit_hash(key.expose()));
    let verification = service.verifier.verify_for(arrived, key).await.inspect_err(|error| {
        decided("known", EventKind::DbError, error.reason());
    })?;
    let verdict = match verification.outcome {
        Outcome::Known(key) => {
            let now = service.clock.now();
            if key.is_usable(now) {
                service.last_used.note(&key, now);
                decided("known", EventKind::ValidApiKey, "known");
            } else if key.is_active {
                decided("expiry", EventKind::ExpiredKey, "expired");
            } else {
                decided("expiry", EventKind::RevokedKey, "revoked");
            }
            Verdict::Known { record: key.record() }
        }
        Outcome::Unknown => {
            decided("known", EventKind::InvalidKey, "unknown");
            Verdict::Unknown
        }
        Outcome::TestKeyRefused => {
            decided("environment", EventKind::SecurityViolation, "test_key");
            let entry = AuditEntry::of(
                EventKind::SecurityViolation,
                service.clock.now(),
                "reason=test_key_while_disabled by=edge",
            );
            service.recorder.record(entry.with_key_hash(key_hash)).await;
            Verdict::Unknown
        }
    };
    Ok(Json(VerifyAnswer { as_of: verification.as_of, verdict }))
}

fn decided(layer: &'static str, event: EventKind, reason: &'static str) {
    decisions::count(decisions::By::Edge, layer, event, reason);
}

pub(super) fn unreadable(rejection: &BytesRejection) -> Fault {
    match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Fault::TooLarge,
        _ => Fault::Malformed("the body could not be read".to_owned()),
    }
}

/// Reads the key, and wipes what it was read from. `None`: what was sent cannot be a key.
fn read(body: Bytes) -> Result<Option<PresentedKey>, Fault> {
    // serde's words might repeat a part of the body.
    let request = serde_json::from_slice::<VerifyRequest>(&body)
        .map_err(|_| Fault::Malformed("expected {\"key\": string}".to_owned()));
    if let Ok(mut buffer) = body.try_into_mut() {
        buffer.as_mut().zeroize();
    }
    let key = Zeroizing::new(request?.key);
    Ok(PresentedKey::new(key.as_bytes()))
}
