//! The built-in upstream: says what reached it.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// Larger bodies are answered with 413.
const MAX_BODY: usize = 64 << 20;

/// An HTTP server (1.1 and cleartext 2) that answers every request with
/// `{"method", "path", "query", "headers": {name: [values]}, "body_length"}`. It runs on a thread
/// of its own until it is dropped.
#[derive(Debug)]
pub struct EchoServer {
    address: SocketAddr,
    hits: Arc<AtomicU64>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl EchoServer {
    /// Starts it on a loopback port; 0 takes any that is free.
    ///
    /// # Errors
    /// When the port is taken.
    pub fn start(port: u16) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .context("the echo upstream cannot start")?;
        let listener = runtime
            .block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, port)))
            .with_context(|| format!("the echo upstream cannot listen on port {port}"))?;
        let address = listener.local_addr()?;
        let hits = Arc::new(AtomicU64::new(0));
        let app = Router::new().fallback(echo).with_state(Arc::clone(&hits));
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new().name("echo".to_owned()).spawn(move || {
            runtime.block_on(async move {
                tokio::select! {
                    _ = axum::serve(listener, app) => {}
                    _ = stopped => {}
                }
            });
            // Open connections end with the runtime, here.
        })?;
        Ok(Self { address, hits, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL, without a slash at the end.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many requests have reached it.
    #[must_use]
    pub fn hits(&self) -> u64 {
        self.hits.load(Ordering::SeqCst)
    }
}

impl Drop for EchoServer {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn echo(State(hits): State<Arc<AtomicU64>>, request: Request<Body>) -> Response {
    hits.fetch_add(1, Ordering::SeqCst);
    let (head, body) = request.into_parts();
    let Ok(body) = to_bytes(body, MAX_BODY).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let mut headers = BTreeMap::<&str, Vec<String>>::new();
    for (name, value) in &head.headers {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        headers.entry(name.as_str()).or_default().push(value);
    }
    Json(json!({
        "method": head.method.as_str(),
        "path": head.uri.path(),
        "query": head.uri.query(),
        "headers": headers,
        "body_length": body.len(),
    }))
    .into_response()
}

#[cfg(test)]
mod tests {
    use super::EchoServer;
    use crate::probe;

    #[test]
    fn it_says_what_reached_it() {
        let echo = EchoServer::start(0).unwrap();
        let answer = probe::get(echo.address(), "/a/b?c=d").unwrap();
        let body: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!((answer.status, echo.hits()), (200, 1));
        assert_eq!(
            (&body["method"], &body["path"], &body["query"]),
            (&"GET".into(), &"/a/b".into(), &"c=d".into())
        );
        assert_eq!(body["headers"]["host"][0], echo.address().to_string());
    }

    #[test]
    fn its_port_is_free_again_when_it_is_dropped() {
        let echo = EchoServer::start(0).unwrap();
        let port = echo.address().port();
        assert!(EchoServer::start(port).is_err());
        drop(echo);
        assert!(EchoServer::start(port).is_ok());
    }
}
