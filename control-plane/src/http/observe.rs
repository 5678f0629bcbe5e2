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
    Peer, panics,
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
        let running = panics::caught(next.run(request));
        let code = match tokio::time::timeout(observed.timeout, running).await {
            Ok(Some(response)) => Ok(response),
            Ok(None) => {
                ::metrics::counter!(metrics::PANICS, "listener" => observed.listener).increment(1);
                Err(Code::Internal)
            }
            Err(_) => Err(Code::Timeout),
        };
        let mut response = code.unwrap_or_else(|code| Problem::new(code).into_response());
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{random::SystemRandom, testing::send};
    use axum::{Router, body::Body, middleware, routing::get};
    use metrics_exporter_prometheus::PrometheusBuilder;

    fn observed() -> Observed {
        Observed {
            listener: "test",
            random: Arc::new(SystemRandom),
            timeout: Duration::from_secs(5),
            log: true,
            quiet: &[],
            long_polls: &[],
        }
    }

    fn call(path: &str) -> Request {
        Request::builder().uri(path).body(Body::empty()).expect("a request")
    }

    #[tokio::test]
    async fn a_panic_in_a_handler_is_a_problem_for_its_caller_and_for_nobody_else() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let _measured = ::metrics::set_default_local_recorder(&recorder);
        let broken = || async {
            tokio::task::yield_now().await;
            assert_eq!(1, 2, "a bug");
        };
        let router = Router::new()
            .route("/broken", get(broken))
            .route("/whole", get(|| async { "well" }))
            .layer(middleware::from_fn_with_state(observed(), observe));
        for _ in 0..3 {
            let answer = send(&router, call("/broken")).await;
            assert_eq!(answer.problem(), (500, "internal_error".to_owned()));
            assert!(!String::from_utf8_lossy(&answer.body).contains("bug"));
            assert_eq!(send(&router, call("/whole")).await.body, "well");
        }
        let metrics = recorder.handle().render();
        assert!(metrics.contains("keygate_http_panics_total{listener=\"test\"} 3"), "{metrics}");
        assert!(metrics.contains("status=\"500\"} 3"), "{metrics}");
    }
}
