//! A JSON Schema as a page that people read.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::{Context, Result};
use serde_json::{Map, Value};

const HEAD: &str = "\
<!-- Made by `cargo xtask codegen` from filter-config/src/document.rs. Change it there. -->

# The filter's configuration

";

const USE: &str = "\
It is given to Envoy as the filter's `configuration`, a `StringValue`, as `envoy/standalone.yaml` \
shows; the JSON Schema is in `envoy/filter-configuration.schema.json`. With a document that is not \
valid Envoy does not start (or keeps the configuration that it has), and its log names the field \
and what was expected.

All the defaults, as a document:

";

/// The reference of a configuration: its fields with their types, defaults and meanings, each
/// kind of object in a section of its own.
///
/// # Errors
/// When the schema is not made as the generator expects.
pub(super) fn reference(schema: &Value) -> Result<String> {
    let page = Page { schema };
    let mut text = HEAD.to_owned();
    writeln!(text, "{}\n", description(schema))?;
    text.push_str(USE);
    writeln!(text, "```json\n{:#}\n```\n", page.defaults()?)?;
    writeln!(text, "## The document\n")?;
    page.table(&mut text, schema)?;
    for (name, places) in page.sections()? {
        let definition = page.definition(name)?;
        writeln!(text, "## {}\n\n{}\n", places.join(", "), description(definition))?;
        page.section(&mut text, definition)?;
    }
    Ok(format!("{}\n", text.trim_end()))
}

struct Page<'a> {
    schema: &'a Value,
}

impl<'a> Page<'a> {
    fn definition(&self, name: &str) -> Result<&'a Value> {
        let found = self.schema.get("$defs").and_then(|all| all.get(name));
        found.with_context(|| format!("the schema refers to {name} and has it not"))
    }

    /// The document with every default written out; its version is the only field without one.
    fn defaults(&self) -> Result<Value> {
        let mut document = Map::new();
        for (name, field) in properties(self.schema)? {
            let default =
                if name == "version" { Some(&Value::from(1)) } else { field.get("default") };
            if let Some(default) = default {
                document.insert(name.clone(), default.clone());
            }
        }
        Ok(document.into())
    }

    /// Each definition with the fields that are of it, in the order in which a reader meets them.
    fn sections(&self) -> Result<Vec<(&'a str, Vec<String>)>> {
        let mut order: Vec<&str> = Vec::new();
        let mut places: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        let mut waiting = vec![(String::new(), self.schema)];
        let mut next = 0;
        while let Some((path, object)) = waiting.get(next).cloned() {
            next += 1;
            for (name, field) in
                object.get("properties").and_then(Value::as_object).into_iter().flatten()
            {
                let Some((target, in_list)) = reference_of(field) else { continue };
                let mark = if in_list { "[]" } else { "" };
                let place = format!("{path}{name}{mark}");
                if !order.contains(&target) {
                    order.push(target);
                    waiting.push((format!("{place}."), self.definition(target)?));
                }
                places.entry(target).or_default().push(format!("`{place}`"));
            }
        }
        Ok(order.into_iter().map(|name| (name, places.remove(name).unwrap_or_default())).collect())
    }

    fn section(&self, text: &mut String, definition: &Value) -> Result<()> {
        if definition.get("properties").is_some() {
            return self.table(text, definition);
        }
        for choice in choices(definition) {
            writeln!(text, "- {}: {}", value_of(choice), description(choice))?;
        }
        text.push('\n');
        Ok(())
    }

    fn table(&self, text: &mut String, object: &Value) -> Result<()> {
        writeln!(text, "| field | type | default | meaning |\n|---|---|---|---|")?;
        let required = object.get("required").and_then(Value::as_array);
        let is_required =
            |name: &str| required.is_some_and(|all| all.iter().any(|one| one == name));
        let mut fields: Vec<_> = properties(object)?.iter().collect();
        fields.sort_by_key(|(name, _)| !is_required(name));
        for (name, field) in fields {
            let needed = is_required(name);
            let default = match field.get("default") {
                _ if needed => "(required)".to_owned(),
                Some(default) => short(default),
                None => "(none)".to_owned(),
            };
            let kind = self.kind(field)?;
            writeln!(text, "| `{name}` | {kind} | {default} | {} |", cell(&description(field)))?;
        }
        text.push('\n');
        Ok(())
    }

    /// What a field takes, in words.
    fn kind(&self, field: &Value) -> Result<String> {
        if let Some((target, in_list)) = reference_of(field) {
            let kind = kind_of_definition(self.definition(target)?);
            return Ok(if in_list { format!("list of {kind}s") } else { kind });
        }
        let kind = field.get("type").and_then(Value::as_str).unwrap_or("any value");
        Ok(match kind {
            "array" => {
                let items = field.get("items").context("a list without a type")?;
                format!("list of {}s", self.kind(items)?)
            }
            "integer" => "whole number".to_owned(),
            "boolean" => "`true` or `false`".to_owned(),
            other => other.to_owned(),
        })
    }
}

fn kind_of_definition(definition: &Value) -> String {
    let values: Vec<_> = choices(definition).map(value_of).collect();
    if values.is_empty() { "object".to_owned() } else { values.join(", ") }
}

fn properties(object: &Value) -> Result<&Map<String, Value>> {
    object.get("properties").and_then(Value::as_object).context("an object without fields")
}

/// The definition that a field, or each item of it, is of.
fn reference_of<'a>(field: &'a Value) -> Option<(&'a str, bool)> {
    let name = |value: &'a Value| value.get("$ref").and_then(Value::as_str);
    let (text, in_list) = match name(field) {
        Some(text) => (text, false),
        None => (field.get("items").and_then(name)?, true),
    };
    Some((text.rsplit('/').next()?, in_list))
}

/// The values that a definition allows, when it is no object.
fn choices(definition: &Value) -> impl Iterator<Item = &Value> {
    definition.get("oneOf").and_then(Value::as_array).into_iter().flatten()
}

/// A choice as it is written: a word, or an object with the fields it needs.
fn value_of(choice: &Value) -> String {
    if let Some(word) = choice.get("const") {
        return format!("`{word}`");
    }
    let fields = choice.get("properties").and_then(Value::as_object);
    let fields: Vec<_> =
        fields.into_iter().flatten().map(|(name, _)| format!("\"{name}\": …")).collect();
    format!("`{{{}}}`", fields.join(", "))
}

fn description(value: &Value) -> String {
    value.get("description").and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn short(default: &Value) -> String {
    match default {
        Value::Object(_) => "see below".to_owned(),
        Value::Array(items) if !items.is_empty() => "see above".to_owned(),
        plain => format!("`{plain}`"),
    }
}

/// Text within a table: no line breaks, no bars.
fn cell(text: &str) -> String {
    text.replace('\n', " ").replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::reference;
    use serde_json::json;

    fn page() -> String {
        reference(&json!({
            "description": "How it works.",
            "properties": {
                "version": {"type": "integer", "description": "Always 1."},
                "mode": {"$ref": "#/$defs/Mode", "default": "fast", "description": "Fast | slow."},
                "rules": {"type": "array", "items": {"$ref": "#/$defs/Rule"}, "default": [{"name": "a"}]},
            },
            "required": ["version"],
            "$defs": {
                "Mode": {"description": "A mode.", "oneOf": [
                    {"const": "fast", "description": "Quick."},
                    {"description": "As named.", "properties": {"like": {"type": "string"}}},
                ]},
                "Rule": {"description": "A rule.", "properties": {"name": {"type": "string"}}, "required": ["name"]},
            },
        }))
        .unwrap()
    }

    #[test]
    fn every_field_has_type_default_and_meaning() {
        let page = page();
        for line in [
            "| `version` | whole number | (required) | Always 1. |",
            r#"| `mode` | `"fast"`, `{"like": …}` | `"fast"` | Fast \| slow. |"#,
            "| `rules` | list of objects | see above |  |",
            "| `name` | string | (required) |  |",
        ] {
            assert!(page.contains(line), "{line} in {page}");
        }
    }

    #[test]
    fn what_fields_are_made_of_has_sections_named_by_the_fields() {
        let page = page();
        assert!(page.contains("## `mode`\n\nA mode.\n\n- `\"fast\"`: Quick.\n"), "{page}");
        assert!(page.contains("## `rules[]`\n\nA rule.\n"), "{page}");
    }

    #[test]
    fn the_defaults_make_a_document() {
        let page = page();
        let (_, after) = page.split_once("```json\n").unwrap();
        let (document, _) = after.split_once("\n```").unwrap();
        let document: serde_json::Value = serde_json::from_str(document).unwrap();
        assert_eq!(document, json!({"version": 1, "mode": "fast", "rules": [{"name": "a"}]}));
    }
}
