//! What goes wrong on the edge API: short, for programs.

use axum::{
    Json,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use crate::{http::observe::Failure, keys::verify::VerifyError, store::StoreError};

/// Why a filter's call failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("no token is set (KEYGATE_EDGE_TOKEN), so no filter is let in")]
    NoTokenSet,
    #[error("the token is missing or wrong")]
    WrongToken,
    #[error("there is no such call")]
    NotFound,
    #[error("the call takes another method")]
    MethodNotAllowed,
    #[error("the body is too large")]
    TooLarge,
    /// The message cannot be read; sending it again would not help.
    #[error("{0}")]
    Malformed(String),
    /// The message is well formed and cannot be taken; sending it again would not help.
    #[error("{0}")]
    Invalid(String),
    #[error("the database does not answer")]
    Database(#[from] StoreError),
    #[error("there is too much to do")]
    Overloaded,
    #[error("it took too long")]
    Timeout,
    #[error("our fault; the log has more")]
    Internal,
}

impl From<Failure> for Fault {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Panicked => Self::Internal,
            Failure::TimedOut => Self::Timeout,
        }
    }
}

impl From<VerifyError> for Fault {
    fn from(error: VerifyError) -> Self {
        match error {
            VerifyError::Store(error) => Self::Database(error),
            VerifyError::Overloaded(_) => Self::Overloaded,
        }
    }
}

impl Fault {
    fn parts(&self) -> (StatusCode, &'static str) {
        match self {
            Self::NoTokenSet => (StatusCode::SERVICE_UNAVAILABLE, "edge_token_not_set"),
            Self::WrongToken => (StatusCode::UNAUTHORIZED, "wrong_token"),
            Self::NotFound => (StatusCode::NOT_FOUND, "not_found"),
            Self::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "body_too_large"),
            Self::Malformed(_) => (StatusCode::BAD_REQUEST, "malformed"),
            Self::Invalid(_) => (StatusCode::UNPROCESSABLE_ENTITY, "invalid"),
            Self::Database(StoreError::GivenUp(_)) | Self::Internal => {
                (StatusCode::INTERNAL_SERVER_ERROR, "internal_error")
            }
            Self::Database(_) => (StatusCode::SERVICE_UNAVAILABLE, "database_unavailable"),
            Self::Overloaded => (StatusCode::SERVICE_UNAVAILABLE, "overloaded"),
            Self::Timeout => (StatusCode::SERVICE_UNAVAILABLE, "timeout"),
        }
    }
}

#[derive(Serialize)]
struct Body {
    code: &'static str,
    detail: String,
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        if let Self::Database(error) = &self {
            tracing::error!(%error, "the database failed");
        }
        let (status, code) = self.parts();
        let mut response = (status, Json(Body { code, detail: self.to_string() })).into_response();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if status == StatusCode::UNAUTHORIZED {
            response
                .headers_mut()
                .insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gather::GivenUp;

    #[test]
    fn a_fault_of_ours_is_not_called_one_of_the_database() {
        for (error, status) in [
            (StoreError::GivenUp(GivenUp), StatusCode::INTERNAL_SERVER_ERROR),
            (StoreError::lost(), StatusCode::SERVICE_UNAVAILABLE),
        ] {
            assert_eq!(Fault::from(error).into_response().status(), status);
        }
    }
}
