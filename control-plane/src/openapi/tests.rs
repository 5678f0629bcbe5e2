//! The description is whole, and the one that is checked in.

use serde_json::Value;
use std::{fs, path::Path};

use super::text;
use crate::testing::{TestService, send};

fn document() -> Value {
    serde_json::from_str(&text().expect("a text")).expect("JSON")
}

#[test]
fn the_description_that_is_checked_in_is_the_one_of_this_code() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json");
    let kept = fs::read_to_string(file).unwrap_or_default();
    assert!(kept == text().expect("a text"), "docs/openapi.json is old: run `cargo xtask codegen`");
}

#[test]
fn every_reference_leads_somewhere() {
    fn look(value: &Value, document: &Value) {
        if let Some(target) = value.get("$ref").and_then(Value::as_str) {
            let pointer = target.strip_prefix('#').expect("within the document");
            assert!(document.pointer(pointer).is_some(), "{target} is not there");
        }
        match value {
            Value::Object(fields) => fields.values().for_each(|it| look(it, document)),
            Value::Array(items) => items.iter().for_each(|it| look(it, document)),
            _ => {}
        }
    }
    let document = document();
    assert_eq!(document["openapi"], "3.1.0");
    look(&document, &document);
}

#[test]
fn every_call_says_what_it_is_for_and_what_it_answers() {
    let document = document();
    let mut names = std::collections::HashSet::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, call) in item.as_object().expect("an item") {
            let place = format!("{method} {path}");
            assert!(call["summary"].as_str().is_some_and(|it| !it.is_empty()), "{place}");
            assert!(
                names.insert(call["operationId"].as_str().expect("a name").to_owned()),
                "{place}"
            );
            let answers = call["responses"].as_object().expect("answers");
            assert!(answers.keys().any(|status| status.starts_with('2')), "{place}");
            assert_eq!(answers.contains_key("401"), call.get("security").is_none(), "{place}");
            for parameter in call["parameters"].as_array().into_iter().flatten() {
                assert!(parameter["description"].is_string(), "{place}: {}", parameter["name"]);
            }
        }
    }
}

#[test]
fn the_limits_in_it_are_those_that_are_checked() {
    use crate::keys::new_key::{
        MAX_ALLOWED_IPS, MAX_METADATA_BYTES, MAX_REQUESTS, MAX_WINDOW_SECONDS,
    };
    let document = document();
    let field =
        |schema: &str, field: &str| &document["components"]["schemas"][schema]["properties"][field];
    assert_eq!(field("NewRateLimit", "requests")["maximum"], MAX_REQUESTS);
    assert_eq!(field("NewRateLimit", "window_seconds")["maximum"], MAX_WINDOW_SECONDS);
    assert_eq!(field("NewKey", "allowed_ips")["maxItems"], MAX_ALLOWED_IPS);
    let metadata = field("NewKey", "metadata")["description"].as_str().expect("a text");
    assert!(metadata.contains(&format!("{MAX_METADATA_BYTES} bytes")), "{metadata}");
}

#[tokio::test]
async fn it_is_served_to_everyone() {
    let it = TestService::start().await;
    let request = axum::http::Request::builder()
        .uri("/openapi.json")
        .body(axum::body::Body::empty())
        .expect("a request");
    let answer = send(&it.admin, request).await;
    assert_eq!(
        (answer.status.as_u16(), answer.header("content-type")),
        (200, Some("application/json"))
    );
    assert_eq!(answer.json(), document());
}
