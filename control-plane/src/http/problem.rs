//! What went wrong, as `application/problem+json` (RFC 9457).

use axum::{
    Json,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use std::borrow::Cow;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{ObjectBuilder, RefOr, Schema, Type, extensions::ExtensionsBuilder},
};

use super::{observe::Failure, pointer::FieldErrorBody, request_id};
use crate::keys::new_key::FieldError;

/// What problems are sent as.
pub(crate) const MEDIA_TYPE: &str = "application/problem+json";

macro_rules! codes {
    ($($(#[doc = $meaning:literal])* $variant:ident = $code:literal, $status:ident, $title:literal, $advice:literal;)+) => {
        /// Every problem there is. Programs go by the code; it never changes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Code {
            $($(#[doc = $meaning])* $variant,)+
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

            /// What it means, in a sentence.
            #[must_use]
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$variant => concat!($($meaning),*).trim_ascii()),+ }
            }

            /// What a caller can do about it.
            #[must_use]
            pub fn advice(self) -> &'static str {
                match self { $(Self::$variant => $advice),+ }
            }
        }
    };
}

codes! {
    /// The body is no JSON.
    MalformedBody = "malformed_body", BAD_REQUEST, "The body is not JSON",
        "send JSON, as RFC 8259 has it";
    /// The query cannot be read, or asks for what there is not.
    InvalidQuery = "invalid_query", BAD_REQUEST, "The query is not valid",
        "send only parameters that the call knows, with values that it takes; `errors` names what is wrong";
    /// A header that cannot be read.
    InvalidHeader = "invalid_header", BAD_REQUEST, "A header is not valid",
        "mend the header that `detail` names";
    /// More than one credential, or one where none may be.
    AmbiguousCredential = "ambiguous_credential", BAD_REQUEST, "Send exactly one credential, in X-API-Key",
        "send exactly one key, in `X-API-Key` and nowhere else";
    /// `Idempotency-Key` is there more than once, or has characters that it may not have.
    InvalidIdempotencyKey = "invalid_idempotency_key", BAD_REQUEST, "The Idempotency-Key is not valid",
        "send one `Idempotency-Key` of 1 to 255 characters, such as a UUID";
    /// No key, an unknown, a revoked or an expired one: the answer does not tell which.
    InvalidCredential = "invalid_credential", UNAUTHORIZED, "A valid API key is needed",
        "send a key that exists, and is neither revoked nor expired";
    /// A good key that may not do this.
    ScopeDenied = "scope_denied", FORBIDDEN, "The key's scope does not allow this",
        "use a key of scope `admin`";
    /// A good key from where it may not be used.
    AddressDenied = "address_denied", FORBIDDEN, "The key may not be used from this address",
        "call from an address that the key is allowed at, or change its `allowed_ips`";
    /// The key has a second factor, or must have one, and none was shown.
    TotpRequired = "totp_required", FORBIDDEN, "A second factor is needed",
        "send the code of your authenticator in `X-Keygate-TOTP`; without one, enrol: `POST /api/v1/admin/totp/enrol`";
    /// The second factor is wrong, or was used before.
    TotpInvalid = "totp_invalid", FORBIDDEN, "The second factor is not right",
        "send the code that is shown now, or a recovery code; each is good once";
    /// Too many codes were wrong in a row.
    TotpLocked = "totp_locked", FORBIDDEN, "The second factor is locked",
        "send a recovery code, or have an operator run `keygate totp reset`";
    /// No such thing.
    NotFound = "not_found", NOT_FOUND, "There is no such resource",
        "check the path and the key id";
    /// The path is right, the method is not.
    MethodNotAllowed = "method_not_allowed", METHOD_NOT_ALLOWED, "The method is not allowed here",
        "use one of the methods that `Allow` lists";
    /// One usable admin key must remain.
    LastAdminKey = "last_admin_key", CONFLICT, "One usable admin key must remain",
        "make another admin key first, or use the command line";
    /// The key is revoked, which is for good.
    KeyRevoked = "key_revoked", CONFLICT, "The key is revoked",
        "make another key";
    /// The key is switched off, or its time is up.
    KeyNotActive = "key_not_active", CONFLICT, "The key is not active",
        "make another key; one that is switched off can be switched on first";
    /// The key has been rotated before.
    KeySuperseded = "key_superseded", CONFLICT, "Another key has taken its place",
        "rotate the key that `superseded_by` names";
    /// The key has been changed since the version that `If-Match` names.
    PreconditionFailed = "precondition_failed", PRECONDITION_FAILED, "The key is of another version by now",
        "get the key, decide again, and send its `ETag` in `If-Match`";
    /// The second factor is in force already, or there is none that waits to be.
    TotpConflict = "totp_conflict", CONFLICT, "The second factor is not in the state that this needs",
        "look at `GET /api/v1/admin/totp`; disable a factor before you enrol another one";
    /// Such a key is there already: the same one, or one with the same key id.
    KeyExists = "key_exists", CONFLICT, "This key exists already",
        "look at the key that `detail` names; a key that was revoked cannot come back";
    /// The same call is being made right now.
    IdempotencyKeyInUse = "idempotency_key_in_use", CONFLICT, "A request with this Idempotency-Key is under way",
        "send it again after `Retry-After` seconds, to be told what came of it";
    /// The body is too long.
    BodyTooLarge = "body_too_large", PAYLOAD_TOO_LARGE, "The body is too large",
        "send at most 64 KiB";
    /// The body is of another type.
    UnsupportedMediaType = "unsupported_media_type", UNSUPPORTED_MEDIA_TYPE, "Send application/json",
        "send `Content-Type: application/json`";
    /// The body is JSON, and not what was expected.
    InvalidFields = "invalid_fields", UNPROCESSABLE_ENTITY, "Some fields are not valid",
        "mend the fields that `errors` names";
    /// A change that does not say which version it was decided on.
    PreconditionRequired = "precondition_required", PRECONDITION_REQUIRED, "If-Match is needed",
        "send the `ETag` of the key, as it was when you decided on the change, in `If-Match`";
    /// Too many codes were tried within a minute.
    TotpTooManyAttempts = "totp_too_many_attempts", TOO_MANY_REQUESTS, "Too many codes were tried",
        "try again after `Retry-After` seconds";
    /// The policy refuses the key that is to be imported.
    PolicyRefused = "policy_refused", UNPROCESSABLE_ENTITY, "The policy refuses this key",
        "import another key; where none of the `errors` says that it cannot be overridden, `policy_override` with a reason takes this one";
    /// Another call was made under this `Idempotency-Key`.
    IdempotencyKeyReused = "idempotency_key_reused", UNPROCESSABLE_ENTITY, "The Idempotency-Key was used for another request",
        "draw a new `Idempotency-Key` for each new request, and send the same one only with the same body";
    /// The key has called more often than it may.
    RateLimited = "rate_limited", TOO_MANY_REQUESTS, "Too many calls with this key",
        "wait for `Retry-After` seconds; `RateLimit` tells how many calls are left";
    /// Calls from this address were refused too often. The credential was not looked at.
    TooManyFailures = "too_many_failures", TOO_MANY_REQUESTS, "Too many refused calls from this address",
        "mend what calls with a wrong key, and wait for `Retry-After` seconds";
    /// Our fault.
    Internal = "internal_error", INTERNAL_SERVER_ERROR, "Something went wrong here",
        "look into the log for the request's id";
    /// The database does not answer.
    DatabaseUnavailable = "database_unavailable", SERVICE_UNAVAILABLE, "The database does not answer",
        "try again after `Retry-After` seconds; `/health` says when it is back";
    /// Too much to do.
    Overloaded = "overloaded", SERVICE_UNAVAILABLE, "Too many requests are under way",
        "try again after `Retry-After` seconds";
    /// It took too long.
    Timeout = "timeout", SERVICE_UNAVAILABLE, "The request took too long",
        "look whether it was done after all, then try again";
}

/// A problem, on its way to being an answer.
#[derive(Debug)]
pub struct Problem {
    code: Code,
    detail: Option<String>,
    errors: Vec<FieldError>,
    /// Seconds to wait, where that is known.
    retry_after: Option<u64>,
}

impl Problem {
    /// That problem.
    #[must_use]
    pub fn new(code: Code) -> Self {
        Self { code, detail: None, errors: Vec::new(), retry_after: None }
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

    /// Says when to come back: in so many seconds.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// Which one it is.
    #[must_use]
    pub fn code(&self) -> Code {
        self.code
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        Self::new(match failure {
            Failure::Panicked => Code::Internal,
            Failure::TimedOut => Code::Timeout,
        })
    }
}

/// What went wrong (RFC 9457). Programs go by `code`.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemBody<'a> {
    /// The code as a URI.
    #[schema(pattern = "^urn:keygate:problem:[a-z_]+$", example = "urn:keygate:problem:not_found")]
    r#type: String,
    /// The code in words.
    #[schema(example = "There is no such resource")]
    title: &'static str,
    /// The answer's HTTP status.
    #[schema(minimum = 400, maximum = 599, example = 404)]
    status: u16,
    /// More about this very case.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<&'a str>,
    #[schema(value_type = Code)]
    code: &'static str,
    /// The request, by its id; the log has it too.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^urn:keygate:request:[0-9a-fA-F-]+$")]
    instance: Option<String>,
    /// The fields that are wrong, where there are such.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    errors: Vec<FieldErrorBody<'a>>,
}

impl PartialSchema for Code {
    fn schema() -> RefOr<Schema> {
        let all = Self::ALL.iter().map(|code| {
            serde_json::json!({
                "code": code.as_str(),
                "status": code.status().as_u16(),
                "title": code.title(),
                "meaning": code.meaning(),
                "advice": code.advice(),
            })
        });
        ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some("Which problem it is. Codes never change; new ones may come."))
            .enum_values(Some(Self::ALL.iter().map(|code| code.as_str())))
            .extensions(Some(
                ExtensionsBuilder::new().add("x-problems", all.collect::<Vec<_>>()).build(),
            ))
            .into()
    }
}

impl ToSchema for Code {
    fn name() -> Cow<'static, str> {
        "ProblemCode".into()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.code.status();
        let in_request = match self.code {
            Code::InvalidFields => FieldErrorBody::in_body,
            _ => FieldErrorBody::in_query,
        };
        let body = ProblemBody {
            r#type: format!("urn:keygate:problem:{}", self.code.as_str()),
            title: self.code.title(),
            status: status.as_u16(),
            detail: self.detail.as_deref(),
            code: self.code.as_str(),
            instance: request_id::current().map(|id| format!("urn:keygate:request:{id}")),
            errors: self.errors.iter().map(in_request).collect(),
        };
        let mut response = (status, Json(body)).into_response();
        // For those whom the answer passes on its way out.
        response.extensions_mut().insert(self.code);
        let mut set = |name: HeaderName, value: &'static str| {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        };
        set(header::CONTENT_TYPE, MEDIA_TYPE);
        set(header::CACHE_CONTROL, "no-store");
        match status {
            StatusCode::UNAUTHORIZED => {
                set(header::WWW_AUTHENTICATE, "ApiKey realm=\"keygate\", header=\"X-API-Key\"");
            }
            StatusCode::SERVICE_UNAVAILABLE => set(header::RETRY_AFTER, "1"),
            _ => {}
        }
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
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
