//! `GET /api/v1/admin/api-keys/{key_id}`

use axum::extract::State;
use std::sync::Arc;

use super::{
    authenticate::Admin,
    path::{KeyIdParameter, KeyPath},
    precondition::Tagged,
    query::{Nothing, Parameters},
};
use crate::{
    http::problem::{Code, Problem},
    keys::view::KeyView,
    service::Service,
};

/// Shows a key
#[utoipa::path(
    get,
    path = "/api/v1/admin/api-keys/{key_id}",
    tag = "keys",
    operation_id = "get_key",
    params(KeyIdParameter),
    responses((
        status = OK,
        description = "The key, without its secret",
        body = KeyView,
        headers(("ETag" = String, description = "The version of the key.")),
    ))
)]
pub(super) async fn handler(
    _admin: Admin,
    KeyPath(key_id): KeyPath,
    Parameters(Nothing {}): Parameters<Nothing>,
    State(service): State<Arc<Service>>,
) -> Result<Tagged<KeyView>, Problem> {
    let key = service.store.key(key_id).await?;
    key.map(Tagged::key).ok_or_else(|| Problem::new(Code::NotFound))
}
