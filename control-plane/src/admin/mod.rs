//! The admin API: one endpoint, one file.

pub mod audit_log;
mod audited;
mod authenticate;
mod body;
pub mod check_policy;
pub mod create_key;
pub mod denials;
pub mod get_key;
mod idempotency;
pub mod import_key;
pub mod key_usage;
pub mod limit;
pub mod list_keys;
mod ndjson;
mod path;
mod precondition;
mod query;
pub mod revoke_key;
pub mod rotate_key;
pub(crate) mod second_factor;
pub mod totp;
pub mod update_key;

#[cfg(test)]
pub(crate) mod tests;

use axum::{
    Extension, Router,
    extract::DefaultBodyLimit,
    http::{HeaderValue, header},
    middleware,
    response::{IntoResponse, Response},
};
use std::{sync::Arc, time::Duration};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    health,
    http::{
        observe::{Lines, Observed, observe},
        problem::{Code, Problem},
        shed::{Bound, shed},
    },
    openapi,
    service::Service,
    store::StoreError,
};

const MAX_BODY_BYTES: usize = 64 * 1024;
/// The largest body takes a while over a slow line; nothing here does otherwise.
const TIMEOUT: Duration = Duration::from_secs(15);
const MAX_REQUESTS: usize = 128;

/// The routes of the admin listener, with their description.
pub(crate) fn routes() -> OpenApiRouter<Arc<Service>> {
    with_public_routes(api())
}

fn with_public_routes(api: OpenApiRouter<Arc<Service>>) -> OpenApiRouter<Arc<Service>> {
    OpenApiRouter::with_openapi(openapi::base())
        .merge(api)
        .merge(health::routes())
        .routes(routes!(openapi::handler))
}

fn api() -> OpenApiRouter<Arc<Service>> {
    let busy = || Problem::new(Code::Overloaded).into_response();
    let keys = routes!(list_keys::handler, create_key::handler);
    // People leave out the slash.
    let without_slash = keys.2.clone();
    OpenApiRouter::default()
        .routes(keys)
        .route("/api/v1/admin/api-keys", without_slash)
        .routes(routes!(check_policy::handler))
        .routes(routes!(import_key::handler))
        .routes(routes!(get_key::handler, update_key::handler, revoke_key::handler))
        .routes(routes!(rotate_key::handler))
        .routes(routes!(key_usage::handler))
        .routes(routes!(audit_log::handler))
        .merge(totp::routes())
        .layer(middleware::map_response(never_store))
        .layer(middleware::from_fn(limit::tell))
        .layer(middleware::from_fn_with_state(Bound::new("admin", MAX_REQUESTS, busy), shed))
}

/// Everything that the admin listener answers.
pub fn router(
    service: &Arc<Service>,
    metrics: metrics_exporter_prometheus::PrometheusHandle,
) -> Router {
    let observed = Observed {
        listener: "admin",
        random: Arc::clone(&service.random),
        timeout: TIMEOUT,
        lines: Lines::Each,
        quiet: health::ROUTES,
        long_polls: &[],
        failure: |failure| Problem::from(failure).into_response(),
    };
    // Outside of all else, so that no call of the API is without an entry.
    let audit = middleware::from_fn_with_state(Arc::clone(service), audited::audited);
    let (router, _) = with_public_routes(api().layer(audit)).split_for_parts();
    router
        .layer(Extension(metrics))
        .fallback(|| async { Problem::new(Code::NotFound) })
        .method_not_allowed_fallback(|| async { Problem::new(Code::MethodNotAllowed) })
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(middleware::from_fn_with_state(observed, observe))
        .with_state(Arc::clone(service))
}

/// What administrators see is not for caches on the way.
async fn never_store(mut response: Response) -> Response {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// A change's task panicked: said to the caller in general, to the log in particular.
impl From<tokio::task::JoinError> for Problem {
    fn from(error: tokio::task::JoinError) -> Self {
        tracing::error!(%error, "a change failed");
        Self::new(Code::Internal)
    }
}

/// The database failed: said to the caller in general, to the log in particular.
impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "the database failed");
        Self::new(match error {
            StoreError::Database(_) => Code::DatabaseUnavailable,
            StoreError::Corrupt(_) | StoreError::GivenUp(_) => Code::Internal,
        })
    }
}
