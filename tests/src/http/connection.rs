//! HTTP/1.1 on one TCP connection.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::answer::{Answer, Fields};

/// Longer than the gate's longest wait for anything.
const TIMEOUT: Duration = Duration::from_secs(40);

/// One TCP connection. A worker of Envoy takes it, and keeps it: all its requests are that
/// worker's.
pub struct Connection {
    server: SocketAddr,
    stream: BufReader<TcpStream>,
}

impl Connection {
    /// Connects.
    #[must_use]
    pub fn open(server: SocketAddr) -> Self {
        Self::try_open(server).unwrap_or_else(|error| panic!("{server} cannot be reached: {error}"))
    }

    /// Connects to a server that may be gone.
    ///
    /// # Errors
    /// When it is.
    pub fn try_open(server: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect_timeout(&server, TIMEOUT)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        Ok(Self { server, stream: BufReader::new(stream) })
    }

    /// The server's address, for `Host`.
    #[must_use]
    pub fn server(&self) -> SocketAddr {
        self.server
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// When the server has closed the connection.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// Sends the bytes of one request as they are and reads its answer.
    ///
    /// # Errors
    /// When the connection ends without a whole answer, or half a minute passes.
    pub fn exchange(&mut self, request: &[u8]) -> io::Result<Answer> {
        // An early refusal may close the connection before all is written: the answer counts.
        let _ = self.write(request);
        self.read_answer(!request.starts_with(b"HEAD "))
    }

    /// Reads the next answer.
    ///
    /// # Errors
    /// As [`exchange`](Self::exchange).
    pub fn read_answer(&mut self, with_body: bool) -> io::Result<Answer> {
        loop {
            let (status, headers) = self.read_head()?;
            if (100..200).contains(&status) {
                continue;
            }
            let empty = !with_body || status == 204 || status == 304;
            let body = if empty { Vec::new() } else { self.read_body(&headers)? };
            return Ok(Answer { status, headers, body });
        }
    }

    /// Everything that still comes until the server closes the connection.
    ///
    /// # Errors
    /// When half a minute passes, or the connection is reset.
    pub fn read_to_end(&mut self) -> io::Result<Vec<u8>> {
        let mut rest = Vec::new();
        self.stream.read_to_end(&mut rest)?;
        Ok(rest)
    }

    fn read_head(&mut self) -> io::Result<(u16, Fields)> {
        let first = self.read_line()?;
        let status = first
            .strip_prefix("HTTP/1.")
            .and_then(|rest| rest.split(' ').nth(1))
            .and_then(|code| code.parse().ok())
            .ok_or_else(|| broken(&format!("no status line: {first:?}")))?;
        let mut fields = Vec::new();
        loop {
            let line = self.read_line()?;
            if line.is_empty() {
                return Ok((status, Fields(fields)));
            }
            let (name, value) =
                line.split_once(':').ok_or_else(|| broken(&format!("no field: {line:?}")))?;
            fields.push((name.to_ascii_lowercase(), value.trim().as_bytes().to_vec()));
        }
    }

    fn read_body(&mut self, headers: &Fields) -> io::Result<Vec<u8>> {
        if headers.one("transfer-encoding").as_deref() == Some("chunked") {
            return self.read_chunks();
        }
        let Some(length) = headers.one("content-length") else {
            return self.read_to_end();
        };
        let length = length.parse().map_err(|_| broken("content-length is no number"))?;
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body)?;
        Ok(body)
    }

    fn read_chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let size = self.read_line()?;
            let size = usize::from_str_radix(&size, 16).map_err(|_| broken("no chunk size"))?;
            let mut chunk = vec![0; size];
            self.stream.read_exact(&mut chunk)?;
            self.read_line()?;
            if size == 0 {
                return Ok(body);
            }
            body.append(&mut chunk);
        }
    }

    fn read_line(&mut self) -> io::Result<String> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line)?;
        if line.pop() != Some(b'\n') {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the connection ended"));
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Ok(String::from_utf8_lossy(&line).into_owned())
    }
}

fn broken(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
