//! The spans that make up a trace. They are a choice of their own, apart from the log's: only what
//! is named here leaves the machine, and it holds names, numbers and outcomes, nothing that a
//! client sent.

use axum::http::{HeaderMap, StatusCode};
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::{Span, field::Empty};
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// Marks a span that belongs into a trace. Log lines do not see these.
pub const TARGET: &str = "keygate::trace";

/// The headers of W3C trace context.
struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(axum::http::HeaderName::as_str).collect()
    }
}

/// The span of a request, as a part of the trace that its `traceparent` names (W3C Trace Context).
/// Without a collector it is none, and costs nothing.
#[must_use]
pub fn of_request(
    listener: &'static str,
    method: &'static str,
    route: &str,
    headers: &HeaderMap,
) -> Span {
    let span = tracing::trace_span!(
        target: TARGET,
        "request",
        otel.name = Empty,
        otel.kind = "server",
        otel.status_code = Empty,
        keygate.listener = listener,
        http.request.method = method,
        http.route = route,
        http.response.status_code = Empty,
    );
    if !span.is_disabled() {
        span.record("otel.name", format!("{method} {route}"));
        let parent = TraceContextPropagator::new().extract(&Headers(headers));
        // It fails where nobody keeps traces, which is no failure.
        let _ = span.set_parent(parent);
    }
    span
}

/// Notes what came of the request.
pub fn answered(span: &Span, status: StatusCode) {
    if span.is_disabled() {
        return;
    }
    span.record("http.response.status_code", status.as_u16());
    if status.is_server_error() {
        span.record("otel.status_code", "ERROR");
    }
}
