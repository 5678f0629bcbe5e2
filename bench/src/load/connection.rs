//! A connection of either protocol.

#![expect(clippy::disallowed_methods, reason = "a connection lives as long as its slots")]

use anyhow::{Context, Result};
use http::header::{HOST, HeaderName, HeaderValue};
use http::{Method, Request, Uri};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::{http1, http2};
use hyper::rt::bounds::Http2ClientConnExec;
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::net::SocketAddr;
use tokio::net::TcpStream;

use super::{Protocol, Template};

pub(super) type Body = Empty<Bytes>;

/// One place that sends a request at a time.
pub(super) enum Slot {
    Http1(http1::SendRequest<Body>),
    Http2(http2::SendRequest<Body>),
}

/// The slots of one new connection.
pub(super) async fn connect(
    address: SocketAddr,
    protocol: Protocol,
    streams: usize,
) -> Result<Vec<Slot>> {
    let stream = TcpStream::connect(address)
        .await
        .with_context(|| format!("nobody listens at {address}"))?;
    stream.set_nodelay(true)?;
    let io = TokioIo::new(stream);
    Ok(match protocol {
        Protocol::Http1 => {
            let (sender, connection) = http1::handshake(io).await?;
            tokio::spawn(connection);
            vec![Slot::Http1(sender)]
        }
        Protocol::Http2 => {
            let (sender, connection) = handshake(TokioExecutor::new(), io).await?;
            tokio::spawn(connection);
            (0..streams).map(|_| Slot::Http2(sender.clone())).collect()
        }
    })
}

async fn handshake<E>(
    executor: E,
    io: TokioIo<TcpStream>,
) -> hyper::Result<(http2::SendRequest<Body>, http2::Connection<TokioIo<TcpStream>, Body, E>)>
where
    E: Http2ClientConnExec<Body, TokioIo<TcpStream>> + Unpin + Clone,
{
    http2::handshake(executor, io).await
}

impl Slot {
    /// Sends a request, waits for all of its answer, and returns the status.
    pub(super) async fn send(&mut self, request: Request<Body>) -> Result<u16> {
        let answer = match self {
            Self::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
            Self::Http2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await?
            }
        };
        let status = answer.status().as_u16();
        drain(answer.into_body()).await?;
        Ok(status)
    }
}

async fn drain(mut body: Incoming) -> Result<()> {
    while let Some(frame) = body.frame().await {
        frame?;
    }
    Ok(())
}

/// A request as it is sent, from its template.
pub(super) fn request(
    template: &Template,
    protocol: Protocol,
    address: SocketAddr,
) -> Result<Request<Body>> {
    let uri = match protocol {
        Protocol::Http1 => template.path.parse::<Uri>()?,
        Protocol::Http2 => format!("http://{address}{}", template.path).parse()?,
    };
    let method = Method::from_bytes(template.method.as_bytes())?;
    let mut request = Request::builder().method(method).uri(uri).body(Body::new())?;
    let headers = request.headers_mut();
    if protocol == Protocol::Http1 {
        headers.insert(HOST, HeaderValue::from_str(&address.to_string())?);
    }
    for (name, value) in &template.headers {
        let name = HeaderName::from_bytes(name.as_bytes())?;
        headers.append(name, HeaderValue::from_str(value)?);
    }
    Ok(request)
}
