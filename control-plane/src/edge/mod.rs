//! What filters call, and their Envoys, to learn whether to call here. The listener is theirs
//! alone, and every answer of it carries the protocol's stamp.

mod authenticate;
mod changes;
pub mod event_writer;
mod events;
mod fault;
pub mod followers;
mod leases;
mod verify;

#[cfg(test)]
mod tests;

use axum::{
    Router,
    extract::DefaultBodyLimit,
    http::{HeaderName, HeaderValue},
    middleware,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use edge_protocol::{CHANGES_PATH, EVENTS_PATH, LEASES_PATH, STAMP, STAMP_HEADER, VERIFY_PATH};
use std::{sync::Arc, time::Duration};

use crate::{
    health,
    http::{
        observe::{Lines, Observed, observe},
        shed::{Bound, shed},
    },
    service::Service,
};
use fault::Fault;

/// Some 5000 events.
const MAX_EVENTS_BYTES: usize = 1024 * 1024;
/// A key of 256 characters, all of them escaped, and the JSON around it.
const MAX_VERIFY_BYTES: usize = 4096;
/// 256 asks, each with the longest names.
const MAX_LEASES_BYTES: usize = 256 * 1024;
/// Longer than the longest wait for changes.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Every Envoy worker holds one long poll.
const MAX_LONG_POLLS: usize = 8192;
const MAX_REQUESTS: usize = 1024;
/// For Envoy's health checks, which cannot show a token. It tells no more than the admin listener's.
const READY_PATH: &str = "/readyz";

/// Everything that the edge listener answers.
pub fn router(service: &Arc<Service>) -> Router {
    let busy = || Fault::Overloaded.into_response();
    let calls = Router::new()
        .route(VERIFY_PATH, post(verify::handler).layer(DefaultBodyLimit::max(MAX_VERIFY_BYTES)))
        .route(EVENTS_PATH, post(events::handler).layer(DefaultBodyLimit::max(MAX_EVENTS_BYTES)))
        .layer(middleware::from_fn_with_state(Bound::new("edge", MAX_REQUESTS, busy), shed));
    // Apart, so that neither those who ask for keys nor these can be crowded out by the others.
    let leases = Router::new()
        .route(LEASES_PATH, post(leases::handler).layer(DefaultBodyLimit::max(MAX_LEASES_BYTES)))
        .layer(middleware::from_fn_with_state(Bound::new("edge", MAX_REQUESTS, busy), shed));
    let feed = Router::new()
        .route(CHANGES_PATH, get(changes::handler))
        .layer(middleware::from_fn_with_state(Bound::new("edge", MAX_LONG_POLLS, busy), shed));
    let observed = Observed {
        listener: "edge",
        random: Arc::clone(&service.random),
        timeout: TIMEOUT,
        lines: Lines::Named,
        quiet: &[READY_PATH],
        long_polls: &[CHANGES_PATH],
        failure: |failure| Fault::from(failure).into_response(),
    };
    Router::new()
        .merge(calls)
        .merge(leases)
        .merge(feed)
        .fallback(|| async { Fault::NotFound })
        .method_not_allowed_fallback(|| async { Fault::MethodNotAllowed })
        .layer(middleware::from_fn_with_state(Arc::clone(service), authenticate::require_token))
        // After that layer, so that it is not asked for a token.
        .route(READY_PATH, get(health::ready))
        .layer(middleware::from_fn_with_state(observed, observe))
        .layer(middleware::map_response(stamp))
        .with_state(Arc::clone(service))
}

async fn stamp(mut response: Response) -> Response {
    response
        .headers_mut()
        .insert(HeaderName::from_static(STAMP_HEADER), HeaderValue::from_static(STAMP));
    response
}
