//! Answers of any length: one JSON object a line, made as fast as the reader takes them.

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, HeaderValue, header},
    response::{IntoResponse, Response},
};
use hyper::body::Frame;
use serde::Serialize;
use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::sync::mpsc;

/// The media type.
pub(super) const NDJSON: &str = "application/x-ndjson";
/// Pages that wait for the reader.
const PAGES: usize = 2;

/// Whether the caller would rather have lines than a page.
pub(super) fn is_wanted(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|it| it.to_str().ok());
    accepted
        .flat_map(|it| it.split(','))
        .any(|range| range.split(';').next().is_some_and(|it| it.trim() == NDJSON))
}

/// Where the lines come from.
pub(super) struct Lines(mpsc::Sender<Result<Bytes, io::Error>>);

impl Lines {
    /// An answer, and where its lines are put. When nobody puts any more, the answer is whole.
    pub(super) fn answer() -> (Self, Response) {
        let (sender, receiver) = mpsc::channel(PAGES);
        let mut response = Body::new(Answer(receiver)).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(NDJSON));
        (Self(sender), response)
    }

    /// Adds lines; false when there is no reader any more.
    pub(super) async fn add(&self, items: &[impl Serialize]) -> bool {
        let mut text = Vec::new();
        for item in items {
            if let Err(error) = serde_json::to_writer(&mut text, item) {
                self.break_off(error.into()).await;
                return false;
            }
            text.push(b'\n');
        }
        self.0.send(Ok(text.into())).await.is_ok()
    }

    /// Breaks the answer off, so that its reader does not take it for whole.
    pub(super) async fn break_off(&self, error: io::Error) {
        // A reader who has gone need not be told.
        let _ = self.0.send(Err(error)).await;
    }
}

struct Answer(mpsc::Receiver<Result<Bytes, io::Error>>);

impl hyper::body::Body for Answer {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.0.poll_recv(context).map(|bytes| bytes.map(|bytes| bytes.map(Frame::data)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_given_to_those_who_ask_for_them() {
        for (accept, wanted) in [
            ("application/x-ndjson", true),
            ("application/json, application/x-ndjson;q=0.9", true),
            ("*/*", false),
            ("application/json", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
            assert_eq!(is_wanted(&headers), wanted, "{accept}");
        }
        assert!(!is_wanted(&HeaderMap::new()));
    }
}
