//! What stands in a path.

use axum::{
    extract::{FromRequestParts, Path},
    http::request::Parts,
};
use key_policy::KeyId;

use crate::http::problem::{Code, Problem};

/// The key that a path names. What is no key id names no key.
pub(super) struct KeyPath(pub(super) KeyId);

impl<S: Send + Sync> FromRequestParts<S> for KeyPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let name = Path::<String>::from_request_parts(parts, state).await.ok();
        let key_id = name.and_then(|Path(name)| name.parse().ok());
        key_id.map(Self).ok_or_else(|| Problem::new(Code::NotFound))
    }
}
