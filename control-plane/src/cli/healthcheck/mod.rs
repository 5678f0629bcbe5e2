//! `keygate healthcheck`: for container runtimes, whose images hold no curl.

mod own_listener;

use anyhow::{Context, bail};
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
/// Far more than the answer takes.
const MAX_ANSWER_BYTES: u64 = 64 * 1024;

pub(super) async fn run(settings: &Settings) -> anyhow::Result<()> {
    let listen: SocketAddr = settings.listen.parse().map_err(|_| {
        wrong("KEYGATE_LISTEN", format!("`{}` is no address and port", settings.listen))
    })?;
    let address = reachable(listen);
    let speaks_tls = TlsFiles::admin(settings)?.is_some();
    let answer = tokio::time::timeout(TIMEOUT, ask(address, speaks_tls))
        .await
        .with_context(|| format!("{address} did not answer within {} s", TIMEOUT.as_secs()))?
        .with_context(|| format!("{address} cannot be reached"))?;
    let (head, body) = answer.split_once("\r\n\r\n").context("the answer is not HTTP")?;
    super::output::answer(&format!("{}\n", body.trim()))?;
    if head.split(' ').nth(1) == Some("200") { Ok(()) } else { bail!("the service is not well") }
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

async fn ask(address: SocketAddr, speaks_tls: bool) -> anyhow::Result<String> {
    let stream = TcpStream::connect(address).await?;
    if speaks_tls {
        talk(own_listener::connect(address.ip(), stream).await?, address).await
    } else {
        talk(stream, address).await
    }
}

async fn talk(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    address: SocketAddr,
) -> anyhow::Result<String> {
    // HTTP/1.0: the answer is neither chunked nor kept open.
    stream.write_all(format!("GET /health HTTP/1.0\r\nhost: {address}\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.take(MAX_ANSWER_BYTES).read_to_string(&mut answer).await?;
    Ok(answer)
}
