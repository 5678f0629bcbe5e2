//! Where in a body something is wrong.

use serde::Serialize;

use crate::keys::new_key::FieldError;

/// What is wrong with a field or a parameter.
#[derive(Serialize, utoipa::ToSchema)]
#[schema(as = FieldError)]
pub(crate) struct FieldErrorBody<'a> {
    /// Where it stands in the body: a JSON Pointer (RFC 6901), as a URI fragment. Absent for a
    /// parameter of the query.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(pattern = "^#(/[^/]+)*$", example = "#/rate_limit/requests", nullable = false)]
    pointer: Option<String>,
    /// Which one, by its name; parts of it after dots.
    #[schema(example = "rate_limit.requests")]
    field: &'a str,
    /// What was expected.
    #[schema(example = "must be 1 to 1000000000")]
    message: &'a str,
}

impl<'a> FieldErrorBody<'a> {
    /// Of a field in the body.
    pub(super) fn in_body(error: &'a FieldError) -> Self {
        Self { pointer: Some(pointer(&error.field)), ..Self::in_query(error) }
    }

    /// Of a parameter in the query.
    pub(super) fn in_query(error: &'a FieldError) -> Self {
        Self { pointer: None, field: &error.field, message: &error.message }
    }
}

/// `rate_limit.requests` as `#/rate_limit/requests`. Our names hold nothing that a pointer would
/// have to escape.
fn pointer(field: &str) -> String {
    let parts = field.split(['.', '[', ']']).filter(|part| !part.is_empty());
    parts.fold("#".to_owned(), |pointer, part| pointer + "/" + part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_leads_to_the_field() {
        for (field, expected) in [
            ("name", "#/name"),
            ("rate_limit.requests", "#/rate_limit/requests"),
            ("allowed_ips[3]", "#/allowed_ips/3"),
            (".", "#"),
        ] {
            assert_eq!(pointer(field), expected);
        }
    }
}
