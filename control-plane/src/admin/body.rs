//! JSON bodies, with the field's name in what is said of a bad one.

use axum::{
    body::{Bytes, HttpBody},
    extract::{FromRequest, Request},
    http::{StatusCode, header},
};
use serde::de::DeserializeOwned;
use serde_json::error::Category;

use crate::{
    http::{
        problem::{Code, Problem},
        wording,
    },
    keys::{new_key::FieldError, object::Object},
};

/// A body that was JSON, and what was expected.
pub(super) struct Json<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        parse(&read(request, state).await?).map(Self)
    }
}

/// The bytes of a body that says it is JSON, unless it is left out.
pub(super) async fn read_optional<S: Send + Sync>(
    request: Request,
    state: &S,
) -> Result<Option<Bytes>, Problem> {
    let is_empty = request.body().is_end_stream();
    if is_empty && !request.headers().contains_key(header::CONTENT_TYPE) {
        return Ok(None);
    }
    read(request, state).await.map(Some)
}

/// The bytes of a body that says it is JSON.
pub(super) async fn read<S: Send + Sync>(request: Request, state: &S) -> Result<Bytes, Problem> {
    if !is_json(&request) {
        return Err(Problem::new(Code::UnsupportedMediaType));
    }
    Bytes::from_request(request, state).await.map_err(|rejection| {
        Problem::new(match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => Code::BodyTooLarge,
            _ => Code::MalformedBody,
        })
    })
}

fn is_json(request: &Request) -> bool {
    let media_type =
        request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    media_type
        .and_then(|value| value.split(';').next())
        .is_some_and(|essence| essence.trim().eq_ignore_ascii_case("application/json"))
}

/// Reads the object that the bytes hold.
pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    parse_as(body).map(|Object(value)| value)
}

/// Reads the object, or null, that the bytes hold.
pub(super) fn parse_or_null<T: DeserializeOwned>(body: &[u8]) -> Result<Option<T>, Problem> {
    parse_as::<Option<Object<T>>>(body).map(|read| read.map(|Object(value)| value))
}

fn parse_as<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut json).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        match inner.classify() {
            Category::Data => invalid(&path, &inner),
            Category::Io | Category::Syntax | Category::Eof => malformed(&inner),
        }
    })?;
    json.end().map_err(|error| malformed(&error))?;
    Ok(value)
}

fn malformed(error: &serde_json::Error) -> Problem {
    // serde's words for a syntax error hold nothing of the body.
    Problem::new(Code::MalformedBody).detail(error.to_string())
}

fn invalid(path: &str, error: &serde_json::Error) -> Problem {
    let text = error.to_string();
    let message = text.rsplit_once(" at line ").map_or(text.as_str(), |(message, _)| message);
    let field = match path {
        // A missing field has no path of its own; it is named in the message.
        "." | "" => message.split('`').nth(1).unwrap_or("."),
        path => path,
    };
    let error = FieldError {
        field: wording::field(field).to_owned(),
        message: wording::without_input(message),
    };
    Problem::new(Code::InvalidFields).errors(vec![error])
}
