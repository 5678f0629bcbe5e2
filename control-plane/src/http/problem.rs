//! What went wrong, as `application/problem+json` (RFC 9457).

use axum::{
    Json,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use super::request_id;
use crate::keys::new_key::FieldError;

macro_rules! codes {
    ($($(#[$doc:meta])* $variant:ident = $code:literal, $status:ident, $title:literal;)+) => {
        /// Every problem there is. Programs go by the code; it never changes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Code {
            $($(#[$doc])* $variant,)+
        }

        impl Code {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// As programs see it.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code),+ }
            }

            /// The status that it is answered with.
            #[must_use]
            pub fn status(self) -> StatusCode {
                match self { $(Self::$variant => StatusCode::$status),+ }
            }

            /// As people see it.
            #[must_use]
            pub fn title(self) -> &'static str {
                match self { $(Self::$variant => $title),+ }
            }
        }
    };
}

codes! {
    /// The body is no JSON.
    MalformedBody = "malformed_body", BAD_REQUEST, "The body is not JSON";
    /// The query cannot be read, or asks for what there is not.
    InvalidQuery = "invalid_query", BAD_REQUEST, "The query is not valid";
    /// More than one credential, or one where none may be.
    AmbiguousCredential = "ambiguous_credential", BAD_REQUEST, "Send exactly one credential, in X-API-Key";
    /// No key, an unknown, a revoked or an expired one: the answer does not tell which.
    InvalidCredential = "invalid_credential", UNAUTHORIZED, "A valid API key is needed";
    /// A good key that may not do this.
    ScopeDenied = "scope_denied", FORBIDDEN, "The key's scope does not allow this";
    /// A good key from where it may not be used.
    AddressDenied = "address_denied", FORBIDDEN, "The key may not be used from this address";
    /// No such thing.
    NotFound = "not_found", NOT_FOUND, "There is no such resource";
    /// The path is right, the method is not.
    MethodNotAllowed = "method_not_allowed", METHOD_NOT_ALLOWED, "The method is not allowed here";
    /// One usable admin key must remain.
    LastAdminKey = "last_admin_key", CONFLICT, "The last usable admin key cannot be revoked";
    /// The body is too long.
    BodyTooLarge = "body_too_large", PAYLOAD_TOO_LARGE, "The body is too large";
    /// The body is of another type.
    UnsupportedMediaType = "unsupported_media_type", UNSUPPORTED_MEDIA_TYPE, "Send application/json";
    /// The body is JSON, and not what was expected.
    InvalidFields = "invalid_fields", UNPROCESSABLE_ENTITY, "Some fields are not valid";
    /// Our fault.
    Internal = "internal_error", INTERNAL_SERVER_ERROR, "Something went wrong here";
    /// The database does not answer.
    DatabaseUnavailable = "database_unavailable", SERVICE_UNAVAILABLE, "The database does not answer";
    /// Too much to do.
    Overloaded = "overloaded", SERVICE_UNAVAILABLE, "Too many requests are under way";
    /// It took too long.
    Timeout = "timeout", SERVICE_UNAVAILABLE, "The request took too long";
}

/// A problem, on its way to being an answer.
#[derive(Debug)]
pub struct Problem {
    code: Code,
    detail: Option<String>,
    errors: Vec<FieldError>,
}

impl Problem {
    /// That problem.
    #[must_use]
    pub fn new(code: Code) -> Self {
        Self { code, detail: None, errors: Vec::new() }
    }

    /// Says more. Never anything of a credential.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    /// Names the fields.
    #[must_use]
    pub fn errors(mut self, errors: Vec<FieldError>) -> Self {
        self.errors = errors;
        self
    }

    /// Which one it is.
    #[must_use]
    pub fn code(&self) -> Code {
        self.code
    }
}

#[derive(Serialize)]
struct Body<'a> {
    r#type: String,
    title: &'static str,
    status: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    instance: Option<String>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [FieldError],
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.code.status();
        let body = Body {
            r#type: format!("urn:keygate:problem:{}", self.code.as_str()),
            title: self.code.title(),
            status: status.as_u16(),
            detail: self.detail.as_deref(),
            code: self.code.as_str(),
            instance: request_id::current().map(|id| format!("urn:keygate:request:{id}")),
            errors: &self.errors,
        };
        let mut response = (status, Json(body)).into_response();
        let mut set = |name: HeaderName, value: &'static str| {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        };
        set(header::CONTENT_TYPE, "application/problem+json");
        set(header::CACHE_CONTROL, "no-store");
        match status {
            StatusCode::UNAUTHORIZED => {
                set(header::WWW_AUTHENTICATE, "ApiKey realm=\"keygate\", header=\"X-API-Key\"");
            }
            StatusCode::SERVICE_UNAVAILABLE => set(header::RETRY_AFTER, "1"),
            _ => {}
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_code_is_its_own_and_reads_like_one() {
        let codes: HashSet<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(codes.len(), Code::ALL.len());
        assert!(
            codes
                .iter()
                .all(|code| { code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') })
        );
    }
}
