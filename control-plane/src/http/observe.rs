//! Naming, counting and logging requests.

use axum::{
    extract::{MatchedPath, Request, State},
    http::{Method, StatusCode},
    middleware::Next,
    response::Response,
};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;
use tracing::{Instrument, Span, field::Empty};

use super::{Arrived, Peer, panics, request_id};
use crate::{metrics, random::Random, telemetry::spans};

/// Why a handler gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It panicked.
    Panicked,
    /// It took too long.
    TimedOut,
}

/// Which requests are worth a line in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lines {
    /// Each.
    Each,
    /// Those that the caller has named: a request of somebody else waits for them, and has that
    /// name in other logs. The others have a line of level debug.
    Named,
}

/// How a listener's requests are observed.
#[derive(Clone)]
pub struct Observed {
    /// The listener's name in metrics and logs.
    pub listener: &'static str,
    /// For names of requests.
    pub random: Arc<dyn Random>,
    /// After how long a request is given up. It covers a body that trickles in.
    pub timeout: Duration,
    /// Which requests are worth a line in the log.
    pub lines: Lines,
    /// Routes whose requests never are.
    pub quiet: &'static [&'static str],
    /// Routes that wait on purpose; they would drown the others' durations.
    pub long_polls: &'static [&'static str],
    /// The listener's words for a handler that gave no answer.
    pub failure: fn(Failure) -> Response,
}

impl Observed {
    /// Whether a route is neither logged nor traced: it is asked for all the time, or waits on
    /// purpose.
    fn is_trifle(&self, route: &str) -> bool {
        self.quiet.contains(&route) || self.long_polls.contains(&route)
    }
}

/// What stands for a request in metrics and logs where none of our own names does.
const OTHER: &str = "other";

fn method_label(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        _ => OTHER,
    }
}

/// A status as a label. Those that there are no answers with share one.
fn status_label(status: StatusCode) -> &'static str {
    match status.as_u16() {
        200 => "200",
        201 => "201",
        202 => "202",
        204 => "204",
        304 => "304",
        400 => "400",
        401 => "401",
        403 => "403",
        404 => "404",
        405 => "405",
        408 => "408",
        409 => "409",
        412 => "412",
        413 => "413",
        415 => "415",
        422 => "422",
        428 => "428",
        429 => "429",
        500 => "500",
        501 => "501",
        503 => "503",
        504 => "504",
        _ => OTHER,
    }
}

/// The route that a request goes to: one of ours, shared with the router, so nothing is copied
/// until it becomes a label.
#[derive(Clone)]
struct Route(Option<MatchedPath>);

impl Route {
    fn of(request: &Request) -> Self {
        Self(request.extensions().get::<MatchedPath>().cloned())
    }

    fn as_str(&self) -> &str {
        self.0.as_ref().map_or(OTHER, MatchedPath::as_str)
    }
}

/// Names the request, runs it, counts and logs it.
pub async fn observe(
    State(observed): State<Observed>,
    mut request: Request,
    next: Next,
) -> Response {
    let started = Instant::now();
    request.extensions_mut().insert(Arrived(started));
    let request_id::Named { id, by_caller } = request_id::of(request.headers(), &*observed.random);
    let method = method_label(request.method());
    let route = Route::of(&request);
    let client_ip = request.extensions().get::<Peer>().map(|peer| peer.address());
    let trace = if observed.is_trifle(route.as_str()) {
        Span::none()
    } else {
        spans::of_request(observed.listener, method, route.as_str(), request.headers())
    };
    let span =
        tracing::info_span!("request", id = %id, listener = observed.listener, actor = Empty);

    let id_header = request_id::value(&id);
    let run = async {
        let mut response = answer(&observed, request, next).await;
        if let Some(id) = id_header {
            response.headers_mut().insert(request_id::HEADER, id);
        }
        let took = started.elapsed();
        let (route, status) = (route.as_str(), response.status().as_u16());
        let (took_us, client_ip) = (took.as_micros(), client_ip.map(tracing::field::display));
        match observed.lines {
            _ if observed.is_trifle(route) => {}
            Lines::Named if !by_caller => {
                tracing::debug!(method, route, status, client_ip, took_us, "request");
            }
            Lines::Named | Lines::Each => {
                tracing::info!(method, route, status, client_ip, took_us, "request");
            }
        }
        (response, took)
    };
    let run = request_id::CURRENT.scope(id, run).instrument(span);
    let (response, took) = run.instrument(trace.clone()).await;
    spans::answered(&trace, response.status());
    count(&observed, &route, method, response.status(), took);
    response
}

/// The handler's answer; the listener's own words, when it gives none.
async fn answer(observed: &Observed, request: Request, next: Next) -> Response {
    let running = panics::caught(next.run(request));
    let failure = match tokio::time::timeout(observed.timeout, running).await {
        Ok(Some(response)) => return response,
        Ok(None) => {
            ::metrics::counter!(metrics::PANICS, "listener" => observed.listener).increment(1);
            Failure::Panicked
        }
        Err(_) => Failure::TimedOut,
    };
    (observed.failure)(failure)
}

fn count(
    observed: &Observed,
    route: &Route,
    method: &'static str,
    status: StatusCode,
    took: Duration,
) {
    let listener = observed.listener;
    let name: Arc<str> = Arc::from(route.as_str());
    ::metrics::counter!(metrics::HTTP_REQUESTS, "listener" => listener,
        "route" => Arc::clone(&name), "method" => method, "status" => status_label(status))
    .increment(1);
    if !observed.long_polls.contains(&route.as_str()) {
        ::metrics::histogram!(metrics::HTTP_SECONDS, "listener" => listener, "route" => name)
            .record(took);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{http::problem::Problem, random::SystemRandom, testing::send};
    use axum::{Router, body::Body, middleware, response::IntoResponse, routing::get};
    use metrics_exporter_prometheus::PrometheusBuilder;

    fn observed() -> Observed {
        Observed {
            listener: "test",
            random: Arc::new(SystemRandom),
            timeout: Duration::from_secs(5),
            lines: Lines::Each,
            quiet: &[],
            long_polls: &[],
            failure: |failure| Problem::from(failure).into_response(),
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
    #[tokio::test]
    async fn a_flood_of_made_up_methods_and_paths_makes_no_new_series() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let _measured = ::metrics::set_default_local_recorder(&recorder);
        let router = Router::new()
            .route("/keys/{id}", get(|| async { "well" }))
            .layer(middleware::from_fn_with_state(observed(), observe));
        for n in 0..2000 {
            for path in [format!("/keys/{n}"), format!("/made/up/{n}")] {
                for method in ["GET".to_owned(), format!("M{n}"), "TRACE".to_owned()] {
                    let request = Request::builder().method(method.as_str()).uri(&path);
                    send(&router, request.body(Body::empty()).expect("a request")).await;
                }
            }
        }
        let metrics = recorder.handle().render();
        let series = |name: &str| metrics.lines().filter(|line| line.starts_with(name)).count();
        assert_eq!(series("keygate_http_requests_total{"), 4, "{metrics}");
        assert!(!metrics.contains("made"), "{metrics}");
    }
}
