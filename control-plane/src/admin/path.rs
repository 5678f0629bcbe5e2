//! What stands in a path.

use axum::{
    extract::{FromRequestParts, Path},
    http::{HeaderValue, header, request::Parts},
    response::{IntoResponse, Response},
};
use key_policy::KeyId;

use crate::{
    audit::trail,
    http::problem::{Code, Problem},
    openapi::text::KeyIdText,
};

/// The key that a path names, as it is described.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Path)]
#[expect(dead_code, reason = "only described by it; read by `KeyPath`")]
pub(super) struct KeyIdParameter {
    /// The key's public name.
    #[param(value_type = KeyIdText)]
    key_id: String,
}

/// The key that a path names. What is no key id names no key.
pub(super) struct KeyPath(pub(super) KeyId);

impl<S: Send + Sync> FromRequestParts<S> for KeyPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let name = Path::<String>::from_request_parts(parts, state).await.ok();
        let key_id = name.and_then(|Path(name)| name.parse().ok());
        key_id.inspect(|key_id| trail::is_about(*key_id));
        key_id.map(Self).ok_or_else(|| Problem::new(Code::NotFound))
    }
}

/// An answer that says where the key is found.
pub(super) fn located(answer: impl IntoResponse, key_id: KeyId) -> Response {
    let mut response = answer.into_response();
    if let Ok(place) = HeaderValue::from_str(&format!("/api/v1/admin/api-keys/{key_id}")) {
        response.headers_mut().insert(header::LOCATION, place);
    }
    response
}
