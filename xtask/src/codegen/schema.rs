//! The JSON Schema as it is published.

use serde_json::Value;

/// The schema with each description on one line: in the source they are wrapped.
pub(super) fn published(mut schema: Value) -> Value {
    unwrap_lines(&mut schema);
    schema
}

fn unwrap_lines(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                match field {
                    Value::String(text) if name == "description" => *text = one_line(text),
                    other => unwrap_lines(other),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(unwrap_lines),
        _ => {}
    }
}

/// Line breaks become spaces; an empty line, which parts paragraphs, stays a break.
fn one_line(text: &str) -> String {
    let paragraphs =
        text.split("\n\n").map(|part| part.split_whitespace().collect::<Vec<_>>().join(" "));
    paragraphs.collect::<Vec<_>>().join("\n\n")
}

#[cfg(test)]
mod tests {
    use super::published;
    use serde_json::json;

    #[test]
    fn wrapped_descriptions_become_one_line_wherever_they_are() {
        let schema =
            json!({"$defs": {"A": {"oneOf": [{"description": "a\nb\n\nc"}]}}, "default": "x\ny"});
        let expected =
            json!({"$defs": {"A": {"oneOf": [{"description": "a b\n\nc"}]}}, "default": "x\ny"});
        assert_eq!(published(schema), expected);
    }
}
