//! Which version of a key a change was decided on: `ETag` and `If-Match` (RFC 9110, sections 8.8.3
//! and 13.1.1).

use axum::{
    Json,
    extract::FromRequestParts,
    http::{HeaderMap, HeaderValue, StatusCode, header, request::Parts},
    response::{IntoResponse, Response},
};

use crate::{
    http::problem::{Code, Problem},
    keys::{Key, update::Precondition, view::KeyView},
    openapi::text::EntityTags,
};

/// A key, with its version as the entity tag.
pub(super) struct Tagged<T>(pub(super) StatusCode, pub(super) u64, pub(super) T);

impl Tagged<KeyView> {
    /// A key that is there.
    pub(super) fn key(key: Key) -> Self {
        Self(StatusCode::OK, key.version, KeyView::from(key))
    }
}

impl<T: serde::Serialize> IntoResponse for Tagged<T> {
    fn into_response(self) -> Response {
        let Self(status, version, view) = self;
        let mut response = (status, Json(view)).into_response();
        if let Ok(tag) = HeaderValue::from_str(&format!("\"{version}\"")) {
            response.headers_mut().insert(header::ETAG, tag);
        }
        response
    }
}

/// The condition, as it is described.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "only described by it; read by `IfMatch`")]
pub(super) struct IfMatchParameter {
    /// The `ETag` of the key as it was when the change was decided on; a list of such; or `*`, to
    /// change it whatever has happened since.
    #[param(rename = "If-Match", value_type = EntityTags, inline)]
    if_match: String,
}

/// A condition that must be there.
pub(super) struct IfMatch(pub(super) Precondition);

impl<S: Send + Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        match read(&parts.headers)? {
            Some(precondition) => Ok(Self(precondition)),
            None => Err(Problem::new(Code::PreconditionRequired)),
        }
    }
}

/// The condition, where it may be left out.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "only described by it; read by `OptionalIfMatch`")]
pub(super) struct OptionalIfMatchParameter {
    /// The `ETag` of the key as it was when the change was decided on, a list of such, or `*`.
    #[param(rename = "If-Match", value_type = Option<EntityTags>, inline, nullable = false)]
    if_match: Option<String>,
}

/// A condition that may be there.
pub(super) struct OptionalIfMatch(pub(super) Precondition);

impl<S: Send + Sync> FromRequestParts<S> for OptionalIfMatch {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Ok(Self(read(&parts.headers)?.unwrap_or(Precondition::Any)))
    }
}

/// What `If-Match` says, if it is there.
fn read(headers: &HeaderMap) -> Result<Option<Precondition>, Problem> {
    // Several lines are one list.
    let lines: Vec<_> =
        headers.get_all(header::IF_MATCH).iter().map(HeaderValue::as_bytes).collect();
    if lines.is_empty() {
        return Ok(None);
    }
    let precondition = parse(&lines.join(&b","[..]));
    precondition.map(Some).ok_or_else(|| {
        let expected = "If-Match must be an entity tag such as \"3\", a list of them, or *";
        Problem::new(Code::InvalidHeader).detail(expected)
    })
}

fn parse(list: &[u8]) -> Option<Precondition> {
    if list.trim_ascii() == b"*" {
        return Some(Precondition::Any);
    }
    let mut versions = Vec::new();
    let mut tags = 0;
    let mut rest = list.trim_ascii_start();
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix(b",") {
            rest = after.trim_ascii_start();
            continue;
        }
        let (weak, quoted) = match rest.strip_prefix(b"W/") {
            Some(quoted) => (true, quoted),
            None => (false, rest),
        };
        let inner = quoted.strip_prefix(b"\"")?;
        let (tag, after) = inner.split_at_checked(inner.iter().position(|it| *it == b'"')?)?;
        if tag.iter().any(|it| *it <= b' ' || *it == 0x7f) {
            return None;
        }
        rest = after.strip_prefix(b"\"")?.trim_ascii_start();
        if !rest.is_empty() && !rest.starts_with(b",") {
            return None;
        }
        tags += 1;
        // Weak tags never match, nor do tags that are not ours.
        if !weak {
            versions.extend(version(tag));
        }
    }
    (tags > 0).then_some(Precondition::OneOf(versions))
}

fn version(tag: &[u8]) -> Option<u64> {
    let version: u64 = std::str::from_utf8(tag).ok()?.parse().ok()?;
    (version.to_string().as_bytes() == tag).then_some(version)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn entity_tags_are_read_as_rfc_9110_has_them() {
        let one_of = |versions: &[u64]| Some(Precondition::OneOf(versions.to_vec()));
        for (text, read) in [
            ("*", Some(Precondition::Any)),
            ("\"3\"", one_of(&[3])),
            (" \"3\" , \"4\",,", one_of(&[3, 4])),
            // Good tags that no version has.
            ("W/\"3\"", one_of(&[])),
            ("\"03\", \"+3\", \"\", \"x,y\"", one_of(&[])),
            ("W/\"3\", \"3\"", one_of(&[3])),
            ("", None),
            (",", None),
            ("3", None),
            ("\"3", None),
            ("\"3\" \"4\"", None),
            ("\"3\"x", None),
            ("\"3\", *", None),
            ("w/\"3\"", None),
            ("\"a b\"", None),
        ] {
            assert_eq!(parse(text.as_bytes()), read, "{text}");
        }
    }

    proptest! {
        #[test]
        fn the_tag_of_a_version_matches_that_version_alone(version in any::<u64>(), other in any::<u64>()) {
            let read = parse(format!("\"{version}\"").as_bytes()).expect("a tag");
            prop_assert!(read.holds(version));
            prop_assert_eq!(read.holds(other), version == other);
        }

        #[test]
        fn any_bytes_are_read_quietly(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = parse(&bytes);
        }
    }
}
