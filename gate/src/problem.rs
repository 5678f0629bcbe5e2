//! How a refusal is put to the client: RFC 9457 problem details.

use crate::LimitReport;

macro_rules! body {
    ($status:literal, $code:literal, $title:literal, $detail:literal) => {
        concat!(
            r#"{"type":"about:blank","title":""#,
            $title,
            r#"","status":"#,
            $status,
            r#","detail":""#,
            $detail,
            r#"","code":""#,
            $code,
            r#""}"#
        )
    };
}

/// Bodies of a credential problem under both statuses that it can have.
macro_rules! credential_bodies {
    ($unauthorized:expr, $code:literal, $title:literal, $detail:literal) => {
        if $unauthorized {
            body!("401", $code, $title, $detail)
        } else {
            body!("403", $code, $title, $detail)
        }
    };
}

/// Why a request is refused, as far as the client may know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// Several credentials, or one of bytes that no key has.
    BadCredential,
    /// The path can be read in two ways.
    AmbiguousPath,
    /// No credential.
    Missing,
    /// A test key where none is allowed.
    TestKey,
    /// The credential does not look like a key.
    Malformed,
    /// Unknown, wrong, revoked or expired: which one it is, only the audit log tells.
    Invalid,
    /// Not from this address.
    Address,
    /// Not with this scope.
    Scope,
    /// Over a limit.
    RateLimited,
    /// Too many failed credentials.
    FailedAttempts,
    /// It cannot be told now.
    Unavailable,
}

/// A request is refused: all that the answer needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub problem: Problem,
    /// Whether credential problems are answered with 401.
    pub(crate) unauthorized: bool,
    /// Seconds after which to come back (RFC 9110, section 10.2.3).
    pub retry_after: Option<u32>,
    /// The limit that was reached.
    pub report: Option<LimitReport>,
}

impl Refusal {
    /// The HTTP status.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self.problem {
            Problem::BadCredential | Problem::AmbiguousPath => 400,
            Problem::Missing | Problem::TestKey | Problem::Malformed | Problem::Invalid => {
                if self.unauthorized { 401 } else { 403 }
            }
            Problem::Address | Problem::Scope => 403,
            Problem::RateLimited | Problem::FailedAttempts => 429,
            Problem::Unavailable => 503,
        }
    }

    /// Whether the answer names the way to authenticate, as a 401 must (RFC 9110, section
    /// 15.5.2).
    #[must_use]
    pub fn challenges(&self) -> bool {
        self.status() == 401
    }

    /// A few words for the proxy's access log.
    #[must_use]
    pub fn access_log_details(&self) -> &'static str {
        match self.problem {
            Problem::BadCredential => "keygate_bad_credential",
            Problem::AmbiguousPath => "keygate_ambiguous_path",
            Problem::Missing => "keygate_missing_api_key",
            Problem::TestKey => "keygate_test_key",
            Problem::Malformed => "keygate_invalid_format",
            Problem::Invalid => "keygate_invalid_api_key",
            Problem::Address => "keygate_ip_denied",
            Problem::Scope => "keygate_scope_denied",
            Problem::RateLimited => "keygate_rate_limited",
            Problem::FailedAttempts => "keygate_failed_attempts",
            Problem::Unavailable => "keygate_unavailable",
        }
    }

    /// The body, `application/problem+json`.
    #[must_use]
    pub fn body(&self) -> &'static str {
        match self.problem {
            Problem::BadCredential => body!(
                "400",
                "invalid_format",
                "Bad credential",
                "Send one API key in one header: printable ASCII without spaces or commas, and no longer than keys are."
            ),
            Problem::AmbiguousPath => body!(
                "400",
                "invalid_path",
                "Ambiguous path",
                "Send the path without escaped slashes, back-slashes, empty segments or dot segments."
            ),
            Problem::Missing => credential_bodies!(
                self.unauthorized,
                "missing_api_key",
                "API key required",
                "Send your API key in the API key header."
            ),
            Problem::TestKey => credential_bodies!(
                self.unauthorized,
                "test_key_refused",
                "Test key refused",
                "Test keys are not accepted here. Use a live key."
            ),
            Problem::Malformed => credential_bodies!(
                self.unauthorized,
                "invalid_format",
                "Not an API key",
                "What was sent is not a well-formed API key. Check that it was copied whole."
            ),
            Problem::Invalid => credential_bodies!(
                self.unauthorized,
                "invalid_api_key",
                "API key not accepted",
                "The API key is not valid. Ask whoever issued it for a new one."
            ),
            Problem::Address => body!(
                "403",
                "ip_denied",
                "Address not allowed",
                "The API key may not be used from this address."
            ),
            Problem::Scope => body!(
                "403",
                "scope_denied",
                "Scope not sufficient",
                "The API key's scope does not cover this method and path."
            ),
            Problem::RateLimited => body!(
                "429",
                "rate_limited",
                "Too many requests",
                "The rate limit is reached. Come back after the seconds in Retry-After."
            ),
            Problem::FailedAttempts => body!(
                "429",
                "too_many_failed_attempts",
                "Too many failed credentials",
                "This address has sent too many API keys that are not valid. Come back after the seconds in Retry-After."
            ),
            Problem::Unavailable => body!(
                "503",
                "temporarily_unavailable",
                "Temporarily unavailable",
                "The API key cannot be checked right now. Come back after the seconds in Retry-After."
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wasm_bindgen_test::wasm_bindgen_test;

    #[wasm_bindgen_test(unsupported = test)]
    fn every_refusal_is_a_problem_document_of_its_status() {
        for problem in [
            Problem::BadCredential,
            Problem::AmbiguousPath,
            Problem::Missing,
            Problem::TestKey,
            Problem::Malformed,
            Problem::Invalid,
            Problem::Address,
            Problem::Scope,
            Problem::RateLimited,
            Problem::FailedAttempts,
            Problem::Unavailable,
        ] {
            for unauthorized in [false, true] {
                let refusal = Refusal { problem, unauthorized, retry_after: None, report: None };
                let body: serde_json::Value = serde_json::from_str(refusal.body()).unwrap();
                assert_eq!(body["status"], refusal.status());
                for member in ["type", "title", "detail", "code"] {
                    assert!(body[member].is_string(), "{member} in {body}");
                }
            }
        }
    }
}
