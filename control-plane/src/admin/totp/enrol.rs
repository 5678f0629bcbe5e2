//! `POST /api/v1/admin/totp/enrol`: draws a factor. It is asked for only once `verify` was called.

use axum::{Json, extract::State};
use secrecy::ExposeSecret;
use serde::Serialize;
use std::sync::Arc;

use crate::{
    admin::{
        authenticate::KeyHolder,
        query::{Nothing, Parameters},
    },
    http::problem::{Code, Problem},
    service::Service,
    totp::{Enrolment, RECOVERY_CODES, TotpError},
};

/// Why no factor was drawn.
#[derive(Debug, thiserror::Error)]
pub(super) enum EnrolError {
    #[error("the key has a second factor already")]
    InForce,
    #[error(transparent)]
    Totp(#[from] TotpError),
}

impl From<EnrolError> for Problem {
    fn from(error: EnrolError) -> Self {
        match error {
            EnrolError::InForce => Self::new(Code::TotpConflict).detail(
                "this key has a second factor; disable it first: `DELETE /api/v1/admin/totp`",
            ),
            EnrolError::Totp(error) => error.into(),
        }
    }
}

/// A factor that waits for its first code. All of it is shown once.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = TotpEnrolment)]
pub(super) struct EnrolmentView {
    /// The secret, in base 32, for typing.
    #[schema(pattern = "^[A-Z2-7]{32}$", example = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ")]
    secret: String,
    /// The same for a QR code.
    #[schema(pattern = "^otpauth://totp/")]
    otpauth_uri: String,
    /// Each stands in once for a code; keep them where the authenticator is not.
    #[schema(min_items = 10, max_items = 10)]
    recovery_codes: Vec<String>,
}

impl From<Enrolment> for EnrolmentView {
    fn from(enrolment: Enrolment) -> Self {
        let Enrolment { secret, uri, recovery_codes } = enrolment;
        debug_assert_eq!(recovery_codes.len(), RECOVERY_CODES);
        Self {
            secret: secret.expose_secret().to_owned(),
            otpauth_uri: uri.expose_secret().to_owned(),
            recovery_codes: recovery_codes
                .iter()
                .map(|code| code.expose_secret().to_owned())
                .collect(),
        }
    }
}

/// Draws a second factor for the calling key
///
/// It is not asked for until `verify` has seen its first code. One that waits already is replaced.
#[utoipa::path(
    post,
    path = "/api/v1/admin/totp/enrol",
    tag = "totp",
    operation_id = "enrol_totp",
    responses(
        (status = OK, description = "The secret and the recovery codes", body = EnrolmentView),
        (status = CONFLICT, description = "`totp_conflict`: the key has a second factor"),
    )
)]
pub(super) async fn handler(
    KeyHolder(admin): KeyHolder,
    Parameters(Nothing {}): Parameters<Nothing>,
    State(service): State<Arc<Service>>,
) -> Result<Json<EnrolmentView>, Problem> {
    let (enrolling, actor, key_id) = (Arc::clone(&service), admin.actor(), admin.key_id);
    let enrolled = service
        .complete(async move { enrolling.second_factor.enrol(&actor, key_id).await })
        .await?
        .map_err(EnrolError::from)?;
    Ok(Json(enrolled.ok_or(EnrolError::InForce)?.into()))
}
