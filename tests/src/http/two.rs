//! Cleartext HTTP/2 with prior knowledge: a proper client, and one that can be as rude as a test
//! needs.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use http::{HeaderName, HeaderValue, Uri};
use tokio::net::TcpStream as AsyncStream;

use super::answer::{Answer, Fields};
use super::request::Request;

const TIMEOUT: Duration = Duration::from_secs(40);

/// Sends a request on a connection of its own.
pub(crate) fn send(server: SocketAddr, request: &Request) -> Result<Answer> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        tokio::time::timeout(TIMEOUT, exchange(server, request))
            .await
            .context("no answer in time")?
    })
}

async fn exchange(server: SocketAddr, request: &Request) -> Result<Answer> {
    let stream = AsyncStream::connect(server).await?;
    stream.set_nodelay(true)?;
    let (mut sender, connection) = h2::client::handshake(stream).await?;
    let talk = async {
        let (head, body) = (head(server, request)?, request.body.clone());
        std::future::poll_fn(|context| sender.poll_ready(context)).await?;
        let (answer, mut sending) = sender.send_request(head, body.is_empty())?;
        if !body.is_empty() {
            sending.send_data(body.into(), true)?;
        }
        let (parts, mut receiving) = answer.await?.into_parts();
        let mut body = Vec::new();
        while let Some(chunk) = receiving.data().await {
            let chunk = chunk?;
            receiving.flow_control().release_capacity(chunk.len())?;
            body.extend_from_slice(&chunk);
        }
        let fields = parts.headers.iter();
        let fields = fields.map(|(n, v)| (n.as_str().to_owned(), v.as_bytes().to_vec())).collect();
        anyhow::Ok(Answer { status: parts.status.as_u16(), headers: Fields(fields), body })
    };
    tokio::pin!(talk);
    tokio::select! {
        answer = &mut talk => answer,
        ended = connection => match ended {
            Err(error) => bail!("the connection failed: {error}"),
            // Everything may have been read off before the connection ended.
            Ok(()) => talk.await,
        },
    }
}

fn head(server: SocketAddr, request: &Request) -> Result<http::Request<()>> {
    let uri = Uri::builder().scheme("http").authority(server.to_string());
    let uri = uri.path_and_query(request.path.as_str()).build()?;
    let mut head = http::Request::builder().method(request.method.as_str()).uri(uri).body(())?;
    for (name, value) in &request.fields {
        let name = HeaderName::from_bytes(name.as_bytes())?;
        head.headers_mut().append(name, HeaderValue::from_bytes(value)?);
    }
    Ok(head)
}

/// What a server did with a request that no proper client sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reaction {
    /// It answered with header fields.
    Answered,
    /// It reset the stream, with this error code (RFC 9113, section 7).
    StreamReset(u32),
    /// It ended the connection, with this error code, or without a word.
    ConnectionEnded(Option<u32>),
}

/// A connection on which header fields go out exactly as given: in any case, in any order, with
/// any bytes.
pub struct RawHttp2(TcpStream);

impl RawHttp2 {
    /// Connects and says hello.
    ///
    /// # Errors
    /// When the server cannot be reached.
    pub fn open(server: SocketAddr) -> io::Result<Self> {
        let mut stream = TcpStream::connect_timeout(&server, TIMEOUT)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")?;
        let mut raw = Self(stream);
        raw.write_frame(SETTINGS, 0, 0, &[])?;
        Ok(raw)
    }

    /// Sends one request as stream 1, every field (the pseudo-header fields too) as given, and
    /// tells what comes of it.
    ///
    /// # Errors
    /// When half a minute passes.
    pub fn request(&mut self, fields: &[(&[u8], &[u8])]) -> io::Result<Reaction> {
        let mut block = Vec::new();
        for (name, value) in fields {
            block.push(LITERAL_WITHOUT_INDEXING);
            for text in [name, value] {
                push_length(&mut block, text.len());
                block.extend_from_slice(text);
            }
        }
        // Larger header blocks would need CONTINUATION frames.
        assert!(block.len() < 16_384, "too large for one frame");
        self.write_frame(HEADERS, END_STREAM | END_HEADERS, 1, &block)?;
        loop {
            let (kind, stream, payload) = match self.read_frame() {
                Ok(frame) => frame,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(error),
                Err(_) => return Ok(Reaction::ConnectionEnded(None)),
            };
            match (kind, stream) {
                (HEADERS, 1) => return Ok(Reaction::Answered),
                (RST_STREAM, 1) => return Ok(Reaction::StreamReset(word(&payload, 0))),
                (GOAWAY, _) => return Ok(Reaction::ConnectionEnded(Some(word(&payload, 4)))),
                _ => {}
            }
        }
    }

    fn write_frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> io::Result<()> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = length[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend_from_slice(payload);
        self.0.write_all(&frame)
    }

    fn read_frame(&mut self) -> io::Result<(u8, u32, Vec<u8>)> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head)?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        self.0.read_exact(&mut payload)?;
        Ok((head[3], word(&head, 5), payload))
    }
}

// Frame types and flags of RFC 9113, section 6; the representation of RFC 7541, section 6.2.2.
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const LITERAL_WITHOUT_INDEXING: u8 = 0;

/// An integer with a prefix of seven bits (RFC 7541, section 5.1), for text that is not Huffman
/// coded.
fn push_length(block: &mut Vec<u8>, length: usize) {
    if length < 127 {
        block.push(u8::try_from(length).unwrap());
        return;
    }
    block.push(127);
    let mut rest = length - 127;
    while rest >= 128 {
        block.push(u8::try_from(rest % 128).unwrap() | 128);
        rest /= 128;
    }
    block.push(u8::try_from(rest).unwrap());
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())
}
