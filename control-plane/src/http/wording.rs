//! What may be repeated of bad input: nothing. A key that was sent in the wrong place must not come
//! back in the answer, or stand in whatever logs answers.

/// Our own names of fields and parameters are shorter than this; a key is longer.
const MAX_NAME_CHARS: usize = 24;

/// serde's message about bad input, without the input.
#[must_use]
pub fn without_input(message: &str) -> String {
    if message.starts_with("missing field") || message.starts_with("duplicate field") {
        return message.to_owned();
    }
    // The input stands before what was expected, so the last "expected" is serde's.
    let Some((before, expected)) = message.rsplit_once(", expected ") else {
        return "is not valid".to_owned();
    };
    let kind = ["unknown field", "unknown variant", "invalid type", "invalid length"]
        .into_iter()
        .find(|kind| before.contains(kind))
        .unwrap_or("invalid value");
    format!("{kind}, expected {expected}")
}

/// The path to a field, when it may be one of ours.
#[must_use]
pub fn field(path: &str) -> &str {
    let is_name = |name: &str| {
        let plain =
            |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'_' | b'[' | b']');
        (1..=MAX_NAME_CHARS).contains(&name.len()) && name.bytes().all(plain)
    };
    if path.split('.').take(4).count() < 4 && path.split('.').all(is_name) { path } else { "." }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only reading it matters")]
    struct Example {
        scope: edge_protocol::Scope,
        number: u32,
        at: Option<jiff::Timestamp>,
    }

    #[test]
    fn what_was_expected_is_said() {
        let about = |json: &str| {
            without_input(&serde_json::from_str::<Example>(json).expect_err("bad").to_string())
        };
        assert!(
            about(r#"{"scope":"root"}"#).starts_with("unknown variant, expected one of `read`")
        );
        assert!(about(r#"{"x":1}"#).starts_with("unknown field, expected one of `scope`"));
        assert!(about(r#"{"number":"7"}"#).starts_with("invalid type, expected u32"));
        assert!(about(r#"{"number":7}"#).starts_with("missing field `scope`"));
        assert_eq!(field("rate_limit.requests"), "rate_limit.requests");
        assert_eq!(field("allowed_ips[3]"), "allowed_ips[3]");
    }

    proptest! {
        #[test]
        fn nothing_of_the_input_comes_back(secret in "[A-Z][a-zA-Z0-9_, ]{20,60}[0-9]") {
            for json in [
                serde_json::json!({ "scope": secret }),
                serde_json::json!({ "number": secret }),
                serde_json::json!({ "at": secret }),
                serde_json::json!({ &secret: 1 }),
                serde_json::json!(secret),
            ] {
                let error = serde_json::from_value::<Example>(json).expect_err("bad").to_string();
                prop_assert!(!without_input(&error).contains(&secret));
            }
            prop_assert_eq!(field(&secret), ".");
        }
    }
}
