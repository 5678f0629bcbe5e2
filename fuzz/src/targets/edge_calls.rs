//! What filters send, and what someone else with their token might.

use arbitrary::{Result, Unstructured};
use axum::body::Body;
use edge_protocol::{
    CHANGES_PATH, EVENTS_PATH, LEASES_PATH, STAMP, STAMP_HEADER, VERIFY_PATH, VerifyAnswer,
};
use http::Request;

use super::service::{EDGE_TOKEN, with};

pub(crate) fn run(data: &[u8]) {
    let _ = call(Unstructured::new(data));
}

fn call(mut input: Unstructured<'_>) -> Result<()> {
    let path =
        *input.choose(&[EVENTS_PATH, EVENTS_PATH, VERIFY_PATH, LEASES_PATH, CHANGES_PATH])?;
    let rest = input.take_rest();
    let post = |body: &[u8]| {
        let request = Request::post(path).header("content-type", "application/json");
        let request = request.header("authorization", format!("Bearer {EDGE_TOKEN}"));
        request.body(Body::from(body.to_vec())).expect("a request")
    };
    let request = if path == CHANGES_PATH {
        let query: String = rest.iter().map(|it| char::from(*it)).collect();
        // A poll may be held; it is not waited for.
        let uri = format!("{path}?{}", query.replace("wait_ms", "wait"));
        let request = Request::get(uri).header("authorization", format!("Bearer {EDGE_TOKEN}"));
        let Ok(request) = request.body(Body::empty()) else { return Ok(()) };
        request
    } else {
        post(rest)
    };
    with(|control_plane| {
        let before = control_plane.log_batches();
        let answer = control_plane.call_edge(request).expect("an answer in time");
        assert!(answer.status.as_u16() < 500, "{answer:?}");
        assert_eq!(
            answer.headers.get(STAMP_HEADER).map(|it| it.as_bytes()),
            Some(STAMP.as_bytes())
        );
        assert!(answer.json().is_object(), "{answer:?}");
        if !answer.status.is_success() {
            assert!(path == VERIFY_PATH || control_plane.log_batches() == before, "{answer:?}");
            return;
        }
        match path {
            EVENTS_PATH => {
                let stored = control_plane.log_batches();
                assert!(stored - before <= 1, "a batch of events is one of the log");
                let again = control_plane.call_edge(post(rest)).expect("an answer in time");
                assert_eq!((again.status, &again.body), (answer.status, &answer.body));
                assert_eq!(control_plane.log_batches(), stored, "a batch is stored once");
            }
            VERIFY_PATH => {
                serde_json::from_slice::<VerifyAnswer>(&answer.body).expect("a filter reads it");
            }
            _ => {}
        }
    });
    Ok(())
}
