//! The description of the admin API, `OpenAPI` 3.1, as it is served and checked in.
//!
//! Each endpoint's file holds its own entry (`#[utoipa::path]`), and a route that is added by
//! `routes!` cannot be without one. What all have in common is filled in here:
//!
//! - a call needs an admin key, unless its entry says `security(())`;
//! - the problems that any call can have: an entry lists only those that are its own;
//! - a 4xx or 5xx of an entry that names no body has a problem as its body;
//! - every answer names its request.

mod problems;
pub(crate) mod text;

#[cfg(test)]
mod tests;

use axum::{http::header, response::IntoResponse};
use std::sync::LazyLock;
use utoipa::{
    Modify, OpenApi,
    openapi::{
        Info, License,
        security::{ApiKey, ApiKeyValue, SecurityScheme},
        tag::TagBuilder,
    },
};

use crate::admin;

const ABOUT: &str = "\
Issues, watches and ends the API keys that Keygate checks inside Envoy.

Every call carries a key of scope `admin` in `X-API-Key`. Unknown fields and unknown query \
parameters are refused. Errors are problems (RFC 9457) with a stable `code`.

A key that has a second factor needs it for every call that changes something: the code that its \
authenticator shows, or a recovery code, in `X-Keygate-TOTP`.";

#[derive(OpenApi)]
#[openapi(security(("admin_key" = [])), modifiers(&Scheme))]
struct Base;

struct Scheme;

impl Modify for Scheme {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let key = ApiKeyValue::with_description("X-API-Key", "A key of scope `admin`.");
        document
            .components
            .get_or_insert_default()
            .add_security_scheme("admin_key", SecurityScheme::ApiKey(ApiKey::Header(key)));
        let mut info = Info::new("Keygate admin API", env!("CARGO_PKG_VERSION"));
        info.description = Some(ABOUT.to_owned());
        let mut license = License::new("Apache License 2.0");
        license.identifier = Some("Apache-2.0".to_owned());
        info.license = Some(license);
        document.info = info;
        document.tags = Some(
            TAGS.iter()
                .map(|(name, about)| {
                    TagBuilder::new().name(*name).description(Some(*about)).build()
                })
                .collect(),
        );
    }
}

/// What the calls are grouped by.
const TAGS: &[(&str, &str)] = &[
    ("keys", "Keys: making, finding, changing and ending them."),
    ("totp", "The second factor of the key that calls."),
    ("audit", "The audit log."),
    ("operations", "For those who watch the service; no key is needed."),
];

/// What each document begins with; routes are merged into it.
pub(crate) fn base() -> utoipa::openapi::OpenApi {
    Base::openapi()
}

/// The whole description.
#[must_use]
pub fn document() -> utoipa::openapi::OpenApi {
    let mut document = admin::routes().into_openapi();
    problems::complete(&mut document);
    document
}

/// The description as text, with a line break at its end.
///
/// # Errors
/// None in practice: it holds nothing that JSON could not.
pub fn text() -> serde_json::Result<String> {
    Ok(format!("{}\n", serde_json::to_string_pretty(&document())?))
}

/// This description
#[utoipa::path(
    get,
    path = "/openapi.json",
    tag = "operations",
    operation_id = "openapi",
    security(()),
    responses((status = OK, description = "OpenAPI 3.1", body = serde_json::Map<String, serde_json::Value>))
)]
pub(crate) async fn handler() -> impl IntoResponse {
    static TEXT: LazyLock<String> = LazyLock::new(|| text().unwrap_or_default());
    ([(header::CONTENT_TYPE, "application/json")], TEXT.as_str())
}
