//! `DELETE /api/v1/admin/totp`: takes the factor away. Like any change it needs the factor itself.

use axum::{Json, extract::State};
use std::sync::Arc;

use super::state::StateView;
use crate::{
    admin::{
        authenticate::Admin,
        query::{Nothing, Parameters},
    },
    http::problem::Problem,
    service::Service,
};

/// Takes the calling key's second factor away
///
/// One in force only with a code, one that waits for its first code without. Doing it again changes
/// nothing. A key that succeeded this one shares the factor, and loses it as well.
#[utoipa::path(
    delete,
    path = "/api/v1/admin/totp",
    tag = "totp",
    operation_id = "disable_totp",
    responses((status = OK, description = "There is no second factor", body = StateView))
)]
pub(super) async fn handler(
    admin: Admin,
    Parameters(Nothing {}): Parameters<Nothing>,
    State(service): State<Arc<Service>>,
) -> Result<Json<StateView>, Problem> {
    let (removing, actor, key_id, proof) =
        (Arc::clone(&service), admin.actor(), admin.key_id, admin.proof);
    service
        .complete(async move { removing.second_factor.remove(&actor, key_id, proof).await })
        .await??;
    Ok(Json(StateView::read(&service, &admin).await?))
}
