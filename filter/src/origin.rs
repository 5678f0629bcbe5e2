//! What a request is called elsewhere: in Envoy's access log, in a trace.
//!
//! It is looked for only when there is a call to make or a line to write, so a request whose key is
//! known does not pay for it.

use gate::StreamId;

use crate::pairs::pairs;

/// The request's id: Envoy makes one, a UUID, and writes it into its access log.
pub(crate) const REQUEST_ID: &[u8] = b"x-request-id";
/// Its place in a trace (W3C Trace Context).
pub(crate) const TRACE_PARENT: &[u8] = b"traceparent";

/// A UUID.
const MAX_ID_BYTES: usize = 36;
/// Version 00 has this length, and there is no other.
const TRACE_PARENT_BYTES: usize = 55;

/// The request that has just been decided on, by its names.
pub(crate) struct Origin<'a> {
    pub(crate) stream: StreamId,
    pub(crate) request_id: Option<&'a [u8]>,
    pub(crate) trace_parent: Option<&'a [u8]>,
}

impl<'a> Origin<'a> {
    /// Finds the names among the request's headers.
    pub(crate) fn of(stream: StreamId, list: &'a [u8]) -> Self {
        let trace_parent =
            value(list, TRACE_PARENT).filter(|it| it.len() == TRACE_PARENT_BYTES && is_sane(it));
        Self { stream, request_id: request_id(list), trace_parent }
    }
}

/// The id of the request that has these headers. A client may have chosen it, where Envoy lets it:
/// what could be anything else than an id is none.
pub(crate) fn request_id(list: &[u8]) -> Option<&[u8]> {
    value(list, REQUEST_ID).filter(|id| (1..=MAX_ID_BYTES).contains(&id.len()) && is_sane(id))
}

/// Adds the id to a log line, whose last part are the details.
pub(crate) fn append_id(line: &mut String, id: Option<&[u8]>) {
    if let Some(id) = id.and_then(|id| str::from_utf8(id).ok()) {
        line.push_str(" request_id=");
        line.push_str(id);
    }
}

fn value<'a>(list: &'a [u8], wanted: &[u8]) -> Option<&'a [u8]> {
    pairs(list).find_map(|(name, value)| (name == wanted).then_some(value))
}

fn is_sane(text: &[u8]) -> bool {
    text.iter().all(|byte| byte.is_ascii_hexdigit() || *byte == b'-')
}
