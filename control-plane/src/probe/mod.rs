//! Asking our own listener how it is, as `keygate healthcheck` and `keygate doctor` do.

mod any_certificate;

use anyhow::Context;
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
};

use crate::config::{Settings, TlsFiles, wrong};

const TIMEOUT: Duration = Duration::from_secs(3);
/// Far more than the answers take.
const MAX_ANSWER_BYTES: u64 = 64 * 1024;

/// What the listener said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The body, without white space around it.
    pub body: String,
}

/// `GET path` on the admin listener, by the settings that a service with them would listen by.
///
/// # Errors
/// When the settings name no address, or nothing answers there in HTTP within three seconds.
pub async fn own_listener(settings: &Settings, path: &str) -> anyhow::Result<Answer> {
    let listen: SocketAddr = settings.listen.parse().map_err(|_| {
        wrong("KEYGATE_LISTEN", format!("`{}` is no address and port", settings.listen))
    })?;
    let address = reachable(listen);
    let speaks_tls = TlsFiles::admin(settings)?.is_some();
    let answer = tokio::time::timeout(TIMEOUT, ask(address, speaks_tls, path))
        .await
        .with_context(|| format!("{address} did not answer within {} s", TIMEOUT.as_secs()))?
        .with_context(|| format!("{address} cannot be reached"))?;
    let (head, body) = answer.split_once("\r\n\r\n").context("the answer is not HTTP")?;
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    Ok(Answer { status: status.context("the answer is not HTTP")?, body: body.trim().to_owned() })
}

/// An address to listen on everywhere is none to connect to.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

async fn ask(address: SocketAddr, speaks_tls: bool, path: &str) -> anyhow::Result<String> {
    let stream = TcpStream::connect(address).await?;
    if speaks_tls {
        talk(any_certificate::connect(address.ip(), stream).await?, address, path).await
    } else {
        talk(stream, address, path).await
    }
}

async fn talk(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    address: SocketAddr,
    path: &str,
) -> anyhow::Result<String> {
    // HTTP/1.0: the answer is neither chunked nor kept open.
    stream.write_all(format!("GET {path} HTTP/1.0\r\nhost: {address}\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.take(MAX_ANSWER_BYTES).read_to_string(&mut answer).await?;
    Ok(answer)
}
