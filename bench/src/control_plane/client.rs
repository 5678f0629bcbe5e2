//! One connection that posts.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use http::header::{HOST, HeaderName, HeaderValue};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// To whom, and what to show there.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) address: SocketAddr,
    pub(super) credential: (HeaderName, HeaderValue),
}

/// A connection to a target.
pub(super) struct Client {
    sender: http1::SendRequest<Full<Bytes>>,
    host: HeaderValue,
    credential: (HeaderName, HeaderValue),
}

impl Client {
    pub(super) async fn connect(target: &Target) -> Result<Self> {
        let Target { address, credential } = target;
        let stream = TcpStream::connect(address).await;
        let stream = stream.with_context(|| format!("nobody listens at {address}"))?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let host = HeaderValue::from_str(&address.to_string())?;
        Ok(Self { sender, host, credential: credential.clone() })
    }

    /// Posts JSON and gives the answer, which must be a success.
    pub(super) async fn post(&mut self, path: &'static str, body: Bytes) -> Result<Bytes> {
        let (name, value) = self.credential.clone();
        let request = Request::post(path)
            .header(HOST, self.host.clone())
            .header(http::header::CONTENT_TYPE, "application/json")
            .header(name, value)
            .body(Full::new(body))?;
        self.sender.ready().await?;
        let answer = self.sender.send_request(request).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        ensure!(
            matches!(status, StatusCode::OK | StatusCode::CREATED),
            "POST {path}: {status} {}",
            String::from_utf8_lossy(&body)
        );
        Ok(body)
    }
}
