//! Which field of a JSON document stands at a place in its text.
//!
//! `serde_path_to_error` would tell, but it wraps the reader of every type in another: 100 KB of
//! WebAssembly for what can be read off the text once it is known to be wrong.

/// How many bytes come before a place; lines count from 1, and columns are the bytes of a line.
pub(crate) fn offset(json: &[u8], line: usize, column: usize) -> usize {
    let before: usize = json
        .split_inclusive(|&byte| byte == b'\n')
        .take(line.saturating_sub(1))
        .map(<[u8]>::len)
        .sum();
    before + column
}

/// An object or list that has begun.
enum Open {
    /// The name of the member at hand, once it is read.
    Object(Option<String>),
    /// The number of the item at hand.
    List(usize),
}

/// The field at the end of what has been read, as a path such as `limits[0].requests`; `.` for
/// the document as a whole.
pub(crate) fn at_end_of(read: &[u8]) -> String {
    let mut open = Vec::new();
    let mut rest = read;
    while let Some(after) = step(rest, &mut open) {
        rest = after;
    }
    path(&open)
}

/// The fields that are lists.
const LISTS: [&str; 5] = ["public", "scopes", "limits", "shadow", "methods"];

/// What comes before the first list that stands where an object has to: serde takes its items for
/// the fields in their order.
pub(crate) fn before_stray_list(json: &[u8]) -> Option<&[u8]> {
    let mut open = Vec::new();
    let mut rest = json;
    loop {
        let is_list =
            matches!(open.last(), Some(Open::Object(Some(name))) if LISTS.contains(&name.as_str()));
        if rest.starts_with(b"[") && !is_list {
            return json.get(..json.len() - rest.len());
        }
        rest = step(rest, &mut open)?;
    }
}

/// Takes the next byte, or the whole string that begins there.
fn step<'a>(rest: &'a [u8], open: &mut Vec<Open>) -> Option<&'a [u8]> {
    let (&byte, mut after) = rest.split_first()?;
    match (byte, open.last_mut()) {
        (b'{', _) => open.push(Open::Object(None)),
        (b'[', _) => open.push(Open::List(0)),
        (b'}' | b']', _) => drop(open.pop()),
        (b',', Some(Open::Object(name))) => *name = None,
        (b',', Some(Open::List(item))) => *item += 1,
        (b'"', at) => {
            let (string, behind) = rest.split_at_checked(length(after)).unwrap_or((rest, &[]));
            after = behind;
            if let Some(Open::Object(name @ None)) = at {
                *name = serde_json::from_slice(string).ok();
            }
        }
        _ => {}
    }
    Some(after)
}

/// The length of a string with its quotes, of which the first has been read.
fn length(from: &[u8]) -> usize {
    let mut escaped = false;
    let end = from.iter().position(|&byte| {
        let ends = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        ends
    });
    end.map_or(usize::MAX, |end| end + 2)
}

fn path(open: &[Open]) -> String {
    let mut path = String::new();
    for it in open {
        match it {
            Open::Object(None) => {}
            Open::Object(Some(name)) => {
                if !path.is_empty() {
                    path.push('.');
                }
                path.push_str(name);
            }
            Open::List(item) => {
                path.push('[');
                path.push_str(&item.to_string());
                path.push(']');
            }
        }
    }
    if path.is_empty() { ".".to_owned() } else { path }
}

#[cfg(test)]
mod tests {
    use crate::Document;
    use proptest::prelude::*;
    use serde_json::{Value, json};
    use wasm_bindgen_test::wasm_bindgen_test;

    fn whole() -> Value {
        json!({
            "version": 1,
            "environment": "production",
            "control_plane": {"cluster": "keygate_control_plane", "timeout_ms": 1000},
            "credential": {"header": "x\"-\\", "forward": false},
            "client_address": {"header": "x-client"},
            "policy": {"prefix": "kg", "min_length": 32, "min_entropy_bits": 96.5, "weak_patterns": true},
            "public": [{}, {"methods": ["GET", "HEAD"], "path_prefix": "/a, [b] {c}"}],
            "scopes": [{"methods": ["GET"], "scope": "read"}, {"scope": "write"}],
            "limits": [{"name": "a", "per": "key", "requests": 1, "window_seconds": 60, "reach": "fleet"},
                       {"name": "b", "per": "address", "methods": [], "requests": 1, "window_seconds": 1}],
            "cache": {"fresh_seconds": 60, "keys": 100_000},
            "audit": {"success": "first_seen", "on_backlog_full": "drop"},
            "shadow": ["known", "a"]
        })
    }

    /// Puts a value where a walk through the document ends.
    fn put(into: &mut Value, walk: &[prop::sample::Index], new: Value) {
        let inner = match (&mut *into, walk.split_first()) {
            (Value::Object(members), Some((step, walk))) if !members.is_empty() => {
                let at = step.index(members.len());
                members.values_mut().nth(at).map(|inner| (inner, walk))
            }
            (Value::Array(items), Some((step, walk))) if !items.is_empty() => {
                let at = step.index(items.len());
                items.get_mut(at).map(|inner| (inner, walk))
            }
            _ => None,
        };
        match inner {
            Some((inner, walk)) => put(inner, walk, new),
            None => *into = new,
        }
    }

    fn wrong() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(json!(null)),
            Just(json!(true)),
            Just(json!(-1)),
            Just(json!(1.5)),
            Just(json!(u64::MAX)),
            Just(json!("text \" \\ , ] }")),
            Just(json!([])),
            Just(json!([[5]])),
            Just(json!({})),
            Just(json!({"unknown, \"{": {"a": 1}})),
        ]
    }

    /// The names of all fields that the schema has as lists.
    #[cfg(feature = "schema")]
    fn lists_of(schema: &Value, found: &mut std::collections::BTreeSet<String>) {
        let members = schema.as_object().into_iter().flatten();
        let items = schema.as_array().into_iter().flatten();
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            if field["type"] == "array" {
                found.insert(name.clone());
            }
        }
        for inner in members.map(|(_, inner)| inner).chain(items) {
            lists_of(inner, found);
        }
    }

    #[cfg(feature = "schema")]
    #[test]
    fn the_lists_are_those_of_the_document() {
        let mut found = std::collections::BTreeSet::new();
        lists_of(&crate::schema(), &mut found);
        assert_eq!(found, super::LISTS.map(str::to_owned).into());
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn a_list_is_no_object() {
        for (text, field) in [
            ("[1]", "."),
            (" [ 1 ] ", "."),
            (r#"{"version": 1, "cache": [60, 60]}"#, "cache"),
            (r#"{"version": 1, "audit": []}"#, "audit"),
            (
                r#"{"version": 1, "limits": [{"name": "[", "per": "key", "requests": 1, "window_seconds": 1}, ["a", "key"]]}"#,
                "limits[1]",
            ),
            (r#"{"version": 1, "public": [[]]}"#, "public[0]"),
        ] {
            assert_eq!(Document::read(text.as_bytes()).unwrap_err().field(), field, "{text}");
        }
    }

    fn has_stray_list(value: &Value, may_be_list: bool) -> bool {
        match value {
            Value::Array(items) => !may_be_list || items.iter().any(|it| has_stray_list(it, false)),
            Value::Object(members) => members
                .iter()
                .any(|(name, it)| has_stray_list(it, super::LISTS.contains(&name.as_str()))),
            _ => false,
        }
    }

    fn documented(text: &str) -> Option<(String, String)> {
        let mut reader = serde_json::Deserializer::from_str(text);
        let error = serde_path_to_error::deserialize::<_, Document>(&mut reader).err()?;
        Some((error.path().to_string(), error.into_inner().to_string()))
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, rng_seed: proptest::test_runner::RngSeed::Fixed(7), ..ProptestConfig::with_cases(1000) })]

        #[wasm_bindgen_test(unsupported = test)]
        fn it_is_the_field_that_serde_path_to_error_names(
            walk in prop::collection::vec(any::<prop::sample::Index>(), 0..5),
            new in wrong(),
            pretty: bool,
        ) {
            let mut document = whole();
            put(&mut document, &walk, new);
            let text = if pretty { format!("{document:#}") } else { document.to_string() };
            match (Document::read(text.as_bytes()), documented(&text)) {
                // Theirs takes a list for the fields of an object.
                (Ok(_), None) => prop_assert!(!has_stray_list(&document, false), "{}", text),
                (Err(fault), None) => {
                    prop_assert_eq!(fault.problem(), crate::STRAY_LIST, "{}", text);
                    prop_assert!(has_stray_list(&document, false), "{}", text);
                }
                (Err(fault), Some((field, problem))) => {
                    prop_assert_eq!(fault.problem(), &problem, "{}", text);
                    // Of an object in an enum's place, ours names the member as well.
                    let variant = problem.starts_with("unknown variant")
                        && fault.field().starts_with(&format!("{field}."));
                    prop_assert!(fault.field() == field || variant, "{}: {} and {}", text, fault, field);
                }
                (ours, theirs) => prop_assert!(false, "{}: {:?} and {:?}", text, ours.err(), theirs),
            }
        }

        #[wasm_bindgen_test(unsupported = test)]
        fn a_text_that_breaks_off_breaks_off_in_a_field_of_it(at: prop::sample::Index) {
            let text = whole().to_string();
            let at = at.index(text.len());
            let fault = Document::read(text.get(..at).unwrap().as_bytes()).unwrap_err();
            prop_assert!(fault.field() == "." || text.contains(fault.field().split(['.', '[']).next().unwrap()));
        }
    }

    #[wasm_bindgen_test(unsupported = test)]
    fn what_is_no_json_is_placed_as_well() {
        for (text, field) in [
            ("x", "."),
            ("{\"version\":1,}", "."),
            ("{\"version\":1} x", "."),
            ("{\"version\":1,\n\"cache\":{\"keys\":}}", "cache.keys"),
            ("{\"version\":1,\n\"cache\":\n{\"keys\":1 \"fresh_seconds\"", "cache.keys"),
            ("{\"version\":1,\"shadow\":[\"a\",\"\\x\"]}", "shadow[1]"),
            ("{\"version\":1,\"version\":1}", "version"),
        ] {
            assert_eq!(Document::read(text.as_bytes()).unwrap_err().field(), field, "{text}");
        }
    }
}
