//! Whether a filter calls.

use axum::{
    extract::{Request, State},
    http::{HeaderMap, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use std::sync::Arc;

use super::fault::Fault;
use crate::{
    http::{Peer, Trusted, tls::ClientCertificate},
    service::{Service, Shown},
};

/// Lets nobody on who does not show the token. A certificate is asked for before there is HTTP, by
/// the listener; where it was, and no token is set, it is enough.
pub(super) async fn require_token(
    State(service): State<Arc<Service>>,
    mut request: Request,
    next: Next,
) -> Response {
    let certified = request.extensions().get::<ClientCertificate>().is_some();
    let fault = match service.edge_token.check(bearer(request.headers())) {
        shown if shown == Shown::Right || (shown == Shown::NoneSet && certified) => {
            request.headers_mut().remove(header::AUTHORIZATION);
            let mut response = next.run(request).await;
            response.extensions_mut().insert(Trusted);
            return response;
        }
        Shown::NoneSet => Fault::NoTokenSet,
        _ => Fault::WrongToken,
    };
    let client_ip = request.extensions().get::<Peer>().map(|peer| peer.address());
    tracing::warn!(
        client_ip = client_ip.map(tracing::field::display),
        "an edge call was refused: {fault}"
    );
    fault.into_response()
}

/// The token in the one `Authorization` header (RFC 6750 section 2.1).
fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (value, None) = (values.next()?, values.next()) else {
        return None;
    };
    let (scheme, token) = value.as_bytes().split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
}
