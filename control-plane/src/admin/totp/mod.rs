//! `/api/v1/admin/totp`: the second factor of the key that calls.

mod disable;
mod enrol;
mod state;
mod verify;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::service::Service;

pub(super) fn routes() -> OpenApiRouter<Arc<Service>> {
    OpenApiRouter::default()
        .routes(routes!(state::handler, disable::handler))
        .routes(routes!(enrol::handler))
        .routes(routes!(verify::handler))
}
