//! Query strings. Unknown parameters are refused: a filter that is misspelt would otherwise
//! give everything.

use axum::{
    extract::{FromRequestParts, Query},
    http::request::Parts,
};
use serde::{Deserialize, de::DeserializeOwned};
use std::str::FromStr;

use crate::{
    http::{
        problem::{Code, Problem},
        wording,
    },
    keys::new_key::FieldError,
};

const DEFAULT_LIMIT: u32 = 50;
const MAX_LIMIT: u32 = 200;

/// A query that was as expected.
pub(super) struct Parameters<T>(pub(super) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Parameters<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        match Query::try_from_uri(&parts.uri) {
            Ok(Query(parameters)) => Ok(Self(parameters)),
            Err(rejection) => Err(Problem::new(Code::InvalidQuery)
                .detail(wording::without_input(&rejection.body_text()))),
        }
    }
}

/// No parameters at all.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

/// A parameter that cannot be used.
pub(super) fn invalid(parameter: &str, message: impl Into<String>) -> Problem {
    let error = FieldError { field: parameter.to_owned(), message: message.into() };
    Problem::new(Code::InvalidQuery).errors(vec![error])
}

/// What a parameter that is a time is like.
pub(super) const TIME: &str = "must be a time with a zone, such as 2026-11-25T12:00:00Z";

/// A parameter, read as what it should be.
pub(super) fn parse<T: FromStr>(
    name: &str,
    text: Option<&str>,
    wanted: &str,
) -> Result<Option<T>, Problem> {
    text.map(str::parse).transpose().map_err(|_| invalid(name, wanted))
}

/// How many items a page has.
pub(super) fn limit(asked: Option<&str>) -> Result<u32, Problem> {
    let Some(asked) = asked else {
        return Ok(DEFAULT_LIMIT);
    };
    match asked.parse() {
        Ok(limit) if (1..=MAX_LIMIT).contains(&limit) => Ok(limit),
        _ => Err(invalid("limit", format!("must be 1 to {MAX_LIMIT}"))),
    }
}
