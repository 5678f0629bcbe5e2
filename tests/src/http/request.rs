//! A request in the making.

use std::net::SocketAddr;

use super::{Answer, Connection, send_http2};

/// How a request travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// Cleartext HTTP/2 with prior knowledge.
    Http2,
}

/// A request in the making. Header names and values go out exactly as given, in the order given.
#[derive(Clone, Debug)]
#[must_use = "a request does nothing until it is sent"]
pub struct Request {
    server: SocketAddr,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) fields: Vec<(String, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
    protocol: Protocol,
}

impl Request {
    /// A request to a server, still without headers.
    pub fn new(server: SocketAddr, method: &str, path: &str) -> Self {
        Self {
            server,
            method: method.to_owned(),
            path: path.to_owned(),
            fields: Vec::new(),
            body: Vec::new(),
            protocol: Protocol::Http1,
        }
    }

    /// With this API key.
    pub fn key(self, key: impl AsRef<[u8]>) -> Self {
        self.header("X-API-Key", key)
    }

    /// From this client address (`X-Forwarded-For`, which the gate of a test trusts one hop).
    pub fn client(self, address: impl AsRef<[u8]>) -> Self {
        self.header("X-Forwarded-For", address)
    }

    /// With one more header field.
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.fields.push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    /// With a body.
    pub fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = body.as_ref().to_vec();
        self
    }

    /// By HTTP/2.
    pub fn http2(self) -> Self {
        self.protocol(Protocol::Http2)
    }

    /// By this protocol.
    pub fn protocol(mut self, protocol: Protocol) -> Self {
        self.protocol = protocol;
        self
    }

    /// Sends it on a connection of its own, so that chance decides which worker gets it.
    #[track_caller]
    pub fn send(&self) -> Answer {
        match self.protocol {
            Protocol::Http1 => self.send_on(&mut Connection::open(self.server)),
            Protocol::Http2 => send_http2(self.server, self)
                .unwrap_or_else(|error| panic!("no answer to {self:?}: {error}")),
        }
    }

    /// Sends it by HTTP/1.1 on an open connection.
    #[track_caller]
    pub fn send_on(&self, connection: &mut Connection) -> Answer {
        connection
            .exchange(&self.bytes())
            .unwrap_or_else(|error| panic!("no answer to {self:?}: {error}"))
    }

    /// Its bytes in HTTP/1.1. `Host` and `Content-Length` are added unless they were given.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = format!("{} {} HTTP/1.1\r\n", self.method, self.path).into_bytes();
        let has = |name: &str| self.fields.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
        if !has("host") {
            bytes.extend(format!("Host: {}\r\n", self.server).bytes());
        }
        for (name, value) in &self.fields {
            bytes.extend(name.bytes());
            bytes.extend(b": ");
            bytes.extend(value);
            bytes.extend(b"\r\n");
        }
        if !self.body.is_empty() && !has("content-length") {
            bytes.extend(format!("Content-Length: {}\r\n", self.body.len()).bytes());
        }
        bytes.extend(b"\r\n");
        bytes.extend(&self.body);
        bytes
    }
}
