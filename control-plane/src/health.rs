//! Whether the service is well.

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use edge_protocol::Deployment;
use jiff::Timestamp;
use metrics_exporter_prometheus::PrometheusHandle;
use serde::Serialize;
use std::{sync::Arc, time::Duration};

use crate::{metrics, service::Service};

/// A database that takes longer than this to answer a trifle is as good as gone.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// They are asked for every few seconds, so they are not worth a line in the log.
pub const ROUTES: &[&str] = &["/health", "/livez", "/readyz", "/metrics"];

/// In a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// All is well.
    Healthy,
    /// Keys are verified, and something else fails: the database cannot be written.
    Degraded,
    /// Keys cannot be verified.
    Unhealthy,
}

/// What `/health` answers.
#[derive(Clone, Debug, Serialize)]
pub struct Health {
    status: Status,
    database: &'static str,
    redis: &'static str,
    timestamp: Timestamp,
    version: &'static str,
    environment: Deployment,
}

async fn database_answers(service: &Service) -> bool {
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

async fn health(State(service): State<Arc<Service>>) -> impl IntoResponse {
    let connected = database_answers(&service).await;
    let writes_fail = service.recorder.is_failing() || service.store.writes_fail();
    let status = match (connected, writes_fail) {
        (false, _) => Status::Unhealthy,
        (true, true) => Status::Degraded,
        (true, false) => Status::Healthy,
    };
    let body = Health {
        status,
        database: if connected { "connected" } else { "disconnected" },
        redis: "disabled",
        timestamp: service.clock.now(),
        version: env!("CARGO_PKG_VERSION"),
        environment: service.environment,
    };
    let code =
        if status == Status::Unhealthy { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    (code, [(header::CACHE_CONTROL, "no-store")], Json(body))
}

/// Whether requests should be sent here.
async fn ready(State(service): State<Arc<Service>>) -> impl IntoResponse {
    if service.stop.is_cancelled() {
        (StatusCode::SERVICE_UNAVAILABLE, "stopping\n")
    } else if database_answers(&service).await {
        (StatusCode::OK, "ready\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "database disconnected\n")
    }
}

/// The routes for those who watch the service.
pub fn router(prometheus: PrometheusHandle) -> Router<Arc<Service>> {
    let render = move |State(service): State<Arc<Service>>| async move {
        #[expect(clippy::cast_precision_loss, reason = "a sequence is far below 2^52")]
        ::metrics::gauge!(metrics::FEED_SEQUENCE).set(*service.store.watch().borrow() as f64);
        ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], prometheus.render())
    };
    Router::new()
        .route("/health", get(health))
        .route("/livez", get(|| async { "alive\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(render))
}
