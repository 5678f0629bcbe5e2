//! A server of the control plane's make that does nothing: it reads what it is sent and says `{}`.

use std::net::SocketAddr;

use anyhow::Result;
use axum::{Json, Router, body::Bytes, routing::any};
use serde_json::{Value, json};
use tokio::net::TcpListener;

async fn answer(body: Bytes) -> Json<Value> {
    // Read as any handler reads it.
    let said: Option<Value> = serde_json::from_slice(&body).ok();
    std::hint::black_box(said);
    Json(json!({}))
}

/// Serves until the process ends.
///
/// # Errors
/// When the address is taken.
pub async fn serve(listen: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(listen).await?;
    axum::serve(listener, Router::new().fallback(any(answer))).await?;
    Ok(())
}
