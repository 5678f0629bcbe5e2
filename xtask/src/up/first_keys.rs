//! The first keys of a fresh database.

use std::path::Path;

use anyhow::{Context, Result};
use serde_json::Value;

use crate::private_file;
use crate::stack::Keygate;

/// The file that has the admin key.
pub(super) const ADMIN_FILE: &str = "admin.key";
/// The file that has the key to try the gate with.
pub(super) const DEMO_FILE: &str = "demo.key";

/// The keys that this start has made.
pub(super) struct FirstKeys {
    /// The admin key, when there was no active one before.
    pub(super) admin: Option<String>,
}

/// Makes an admin key and a demo key when the database has no active admin key.
///
/// The admin key comes last: a start that is interrupted in between makes both again.
pub(super) fn make(keygate: &Keygate, dir: &Path) -> Result<FirstKeys> {
    if has_admin(&keygate.run_json(&["keys", "list", "--scope", "admin", "--json"])?)? {
        return Ok(FirstKeys { admin: None });
    }
    let demo = create(keygate, "demo", "write")?;
    private_file::write(&dir.join(DEMO_FILE), &demo)?;
    let admin = create(keygate, "admin", "admin")?;
    private_file::write(&dir.join(ADMIN_FILE), &admin)?;
    Ok(FirstKeys { admin: Some(admin) })
}

fn create(keygate: &Keygate, name: &str, scope: &str) -> Result<String> {
    let args = ["keys", "create", "--name", name, "--scope", scope, "--owner", "keygate", "--json"];
    let created = keygate.run_json(&args)?;
    let key = created.get("api_key").and_then(Value::as_str);
    key.map(str::to_owned).context("keygate keys create printed no api_key")
}

fn has_admin(list: &Value) -> Result<bool> {
    let keys = list.as_array().or_else(|| list.get("items").and_then(Value::as_array));
    let keys = keys.context("keygate keys list printed no list")?;
    Ok(keys.iter().any(|key| {
        let is = |field: &str, value: Value| key.get(field) == Some(&value);
        is("scope", "admin".into()) && is("is_active", true.into())
    }))
}

#[cfg(test)]
mod tests {
    use super::has_admin;
    use serde_json::json;

    #[test]
    fn only_an_active_admin_key_counts() {
        let key = |scope: &str, is_active: bool| json!({"scope": scope, "is_active": is_active});
        let admin = |list| has_admin(&list).unwrap();
        assert!(!admin(json!([])));
        assert!(!admin(json!([key("write", true), key("admin", false)])));
        assert!(admin(json!([key("write", true), key("admin", true)])));
    }

    #[test]
    fn a_list_that_cannot_be_read_makes_no_keys() {
        assert!(has_admin(&json!({"keys": []})).is_err());
    }
}
