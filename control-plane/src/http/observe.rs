//! Naming, counting and logging requests.

use axum::{
    extract::{MatchedPath, Request, State},
    http::Method,
    middleware::Next,
    response::{IntoResponse, Response},
};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;
use tracing::Instrument;

use super::{
    Peer,
    problem::{Code, Problem},
    request_id,
};
use crate::{metrics, random::Random};

/// How a listener's requests are observed.
#[derive(Clone)]
pub struct Observed {
    /// The listener's name in metrics and logs.
    pub listener: &'static str,
    /// For names of requests.
    pub random: Arc<dyn Random>,
    /// After how long a request is given up. It covers a body that trickles in.
    pub timeout: Duration,
    /// Whether each request is worth a line in the log.
    pub log: bool,
    /// Routes whose requests are not.
    pub quiet: &'static [&'static str],
    /// Routes that wait on purpose; they would drown the others' durations.
    pub long_polls: &'static [&'static str],
}

fn method_label(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => "other",
    }
}

/// Names the request, runs it, counts and logs it.
pub async fn observe(State(observed): State<Observed>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = request_id::of(request.headers(), &*observed.random);
    let method = method_label(request.method());
    let route =
        request.extensions().get::<MatchedPath>().map_or("other", MatchedPath::as_str).to_owned();
    let client_ip = request.extensions().get::<Peer>().map(|peer| peer.address());
    let span = tracing::info_span!(
        "request", id = %id, listener = observed.listener, actor = tracing::field::Empty
    );

    let id_header = request_id::value(&id);
    let log = observed.log && !observed.quiet.contains(&route.as_str());
    let run = async {
        let running = next.run(request);
        let response = tokio::time::timeout(observed.timeout, running).await;
        let mut response = response.unwrap_or_else(|_| Problem::new(Code::Timeout).into_response());
        if let Some(id) = id_header {
            response.headers_mut().insert(request_id::HEADER, id);
        }
        let took = started.elapsed();
        let status = response.status().as_u16();
        if log {
            let client_ip = client_ip.map(tracing::field::display);
            tracing::info!(method, route, status, client_ip, took_us = took.as_micros(), "request");
        }
        (response, took, status)
    };
    let (response, took, status) = request_id::CURRENT.scope(id, run).instrument(span).await;

    ::metrics::counter!(metrics::HTTP_REQUESTS,
        "listener" => observed.listener, "route" => route.clone(), "method" => method,
        "status" => status.to_string())
    .increment(1);
    if !observed.long_polls.contains(&route.as_str()) {
        ::metrics::histogram!(metrics::HTTP_SECONDS, "listener" => observed.listener, "route" => route)
            .record(took);
    }
    response
}
