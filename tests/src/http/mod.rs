//! Clients that send exactly what a test says, and show exactly what came back.
//!
//! | file | what it is |
//! |---|---|
//! | `answer` | an answer: status, header fields in their order, body |
//! | `connection` | HTTP/1.1 on one TCP connection, also with bytes that no client would send |
//! | `request` | a request in the making, as `gate.get("/path").key(&key).send()` |
//! | `two` | cleartext HTTP/2 with prior knowledge |

mod answer;
mod connection;
mod request;
mod two;

pub use answer::{Answer, Fields, Seen};
pub use connection::Connection;
pub use request::{Protocol, Request};
pub use two::{RawHttp2, Reaction};

pub(crate) use two::send as send_http2;
