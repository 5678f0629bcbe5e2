//! Turning requests away when too many are under way: an answer at once is worth more than one
//! that nobody waits for any more.

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use std::sync::Arc;
use tokio::sync::Semaphore;

use crate::metrics;

/// How many requests may be under way at once.
#[derive(Clone)]
pub struct Bound {
    listener: &'static str,
    room: Arc<Semaphore>,
    refusal: fn() -> Response,
}

impl Bound {
    /// Room for `requests` at that listener, and its words for who finds none.
    #[must_use]
    pub fn new(listener: &'static str, requests: usize, refusal: fn() -> Response) -> Self {
        Self { listener, room: Arc::new(Semaphore::new(requests)), refusal }
    }
}

/// Answers 503 when there is no room.
pub async fn shed(State(bound): State<Bound>, request: Request, next: Next) -> Response {
    let Ok(_room) = bound.room.try_acquire() else {
        ::metrics::counter!(metrics::SHED, "listener" => bound.listener).increment(1);
        return (bound.refusal)();
    };
    next.run(request).await
}
