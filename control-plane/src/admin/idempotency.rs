//! `Idempotency-Key`: a call that is sent again is answered again, and not made again
//! (draft-ietf-httpapi-idempotency-key-header).
//!
//! The draft has the value as a quoted string; as many clients send it without quotes, both are
//! taken, and name the same request.

use axum::{
    Json,
    body::Bytes,
    extract::{FromRequest, Request},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode},
    response::{IntoResponse, Response},
};
use key_policy::KeyId;
use serde::{Serialize, de::DeserializeOwned};

use super::{authenticate::Admin, body, path::located};
use crate::{
    http::problem::{Code, Problem},
    keys::{
        once::{Begun, OnceError, Turn},
        view::KeyView,
    },
    service::Service,
};

const HEADER: HeaderName = HeaderName::from_static("idempotency-key");
/// Marks an answer to a call that was made before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
/// A UUID has 36.
const MAX_CHARS: usize = 255;

/// The header, as it is described.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "only described by it; read by `Idempotent`")]
pub(super) struct IdempotencyParameter {
    /// What the caller calls this request, such as a UUID; with or without quotes. For 24 hours the
    /// same request of the same caller under the same name is made once.
    #[param(
        rename = "Idempotency-Key",
        pattern = "^(\"[ !#-\\[\\]-~]{1,255}\"|[A-Za-z0-9_.:~/=+-]{1,255})$",
        nullable = false
    )]
    idempotency_key: Option<String>,
}

/// A JSON body, and what its caller calls the request.
pub(super) struct Idempotent<T> {
    /// What was asked for.
    pub(super) request: T,
    word: Option<String>,
    body: Bytes,
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Idempotent<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let word = word(request.headers())?;
        let body = body::read(request, state).await?;
        Ok(Self { request: body::parse(&body)?, word, body })
    }
}

/// As [`Idempotent`], with a body that may be left out.
pub(super) struct OptionalIdempotent<T>(pub(super) Idempotent<Option<T>>);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for OptionalIdempotent<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let word = word(request.headers())?;
        let (request, body) = match body::read_optional(request, state).await? {
            Some(body) => (body::parse_or_null(&body)?, body),
            None => (None, Bytes::new()),
        };
        Ok(Self(Idempotent { request, word, body }))
    }
}

/// What is to be done about a call.
pub(super) enum Call<T> {
    /// It is to be made. A turn is held until it is done.
    Make(T, Option<Turn>),
    /// It was made before: this is the answer.
    Made(Response),
}

impl<T> Idempotent<T> {
    /// Finds out whether the call is to be made. `place` names the endpoint, `about` is what is
    /// asked for outside of the body: in the path, or by a condition.
    ///
    /// # Errors
    /// When it is under way, or was another call when it was called so before.
    pub(super) async fn begin(
        self,
        service: &Service,
        admin: &Admin,
        place: &str,
        about: &[&str],
    ) -> Result<Call<T>, Problem> {
        let Some(word) = self.word else {
            return Ok(Call::Make(self.request, None));
        };
        let asked = asked(about, &self.body);
        match service.once.begin(admin.key_id, place, &word, &asked).await? {
            Begun::Turn(turn) => Ok(Call::Make(self.request, Some(turn))),
            Begun::MadeBefore(key_id) => replay(service, key_id).await.map(Call::Made),
        }
    }
}

/// All that two calls of one name must have in common.
fn asked(about: &[&str], body: &[u8]) -> Vec<u8> {
    let mut asked = Vec::new();
    for part in about {
        // With its length, so that parts cannot be taken for one another's.
        asked.extend(part.len().to_be_bytes());
        asked.extend(part.as_bytes());
    }
    asked.extend(body);
    asked
}

fn word(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut values = headers.get_all(HEADER).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let word = value.to_str().ok().and_then(unquoted);
    match (word, values.next()) {
        (Some(word), None) => Ok(Some(word.to_owned())),
        _ => Err(Problem::new(Code::InvalidIdempotencyKey)),
    }
}

fn unquoted(value: &str) -> Option<&str> {
    let fits = |word: &str| (1..=MAX_CHARS).contains(&word.len());
    if let Some(rest) = value.strip_prefix('"') {
        let word = rest.strip_suffix('"')?;
        let plain = |byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
        return (fits(word) && word.bytes().all(plain)).then_some(word);
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.:~/=+-".contains(&byte);
    (fits(value) && value.bytes().all(plain)).then_some(value)
}

impl From<OnceError> for Problem {
    fn from(error: OnceError) -> Self {
        match error {
            OnceError::UnderWay => Self::new(Code::IdempotencyKeyInUse).retry_after(1),
            OnceError::Reused => Self::new(Code::IdempotencyKeyReused),
            OnceError::Store(error) => error.into(),
        }
    }
}

/// A key that was made by an earlier call.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = KeyMadeBefore)]
pub(super) struct KeyMadeBeforeView {
    /// What is known about it now.
    #[serde(flatten)]
    key: KeyView,
    /// Always null: the key was shown in the first answer, and is kept nowhere. When that answer
    /// was lost, revoke the key, or rotate it to get a new one.
    #[schema(required)]
    api_key: Option<String>,
}

/// The answer to a call that made this key before.
///
/// # Errors
/// When the database does not answer.
pub(super) async fn replay(service: &Service, key_id: KeyId) -> Result<Response, Problem> {
    let key = service.store.key(key_id).await?.ok_or_else(|| Problem::new(Code::NotFound))?;
    let view = KeyMadeBeforeView { key: KeyView::from(key), api_key: None };
    let mut response = (StatusCode::OK, Json(view)).into_response();
    response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    Ok(located(response, key_id))
}

#[cfg(test)]
mod tests;
