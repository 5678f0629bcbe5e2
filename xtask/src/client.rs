//! An HTTP/1.1 client that keeps its connection, as the programs do that use a gate.

use std::fmt::Write as _;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// Longer than anything takes that is not broken.
const TIMEOUT: Duration = Duration::from_secs(20);

/// What is asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ask<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) fields: Vec<(&'a str, &'a str)>,
    pub(crate) body: Option<&'a Value>,
}

/// What was answered.
#[derive(Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.status, self.json())
    }
}

impl Answer {
    /// Whether the server says that it did what was asked.
    pub(crate) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The body as JSON; null, if it is none.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Silence {
    /// Nothing was sent: nobody took the connection.
    NotSent,
    /// It was sent, or a part of it, and what became of it is not known.
    Unknown,
}

/// One client. It connects when it has something to say, and again after a failure; it never says
/// anything twice.
pub(crate) struct Client {
    server: SocketAddr,
    open: Option<BufReader<TcpStream>>,
}

impl Client {
    pub(crate) fn new(server: SocketAddr) -> Self {
        Self { server, open: None }
    }

    /// Sends a request and reads its answer.
    pub(crate) fn send(&mut self, ask: &Ask<'_>) -> Result<Answer, Silence> {
        let mut connection = match self.open.take() {
            Some(open) => open,
            None => BufReader::new(connect(self.server).map_err(|_| Silence::NotSent)?),
        };
        let text = text(self.server, ask);
        connection.get_mut().write_all(text.as_bytes()).map_err(|_| Silence::Unknown)?;
        let (answer, stays) = read(&mut connection).map_err(|_| Silence::Unknown)?;
        if stays {
            self.open = Some(connection);
        }
        Ok(answer)
    }
}

fn connect(server: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&server, TIMEOUT)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    Ok(stream)
}

fn text(server: SocketAddr, ask: &Ask<'_>) -> String {
    let mut text = format!("{} {} HTTP/1.1\r\nhost: {server}\r\n", ask.method, ask.path);
    for (name, value) in &ask.fields {
        let _ = write!(text, "{name}: {value}\r\n");
    }
    let body = ask.body.map(Value::to_string).unwrap_or_default();
    if ask.body.is_some() {
        text.push_str("content-type: application/json\r\n");
    }
    let _ = write!(text, "content-length: {}\r\n\r\n{body}", body.len());
    text
}

/// The next answer, and whether the connection may be used again.
fn read(from: &mut BufReader<TcpStream>) -> io::Result<(Answer, bool)> {
    let first = line(from)?;
    let status = first
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3)?.parse().ok())
        .ok_or_else(|| broken("no status line"))?;
    let (mut length, mut chunked, mut stays) = (0, false, true);
    loop {
        let field = line(from)?;
        if field.is_empty() {
            break;
        }
        let (name, value) = field.split_once(':').ok_or_else(|| broken("no field"))?;
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.parse().map_err(|_| broken("no length"))?,
            "transfer-encoding" => chunked = value.eq_ignore_ascii_case("chunked"),
            "connection" => stays = !value.eq_ignore_ascii_case("close"),
            _ => {}
        }
    }
    let body = if chunked { chunks(from)? } else { exactly(from, length)? };
    Ok((Answer { status, body }, stays))
}

fn chunks(from: &mut BufReader<TcpStream>) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let size = usize::from_str_radix(&line(from)?, 16).map_err(|_| broken("no chunk"))?;
        body.append(&mut exactly(from, size)?);
        line(from)?;
        if size == 0 {
            return Ok(body);
        }
    }
}

fn exactly(from: &mut BufReader<TcpStream>, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn line(from: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    match line.strip_suffix("\r\n") {
        Some(whole) => Ok(whole.to_owned()),
        None => Err(io::Error::new(ErrorKind::UnexpectedEof, "the connection ended")),
    }
}

fn broken(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::{Ask, Client, Silence};
    use crate::stack::EchoServer;
    use serde_json::json;

    #[test]
    fn a_connection_is_used_again_and_what_nobody_takes_was_not_sent() {
        let echo = EchoServer::start(0).unwrap();
        let mut client = Client::new(echo.address());
        let body = json!({"a": 1});
        for _ in 0..2 {
            let fields = vec![("x-one", "1")];
            let ask = Ask { method: "POST", path: "/x", fields, body: Some(&body) };
            let answer = client.send(&ask).unwrap();
            assert_eq!((answer.status, &answer.json()["body_length"]), (200, &7.into()));
            assert_eq!(answer.json()["headers"]["x-one"][0], "1");
        }
        drop(echo);
        let ask = Ask { method: "GET", path: "/", ..Ask::default() };
        assert!(matches!(client.send(&ask), Err(Silence::Unknown)));
        assert!(matches!(client.send(&ask), Err(Silence::NotSent)));
    }
}
