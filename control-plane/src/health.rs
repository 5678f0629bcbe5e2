//! Whether the service is well.

mod shared;

use axum::{
    Extension, Json,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
};
use edge_protocol::Deployment;
use jiff::Timestamp;
use metrics_exporter_prometheus::PrometheusHandle;
use serde::Serialize;
use std::{sync::Arc, time::Duration};
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{metrics, service::Service};
use shared::Shared;

/// A database that takes longer than this to answer a trifle is as good as gone.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// They are asked for every few seconds, so they are not worth a line in the log.
pub const ROUTES: &[&str] = &["/health", "/livez", "/readyz", "/metrics", "/openapi.json"];

/// In a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// All is well.
    Healthy,
    /// Keys are verified, and something else fails: the database cannot be written, or Redis does
    /// not answer.
    Degraded,
    /// Keys cannot be verified.
    Unhealthy,
}

/// What `/health` answers.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct Health {
    status: Status,
    /// `connected` or `disconnected`.
    database: &'static str,
    /// `connected`, `disconnected` or `disabled`.
    redis: &'static str,
    /// The service's own time.
    #[schema(value_type = String, format = DateTime)]
    timestamp: Timestamp,
    /// The service's version.
    version: &'static str,
    environment: Deployment,
}

/// Whether those answer that the service depends on, for all who ask at once.
#[derive(Debug, Default)]
pub(crate) struct Answers {
    database: Shared<bool>,
    /// None: there is no Redis.
    redis: Shared<Option<bool>>,
}

async fn database_answers(service: &Service) -> bool {
    service.answers.database.ask(|| ask_database(service)).await
}

async fn ask_database(service: &Service) -> bool {
    match tokio::time::timeout(PROBE_TIMEOUT, service.store.ping()).await {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            tracing::warn!(%error, "the database does not answer");
            false
        }
        Err(_) => {
            tracing::warn!("the database does not answer in time");
            false
        }
    }
}

/// Whether Redis answers; none: there is none.
async fn redis_answers(service: &Service) -> Option<bool> {
    service.answers.redis.ask(|| ask_redis(service)).await
}

async fn ask_redis(service: &Service) -> Option<bool> {
    match service.redis.as_ref()?.probe().await {
        Ok(()) => Some(true),
        Err(fault) => {
            tracing::debug!(%fault, "Redis does not answer");
            Some(false)
        }
    }
}

/// How the service is
#[utoipa::path(
    get,
    path = "/health",
    tag = "operations",
    operation_id = "health",
    security(()),
    responses(
        (status = OK, description = "Keys are verified", body = Health),
        (status = SERVICE_UNAVAILABLE, description = "Keys cannot be verified", body = Health),
    )
)]
async fn health(State(service): State<Arc<Service>>) -> impl IntoResponse {
    let (connected, redis) = tokio::join!(database_answers(&service), redis_answers(&service));
    let writes_fail = service.recorder.is_failing() || service.store.writes_fail();
    // One that answers may still be left alone for a while after it has failed.
    let counts_alone = service.redis.as_ref().is_some_and(|redis| !redis.is_in_use());
    let impaired = writes_fail || counts_alone || redis == Some(false);
    let status = match (connected, impaired) {
        (false, _) => Status::Unhealthy,
        (true, true) => Status::Degraded,
        (true, false) => Status::Healthy,
    };
    let body = Health {
        status,
        database: if connected { "connected" } else { "disconnected" },
        redis: match redis {
            None => "disabled",
            Some(true) => "connected",
            Some(false) => "disconnected",
        },
        timestamp: service.clock.now(),
        version: env!("CARGO_PKG_VERSION"),
        environment: service.environment,
    };
    let code =
        if status == Status::Unhealthy { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    (code, [(header::CACHE_CONTROL, "no-store")], Json(body))
}

/// Whether the process runs
#[utoipa::path(
    get,
    path = "/livez",
    tag = "operations",
    operation_id = "livez",
    security(()),
    responses((status = OK, description = "It does", body = String, content_type = "text/plain"))
)]
async fn alive() -> &'static str {
    "alive\n"
}

/// Whether requests should be sent here
#[utoipa::path(
    get,
    path = "/readyz",
    tag = "operations",
    operation_id = "readyz",
    security(()),
    responses(
        (status = OK, description = "They should", body = String, content_type = "text/plain"),
        (
            status = SERVICE_UNAVAILABLE,
            description = "They should not; the text says why",
            body = String,
            content_type = "text/plain",
        ),
    )
)]
pub(crate) async fn ready(State(service): State<Arc<Service>>) -> impl IntoResponse {
    if service.stop.is_cancelled() {
        (StatusCode::SERVICE_UNAVAILABLE, "stopping\n")
    } else if database_answers(&service).await {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "database disconnected\n")
    }
}

/// Metrics, as Prometheus reads them
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "operations",
    operation_id = "metrics",
    security(()),
    responses((status = OK, description = "All metrics", body = String, content_type = "text/plain"))
)]
async fn render(
    State(service): State<Arc<Service>>,
    Extension(prometheus): Extension<PrometheusHandle>,
) -> impl IntoResponse {
    metrics::snapshot::take(&service);
    let mut text = prometheus.render();
    text.push_str(&metrics::process::render());
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text)
}

/// The routes for those who watch the service. `/metrics` takes the handle from an extension.
pub(crate) fn routes() -> OpenApiRouter<Arc<Service>> {
    OpenApiRouter::default()
        .routes(routes!(health))
        .routes(routes!(alive))
        .routes(routes!(ready))
        .routes(routes!(render))
}
