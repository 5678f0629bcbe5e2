//! `GET /api/v1/admin/totp`

use axum::{Json, extract::State};
use jiff::Timestamp;
use serde::Serialize;
use std::sync::Arc;

use crate::{
    admin::{
        authenticate::Admin,
        query::{Nothing, Parameters},
    },
    http::problem::Problem,
    service::Service,
    store::totp::StoredFactor,
};

/// How far a factor is.
#[derive(Clone, Copy, Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = TotpStateName)]
enum Name {
    /// There is none.
    None,
    /// It was enrolled, and waits for its first code. It is not asked for yet.
    Pending,
    /// It is needed for every change.
    Active,
}

/// The second factor of the key that calls.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = TotpState)]
pub(super) struct StateView {
    state: Name,
    /// Whether changes need one here, so that a key without one can only read and enrol.
    required: bool,
    /// Since when it is in force.
    #[schema(required, value_type = Option<String>, format = DateTime)]
    active_since: Option<Timestamp>,
    /// Recovery codes that are not used up.
    #[schema(minimum = 0, maximum = 10)]
    recovery_codes_left: u32,
}

impl StateView {
    pub(super) fn new(factor: Option<&StoredFactor>, required: bool) -> Self {
        let state = match factor {
            None => Name::None,
            Some(factor) if factor.is_confirmed() => Name::Active,
            Some(_) => Name::Pending,
        };
        Self {
            state,
            required,
            active_since: factor.and_then(|factor| factor.confirmed_at),
            recovery_codes_left: factor.map_or(0, |factor| factor.recovery_codes),
        }
    }

    /// As it is now.
    pub(super) async fn read(service: &Service, admin: &Admin) -> Result<Self, Problem> {
        let factor = service.store.factor(admin.key_id).await?;
        Ok(Self::new(factor.as_ref(), service.second_factor.required))
    }
}

/// Shows whether the calling key has a second factor
#[utoipa::path(
    get,
    path = "/api/v1/admin/totp",
    tag = "totp",
    operation_id = "get_totp",
    responses((status = OK, description = "The second factor's state", body = StateView))
)]
pub(super) async fn handler(
    admin: Admin,
    Parameters(Nothing {}): Parameters<Nothing>,
    State(service): State<Arc<Service>>,
) -> Result<Json<StateView>, Problem> {
    Ok(Json(StateView::read(&service, &admin).await?))
}
