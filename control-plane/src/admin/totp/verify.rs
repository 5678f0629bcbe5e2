//! `POST /api/v1/admin/totp/verify`: puts the drawn factor in force.

use axum::{Json, extract::State};
use serde::Deserialize;
use std::sync::Arc;

use super::state::StateView;
use crate::{
    admin::{
        authenticate::KeyHolder,
        body,
        query::{Nothing, Parameters},
        second_factor,
    },
    http::problem::{Code, Problem},
    keys::new_key::FieldError,
    service::Service,
    totp::{Confirmation, Denial, PresentedCode, TotpError},
};

/// The factor's first code.
#[derive(Deserialize, utoipa::ToSchema)]
#[schema(as = TotpCode)]
#[serde(deny_unknown_fields)]
pub(super) struct VerifyRequest {
    /// The six digits that the authenticator shows now.
    #[schema(pattern = "^[0-9]{6}$", example = "123456")]
    code: String,
}

/// Why the factor is not in force.
#[derive(Debug, thiserror::Error)]
pub(super) enum VerifyError {
    #[error("the code is not six digits")]
    Malformed,
    #[error("no factor waits for its first code")]
    NothingPending,
    #[error("the code was not accepted")]
    Denied(Denial),
    #[error(transparent)]
    Totp(#[from] TotpError),
}

impl From<VerifyError> for Problem {
    fn from(error: VerifyError) -> Self {
        match error {
            VerifyError::Malformed => Self::new(Code::InvalidFields).errors(vec![FieldError {
                field: "code".to_owned(),
                message: "must be six digits".to_owned(),
            }]),
            VerifyError::NothingPending => Self::new(Code::TotpConflict).detail(
                "no factor waits for its first code; `POST /api/v1/admin/totp/enrol` draws one",
            ),
            VerifyError::Denied(denial) => denial.into(),
            VerifyError::Totp(error) => error.into(),
        }
    }
}

/// Puts the calling key's second factor in force
///
/// From then on every change with this key needs it.
#[utoipa::path(
    post,
    path = "/api/v1/admin/totp/verify",
    tag = "totp",
    operation_id = "verify_totp",
    request_body = VerifyRequest,
    responses(
        (status = OK, description = "The second factor, which is in force", body = StateView),
        (status = CONFLICT, description = "`totp_conflict`: no factor waits for its first code"),
    )
)]
pub(super) async fn handler(
    KeyHolder(admin): KeyHolder,
    Parameters(Nothing {}): Parameters<Nothing>,
    State(service): State<Arc<Service>>,
    body::Json(request): body::Json<VerifyRequest>,
) -> Result<Json<StateView>, Problem> {
    // Strictly: what the description refuses is refused.
    let is_code = request.code.len() == 6
        && matches!(PresentedCode::parse(&request.code), Some(PresentedCode::Time(_)));
    if !is_code {
        return Err(VerifyError::Malformed.into());
    }
    let (confirming, actor, key_id) = (Arc::clone(&service), admin.actor(), admin.key_id);
    let done = service
        .complete(
            async move { confirming.second_factor.confirm(&actor, key_id, &request.code).await },
        )
        .await?
        .map_err(VerifyError::from)?;
    match done {
        Confirmation::Done => Ok(Json(StateView::read(&service, &admin).await?)),
        Confirmation::NothingPending => Err(VerifyError::NothingPending.into()),
        Confirmation::Denied(denial) => {
            // Who enrols anew has new tries, so these are counted, too.
            second_factor::record_denial(&service, &admin, denial, "on=enrolment").await;
            Err(VerifyError::Denied(denial).into())
        }
    }
}
