//! Finding places in a configuration by name.

use anyhow::{Context, Result};
use serde_json::Value;

/// The value at a JSON pointer.
pub(super) fn at<'a>(value: &'a mut Value, pointer: &str) -> Result<&'a mut Value> {
    value.pointer_mut(pointer).with_context(|| format!("the configuration has no {pointer}"))
}

/// The entry of a list that has this `name`.
pub(super) fn named_mut<'a>(list: &'a mut Value, name: &str) -> Result<&'a mut Value> {
    list.as_array_mut()
        .and_then(|entries| entries.iter_mut().find(|entry| is_named(entry, name)))
        .with_context(|| format!("the configuration has nothing named {name}"))
}

/// Puts a value at a JSON pointer whose parent exists.
pub(super) fn set(value: &mut Value, pointer: &str, new: Value) -> Result<()> {
    let (parent, field) = pointer.rsplit_once('/').context("no JSON pointer")?;
    let parent = at(value, parent)?;
    let fields = parent.as_object_mut().with_context(|| format!("{pointer} is in no object"))?;
    fields.insert(field.to_owned(), new);
    Ok(())
}

/// Whether an entry has this `name`.
pub(super) fn is_named(entry: &Value, name: &str) -> bool {
    entry.get("name").and_then(Value::as_str) == Some(name)
}
