//! What administrators send.

use arbitrary::{Result, Unstructured};
use axum::body::Body;
use http::{HeaderValue, Method, Request};

use super::service::with;

/// Stands for the id of the key that asks.
const OWN: &str = "{own}";
const PATHS: &[&str] = &[
    "/api/v1/admin/api-keys/",
    "/api/v1/admin/api-keys/check-policy",
    "/api/v1/admin/api-keys/import",
    "/api/v1/admin/api-keys/{own}",
    "/api/v1/admin/api-keys/{own}/rotate",
    "/api/v1/admin/api-keys/{own}/usage",
    "/api/v1/admin/api-keys/0123456789abcdef",
    "/api/v1/admin/api-keys/x",
    "/api/v1/admin/totp",
    "/api/v1/admin/totp/enrol",
    "/api/v1/admin/totp/verify",
    "/api/v1/admin/audit-log",
    "/health",
];

pub(crate) fn run(data: &[u8]) {
    let _ = call(Unstructured::new(data));
}

fn call(mut input: Unstructured<'_>) -> Result<()> {
    let method = input.choose(&[Method::GET, Method::POST, Method::PUT, Method::DELETE])?.clone();
    let path = *input.choose(PATHS)?;
    let query: u8 = input.int_in_range(0..=120)?;
    let header = *input.choose(&["", "idempotency-key", "if-match", "accept", "x-totp-code"])?;
    let value: u8 = input.int_in_range(0..=40)?;
    let query: String = input
        .bytes(usize::from(query).min(input.len()))?
        .iter()
        .map(|it| char::from(*it))
        .collect();
    let value = input.bytes(usize::from(value).min(input.len()))?;
    let body = input.take_rest().to_vec();

    with(|control_plane| {
        let key = control_plane.admin_key.clone();
        // kg_live_<id>_…
        let own = key.split('_').nth(2).unwrap_or_default();
        let path = path.replace(OWN, own);
        let uri = if query.is_empty() { path } else { format!("{path}?{query}") };
        let mut request = Request::builder().method(method).uri(uri).header("x-api-key", &key);
        request = request.header("content-type", "application/json");
        if let (false, Ok(value)) = (header.is_empty(), HeaderValue::from_bytes(value)) {
            request = request.header(header, value);
        }
        // What is no request to the server never gets there.
        let Ok(request) = request.body(Body::from(body)) else { return };
        let answer = control_plane.call_admin(request).expect("an answer in time");
        let status = answer.status.as_u16();
        assert!(status < 500, "{answer:?}");
        assert!(!String::from_utf8_lossy(&answer.body).contains(&key), "the key is shown again");
        if status >= 400 {
            let kind = answer.headers.get("content-type").map(HeaderValue::as_bytes);
            assert_eq!(kind, Some(&b"application/problem+json"[..]), "{answer:?}");
            let problem = answer.json();
            assert_eq!(problem["status"], status, "{problem}");
            assert!(problem["code"].as_str().is_some_and(|it| !it.is_empty()), "{problem}");
        }
        // The key has changed itself.
        if matches!(status, 401 | 403) || answer.json()["key_id"] == own {
            control_plane.new_admin_key();
        }
    });
    Ok(())
}
